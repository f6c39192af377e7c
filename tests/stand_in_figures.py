"""Figures that draw nothing: two thirds of the time of a small fit is drawing, and most tests never look at a plot.

What a plot shows is still computed. Tests marked `figures`, and the fit that the others share, draw; with
SCANWISE_TEST_FIGURES=all, as in CI, everything does.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image

from scanwise.reporting import svg

DRAW = svg.new_figure
SVG = '<svg viewBox="0 0 9 9" xmlns="http://www.w3.org/2000/svg" version="1.1"></svg>'


class Anything:
    """Axes and artists: every call is taken, and answered by itself."""

    def __getattr__(self, name: str) -> "Anything":
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __getitem__(self, _: object) -> "Anything":
        return self

    def __call__(self, *_: object, **__: object) -> "Anything":
        return self


class StandInFigure(Anything):
    """A figure without a drawing."""

    def __init__(self, width: float, height: float) -> None:
        self.size = width, height

    def get_figheight(self) -> float:
        return self.size[1]

    def subplots(self, rows: int = 1, columns: int = 1, *, squeeze: bool = True, **_: object) -> Any:
        axes = np.full((rows, columns), Anything(), dtype=object)
        return axes.squeeze()[()] if squeeze else axes

    def savefig(self, stream: Any, *, format: str, **_: object) -> None:  # noqa: A002 - as matplotlib has it
        if format == "svg":
            stream.write(SVG)
        else:
            Image.new("L", (9, 9)).save(stream, format)


@contextmanager
def drawn(draw: Any = DRAW) -> Iterator[None]:
    """Real figures inside the block."""
    before, svg.new_figure = svg.new_figure, draw
    try:
        yield
    finally:
        svg.new_figure = before


def stand_in() -> None:
    """Draw nothing from here on, unless everything is to be drawn."""
    if os.environ.get("SCANWISE_TEST_FIGURES") != "all":
        svg.new_figure = StandInFigure  # type: ignore[assignment]
