"""Weights on disk: our own as safetensors, foreign ones read without executing anything."""

import io
import logging
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import Tensor, nn

from scanwise.errors import WeightsError
from scanwise.records.names import compose, label_key
from scanwise.run import writing
from scanwise.untrusted import measure_archive

log = logging.getLogger("scanwise")

_WRAPPERS = ("module", "_orig_mod")
_CLASSES_ON = {"weight": 0, "base.weight": 0, "bias": -1, "out": -1}  # the axis of a classifier's tensors, by name


def save_weights(network: nn.Module, path: Path) -> None:
    """Write all weights and buffers as safetensors, atomically."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with writing(path) as temporary:
        temporary.write_bytes(serialize(state))  # not save_file: a full disk must be an OSError


def export_weights(network: nn.Module, folder: Path, epoch: int) -> Path:
    """Write `model_epoch_N.pth`: a plain state dict of the body, without our normalisation.

    Other programs read it with `torch.load(..., weights_only=True)`, and `model.weights` reads it back into a network of the
    same recipe: all but the classifier, and that too if `model.class_order` names its classes.
    """
    body = getattr(network, "body", network)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in body.state_dict().items()}
    content = io.BytesIO()
    torch.save(state, content)
    path = folder / f"model_epoch_{epoch}.pth"
    with writing(path) as temporary:
        temporary.write_bytes(content.getvalue())
    return path


def load_weights(network: nn.Module, path: Path) -> None:
    """Load the file of `save_weights` into the same network.

    Raises:
        WeightsError: if a key is missing, unknown, or of another shape; it says so if the classes differ.
    """
    _install(network, read_weights(path), path, may_lack=set(), classifier=str(getattr(network, "classifier", "")))


def read_weights(path: Path) -> dict[str, Tensor]:
    """A state dict from safetensors or a `.pth` (as `weights_only`), wrappers' prefixes stripped.

    Raises:
        WeightsError: if there is no file, or it is not a plain state dict.
    """
    if not path.is_file():
        raise WeightsError(f"There is no file of weights at {path}.")
    try:
        if path.suffix == ".safetensors":
            state: Any = load_file(path)
        else:
            _refuse_swollen(path)
            state = torch.load(path, map_location="cpu", weights_only=True)
    except WeightsError:
        raise
    except Exception as error:  # a damaged file raises errors of any kind: IndexError, struct.error, UnpicklingError, …
        raise WeightsError(
            f"{path} cannot be read as plain weights ({type(error).__name__}). Nothing in it was executed. "
            "Save it again as a state dict or as safetensors."
        ) from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path} holds no state dict of tensors.")
    bare = {_strip(str(name)): tensor for name, tensor in state.items()}
    if len(bare) < len(state):
        names = sorted(_strip(str(name)) for name in state)
        twice = sorted({name for name, after in pairwise(names) if name == after})
        raise WeightsError(f"{path} has keys that are equal without their wrappers' prefixes: {', '.join(twice[:3])}.")
    return bare


def _refuse_swollen(path: Path) -> None:
    """Refuse a ZIP archive, as `torch.save` writes, that was made to fill the memory."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            try:
                measure_archive(archive, path.stat().st_size)
            except ValueError as error:
                raise WeightsError(
                    f"{path} holds no weights: it is {error}. Get the file from its source again."
                ) from error


@dataclass(frozen=True, slots=True)
class KeyPrefixes:
    """Prefixes of the keys of a network's parts; "" for a part that it does not have.

    Attributes:
        classifier: prefix of the last layer.
        first_conv: prefix of the first convolution.
        backbone: prefix of a backbone with a head of ours.
        old_classifier: prefix of the backbone's own classifier, without `backbone`; our `head` replaces it.
    """

    classifier: str = ""
    first_conv: str = ""
    backbone: str = ""
    old_classifier: str = ""


