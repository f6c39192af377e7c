"""Out-of-distribution detection: another machine, another part of the body, or no scan at all.

A network answers whatever its input. Here a scan is compared with training scans in three views, each by the distance to
its k-th nearest neighbour among them (Sun et al. 2022):

    network   the features under the last layer: whitened principal components, and the length of the remainder, which
              carries most of what is new (Wang et al. 2022)
    layout    the scan at 16 × 16, whatever its brightness and contrast
    tone      histograms of the pixels, and of the steps from a pixel to its neighbours

Features alone are not enough: a network may map noise and photographs onto familiar features. Each distance is in units
of the median one of validation scans, and the largest of the three counts. The threshold comes from calibration subjects.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from scanwise.arrays import check_features
from scanwise.baselines.summaries import area_weights
from scanwise.errors import DataError, RunError, ShapeError
from scanwise.pooling import mean_by, subject_codes
from scanwise.records import BoolArray, FloatArray, IntArray, Logits, ScanNovelty, StrArray, Unit
from scanwise.risk import conformal_quantile, minimum_count

K = 5
"""The neighbour whose distance counts."""
COMPONENTS = 64
"""Principal components of the features, at most."""
LAYOUT = (16, 16)
STEPS = np.array([0, 1, 2, 4, 8, 16, 32, 64, 128])
"""Lower edges of the bins of steps between neighbouring pixels; the first bin holds no step at all."""
GRAYS = 16
"""Bins of gray values."""
MAX_SCANS = 2000
"""Training scans to compare others with; more add little."""
TINY = 1e-6


def appearance_features(pixels: NDArray[np.uint8]) -> FloatArray:
    """(N, P) float32: the appearance of scans (N, H, W, C) without a network; layout first, then tone.

    >>> appearance_features(np.zeros((2, 20, 20, 1), np.uint8)).shape
    (2, 290)
    """
    count, height, width, channels = pixels.shape
    small = np.empty((count, min(LAYOUT[0], height) * min(LAYOUT[1], width)))
    down, across = area_weights(height, min(LAYOUT[0], height)), area_weights(width, min(LAYOUT[1], width))
    tallies = np.empty((count, 2 * len(STEPS) + GRAYS * channels))
    for row, scan in enumerate(pixels):  # one by one: the same bytes beside any others
        gray = sum(scan[:, :, channel].astype(np.float32) for channel in range(channels)) / np.float32(channels)
        small[row] = (across @ (gray.T @ down.T)).T.ravel()
        level = np.rint(gray).astype(np.uint8)
        steps = [_count_steps(level[1:], level[:-1]), _count_steps(level[:, 1:], level[:, :-1])]
        grays = [_count(scan[:, :, channel]).reshape(GRAYS, -1).sum(axis=1) for channel in range(channels)]
        tallies[row] = np.concatenate([*steps, *grays])
    small -= small.mean(axis=1, keepdims=True)
    length = np.linalg.norm(small, axis=1, keepdims=True)
    layout = np.divide(small, length, out=np.zeros_like(small), where=length > TINY)
    sizes = [len(STEPS), len(STEPS), GRAYS * channels]
    whole = np.repeat([(height - 1) * width, height * (width - 1), height * width], sizes)
    shares = np.sqrt(tallies / whole) / np.sqrt(np.repeat([2, 2, channels], sizes))
    return np.concatenate([layout, shares], axis=1).astype(np.float32)


def _count_steps(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> IntArray:
    """(len(STEPS),) number of steps of each size between pixels side by side."""
    steps = _count(np.maximum(first, second) - np.minimum(first, second))
    return np.asarray(np.add.reduceat(steps, STEPS))


def _count(values: NDArray[np.uint8]) -> IntArray:
    """(256,) how often each value is there."""
    return np.bincount(values.ravel(), minlength=256)


def blank_scan_mask(appearance: FloatArray) -> BoolArray:
    """(N,) whether all pixels of a scan are equal, from its appearance (N, P)."""
    moves = appearance[:, np.prod(LAYOUT) :].astype(np.float64)
    return np.asarray((moves[:, [0, len(STEPS)]] ** 2).sum(axis=1) > 1 - TINY)


def representative_rows(subjects: StrArray, most: int = MAX_SCANS) -> IntArray:
    """Rows of at most `most` scans, the same share of each subject and evenly along its scans; always the same ones."""
    if len(subjects) <= most:
        return np.arange(len(subjects))
    codes, names = subject_codes(subjects, len(subjects))
    order = np.argsort(codes, kind="stable")
    each = np.split(order, np.cumsum(np.bincount(codes))[:-1])
    chosen = [each[index] for index in _evenly(len(names), most)]
    share = max(1, most // len(chosen))
    return np.sort(np.concatenate([rows[_evenly(len(rows), share)] for rows in chosen]))


def _evenly(count: int, most: int) -> IntArray:
    return np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)


@dataclass(frozen=True, slots=True)
class WhitenedComponents:
    """Features as whitened principal components, and the length of the remainder.

    Attributes:
        centre: (D,) the mean of training features.
        turn: (P, D) directions of length 1, at right angles.
        spread: (P,) of training features along each, times the root of P.
        rest: the usual length of the remainder.
    """

    centre: FloatArray
    turn: FloatArray
    spread: FloatArray
    rest: float

    @classmethod
    def fit(cls, train: FloatArray, most: int = COMPONENTS) -> Self:
        """Learn from training features (M, D): half of their directions at most, so that there is a remainder."""
        train = check_features(train)
        centre = train.mean(axis=0)
        moved = train - centre
        values, vectors = _principal(moved)
        size = min(most, len(values) // 2)
        spread = np.sqrt(values[:size] / len(train) * max(1, size))
        rest = float(np.sqrt(values[size:].sum() / len(train)))
        floor = TINY * (1 + float(np.linalg.norm(centre)))
        return cls(_single(centre), _single(vectors[:size]), _single(np.maximum(spread, floor)), max(rest, floor))

    def __call__(self, features: FloatArray, one_by_one: bool = True) -> FloatArray:
        """(N, P + 1) coordinates of features (N, D)."""
        given = check_features(features)
        if given.shape[1] != len(self.centre):
            raise ShapeError(f"Expected {len(self.centre)} features a scan; found {given.shape[1]}.")
        moved = given - self.centre.astype(np.float64)
        turn = self.turn.astype(np.float64)
        along = _products(moved, turn, one_by_one)
        back = _products(along, turn.T, one_by_one)
        left = np.linalg.norm(moved - back, axis=1, keepdims=True)
        return np.concatenate([along / self.spread, left / self.rest], axis=1)


def _principal(moved: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Squared singular values, falling, and right singular vectors of (M, D); those of value zero left out."""
    wide = moved.shape[1] > len(moved)
    values, vectors = np.linalg.eigh(moved @ moved.T if wide else moved.T @ moved)
    values, vectors = values[::-1], vectors[:, ::-1]
    kept = values > max(values[0] * 1e-10, TINY**2)
    values, vectors = values[kept], vectors[:, kept]
    return values, (vectors.T @ moved) / np.sqrt(values)[:, None] if wide else vectors.T


