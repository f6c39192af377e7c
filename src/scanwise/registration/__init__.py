"""Comparison of scans: thumbnails, descriptors, nearest neighbours, pose estimation, alignment."""

from scanwise.registration.alignment import (
    Alignment,
    align,
    canonical_grid,
    content_frames,
    explained_detail,
    inside_frame,
    sample_images,
)
from scanwise.registration.pose import canonical_pictures, estimate_poses, foreground_masks, moment_poses
from scanwise.registration.vectors import THUMBNAIL, descriptors, nearest_neighbours, whiten

__all__ = [
    "THUMBNAIL",
    "Alignment",
    "align",
    "canonical_grid",
    "canonical_pictures",
    "content_frames",
    "descriptors",
    "estimate_poses",
    "explained_detail",
    "foreground_masks",
    "inside_frame",
    "moment_poses",
    "nearest_neighbours",
    "sample_images",
    "whiten",
]
