"""Weights on disk: our own as safetensors, foreign ones read without executing anything."""

import io
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import Tensor, nn

from scanwise.errors import WeightsError
from scanwise.run import writing

log = logging.getLogger("scanwise")

_WRAPPERS = ("module", "_orig_mod")
_CLASSES_ON = {"weight": 0, "base.weight": 0, "bias": -1, "out": -1}  # the axis of a classifier's tensors, by name


def save_weights(network: nn.Module, path: Path) -> None:
    """Write all weights and buffers as safetensors, whole or not at all."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with writing(path) as temporary:
        temporary.write_bytes(serialize(state))  # not save_file: a full disk must be an OSError


def export_weights(network: nn.Module, folder: Path, epoch: int) -> Path:
    """Write `model_epoch_N.pth`: a plain state dict of the network inside, without our normalisation.

    It is what other programs read with `torch.load(..., weights_only=True)`, and what `model.weights` reads back into a
    network of the same recipe: all but the classifier, and that too where `model.class_order` names its classes.
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
    """Load what `save_weights` wrote into the same network.

    Raises:
        WeightsError: if a key is missing, too many, or of another shape; it says so if they are of other classes.
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
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises what it likes: IndexError, struct.error, UnpicklingError, …
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
        raise WeightsError(f"{path} has keys that are one without their wrappers' prefixes: {', '.join(twice[:3])}.")
    return bare


@dataclass(frozen=True, slots=True)
class KeyPrefixes:
    """Where the parts of a network are, as prefixes of its keys; "" for what it has not.

    Attributes:
        classifier: of the last layer.
        first_conv: of the first convolution.
        backbone: of a backbone with our own head on it.
        old_classifier: of the classifier that the backbone had, without `backbone`; our `head` takes its place.
    """

    classifier: str = ""
    first_conv: str = ""
    backbone: str = ""
    old_classifier: str = ""


def load_foreign_weights(
    body: nn.Module, path: Path, place: KeyPrefixes, order: Sequence[int] = (), *, tell: bool = True
) -> None:
    """Load weights trained elsewhere, by timm, torchvision or us.

    A colour input is adapted to gray by the sum of its weights. The classifier of the file is used where `order` says which
    of its classes is which of ours; without that nobody knows, and ours starts fresh. Where the network has a head of ours,
    weights of the backbone alone will do, unless the classifier is to be used.

    Args:
        body: the network to fill.
        path: the file.
        place: where its parts are.
        order: for each of our classes, which class of the file it is, as `map_class_order` gives it; empty to leave them.
        tell: log what became of the file's classifier.

    Raises:
        WeightsError: with the keys that differ.
    """
    import timm.models

    state, own = read_weights(path), dict(body.state_dict())
    count = _classes_in(state, place.old_classifier)
    if place.backbone and not any(name.startswith(f"{place.backbone}.") for name in state):
        state = _moved(state, place)
    last = {name for name in own.keys() | state.keys() if name.startswith(f"{place.classifier}.") and place.classifier}
    count = _classes_in(state, place.classifier) or count
    if order:
        _reorder(state, own, place.classifier, order, path)
    else:
        state = {name: tensor for name, tensor in state.items() if name not in last}
    first = f"{place.first_conv}.weight"
    if first in own and first in state and own[first].shape[1] != state[first].shape[1]:
        state[first] = timm.models.adapt_input_conv(own[first].shape[1], state[first])
    may_lack = set() if order else last & own.keys()
    if place.backbone and not order:
        may_lack |= {name for part in ("head.", "attention.") for name in _all_or_none(part, own, state)}
    _install(body, state, path, may_lack, place.classifier)
    if tell and last & own.keys():
        _tell_classifier(path, count, used=bool(order))


def map_class_order(theirs: Sequence[str], ours: Sequence[str]) -> list[int]:
    """For each of our classes its place among theirs, by name; capitals, spaces and signs do not matter.

    >>> order_of(["MildDemented", "NonDemented"], ["non-demented", "mild demented"])
    [1, 0]

    Raises:
        WeightsError: with the names that only one of the two has.
    """
    known = {_plain(name): index for index, name in enumerate(theirs)}
    wanted = {_plain(name): name for name in ours}
    lacking = [name for plain, name in wanted.items() if plain not in known]
    surplus = [name for name in theirs if _plain(name) not in wanted]
    if lacking or surplus or not len(known) == len(theirs) == len(ours) == len(wanted):
        raise WeightsError(
            f"The weights know {len(theirs)} classes ({', '.join(theirs)}), and the scans {len(ours)} "
            f"({', '.join(ours)}). Only the weights know: {', '.join(surplus) or 'none'}; only the scans: "
            f"{', '.join(lacking) or 'none'}. Write model.class_order with the names of the scans' classes."
        )
    return [known[plain] for plain in wanted]


def _moved(state: Mapping[str, Tensor], place: KeyPrefixes) -> dict[str, Tensor]:
    """Keys of a bare backbone as they are called where it stands in a network with our head."""
    moved = {}
    for name, tensor in state.items():
        old = f"{place.old_classifier}." if place.old_classifier else name
        if not name.startswith(old) or name == old:
            moved[f"{place.backbone}.{name}"] = tensor
        elif "." in (rest := name.removeprefix(old)):  # else one linear layer of the backbone, which our head replaces
            moved[f"head.{rest}"] = tensor
    return moved


def _classes_in(state: Mapping[str, Tensor], classifier: str) -> int:
    """For how many classes a file's last layer of this name is; 0 if it has none."""
    found = [state[name] for end in ("weight", "base.weight") if (name := f"{classifier}.{end}") in state]
    return len(found[0]) if classifier and found else 0


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
                f"An ordinal last layer asks {len(order) - 1} questions about {len(order)} classes in their order, and the "
                f"classifier in {path} answers {count} of others. Leave model.class_order out to train a fresh one."
            )
        return
    if count != len(order):
        raise WeightsError(f"The weights in {path} are for {count} classes, but model.class_order names {len(order)}.")
    for end, axis in _CLASSES_ON.items():
        if (name := f"{classifier}.{end}") in state:
            state[name] = state[name].index_select(axis, torch.tensor(order))


