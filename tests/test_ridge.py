"""Ridge on people: what it solves is what scikit-learn solves, and nobody's out-of-fold score has seen the person."""

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge

from scanwise.errors import TrainingError
from scanwise.records import FloatArray, IntArray
from scanwise.ridge import RidgeFit, cuts, fit_ridge, inner_folds, match_cuts

PEOPLE, FOLDS = 60, 5


def _cohort(seed: int = 0) -> tuple[list[FloatArray], IntArray]:
    """Two blocks of features of very different size, both of which tell a little of three ordered classes."""
    random = np.random.default_rng(seed)
    labels = np.arange(PEOPLE) % 3
    blocks = [random.normal(size=(PEOPLE, width)) for width in (40, 7)]
    blocks[0][:, 0] += labels
    blocks[1][:, 0] += labels
    return [blocks[0] * 100, blocks[1]], labels


def _fitted(seed: int = 0) -> tuple[list[FloatArray], IntArray, IntArray, RidgeFit]:
    blocks, labels = _cohort(seed)
    folds = inner_folds(labels, FOLDS, 3)
    return blocks, labels, folds, fit_ridge(blocks, labels[:, None].astype(float), labels, folds, 3)


def _scaled(blocks: list[FloatArray], rows: IntArray) -> FloatArray:
    """Blocks side by side, so that the plain inner product is the kernel."""
    parts = []
    for block in blocks:
        moved = block - block[rows].mean(axis=0)
        parts.append(moved / np.sqrt((moved[rows] ** 2).sum(axis=1).mean() * len(blocks)))
    return np.concatenate(parts, axis=1)


def test_out_of_fold_scores_are_those_of_an_ordinary_ridge_without_the_person() -> None:
    blocks, labels, folds, fitted = _fitted()
    for fold in range(FOLDS):
        kept = np.flatnonzero(folds != fold)
        features = _scaled(blocks, kept)
        other = Ridge(alpha=fitted.strengths[fold]).fit(features[kept], labels[kept])
        assert fitted.scores[folds == fold, 0] == pytest.approx(other.predict(features[folds == fold]))


def test_a_members_weights_give_the_logits_of_its_scores() -> None:
    blocks, labels, folds, fitted = _fitted()
    slope, offset = cuts(fitted.scores, labels, 3)
    for fold, (weights, centres) in enumerate(zip(fitted.weights, fitted.centres, strict=True)):
        left_out = folds == fold
        parts = zip(blocks, weights, centres, strict=True)
        logits = sum((block[left_out] - centre) @ weight for block, weight, centre in parts) + fitted.bias[fold]
        assert logits == pytest.approx(fitted.scores[left_out] @ slope + offset)


def test_the_label_of_a_person_who_was_left_out_changes_nothing_of_the_member() -> None:
    blocks, labels = _cohort()
    folds, targets = inner_folds(labels, FOLDS, 3), labels[:, None].astype(float)
    changed = np.where(folds[:, None] == 2, targets[::-1], targets)
    fitted, other = (fit_ridge(blocks, own, labels, folds, 3, strengths=(1.0,)) for own in (targets, changed))
    slopes = [cuts(fit.scores, labels, 3)[0] for fit in (fitted, other)]

    def direction(fit: int, member: int) -> FloatArray:
        """What a member has learnt before the cuts, which all members share."""
        return (fitted, other)[fit].weights[member][0] @ np.linalg.pinv(slopes[fit])

    assert direction(0, 2) == pytest.approx(direction(1, 2))
    assert direction(0, 1) != pytest.approx(direction(1, 1))


