"""The confusion matrix as a table: counts are those of the predictions, and every case is in the list of its cell."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from scanwise import evaluation
from scanwise.records import Predictions
from scanwise.reporting.confusion import NAMED, build_confusion
from scanwise.reporting.explorer import STEPS, build_explorer


def predictions_of(seed: int, count: int = 60, unit: str = "subject") -> Predictions:
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.ones(3), count)
    names = np.array([f"p{row}" for row in range(count)])
    return Predictions(
        names, names, ("a", "b", "c"), probs, None, np.zeros(count), np.zeros(count, dtype=bool),
        rng.integers(0, 3, count), {}, unit, scan_counts=np.ones(count, dtype=int) if unit == "subject" else None,
    )  # type: ignore[arg-type]  # fmt: skip


@given(st.integers(0, 10_000))
def test_cells_hold_their_cases(seed: int) -> None:
    predictions = predictions_of(seed)
    table = build_confusion(predictions, ["A", "B", "C"], "x", "caption")
    counts = [[cell.count for cell in cells] for _, _, cells in table.rows]
    assert counts == evaluation.confusion_counts(predictions).tolist()
    named = [name for cell in table.cells for name, _, _ in cell.cases]
    assert len(named) == len(set(named))
    assert len(named) + sum(cell.more for cell in table.cells) == len(predictions)
    assert all(len(cell.cases) <= NAMED for cell in table.cells)
    assert [cell.right for cell in table.cells] == sorted(cell.right for cell in table.cells)


def test_subjects_have_intervals_and_scans_of_people_have_none() -> None:
    by_subject, by_scan = (
        build_confusion(predictions_of(0, unit=unit), ["A", "B", "C"], "x", "").rows[0][2][0].share
        for unit in ("subject", "scan")
    )
    assert "(" in by_subject
    assert "(" not in by_scan


@given(st.integers(0, 10_000), st.integers(0, STEPS - 1))
def test_counts_of_the_sliders_are_those_of_the_predictions(seed: int, step: int) -> None:
    import json

    predictions = predictions_of(seed)
    explorer = build_explorer(predictions, ["A", "B", "C"])
    assert explorer is not None
    for index, entry in enumerate(json.loads(explorer.counts)):
        truly = predictions.labels == index  # type: ignore[operator]
        called = predictions.probs[:, index] >= step / (STEPS - 1)
        assert entry["positives"] + entry["negatives"] == len(predictions)
        assert (entry["hits"][step], entry["alarms"][step]) == (
            int((truly & called).sum()),
            int((~truly & called).sum()),
        )
