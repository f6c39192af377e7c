"""Masks of dropout for a graph that takes them as inputs: the very bits of `models.dropout`, in NumPy.

A mask is a hash of (scan, draw, layer, unit), so that a scan has the same draws in any batch and by any engine.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scanwise.records import BoolArray

FINE = 1 << 16
_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


@dataclass(frozen=True, slots=True)
class DropoutLayer:
    """One dropout of a network, in the order in which they are called.

    Attributes:
        units: shape of the mask of a row; of a dropout of whole channels their number alone.
        share: of the units that is dropped.
    """

    units: tuple[int, ...]
    share: float

    @property
    def cut(self) -> int:
        """Share in steps of 1 / `FINE`."""
        return round(self.share * FINE)


def draw_masks(rows: NDArray[np.generic], layers: Sequence[DropoutLayer], draws: int, seed: int = 0) -> list[BoolArray]:
    """Masks (N, T, units…) of every layer, true where a unit is kept.

    Args:
        rows: (N, …) pixels of the scans, or tokens of a network of words alone.
        layers: of the network.
        draws: T.
        seed: of the draws.
    """
    start = seed.to_bytes(8, "big", signed=True)
    digests = [hashlib.blake2b(start + np.ascontiguousarray(row).tobytes(), digest_size=8).digest() for row in rows]
    keys = np.frombuffer(b"".join(digests), dtype="<u8")
    return [_mask(keys, layer, call, draws) for call, layer in enumerate(layers, 1)]


def _mask(keys: NDArray[np.uint64], layer: DropoutLayer, call: int, draws: int) -> BoolArray:
    units = math.prod(layer.units)
    each = _mix(np.arange(draws, dtype=np.uint64) * _STEP + _mix(keys + np.uint64(call))[:, None])
    steps = np.arange(1, -(-units // 4) + 1, dtype=np.uint64) * _STEP
    noise = _mix(each[..., None] + steps).astype("<u8").view("<i2")[..., :units]
    return np.asarray(noise >= layer.cut - FINE // 2).reshape(len(keys), draws, *layer.units)


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * _MIX[0]
    values = (values ^ (values >> np.uint64(27))) * _MIX[1]
    return values ^ (values >> np.uint64(31))
