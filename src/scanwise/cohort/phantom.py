"""Draw a cohort of synthetic brain slices in which the truth is known, to test what real scans cannot.

A subject has a stage, the stage sets how severe the atrophy is, and severity shows in three measures: ventricles (share
of the head), sulci (width) and cortex (thickness). Neighbouring stages overlap, so even the best classifier errs; how
often is known (`Person.probs`, the oracle). Everything else of a subject (head shape, folds, asymmetry, contrast, pose)
is its own and says nothing about the stage, but is the same on all its slices: a split by scan leaks, a split by
subject does not. Each scan comes with a mask of where its signal is.

A head is drawn in its own frame: the origin in its centre, x to the image's right, y backwards (down), the half length
from front to back = 1. Every tissue is a signed distance in that frame with a ramp at its edge, so one severity more or
less changes no pixel outside the mask.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from scanwise.errors import DataError
from scanwise.records import BoolArray, FloatArray

Plane = NDArray[np.float32]
"""(S, H, W): one value a pixel of each slice."""

Signal = Literal["all", "ventricles"]

MEASURES = ("ventricles", "sulci", "thickness")
RANGES = {
    "ventricles": (0.020, 0.090),  # share of the head's pixels, in the middle slice
    "sulci": (0.010, 0.036),  # half width at the surface, in half lengths of the head
    "thickness": (0.068, 0.042),  # of the cortex, in half lengths of the head: thins with severity
}
STEP = 2.5  # between the mean severities of neighbouring stages, whose own standard deviation is 1
SCATTER = {"ventricles": 0.25, "sulci": 1.0, "thickness": 1.0}  # of each measure around severity, in the same unit
# Ventricles are smaller where they are the whole signal: from 80 pixels up, their mask is below 8 % of the head.
VENTRICLES_ALONE = (0.013, 0.045)
SLOPE = 0.55  # of the curve that takes severity into a measure's range
RIM = RANGES["sulci"][1] + RANGES["thickness"][0]  # no cortex reaches further from a sulcus or the surface


@dataclass(frozen=True, slots=True)
class Phantom:
    """Settings of a synthetic cohort.

    Attributes:
        subjects: people, spread over the stages as evenly as can be.
        slices: neighbouring axial slices of each.
        size: side of the square scans, in pixels.
        stages: class names, healthy first.
        signal: what the stage shows in: all three measures, or the ventricles alone.
        seed: same seed, same bytes.
    """

    subjects: int = 360
    slices: int = 6
    size: int = 96
    stages: tuple[str, ...] = ("nondemented", "verymilddemented", "milddemented", "moderatedemented")
    signal: Signal = "all"
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.stages) < 2 or len(set(self.stages)) < len(self.stages):
            raise DataError(f"A phantom cohort needs two or more stages, each named once; got {self.stages}.")
        if self.subjects < len(self.stages) or self.slices < 1 or self.size < 32:
            raise DataError(
                f"A phantom cohort needs a subject a stage, a slice and 32 pixels; got {self.subjects} subjects for "
                f"{len(self.stages)} stages, {self.slices} slices, {self.size} pixels."
            )


DEMO = Phantom(subjects=600, slices=4, stages=("nondemented", "verymilddemented", "milddemented"))
"""The cohort of `scanwise demo`: a fifth of it is 120 test subjects, of which the oracle gets 85 % right on average."""


@dataclass(frozen=True, slots=True)
class Person:
    """The truth about one subject.

    Attributes:
        name: "s0017".
        number: place in the cohort; with the cohort's seed it decides the anatomy.
        label: index of the stage.
        severity: of the atrophy; stages are `STEP` apart, each with standard deviation 1.
        latents: (3,) severity as each of `MEASURES` shows it.
        measures: ventricles, sulci and thickness as drawn, in the units of `RANGES`.
        probs: (C,) what a classifier that knows `latents` exactly would say: nobody can do better.
    """

    name: str
    number: int
    label: int
    severity: float
    latents: FloatArray
    measures: Mapping[str, float]
    probs: FloatArray


@dataclass(frozen=True, slots=True)
class DrawnBrain:
    """The scans of one subject.

    Attributes:
        pixels: (S, H, W) uint8.
        masks: (S, H, W) where severity shows.
        head: (S, H, W) where the head is.
        ventricles: (S,) share of the head that they take on each slice.
    """

    pixels: NDArray[np.uint8]
    masks: BoolArray
    head: BoolArray
    ventricles: FloatArray


def people(phantom: Phantom) -> list[Person]:
    """Deal the stages and draw each subject's severity and measures."""
    rng = np.random.default_rng([phantom.seed, 0])
    count = len(phantom.stages)
    labels = rng.permutation(np.arange(phantom.subjects) % count)
    severity = stage_means(count)[labels] + rng.standard_normal(phantom.subjects)
    shown = np.repeat(severity[:, None], len(MEASURES), axis=1)
    if phantom.signal == "ventricles":  # the cortex comes from somebody else: as varied, and no news of the stage
        shown[:, 1:] = rng.permutation(severity)[:, None]
    latents = shown + rng.standard_normal(shown.shape) * np.array([SCATTER[name] for name in MEASURES])
    probs = oracle(latents, phantom)
    return [
        Person(f"s{i:04d}", i, int(labels[i]), float(severity[i]), latents[i], measures(latents[i], phantom), probs[i])
        for i in range(phantom.subjects)
    ]