@dataclass(frozen=True, slots=True)
class NeighbourReference:
    """Training scans in one view.

    Attributes:
        reference: (M, P) their coordinates.
        usual: the median distance of validation scans, the unit of distances.
    """

    reference: FloatArray
    usual: float

    @classmethod
    def fit(cls, train: FloatArray, validation: FloatArray, one_by_one: bool = True) -> Self:
        kept = _single(train)
        usual = float(np.median(_neighbour_distances(kept, validation, one_by_one)))
        return cls(kept, max(usual, TINY))

    def __call__(self, coordinates: FloatArray, one_by_one: bool = True) -> FloatArray:
        """(N,) distance of coordinates (N, P) to the k-th nearest training scan; 1 is usual."""
        return _neighbour_distances(self.reference, coordinates, one_by_one) / self.usual


def _neighbour_distances(
    reference: FloatArray, coordinates: FloatArray, one_by_one: bool = True, block: int = 1024
) -> FloatArray:
    train = reference.astype(np.float64)
    length, k = (train**2).sum(axis=1), min(K, len(train)) - 1
    nearest = np.empty(len(coordinates))
    for start in range(0, len(coordinates), block):
        scans = coordinates[start : start + block].astype(np.float64)
        squares = length - 2 * _products(scans, train, one_by_one) + (scans**2).sum(axis=1)[:, None]
        nearest[start : start + block] = np.partition(squares, k, axis=1)[:, k]
    return np.sqrt(np.maximum(nearest, 0))


