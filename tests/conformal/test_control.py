"""The sensitivity floor is kept as often as it says, and not much more often."""

import math

import numpy as np
import pytest
from scipy import stats

from scanwise.conformal import SensitivityFloor
from scanwise.errors import DataError, ShapeError
from scanwise.risk import clopper_pearson, minimum_answered


def _names(count: int) -> np.ndarray:
    return np.arange(count).astype(str)


@pytest.mark.parametrize("steps", [0, 12])
@pytest.mark.parametrize(("count", "floor", "delta"), [(60, 0.9, 0.1), (150, 0.8, 0.05), (30, 0.9, 0.1)])
def test_the_floor_is_kept_with_the_stated_probability(count: int, floor: float, delta: float, steps: int) -> None:
    """Evidence of the ill is uniform, or one of `steps` + 1 values, so that a cut's true sensitivity is known."""
    random, trials, failed, healthy = np.random.default_rng(count), 2000, 0, []
    for _ in range(trials):
        evidence = np.concatenate([random.random(count), random.random(40) - 0.5])
        if steps:
            evidence = np.round(evidence * steps) / steps
        found = SensitivityFloor.fit(
            evidence, np.arange(count + 40) < count, floor=floor, delta=delta, subjects=_names(count + 40)
        )
        cut = found.threshold
        if steps:  # P(round(steps u) >= steps t), u uniform
            cut = max(0.0, (round(cut * steps) - 0.5) / steps)
        failed += 1 - cut < floor
        healthy.append(found.specificity)
    allowed = max(m for m in range(count) if stats.binom.cdf(m, count, 1 - floor) <= delta)
    exact = stats.binom.cdf(allowed, count, 1 - floor)
    noise = 4 * math.sqrt(delta / trials)
    assert failed / trials <= delta + noise
    if not steps:
        assert abs(failed / trials - exact) < noise  # neither broken nor idle
    assert np.mean(healthy) > 0.4  # half of the healthy lie below all of the ill


def test_the_cut_is_the_highest_whose_test_passes() -> None:
    random = np.random.default_rng(1)
    for _ in range(100):
        count = int(random.integers(1, 80))
        evidence, ill = random.integers(0, 30, count) / 10, random.random(count) < 0.7
        found = SensitivityFloor.fit(evidence, ill, floor=0.8, delta=0.2, subjects=_names(count))
        cuts = [
            cut
            for cut in np.unique(evidence[ill])
            if stats.binom.cdf((evidence[ill] < cut).sum(), ill.sum(), 1 - 0.8) <= 0.2 + 1e-12
        ]
        assert found.threshold == max(cuts, default=-math.inf)
        assert (found.refused == "") == bool(cuts) == (ill.sum() >= minimum_answered(0.2, 0.2))
        np.testing.assert_array_equal(found(evidence), evidence >= found.threshold)
        assert found.ill == ill.sum()
        left = int((evidence[~ill] < found.threshold).sum())
        if (~ill).any():
            assert found.specificity == left / (~ill).sum()
        assert found.specificity_interval == clopper_pearson(left, int((~ill).sum()))


def test_too_few_flag_everyone_and_say_so() -> None:
    found = SensitivityFloor.fit(np.arange(21.0), np.ones(21, bool), subjects=_names(21))
    assert str(found) == "no cut qualifies, so everyone is flagged: 21 ill subjects; it takes 22"
    assert found(np.array([-1e9, np.nan, -np.inf])).all()
    enough = SensitivityFloor.fit(np.arange(22.0), np.ones(22, bool), subjects=_names(22))
    assert enough.threshold == 0
    assert str(enough) == "flags at least 90% of the ill (90% sure)"
    assert enough(np.array([np.nan])).all()
    nobody = SensitivityFloor.fit(np.zeros(3), np.zeros(3, bool), subjects=_names(3))
    assert "0 ill subjects" in nobody.refused


def test_bad_input_is_refused() -> None:
    ill = np.ones(30, bool)
    with pytest.raises(DataError, match="Pool the scans"):
        SensitivityFloor.fit(np.zeros(30), ill, subjects=np.repeat(["a", "b"], 15))
    with pytest.raises(DataError, match=r"not a number\. Rows: 2"):
        SensitivityFloor.fit(np.where(np.arange(30) == 2, np.nan, 0), ill, subjects=_names(30))
    with pytest.raises(ShapeError, match="one length"):
        SensitivityFloor.fit(np.zeros(29), ill, subjects=_names(29))
    with pytest.raises(DataError, match="N is 0"):
        SensitivityFloor.fit(np.zeros(0), ill[:0], subjects=_names(0))
    for wrong in ({"floor": 1.0}, {"floor": 0.0}, {"delta": 0.0}):
        with pytest.raises(DataError, match="must lie between 0 and 1"):
            SensitivityFloor.fit(np.zeros(30), ill, subjects=_names(30), **wrong)  # type: ignore[arg-type]