def stage_means(count: int) -> FloatArray:
    """(C,) mean severity of each stage, centred on zero."""
    return STEP * (np.arange(count) - (count - 1) / 2)


def oracle(latents: FloatArray, phantom: Phantom) -> FloatArray:
    """The Bayes classifier: p(stage | latents) under the law that `people` draws from, stages equally frequent.

    Args:
        latents: (N, 3), as in `Person.latents`. Given the stage they are normal, with one covariance for all stages.

    Returns:
        (N, C) probabilities.
    """
    used = slice(0, 1) if phantom.signal == "ventricles" else slice(0, 3)
    scatter = np.array([SCATTER[name] for name in MEASURES[used]])
    precision = np.linalg.inv(np.diag(scatter**2) + 1.0)  # + 1: the severity that the measures share
    gaps = latents[:, None, used] - stage_means(len(phantom.stages))[None, :, None]
    log_probs = -0.5 * np.einsum("nci,ij,ncj->nc", gaps, precision, gaps)
    probs = np.exp(log_probs - log_probs.max(axis=1, keepdims=True))
    return np.asarray(probs / probs.sum(axis=1, keepdims=True))


def ceiling(phantom: Phantom, subjects: Collection[str] | None = None) -> float:
    """Accuracy of the oracle on these subjects (all, if none are named): more than any classifier can hope for.

    Raises:
        DataError: for a name that the cohort does not have.
    """
    persons = {person.name: person for person in people(phantom)}
    wanted = list(persons) if subjects is None else sorted(subjects)
    strangers = [name for name in wanted if name not in persons]
    if strangers or not wanted:
        raise DataError(
            f"The phantom cohort has subjects s0000 to s{phantom.subjects - 1:04d}; got {strangers[:3] or 'none at all'}. "
            "Name subjects as its truth.csv does."
        )
    return float(np.mean([persons[name].probs.argmax() == persons[name].label for name in wanted]))


def measures(latents: FloatArray, phantom: Phantom) -> dict[str, float]:
    """Bring (3,) latents into the ranges of `MEASURES`; each curve is monotone, so that nothing of a latent is lost.

    >>> {name: round(value, 3) for name, value in measures(np.array([9.0, 0.0, -9.0]), Phantom()).items()}
    {'ventricles': 0.089, 'sulci': 0.019, 'thickness': 0.068}
    """
    ranges = RANGES if phantom.signal == "all" else RANGES | {"ventricles": VENTRICLES_ALONE}
    low, high = np.log([ranges[name] for name in MEASURES]).T
    values = np.exp(low + (high - low) / (1 + np.exp(-SLOPE * latents)))
    return dict(zip(MEASURES, values.tolist(), strict=True))


