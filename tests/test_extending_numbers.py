"""The examples of docs/extending/metric.md and baseline.md run as they are printed."""

import re
from pathlib import Path
from typing import Any

import pytest

import test_baselines as contract
from scanwise.baselines import BASELINES
from scanwise.metrics import METRICS, lower_is_better
from scanwise.reporting.wording import term

PAGES = Path(__file__).parents[1] / "docs" / "extending"


def _run(page: str) -> dict[str, Any]:
    (code,) = re.findall(r"```python\n(.*?)```", (PAGES / page).read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(code, page, "exec"), names)  # noqa: S102 - our own page
    return names


def test_a_new_metric_takes_the_road_of_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(METRICS, "true_class_probability", None)  # taken out again afterwards
    names = _run("metric.md")
    (metric,) = [m for m in names["measured"] if m.name == "true_class_probability"]
    assert metric.value == pytest.approx(names["probs"][range(40), names["labels"]].mean())
    assert 0 < metric.low < metric.value < metric.high < 1
    assert "true_class_probability" in names["compared"]
    assert not lower_is_better("true_class_probability")
    assert term("true_class_probability").title == "Probability of the true class"
    assert "Probability of the true class 82" in capsys.readouterr().out


def test_a_new_baseline_takes_the_road_of_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(BASELINES, "brightness", None)
    names = _run("baseline.md")
    for keeps in (
        contract.test_probabilities_are_finite_sum_to_one_and_repeat,
        contract.test_nothing_is_fitted_on_the_test_side,
        contract.test_class_indices_keep_their_place_when_classes_are_missing,
    ):
        keeps(names["spec"])
    assert names["accuracies"]["brightness"] > names["accuracies"]["majority"]
    assert "Nearest brightness 100%" in capsys.readouterr().out
