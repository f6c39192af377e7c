"""Comparison of scans: thumbnails, descriptors, nearest neighbours, pose estimation, alignment."""

from scanwise.registration.alignment import (
    Alignment,
    align,
    canonical_grid,
    content_frames,
    inside_frame,
    sample_images,
)
from scanwise.registration.pose import canonical_pictures, estimate_poses, foreground_masks, moment_poses
from scanwise.registration.vectors import (
    DETAIL,
    THUMBNAIL,
    describe_scans,
    descriptors,
    nearest_neighbours,
    reduce_to_thumbnails,
    whiten,
)

__all__ = [
    "DETAIL",
    "THUMBNAIL",
    "Alignment",
    "align",
    "canonical_grid",
    "canonical_pictures",
    "content_frames",
    "describe_scans",
    "descriptors",
    "estimate_poses",
    "foreground_masks",
    "inside_frame",
    "moment_poses",
    "nearest_neighbours",
    "reduce_to_thumbnails",
    "sample_images",
    "whiten",
]