def _products(rows: FloatArray, others: FloatArray, one_by_one: bool) -> FloatArray:
    """(N, M) inner products of rows (N, P) and (M, P).

    One by one, a row has the same products to the last bit beside any others: `einsum` adds up in one order, and BLAS in one
    that depends on the number of rows and of threads.
    """
    if not one_by_one:
        return np.asarray(rows @ others.T)
    products, others = np.empty((len(rows), len(others))), np.ascontiguousarray(others)
    for row, values in enumerate(rows):
        np.einsum("mp,p->m", others, values, out=products[row])
    return products


@dataclass(frozen=True, slots=True)
class AlarmThreshold:
    """A threshold on distances, and its rate of false alarms.

    Attributes:
        threshold: above it a scan, or a subject, is flagged; 1 is a usual distance.
        false_alarm: the largest share of scans (or subjects) like those of the calibration side that is flagged.
        count: number of calibration subjects.
    """

    threshold: float
    false_alarm: float
    count: int

    @classmethod
    def fit(cls, distances: FloatArray, subjects: StrArray, false_alarm: float) -> Self:
        """The conformal quantile, hierarchical where subjects repeat; for a scan of a new subject.

        Where there are too few subjects for this share, it is the smallest that K of them can guarantee, 1 / (K + 1): the
        threshold is then the largest distance among them.
        """
        count = len(np.unique(subjects))
        share = false_alarm if count >= minimum_count(false_alarm) else 1 / (count + 1)
        return cls(max(conformal_quantile(distances, share, subjects), TINY), share, count)


@dataclass(frozen=True, slots=True)
class NoveltyDetector:
    """A detector of scans unlike training; the distance of a subject is the mean over its scans.

    Attributes:
        components: of the network's features.
        views: "network", and with pixels "layout" and "tone".
        thresholds: by unit.
        one_by_one: whether a scan has the same distance, to the last bit, beside any others; not of detectors saved before
            bundles of format 3, which go on giving what they gave.
    """

    components: WhitenedComponents
    views: Mapping[str, NeighbourReference]
    thresholds: Mapping[Unit, AlarmThreshold]
    one_by_one: bool = True

    @classmethod
    def fit(
        cls,
        train: Logits,
        validation: Logits,
        calibration: Logits,
        *,
        false_alarm: float = 0.05,
        one_by_one: bool = True,
    ) -> Self:
        """Keep training scans, learn usual distances on validation scans, and thresholds on calibration subjects.

        Args:
            train: scans that the network learnt from, with features and, best, appearance; see `representative_rows`.
            validation: the same of subjects held out.
            calibration: the same of yet others.
            false_alarm: the share of scans like those of calibration that may be flagged.
            one_by_one: False for a detector that replaces one of the past.

        Raises:
            DataError: if features are missing, or two sides share a subject.
        """
        sides = {"training": train, "validation": validation, "calibration": calibration}
        _check_disjoint(sides)
        components = WhitenedComponents.fit(_features(train))
        by_side = {name: _coordinates(components, side, one_by_one) for name, side in sides.items()}
        views = {
            name: NeighbourReference.fit(by_side["training"][name], by_side["validation"][name], one_by_one)
            for name in by_side["training"]
        }
        unfitted = cls(components, views, {}, one_by_one)
        distances = unfitted.distances(calibration)
        by_subject, names = _mean_by_subject(distances, calibration.subjects)
        thresholds: dict[Unit, AlarmThreshold] = {
            "scan": AlarmThreshold.fit(distances, calibration.subjects, false_alarm),
            "subject": AlarmThreshold.fit(by_subject, names, false_alarm),
        }
        return cls(components, views, thresholds, one_by_one)

    def distances(self, scans: Logits) -> FloatArray:
        """(N,) the largest distance of each scan to training scans; 1 is usual."""
        coordinates = _coordinates(self.components, scans, self.one_by_one)
        if self.views.keys() != coordinates.keys():
            raise DataError(
                f"This detector was fitted on the views {', '.join(self.views)}; these scans have {', '.join(coordinates)}."
            )
        return np.asarray(
            np.max([view(coordinates[name], self.one_by_one) for name, view in self.views.items()], axis=0)
        )

    def measure(self, scans: Logits) -> ScanNovelty:
        """Distance of each scan to training scans, and which hold nothing; features are not needed beyond it."""
        return ScanNovelty(self.distances(scans), _blanks(scans))

    def __call__(self, scans: Logits, measured: ScanNovelty | None = None) -> tuple[FloatArray, BoolArray]:
        """(N,) distance over threshold, and (N,) whether the scan is flagged: above 1, or all its pixels are equal.

        Args:
            scans: (N) with the features and appearance that training scans had.
            measured: of these scans, where it was measured already; then neither is needed.
        """
        novelty = self.measure(scans) if measured is None else measured
        score = novelty.distances / self.thresholds["scan"].threshold
        return score, (score > 1) | novelty.blank

    def by_subject(self, scans: Logits, measured: ScanNovelty | None = None) -> tuple[FloatArray, BoolArray]:
        """The same of each subject, in order of first appearance."""
        novelty = self.measure(scans) if measured is None else measured
        pooled, _ = _mean_by_subject(novelty.distances, scans.subjects)
        empty, _ = _mean_by_subject(novelty.blank.astype(np.float64), scans.subjects)
        score = pooled / self.thresholds["subject"].threshold
        return score, (score > 1) | (empty == 1)

    def save(self, path: Path) -> None:
        """Write a safetensors file, with what is not an array in its header."""
        from safetensors.numpy import save_file

        arrays = {name: getattr(self.components, name) for name in ("centre", "turn", "spread")}
        arrays |= {f"look_{name}": view.reference for name, view in self.views.items()}
        header = {
            "one_by_one": self.one_by_one,
            "rest": self.components.rest,
            "usual": {name: view.usual for name, view in self.views.items()},
            "cuts": {unit: asdict(threshold) for unit, threshold in self.thresholds.items()},
        }
        save_file({name: np.ascontiguousarray(a) for name, a in arrays.items()}, path, {"novelty": json.dumps(header)})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            RunError: if it is missing, or not such a file.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "numpy") as file:
                header = json.loads((file.metadata() or {})["novelty"])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            components = WhitenedComponents(arrays["centre"], arrays["turn"], arrays["spread"], header["rest"])
            views = {name: NeighbourReference(arrays[f"look_{name}"], usual) for name, usual in header["usual"].items()}
            thresholds: dict[Unit, AlarmThreshold] = {
                unit: AlarmThreshold(**values) for unit, values in header["cuts"].items()
            }
            return cls(components, views, thresholds, bool(header.get("one_by_one", False)))
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"{path} is no reference of training scans that can be read ({error!r}). Delete it and run the stage "
                "again with --resume."
            ) from error


