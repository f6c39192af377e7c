"""Sections of a recipe about what the network's answers are worth."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from scanwise.recipe.section import Fraction, Positive, Section


class Calibration(Section):
    """From logits to probabilities that mean what they say."""

    method: Literal["temperature", "none"] = "temperature"


class Conformal(Section):
    """Prediction sets with a stated coverage."""

    score: Literal["raps", "aps", "lac", "saps", "ordinal"] = "raps"
    """`ordinal` gives neighbouring stages alone, and needs classes in clinical order."""
    alpha: Fraction = 0.1
    """Allowed miscoverage: 0.1 promises 90 %."""
    penalty: Annotated[float, Field(ge=0)] | Literal["auto"] = "auto"
    """Lambda of RAPS and SAPS; `auto` chooses it on the validation side."""
    k_reg: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    """Rank from which RAPS penalises; `auto` chooses it on the validation side."""


class Uncertainty(Section):
    """When an answer is not to be trusted."""

    false_alarm: Fraction = 0.05
    """Share of scans like those of the cohort that may be flagged as unlike any seen in training."""
    risk: Fraction = 0.1
    """Error allowed among the subjects that are answered; the others are left to a person."""
    delta: Fraction = 0.1
    """Chance, over draws of calibration subjects, that this bound does not hold."""


class Evaluation(Section):
    """The final figures."""

    draws: Annotated[int, Field(ge=100)] = 2000
    """Bootstrap draws of subjects behind each interval."""
    confidence: Fraction = 0.95
    """Of every interval."""
    pooling: Literal["mean_logit", "mean_prob", "majority", "auto"] = "mean_logit"
    """How the scans of a subject become one answer; `auto` chooses on the validation side."""


class Baselines(Section):
    """The trivial classifiers that a network must beat."""

    names: tuple[Literal["majority", "nearest_neighbour", "pca_logistic", "frozen_features", "words"], ...] = (
        "majority",
        "nearest_neighbour",
        "pca_logistic",
        "frozen_features",
        "words",
    )
    """`words`, a regression on the words of titles, runs beside networks that read them."""
    backbone: str = "tf_efficientnet_lite0"
    """timm backbone of `frozen_features`."""
    weights: str = "none"
    """Its pretrained weights: a file, or `hub`. With `none` that rival is left out, and the report says so."""
    size: Annotated[int, Field(ge=32, le=512)] = 160
    """Side of the scans that `frozen_features` sees."""
    options: Mapping[str, bool | int | float | str] = {}
    """Further keyword arguments of `timm.create_model` for the backbone."""
    mean: tuple[float, ...] = (0.5,)
    std: tuple[Positive, ...] = (0.5,)
