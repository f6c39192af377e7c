"""Scans with their heatmaps, for the pages of a result; where a network has none, the bare scan and the reason."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from scanwise.bundle import Bundle
from scanwise.cohort.decoding.pixels import Pixels
from scanwise.cohort.decoding.readers import DecodedScan
from scanwise.cohort.decoding.streams import read_files
from scanwise.dicom_results.captures import ScanPicture
from scanwise.dicom_results.sources import SourceScan
from scanwise.errors import ScanwiseError
from scanwise.records import Heatmap


def picture_scans(bundle: Bundle, scans: Sequence[SourceScan], classes: Sequence[str]) -> list[ScanPicture | None]:
    """Pictures of scans; None of one that can no longer be read.

    Args:
        bundle: whose network is explained.
        scans: to draw.
        classes: that the map of each speaks for.
    """
    decoded = list(read_files([scan.source for scan in scans], bundle.recipe.data))
    readable = [row for row, scan in enumerate(decoded) if isinstance(scan, DecodedScan)]
    pixels = [scan.pixels for scan in decoded if isinstance(scan, DecodedScan)]
    if not pixels:
        return [None] * len(scans)
    stacked = np.stack(pixels)
    targets = [bundle.classes.index(classes[row]) for row in readable]
    drawn = dict(zip(readable, _draw(bundle, stacked, targets), strict=True))
    return [drawn.get(row) for row in range(len(scans))]


def _draw(bundle: Bundle, pixels: Pixels, targets: Sequence[int]) -> list[ScanPicture]:
    bare = [np.ascontiguousarray(np.broadcast_to(scan, (*scan.shape[:2], 3))) for scan in pixels]
    recipe = bundle.recipe
    if bundle.trained is None:
        return [ScanPicture(scan, "No heatmap: an exported model answers, and no more.") for scan in bare]
    if bundle.vocabulary is not None or recipe.model.is_ridge or recipe.model.covariates > 0:
        return [ScanPicture(scan, "No heatmap: this network reads more than the image.") for scan in bare]
    from scanwise.explanation import drawing, explain_with_heatmaps, with_check_result
    from scanwise.explanation.sanity import method_name

    options: dict[str, Any] = {"method": recipe.explain.method, "layer": recipe.explain.layer}
    try:
        maps = explain_with_heatmaps(
            bundle.network, pixels, targets=np.array(targets)[:, None], names=np.array([""] * len(pixels)), **options
        )
    except ScanwiseError as error:
        return [ScanPicture(scan, f"No heatmap: {error}") for scan in bare]
    reasons = bundle.verdict(method_name(options), options["layer"])
    checked = [with_check_result(heatmap, reasons) for heatmap in maps]
    return [
        ScanPicture(
            drawing.draw_overlay(scan, heatmap.values, opacity=recipe.explain.opacity, passed=heatmap.passed),
            f"Heatmap for {bundle.classes[heatmap.target]} ({heatmap.method}): {_badge(heatmap)}",
            heatmap,
        )
        for scan, heatmap in zip(pixels, checked, strict=True)
    ]


def _badge(heatmap: Heatmap) -> str:
    if heatmap.passed is None:
        return "its method was not checked on this network."
    return "its method passed its checks." if heatmap.passed else f"failed its checks, drawn gray: {heatmap.reason}."