def _coordinates(components: WhitenedComponents, scans: Logits, one_by_one: bool) -> dict[str, FloatArray]:
    """Coordinates of scans in every view that they have."""
    coordinates = {"network": components(_features(scans), one_by_one)}
    if scans.appearance is not None:
        size = int(np.prod(LAYOUT))
        coordinates |= {"layout": scans.appearance[:, :size], "tone": scans.appearance[:, size:]}
    return coordinates


def _features(scans: Logits) -> FloatArray:
    if scans.features is None:
        raise DataError(
            "These logits have no features, from which the distance to training is measured. Predict again with features."
        )
    return scans.features


def _blanks(scans: Logits) -> BoolArray:
    return np.zeros(len(scans), dtype=np.bool_) if scans.appearance is None else blank_scan_mask(scans.appearance)


def _mean_by_subject(values: FloatArray, subjects: StrArray) -> tuple[FloatArray, StrArray]:
    codes, names = subject_codes(subjects, len(values))
    return mean_by(values, codes, np.bincount(codes)), names


def _check_disjoint(sides: Mapping[str, Logits]) -> None:
    whose = {name: set(side.subjects.tolist()) for name, side in sides.items()}
    for first, second in (("training", "validation"), ("training", "calibration"), ("validation", "calibration")):
        if shared := whose[first] & whose[second]:
            raise DataError(
                f"{len(shared)} subjects are on the {first} side and on the {second} side; a threshold learnt so would be "
                f"too low. Split by subject. First: {sorted(shared)[:3]}"
            )


def _single(values: FloatArray) -> FloatArray:
    """Values as they are saved, so that a loaded detector gives the same."""
    return np.ascontiguousarray(values, dtype=np.float32)
