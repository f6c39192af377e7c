"""Augmented copies: one scan flipped, turned, shifted, zoomed, brightened or saved again, standing elsewhere.

Found by what scans show in one common pose, and believed only after the two were laid over each other: an aligned copy
explains nearly all detail of its origin. Neighbouring slices of a person come near to that as well, but they lie alike
already; so the more a scan had to be moved, the less it must explain. Different people do not come near.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from scanwise import registration
from scanwise.audit.duplicates import ALIKE
from scanwise.audit.evidence import Evidence, Matches, Noted, Pairs, note
from scanwise.records import BoolArray, FloatArray, IntArray, Severity, StrArray

SIDE = 48
"""Of canonical pictures; half of that on the first try."""
COMPONENTS = 256
CANDIDATES = 6
"""Scans that each one is laid over, of all or of another side; of its own side half of that."""
SAME = 0.99
"""What a scan must explain of another that lies just so; neighbouring slices of the public MRI set reach 0.962."""
PER_PIXEL = 0.04
"""By how much less, for each of 104 pixels that it had to be moved …"""
LEAST = 0.8
"""… down to this; different people of the public MRI set reach 0.754, and of copies that were cut, noised and saved at low
quality 1 % lie below 0.874."""
COARSE = 0.88
"""The same on the first try at half the resolution, on which everything explains more."""
WORSE, SLACK = 2.5, 0.005
"""By how much more may be unexplained than in the best pair of a scan."""
TRIES = 3
"""Candidates of each scan that are tried in full."""
BLOCK = 512
"""Pairs laid over each other at once."""
SHOWN = 24
"""Pairs in a picture."""
CORNERS = np.array([[-0.4, -0.4, 0.4, 0.4], [-0.4, 0.4, -0.4, 0.4]], dtype=np.float32)
"""Canonical places near the edge of the subject, whose way tells how far a scan was moved."""
MIRRORS = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]], dtype=np.float32)
"""Signs of the four kinds of symmetry: as it is, mirrored sideways, upside down, both."""


def find(pixels: NDArray[np.uint8], sides: StrArray | None = None) -> Matches:
    """The pairs of scans that are one under a flip, a rotation, a shift, a zoom and any change of intensity.

    Args:
        pixels: (N, S, S) thumbnails.
        sides: (N,) the side of each scan; candidates are then sought on the own side and on the others.
    """
    shown = np.flatnonzero(pixels.reshape(len(pixels), -1).min(axis=1) < pixels.reshape(len(pixels), -1).max(axis=1))
    if len(shown) < 2:
        return _none()
    scans = _Posed.of(pixels[shown])
    sides = None if sides is None else sides[shown]
    rows, mirrors = _candidates(scans, sides)
    found = _verified(scans, rows, mirrors, sides)
    return replace(found, rows=shown[found.rows])


def examine(evidence: Evidence) -> list[Noted]:
    """Copies on two sides, under two labels, and within one side; what `duplicates` has found is left to it."""
    known = evidence.cohort
    side = evidence.split.side if evidence.split is not None else known.given
    found = find(evidence.pixels, side) if evidence.copies is None else evidence.copies
    found = found.take(np.argsort(-found.likeness, kind="stable"))
    one, other = found.rows.T
    alike = np.einsum("pd,pd->p", evidence.vectors[one], evidence.vectors[other])
    doubles = ((known.pixels[one] == known.pixels[other]) & (known.pixels[one] != "")) | (alike >= ALIKE)
    found = found.take(~doubles)
    one, other = found.rows.T
    nowhere = np.zeros(len(found), dtype=np.bool_)
    across = nowhere if side is None else (side[one] != side[other]) & (side[one] != "") & (side[other] != "")
    torn = (known.labels[one] != known.labels[other]) & ~across
    cases: tuple[tuple[str, Severity, BoolArray, str], ...] = (
        (
            "sides",
            "leak",
            across,
            "on another side of the split. Keep copies on the side of their origin, or leave them out.",
        ),
        ("labels", "warning", torn, "under another label. One of the labels is wrong: look, or remove both."),
        (
            "within",
            "warning" if side is None else "note",
            ~across & ~torn,
            "among the rest. They are no further people: whoever splits must keep them with their origin.",
        ),
    )
    return [
        _noted(evidence, found.take(here), name, severity, told) for name, severity, here, told in cases if here.any()
    ]


def _noted(evidence: Evidence, found: Matches, name: str, severity: Severity, where: str) -> Noted:
    known = evidence.cohort
    side = evidence.split.side if evidence.split is not None else known.given
    rows = np.unique(found.rows)
    message = (
        f"{len(rows):,} scans in {len(found):,} pairs are one scan flipped, turned, zoomed, brightened or saved again, "
        f"with its copy {where}"
    )
    shown = found.take(np.arange(min(SHOWN, len(found))))

    def called(row: int) -> str:
        sided = "" if side is None else str(side[row])
        return f"{sided} {known.classes[known.labels[row]]} {known.path[row].rpartition('/')[2]}".strip()

    captions = tuple(
        f"{called(one)} = {called(other)}, {told(shown, pair)}" for pair, (one, other) in enumerate(shown.rows.tolist())
    )
    return note(f"copies.{name}", severity, message, known.path[rows], Pairs(shown.rows, captions))


def told(found: Matches, pair: int) -> str:
    """What was done to one scan of a pair to make the other: "mirrored, turned by 12°, zoomed by 1.10"."""
    linear = found.transform[pair, :, :2].astype(np.float64)
    size = float(np.linalg.det(linear))
    left, _, right = np.linalg.svd(linear * np.array([1.0, np.sign(size)]))
    turn = left @ right
    angle = float(np.degrees(np.arctan2(turn[1, 0], turn[0, 0])))
    zoom = abs(size) ** 0.5
    words = ["mirrored"] if size < 0 else []
    words += [f"turned by {angle:.0f}°"] if abs(angle) >= 1 else []
    words += [f"zoomed by {zoom:.2f}"] if abs(zoom - 1) >= 0.01 else []
    return ", ".join(words) or "hardly moved"


@dataclass(frozen=True, slots=True)
class _Posed:
    """Scans at half the size, with what finds and aligns them.

    Attributes:
        small: (N, S, S) uint8, softened.
        masks: (N, S, S) where the subject is.
        poses: (N, 2, 3) from the canonical frame to pixels of `small`.
        boxes: (N, 4) of `registration.frames`.
        vectors: (N, D) rows of length 1, whose product tells how alike two scans are in one pose.
        signs: (4, D) what each of `MIRRORS` makes of them.
    """

    small: NDArray[np.uint8]
    masks: BoolArray
    poses: FloatArray
    boxes: FloatArray
    vectors: FloatArray
    signs: FloatArray

    @classmethod
    def of(cls, pixels: NDArray[np.uint8]) -> "_Posed":
        masks = registration.foreground(pixels)
        poses = registration.poses(pixels, masks)
        vectors, signs = _symmetric(registration.pictures(pixels, poses, SIDE))
        half = np.concatenate([poses[:, :, :2] / 2, (poses[:, :, 2:] - 0.5) / 2], axis=2)
        small = _halved(pixels)
        return cls(small, masks, half, registration.frames(small), vectors, signs)

    def picture(self, rows: IntArray, poses: FloatArray, side: int) -> FloatArray:
        return registration.sample(self.small[rows].astype(np.float32), poses, registration.grid(side))

    def mask(self, rows: IntArray, poses: FloatArray, side: int) -> BoolArray:
        return registration.sample(self.masks[rows].astype(np.float32), poses, registration.grid(side)) > 0.5


def _halved(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(N, S // 2, S // 2), each pixel the mean of a softened 2 × 2."""
    from scipy.ndimage import gaussian_filter

    side = pixels.shape[1] // 2
    small = np.empty((len(pixels), side, side), dtype=np.uint8)
    for start in range(0, len(pixels), BLOCK):
        block = pixels[start : start + BLOCK, : 2 * side, : 2 * side].astype(np.float32)
        soft = gaussian_filter(block, (0, 0.8, 0.8), truncate=2.5).reshape(-1, side, 2, side, 2).mean(axis=(2, 4))
        small[start : start + BLOCK] = np.rint(soft)
    return small


