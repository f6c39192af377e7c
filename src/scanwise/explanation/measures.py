"""Measures of a map: against a planted truth, against another map, against the network itself."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from scanwise.errors import ShapeError
from scanwise.records import BoolArray, FloatArray

STRONGEST = 0.05
"""Share of the pixels that count as the strongest."""
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Shares of the pixels that are removed in turn: a lesion is small, and beyond a fifth any map has removed it."""

Ask = Callable[[FloatArray], FloatArray]
"""(M, H, W, C) pixels to (M,) the log-odds of each scan's class."""


def pointing_game(maps: FloatArray, truth: BoolArray) -> float:
    """Share of maps (N, H, W) whose strongest pixel lies in the truth (Zhang et al. 2018); among equals the mean."""
    _together(maps, truth)
    flat, in_truth = maps.reshape(len(maps), -1), truth.reshape(len(truth), -1)
    best = flat == flat.max(axis=1, keepdims=True)
    return float(((best & in_truth).sum(axis=1) / best.sum(axis=1)).mean())


def auprc(maps: FloatArray, truth: BoolArray) -> float:
    """Area under the precision-recall curve of each map's pixels for the truth, the mean over maps that have any."""
    from sklearn.metrics import average_precision_score

    _together(maps, truth)
    rows = [row for row in range(len(maps)) if truth[row].any()]
    return float(np.mean([average_precision_score(truth[row].ravel(), maps[row].ravel()) for row in rows]))


def overlap(maps: FloatArray, other: FloatArray, share: float = STRONGEST) -> FloatArray:
    """(N,) how much of the strongest pixels two maps share: 1 all, `share` by chance.

    >>> ramp = np.arange(100.0).reshape(1, 10, 10)
    >>> overlap(ramp, ramp).tolist(), overlap(ramp, -ramp).tolist()
    ([1.0], [0.0])
    """
    _together(maps, other)
    first, second = strongest_pixels(maps, share), strongest_pixels(other, share)
    return np.asarray((first & second).sum(axis=(1, 2)) / first.sum(axis=(1, 2)))


def strongest_pixels(maps: FloatArray, share: float = STRONGEST) -> BoolArray:
    """(N, H, W) the strongest pixels of each map; of equal ones the first."""
    flat = maps.reshape(len(maps), -1)
    count = max(1, round(share * flat.shape[1]))
    order = np.argsort(-flat, axis=1, kind="stable")[:, :count]
    chosen = np.zeros(flat.shape, dtype=np.bool_)
    np.put_along_axis(chosen, order, True, axis=1)
    return chosen.reshape(maps.shape)


def share_inside(maps: FloatArray, masks: BoolArray) -> FloatArray:
    """(N,) share of each map's sum that lies in the mask; an empty map has 0."""
    _together(maps, masks)
    total = maps.sum(axis=(1, 2))
    return np.asarray((maps * masks).sum(axis=(1, 2)) / np.where(total > 0, total, 1))


def centre_blob(count: int, height: int, width: int) -> FloatArray:
    """(count, H, W) a map independent of the scan: higher near the centre."""
    y, x = np.mgrid[:height, :width]
    away = ((y - (height - 1) / 2) / height) ** 2 + ((x - (width - 1) / 2) / width) ** 2
    return np.broadcast_to(np.exp(-away / (2 * 0.15**2)), (count, height, width))


def random_maps(count: int, height: int, width: int, seed: int = 0) -> FloatArray:
    """(count, H, W) smooth noise: blobs as large as those of a map, at random places."""
    noise = np.random.default_rng(seed).standard_normal((count, height, width))
    return np.asarray(ndimage.gaussian_filter(noise, (0, 2 * height / 64, 2 * width / 64)))


@dataclass(frozen=True, slots=True)
class Faithfulness:
    """Effect of the highlighted pixels on the network's output; means over scans, in log-odds of the class.

    Attributes:
        deletion: fall when the strongest pixels become those of the plain scan; more is better.
        insertion: rise from the plain scan when they alone are put back; more is better.
        road: fall when they are filled from their surroundings and noise (Rong et al. 2022), which hides the map's
            shape; more is better.
    """

    deletion: float
    insertion: float
    road: float