def load_foreign_weights(
    body: nn.Module, path: Path, prefixes: KeyPrefixes, order: Sequence[int] = (), *, tell: bool = True
) -> None:
    """Load weights trained elsewhere, by timm, torchvision or us.

    A colour input is adapted to gray by the sum of its weights. The classifier of the file is used if `order` maps its classes
    to ours; otherwise ours starts from random weights. If the network has a head of ours, weights of the backbone alone
    suffice, unless the classifier is to be used.

    Args:
        body: the network to fill.
        path: the file.
        prefixes: keys of its parts.
        order: index in the file of each of our classes, from `map_class_order`; empty to leave its classifier out.
        tell: log whether the file's classifier is used.

    Raises:
        WeightsError: with the keys that differ.
    """
    import timm.models

    state, own = read_weights(path), dict(body.state_dict())
    count = _classes_in(state, prefixes.old_classifier)
    if prefixes.backbone and not any(name.startswith(f"{prefixes.backbone}.") for name in state):
        state = _moved(state, prefixes)
    last = {
        name for name in own.keys() | state.keys() if name.startswith(f"{prefixes.classifier}.") and prefixes.classifier
    }
    count = _classes_in(state, prefixes.classifier) or count
    if order:
        _reorder(state, own, prefixes.classifier, order, path)
    else:
        state = {name: tensor for name, tensor in state.items() if name not in last}
    first = f"{prefixes.first_conv}.weight"
    if first in own and first in state and own[first].shape[1] != state[first].shape[1]:
        state[first] = timm.models.adapt_input_conv(own[first].shape[1], state[first])
    may_lack = set() if order else last & own.keys()
    if prefixes.backbone and not order:
        may_lack |= {name for part in ("head.", "attention.") for name in _all_or_none(part, own, state)}
    _install(body, state, path, may_lack, prefixes.classifier)
    if tell and last & own.keys():
        _log_classifier(path, count, used=bool(order))


def map_class_order(file_classes: Sequence[str], classes: Sequence[str]) -> list[int]:
    """Index of each of our classes among those of a file, by name; capitals, blanks and dashes between words do not matter.

    >>> map_class_order(["MildDemented", "NonDemented"], ["non-demented", "mild demented"])
    [1, 0]

    Raises:
        WeightsError: with the names that only one of the two has.
    """
    positions = {_plain(name): index for index, name in enumerate(file_classes)}
    wanted = {_plain(name): name for name in classes}
    lacking = [name for plain, name in wanted.items() if plain not in positions]
    surplus = [name for name in file_classes if _plain(name) not in wanted]
    if lacking or surplus or not len(positions) == len(file_classes) == len(classes) == len(wanted):
        raise WeightsError(
            f"The weights have {len(file_classes)} classes ({', '.join(file_classes)}), and the scans {len(classes)} "
            f"({', '.join(classes)}). Only in the weights: {', '.join(surplus) or 'none'}; only in the scans: "
            f"{', '.join(lacking) or 'none'}. Write model.class_order with the names of the scans' classes."
        )
    return [positions[plain] for plain in wanted]


def _moved(state: Mapping[str, Tensor], prefixes: KeyPrefixes) -> dict[str, Tensor]:
    """Keys of a bare backbone in a network with our head."""
    moved = {}
    for name, tensor in state.items():
        old = f"{prefixes.old_classifier}." if prefixes.old_classifier else name
        if not name.startswith(old) or name == old:
            moved[f"{prefixes.backbone}.{name}"] = tensor
        elif "." in (rest := name.removeprefix(old)):  # else one linear layer of the backbone, which our head replaces
            moved[f"head.{rest}"] = tensor
    return moved


def _classes_in(state: Mapping[str, Tensor], classifier: str) -> int:
    """Number of classes of a file's last layer of this name; 0 if it has none."""
    tensors = [state[name] for end in ("weight", "base.weight") if (name := f"{classifier}.{end}") in state]
    return len(tensors[0]) if classifier and tensors else 0


def _reorder(
    state: dict[str, Tensor], own: Mapping[str, Tensor], classifier: str, order: Sequence[int], path: Path
) -> None:
    """Put the classes of a file's last layer into our order."""
    count = _classes_in(state, classifier)
    if not count:
        raise WeightsError(
            f"{path} has no trained classifier, so model.class_order has nothing to order; leave it out."
        )
    if _classes_in(own, classifier) == len(order) - 1:  # ours is ordinal
        if count != len(order) - 1 or list(order) != sorted(order):
            raise WeightsError(
                f"An ordinal last layer has {len(order) - 1} tasks for {len(order)} classes in their order, but the "
                f"classifier in {path} has {count} for others. Leave model.class_order out to train a fresh one."
            )
        return
    if count != len(order):
        raise WeightsError(f"The weights in {path} are for {count} classes, but model.class_order names {len(order)}.")
    for end, axis in _CLASSES_ON.items():
        if (name := f"{classifier}.{end}") in state:
            state[name] = state[name].index_select(axis, torch.tensor(order))


