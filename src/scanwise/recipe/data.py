"""Sections of a recipe about the scans: how they are read, looked at and divided."""

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from scanwise.recipe.section import Count, Fraction, Positive, Proportion, Section

AuditCheck = Literal["duplicates", "copies", "subjects", "leakage", "shortcuts", "quality", "evaluability"]
"""Names of `scanwise.audit.CHECKS`, which a test compares with these."""


class Data(Section):
    """What a scan becomes before any network sees it."""

    size: Annotated[int, Field(ge=16, le=1024)] = 128
    """Side of the square, in pixels."""
    channels: Literal[1, 3] = 1
    """1 for gray, 3 for colour."""
    shape: Literal["stretch", "pad"] = "stretch"
    """How a scan that is not square becomes so: stretched, or padded with black."""
    label: str = ""
    """The column of a manifest, or of a BIDS tree's participants.tsv, that holds the class; unsaid, `label`, or in a
    BIDS tree the one column that is called as such columns are."""
    axis: Literal["axial", "coronal", "sagittal"] = "axial"
    """Of volumes (NIfTI): the direction in which they are cut into slices."""
    slices: tuple[Proportion, Proportion] = (0.0, 1.0)
    """Of files with many slices: the part to use, 0 the first slice and 1 the last; of volumes from feet, back or left."""
    every: Count = 1
    """Of files with many slices: use every k-th of that part."""
    window: Literal["header", "percentiles"] | tuple[float, Positive] = "header"
    """Of DICOM: the first window of the header (percentiles where it has none), percentiles always, or [centre, width]."""
    percentiles: tuple[Annotated[float, Field(ge=0, le=100)], Annotated[float, Field(ge=0, le=100)]] = (0.5, 99.5)
    """Of volumes, and of DICOM without a window: the percentiles of intensity that become black and white."""
    nan: Literal["refuse", "black"] = "refuse"
    """Of volumes: what to do with a slice that holds NaN or infinite voxels."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        for name, (low, high) in (("slices", self.slices), ("percentiles", self.percentiles)):
            if low >= high:
                raise ValueError(f"{name} must go up, from the lower to the higher; found [{low:g}, {high:g}]")
        return self


class Audit(Section):
    """What is looked at before anything is trained."""

    checks: tuple[AuditCheck, ...] = get_args(AuditCheck)
    """Which checks run; an empty list skips the audit."""


class PublishedSplit(Section):
    """The split of the original project. Accuracy only is reported for it, stamped *leaked* where it leaks."""

    by: Literal["scan", "folders"] = "scan"
    """At random by scan, or by the train and test folders (or manifest column) that the data comes with."""
    validation: Fraction = 0.15
    """Share of all scans (by scan), or of the training folder (by folders)."""
    test: Fraction = 0.15
    """Share of all scans; by folders, the test folder decides."""


class SplitSection(Section):
    """Who learns and who judges."""

    protocols: tuple[Literal["honest", "published"], ...] = ("honest",)
    """Which splits to fit: honest (by subject) and, beside it, the published one."""
    validation: Fraction = 0.15
    """Share of the subjects for early stopping, temperature and tuning."""
    calibration: Fraction = 0.20
    """Share of the subjects for the thresholds of prediction sets."""
    test: Fraction = 0.20
    """Share of the subjects for the final figures; with folds, one fold."""
    folds: Count = 1
    """Cross-validation by subject with this many folds; 1 is a single split."""
    small_classes: Literal["keep", "merge", "drop"] = "keep"
    """A class with too few subjects for every side: kept in training only, merged with its neighbour stage, or dropped."""
    fewest: Count = 1
    """Fewest subjects that a class needs not to be one of `small_classes`; at least one a side is needed anyway."""
    published: PublishedSplit = PublishedSplit()

    @model_validator(mode="after")
    def _leaves_training(self) -> Self:
        test = 1 / self.folds if self.folds > 1 else self.test
        if self.validation + self.calibration + test > 0.9:
            raise ValueError(
                "validation + calibration + test (or one fold) leave less than a tenth for training; lower one"
            )
        if self.published.by == "scan" and self.published.validation + self.published.test > 0.9:
            raise ValueError("published.validation + published.test leave less than a tenth for training; lower one")
        if not self.protocols:
            raise ValueError("protocols is empty; name honest, published or both")
        return self