def draw_brain(phantom: Phantom, person: Person) -> DrawnBrain:
    """Render the slices of one subject. Two people that differ in latents alone share all their randomness."""
    rng = np.random.default_rng([phantom.seed, 1, person.number])
    frame = _frame(phantom, rng)
    folds = _folds(frame, rng, person.measures["sulci"], person.measures["thickness"])
    chambers = _ventricle_distance(frame, rng)
    share = person.measures["ventricles"] * (1 - 0.3 * frame.z**2)
    chambers = chambers - _level(chambers, frame, share)[:, None, None]
    tissue = _tissue(frame, folds, chambers, rng)
    masks = chambers < frame.ramp
    if phantom.signal == "all":
        masks |= folds.reach < RIM + frame.ramp
    head = frame.depth > 0
    shown = (chambers <= 0) & head
    return DrawnBrain(
        pixels=_expose(tissue, frame, rng),
        masks=masks & (frame.depth > -frame.ramp),
        head=head,
        ventricles=shown.sum(axis=(1, 2)) / head.sum(axis=(1, 2)),
    )


@dataclass(frozen=True, slots=True)
class _Frame:
    """The pixels of all slices in the head's own frame.

    Attributes:
        x, y: (S, H, W) coordinates. radius, angle: the same in polar form.
        depth: (S, H, W) below the surface of the brain; negative outside.
        z: (S,) height of each slice, -1 to 1.
        pixel: side of a pixel.
        ramp: half width of the edge between two tissues, about the resolution of the scanner.
    """

    x: Plane
    y: Plane
    radius: Plane
    angle: Plane
    depth: Plane
    z: NDArray[np.float32]
    pixel: float
    ramp: float


def _frame(phantom: Phantom, rng: np.random.Generator) -> _Frame:
    """Pose and head shape."""
    even = np.linspace(-0.8, 0.8, phantom.slices) if phantom.slices > 1 else np.zeros(1)
    z = (even + rng.uniform(-0.2, 0.2)).astype(np.float32)
    scale = 0.5 * phantom.size * rng.uniform(0.68, 0.88)
    centre = ((phantom.size - 1) / 2 + phantom.size * rng.uniform(-0.05, 0.05, 2)).tolist()
    tilt = math.radians(rng.uniform(-12, 12))
    rows, columns = np.mgrid[: phantom.size, : phantom.size].astype(np.float32)
    across, down = (columns - centre[0]) / scale, (rows - centre[1]) / scale
    swell = (1 - 0.03 * z - 0.02 * z**2)[:, None, None]  # the head narrows a little towards the crown
    x = (across * math.cos(tilt) + down * math.sin(tilt))[None] / swell
    y = (down * math.cos(tilt) - across * math.sin(tilt))[None] / swell
    x, y = x.astype(np.float32), y.astype(np.float32)
    radius, angle = np.hypot(x, y) + np.float32(1e-4), np.arctan2(y, x)
    width, egg = rng.uniform(0.78, 0.90), rng.uniform(0.03, 0.14)
    relative = np.hypot(x / (width * (1 + egg * np.clip(y, -1, 1))), y)
    for k in range(2, 7):
        relative = relative * (1 - rng.normal(0, 0.012) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)))
    depth = radius / relative - radius
    ramp = rng.uniform(0.5, 0.8) / scale
    return _Frame(x, y, radius, angle, depth.astype(np.float32), z, 1 / scale, ramp)


@dataclass(frozen=True, slots=True)
class _Folds:
    """The cortex.

    Attributes:
        fluid: (S, H, W) signed distance to the fluid in the sulci; negative inside.
        cortex: (S, H, W) signed distance to gray matter (with the fluid).
        reach: (S, H, W) distance to the surface or the nearest line of a sulcus, whatever its width.
    """

    fluid: Plane
    cortex: Plane
    reach: Plane