def _log_classifier(path: Path, count: int, *, used: bool) -> None:
    """Log whether a file's classifier is used: a report does not show if the last layer was trained before."""
    if used:
        log.info("the classifier of %s is used, its %d classes mapped by name", path.name, count)
    elif count:
        log.warning(
            "The classifier of %s, for %d classes, is not used: that of this network starts from random weights. To use it, name its "
            "classes in its order under model.class_order.", path.name, count,
        )  # fmt: skip
    else:
        log.info("%s has no classifier: that of this network starts from random weights", path.name)


def _all_or_none(part: str, own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> set[str]:
    """Keys of a part of ours that the file does not have at all."""
    keys = {name for name in own if name.startswith(part)}
    return set() if keys & state.keys() else keys


def check_header(path: Path, members: int, build: Callable[[], nn.Module]) -> None:
    """Compare a network with the header of a safetensors file, before it takes memory; no tensor is read.

    Args:
        path: the file.
        members: number of networks of a deep ensemble; 1 for one network.
        build: the network of the recipe.

    Raises:
        WeightsError: if it is no safetensors file, or a key is missing, unknown, or of another shape.
    """
    try:
        with safe_open(path, "pt") as file:
            shapes = {_strip(name): torch.Size(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # a damaged header raises errors of any kind
        raise WeightsError(f"{path} cannot be read as safetensors ({type(error).__name__}).") from error
    saved = len({name.split(".")[1] for name in shapes if name.startswith("body.")}) if members > 1 else 1
    if saved != members:  # so that a file of a few networks is no reason to build a thousand
        raise WeightsError(f"The weights in {path} are of {saved} networks; the recipe has {members}.")
    with torch.device("meta"):  # shapes without memory
        network = build()
    own = {name: tensor.shape for name, tensor in network.state_dict().items()}
    _refuse_misfits(own, shapes, path, set(), str(getattr(network, "classifier", "")))


def _install(network: nn.Module, state: dict[str, Tensor], path: Path, may_lack: set[str], classifier: str) -> None:
    own, given = ({name: tensor.shape for name, tensor in values.items()} for values in (network.state_dict(), state))
    _refuse_misfits(own, given, path, may_lack, classifier)
    network.load_state_dict(state, strict=False)


def _refuse_misfits(
    own: Mapping[str, torch.Size], given: Mapping[str, torch.Size], path: Path, may_lack: set[str], classifier: str
) -> None:
    missing = sorted(own.keys() - given.keys() - may_lack)
    surplus = sorted(given.keys() - own.keys())
    different = sorted(name for name in own.keys() & given.keys() if own[name] != given[name])
    problems = [
        f"{len(names)} {what} ({', '.join(names[:3])}{', …' * (len(names) > 3)})"
        for names, what in ((missing, "missing"), (surplus, "unknown to it"), (different, "of another shape"))
        if names
    ]
    last = f"{classifier}.weight"
    if last in different and own[last][1:] == given[last][1:]:
        problems.insert(0, f"they are for {given[last][0]} classes and it has {own[last][0]}")
    if surplus and {f"backbone.{name}" for name in surplus} <= own.keys():  # `subject_ridge` alone has such a part
        raise WeightsError(
            f"The weights in {path} are those of the backbone. Name the file in model.ridge.backbone.weights, with "
            "model.weights: none."
        )
    if problems:
        raise WeightsError(f"The weights in {path} do not fit the network: {'; '.join(problems)}.")


def _plain(name: str) -> str:
    """A class name without case, blanks, underscores, and the dashes and dots that join words; other signs stay."""
    return label_key(re.sub(r"(?<=[^\W_])[\s_]*[-.]?[\s_]*(?=[^\W\d_])", "", compose(name)))


def _strip(name: str) -> str:
    """Remove the parts of a key that DataParallel and torch.compile add."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)
