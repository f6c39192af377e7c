"""What the parts of a network say, written to files: words and where they look."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scanwise.models import build_network
from scanwise.models.vocabulary import Vocabulary
from scanwise.pipeline.stages import explanation_parts as parts_stage
from scanwise.recipe import Model
from tiny import read_csv

TITLES = ["Red shoe by Ann", "a RED shirt", "", "shirt shirt shirt shirt shirt shirt shirt shoe"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Words of four scans, of which the second is no example, told by an untrained network."""
    out = tmp_path_factory.mktemp("words")
    section = Model(
        name="fusion", fusion={"image": {"name": "test_efficientnet"}, "width": 16, "heads": 2},
        text={"width": 16, "layers": 1, "heads": 2, "length": 7, "words": 60},
    )  # fmt: skip
    torch.manual_seed(0)
    network, vocabulary = build_network(section, 2, 3), Vocabulary.learn(TITLES * 3, section.text)
    told = parts_stage.ExplainedScans(
        names=["0.png", "1.png", "2.png", "3.png"],
        scans=np.random.default_rng(0).integers(0, 256, (4, 96, 96, 3), dtype=np.uint8),
        targets=np.array([0, 1, 0, 1]),
        class_probs=np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.4, 0.6]]),
        classes=("shoe", "shirt"),
        truth=["shoe", "shoe", "", "shirt"],
        titles=TITLES,
    )
    names = ["words/000.png", "", "words/002.png", "words/003.png"]
    examples, checked = ["surest right", "", "surest wrong", "most uncertain"], [True, True, False, False]
    lines = parts_stage.write_words(
        network, vocabulary, told, out, device="cpu", pictures=names, examples=examples, checked=checked
    )
    return out, lines


def test_each_word_has_a_row_and_one_beyond_the_length_tells_nothing(written: tuple[Path, list[str]]) -> None:
    rows = read_csv(written[0] / "words.csv")
    assert tuple(rows[0]) == parts_stage.WORD_COLUMNS
    assert [row["word"] for row in rows] == [*TITLES[0].split(), *TITLES[1].split(), "", *TITLES[3].split()]
    assert [row["place"] for row in rows[:4]] == ["0", "1", "2", "3"]
    silent = [row["word"] for row in rows if not row["fall_of_log_odds"]]
    assert silent == ["", "shoe"]
    assert {row["share_of_image"] for row in rows if row["path"] == "2.png"} == {"1.0"}
    assert [(row["path"], row["example"], row["checked"]) for row in rows if row["place"] in ("0", "")] == [
        ("0.png", "surest right", "1"), ("1.png", "", "1"), ("2.png", "surest wrong", "0"), ("3.png", "most uncertain", "0"),
    ]  # fmt: skip


def test_only_examples_with_words_have_a_picture(written: tuple[Path, list[str]]) -> None:
    out, _ = written
    named = {row["path"]: row["picture"] for row in read_csv(out / "words.csv")}
    assert named == {"0.png": "words/000.png", "1.png": "", "2.png": "", "3.png": "words/003.png"}
    assert sorted(path.name for path in (out / "words").iterdir()) == ["000.png", "003.png"]
    with Image.open(out / "words" / "000.png") as picture:
        assert picture.size == (324, 160)


def test_the_line_of_a_title_names_its_strongest_words_and_the_shares(written: tuple[Path, list[str]]) -> None:
    out, lines = written
    rows = [row for row in read_csv(out / "words.csv") if row["path"] == "0.png"]
    strongest = max(rows, key=lambda row: abs(float(row["fall_of_log_odds"])))
    assert lines[0].startswith(
        f"words (log-odds lost without them): {strongest['word']} {float(strongest['fall_of_log_odds']):+.1f}"
    )
    assert lines[0].endswith(f"words {100 - round(100 * float(rows[0]['share_of_image']))} %")
    assert lines[2] == "words (log-odds lost without them): none; image 100 %, words 0 %"
