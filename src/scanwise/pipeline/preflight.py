"""All that is refused before a fit writes anything: used by `fit`, by `--plan` and by `launch`."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from scanwise.baselines import BASELINES
from scanwise.errors import LaunchError, WeightsError, lookup
from scanwise.metrics import METRICS
from scanwise.pipeline.context import Context
from scanwise.pipeline.stages.bags import check_people_known
from scanwise.pipeline.stages.explanation import check_explanation_method
from scanwise.pipeline.stages.resume import check_resume
from scanwise.pipeline.stages.text_inputs import cohort_titles
from scanwise.pipeline.stages.training import check_trainable
from scanwise.recipe import BackboneSection, Members, Model, Recipe, TextSection
from scanwise.run import RunFolder

if TYPE_CHECKING:
    from scanwise.models import Network


def check_output(out: Path, *, resume: bool) -> None:
    """Refuse a folder that is taken, before the scans are read; makes nothing yet.

    Raises:
        RunError: if the folder holds something and `resume` is not set, or holds no run to resume.
    """
    if out.exists():
        RunFolder.create(out, resume=resume)


def preflight(context: Context, out: Path | None = None) -> "Network | None":
    """Refuse what cannot end well: packages of trackers, network, weights and scan size, explanation method, and a run begun otherwise.

    Args:
        context: what was read and split.
        out: the run folder, which may exist already; None for a plan.

    Returns:
        the untrained network on the CPU; None where every fit in `out` has its network already.

    Raises:
        ScanwiseError: naming the recipe key, the weights, or what differs from the run in `out`.
    """
    from scanwise.training.trackers import check_trackers

    check_trackers(context.recipe.train.tracking)
    run = None if out is None else RunFolder(out)
    trained = run is not None and all(run.fit(split.protocol, split.fold).model.is_file() for split in context.splits)
    network = None if trained else build_checked_network(context)
    check_baseline_backbone(context.recipe)
    check_explanation_method(context)
    if run is not None:
        check_resume(run, context)
    return network


def build_checked_network(context: Context) -> "Network":
    """Build the network once: its name, options and weights or the size of scans may be wrong, and training is long."""
    from scanwise.models import build_network

    recipe, classes = context.recipe, context.cohort.classes
    check_people_known(recipe, context.cohort)
    if recipe.model.reads_words:
        cohort_titles(context.cohort, recipe)
    network = build_network(recipe.model, len(classes), recipe.data.channels, classes=classes)
    check_trainable(network, recipe)
    return network


def preflight_recipe(recipe: Recipe, metric: str = "") -> None:
    """Refuse what a recipe shows by itself, without its scans and weights, which are elsewhere.

    A deep ensemble is built as one of its members, and a pretrained text encoder as a small one.

    Args:
        recipe: with its settings laid over it.
        metric: that models of this recipe are compared in, or "".

    Raises:
        RecipeError: if there is no such network or metric, or the network does not go with its options or the size of scans.
        WeightsError: if the hub has no weights of a network.
        LaunchError: if models of this recipe would have no such figure.
    """
    from timm.models import is_model_pretrained

    from scanwise.models import build_network, dry_run

    if metric:
        _check_metric(metric, recipe)
    model = recipe.model
    changed: dict[str, object] = {"weights": "none", "class_order": ()}
    if model.members.kind == "deep_ensemble":
        changed["members"] = Members()
    if model.text.encoder != "small":
        changed["text"] = TextSection(length=model.text.length)
    count = len(recipe.classes) if recipe.classes else 3
    network = build_network(model.model_copy(update=changed), count, recipe.data.channels, pretrained=False)
    dry_run.check_input_size(network, recipe)
    check_baseline_backbone(recipe)
    for key, name, source in weights_sources(recipe):
        if source == "hub" and name and not is_model_pretrained(name):
            raise WeightsError(f"{key} is hub, but there are no weights for {name!r} on it; set none, or a file.")


def check_baseline_backbone(recipe: Recipe) -> None:
    """Build the backbone of the frozen-features baseline without its weights: it is used only after training.

    Raises:
        RecipeError: if there is no such network, or its options are wrong.
    """
    from scanwise.models import build_network

    section = recipe.rivals
    if _needs_features(recipe) and section.weights != "none":
        options = {"mean": section.mean, "std": section.std, "options": section.options}
        build_network(Model(name=section.backbone, **options), 0, 3, pretrained=False)


def weights_sources(recipe: Recipe) -> Iterator[tuple[str, str, str]]:
    """Recipe keys of the weights that a fit would load, each with its network ("" if of several) and its source."""
    model, rivals = recipe.model, recipe.rivals
    several = model.name in ("hybrid", "fusion") or (model.name == "text" and model.text.encoder != "small")
    yield "model.weights", "" if several else model.name, model.weights
    if model.weights in ("none", "hub"):  # of a whole network from a file, the parts come with it
        parts: dict[str, dict[str, BackboneSection]] = {
            "hybrid": {"hybrid.convolution": model.hybrid.convolution, "hybrid.transformer": model.hybrid.transformer},
            "fusion": {"fusion.image": model.fusion.image},
        }
        for key, part in parts.get(model.name, {}).items():
            yield f"model.{key}.weights", part.name, part.weights or model.weights
    if _needs_features(recipe):
        yield "rivals.weights", rivals.backbone, rivals.weights


def _needs_features(recipe: Recipe) -> bool:
    return any(BASELINES[name].needs == "features" for name in recipe.rivals.names)


def _check_metric(name: str, recipe: Recipe) -> None:
    """Check that a pipeline can compare models of a recipe in a metric."""
    if lookup(METRICS, name, "metric").needs_order and not recipe.ordered:
        raise LaunchError(
            f"--metric {name} is for classes in order, and the recipe does not say that they are. Set ordered=true, or "
            "choose another metric."
        )
    if "honest" not in recipe.split.protocols:
        raise LaunchError(
            "A pipeline registers a model by its honest test figure, and split.protocols asks for none. Add honest to it."
        )
