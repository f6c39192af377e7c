"""Weights on disk: our own as safetensors, foreign ones read without executing anything."""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import Tensor, nn

from scanwise.errors import WeightsError
from scanwise.run import writing

_WRAPPERS = ("module", "_orig_mod")


def save(network: nn.Module, path: Path) -> None:
    """Write all weights and buffers as safetensors, whole or not at all."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with writing(path) as temporary:
        temporary.write_bytes(serialize(state))  # not save_file: a full disk must be an OSError


def load(network: nn.Module, path: Path) -> None:
    """Load what `save` wrote into the same network.

    Raises:
        WeightsError: if a key is missing, too many, or of another shape.
    """
    _install(network, read(path), path, may_lack=())


def read(path: Path) -> dict[str, Tensor]:
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


def load_foreign(body: nn.Module, path: Path, *, classifier: str, first_conv: str) -> None:
    """Load weights trained elsewhere; a classifier of another size is left fresh, a colour input is adapted to gray.

    Args:
        body: the network to fill.
        path: the file.
        classifier: prefix of the last layer's keys, "" for none.
        first_conv: prefix of the first convolution's keys, "" for none.

    Raises:
        WeightsError: with the keys that differ.
    """
    import timm.models

    state = read(path)
    own: dict[str, Tensor] = dict(body.state_dict())
    head = {f"{classifier}.weight", f"{classifier}.bias"} if classifier else set()
    other_size = any(name in own and name in state and own[name].shape != state[name].shape for name in head)
    if other_size or not head & own.keys():
        state = {name: tensor for name, tensor in state.items() if name not in head}
    first = f"{first_conv}.weight"
    if first in own and first in state and own[first].shape[1] != state[first].shape[1]:
        state[first] = timm.models.adapt_input_conv(own[first].shape[1], state[first])
    _install(body, state, path, may_lack=tuple(head))


def _install(network: nn.Module, state: dict[str, Tensor], path: Path, may_lack: tuple[str, ...]) -> None:
    own = network.state_dict()
    missing = sorted(own.keys() - state.keys() - set(may_lack))
    surplus = sorted(state.keys() - own.keys())
    other = sorted(name for name in own.keys() & state.keys() if own[name].shape != state[name].shape)
    told = [
        f"{len(names)} {what} ({', '.join(names[:3])}{', …' * (len(names) > 3)})"
        for names, what in ((missing, "missing"), (surplus, "not known to it"), (other, "of another shape"))
        if names
    ]
    if told:
        raise WeightsError(f"The weights in {path} do not fit the network: {'; '.join(told)}.")
    network.load_state_dict(state, strict=False)


def _strip(name: str) -> str:
    """Remove what DataParallel and torch.compile put into a key, before it or around a part of the network."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)
