"""The model card of a run, in the form of the Hugging Face hub: metadata that machines read, then words for people."""

import re
from typing import Any

from scanwise.conformal import CrossSets
from scanwise.phrases import printable
from scanwise.records import Metric
from scanwise.reporting.run_data import RunData
from scanwise.reporting.summary import build_first_screen
from scanwise.reporting.wording import counted, in_full, listed, term
from scanwise.run import RunFolder, layout, write_text

MODEL_CARD_FILE = layout.MODEL_CARD
HEADLINES = ("accuracy", "balanced_accuracy", "macro_f1", "auroc")
HUB_NAMES = {"macro_f1": "f1", "auroc": "roc_auc"}
"""Names of some of our metrics on the hub."""
_MARKUP = re.compile(r"[\\`*_{}\[\]<>#|~!&@$]|:(?=\S)|\.(?=[^\W\d])")
_AT_THE_START = re.compile(r"^(\d*)([-+=.)])")
"""The beginning of a list or of a line below a heading."""
AUTHORS_MUST_ADD = "**Not known to the run: the authors must add it.**"


def write_model_card(run: RunFolder, contents: RunData) -> None:
    """Write `model_card.md` into the run folder."""
    write_text(build_model_card(contents), run.path / MODEL_CARD_FILE)


def build_model_card(contents: RunData) -> str:
    """The card as text; everything in it comes from the run folder."""
    from huggingface_hub import ModelCardData

    data = ModelCardData(
        model_name=contents.recipe.name,
        library_name="scanwise",
        pipeline_tag="image-classification",
        tags=["medical-imaging", "research-only", "image-classification", "calibrated", "conformal-prediction"],
        metrics=[HUB_NAMES.get(name, name) for name in HEADLINES],
        eval_results=_results(contents) or None,
    )
    return f"---\n{data.to_yaml()}\n---\n\n{_words(contents)}"


def _headlines(contents: RunData) -> list[Metric]:
    """The figures on new people; of a run without an honest protocol, none: leaked figures do not leave."""
    if "honest" not in contents.protocols:
        return []
    unit = contents.unit("honest")
    headlines = [contents.numbers.find(name, "honest", unit) for name in HEADLINES]
    return [m for m in headlines if m]


def _results(contents: RunData) -> list[Any]:
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type="image-classification",
            dataset_type="custom",
            dataset_name=f"{contents.recipe.name} test subjects",
            dataset_split="test",
            metric_type=HUB_NAMES.get(m.name, m.name),
            metric_name=f"{term(m.name).title}, by {m.unit}, {m.count} {m.unit}s",
            metric_value=round(m.value, 4),
            metric_args={"low": _round(m.low), "high": _round(m.high)},
        )
        for m in _headlines(contents)
    ]


def _round(value: float) -> float | None:
    return None if value != value else round(value, 4)


def markdown_text(text: str) -> str:
    r"""Text of users within a line of Markdown: no character of it is markup, HTML or the beginning of a link.

    >>> print(markdown_text("[x](javascript:a) <img> | a |\n- `b` www.c.d"))
    \[x\](javascript\:a) \<img\> \| a \| - \`b\` www\.c\.d
    """
    return _AT_THE_START.sub(r"\1\\\2", _MARKUP.sub(r"\\\g<0>", printable(text).strip()))


def _words(contents: RunData) -> str:
    first, recipe = build_first_screen(contents), contents.recipe
    lines = [f"# {markdown_text(first.title)}", "", "**Research use only. Not a medical device.**", ""]
    lines += [markdown_text(" ".join(first.summary)), ""]
    lines += [f"> **Caution.** {markdown_text(alarm.text)}" for alarm in first.alarms] + [""] * bool(first.alarms)
    lines += ["## Model details", ""]
    environment = contents.provenance.get("environment", {})
    packages = ", ".join(f"{name} {version}" for name, version in environment.get("packages", {}).items())
    weights = str(contents.provenance.get("weights", "not recorded"))
    lines += [
        f"- **Made by:** {AUTHORS_MUST_ADD}",
        f"- **Recipe:** {markdown_text(recipe.title or recipe.name)}",
        f"- **Network:** {markdown_text(recipe.model.name)}, start of its weights: {markdown_text(weights)}",
        f"- **Classes:** {markdown_text(listed(contents.titles()))}",
        f"- **Input:** {recipe.data.size} × {recipe.data.size} pixels, {recipe.data.channels} channel(s)",
        f"- **Versions:** {markdown_text(packages or 'not recorded')}",
        f"- **Licence:** {AUTHORS_MUST_ADD}",
        "",
        "## Uses",
        "",
        "Research on classification of scans like those of the cohort below.",
        "",
        "### Out-of-scope use",
        "",
        *(f"- {markdown_text(text)}" for text in first.misuse),
        "",
        "## Bias, risks and limitations",
        "",
        *(f"- {markdown_text(f.message)}" for f in contents.findings if f.severity != "note"),
        "- Figures hold for people like those tested; other hospitals, scanners, ages and diseases were not.",
        "",
        "## How to use it",
        "",
        "```python",
        "import scanwise",
        "",
        'answer = scanwise.load("RUN").predict(["scan.png"])',
        "```",
        "",
        "## Training",
        "",
        f"- **Data:** {counted(len(contents.cohort), 'scan')}, {_people(contents)}; where they come from: {AUTHORS_MUST_ADD}",
        f"- **Procedure:** {_procedure(contents)}; every choice is in recipe.yaml",
        "",
        "## Evaluation",
        "",
    ]
    return "\n".join([*lines, *_evaluation(contents), ""])


def _procedure(contents: RunData) -> str:
    train = contents.recipe.train
    if not train.epochs:
        return "none here, the weights came from a file and were left as they are"
    schedule = f"{counted(train.epochs, 'epoch')}, {train.optimizer.name} at {train.optimizer.lr:g}"
    return f"{schedule}, loss {train.loss}, seed {contents.recipe.seed}"


def _people(contents: RunData) -> str:
    if not contents.cohort.subjects_known:
        return "from an unknown number of people"
    return f"of {counted(len(set(contents.cohort.subject.tolist())), 'subject')}"


def _evaluation(contents: RunData) -> list[str]:
    headlines = _headlines(contents)
    if not headlines:
        return ["This run was never tested on new people. Its figures are in report.html, stamped as what they are."]
    unit = contents.unit("honest")
    lines = ["| Figure | Value and interval |", "|---|---|"]
    lines += [f"| {term(m.name).title} | {in_full(m)} |" for m in headlines]
    rivals = contents.numbers.rivals("honest", unit)
    lines += [f"| Baseline: {markdown_text(m.model.replace('_', ' '))}, accuracy | {in_full(m)} |" for m in rivals]
    coverage = contents.numbers.find("coverage", "honest", unit)
    if coverage:
        lines.append(f"| Prediction sets hold the true class | {in_full(coverage)} |")
    weaker = dict.fromkeys(sets.warning for sets in contents.prediction_sets(unit) if isinstance(sets, CrossSets))
    return [
        *lines,
        *(["", *weaker] if weaker else []),
        "",
        "Every other figure, with its interval: report.html and tables/ in the run folder.",
    ]