def _tell_classifier(path: Path, count: int, *, used: bool) -> None:
    """Say what became of a file's classifier, for a report does not show whether the last layer was trained before."""
    if used:
        log.info("the classifier of %s is used, its %d classes mapped by name", path.name, count)
    elif count:
        log.warning(
            "The classifier of %s, for %d classes, is not used: that of this network starts fresh. To use it, name its "
            "classes in its order under model.class_order.", path.name, count,
        )  # fmt: skip
    else:
        log.info("%s has no classifier: that of this network starts fresh", path.name)


def _all_or_none(part: str, own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> set[str]:
    """The keys of a part of ours that the file does not know at all."""
    mine = {name for name in own if name.startswith(part)}
    return set() if mine & state.keys() else mine


def _install(network: nn.Module, state: dict[str, Tensor], path: Path, may_lack: set[str], classifier: str) -> None:
    own = network.state_dict()
    missing = sorted(own.keys() - state.keys() - may_lack)
    surplus = sorted(state.keys() - own.keys())
    other = sorted(name for name in own.keys() & state.keys() if own[name].shape != state[name].shape)
    told = [
        f"{len(names)} {what} ({', '.join(names[:3])}{', …' * (len(names) > 3)})"
        for names, what in ((missing, "missing"), (surplus, "not known to it"), (other, "of another shape"))
        if names
    ]
    last = f"{classifier}.weight"
    if last in other and own[last].shape[1:] == state[last].shape[1:]:
        told.insert(0, f"they are for {len(state[last])} classes and it has {len(own[last])}")
    if told:
        raise WeightsError(f"The weights in {path} do not fit the network: {'; '.join(told)}.")
    network.load_state_dict(state, strict=False)


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()


def _strip(name: str) -> str:
    """Remove what DataParallel and torch.compile put into a key, before it or around a part of the network."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)
