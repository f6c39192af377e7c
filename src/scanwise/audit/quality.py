"""Scans that are unreadable, blank, odd in size or mode, out of place, or perhaps mislabelled."""

import math
import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scanwise.audit import label_errors
from scanwise.audit.evidence import AuditFinding, Evidence, ScanSheet, make_finding
from scanwise.audit.subject_statistics import subject_indices
from scanwise.cohort.decoding import slice_names
from scanwise.records import FloatArray, IntArray, StrArray

SHOWN = 12
"""Scans in a picture."""
FEW_LIT = 0.01
"""Share of pixels that differ from the commonest gray value, below which a scan shows next to nothing."""
RARE, COMMON = 0.01, 0.9
"""A value of at most so many scans is odd where another value is that of at least so many."""
REFERENCES = 2000
"""Scans that all others are compared with."""
NEAR = 0.01
"""A scan is out of place where so few of the references are near, so that some strangers do not vouch for each other."""
BLOCK = 4096
FAR = 7.0
"""Robust standard deviations from the usual distance; on four cohorts without strangers the furthest scan lay at 6.1."""
USUAL_LUMINANCE = 3688
"""Sum of the luminance table that JPEG encoders scale by quality (ITU-T T.81, table K.1)."""


def examine(evidence: Evidence) -> list[AuditFinding]:
    """Everything that is wrong with single scans, the plainest first."""
    blank = _blank(evidence)
    found = [_unreadable(evidence), *_empty(evidence, blank), *_odd(evidence), _out_of_place(evidence, blank)]
    return [one for one in found if one is not None] + label_errors.examine(evidence)


