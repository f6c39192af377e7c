"""Base class and number types of all sections of a recipe."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Proportion = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, le=10**9)]
Width = Annotated[int, Field(ge=1, le=16_384)]
Heads = Annotated[int, Field(ge=1, le=256)]
Layers = Annotated[int, Field(ge=1, le=256)]


class Section(BaseModel):
    """Section of a recipe: frozen; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)
