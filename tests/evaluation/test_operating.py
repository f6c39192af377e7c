"""Cuts that are chosen on some people and tried on others, and what acting on a probability is worth."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics as reference

from scanwise.arrays import softmax
from scanwise.errors import DataError, RecipeError, ShapeError
from scanwise.evaluation import operating
from scanwise.evaluation.sample import SubjectBootstrap
from scanwise.records import Metric, Predictions
from scanwise.risk import mid_p_limits


def _rates(said: Predictions, point: operating.OperatingPoint, draws: int) -> list[Metric]:
    """Rates of one threshold on some rows."""
    sample = SubjectBootstrap.of(said, said.subjects, draws, 0)
    return operating._rates(sample, operating._parts(said, point.index, point.positives(said)), 0.95)


def _said(seed: int, subjects: int = 40, scans: int = 3, num_classes: int = 2, skill: float = 1.0) -> Predictions:
    random = np.random.default_rng(seed)
    labels = (np.arange(subjects) % num_classes).repeat(scans)
    own = random.normal(size=(subjects, num_classes)).repeat(scans, axis=0)
    probs = softmax(own + 0.3 * random.normal(size=own.shape) + skill * np.eye(num_classes)[labels])
    count = len(labels)
    return Predictions(
        np.array([f"{row}.png" for row in range(count)]), np.arange(subjects).repeat(scans).astype(str),
        tuple("abcd"[:num_classes]), probs, None, np.zeros(count), np.zeros(count, dtype=bool), labels,
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_cuts_are_the_best_points_of_scikit_learns_curve(seed: int) -> None:
    said = _said(seed)
    alarms, caught, _ = reference.roc_curve(said.labels, said.probs[:, 1], drop_intermediate=False)
    expected = {
        "youden": (caught - alarms).max(),
        "specificity 90 %": caught[1 - alarms >= 0.9 - 1e-9].max(),
        "sensitivity 90 %": (1 - alarms)[caught >= 0.9 - 1e-9].max(),
    }
    for rule, best in expected.items():
        cut = operating.OperatingPoint.choose(said, 1, rule)
        assert cut is not None
        found = {m.name: m.value for m in _rates(said, cut, draws=100)}
        reached = {
            "youden": found["sensitivity"] + found["specificity"] - 1,
            "specificity 90 %": found["sensitivity"],
            "sensitivity 90 %": found["specificity"],
        }
        assert reached[rule] == pytest.approx(best)


def test_rates_are_those_of_the_confusion_matrix() -> None:
    said, cut = _said(7), operating.OperatingPoint("b", "youden", 1, 0.4)
    (true_low, alarms), (missed, caught) = reference.confusion_matrix(said.labels, said.probs[:, 1] >= 0.4)
    found = {m.name: m for m in _rates(said, cut, draws=200)}
    assert found["sensitivity"].value == pytest.approx(caught / (caught + missed))
    assert found["specificity"].value == pytest.approx(true_low / (true_low + alarms))
    assert found["positive_predictive_value"].value == pytest.approx(caught / (caught + alarms))
    assert found["negative_predictive_value"].value == pytest.approx(true_low / (true_low + missed))
    assert found["sensitivity"].count == caught + missed
    assert all(m.low <= m.value <= m.high for m in found.values())


def test_a_perfect_rate_rests_on_its_own_subjects() -> None:
    said = _said(0, subjects=12, skill=50)
    cut = operating.OperatingPoint("b", "youden", 1, 0.5)
    found = {m.name: m for m in _rates(said, cut, draws=100)}
    low, high = mid_p_limits(np.array([1.0]), np.array([6.0]))
    assert (found["sensitivity"].low, found["sensitivity"].high) == pytest.approx((low[0], high[0]))


def test_a_rate_of_one_subject_does_not_look_certain() -> None:
    said = _said(0, scans=1)
    highest = said.probs[:, 1].max()
    owner = said.labels[said.probs[:, 1].argmax()]  # type: ignore[index]
    found = {m.name: m for m in _rates(said, operating.OperatingPoint("b", "youden", 1, float(highest)), draws=200)}
    value = found["positive_predictive_value"]
    assert value.value == owner
    assert value.high - value.low > 0.7


def test_transport_says_what_was_promised_and_what_held() -> None:
    here, there = _said(1, num_classes=3, skill=1.5), _said(2, num_classes=3, skill=0.2)
    rows = operating.transfer_thresholds(here, there, draws=100)
    assert {row["class"] for row in rows} == {"a", "b", "c"}
    promised = [row for row in rows if row["rule"] == "specificity 90 %" and row["rate"] == "specificity"]
    assert all(row["chosen"] >= 0.9 for row in promised)
    youden = [row for row in rows if row["rule"] == "youden" and row["rate"] == "sensitivity"]
    assert np.mean([row["value"] for row in youden]) < np.mean([row["chosen"] for row in youden])


def test_over_folds_each_row_is_tried_by_the_cut_of_its_own_fold() -> None:
    """The second fold says twice the odds of the first: one cut for both would call other rows."""
    chosen, tried = [_said(1), _sharper(_said(2))], [_said(3), _sharper(_said(4))]
    joined = {
        name: np.concatenate([getattr(said, name) for said in tried])
        for name in ("scans", "probs", "labels", "entropy", "abstain")
    }
    who = np.concatenate([np.char.add(f"{fold}-", said.subjects) for fold, said in enumerate(tried)])
    together = replace(tried[0], subjects=who, **joined)
    rows = operating.transfer_thresholds_over_folds(chosen, tried, together, draws=100)
    found = {row["rate"]: row for row in rows if row["rule"] == "youden"}
    cuts = [cut for said in chosen if (cut := operating.OperatingPoint.choose(said, 1, "youden"))]
    assert cuts[1].threshold > cuts[0].threshold + 0.02
    called = np.concatenate([cut.positives(said) for cut, said in zip(cuts, tried, strict=True)])
    positive = together.labels == 1
    assert found["sensitivity"]["value"] == pytest.approx(called[positive].mean())
    assert found["positive_predictive_value"]["value"] == pytest.approx(positive[called].mean())
    assert found["sensitivity"]["count"] == positive.sum()
    promised = np.concatenate([cut.positives(said)[said.labels == 1] for cut, said in zip(cuts, chosen, strict=True)])
    assert found["sensitivity"]["chosen"] == pytest.approx(promised.mean())
    assert np.isnan(found["sensitivity"]["threshold"])


def test_a_class_that_a_fold_cannot_choose_a_cut_for_is_left_out() -> None:
    whole, lacking = _said(1, num_classes=3), _said(2, num_classes=3)
    lacking = replace(lacking, labels=np.minimum(np.asarray(lacking.labels), 1))
    tried = _said(3, num_classes=3)
    assert {
        row["class"]
        for row in operating.transfer_thresholds_over_folds([whole, lacking], [tried, tried], _twice(tried), draws=50)
    } == {"a", "b"}


def _twice(said: Predictions) -> Predictions:
    names = ("scans", "subjects", "probs", "labels", "entropy", "abstain")
    return replace(said, **{name: np.concatenate([getattr(said, name)] * 2) for name in names})


def _sharper(said: Predictions) -> Predictions:
    probs = said.probs * np.array([0.4, 1.6])
    return replace(said, probs=probs / probs.sum(axis=1, keepdims=True))


def test_net_benefit_by_hand() -> None:
    said = _said(3, subjects=30)
    curve = operating.decision_curve(said, 1)
    for place in (4, 49, 89):
        p = curve["threshold"][place]
        called = said.probs[:, 1] >= p
        by_hand = ((called & (said.labels == 1)).sum() - (called & (said.labels == 0)).sum() * p / (1 - p)) / len(said)
        assert curve["network"][place] == pytest.approx(by_hand, abs=1e-12)
    assert curve["everybody"][49] == pytest.approx(0, abs=1e-12)  # half of the rows are of the class


def test_what_cannot_be_chosen() -> None:
    said = _said(4)
    assert said.labels is not None
    assert operating.OperatingPoint.choose(replace(said, labels=np.zeros_like(said.labels)), 1, "youden") is None
    with pytest.raises(RecipeError, match="no rule 'yuden'"):
        operating.OperatingPoint.choose(said, 1, "yuden")
    with pytest.raises(DataError, match="another class"):
        operating.OperatingPoint("c", "youden", 1, 0.5).positives(said)
    with pytest.raises(ShapeError, match="between 0 and 1"):
        operating.decision_curve(said, 1, np.array([0.0]))
