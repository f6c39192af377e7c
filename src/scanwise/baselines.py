"""The trivial classifiers that a network must beat before it has learnt anything worth its name.

Each rival is fitted on the training side alone and gives probabilities for the test side. None has a random part. All
share one signature, so that a report can call them by name:

    rival(train_pixels, train_labels, train_subjects, test_pixels, num_classes) -> probs

with pixels (N, H, W, C) uint8, for `frozen_features_logistic` the (N, D) features of a pretrained network, or for `title_words_logistic` the (N,)
titles. No rival answers
with a probability of exactly 0 or 1 (see `FLOOR` and `DOUBT`), so its likelihood is finite even where it is wrong.
"""

import contextlib
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scanwise.errors import DataError, ShapeError
from scanwise.records import FloatArray, IntArray, StrArray

PixelArray = NDArray[np.uint8]
Baseline = Callable[[NDArray[Any], IntArray, StrArray, NDArray[Any], int], FloatArray]

FLOOR = 1e-6
"""Smallest probability of a fitted model."""
DOUBT = 0.05
"""A neighbour has one label and no probabilities: its class gets 1 - DOUBT, and all classes share DOUBT evenly."""
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""What `frozen_features_logistic` chooses from: scikit-learn's C, for standardised features of one row a subject."""
MOST_SUBJECTS = 400
"""As many are asked, evenly over all, when it chooses."""
COMPONENTS = 20
SMALL = (26, 22)  # rows and columns: the pixels of ANCHORS' spreadsheet baseline


def majority_class(
    train_pixels: PixelArray,
    train_labels: IntArray,
    train_subjects: StrArray,
    test_pixels: PixelArray,
    num_classes: int,
) -> FloatArray:
    """Always the most frequent class; probabilities are the shares of the classes, one pseudo-scan each (Laplace).

    >>> pixels = np.zeros((3, 4, 4, 1), np.uint8)
    >>> majority_class(pixels, np.array([0, 1, 1]), np.array(["a", "b", "c"]), pixels[:1], 2).tolist()
    [[0.4, 0.6]]
    """
    _check(train_pixels, train_labels, train_subjects, test_pixels, num_classes)
    counts = np.bincount(train_labels, minlength=num_classes) + 1.0
    return np.tile(counts / counts.sum(), (len(test_pixels), 1))


def nearest_neighbour(
    train_pixels: PixelArray,
    train_labels: IntArray,
    train_subjects: StrArray,
    test_pixels: PixelArray,
    num_classes: int,
) -> FloatArray:
    """The label of the training scan that correlates best, on blurred pixels of half the size.

    Where a subject is on both sides this looks up the neighbouring slice: 99.9 % on the public four-class MRI set.
    """
    _check(train_pixels, train_labels, train_subjects, test_pixels, num_classes)
    labels = train_labels[_nearest(_fingerprint(train_pixels), _fingerprint(test_pixels))]
    return (1 - DOUBT) * np.eye(num_classes)[labels] + DOUBT / num_classes


def pca_logistic(
    train_pixels: PixelArray,
    train_labels: IntArray,
    train_subjects: StrArray,
    test_pixels: PixelArray,
    num_classes: int,
) -> FloatArray:
    """Logistic regression on the first 20 principal components of the scan, at most 26 by 22 pixels, standardised."""
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    _check(train_pixels, train_labels, train_subjects, test_pixels, num_classes)
    train, test = (_flat(average_areas(pixels, SMALL)) for pixels in (train_pixels, test_pixels))
    scaler = StandardScaler().fit(train)
    train, test = scaler.transform(train), scaler.transform(test)
    pca = PCA(min(COMPONENTS, *train.shape), svd_solver="full").fit(train)
    return _logistic(pca.transform(train), train_labels, pca.transform(test), num_classes)


