"""How scans of a subject become one answer is chosen on validation subjects, kept in the run, and used by whoever predicts."""

import numpy as np
import pytest

from scanwise import arrays, bundle, pooling
from scanwise.bundle.predictors import build_predictors
from scanwise.calibration import Temperature
from scanwise.conformal import ConformalSets
from scanwise.metrics import METRICS
from scanwise.pipeline.stages.calibration import choose_pooling
from scanwise.records import Logits


def _logits(wild: float, seed: int = 0, subjects: int = 60, scans: int = 6) -> Logits:
    """Scans of which one in three is `wild`: sure, and at random."""
    random = np.random.default_rng(seed)
    labels = (np.arange(subjects) % 3).repeat(scans)
    values = 1.2 * np.eye(3)[labels] + random.normal(size=(len(labels), 3))
    odd = random.random(len(labels)) < 1 / 3
    values[odd] = wild * np.eye(3)[random.integers(0, 3, odd.sum())]
    names = np.array([f"{row}" for row in range(len(labels))])
    who = np.arange(subjects).repeat(scans).astype(str)
    return Logits(values[:, None, :].astype(np.float32), labels, names, who, ("a", "b", "c"))


def test_auto_takes_the_lowest_loss_and_a_name_is_taken_as_it_is() -> None:
    for wild in (0.0, 40.0):
        given = _logits(wild)
        losses = {}
        for how in pooling.POOLINGS:
            pooled = pooling.pool_by_subject(given, how)
            learnt = Temperature.fit(pooled.logits, pooled.labels, pooled.subjects)
            losses[how] = METRICS["nll"](learnt(pooled.logits), pooled.labels)
        assert choose_pooling(given, "auto") == min(losses, key=lambda how: losses[how])
    assert choose_pooling(_logits(40.0), "auto") != "mean_logit"  # one wild scan outweighs all others there
    assert choose_pooling(_logits(40.0), "mean_logit") == "mean_logit"


@pytest.mark.parametrize("how", pooling.POOLINGS)
def test_what_was_chosen_is_what_answers(how: str) -> None:
    given = _logits(10.0)
    probs = np.full((50, 3), 1 / 3)
    sets = ConformalSets.fit(probs, np.zeros(50, dtype=int), alpha=0.1, score="lac").to_dict()
    plain = Temperature(1.0).to_dict()
    calibrators = {"scan": plain, "subject": {**plain, "pooling": how}}
    judges = build_predictors(calibrators, {"scan": sets, "subject": sets}, {}, None, None)
    _, people = bundle.predict_scans_and_subjects(judges, given, ["0" * 64] * len(given))
    expected = arrays.softmax(pooling.pool_by_subject(given, how).logits).mean(axis=1)
    np.testing.assert_allclose(people.probs, expected, atol=1e-6)
