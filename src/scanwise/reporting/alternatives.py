"""Other explanations of the figures than the disease: age and sex, or how people were scanned."""

from scanwise.baselines import BASELINES
from scanwise.phrases import printable
from scanwise.records import Metric
from scanwise.reporting.run_data import RunData
from scanwise.reporting.wording import lead, listed, model_title, with_interval


def describe_covariates(contents: RunData) -> str:
    """The gain of the scans over the covariates, as a sentence; empty where there are none."""
    covariates = listed([printable(name) for name in contents.recipe.data.covariates])
    pair = _auroc_and_gap(contents, "covariates")
    if pair is None:
        return ""
    alone, gap = pair
    model = contents.recipe.model
    both = model.is_ridge or model.covariates > 0
    subject = (
        f"The scans add {lead(gap)} of AUROC to {covariates}"
        if both
        else f"The scans alone lead {covariates} by {lead(gap)} of AUROC"
    )
    if not gap.low > 0:
        what = f"add anything to {covariates}" if both else f"tell more than {covariates}"
        subject = f"It was not shown that the scans {what}: a difference of {lead(gap)} in AUROC"
    return f"{subject}, person by person; {covariates} without any scan reach {with_interval(alone)}."


def describe_acquisition(contents: RunData) -> str:
    """A warning where measures of how people were scanned reach the network; empty where none does."""
    reached = []
    for name, spec in BASELINES.items():
        pair = _auroc_and_gap(contents, name) if spec.shows_acquisition else None
        if pair and pair[0].low > 0.5 and not pair[1].low > 0:
            reached.append(f"{model_title(name).lower()} (AUROC {with_interval(pair[0])}, difference {lead(pair[1])})")
    if not reached:
        return ""
    return (
        f"The network was not shown to be better than {listed(reached)}, which {'do' if len(reached) > 1 else 'does'} not see "
        "shapes. What it has learnt may be how the scans were made: by device, protocol or preparation of the files."
    )


def _auroc_and_gap(contents: RunData, model: str) -> tuple[Metric, Metric] | None:
    """The AUROC of a baseline, and that of the network less it."""
    if "honest" not in contents.protocols:
        return None
    unit = contents.unit("honest")
    alone = contents.numbers.find("auroc", "honest", unit, model)
    gap = contents.numbers.find("auroc difference", "honest", unit, model)
    return None if alone is None or gap is None else (alone, gap)