def measure_faithfulness(
    ask: Ask,
    scans: FloatArray,
    plain: FloatArray,
    maps: FloatArray,
    seed: int = 0,
    *,
    ends: tuple[FloatArray, FloatArray] | None = None,
) -> Faithfulness:
    """Deletion, insertion and ROAD of the strongest pixels; the mean over `SHARES`.

    Args:
        ask: the network.
        scans: (N, H, W, C). plain: the same without small structures.
        maps: (N, H, W).
        seed: of ROAD's noise.
        ends: (N,) log-odds of the scans and of the plain ones, where known already.
    """
    whole, empty = ends or (ask(scans), ask(plain))
    falls: list[tuple[float, float, float]] = []
    for share in SHARES:
        chosen = strongest_pixels(maps, share)[..., None]
        deleted = whole - ask(np.where(chosen, plain, scans))
        inserted = ask(np.where(chosen, scans, plain)) - empty
        road = whole - ask(imputed(scans, chosen[..., 0], seed))
        falls.append((float(deleted.mean()), float(inserted.mean()), float(road.mean())))
    deletion, insertion, filled = np.mean(falls, axis=0).tolist()
    return Faithfulness(deletion, insertion, filled)


def imputed(scans: FloatArray, chosen: BoolArray, seed: int = 0, rounds: int = 12) -> FloatArray:
    """Scans whose chosen pixels are the weighted mean of their eight neighbours, with a little noise.

    Rong et al. 2022 solve a sparse system; here its solution is approached from the mean of the other pixels, coarse to
    fine, and then by `rounds` of Jacobi's method, all scans at once.
    """
    kept = (~chosen)[..., None].astype(np.float32)
    values = scans.astype(np.float32)
    filled = np.broadcast_to(values.mean(axis=(1, 2), keepdims=True), values.shape).copy()
    for sigma in (scans.shape[1] / 4, scans.shape[1] / 10, scans.shape[1] / 25, 1.0):
        weight = _blurred(kept, sigma)
        mean = _blurred(values * kept, sigma) / np.maximum(weight, 1e-6)
        filled = np.where(weight > 0.05, mean, filled)
    result = np.where(chosen[..., None], filled, values)
    for _ in range(rounds):
        result = np.where(chosen[..., None], _neighbours(result), values)
    noise = np.random.default_rng(seed).normal(0, 0.01 * 255, result.shape)
    return np.asarray(np.where(chosen[..., None], result + noise, values), dtype=np.float32)


def _blurred(values: FloatArray, sigma: float) -> FloatArray:
    """(N, H, W, C) under a Gaussian filter, as one product an axis: a wide filter costs no more than a narrow one."""
    from scipy.ndimage import gaussian_filter1d

    down, across = (gaussian_filter1d(np.eye(side, dtype=np.float32), sigma, axis=0) for side in values.shape[1:3])
    return np.asarray(np.tensordot(across, np.tensordot(down, values, (1, 1)), (1, 2)).transpose(2, 1, 0, 3))


def _neighbours(values: FloatArray) -> FloatArray:
    """The mean of the eight neighbours: 1/6 for those beside, 1/12 for those across a corner."""
    padded = np.pad(values, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    height, width = values.shape[1:3]

    def moved(down: int, right: int) -> FloatArray:
        return np.asarray(padded[:, 1 + down : 1 + down + height, 1 + right : 1 + right + width])

    beside = moved(0, 1) + moved(0, -1) + moved(1, 0) + moved(-1, 0)
    across = moved(1, 1) + moved(1, -1) + moved(-1, 1) + moved(-1, -1)
    return np.asarray(beside / 6 + across / 12, dtype=np.float32)


def _together(maps: FloatArray | BoolArray, other: FloatArray | BoolArray) -> None:
    if maps.shape != other.shape or maps.ndim != 3 or not len(maps):
        raise ShapeError(f"Two stacks of maps (N, H, W) of one shape are needed; got {maps.shape} and {other.shape}.")
