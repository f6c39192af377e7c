"""Image quality: scans that are unreadable, blank, of an unusual size or mode, outliers, or probably mislabelled."""

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scanwise.auditing import label_errors
from scanwise.auditing.evidence import AuditFinding, Evidence, ScanSheet, make_finding
from scanwise.auditing.subject_statistics import subject_indices
from scanwise.cohort.decoding import slice_names
from scanwise.cohort.decoding.pictures import open_picture
from scanwise.cohort.decoding.pixels import open_file
from scanwise.phrases import count_of
from scanwise.records import FloatArray, IntArray, StrArray

SHOWN = 12
"""Scans in a picture."""
FAINT = 0.01
"""Share of pixels unlike the most frequent gray value, below which a scan is nearly blank."""
RARE, COMMON = 0.01, 0.9
"""A value is unusual where at most the first share of scans have it, and at least the second share have another one."""
REFERENCES = 2000
"""Scans, drawn at random, that all scans are compared with."""
NEIGHBOUR_SHARE = 0.01
"""Rank of the neighbour whose distance counts, as a share of the references: a few outliers of a kind are still outliers."""
BLOCK = 4096
OUTLIER = 7.0
"""Robust standard deviations above the median distance; on four cohorts without foreign scans the furthest lay at 6.1."""
USUAL_LUMINANCE = 3688
"""Sum of the luminance table that JPEG encoders scale by quality (ITU-T T.81, table K.1)."""


def examine(evidence: Evidence) -> list[AuditFinding]:
    """Faults of single scans: unreadable, blank, unusual, outliers, probable label errors."""
    visible = _visible_share(evidence)
    findings = [_unreadable(evidence), *_blank(evidence, visible), *_unusual(evidence), _outliers(evidence, visible)]
    return [item for item in findings if item is not None] + label_errors.examine(evidence)


def read_file_facts(root: Path, paths: StrArray) -> Mapping[str, NDArray[Any]]:
    """Facts from the headers of the files; no pixel is decoded.

    Args:
        root: a local folder.
        paths: (N,) below it; slices of one file share its facts.

    Returns:
        `bytes`, `width` and `height` (as a viewer shows them; 0 where unknown), `mode` ("" where unknown) and `format`
        (the file's ending where unknown), `quality` of a JPEG (1 to 100; NaN for others), `has_exif`: each (N,).
    """
    files = [slice_names.split_slice(root / path)[0] for path in paths.tolist()]
    facts = {file: _read_header(file) for file in dict.fromkeys(files)}
    names = ("bytes", "width", "height", "mode", "format", "quality", "has_exif")
    kinds = (np.int64, np.int64, np.int64, np.str_, np.str_, np.float64, np.bool_)
    return {
        name: np.array([facts[file][index] for file in files], dtype=kind)
        for index, (name, kind) in enumerate(zip(names, kinds, strict=True))
    }


def outlier_scores(evidence: Evidence, shows: IntArray) -> FloatArray:
    """(N,) distance of each scan from its neighbours of other subjects, in robust standard deviations above the median.

    Distance is by correlation, or the mean of correlation and gray values where that is more.

    Args:
        evidence: the scans.
        shows: rows of scans that are not blank; the others get 0, and nothing is compared with them.
    """
    random = np.random.default_rng([evidence.seed, 4])
    references = np.sort(random.choice(shows, min(REFERENCES, len(shows)), replace=False))
    people = subject_indices(evidence)
    by_shape = _excess_distance(evidence.vectors, references, shows, people)
    by_gray = _excess_distance(_gray_histograms(evidence.pixels), references, shows, people)
    scores = np.zeros(len(evidence))
    scores[shows] = np.maximum(by_shape, (by_shape + by_gray) / 2)[shows]
    return scores


def estimate_jpeg_quality(tables: Mapping[int, list[int]]) -> float:
    """The probable quality setting of the encoder, from its first quantisation table; overestimated below 20.

    >>> estimate_jpeg_quality({0: [1] * 64})
    99.0
    """
    scale = 100 * sum(tables[min(tables)]) / USUAL_LUMINANCE
    quality = 5000 / scale if scale > 100 else (200 - scale) / 2
    return float(np.clip(np.rint(quality), 1, 100))


def _read_header(file: Path) -> tuple[int, int, int, str, str, float, bool]:
    try:
        size = file.stat().st_size
        with open_file(file) as stream, open_picture(stream) as image:
            has_exif = "exif" in image.info
            sideways = has_exif and image.getexif().get(0x0112, 1) >= 5  # orientations 5 to 8 are turned by a quarter
            width, height = image.size[::-1] if sideways else image.size
            tables = getattr(image, "quantization", None)
            quality = estimate_jpeg_quality(tables) if tables else math.nan
            return size, width, height, image.mode, image.format or "", quality, has_exif
    except Exception:  # noqa: BLE001 - not a picture, or one whose header leads Pillow astray
        size = file.stat().st_size if file.is_file() else 0
        return size, 0, 0, "", file.suffix.lower().lstrip("."), math.nan, False


def _unreadable(evidence: Evidence) -> AuditFinding | None:
    if not evidence.quarantine:
        return None
    reasons = Counter(reason.split(":")[0] for _, reason in evidence.quarantine)
    listed = "; ".join(f"{count} × {reason}" for reason, count in reasons.most_common(5))
    message = (
        f"{count_of(len(evidence.quarantine), 'file')} {'is' if len(evidence.quarantine) == 1 else 'are'} not used: {listed}. Repair "
        "or remove those meant as scans."
    )
    return make_finding("quality.unreadable", "warning", message, tuple(path for path, _ in evidence.quarantine))


