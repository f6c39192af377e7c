"""The heatmap of a scan as numbers: a parametric map (PS3.3, A.75), in the place of the scan, for programs that lay it over."""

from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from scanwise.dicom_results.headers import Placement, describe_equipment
from scanwise.dicom_results.sources import SourceScan, is_uid
from scanwise.dicom_results.structured_report import ModelIdentity
from scanwise.records import FloatArray, Heatmap

if TYPE_CHECKING:
    from pydicom import Dataset

    from scanwise.explanation.voxel_grid import VoxelGrid

SERIES_NUMBER = 9803
_LETTERS = 64
_TO_LEFT_BACK_TOP = np.diag([-1.0, -1.0, 1.0, 1.0])


def refuse_map(heatmap: Heatmap, source: SourceScan, grid: "VoxelGrid") -> str:
    """Why a scan gets no parametric map; "" where it gets one."""
    if heatmap.passed is False:
        return "its heatmap failed its checks, and a map cannot say so"
    placed = np.isfinite(grid.affine).all() and np.linalg.norm(grid.affine[:3, :3], axis=0).all()
    if not is_uid(str(source.header.get("FrameOfReferenceUID", ""))) or not placed:
        return "its header does not say where it lies"
    return ""


def build_map(
    placement: Placement, model: ModelIdentity, meaning: str, heatmap: Heatmap, grid: "VoxelGrid", values: FloatArray
) -> "Dataset":
    """A parametric map of float values, on the grid of the scan as it is shown.

    Args:
        placement: series and instance; its header is a copy of that of the scan.
        model: that is explained.
        meaning: of the class that the map is about.
        heatmap: that was drawn.
        grid: of the scan.
        values: (rows, columns) of the heatmap on that grid; 0 is no evidence.

    Raises:
        Exception: of any kind, for a header that highdicom cannot use.
    """
    import highdicom
    from pydicom.sr.codedict import codes

    placed = _TO_LEFT_BACK_TOP @ grid.affine
    lengths = np.linalg.norm(placed[:3, :3], axis=0)
    highest = max(float(values.max()), 1e-6)
    lowest = min(0.0, float(values.min()))
    measures = highdicom.PixelMeasuresSequence(lengths[[1, 0]].tolist(), float(lengths[2]))
    orientation = highdicom.PlaneOrientationSequence(
        "PATIENT", [*(placed[:3, 0] / lengths[0]), *(placed[:3, 1] / lengths[1])]
    )
    (header,) = placement.headers
    _complete(header, PixelMeasuresSequence=measures, PlaneOrientationSequence=orientation)
    built: Dataset = highdicom.pm.ParametricMap(
        source_images=[header],
        pixel_array=np.ascontiguousarray(values, dtype=np.float32)[None],
        series_instance_uid=placement.series,
        series_number=SERIES_NUMBER,
        sop_instance_uid=placement.uid,
        instance_number=placement.number,
        device_serial_number=model.digest[:_LETTERS],
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[
            highdicom.pm.RealWorldValueMapping(
                lut_label="HEATMAP",
                lut_explanation=f"Evidence for {meaning}"[:_LETTERS],
                unit=codes.UCUM.NoUnits,
                value_range=(lowest, highest),
            )
        ],
        voi_lut_transformations=[
            highdicom.VOILUTTransformation(
                window_center=(lowest + highest) / 2, window_width=highest - lowest, voi_lut_function="LINEAR_EXACT"
            )
        ],
        content_label="HEATMAP",
        content_description=_describe(heatmap)[:_LETTERS],
        pixel_measures=measures,
        plane_orientation=orientation,
        plane_positions=[highdicom.PlanePositionSequence("PATIENT", placed[:3, 3].tolist())],
        series_description=f"Scanwise heatmap for {meaning} (research use only)"[:_LETTERS],
        **describe_equipment(model.name),
    )
    built.Laterality = None  # of the scan, whose header says it if it is of one side
    return built


def _complete(header: "Dataset", **groups: Any) -> None:
    """Fill what highdicom looks for in a header, though the map gets its own: a thickness, or the same measures for all frames."""
    if "SharedFunctionalGroupsSequence" not in header:
        if header.get("SliceThickness") is None:
            header.SliceThickness = groups["PixelMeasuresSequence"][0].SliceThickness
        return
    shared = copy(header.SharedFunctionalGroupsSequence[0])
    for name, group in groups.items():
        if name not in shared:
            setattr(shared, name, group)
    header.SharedFunctionalGroupsSequence = [shared]


def _describe(heatmap: Heatmap) -> str:
    return f"{heatmap.method}, {'which passed its checks' if heatmap.passed else 'not checked'}"