def _folds(frame: _Frame, rng: np.random.Generator, half_width: float, thickness: float) -> _Folds:
    """Two families of sulci that run inward from the surface, and the fissure between the hemispheres."""
    families = [
        _sulci(frame, rng, count=int(rng.integers(20, 26)), shallow=0.08, deep=0.30),
        _sulci(frame, rng, count=int(rng.integers(9, 13)), shallow=0.15, deep=0.42),
        _fissure(frame, rng),
    ]
    line = np.minimum.reduce(families)
    taper = np.clip(1 - 1.2 * np.maximum(frame.depth, 0), 0.4, 1)  # a sulcus closes with depth
    fluid = line - half_width * taper
    return _Folds(fluid, np.minimum(fluid, frame.depth) - thickness, np.minimum(line, frame.depth))


def _sulci(frame: _Frame, rng: np.random.Generator, count: int, shallow: float, deep: float) -> Plane:
    """Distance to the nearest of `count` meandering lines, each with a depth of its own."""
    warp = 1.1 * _meander(frame, rng)
    phase = count * frame.angle + warp
    along_y, along_x = np.gradient(warp, axis=(1, 2))
    slope = np.hypot(
        along_x / frame.pixel - count * frame.y / frame.radius**2,
        along_y / frame.pixel + count * frame.x / frame.radius**2,
    )
    nearest = np.rint(phase / (2 * np.pi))
    aside = np.abs(phase - 2 * np.pi * nearest) / slope
    reach = rng.uniform(shallow, deep, count)
    ends = (reach + 0.04 * np.sin(2 * frame.z[:, None] + rng.uniform(0, 6, count))).astype(np.float32)
    slice_index = np.arange(len(frame.z))[:, None, None]
    beyond = np.maximum(frame.depth - ends[slice_index, nearest.astype(np.int64) % count], 0)
    return np.asarray(np.hypot(aside, beyond), dtype=np.float32)


def _meander(frame: _Frame, rng: np.random.Generator) -> Plane:
    """Smooth noise over angle, radius and height, about one in size, that repeats after a full turn."""
    from scipy.ndimage import gaussian_filter, map_coordinates

    angles, radii = 96, 20
    grid = rng.standard_normal((len(frame.z) + 8, radii, angles)).astype(np.float32)
    grid = gaussian_filter(grid, (3.0, 1.5, 2.2), mode=("nearest", "nearest", "wrap"))[4 : 4 + len(frame.z)]
    grid /= grid.std()
    offset = np.empty((3, *frame.x.shape), dtype=np.float32)
    offset[0] = np.arange(len(frame.z))[:, None, None]
    offset[1] = frame.radius * (radii - 1) / 1.1
    offset[2] = (frame.angle / (2 * np.pi) % 1) * angles
    wrapped = np.concatenate([grid, grid[:, :, :1]], axis=2)
    noise: Plane = map_coordinates(wrapped, offset, order=1, mode="nearest", prefilter=False)
    return noise


def _fissure(frame: _Frame, rng: np.random.Generator) -> Plane:
    """Distance to the midline cleft, in front of and behind the corpus callosum."""
    bend = rng.normal(0, 0.012, 3).tolist()
    middle = bend[0] * np.sin(7 * frame.y + bend[1] * 100) + bend[2] * frame.y
    front, back = rng.uniform(0.50, 0.58), rng.uniform(0.45, 0.56)
    beyond = np.maximum(np.minimum(frame.y + front, back - frame.y), 0)
    return np.asarray(np.hypot(frame.x - middle, beyond), dtype=np.float32)


