"""Scans as pictures that can be compared: thumbnails, descriptors that correlate, nearest neighbours, poses, alignment."""

from scanwise.registration.alignment import Aligned, align, explained, frames, grid, inside, sample
from scanwise.registration.pose import foreground, moments, pictures, poses
from scanwise.registration.vectors import THUMBNAIL, descriptors, neighbours, whiten

__all__ = [
    "THUMBNAIL",
    "Aligned",
    "align",
    "descriptors",
    "explained",
    "foreground",
    "frames",
    "grid",
    "inside",
    "moments",
    "neighbours",
    "pictures",
    "poses",
    "sample",
    "whiten",
]