def test_apart_nothing_of_a_member_depends_on_the_people_of_its_fold() -> None:
    """Neither their labels nor their features: then their scores can make prediction sets."""
    blocks, labels = _cohort()
    folds, others = inner_folds(labels, FOLDS, 3), inner_folds(labels, FOLDS, 3) == 2
    new_labels = np.where(others, labels[::-1], labels)
    new_blocks = [np.where(others[:, None], 3 - block, block) for block in blocks]
    fits = [
        fit_ridge(own_blocks, own[:, None].astype(float), own, folds, 3, match_shares=True, apart=True)
        for own_blocks, own in ((blocks, labels), (new_blocks, new_labels))
    ]
    for member in range(FOLDS):
        parts = [(fit.strengths[member], *fit.weights[member], *fit.centres[member], fit.bias[member]) for fit in fits]
        same = [one == pytest.approx(other, rel=1e-6, abs=1e-9) for one, other in zip(*parts, strict=True)]
        assert all(same) == (member == 2)


def test_cuts_are_those_of_linear_discriminant_analysis_and_keep_the_order() -> None:
    _, labels, _, fitted = _fitted()
    slope, offset = cuts(fitted.scores, labels, 3)
    logits = fitted.scores @ slope + offset
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    reference = LinearDiscriminantAnalysis().fit(fitted.scores, labels).predict_proba(fitted.scores)
    assert np.abs(probs - reference).max() < 0.03  # the spread is shrunk a little
    assert (np.diff(slope[0]) > 0).all()


def test_matched_cuts_predict_each_class_as_often_as_it_occurs_and_keep_the_order() -> None:
    random = np.random.default_rng(3)
    labels = np.repeat([0, 1, 3], [100, 70, 30])  # nobody has class 2
    scores = (labels + random.normal(0, 2, 200))[:, None]
    slope, offset = match_cuts(scores, labels, 4)
    predicted = np.argmax(scores @ slope + offset, axis=1)
    assert np.bincount(predicted, minlength=4).tolist() == [100, 70, 0, 30]
    assert (np.diff(predicted[np.argsort(scores[:, 0])]) >= 0).all()
    plain = np.argmax(scores @ cuts(scores, labels, 4)[0] + cuts(scores, labels, 4)[1], axis=1)
    assert np.bincount(plain, minlength=4)[3] < 30


def test_a_class_that_nobody_has_is_never_predicted() -> None:
    blocks, labels = _cohort()
    labels = np.where(labels == 2, 0, labels)
    folds = inner_folds(labels, FOLDS, 0)
    fitted = fit_ridge(blocks, labels[:, None].astype(float), labels, folds, 3)
    slope, offset = cuts(fitted.scores, labels, 3)
    assert not (np.argmax(fitted.scores @ slope + offset, axis=1) == 2).any()


def test_permuted_labels_teach_nothing() -> None:
    blocks, labels = _cohort()
    random, gains = np.random.default_rng(1), []
    for _ in range(20):
        shuffled = random.permutation(labels)
        folds = inner_folds(shuffled, FOLDS, 0)
        fitted = fit_ridge(blocks, shuffled[:, None].astype(float), shuffled, folds, 3)
        gains.append(np.corrcoef(fitted.scores[:, 0], shuffled)[0, 1])
    assert abs(np.mean(gains)) < 0.15


def test_inner_folds_spread_every_class_and_depend_on_labels_and_seed_alone() -> None:
    labels = np.repeat([0, 1, 2], [31, 10, 4])
    folds = inner_folds(labels, FOLDS, 7)
    for index in range(3):
        counts = np.bincount(folds[labels == index], minlength=FOLDS)
        assert counts.max() - counts.min() <= 1
    assert (folds == inner_folds(labels, FOLDS, 7)).all()
    assert (folds != inner_folds(labels, FOLDS, 8)).any()


@pytest.mark.parametrize("labels", [np.array([0, 1, 0]), np.zeros(40, dtype=int)], ids=["few people", "one class"])
def test_too_little_to_learn_from_is_refused(labels: IntArray) -> None:
    with pytest.raises(TrainingError, match="inner folds"):
        fit_ridge([np.ones((len(labels), 2))], labels[:, None] * 1.0, labels, np.arange(len(labels)) % 5, 2)


def test_people_who_are_all_alike_are_refused() -> None:
    labels = np.arange(20) % 2
    with pytest.raises(TrainingError, match="same features"):
        fit_ridge([np.ones((20, 3))], labels[:, None] * 1.0, labels, inner_folds(labels, 5, 0), 2)