def _ventricle_distance(frame: _Frame, rng: np.random.Generator) -> Plane:
    """Signed distance to the two lateral ventricles at a reference size: frontal horn, body, occipital horn."""
    z = frame.z[:, None, None]
    gap, front, back = rng.uniform(0.055, 0.085), rng.uniform(0.45, 0.85), rng.uniform(0.4, 0.8)
    ahead, behind = rng.uniform(0.34, 0.44), rng.uniform(0.22, 0.34)
    shift = rng.normal(0, 0.015, 2).tolist()
    sides = []
    for side in (-1, 1):
        lean, fat = rng.normal(1, 0.08, 2).tolist()
        start, end = -ahead * lean, (behind - 0.06 * z) * lean
        near = np.clip(frame.y - shift[1], start, end)
        bow = np.where(near < 0, front, back * (1 - 0.3 * z)) * near**2
        stem = side * (gap + bow) + shift[0]
        slant = np.sqrt(1 + (2 * np.where(near < 0, front, back) * near) ** 2)
        plump = 0.05 + 0.015 * fat * np.cos(8 * (near + 0.16)) + rng.normal(0, 0.006)
        sides.append(np.hypot((frame.x - stem) / slant, frame.y - shift[1] - near) - plump)
    wall = 0.012 - np.abs(frame.x - shift[0])  # the septum between the two
    return np.asarray(np.maximum(np.minimum(sides[0], sides[1]), wall), dtype=np.float32)


def _level(distance: Plane, frame: _Frame, share: FloatArray) -> NDArray[np.float32]:
    """(S,) the distance up to which just this share of the head is ventricle: sizes are exact, not hoped for."""
    inside = frame.depth > 0
    return np.array([np.quantile(d[h], s) for d, h, s in zip(distance, inside, share, strict=True)], dtype=np.float32)


def _tissue(frame: _Frame, folds: _Folds, ventricles: Plane, rng: np.random.Generator) -> Plane:
    """Brightness of what is where, white matter = 1, before the scanner."""
    gray, fluid = rng.uniform(0.56, 0.70), rng.uniform(0.10, 0.24)
    nuclei = _nuclei(frame, rng)
    image = np.ones_like(frame.x)
    for distance, value in ((nuclei, (1 + gray) / 2), (folds.cortex, gray), (folds.fluid, fluid), (ventricles, fluid)):
        cover = np.clip(0.5 - distance / (2 * frame.ramp), 0, 1)
        image += cover * (value - image)
    return image


def _nuclei(frame: _Frame, rng: np.random.Generator) -> Plane:
    """Signed distance to caudate and thalamus, which fade towards the crown."""
    spots = []
    for side in (-1, 1):
        for x, y, a, b in ((0.24, -0.22, 0.06, 0.15), (0.19, 0.10, 0.09, 0.13)):
            jitter = rng.normal(0, 0.015, 2).tolist()
            ring = np.hypot((frame.x - side * x - jitter[0]) / a, (frame.y - y - jitter[1]) / b)
            spots.append((ring - 1) * a)
    return np.asarray(np.minimum.reduce(spots) + 0.06 * (frame.z[:, None, None] + 0.4), dtype=np.float32)


def _expose(tissue: Plane, frame: _Frame, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Add what a scanner does: uneven field, gain, contrast, noise; black outside the head."""
    tilt, gain, gamma = rng.normal(0, 0.10, 5).tolist(), rng.uniform(0.60, 0.98), rng.uniform(0.8, 1.3)
    x, y = frame.x, frame.y
    field = 1 + tilt[0] * x + tilt[1] * y + tilt[2] * x * y + tilt[3] * (x**2 - y**2) + tilt[4] * (x**2 + y**2 - 0.5)
    noise = rng.standard_normal(tissue.shape, dtype=np.float32) * rng.uniform(0.015, 0.035)
    bright = gain * np.clip(field, 0.5, 1.5) * np.maximum(tissue, 0) ** gamma + noise
    cover = np.clip(0.5 + frame.depth / (2 * frame.ramp), 0, 1)
    return np.asarray(np.rint(255 * np.clip(bright * cover, 0, 1)), dtype=np.uint8)
