"""Sections of a recipe about the scans: reading, audit, splits."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from scanwise.recipe.section import Count, Fraction, Positive, Proportion, Section

NUMBER = "number"
"""Kind of a covariate that is an amount."""
AuditCheck = Literal["duplicates", "copies", "subjects", "leakage", "shortcuts", "quality", "evaluability"]
"""Names of `scanwise.auditing.CHECKS`, which a test compares with these."""


class Data(Section):
    """Preprocessing of the scans."""

    size: Annotated[int, Field(ge=16, le=1024)] = 128
    """Side of the square image, in pixels."""
    channels: Literal[1, 3] = 1
    """1 for gray, 3 for colour."""
    shape: Literal["stretch", "pad"] = "stretch"
    """Scans that are not square: stretch them, or pad them with black (volumes and DICOM by millimetres, not pixels)."""
    label: str = ""
    """Column of a manifest, or of a BIDS tree's participants.tsv, that holds the class (default: `label`, or in a BIDS tree
    the one column with a usual name for it); `folder 2` where the second level of folders holds the classes."""
    patients: str = ""
    """Table with one row a person, joined to the scans: labels, groups and, where nothing else names them, subjects."""
    id: str = ""
    """Column of that table by which scans are found, in headers, folders or names of files (default: the one with a usual name)."""
    series: str = ""
    """Series to use: a pattern over the series description (DICOM) or the file name; localizers are left out."""
    axis: Literal["axial", "coronal", "sagittal"] = "axial"
    """Slicing direction of volumes (NIfTI only)."""
    slices: tuple[Proportion, Proportion] = (0.0, 1.0)
    """Range of slices to use, 0 the first and 1 the last (files with many slices only; volumes count from feet, back or left)."""
    every: Count = 1
    """Use every k-th slice of that range (files with many slices only)."""
    window: Literal["header", "percentiles"] | tuple[float, Positive] = "header"
    """Intensity window (DICOM only): the first window of the header (percentiles if it has none), `percentiles`, or [centre,
    width]."""
    percentiles: tuple[Annotated[float, Field(ge=0, le=100)], Annotated[float, Field(ge=0, le=100)]] = (0.5, 99.5)
    """Intensity percentiles mapped to black and white (volumes, and DICOM without a window)."""
    nan: Literal["refuse", "black"] = "refuse"
    """Slices with NaN or infinite voxels (volumes only)."""
    covariates: tuple[str, ...] | Mapping[str, Literal["number"] | tuple[str, ...]] = ()
    """Columns about the person, such as [age, sex]: read by the network beside the scan, and a baseline without any scan. A run
    writes what each is: `number`, or the values of a kind."""

    @property
    def of_pixels(self) -> dict[str, Any]:
        """The settings that decide what the pixels of a file become."""
        return self.model_dump(exclude={"label", "patients", "id", "series", "covariates"})

    @field_validator("series")
    @classmethod
    def _is_pattern(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"series is no regular expression: {error}") from error
        return value

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        for name, (low, high) in (("slices", self.slices), ("percentiles", self.percentiles)):
            if low >= high:
                raise ValueError(f"{name} must rise from the lower to the higher value; found [{low:g}, {high:g}]")
        return self


class Audit(Section):
    """Checks of the cohort before training."""

    checks: tuple[AuditCheck, ...] = get_args(AuditCheck)
    """Checks to run; an empty list skips the audit."""


class PublishedSplit(Section):
    """The split of the original project. Accuracy only is reported for it, stamped *leaked* where it leaks."""

    by: Literal["scan", "folders"] = "scan"
    """At random by scan, or by the train and test folders (or manifest column) that the data comes with."""
    validation: Fraction = 0.15
    """Share of all scans (by scan), or of the training folder (by folders)."""
    test: Fraction = 0.15
    """Share of all scans; by folders, the test folder decides."""


class SplitSection(Section):
    """Division of the subjects into training, validation, calibration and test."""

    protocols: tuple[Literal["honest", "published"], ...] = ("honest",)
    """Splits to fit: `honest` (by subject), `published` (that of the original project)."""
    validation: Fraction = 0.15
    """Share of the subjects for early stopping, temperature and tuning."""
    calibration: Fraction = 0.20
    """Share of the subjects for the thresholds of prediction sets."""
    test: Fraction = 0.20
    """Share of the subjects for the final results; with folds, one fold."""
    folds: Count = 1
    """Cross-validation by subject with this many folds; 1 is a single split."""
    small_classes: Literal["keep", "merge", "drop"] = "keep"
    """Classes with too few subjects for every side: keep them in training only, merge them with the neighbouring stage, or
    drop them."""
    fewest: Count = 1
    """Fewest subjects of a class that is not one of `small_classes`; one per side is always needed."""
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