def frozen_features_logistic(
    train_features: FloatArray,
    train_labels: IntArray,
    train_subjects: StrArray,
    test_features: FloatArray,
    num_classes: int,
) -> FloatArray:
    """Logistic regression on the features of a pretrained network that never saw these scans.

    For rows of scans give the features of scans; for rows of subjects give both sides through `mean_features_by_subject`. There are
    more features than people, so all depends on how strongly weights are held to zero: that is chosen by cross-validation
    over training subjects, on the mean feature of each.

    Args:
        train_features: (N, D). test_features: (M, D).
    """
    _check(train_features, train_labels, train_subjects, test_features, num_classes)
    means, labels, _ = mean_features_by_subject(train_features, train_labels, train_subjects)
    chosen = _strength(means, labels) * len(means) / len(train_features)  # the scans of one person weigh as one
    return _logistic(train_features, train_labels, test_features, num_classes, chosen)


def _strength(features: FloatArray, labels: IntArray) -> float:
    """The entry of `STRENGTHS` with the least cross-validated loss; the middle one where too few people are to be had."""
    from sklearn.metrics import log_loss
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    some = np.unique(np.linspace(0, len(labels) - 1, MOST_SUBJECTS).astype(np.int64))
    counts = np.bincount(labels[some])
    some = some[counts[labels[some]] > 1]
    counts = counts[counts > 1]
    if len(counts) < 2:
        return STRENGTHS[len(STRENGTHS) // 2]
    folds = StratifiedKFold(min(5, int(counts.min())))
    losses = [
        log_loss(
            labels[some],
            cross_val_predict(_regression(strength), features[some], labels[some], cv=folds, method="predict_proba"),
        )
        for strength in STRENGTHS
    ]
    return STRENGTHS[int(np.argmin(losses))]


def mean_features_by_subject(
    features: FloatArray, labels: IntArray, subjects: StrArray
) -> tuple[FloatArray, IntArray, StrArray]:
    """The mean feature of each subject, in order of name; one whose label changes over time gets a row a label.

    Returns:
        (S, D) features, (S,) labels, (S,) subjects.

    >>> mean_features_by_subject(np.array([[1.0], [5.0], [3.0]]), np.array([0, 1, 0]), np.array(["a", "b", "a"]))[0].tolist()
    [[2.0], [5.0]]
    """
    names, subject_index = np.unique(subjects, return_inverse=True)
    pairs, row = np.unique(np.stack([subject_index, labels], axis=1), axis=0, return_inverse=True)
    row = row.reshape(-1)  # NumPy 2.0 gave it a second axis
    sums = np.zeros((len(pairs), features.shape[1]))
    np.add.at(sums, row, features)
    return sums / np.bincount(row)[:, None], pairs[:, 1], names[pairs[:, 0]]


def title_words_logistic(
    train_titles: StrArray,
    train_labels: IntArray,
    train_subjects: StrArray,
    test_titles: StrArray,
    num_classes: int,
) -> FloatArray:
    """Logistic regression on the words and pairs of words of a title, weighed by rarity (tf-idf), without the image.

    Args:
        train_titles, test_titles: (N,) of text in place of pixels; an empty title gives what is known without it.
    """
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    _check(train_titles, train_labels, train_subjects, test_titles, num_classes)
    if len(present := np.unique(train_labels)) == 1 or not any(re.search(r"\w", title) for title in train_titles):
        nothing = np.zeros((len(train_titles) + len(test_titles), 1, 1, 1), dtype=np.uint8)
        seen, asked = nothing[: len(train_titles)], nothing[len(train_titles) :]
        return majority_class(seen, train_labels, train_subjects, asked, num_classes)
    counters = [TfidfVectorizer(ngram_range=(n, n), analyzer="word", sublinear_tf=True, min_df=n) for n in (1, 2)]
    kept = []
    for counter in counters:
        with contextlib.suppress(ValueError):  # no pair of words stands in two titles
            counter.fit(train_titles)
            kept.append(counter)
    train, test = (hstack([c.transform(titles) for c in kept]).tocsr() for titles in (train_titles, test_titles))
    probs = np.zeros((len(test_titles), num_classes))
    if len(test_titles):
        probs[:, present] = LogisticRegression(C=10.0, max_iter=2000).fit(train, train_labels).predict_proba(test)
    probs = np.maximum(probs, FLOOR)
    return np.asarray(probs / probs.sum(axis=1, keepdims=True))


BASELINES: dict[str, Baseline] = {
    "majority": majority_class,
    "nearest_neighbour": nearest_neighbour,
    "pca_logistic": pca_logistic,
    "frozen_features": frozen_features_logistic,
    "words": title_words_logistic,
}
"""By name, as recipes list them; all but `frozen_features_logistic` and `title_words_logistic` look at pixels."""


def average_areas(pixels: PixelArray, size: tuple[int, int]) -> FloatArray:
    """Average over areas down to at most `size` rows and columns, whole pixels or not; a smaller side stays.

    Args:
        pixels: (N, H, W, C).

    Returns:
        (N, h, w, C) float32.
    """
    down = _area_weights(pixels.shape[1], min(size[0], pixels.shape[1]))
    across = _area_weights(pixels.shape[2], min(size[1], pixels.shape[2]))
    small = np.einsum("hH,nHWc,wW->nhwc", down, pixels.astype(np.float32), across, optimize=True)
    return np.asarray(small)


def _area_weights(old: int, new: int) -> FloatArray:
    """(new, old) rows that sum to one: how much of each old pixel lies in each new one."""
    edges = np.linspace(0, old, new + 1)
    low, high = edges[:-1, None], edges[1:, None]
    start = np.arange(old)[None]
    overlap = np.clip(np.minimum(high, start + 1) - np.maximum(low, start), 0, None)
    return np.asarray(overlap / overlap.sum(axis=1, keepdims=True), dtype=np.float32)


def _fingerprint(pixels: PixelArray) -> FloatArray:
    """(N, h*w*C) blurred to half the size, mean 0, norm 1, so that a product of two is their correlation."""
    from scipy.ndimage import gaussian_filter

    half = average_areas(pixels, ((pixels.shape[1] + 1) // 2, (pixels.shape[2] + 1) // 2))
    flat = _flat(gaussian_filter(half, (0, 0.5, 0.5, 0)))
    flat = flat - flat.mean(axis=1, keepdims=True)
    norm = np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)  # a blank scan resembles nothing
    return np.asarray(flat / norm)


def _nearest(train: FloatArray, test: FloatArray, block: int = 1024) -> IntArray:
    """(M,) row of `train` with the largest product; the earliest among equals. Blocks bound the memory."""
    best = [np.argmax(test[start : start + block] @ train.T, axis=1) for start in range(0, len(test), block)]
    return np.concatenate(best) if best else np.zeros(0, dtype=np.int64)


def _logistic(
    train: FloatArray, labels: IntArray, test: FloatArray, num_classes: int, strength: float = 1.0
) -> FloatArray:
    """Standardise, fit and predict; column c is class c, also where the training side lacks a class."""
    probs = np.zeros((len(test), num_classes))
    present = np.unique(labels)
    if len(present) == 1:
        probs[:, present[0]] = 1.0
    elif len(test):
        model = _regression(strength).fit(train, labels)
        probs[:, model.classes_] = model.predict_proba(test)
    probs = np.maximum(probs, FLOOR)
    return np.asarray(probs / probs.sum(axis=1, keepdims=True))


def _regression(strength: float) -> Any:
    """Logistic regression on standardised features."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))


def _flat(pixels: FloatArray) -> FloatArray:
    return pixels.reshape(len(pixels), -1)


def _check(train: NDArray[Any], labels: IntArray, subjects: StrArray, test: NDArray[Any], num_classes: int) -> None:
    """Refuse what cannot be fitted."""
    if len(labels) != len(train) or len(subjects) != len(train) or train.shape[1:] != test.shape[1:]:
        raise ShapeError(
            "A rival needs a label and a subject for each training scan, and test scans of the same shape; got "
            f"{train.shape} training scans, {len(labels)} labels, {len(subjects)} subjects, {test.shape} test scans."
        )
    if len(labels) == 0:
        raise DataError("A rival needs training scans; there are none. Give the training side some subjects.")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise DataError(f"Labels must lie between 0 and {num_classes - 1}; found {labels.min()} to {labels.max()}.")
