"""All that is refused before a fit writes anything: used by `fit` and by `--plan`."""

from pathlib import Path
from typing import TYPE_CHECKING

from scanwise.pipeline.context import Context
from scanwise.pipeline.stages.explanation import check_explanation_method
from scanwise.pipeline.stages.resume import check_resume
from scanwise.pipeline.stages.text_inputs import cohort_titles
from scanwise.pipeline.stages.training import check_trainable
from scanwise.run import Run

if TYPE_CHECKING:
    from scanwise.models import Network


def check_output(out: Path, *, resume: bool) -> None:
    """Refuse a folder that is taken, before the scans are read; makes nothing yet.

    Raises:
        RunError: if the folder holds something and `resume` is not set, or holds no run to resume.
    """
    if out.exists():
        Run.create(out, resume=resume)


def preflight(context: Context, out: Path | None = None) -> "Network | None":
    """Refuse what cannot end well: network, weights and scan size, explanation method, and a run begun otherwise.

    Args:
        context: what was read and split.
        out: the run folder, which may exist already; None for a plan.

    Returns:
        the untrained network on the CPU; None where every fit in `out` has its network already.

    Raises:
        ScanwiseError: naming the recipe key, the weights, or what differs from the run in `out`.
    """
    run = None if out is None else Run(out)
    trained = run is not None and all(run.fit(split.protocol, split.fold).model.is_file() for split in context.splits)
    network = None if trained else build_checked_network(context)
    check_explanation_method(context)
    if run is not None:
        check_resume(run, context)
    return network


def build_checked_network(context: Context) -> "Network":
    """Build the network once: its name, options and weights or the size of scans may be wrong, and training is long."""
    from scanwise.models import build_network

    recipe, classes = context.recipe, context.cohort.classes
    if recipe.model.reads_words:
        cohort_titles(context.cohort, recipe)
    network = build_network(recipe.model, len(classes), recipe.data.channels, classes=classes)
    check_trainable(network, recipe)
    return network
