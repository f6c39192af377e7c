"""The reporting checklists CLAIM 2024 and TRIPOD+AI, filled from what a run can show.

Each item says which file supports it, with the hash that `SHA256SUMS` vouches for. What no run can know (ethics, funding,
how the labels came about) or this one lacks is red, with what the authors must add: never blank, never claimed.

CLAIM 2024: Tejani et al., Radiology: Artificial Intelligence 2024. TRIPOD+AI: Collins et al., BMJ 2024. The wording of
items is ours, and short; the checklists themselves have it in full.
"""

from collections.abc import Callable
from dataclasses import dataclass

from scanwise.phrases import printable
from scanwise.reporting import checksums
from scanwise.reporting.run_data import RunData
from scanwise.reporting.wording import counted, in_full, listed
from scanwise.run import RunFolder, layout, read_json, write_text

Statement = Callable[[RunData], str]
CHECKLISTS_FILE = layout.CHECKLISTS


@dataclass(frozen=True, slots=True)
class ChecklistItem:
    """One item of a checklist.

    Attributes:
        number: in the checklist.
        asks: what it asks for, in short.
        statement: the run's statement on it; "" where it says nothing.
        files: where that stands; the item is supported if the run has them.
        missing: what the authors must add where the run cannot support it.
        rest: what they must add even where it does: the item is then supported in part.
    """

    number: str
    asks: str
    statement: Statement | None = None
    files: tuple[str, ...] = ()
    missing: str = "A run cannot know this: the authors must add it."
    rest: str = ""


@dataclass(frozen=True, slots=True)
class ItemEvidence:
    """An item with its evidence: what is said and (file, hash) pairs, what the authors must still add, or what is missing."""

    number: str
    asks: str
    supported: bool
    text: str
    rest: str
    evidence: tuple[tuple[str, str], ...]


def _aim(contents: RunData) -> str:
    return f"Image classification by a neural network ({contents.recipe.model.name}) into {listed(contents.titles())}."


def _summary(contents: RunData) -> str:
    return "The first screen of report.html has the classifier, its cohort, its performance and what not to use it for."


def _sources(contents: RunData) -> str:
    return f"{counted(len(contents.cohort), 'scan')}, each with its hash."


def _excluded(contents: RunData) -> str:
    return f"{counted(len(contents.quarantine), 'file')} set aside, each with its reason. Clinical criteria are not known here."


def _preparation(contents: RunData) -> str:
    data = contents.recipe.data
    return f"Scans become {data.size} × {data.size} pixels, {data.channels} channel(s), {data.shape}; section data of the recipe."


def _missing_data(contents: RunData) -> str:
    return "Files that cannot be read are set aside and listed; nothing is imputed."


def _partition(contents: RunData) -> str:
    return listed([f"{f.split.protocol}: {printable(f.split.rule)}" for f in contents.fits[:2]]) + "."


def _disjoint(contents: RunData) -> str:
    if not contents.cohort.subjects_known or "honest" not in contents.protocols:
        return ""
    return "No subject is in two parts of the honest split, and duplicates between parts were searched for."


def _size(contents: RunData) -> str:
    protocol = contents.protocols[0]
    scans, people = contents.side(protocol, "test")
    return f"{counted(scans, 'test scan')} of {counted(people, 'subject')}; no sample size was planned by this program."


def _model(contents: RunData) -> str:
    return f"Network {contents.recipe.model.name}, every option in the recipe; its weights are in bundle/."


def _software(contents: RunData) -> str:
    packages = contents.provenance.get("environment", {}).get("packages", {})
    return listed([f"{name} {version}" for name, version in packages.items()]) if packages else ""


def _start(contents: RunData) -> str:
    return f"Started from: {printable(str(contents.provenance.get('weights', 'not recorded')))}."


def _training(contents: RunData) -> str:
    train = contents.recipe.train
    if not train.epochs:
        return "None here: the weights came from a file and were left as they are."
    return f"{counted(train.epochs, 'epoch')}, {train.optimizer.name} at {train.optimizer.lr:g}, loss {train.loss}, seed {contents.recipe.seed}."


def _selection(contents: RunData) -> str:
    if not contents.recipe.train.epochs:
        return "None here: the network came as it is; test scans were looked at once."
    return f"The epoch that was best at {contents.recipe.train.monitor} on validation subjects; test scans were looked at once."


def _ensemble(contents: RunData) -> str:
    members = contents.recipe.model.members
    return f"Members: {members.kind}, {members.number}."


def _performance(contents: RunData) -> str:
    accuracy = contents.numbers.find("accuracy", contents.protocols[0], contents.unit(contents.protocols[0]))
    return f"Accuracy {in_full(accuracy)}, and every other figure with its interval over subjects." if accuracy else ""


