"""Regressions from features (N, D) to probabilities (N, C): logistic, ordered logistic, and ridge on people."""

from typing import Any, Self

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from scanwise.arrays import softmax
from scanwise.records import FloatArray, IntArray
from scanwise.ridge import fit_ridge, inner_folds

FLOOR = 1e-6
"""Smallest probability of a fitted model."""
FOLDS = 5
"""Inner folds over people."""


class OrderedLogistic(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """One score and a cut between each two neighbouring classes: the proportional-odds model (McCullagh 1980).

    Args:
        C: inverse of the penalty on the weights, as of scikit-learn's LogisticRegression.
    """

    def __init__(self, C: float = 1.0) -> None:  # noqa: N803 - scikit-learn's name
        self.C = C

    def fit(self, features: FloatArray, labels: IntArray) -> Self:
        """Learn weights and cuts from features (N, D) and labels (N,) of two classes or more."""
        self.classes_, codes = np.unique(labels, return_inverse=True)
        steps, width = len(self.classes_) - 1, features.shape[1]
        below = np.cumsum(np.bincount(codes))[:-1] / len(codes)
        cuts = np.log(below / (1 - below))
        start = np.concatenate([np.zeros(width), cuts[:1], np.log(np.maximum(np.diff(cuts), 1e-3))])
        solved = minimize(
            _loss, start, (features, codes, steps, self.C), "L-BFGS-B", jac=True, options={"maxiter": 2000}
        )
        self.coef_, self.cuts_ = solved.x[:width], _cuts(solved.x[width:])
        return self

    def predict_proba(self, features: FloatArray) -> FloatArray:
        """(N, K) probabilities of the classes of `fit`."""
        below = expit(self.cuts_ - (features @ self.coef_)[:, None])
        return np.diff(np.pad(below, ((0, 0), (1, 1)), constant_values=((0, 0), (0, 1))), axis=1)

    def predict(self, features: FloatArray) -> IntArray:
        """(N,) the most probable class."""
        return np.asarray(self.classes_[self.predict_proba(features).argmax(axis=1)])


def logistic_probs(
    train: FloatArray,
    labels: IntArray,
    test: FloatArray,
    num_classes: int,
    inverse_penalty: float = 1.0,
    ordered: bool = False,
) -> FloatArray:
    """Standardise, fit and predict; column c is class c, also where the training side lacks a class."""
    probs = np.zeros((len(test), num_classes))
    present = np.unique(labels)
    if len(present) == 1:
        probs[:, present[0]] = 1.0
    elif len(test):
        model = logistic_model(inverse_penalty, ordered).fit(train, labels)
        probs[:, model.classes_] = model.predict_proba(test)
    return floored(probs)


def logistic_model(inverse_penalty: float, ordered: bool = False) -> Any:
    """Logistic regression on standardised features; `ordered` has one score for all classes."""
    last = OrderedLogistic(inverse_penalty) if ordered else LogisticRegression(C=inverse_penalty, max_iter=2000)
    return make_pipeline(StandardScaler(), last)


def ridge_probs(
    train: FloatArray, labels: IntArray, test: FloatArray, num_classes: int, ordered: bool = False
) -> FloatArray:
    """Ridge regression on people (P, D), its strength and cuts from inner folds; shares of the classes where they are few."""
    counts = np.bincount(labels, minlength=num_classes)
    if len(labels) < 2 * FOLDS or (counts > 0).sum() < 2 or not np.ptp(train, axis=0).any():
        return floored(np.tile(counts / counts.sum(), (len(test), 1)))
    targets = labels[:, None].astype(np.float64) if ordered or num_classes == 2 else np.eye(num_classes)[labels]
    solved = fit_ridge([train], targets, labels, inner_folds(labels, FOLDS, 0), num_classes)
    members = zip(solved.weights, solved.centres, solved.bias, strict=True)
    logits = [(test - centre[0]) @ weight[0] + bias for weight, centre, bias in members]
    return floored(softmax(np.mean(logits, axis=0)))


def floored(probs: FloatArray) -> FloatArray:
    """Probabilities of which none is 0."""
    probs = np.maximum(probs, FLOOR)
    return np.asarray(probs / probs.sum(axis=1, keepdims=True))


def _cuts(steps: FloatArray) -> FloatArray:
    """Rising cuts from the first one and the logarithms of the distances."""
    return np.cumsum(np.concatenate([steps[:1], np.exp(steps[1:])]))


def _loss(
    values: FloatArray, features: FloatArray, codes: IntArray, steps: int, inverse_penalty: float
) -> tuple[float, FloatArray]:
    """Penalised negative log-likelihood, and its gradient."""
    weights, raw = values[: features.shape[1]], values[features.shape[1] :]
    score, cuts = features @ weights, _cuts(raw)
    upper, lower = np.ones(len(codes)), np.zeros(len(codes))
    upper[codes < steps] = expit(cuts[codes[codes < steps]] - score[codes < steps])
    lower[codes > 0] = expit(cuts[codes[codes > 0] - 1] - score[codes > 0])
    inside = np.maximum(upper - lower, 1e-12)
    of_score = 1 - upper - lower  # of the loss, by the score
    of_cuts = np.zeros(steps)
    np.add.at(of_cuts, codes[codes < steps], (-upper * (1 - upper) / inside)[codes < steps])
    np.add.at(of_cuts, codes[codes > 0] - 1, (lower * (1 - lower) / inside)[codes > 0])
    after = np.cumsum(of_cuts[::-1])[::-1]  # a distance moves all cuts above it
    slope = np.concatenate([inverse_penalty * (of_score @ features) + weights, inverse_penalty * after])
    slope[features.shape[1] + 1 :] *= np.exp(raw[1:])
    return float(-inverse_penalty * np.log(inside).sum() + 0.5 * weights @ weights), slope
