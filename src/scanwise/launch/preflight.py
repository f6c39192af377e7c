"""Refuse what is sure to fail in a job, before the job costs money.

A container has its image, what SageMaker brings into its channels, and the internet; nothing of this machine. What the
scans or the content of files decide is found out there alone.
"""

import re
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

from scanwise.baselines import BASELINES
from scanwise.cohort import table_files
from scanwise.errors import LaunchError, WeightsError, lookup
from scanwise.recipe import BackboneSection, Members, Model, Recipe, TextSection

CHANNELS = PurePosixPath("/opt/ml/input/data")
"""Folder of the channels in a container, each in a folder of its name."""
_ON_HUB = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


def refuse_files(recipe: Recipe, channels: Collection[str]) -> None:
    """See that the container has every file and folder that a recipe names.

    Args:
        made: the recipe, its settings laid over it.
        channels: names of those that the job has.

    Raises:
        LaunchError: with the first that it cannot have, and how to bring it there.
    """
    for key, _, path in _weights(recipe):
        if path not in ("none", "hub"):
            _refuse_place(key, path, channels)
    model = recipe.model
    if not model.reads_words or model.text.encoder == "small":
        return
    name = model.text.encoder
    if not _ON_HUB.fullmatch(name) or Path(name).is_dir():
        _refuse_place("model.text.encoder", name, channels)
    elif model.weights == "none":
        raise LaunchError(
            f"model.text.encoder is {name!r}, which is to be fetched from the hub, but model.weights is none. Set "
            "model.weights to hub."
        )


def refuse_table(option: str, where: str) -> None:
    """See that a table is named by its path in the data.

    Raises:
        LaunchError: if it is no table, or lies elsewhere.
    """
    path = PurePosixPath(where)
    if not table_files.is_table(Path(where)) or "://" in where or path.is_absolute() or ".." in path.parts:
        raise LaunchError(
            f"{option} is {where!r}; it must be the path of a table ({', '.join(table_files.SUFFIXES)}) in the folder that "
            "--data names, such as scans.csv. Put the table there, and give its path in that folder."
        )


def refuse_network(recipe: Recipe) -> None:
    """Build the networks of a recipe without their weights, and send a scan of zeros through the one that learns.

    A deep ensemble is built as one of its members, and a text encoder that only the container may have as a small one.

    Raises:
        RecipeError: if there is no such network, or its options or the size of the scans do not go with it.
        WeightsError: if the hub has no weights of it.
    """
    from timm.models import is_model_pretrained

    from scanwise.models import build_network, dry_run

    model, rivals = recipe.model, recipe.rivals
    changed: dict[str, object] = {"weights": "none", "class_order": ()}
    if model.members.kind == "deep_ensemble":
        changed["members"] = Members()
    if model.text.encoder != "small":
        changed["text"] = TextSection(length=model.text.length)
    count = len(recipe.classes) if recipe.classes else 3
    alike = model.model_copy(update=changed)
    dry_run.check_input_size(build_network(alike, count, recipe.data.channels, pretrained=False), recipe)
    if _needs_features(rivals.names) and rivals.weights != "none":
        about = {"mean": rivals.mean, "std": rivals.std, "options": rivals.options}
        build_network(Model(name=rivals.backbone, **about), 0, 3, pretrained=False)
    for key, name, source in _weights(recipe):
        if source == "hub" and name and not is_model_pretrained(name):
            raise WeightsError(f"{key} is hub, but there are no weights for {name!r} on it; set none, or a file.")


def refuse_metric(name: str, recipe: Recipe) -> None:
    """See that a pipeline can compare models of a recipe in a metric.

    Raises:
        RecipeError: if there is no such metric.
        LaunchError: if models of this recipe have none.
    """
    from scanwise.metrics import METRICS

    if lookup(METRICS, name, "metric").needs_order and not recipe.ordered:
        raise LaunchError(
            f"--metric {name} is for classes in order, and the recipe does not say that they are. Set ordered=true, or "
            "choose another metric."
        )
    if "honest" not in recipe.split.protocols:
        raise LaunchError(
            "A pipeline registers a model by its honest test figure, and split.protocols asks for none. Add honest to it."
        )


def _needs_features(names: Collection[str]) -> bool:
    return any(BASELINES[name].needs == "features" for name in names)


def _weights(recipe: Recipe) -> Iterator[tuple[str, str, str]]:
    """The keys that say where weights come from, of those that this recipe uses: of which network ("" if of several)."""
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
    if _needs_features(rivals.names):
        yield "rivals.weights", rivals.backbone, rivals.weights


def _refuse_place(key: str, where: str, channels: Collection[str]) -> None:
    path = PurePosixPath(where)
    inside = path.parts[len(CHANNELS.parts) :] if path.is_relative_to(CHANNELS) and ".." not in path.parts else ()
    if inside and inside[0] in channels:
        return
    if inside:
        raise LaunchError(
            f"{key} is {where!r}, but the job has no channel {inside[0]!r} (it has {', '.join(channels)}). Add "
            f"--channel {inside[0]}=s3://bucket/folder."
        )
    raise LaunchError(
        f"{key} is {where!r}, which the container does not have: nothing of this machine is there. Put it on S3, bring it "
        f"with --channel weights=s3://bucket/folder, and set {key}={CHANNELS}/weights/{path.name or 'FILE'}."
    )
