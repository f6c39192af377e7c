"""Draws of dropout at prediction (Gal & Ghahramani 2016), at the price of one pass if dropout comes last.

The network stays in evaluation mode, so that norms keep their statistics; only dropout draws. Its masks are a hash of
(scan, draw, layer, unit): a scan gets the same draws in any batch, in any order and on any device.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from scanwise.errors import RecipeError
from scanwise.models.network import Network

CHANNELS = (F.dropout1d, F.dropout2d, F.dropout3d)
"""Functions that drop whole channels."""
_DROPOUTS = (F.dropout, *CHANNELS)
_FINE = 1 << 16  # four masks from each 64-bit hash: dropout is drawn in steps of 1/65536
_STEP = 0x9E3779B97F4A7C15  # splitmix64 (Steele et al. 2014)

_Plan = Callable[[Tensor | None, Tensor | None, Tensor | None, Tensor], Tensor]


class DropoutSampler:
    """Draws of dropout from one network, by a plan that follows from its first scans.

    Args:
        network: in evaluation mode.
        draws: T.
    """

    def __init__(self, network: Network, draws: int) -> None:
        self.network = network
        self.draws = draws
        self.plan: _Plan | None = None

    def forward_features(self, images: Tensor) -> Tensor:
        """Feature map of the network; the first call looks for dropout below it."""
        if self.plan is not None:
            return self.network.forward_features(images)
        with _DropoutRecorder() as trunk:
            maps = self.network.forward_features(images)
        self.plan = self._whole if trunk.axes else None
        return maps

    def __call__(self, images: Tensor | None, features: Tensor | None, tokens: Tensor | None, keys: Tensor) -> Tensor:
        """(N, T, classes) logits.

        Args:
            images: (N, C, H, W), or None.
            features: their feature map from `forward_features`, or None.
            tokens: (N, L), or None.
            keys: (N,) int64, one per scan: equal keys have equal masks.

        Raises:
            RecipeError: if the network has no dropout to draw from.
        """
        self.plan = self.plan or self._find(features, tokens)
        return self.plan(images, features, tokens, keys)

    def _find(self, features: Tensor | None, tokens: Tensor | None) -> _Plan:
        with _DropoutRecorder() as head:
            self.network.forward_head(_first(features), tokens=_first(tokens))
        if not head.axes:
            raise RecipeError("The network has no dropout, so all its draws are equal. Set model.dropout above 0.")
        return self._top if head.axes[0] == 2 else self._heads

    def _top(self, images: Tensor | None, features: Tensor | None, tokens: Tensor | None, keys: Tensor) -> Tensor:
        """Draws for dropout on pooled features: rows are repeated there, and everything before runs once."""
        with DropoutMasks(keys, torch.arange(self.draws)):
            drawn = self.network.forward_head(features, tokens=tokens)
        return drawn.reshape(self.draws, len(keys), -1).transpose(0, 1)

    def _heads(self, images: Tensor | None, features: Tensor | None, tokens: Tensor | None, keys: Tensor) -> Tensor:
        return torch.stack([self._one(features, tokens, keys, draw) for draw in range(self.draws)], dim=1)

    def _whole(self, images: Tensor | None, features: Tensor | None, tokens: Tensor | None, keys: Tensor) -> Tensor:
        drawn = []
        for draw in range(self.draws):
            with DropoutMasks(keys, torch.tensor([draw])):
                drawn.append(self.network(images, tokens))
        return torch.stack(drawn, dim=1)

    def _one(self, features: Tensor | None, tokens: Tensor | None, keys: Tensor, draw: int) -> Tensor:
        with DropoutMasks(keys, torch.tensor([draw])):
            return self.network.forward_head(features, tokens=tokens)


class DropoutMasks(TorchFunctionMode):
    """Mode in which every dropout drops, in evaluation mode too, by masks from keys and draws.

    Args:
        keys: (N,) int64, one per scan.
        draws: (T,) numbers of the draws; N rows become T · N at the first dropout, one draw after the other.
    """

    def __init__(self, keys: Tensor, draws: Tensor) -> None:
        super().__init__()
        self.keys, self.draws = keys, draws.to(keys.device)
        self.calls = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        values, share = dropped(func, args, kwargs)
        if not share:
            return func(*args, **(kwargs or {}))
        self.calls += 1
        units = values.shape[1:2] if func in CHANNELS else values.shape[1:]
        cut = round(share * _FINE)
        keep = (self._noise(math.prod(units)) >= cut - _FINE // 2).reshape(len(self.draws), -1, *units)
        keep = keep[(..., *[None] * (values.ndim - 1 - len(units)))]
        rows = values * (_FINE / (_FINE - cut))  # before the rows are multiplied, where that is cheap
        return (rows.reshape(-1, len(self.keys), *values.shape[1:]) * keep).flatten(0, 1)

    def _noise(self, units: int) -> Tensor:
        """(T · N, units) int16, each value equally likely."""
        each = _mix(self.draws[:, None] * _signed(_STEP) + _mix(self.keys + self.calls)[None, :]).reshape(-1, 1)
        steps = torch.arange(1, -(-units // 4) + 1, device=each.device) * _signed(_STEP)
        return _mix(each + steps).view(torch.int16)[:, :units]


class _DropoutRecorder(TorchFunctionMode):
    """Mode that records the number of axes of each dropout's input, and changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.axes: list[int] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        values, share = dropped(func, args, kwargs)
        if share:
            self.axes.append(values.ndim)
        return func(*args, **(kwargs or {}))


def dropped(func: Any, args: Any, kwargs: Any) -> tuple[Any, float]:
    """Input and dropped share of a call; 0 for a call that drops nothing."""
    if func not in _DROPOUTS:
        return None, 0.0
    arguments = dict(zip(("input", "p"), args, strict=False)) | (kwargs or {})
    return arguments["input"], float(arguments.get("p", 0.5))


def _first(values: Tensor | None) -> Tensor | None:
    return None if values is None else values[:1]


def _mix(values: Tensor) -> Tensor:
    """The finaliser of splitmix64: every bit of the output depends on every bit of the input."""
    values = (values ^ _shifted(values, 30)) * _signed(0xBF58476D1CE4E5B9)
    values = (values ^ _shifted(values, 27)) * _signed(0x94D049BB133111EB)
    return values ^ _shifted(values, 31)


def _shifted(values: Tensor, bits: int) -> Tensor:
    return (values >> bits) & ((1 << (64 - bits)) - 1)  # >> alone would carry the sign along


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number
