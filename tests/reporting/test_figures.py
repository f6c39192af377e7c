"""Drawings are the same bytes for the same values, are described in words and keep their ids to themselves."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from scanwise.reporting import figures

pytestmark = pytest.mark.figures

MATRIX = np.array([[8, 1, 0], [2, 5, 1], [0, 0, 0]])
TITLES = ["normal", "<mild> & $\\frac{", "stage \x00 3"]
HISTORY = {name: np.array([0.9, 0.5, 0.6]) for name in ("train_loss", "validation_loss", "validation_macro_f1")}
HISTORY["epoch"] = np.array([1.0, 2.0, 3.0])
BINS = [{"confidence": 0.4, "accuracy": 0.5, "count": 3}, {"confidence": 0.9, "accuracy": 0.8, "count": 9}]
ROC = figures.RocCurve("mild", np.array([0.0, 0.2, 1.0]), np.array([0.0, 0.7, 1.0]), 0.75)
ROWS = [
    figures.ForestRow("This network", 0.7, 0.6, 0.8, 200, network=True),
    figures.ForestRow("Nearest neighbour", 0.5, 0.4, 0.6, 200),
]
DRAW = {
    "learning": lambda name: figures.draw_learning_curves(name, [HISTORY, HISTORY], [2, 1]),
    "classes": lambda name: figures.draw_class_distribution(name, TITLES, {"Training": np.array([3, 2, 0])}, "scan"),
    "confusion": lambda name: figures.draw_confusion_matrix(name, MATRIX, TITLES, "scan"),
    "many": lambda name: figures.draw_confusion_matrix(
        name, np.eye(12, dtype=int), [f"kind {i}" for i in range(12)], "scan"
    ),
    "roc": lambda name: figures.draw_roc(name, [ROC], "subject"),
    "reliability": lambda name: figures.draw_reliability(name, {"before": BINS, "after calibration": BINS}),
    "sets": lambda name: figures.draw_set_sizes(name, np.array([0, 5, 3]), np.array([0, 4, 3]), "scan"),
    "risk": lambda name: figures.draw_risk_coverage(name, np.array([0.5, 1.0]), np.array([0.0, 0.25]), "subject"),
    "forest": lambda name: figures.draw_forest(name, {"On new people": ROWS, "As published": ROWS}, "accuracy"),
}


@pytest.mark.parametrize("kind", DRAW)
def test_drawing_is_svg_with_words_and_own_ids(kind: str) -> None:
    svg = DRAW[kind]("here")
    tree = ElementTree.fromstring(svg)  # noqa: S314
    space = "{http://www.w3.org/2000/svg}"
    assert tree.tag == f"{space}svg"
    assert tree.get("viewBox")
    assert tree.get("width") is None
    assert tree.findtext(f"{space}title")
    assert len(tree.findtext(f"{space}desc") or "") > 20
    ids = [element.get("id") for element in tree.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    assert all(found.startswith("here-") for found in ids)
    assert set(re.findall(r"url\(#([^)]+)\)", svg)) <= set(ids)
    assert "metadata" not in svg
    assert svg == DRAW[kind]("here")


@pytest.mark.parametrize("kind", DRAW)
def test_colours_follow_the_page(kind: str) -> None:
    outside = re.sub(r"var\(--\w+, #\w{6}\)", "", DRAW[kind]("x"))
    assert set(re.findall(r"(?<=: )#[0-9a-f]{6}", outside)) <= {"#000000", "#ffffff"}


def test_confusion_words_say_the_counts() -> None:
    svg = figures.draw_confusion_matrix("x", MATRIX, ["a", "b", "c"], "subject")
    text = ElementTree.fromstring(svg).findtext("{http://www.w3.org/2000/svg}desc")  # noqa: S314
    assert text is not None
    assert text.replace("\xa0", " ").startswith("Of 9 subjects truly a: 8 as a and 1 as b. Of 8 subjects truly b: ")
    assert text.endswith("truly c: none tested.")


def test_style_stays_inside_the_drawing() -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    DRAW["roc"]("x")
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("channels", [1, 3])
def test_montage_is_a_png_of_fixed_bytes(channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, channels), dtype=np.uint8)
    titles = ["a", "a", "a", "a", "<b>", "$c"]
    made = figures.draw_montage(images, titles)
    assert made.startswith(b"\x89PNG")
    assert made == figures.draw_montage(images, titles)