def _symmetric(pictures: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Principal components that a mirror changes in sign alone: (N, D) rows of length 1 and (4, D) signs.

    A picture is the sum of four, each even or odd sideways and upright, and each with components of its own. Large
    components weigh less (the fourth root of their variance is taken from each), or all scans would look alike.
    """
    from scipy.linalg import eigh

    half = SIDE // 2
    square = pictures.reshape(-1, SIDE, SIDE)
    a, b = square[:, :half, :half], square[:, :half, : half - 1 : -1]
    c, d = square[:, : half - 1 : -1, :half], square[:, : half - 1 : -1, : half - 1 : -1]
    folded = [(signs[:, None, None, None] * np.stack([a, b, c, d])).sum(axis=0) / 2 for signs in MIRRORS]
    some = slice(None, None, -(-len(pictures) // 10_000))
    powers, axes, kinds = [], [], []
    for kind, part in enumerate(folded):
        flat = part[some].reshape(-1, half * half)
        power, axis = eigh(flat.T @ flat / len(flat), subset_by_index=(half * half - COMPONENTS, half * half - 1))
        powers.append(power)
        axes.append(axis.astype(np.float32))
        kinds.append(np.full(len(power), kind))
    power, kind_of = np.concatenate(powers), np.concatenate(kinds)
    kept = np.argsort(-power)[: min(COMPONENTS, len(pictures))]
    weight = np.maximum(power, 1e-6 * power.max()) ** -0.25
    turned = [part.reshape(len(part), -1) @ axis for part, axis in zip(folded, axes, strict=True)]
    vectors = (np.concatenate(turned, axis=1) * weight.astype(np.float32))[:, kept]
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)
    return vectors, MIRRORS[:, kind_of[kept]]


def _candidates(scans: _Posed, sides: StrArray | None) -> tuple[IntArray, IntArray]:
    """(P, 2) pairs that look alike, and which of `MIRRORS` the second one needs."""
    everyone = np.arange(len(scans.vectors))
    groups = [everyone] if sides is None else [np.flatnonzero(sides == side) for side in np.unique(sides)]
    asked = [
        (one, other, CANDIDATES if one is not other or sides is None else CANDIDATES // 2)
        for one in groups
        for other in groups
    ]
    rows, mirrors, values = (np.concatenate(part) for part in zip(*(_alike(scans, *ask) for ask in asked), strict=True))
    order = np.argsort(-values, kind="stable")
    rows, mirrors = np.sort(rows[order], axis=1), mirrors[order]  # a mirror is its own inverse
    first = np.unique(rows @ np.array([len(everyone), 1]), return_index=True)[1]
    return rows[first], mirrors[first]


def _alike(scans: _Posed, one: IntArray, other: IntArray, count: int) -> tuple[IntArray, IntArray, FloatArray]:
    """The best `count` of `other` for each of `one`: pairs, mirrors and likeness."""
    found = [
        registration.neighbours(scans.vectors[one] * signs, scans.vectors[other], count + 1) for signs in scans.signs
    ]
    places = np.concatenate([other[place] for place, _ in found], axis=1)
    values = np.concatenate([value for _, value in found], axis=1)
    mirrors = np.repeat(np.arange(4), found[0][0].shape[1])
    values = np.where(places == one[:, None], -np.inf, values)
    best = np.argsort(-values, axis=1, kind="stable")[:, :count]
    value = np.take_along_axis(values, best, axis=1)
    kept = np.isfinite(value)
    pairs = np.stack([np.repeat(one, best.shape[1]), np.take_along_axis(places, best, axis=1).reshape(-1)], axis=1)
    return pairs[kept.reshape(-1)], mirrors[best][kept], value[kept]


def _verified(scans: _Posed, rows: IntArray, mirrors: IntArray, sides: StrArray | None) -> Matches:
    """Of these pairs those that are one scan; each scan is tried in full with its most promising partners alone."""
    begun = scans.poses[rows[:, 1]].copy()
    begun[:, :, :2] *= MIRRORS[mirrors][:, None, [2, 1]]  # signs of y and x
    coarse = _laid(scans, rows, begun, SIDE // 2, 4)
    hopeful = coarse.likeness >= _needed(coarse.moved, COARSE)
    across = np.zeros(len(rows), dtype=np.bool_) if sides is None else sides[rows[:, 0]] != sides[rows[:, 1]]
    hopeful &= _rank(coarse, hopeful, across) < TRIES
    rows, begun = rows[hopeful], _second_poses(scans, coarse.take(hopeful))
    fine = _laid(scans, rows, begun, SIDE, 5)
    believed = fine.likeness >= _needed(fine.moved, LEAST)
    fine = fine.take(believed)
    return _in_thumbnails(fine.take(_nearly_best(fine)))


def _needed(moved: FloatArray, least: float) -> FloatArray:
    """What a pair must explain, by how far one was moved."""
    return np.asarray(np.maximum(SAME - PER_PIXEL * moved, LEAST))


def _nearly_best(found: Matches) -> BoolArray:
    """(P,) whether a pair is among the best of one of its scans: a copy of the neighbouring slice is not, where the origin is."""
    left = 1 - found.likeness
    kept = np.zeros(len(found), dtype=np.bool_)
    for column in (0, 1):
        least = np.full(int(found.rows.max(initial=0)) + 1, np.inf)
        np.minimum.at(least, found.rows[:, 0], left)
        np.minimum.at(least, found.rows[:, 1], left)
        kept |= left <= WORSE * least[found.rows[:, column]] + SLACK
    return kept


def _rank(found: Matches, hopeful: BoolArray, across: BoolArray) -> IntArray:
    """(P,) the lower of the places that a pair takes among the hopeful pairs of its two scans, across sides or not."""
    value = np.where(hopeful, found.likeness, -np.inf)
    best = np.full(len(found), len(found))
    for column in (0, 1):
        scan = 2 * found.rows[:, column] + across
        order = np.lexsort((-value, scan))
        start = np.flatnonzero(np.diff(scan[order], prepend=-1))
        place = np.arange(len(order)) - np.repeat(start, np.diff(np.append(start, len(order))))
        best[order] = np.minimum(best[order], place)
    return best


def _laid(scans: _Posed, rows: IntArray, begun: FloatArray, side: int, iterations: int) -> Matches:
    """The second scan of each pair laid over the first; transforms are between scans of half the size."""
    likeness, moved = np.empty(len(rows)), np.empty(len(rows))
    transform = np.empty((len(rows), 2, 3), dtype=np.float32)
    for start in range(0, len(rows), BLOCK):
        block = slice(start, start + BLOCK)
        one, other = rows[block].T
        own = scans.poses[one]
        fixed = scans.picture(one, own, side)
        aligned = registration.align(
            fixed,
            scans.small[other].astype(np.float32),
            begun[block],
            iterations,
            boxes=scans.boxes[other],
            shown=registration.inside(scans.boxes[one], own, registration.grid(side)),
        ).poses
        both = scans.mask(one, own, side) & scans.mask(other, aligned, side)
        likeness[block] = registration.explained(fixed, scans.picture(other, aligned, side), both)
        moved[block] = 2 * np.linalg.norm(_at(own) - _at(aligned), axis=1).max(axis=1)
        transform[block] = _between(own, aligned)
    return Matches(rows, likeness, moved, transform)


def _at(poses: FloatArray) -> FloatArray:
    return np.asarray(poses[:, :, :2] @ CORNERS + poses[:, :, 2:])


def _between(own: FloatArray, other: FloatArray) -> FloatArray:
    """(B, 2, 3) from where one pose leads to where the other one does."""
    linear = other[:, :, :2] @ np.linalg.inv(own[:, :, :2])
    return np.concatenate([linear, other[:, :, 2:] - linear @ own[:, :, 2:]], axis=2)


def _second_poses(scans: _Posed, found: Matches) -> FloatArray:
    own, linear = scans.poses[found.rows[:, 0]], found.transform[:, :, :2]
    return np.concatenate([linear @ own[:, :, :2], linear @ own[:, :, 2:] + found.transform[:, :, 2:]], axis=2)


def _in_thumbnails(found: Matches) -> Matches:
    """Transforms between thumbnails, of those between scans of half the size."""
    linear, shift = found.transform[:, :, :2], 2 * found.transform[:, :, 2:] + 0.5
    shift = shift - 0.5 * linear.sum(axis=2, keepdims=True)
    return replace(found, transform=np.concatenate([linear, shift], axis=2))


def _none() -> Matches:
    return Matches(np.empty((0, 2), dtype=np.int64), np.empty(0), np.empty(0), np.empty((0, 2, 3), dtype=np.float32))
