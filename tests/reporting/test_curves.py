"""The further figures: well-formed, told in words, the same bytes again, and true to what they are given."""

import re
from collections.abc import Callable
from xml.etree import ElementTree

import numpy as np
import pytest

from scanwise.reporting import curves

pytestmark = pytest.mark.figures


def _recall() -> str:
    x = np.array([0.2, 0.6, 1.0])
    lines = [curves.PrecisionRecallCurve("Stroke & co", x, np.array([1.0, 0.75, 0.5]), 0.81, 0.5)]
    return curves.draw_precision_recall("recall", lines, "subject")


def _chances() -> str:
    chances, labels = np.array([0.9, 0.8, 0.1, 0.2, 0.3]), np.array([1, 1, 0, 0, 0])
    return curves.draw_probabilities("chances", chances, labels, 1, ["Control <x>", "Stroke", "Never tested"], "scan")


def _benefit(better: bool = True) -> str:
    cuts = np.arange(1, 100) / 100
    everybody = 0.3 - 0.7 * cuts / (1 - cuts)
    network = np.maximum(everybody, 0) + (0.05 if better else 0) * (cuts < 0.5)
    return curves.draw_decision_curve(
        "benefit", {"threshold": cuts, "network": network, "everybody": everybody}, "Stroke", "scan"
    )


def _gaps() -> str:
    gaps = [
        curves.DifferenceEstimate("Accuracy", 3.0, -2.0, 8.0, "+3 points (−2 to +8)"),
        curves.DifferenceEstimate("Macro F1", 6, 1, 9, "+6 points"),
    ]
    return curves.draw_differences("gaps", {"a − b": gaps}, "points")


@pytest.mark.parametrize("draw", [_recall, _chances, _benefit, _gaps])
def test_drawings_are_well_formed_told_in_words_and_the_same_again(draw: Callable[[], str]) -> None:
    svg = draw()
    tree = ElementTree.fromstring(svg)  # noqa: S314
    assert tree.attrib["role"] == "img"
    about = tree.find("{http://www.w3.org/2000/svg}desc")
    assert about is not None
    assert len(str(about.text)) > 40
    assert draw() == svg
    ids = re.findall(r' id="([^"]+)"', svg)
    assert len(ids) == len(set(ids))


def test_words_say_what_is_drawn() -> None:
    assert "Stroke &amp; co 0.81 (0.50 by calling all positive)" in _recall()
    words = _chances()
    assert "true Stroke: median 0.85, 100 % at 0.5 or above" in words.replace("\u00a0", " ")
    assert "Never tested" not in words
    assert "nowhere better" in _benefit(better=False)
    assert "between 1 % and 49 %" in _benefit().replace("\u00a0", " ")
    assert "+3 points (−2 to +8)" in _gaps()
