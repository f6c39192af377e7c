"""Sections of a recipe about calibration, prediction sets, uncertainty, metrics and baselines."""

from collections.abc import Mapping
from typing import Annotated, Literal, get_args

from pydantic import Field

from scanwise.recipe.section import Fraction, Positive, Section

BaselineName = Literal[
    "majority",
    "nearest_neighbour",
    "pca_logistic",
    "small_pixels",
    "dark_share",
    "gray_histogram",
    "scan_count",
    "covariates",
    "frozen_features",
    "words",
]
"""Rows of `scanwise.baselines.BASELINES`; a test holds the two together."""


class Calibration(Section):
    """Calibration of probabilities."""

    method: Literal["temperature", "none"] = "temperature"
    """Method, fitted on validation scans."""


class Conformal(Section):
    """Conformal prediction sets."""

    score: Literal["raps", "aps", "lac", "saps", "ordinal"] = "raps"
    """Conformity score; `ordinal` gives neighbouring stages only and needs classes in clinical order."""
    alpha: Fraction = 0.1
    """Allowed miscoverage: 0.1 for 90 % coverage (80 % with data out_of_fold)."""
    data: Literal["calibration", "out_of_fold"] = "calibration"
    """People that the sets are made from: those of the `calibration` side, or (subject_ridge only) those of training, each judged
    by the member that left them out. With `out_of_fold` the calibration side teaches too; the sets guarantee 1 - 2 alpha."""
    penalty: Annotated[float, Field(ge=0)] | Literal["auto"] = "auto"
    """Penalty lambda (RAPS and SAPS only); `auto` chooses it on validation scans."""
    k_reg: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    """Rank from which the penalty applies (RAPS only); `auto` chooses it on validation scans."""

    @property
    def is_out_of_fold(self) -> bool:
        """True if the people of training make the sets."""
        return self.data == "out_of_fold"

    @property
    def coverage(self) -> float:
        """The coverage that the sets guarantee where there are enough people."""
        return round(1 - (2 if self.is_out_of_fold else 1) * self.alpha, 12)


class Uncertainty(Section):
    """Abstention and out-of-distribution detection."""

    false_alarm: Fraction = 0.05
    """False-alarm rate: share of scans from the same population that may be flagged as unlike training."""
    risk: Fraction = 0.1
    """Error rate allowed among the subjects that are classified; the others go to review."""
    delta: Annotated[float, Field(gt=0, lt=0.5)] = 0.1
    """Probability, over draws of calibration subjects, that this bound fails; below 0.5."""


class Evaluation(Section):
    """Intervals and pooling of the results."""

    draws: Annotated[int, Field(ge=100)] = 2000
    """Bootstrap samples of subjects for each interval."""
    confidence: Fraction = 0.95
    """Confidence level of the intervals."""
    pooling: Literal["mean_logit", "mean_prob", "majority", "auto"] = "mean_logit"
    """Pooling of a subject's scans into one prediction; `auto` chooses it on validation scans."""


class Baselines(Section):
    """Simple baselines that a network must beat."""

    names: tuple[BaselineName, ...] = get_args(BaselineName)
    """Baselines to fit; `words`, a regression on the words of titles, is fitted for networks that read them only."""
    backbone: str = "tf_efficientnet_lite0"
    """timm backbone (`frozen_features` only)."""
    weights: str = "none"
    """Pretrained weights of the backbone: a file, or `hub`. With `none` this baseline is left out, and the report says so."""
    size: Annotated[int, Field(ge=32, le=512)] = 160
    """Side of the scans, in pixels (`frozen_features` only)."""
    options: Mapping[str, bool | int | float | str] = {}
    """Further keyword arguments of `timm.create_model` for the backbone."""
    mean: tuple[float, ...] = (0.5,)
    """Mean of pixels in [0, 1] to subtract (`frozen_features` only)."""
    std: tuple[Positive, ...] = (0.5,)
    """Standard deviation of pixels in [0, 1] to divide by (`frozen_features` only)."""
