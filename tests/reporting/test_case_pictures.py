"""Pictures in the cells of a confusion matrix: each case's own, the errors first, within the size of a page."""

import base64
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_confusion import predictions_of

from scanwise.csv_files import write_table
from scanwise.records import Predictions
from scanwise.reporting import case_pictures
from scanwise.reporting import report as report_page
from scanwise.reporting.components import embed_picture
from scanwise.reporting.confusion import NAMED
from scanwise.run import RunFolder, layout


def scans_of(predictions: Predictions, each: int = 3) -> Predictions:
    """Scans of these subjects, of which the last is called as the subject with the highest probability."""
    rows = np.repeat(np.arange(len(predictions)), each)
    part = np.tile(np.arange(each), len(predictions))
    probs = predictions.probs[rows] * (1 + part[:, None]) + 0.01
    subjects = predictions.subjects[rows]
    names = np.array([f"{subject}/{number}" for subject, number in zip(subjects, part, strict=True)])
    return replace(
        predictions, unit="scan", scans=names, subjects=subjects, probs=probs, labels=np.asarray(predictions.labels)[rows],
        entropy=predictions.entropy[rows], abstain=predictions.abstain[rows], scan_counts=None,
    )  # fmt: skip


@pytest.fixture
def sheet(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path)
    for folder in (run.tables, run.figures):
        folder.mkdir()
    return run


def test_errors_come_first_and_a_subject_is_shown_by_the_scan_that_was_most_called_so() -> None:
    predictions = predictions_of(1, count=400)
    cases = case_pictures.choose_cases(predictions, scans_of(predictions))
    assert len(cases) == 9 * NAMED
    row_of = {name: row for row, name in enumerate(predictions.subjects)}
    right = [predictions.labels[row_of[case]] == predictions.predicted[row_of[case]] for case, _ in cases]
    assert right == sorted(right)
    assert all(path == f"{case}/2" for case, path in cases)
    assert len({case for case, _ in cases}) == len(cases)


def test_of_many_classes_there_is_no_table_and_no_picture() -> None:
    predictions = predictions_of(1)
    many = replace(predictions, classes=tuple("abcdefg"), probs=np.pad(predictions.probs, ((0, 0), (0, 4))))
    assert not case_pictures.choose_cases(many, many)


@pytest.mark.parametrize("channels", [1, 3])
def test_each_case_has_its_own_picture(channels: int, sheet: RunFolder) -> None:
    levels = np.arange(30) * 8
    pixels = np.broadcast_to(levels[:, None, None, None], (30, 96, 96, channels)).astype(np.uint8)
    write_table(case_pictures.CASE_COLUMNS, [(f"p{k}", f"p{k}/0") for k in range(30)], sheet.tables / layout.CASES)
    (sheet.figures / layout.CASES_SHEET).write_bytes(case_pictures.draw_case_sheet(pixels))
    pictures = case_pictures.read_case_pictures(sheet)
    for case, level in zip((f"p{k}" for k in range(30)), levels, strict=True):
        image = Image.open(io.BytesIO(base64.b64decode(pictures[case].partition(",")[2])))
        assert image.size == (case_pictures.SIDE, case_pictures.SIDE)
        assert np.abs(np.asarray(image, dtype=int) - level).max() <= 4


def test_a_run_without_the_sheet_names_its_cases(sheet: RunFolder) -> None:
    assert case_pictures.read_case_pictures(sheet) == {}


def test_pictures_of_pure_noise_stay_within_the_page(sheet: RunFolder) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (case_pictures.MOST, 64, 64, 3), dtype=np.uint8)
    names = [(f"p{k}", "") for k in range(case_pictures.MOST)]
    write_table(case_pictures.CASE_COLUMNS, names, sheet.tables / layout.CASES)
    (sheet.figures / layout.CASES_SHEET).write_bytes(case_pictures.draw_case_sheet(noise))
    assert sum(map(len, case_pictures.read_case_pictures(sheet).values())) < 700_000


def test_the_report_shows_them_in_their_cells(make_run: Callable[..., RunFolder]) -> None:
    page = report_page.build_report(make_run())
    cell = page[page.index('<ul id="cell-honest-subject-') :]
    assert '<li><img src="data:image/jpeg;base64,' in cell[: cell.index("</ul>")]
    assert page.count("<li><img") <= case_pictures.MOST


@pytest.mark.parametrize(
    ("noisy", "mode", "kind"), [(True, "RGB", "jpeg"), (True, "RGBA", "png"), (False, "RGB", "png")]
)
def test_large_opaque_sheets_are_small_on_the_page(noisy: bool, mode: str, kind: str, tmp_path: Path) -> None:
    """The sheet of the surest errors took half a megabyte of a page that may have two."""
    size = (200, 200, len(mode))
    values = np.random.default_rng(0).integers(0, 256, size) if noisy else np.full(size, 90)
    Image.fromarray(values.astype(np.uint8), mode).save(tmp_path / "sheet.png")
    source = embed_picture(tmp_path / "sheet.png")
    assert source.startswith(f"data:image/{kind};base64,")
    assert len(source) < 4 / 3 * (tmp_path / "sheet.png").stat().st_size + 30
