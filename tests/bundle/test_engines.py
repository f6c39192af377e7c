"""A scan has one answer, to the last byte: alone, among any others, at any place, on any number of cores."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from scanwise import bundle
from scanwise.bundle.engines import run_in_shape
from scanwise.records import Predictions
from tiny import Command
from tiny_bundles import KINDS, write_scans_of, write_tiny_bundle

BuildOnce = Callable[[str, Callable[[Path], object]], Path]
WORDS = ["red coat", "hat", "blue", "green hat and coat"]


@pytest.fixture(scope="module")
def scans(build_once: BuildOnce) -> list[Path]:
    return sorted(build_once("scans-of-kinds", write_scans_of).iterdir())


def row_bytes(predictions: Predictions, row: int) -> tuple[bytes, ...]:
    """All that is said of a scan, to the last bit."""
    values = (
        predictions.probs, predictions.sets, predictions.entropy, predictions.mutual_information, predictions.ood,
        predictions.ood_flag, predictions.abstain,
    )  # fmt: skip
    assert not any(value is None for value in values)
    return tuple(np.ascontiguousarray(value[row]).tobytes() for value in values if value is not None)


EVERYDAY = ("demo", "subject-ridge", "fashion-fusion, text", "efficientnet-uncertainty, batch ensemble")
"""Kinds of one forward path each; those of the others are extended."""


@pytest.mark.parametrize(
    "kind", [kind if kind in EVERYDAY else pytest.param(kind, marks=pytest.mark.extended) for kind in KINDS]
)
def test_a_scan_has_the_same_bytes_whatever_is_beside_it(kind: str, scans: list[Path], build_once: BuildOnce) -> None:
    loaded = bundle.load(build_once(f"kind-{kind}", lambda folder: write_tiny_bundle(folder, kind)))
    words = [WORDS[row % len(WORDS)] for row in range(len(scans))] if loaded.recipe.model.reads_words else None

    def ask(rows: list[int], cores: int) -> dict[int, tuple[bytes, ...]]:
        torch.set_num_threads(cores)
        chosen = None if words is None else [words[row] for row in rows]
        answer = loaded.predict([scans[row] for row in rows], words=chosen).scans
        return {row: row_bytes(answer, place) for place, row in enumerate(rows)}

    everybody = list(range(len(scans)))
    expected = ask(everybody, 1)
    assert len(set(expected.values())) > 2  # the answers differ, or nothing is compared
    mixed = np.random.default_rng(0).permutation(len(scans)).tolist()
    for rows, cores in (
        (everybody, 3),
        (mixed, 2),
        (mixed[:11], 1),
        (mixed[3:], 2),
        ([5], 1),
        ([17], 3),
        ([5, 5, 9], 1),
    ):
        answers = ask(rows, cores)
        assert {row: answers[row] == expected[row] for row in rows} == dict.fromkeys(rows, True), (rows, cores)


def test_the_command_line_says_what_python_says(scans: list[Path], demo_model: Path, scanwise: Command) -> None:
    import json

    alone = scanwise("predict", demo_model, scans[7], "--format", "json", "--threads", 1)
    among = scanwise("predict", demo_model, *scans, "--format", "json", "--threads", 2)
    assert alone.code == among.code == 0, alone.err + among.err
    assert json.loads(alone.out)["scans"] == [json.loads(among.out)["scans"][7]]
    (row,) = bundle.load(demo_model).predict([scans[7]]).scans.rows()
    assert json.loads(alone.out)["scans"] == [row]


def test_a_copy_in_another_container_gets_the_same_set(scans: list[Path], demo_model: Path, tmp_path: Path) -> None:
    """The draws come from the decoded pixels, and not from the file."""
    from PIL import Image

    loaded = bundle.load(demo_model)
    copies = [tmp_path / f"{path.stem}.bmp" for path in scans]
    for path, copy in zip(scans, copies, strict=True):
        Image.open(path).save(copy)
    first, second = (loaded.predict(paths).scans for paths in (scans, copies))
    assert [row_bytes(first, row) for row in range(len(scans))] == [row_bytes(second, row) for row in range(len(scans))]


def test_scans_without_a_subject_take_no_pooling_from_the_others(scans: list[Path], demo_model: Path) -> None:
    loaded = bundle.load(demo_model)
    subjects = [path.stem[:3] for path in scans]
    whole = loaded.predict(scans, subjects)
    assert whole.remarks == ()
    lacking = [name if row not in (2, 9) else "" for row, name in enumerate(subjects)]
    part = loaded.predict(scans, lacking)
    assert part.subjects is not None
    assert whole.subjects is not None
    assert part.subjects.subjects.tolist() == whole.subjects.subjects.tolist()
    assert part.subjects.scan_counts is not None
    assert part.subjects.scan_counts.tolist() == [3, 4, 3, 4, 4, 4]
    assert [row_bytes(part.scans, row) for row in range(24)] == [row_bytes(whole.scans, row) for row in range(24)]
    for row in (1, 3, 4, 5):  # whose scans are all there
        assert part.subjects.probs[row].tobytes() == whole.subjects.probs[row].tobytes()
    assert part.remarks == ("2 of 24 scans have no subject: each is answered alone, and counts in no row of subjects.",)
    assert loaded.predict(scans, [""] * len(scans)).subjects is None


def test_answers_come_in_order_and_an_error_ends_them() -> None:
    class Doubling:
        cores = 3

        def run(self, pixels: np.ndarray, tokens: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, None]:
            assert len(pixels) == 4
            if (pixels == 99).any():
                raise RuntimeError("no")
            return 2.0 * pixels[:, None], 1.0 * pixels, None

        def one_core_each(self) -> "Doubling":
            return self

        def __enter__(self) -> Callable[[], None]:
            return lambda: None

        def __exit__(self, *args: object) -> None: ...

    rows = np.arange(22)[:, None]
    batches = [(rows[start : start + 4], None) for start in range(0, 22, 4)]
    answers = list(run_in_shape(Doubling(), batches, 4))
    assert np.concatenate([logits for logits, _, _ in answers])[:, 0, 0].tolist() == [2.0 * row for row in range(22)]
    with pytest.raises(RuntimeError, match="no"):
        list(run_in_shape(Doubling(), [*batches[:3], (np.full((2, 1), 99), None), *batches[3:]], 4))