def _foreground_share(pixels: NDArray[np.uint8]) -> FloatArray:
    """(N,) the share of pixels that differ from the most frequent gray value of their scan."""
    share = np.empty(len(pixels))
    for index, scan in enumerate(pixels):
        counts = np.bincount(scan.ravel(), minlength=256)
        common = int(counts.argmax())
        share[index] = 1 - counts[max(0, common - 4) : common + 5].sum() / scan.size
    return share


def _visible_share(evidence: Evidence) -> FloatArray:
    """(N,) 0 for a blank scan, else the share of its pixels that show something."""
    return np.where(evidence.cohort.pixels == "", 0.0, _foreground_share(evidence.pixels))


def _blank(evidence: Evidence, visible: FloatArray) -> list[AuditFinding]:
    """Blank scans, and nearly blank ones."""
    findings = []
    blank, faint = np.flatnonzero(visible == 0), np.flatnonzero((visible > 0) & (visible < FAINT))
    if len(blank):
        message = f"{count_of(len(blank), 'scan')} of one single gray value: no class can be seen there. Remove them."
        findings.append(make_finding("quality.blank", "warning", message, evidence.cohort.path[blank]))
    if len(faint):
        faint = faint[np.argsort(visible[faint], kind="stable")]
        message = (
            f"{count_of(len(faint), 'scan')} nearly blank: less than {100 * FAINT:g} % of the pixels differ from the "
            "background. Remove them if they are not needed."
        )
        captions = tuple(f"{100 * share:.2f} %" for share in visible[faint[:SHOWN]])
        sheet = ScanSheet(faint[:SHOWN], captions)
        findings.append(make_finding("quality.faint", "warning", message, evidence.cohort.path[faint], sheet))
    return findings


def _unusual(evidence: Evidence) -> list[AuditFinding]:
    """Sizes, modes and formats that few scans have where nearly all have another."""
    files = evidence.files
    properties = {name: files[name].astype(str) for name in ("mode", "format") if name in files}
    if {"width", "height"} <= files.keys():
        size = [f"{w} × {h}" for w, h in zip(files["width"].tolist(), files["height"].tolist(), strict=True)]
        properties = {"size": np.array(size), **properties}
    findings = []
    for name, values in properties.items():
        kinds, kind, counts = np.unique(values, return_inverse=True, return_counts=True)
        if counts.max() < COMMON * len(values):
            continue
        rare = np.flatnonzero(counts <= max(1, RARE * len(values)))
        rare = rare[counts[rare] < counts.max()]
        if len(rare):
            rows = np.flatnonzero(np.isin(kind.reshape(-1), rare))
            listed = ", ".join(f"{counts[index]} × {kinds[index] or 'unknown'}" for index in rare[:5].tolist())
            more = ", …" if len(rare) > 5 else ""
            message = (
                f"{count_of(len(rows), 'scan')} of an unusual {name}: {listed}{more}; most are {kinds[counts.argmax()]}. "
                "Check that they belong here."
            )
            findings.append(make_finding(f"quality.{name}", "note", message, evidence.cohort.path[rows]))
    return findings


def _outliers(evidence: Evidence, visible: FloatArray) -> AuditFinding | None:
    """Scans unlike all others: a chest among brains, a negative, a scan upside down."""
    shows = np.flatnonzero(visible >= FAINT)
    if len(shows) < 20:
        return None
    scores = outlier_scores(evidence, shows)
    far = np.flatnonzero(scores > OUTLIER)
    if not len(far):
        return None
    far = far[np.argsort(-scores[far], kind="stable")]
    message = (
        f"{count_of(len(far), 'scan')} unlike all others (more than {OUTLIER:g} robust standard deviations beyond the usual "
        "distance). Check that they show the same part of the body, upright and not inverted; remove those that do not belong."
    )
    sheet = ScanSheet(far[:SHOWN], tuple(f"{scores[row]:.1f} SD" for row in far[:SHOWN]))
    return make_finding("quality.stranger", "warning", message, evidence.cohort.path[far], sheet)


def _excess_distance(rows: FloatArray, references: IntArray, shows: IntArray, people: IntArray) -> FloatArray:
    """(N,) the logarithm of the distance to the k-th reference, in robust standard deviations above the median."""
    near = min(max(5, math.ceil(NEIGHBOUR_SHARE * len(references))), len(references))
    distance = np.empty(len(rows))
    for start in range(0, len(rows), BLOCK):
        similarity = rows[start : start + BLOCK] @ rows[references].T
        similarity[people[start : start + BLOCK, None] == people[references]] = -np.inf
        distance[start : start + BLOCK] = 1 - np.partition(similarity, -near, axis=1)[:, -near]
    measured = np.isfinite(distance)  # not where nearly all references are of the same subject
    if not measured[shows].any():
        return np.zeros(len(rows))
    log = np.log(np.maximum(distance, 1e-6, where=measured, out=np.ones(len(rows))))
    usual = log[shows[measured[shows]]]
    middle = np.median(usual)
    spread = 1.4826 * np.median(np.abs(usual - middle))
    return np.where(measured, (log - middle) / max(spread, 1e-3), 0.0)


def _gray_histograms(pixels: NDArray[np.uint8]) -> FloatArray:
    """(N, 32) square roots of gray-value histograms: the product of two equal rows is 1 (Bhattacharyya)."""
    counts = np.empty((len(pixels), 32), dtype=np.float32)
    for index, scan in enumerate(pixels):
        counts[index] = np.bincount(scan.ravel() >> 3, minlength=32)
    return np.asarray(np.sqrt(counts / counts.sum(axis=1, keepdims=True)))
