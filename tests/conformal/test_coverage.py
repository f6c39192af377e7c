"""Lines of coverage: the right rows, the right bands, and nothing where nothing is known."""

import math

import numpy as np
import pytest

from scanwise.arrays import softmax
from scanwise.conformal import ConditionalSets, ConformalSets, coverage_lines, size_lines
from scanwise.errors import ShapeError
from scanwise.risk import clopper_pearson, coverage_band

NAMES = np.array([f"s{row}" for row in range(90)])


def _given() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = np.arange(90) % 3
    return softmax(random.normal(size=(90, 3)) + 2 * np.eye(3)[labels]), labels


def test_everyone_has_the_band_of_the_threshold() -> None:
    probs, labels = _given()
    fitted = ConformalSets.fit(probs[:60], labels[:60], alpha=0.1, score="lac")
    sets = fitted(probs[60:])
    (line,) = coverage_lines(sets, labels[60:], NAMES[60:], fitted, classes=("a", "b", "c"))
    hits = int(sets[np.arange(30), labels[60:]].sum())
    assert (line.name, line.subjects, line.scans) == ("everyone", 30, 30)
    assert line.coverage == hits / 30
    assert line.interval == clopper_pearson(hits, 30)
    assert line.band == tuple(coverage_band(60, 30, 0.1, share) for share in (0.025, 0.975))
    assert line.size == sets.sum() / 30


def test_each_class_has_the_band_of_its_own_threshold_and_merged_ones_share_it() -> None:
    probs, labels = _given()
    known = np.concatenate([np.flatnonzero(labels == 0)[:20], np.flatnonzero(labels == 1)[:5], [2, 5, 8, 11, 14]])
    fitted = ConditionalSets.fit(probs[known], labels[known], alpha=0.1, score="lac")
    assert fitted.cells == (("0",), ("1", "2"))
    lines = coverage_lines(fitted(probs), labels, NAMES, fitted, classes=("a", "b", "c"))
    assert [line.name for line in lines] == ["everyone", "a", "2 merged", "  b", "  c"]
    assert [line.scans for line in lines] == [90, 30, 60, 30, 30]
    bands = [tuple(coverage_band(n, rows, 0.1, share) for share in (0.025, 0.975)) for n, rows in ((20, 30), (10, 60))]
    assert [lines[1].band, lines[2].band] == bands
    assert all(math.isnan(lines[place].band[0]) for place in (0, 3, 4))


def test_groups_without_a_cell_have_a_line_and_groups_must_be_given() -> None:
    probs, labels = _given()
    groups = np.where(np.arange(90) % 2, "x", "")
    fitted = ConditionalSets.fit(probs, labels, alpha=0.1, score="lac", groups=groups)
    other = np.where(np.arange(90) < 10, "new", groups)
    options = {"fitted": fitted, "classes": ("a", "b", "c")}
    sets = fitted(probs, groups=other)
    lines = coverage_lines(sets, labels, NAMES, groups=other, **options)  # type: ignore[arg-type]
    assert [(line.name, line.scans) for line in lines] == [
        ("everyone", 90), ("(none)", 40), ("x", 40), ("in no cell", 10),
    ]  # fmt: skip
    with pytest.raises(ShapeError, match="give the group of each row"):
        coverage_lines(sets, labels, NAMES, **options)  # type: ignore[arg-type]


def test_without_labels_sizes_are_all_that_is_known() -> None:
    probs, labels = _given()
    fitted = ConformalSets.fit(probs, labels, alpha=0.1, score="lac")
    by_class = ConditionalSets.fit(probs, labels, alpha=0.1, score="lac")
    for sets in (fitted, by_class):
        (line,) = coverage_lines(sets(probs), None, NAMES, sets, classes=("a", "b", "c"))
        assert line.size == sets(probs).sum() / 90
        assert all(map(math.isnan, (line.coverage, *line.interval, *line.band)))
    assert all(math.isnan(line.coverage) for line in size_lines(fitted(probs), None, NAMES))


def test_sets_are_counted_by_size_and_large_ones_together() -> None:
    sizes = np.array([0, 1, 1, 2, 3, 4, 5, 8, 9, 20, 20])
    sets = np.arange(20) < sizes[:, None]
    labels = np.zeros(11, dtype=int)
    lines = size_lines(sets, labels, NAMES[:11])
    assert [(line.name, line.scans) for line in lines] == [
        ("0", 1), ("1", 2), ("2", 1), ("3", 1), ("4", 1), ("5–8", 2), ("9–16", 1), ("17–20", 2),
    ]  # fmt: skip
    assert [line.coverage for line in lines] == [0] + [1] * 7
    assert lines[-1].size == 20