def _by_class(contents: RunData) -> str:
    return "Sensitivity, specificity, precision and AUROC of each class, with intervals over subjects."


def _uncertainty(contents: RunData) -> str:
    section = contents.recipe.evaluation
    return (
        f"{100 * section.confidence:g} % intervals: BCa from {section.draws:,} draws of subjects within class, DeLong over "
        "subjects for AUROC; paired differences to simple baselines."
    )


def _robustness(contents: RunData) -> str:
    return "Synthetic and altered scans, and how well each is separated from test scans."


def _groups(contents: RunData) -> str:
    names = {printable(name) for name in contents.cohort.groups}
    files = sorted(contents.run.tables.glob("breakdown_*.csv"))
    return f"Figures of each group of {listed(sorted(names))}." if files else ""


def _failures(contents: RunData) -> str:
    return "The most confident errors are shown with their scans."


def _classes(contents: RunData) -> str:
    return "Scans and subjects of each class on each side; age, sex and the like only where the data had such columns."


def _output(contents: RunData) -> str:
    return "Calibrated probabilities, a prediction set, uncertainty, and whether the case goes to review; for each test scan and subject."


def _imbalance(contents: RunData) -> str:
    train = contents.recipe.train
    return f"Sampling: {train.sampling}; class weights: {'yes' if train.class_weights else 'no'}."


def _limits(contents: RunData) -> str:
    return "The report lists what it must not be used for, and every warning of the audit."


def _heatmaps(contents: RunData) -> str:
    """Whether the maps passed the checks that a run makes of them."""
    reasons = read_json(contents.run.heatmaps / layout.CHECKS).get("reasons", [])
    return f"Heatmaps, which {'failed' if reasons else 'passed'} their sanity checks."


def _poor_input(contents: RunData) -> str:
    return "Unreadable files are rejected; scans unlike training are flagged for review."


def _protocol(contents: RunData) -> str:
    return "The recipe holds every choice, and the command of the run is in its provenance."


def _flow(contents: RunData) -> str:
    return "Files found, set aside and used; scans and subjects on each side."


_EXTERNAL = (f"{layout.EXTERNAL}/{layout.METRICS}",)
_RUN_EXTERNAL = "No external validation: run `scanwise evaluate RUN --data OTHER`."
_HEAT = "This run has no heatmaps."