def read_file_facts(root: Path, paths: StrArray) -> Mapping[str, NDArray[Any]]:
    """What the headers of the files say; no pixel is decoded.

    Args:
        root: a local folder.
        paths: (N,) below it; slices of one file share its facts.

    Returns:
        `bytes`, `width` and `height` (as a viewer shows them; 0 where unknown), `mode` ("" where unknown) and `format`
        (the file's ending where unknown), `quality` of a JPEG (1 to 100; NaN for others), `has_exif`: each (N,).
    """
    places = [slice_names.locate(root / path)[0] for path in paths.tolist()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # only the header is read
        known = {place: _facts(place) for place in dict.fromkeys(places)}
    names = ("bytes", "width", "height", "mode", "format", "quality", "has_exif")
    kinds = (np.int64, np.int64, np.int64, np.str_, np.str_, np.float64, np.bool_)
    return {
        name: np.array([known[place][index] for place in places], dtype=kind)
        for index, (name, kind) in enumerate(zip(names, kinds, strict=True))
    }


def outlier_scores(evidence: Evidence, shows: IntArray) -> FloatArray:
    """(N,) how many robust standard deviations further than usual each scan is from its neighbours of other people.

    Distance is by correlation, or by correlation and gray values together where that is more.

    Args:
        shows: the rows that show anything; the others are 0, and nothing is compared with them.
    """
    random = np.random.default_rng([evidence.seed, 4])
    references = np.sort(random.choice(shows, min(REFERENCES, len(shows)), replace=False))
    people = subject_indices(evidence)
    by_shape = _beyond_usual(evidence.vectors, references, shows, people)
    by_gray = _beyond_usual(_grays(evidence.pixels), references, shows, people)
    strange = np.zeros(len(evidence))
    strange[shows] = np.maximum(by_shape, (by_shape + by_gray) / 2)[shows]
    return strange


def estimate_jpeg_quality(tables: Mapping[int, list[int]]) -> float:
    """The quality that an encoder was probably set to, from its first quantisation table; below 20 too high by some.

    >>> jpeg_quality({0: [1] * 64})
    99.0
    """
    scale = 100 * sum(tables[min(tables)]) / USUAL_LUMINANCE
    quality = 5000 / scale if scale > 100 else (200 - scale) / 2
    return float(np.clip(np.rint(quality), 1, 100))


def _facts(place: Path) -> tuple[int, int, int, str, str, float, bool]:
    try:
        size = place.stat().st_size
        with Image.open(place) as image:
            has_exif = "exif" in image.info
            lies = has_exif and image.getexif().get(0x0112, 1) >= 5  # orientations 5 to 8 are turned by a quarter
            width, height = image.size[::-1] if lies else image.size
            tables = getattr(image, "quantization", None)
            quality = estimate_jpeg_quality(tables) if tables else math.nan
            return size, width, height, image.mode, image.format or "", quality, has_exif
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # not a picture that Pillow knows
        size = place.stat().st_size if place.is_file() else 0
        return size, 0, 0, "", place.suffix.lower().lstrip("."), math.nan, False


def _unreadable(evidence: Evidence) -> AuditFinding | None:
    if not evidence.quarantine:
        return None
    reasons = Counter(reason.split(":")[0] for _, reason in evidence.quarantine)
    told = "; ".join(f"{count} × {reason}" for reason, count in reasons.most_common(5))
    message = f"{_files(len(evidence.quarantine))} cannot be used: {told}. Repair or remove what is meant to be a scan."
    return make_finding("quality.unreadable", "warning", message, tuple(path for path, _ in evidence.quarantine))


def _files(count: int) -> str:
    return f"{count:,} file{'s' * (count != 1)}"


def _scans(count: int) -> str:
    return f"{count:,} scan{'s' * (count != 1)}"


def _lit(pixels: NDArray[np.uint8]) -> FloatArray:
    """(N,) the share of pixels that differ from the commonest gray value of their scan."""
    share = np.empty(len(pixels))
    for index, scan in enumerate(pixels):
        counts = np.bincount(scan.ravel(), minlength=256)
        common = int(counts.argmax())
        share[index] = 1 - counts[max(0, common - 4) : common + 5].sum() / scan.size
    return share


def _blank(evidence: Evidence) -> FloatArray:
    """(N,) 0 for a blank scan, else the share of its pixels that show something."""
    return np.where(evidence.cohort.pixels == "", 0.0, _lit(evidence.pixels))


def _empty(evidence: Evidence, lit: FloatArray) -> list[AuditFinding]:
    """Blank scans, and scans that show next to nothing."""
    found = []
    blank, faint = np.flatnonzero(lit == 0), np.flatnonzero((lit > 0) & (lit < FEW_LIT))
    if len(blank):
        message = f"{_scans(len(blank))} of one single gray value: no class can be seen there. Remove them."
        found.append(make_finding("quality.blank", "warning", message, evidence.cohort.path[blank]))
    if len(faint):
        faint = faint[np.argsort(lit[faint], kind="stable")]
        message = f"{_scans(len(faint))} with less than {100 * FEW_LIT:g} % of the pixels off the background. Are they needed?"
        captions = tuple(f"{100 * share:.2f} %" for share in lit[faint[:SHOWN]])
        picture = ScanSheet(faint[:SHOWN], captions)
        found.append(make_finding("quality.faint", "warning", message, evidence.cohort.path[faint], picture))
    return found


def _odd(evidence: Evidence) -> list[AuditFinding]:
    """Sizes, modes and formats that few scans have where nearly all have another."""
    files = evidence.files
    looked = {name: files[name].astype(str) for name in ("mode", "format") if name in files}
    if {"width", "height"} <= files.keys():
        size = [f"{w} × {h}" for w, h in zip(files["width"].tolist(), files["height"].tolist(), strict=True)]
        looked = {"size": np.array(size), **looked}
    found = []
    for name, values in looked.items():
        kinds, kind, counts = np.unique(values, return_inverse=True, return_counts=True)
        if counts.max() < COMMON * len(values):
            continue
        odd = np.flatnonzero(counts <= max(1, RARE * len(values)))
        odd = odd[counts[odd] < counts.max()]
        if len(odd):
            rows = np.flatnonzero(np.isin(kind.reshape(-1), odd))
            told = ", ".join(f"{counts[index]} × {kinds[index] or 'unknown'}" for index in odd[:5].tolist())
            more = ", …" if len(odd) > 5 else ""
            message = f"{_scans(len(rows))} of an odd {name}: {told}{more}; {kinds[counts.argmax()]} is usual. Do they belong here?"
            found.append(make_finding(f"quality.{name}", "note", message, evidence.cohort.path[rows]))
    return found


def _out_of_place(evidence: Evidence, lit: FloatArray) -> AuditFinding | None:
    """Scans that are like no other: a chest among brains, a negative, a scan upside down."""
    shows = np.flatnonzero(lit >= FEW_LIT)
    if len(shows) < 20:
        return None
    strange = outlier_scores(evidence, shows)
    far = np.flatnonzero(strange > FAR)
    if not len(far):
        return None
    far = far[np.argsort(-strange[far], kind="stable")]
    message = (
        f"{_scans(len(far))} out of place: further from all others than {FAR:g} times the usual spread. Look whether they show "
        "the same part of the body, upright and not inverted; remove what does not belong."
    )
    picture = ScanSheet(far[:SHOWN], tuple(f"{strange[row]:.1f} spreads away" for row in far[:SHOWN]))
    return make_finding("quality.stranger", "warning", message, evidence.cohort.path[far], picture)


def _beyond_usual(rows: FloatArray, references: IntArray, shows: IntArray, people: IntArray) -> FloatArray:
    """(N,) the logarithm of the distance to the k-th reference, in robust standard deviations above the median."""
    near = min(max(5, math.ceil(NEAR * len(references))), len(references))
    distance = np.empty(len(rows))
    for start in range(0, len(rows), BLOCK):
        alike = rows[start : start + BLOCK] @ rows[references].T
        alike[people[start : start + BLOCK, None] == people[references]] = -np.inf
        distance[start : start + BLOCK] = 1 - np.partition(alike, -near, axis=1)[:, -near]
    known = np.isfinite(distance)  # where nearly all scans are of one person there is nobody to be compared with
    if not known[shows].any():
        return np.zeros(len(rows))
    log = np.log(np.maximum(distance, 1e-6, where=known, out=np.ones(len(rows))))
    usual = log[shows[known[shows]]]
    middle = np.median(usual)
    spread = 1.4826 * np.median(np.abs(usual - middle))
    return np.where(known, (log - middle) / max(spread, 1e-3), 0.0)


def _grays(pixels: NDArray[np.uint8]) -> FloatArray:
    """(N, 32) roots of the shares of gray values: the product of two rows is 1 where they agree (Bhattacharyya)."""
    counts = np.empty((len(pixels), 32), dtype=np.float32)
    for index, scan in enumerate(pixels):
        counts[index] = np.bincount(scan.ravel() >> 3, minlength=32)
    return np.asarray(np.sqrt(counts / counts.sum(axis=1, keepdims=True)))
