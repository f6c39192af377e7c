"""No figure stands without an interval beside others that have one."""

from collections.abc import Callable

import numpy as np
import pytest
from other_pages import MANY

from scanwise import evaluation
from scanwise.evaluation import comparison
from scanwise.records import Metric, Predictions
from scanwise.reporting import tables
from scanwise.reporting.calibration_and_sets import describe_calibration_error
from scanwise.reporting.class_table import class_cells
from scanwise.reporting.comparison_page import build_comparison_page
from scanwise.run import RunFolder

Make = Callable[..., RunFolder]


@pytest.mark.parametrize("leaked", [False, True])
def test_classes_and_their_means_have_intervals(make_run: Make, leaked: bool) -> None:
    predictions = tables.read_predictions(make_run(**MANY).tables / "predictions_subject.csv")
    measured = evaluation.measure_predictions(
        predictions, subjects=predictions.subjects, draws=50, accuracy_only=leaked
    )
    by_key = {(m.name, m.group): m for m in measured}
    rows = tables.classification_report_rows(predictions)
    for row in rows:
        head, *cells = class_cells(row, str, lambda name, group: by_key.get((name, group)))
        assert len(cells) == 4
        for cell, score in zip(cells, row[3:7], strict=True):
            assert cell == "–" or "(" in cell, head
            if cell != "–":
                assert float(cell.split("\u00a0")[0]) == pytest.approx(100 * float(str(score)), abs=0.51)


def metric(name: str, value: float, low: float, high: float) -> Metric:
    return Metric(name, value, low, high, "scan", 400)


def test_a_calibration_error_is_read_beside_what_chance_gives() -> None:
    expected = metric("calibrated_ece", 0.055, 0.03, 0.09)
    calm = describe_calibration_error(metric("ece", 0.06, 0, 0.14), expected)
    assert "no sign of miscalibration" in calm
    assert "5.5\u00a0% (3.0–9.0)" in calm
    assert describe_calibration_error(metric("ece", 0.2, 0.12, 0.28), expected).startswith("The confidence is off")
    assert describe_calibration_error(None, expected) == ""


def systems(gap: int, people: int = 10) -> dict[str, Predictions]:
    """Two systems on as many people, the first right on `gap` of them where the second is wrong."""
    labels = np.arange(people) % 2
    wrong = np.arange(people) < gap
    empty, names = np.zeros(people), np.arange(people).astype(str)
    probs = [np.eye(2)[labels] * 0.8 + 0.1, np.eye(2)[np.where(wrong, 1 - labels, labels)] * 0.8 + 0.1]
    return {
        name: Predictions(names, names, ("a", "b"), part, None, empty, empty > 0, labels, unit="subject")
        for name, part in zip(("first", "second"), probs, strict=True)
    }


def answer(pair: dict[str, Predictions], p_value: float | None = None) -> str:
    metrics = [
        Metric(m.name, m.value, m.low, m.high, m.unit, m.count, model=name)
        for name, part in pair.items()
        for m in evaluation.measure_predictions(
            part, subjects=part.subjects, draws=50, names=["accuracy"], by_class=False
        )
    ]
    gaps = evaluation.paired_difference(*pair.values(), draws=50, names=["accuracy"], model="first − second")
    tests = comparison.pairwise_mcnemar_tests(pair)
    if p_value is not None:
        tests = [comparison.McNemarTest("first", "second", 1, 0, p_value, p_value)]
    spreads = {(m.model, m.name): (m.value, float("nan")) for m in metrics}
    ranks = comparison.rank_classifiers(pair, "accuracy", draws=50)
    page = build_comparison_page("subject", [], dict.fromkeys(pair, 1), metrics, spreads, gaps, tests, ranks)
    return page.replace("\u00a0", " ")


def test_systems_that_ten_people_cannot_tell_apart_are_not_called_equal() -> None:
    for gap in (0, 2):
        page = answer(systems(gap))
        assert "cannot be told apart on 10 subjects" in page
        assert "equally" not in page


def test_a_lead_is_one_that_test_and_interval_show() -> None:
    page = answer(systems(16, 40))
    assert "first is right more often than second on 40 subjects" in page
    assert "disagree" not in page


def test_test_and_interval_do_not_contradict_each_other_unsaid() -> None:
    page = answer(systems(16, 40), p_value=0.2)
    assert "cannot be told apart on 40 subjects" in page
    assert "Test and interval disagree" in page