CLAIM = (
    ChecklistItem("1", "Title: a study of artificial intelligence, and which kind", _aim, (layout.RECIPE,), rest="The wording of the title is the authors’."),
    ChecklistItem("2", "Structured summary", _summary, (layout.METRICS,), rest="The abstract itself is the authors’."),
    ChecklistItem("3", "Background, intended use and role"),
    ChecklistItem("4", "Aims and hypotheses"),
    ChecklistItem("5", "Prospective or retrospective"),
    ChecklistItem("6", "Goal of the study", _aim, (layout.RECIPE,), rest="The goal of the study is the authors’."),
    ChecklistItem("7", "Sources of the data", _sources, (layout.COHORT, layout.PROVENANCE), rest="Hospitals, dates and permission are not known to the run."),
    ChecklistItem("8", "Who was included and excluded", _excluded, (layout.QUARANTINE,), rest="Clinical criteria are not known to the run."),
    ChecklistItem("9", "Preparation of the data", _preparation, (layout.RECIPE,)),
    ChecklistItem("10", "Selection of parts of the data", _excluded, (layout.QUARANTINE, layout.COHORT), rest="Clinical criteria are not known to the run."),
    ChecklistItem("11", "De-identification"),
    ChecklistItem("12", "How missing data were handled", _missing_data, (layout.QUARANTINE,)),
    ChecklistItem("13", "How the images were acquired"),
    ChecklistItem("14", "How the reference standard was obtained"),
    ChecklistItem("15", "Why that reference standard"),
    ChecklistItem("16", "Where the annotations come from"),
    ChecklistItem("17", "Annotation of the test set"),
    ChecklistItem("18", "Agreement between and within raters"),
    ChecklistItem("19", "How data were assigned to partitions", _partition, (layout.table_link(layout.CLASS_DISTRIBUTION),)),
    ChecklistItem(
        "20", "Level at which partitions are disjoint", _disjoint, (layout.FINDINGS,),
        "The subjects were not known, or nothing was split by subject: pass --subject and fit again.",
    ),
    ChecklistItem("21", "Intended sample size"),
    ChecklistItem("22", "Description of the model", _model, (layout.RECIPE,)),
    ChecklistItem("23", "Software and versions", _software, (layout.PROVENANCE,)),
    ChecklistItem("24", "How parameters were initialised", _start, (layout.PROVENANCE,)),
    ChecklistItem("25", "Training", _training, (layout.RECIPE, layout.table_link(layout.HISTORY))),
    ChecklistItem("26", "How the final model was selected", _selection, (layout.table_link(layout.HISTORY),)),
    ChecklistItem("27", "Ensembles", _ensemble, (layout.RECIPE,)),
    ChecklistItem("28", "Measures of performance", _by_class, (layout.table_link(layout.SUMMARY_STATISTICS),)),
    ChecklistItem("29", "Significance and uncertainty", _uncertainty, (layout.METRICS,)),
    ChecklistItem("30", "Robustness", _robustness, (layout.table_link(layout.OUT_OF_DISTRIBUTION),)),
    ChecklistItem("31", "Explainability", _heatmaps, (layout.heatmap_link(layout.CHECKS),), _HEAT),
    ChecklistItem("32", "Evaluation on internal data", _performance, (layout.METRICS, layout.table_link(layout.PREDICTIONS))),
    ChecklistItem("33", "Testing on external data", lambda _: "External validation: the frozen run on other people.", _EXTERNAL, _RUN_EXTERNAL),
    ChecklistItem("34", "Registration of a trial"),
    ChecklistItem("35", "Numbers included and excluded", _flow, (layout.COHORT, layout.QUARANTINE), rest="Clinical criteria are not known to the run."),
    ChecklistItem("36", "Characteristics of cases in each partition", _classes, (layout.table_link(layout.CLASS_DISTRIBUTION),), rest="Clinical characteristics are not known to the run."),
    ChecklistItem("37", "Performance and its uncertainty", _performance, (layout.table_link(layout.SUMMARY_STATISTICS),)),
    ChecklistItem("38", "Diagnostic performance and its precision", _by_class, (layout.table_link(layout.CLASSIFICATION_REPORT),)),
    ChecklistItem("39", "Analysis of failures", _failures, (layout.table_link(layout.FAILURES),)),
    ChecklistItem("40", "Limitations", _limits, (layout.FINDINGS,), rest="Limits of the study’s design are the authors’ to state."),
    ChecklistItem("41", "Implications for practice"),
    ChecklistItem("42", "Full protocol or technical details", _protocol, (layout.RECIPE, layout.PROVENANCE)),
    ChecklistItem("43", "Availability of software, model and data"),
    ChecklistItem("44", "Funding, and the role of funders"),
)  # fmt: skip

