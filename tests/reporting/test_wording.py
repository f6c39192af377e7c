"""Numbers are rounded by how many stand behind them."""

import math

import pytest

from scanwise.evaluation.breakdown import UNREPORTED
from scanwise.records import Metric
from scanwise.reporting import wording
from scanwise.reporting.groups import build_group_section


def metric(name: str, value: float, low: float, high: float, count: int) -> Metric:
    return Metric(name, value, low, high, "subject", count)


@pytest.mark.parametrize(
    ("given", "want"),
    [
        (metric("accuracy", 0.7237, 0.6512, 0.79, 200), "72.4 % (65.1–79.0), 200 subjects"),
        (metric("accuracy", 0.525, 0.36, 0.685, 40), "53 % (36–69), 40 subjects"),
        (metric("accuracy", 1.0, 0.9, 1.0, 1), "100 % (90–100), 1 subject"),
        (metric("auroc", 0.7777, 0.6912, 0.85, 200), "0.778 (0.691–0.850), 200 subjects"),
        (
            metric("accuracy", 0.5, math.nan, math.nan, 6400),
            "50.0 % (no interval: too few, or all alike), 6,400 subjects",
        ),
        (metric("matthews", -0.05, -0.1, 0.2, 40), "−0.05 (−0.10 to 0.20), 40 subjects"),
        (metric("unheard_of", 0.5, 0.4, 0.6, 40), "0.50 (0.40–0.60), 40 subjects"),
    ],
)
def test_metric_in_full(given: Metric, want: str) -> None:
    assert wording.in_full(given).replace("\xa0", " ") == want


@pytest.mark.parametrize(
    ("value", "low", "high", "count", "want"),
    [
        (0.05, -0.031, 0.13, 200, "+5.0 points (−3.1 to +13.0)"),
        (-0.25, -0.4, -0.1, 40, "−25 points (−40 to −10)"),
        (0.0, -0.001, 0.001, 40, "0 points (0 to 0)"),
        (0.01, math.nan, math.nan, 40, "+1 point (no interval: too few, or all alike)"),
    ],
)
def test_lead(value: float, low: float, high: float, count: int, want: str) -> None:
    assert wording.lead(metric("accuracy difference", value, low, high, count)).replace("\xa0", " ") == want


def test_a_small_group_is_not_of_people_where_scans_are_counted() -> None:
    small = Metric(UNREPORTED, math.nan, math.nan, math.nan, "scan", 2, "season=Spring")
    assert build_group_section([small]).small == "Too few to report (fewer than 5): season Spring (2)."