TRIPOD = (
    ChecklistItem("1", "Title: a prediction model, its population and outcome", _aim, (layout.RECIPE,), rest="The wording of the title is the authors’."),
    ChecklistItem("2", "Abstract", _summary, (layout.METRICS,), rest="The abstract itself is the authors’."),
    ChecklistItem("3a", "Context and rationale"),
    ChecklistItem("3b", "Target population and intended purpose"),
    ChecklistItem("3c", "Known inequalities between groups"),
    ChecklistItem("4", "Objectives"),
    ChecklistItem("5a", "Sources of the data", _sources, (layout.COHORT, layout.PROVENANCE), rest="Hospitals and permission are not known to the run."),
    ChecklistItem("5b", "Dates of the data"),
    ChecklistItem("6a", "Setting"),
    ChecklistItem("6b", "Eligibility", _excluded, (layout.QUARANTINE,), rest="Clinical criteria are not known to the run."),
    ChecklistItem("6c", "Treatments"),
    ChecklistItem("7", "Preparation of the data", _preparation, (layout.RECIPE,)),
    ChecklistItem("8a", "Outcome and how it was assessed"),
    ChecklistItem("8b", "Who assessed it"),
    ChecklistItem("8c", "Whether assessors were blinded"),
    ChecklistItem("9a", "Choice of predictors", _preparation, (layout.RECIPE,), rest="Why these predictors is the authors’ to say."),
    ChecklistItem("9b", "Definition of predictors", _preparation, (layout.RECIPE,)),
    ChecklistItem("9c", "Who assessed predictors", lambda _: "No human assessor: pixels alone, read by a program.", (layout.RECIPE,)),
    ChecklistItem("10", "Sample size"),
    ChecklistItem("11", "Missing data", _missing_data, (layout.QUARANTINE,)),
    ChecklistItem("12a", "How data were divided", _partition, (layout.table_link(layout.CLASS_DISTRIBUTION),)),
    ChecklistItem("12b", "How predictors were handled", _preparation, (layout.RECIPE,)),
    ChecklistItem("12c", "Type of model, building and internal validation", _training, (layout.RECIPE, layout.table_link(layout.HISTORY))),
    ChecklistItem("12d", "Differences between clusters", _groups, (layout.METRICS,), "The data has no group column to break results down by."),
    ChecklistItem("12e", "Measures of performance", _uncertainty, (layout.METRICS,)),
    ChecklistItem("12f", "Updating of the model", lambda _: "None: what recalibration would give is in the external validation.", _EXTERNAL, _RUN_EXTERNAL),
    ChecklistItem("12g", "How predictions are calculated", _output, (layout.table_link(layout.PREDICTIONS),)),
    ChecklistItem("13", "Imbalance of classes", _imbalance, (layout.RECIPE,)),
    ChecklistItem("14", "Fairness", _groups, (layout.METRICS,), "The data has no group column to break results down by.", rest="Whether the differences are fair is the authors’ to judge."),
    ChecklistItem("15", "Output of the model", _output, (layout.table_link(layout.PREDICTIONS),)),
    ChecklistItem("16", "Differences between training and evaluation", _partition, (layout.table_link(layout.CLASS_DISTRIBUTION),), rest="Differences of setting are not known to the run."),
    ChecklistItem("17", "Ethical approval"),
    ChecklistItem("18a", "Funding"),
    ChecklistItem("18b", "Conflicts of interest"),
    ChecklistItem("18c", "Protocol", _protocol, (layout.RECIPE, layout.PROVENANCE), rest="A protocol written beforehand is the authors’ to name."),
    ChecklistItem("18d", "Registration"),
    ChecklistItem("18e", "Sharing of data"),
    ChecklistItem("18f", "Sharing of code", _software, (layout.PROVENANCE,), rest="Where code and model can be had is the authors’ to say."),
    ChecklistItem("19", "Involvement of patients and the public"),
    ChecklistItem("20a", "Flow of participants", _flow, (layout.COHORT, layout.QUARANTINE), rest="Clinical criteria are not known to the run."),
    ChecklistItem("20b", "Characteristics of participants", _classes, (layout.table_link(layout.CLASS_DISTRIBUTION),), rest="Clinical characteristics are not known to the run."),
    ChecklistItem("20c", "Development beside evaluation data", lambda _: "Drift of inputs and answers.", (f"{layout.EXTERNAL}/{layout.table_link(layout.DRIFT)}",), _RUN_EXTERNAL),
    ChecklistItem("21", "Participants and events in each analysis", _size, (layout.table_link(layout.CLASS_DISTRIBUTION),)),
    ChecklistItem("22", "The full model", _model, (layout.RECIPE,)),
    ChecklistItem("23a", "Performance with intervals", _performance, (layout.table_link(layout.SUMMARY_STATISTICS),)),
    ChecklistItem("23b", "Heterogeneity of performance", _groups, (layout.METRICS,), "The data has no group column to break results down by."),
    ChecklistItem("24", "Results of updating", lambda _: "What recalibrating with local subjects would give.", (f"{layout.EXTERNAL}/{layout.table_link(layout.RECALIBRATION)}",), _RUN_EXTERNAL),
    ChecklistItem("25", "Interpretation"),
    ChecklistItem("26", "Limitations", _limits, (layout.FINDINGS,), rest="Limits of the study’s design are the authors’ to state."),
    ChecklistItem("27a", "Poor or missing input in use", _poor_input, (layout.table_link(layout.OUT_OF_DISTRIBUTION),)),
    ChecklistItem("27b", "Interaction with users and their expertise"),
    ChecklistItem("27c", "Next steps"),
)  # fmt: skip

LISTS = {"CLAIM 2024": CLAIM, "TRIPOD+AI": TRIPOD}


def fill_checklist(contents: RunData, items: tuple[ChecklistItem, ...]) -> list[ItemEvidence]:
    """Each item with the evidence that the run has, or with what is missing."""
    sums = checksums.read_checksums(contents.run)
    entries = []
    for item in items:
        there = item.statement is not None and all((contents.run.path / name).is_file() for name in item.files)
        text = item.statement(contents) if there and item.statement is not None else ""
        evidence = tuple((name, sums.get(name, "")) for name in item.files) if text else ()
        rest = item.rest if text else ""
        entries.append(ItemEvidence(item.number, item.asks, bool(text), text or item.missing, rest, evidence))
    return entries


def write_checklists(run: RunFolder, contents: RunData) -> None:
    """Write `checklists.html` into the run folder."""
    from scanwise.reporting.page import render_page

    lists = [(name, fill_checklist(contents, items)) for name, items in LISTS.items()]
    values: dict[str, object] = {
        "lists": [(name, items, sum(item.supported and not item.rest for item in items)) for name, items in lists],
        "recipe": contents.recipe.name,
        "scanwise": contents.provenance.get("environment", {}).get("packages", {}).get("scanwise", ""),
    }
    write_text(render_page("checklists.html.jinja", values), run.path / CHECKLISTS_FILE)
