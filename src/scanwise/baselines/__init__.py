"""Simple baselines that a network should beat before its accuracy means anything.

Each baseline is fitted on the training side alone and gives probabilities for the test side. None has a random part. All
share one signature, and are called through `BaselineSpec.fit_predict`, which checks what they are given:

    classify(train_inputs, train_labels, train_subjects, test_inputs, num_classes) -> probs

where inputs are pixels (N, H, W, C) uint8, features (N, D) of a pretrained network, or titles (N,), as
`BaselineSpec.needs` has it; one that `orders` takes ordered=True besides, where the classes have an order. No baseline gives a
probability of exactly 0 or 1 (see `regression.FLOOR` and `SMOOTHING`), so its likelihood is finite even where it is wrong. A new baseline is a new row of `BASELINES` and a test.
"""

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from scanwise.baselines.summaries import (
    PixelArray,
    correlation_rows,
    gray_histogram,
    share_of_dark_pixels,
    small_pixels,
)
from scanwise.errors import DataError, ShapeError
from scanwise.records import FloatArray, IntArray, StrArray

Classify = Callable[..., FloatArray]

SMOOTHING = 0.05
"""A neighbour has one label and no probabilities: its class gets 1 - SMOOTHING, and all classes share SMOOTHING."""
INVERSE_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Choices of `frozen_features_logistic`: scikit-learn's C, for standardised features of one row a subject."""
MAX_SUBJECTS = 400
"""Subjects for that choice, evenly over all; at most this many."""
COMPONENTS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineSpec:
    """A baseline and everything that is derived from it: the pipeline's inputs, and its words on every surface.

    Attributes:
        name: key in recipes, file names and metrics.json.
        title: name in tables and on the command line.
        meaning: explanation in half a sentence.
        classify: training inputs, labels and subjects, test inputs and the number of classes, to probabilities.
        needs: its inputs: pixels (N, H, W, C), features (N, D) of a pretrained network, titles (N,), counts (N, 1) of the
            scans of each scan's subject, or covariates (N, K) of the subject, NaN where one is not known.
        summary: from pixels to the features (N, D) that it reads in their place, or None.
        orders: it has a form for ordered classes: one score, and cuts that are learnt.
        shows_acquisition: better than chance, it reads how people were scanned.
        by_subject: fitted a second time on one mean row per subject for the predictions of subjects; otherwise these are
            pooled from the scans'. For all but pixels and words.
    """

    name: str
    title: str
    meaning: str
    classify: Classify
    needs: Literal["pixels", "features", "words", "counts", "covariates"] = "pixels"
    summary: Callable[[PixelArray], FloatArray] | None = None
    by_subject: bool = False
    orders: bool = False
    shows_acquisition: bool = False

    def fit_predict(
        self,
        train: NDArray[Any],
        labels: IntArray,
        subjects: StrArray,
        test: NDArray[Any],
        num_classes: int,
        *,
        ordered: bool = False,
    ) -> FloatArray:
        """(M, num_classes) probabilities for the test side, of the baseline fitted on the training side.

        Args:
            train: (N, …) inputs as `needs` has it. labels: (N,). subjects: (N,).
            test: (M, …) inputs.
            num_classes: also of classes that the training side has no scan of.
            ordered: the classes have an order; for baselines that `orders`.

        Raises:
            ShapeError, DataError: if they do not fit together, or there is nothing to fit.
        """
        _check_inputs(train, labels, subjects, test, num_classes)
        given = (train, labels, subjects, test, num_classes)
        return self.classify(*given, ordered=True) if ordered else self.classify(*given)


def majority_class(
    train_pixels: PixelArray,
    train_labels: IntArray,
    train_subjects: StrArray,
    test_pixels: PixelArray,
    num_classes: int,
) -> FloatArray:
    """The class that most subjects have; probabilities are the shares of subjects, one pseudo-subject a class (Laplace).

    >>> pixels, subjects = np.zeros((5, 4, 4, 1), np.uint8), np.array(["a", "a", "a", "b", "c"])
    >>> majority_class(pixels, np.array([0, 0, 0, 1, 1]), subjects, pixels[:1], 2).tolist()
    [[0.4, 0.6]]
    """
    pairs = np.stack([np.unique(train_subjects, return_inverse=True)[1], train_labels])
    counts = np.bincount(np.unique(pairs, axis=1)[1], minlength=num_classes) + 1.0  # a subject once, whatever its scans
    return np.tile(counts / counts.sum(), (len(test_pixels), 1))


def nearest_neighbour(
    train_pixels: PixelArray,
    train_labels: IntArray,
    train_subjects: StrArray,
    test_pixels: PixelArray,
    num_classes: int,
) -> FloatArray:
    """The label of the training scan that correlates best, on blurred pixels of half the size.

    Where a subject is on both sides this finds the neighbouring slice: 99.9 % on the public four-class MRI set.
    """
    labels = train_labels[_nearest(correlation_rows(train_pixels), correlation_rows(test_pixels))]
    return (1 - SMOOTHING) * np.eye(num_classes)[labels] + SMOOTHING / num_classes


def pca_logistic(
    train_features: NDArray[Any],
    train_labels: IntArray,
    train_subjects: StrArray,
    test_features: NDArray[Any],
    num_classes: int,
    *,
    ordered: bool = False,
) -> FloatArray:
    """Logistic regression on the first 20 principal components of standardised features (N, D), or of small pixels."""
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    from scanwise.baselines.regression import logistic_probs

    train, test = (part if part.ndim == 2 else small_pixels(part) for part in (train_features, test_features))
    scaler = StandardScaler().fit(train)
    train, test = scaler.transform(train), scaler.transform(test)
    pca = PCA(min(COMPONENTS, *train.shape), svd_solver="full").fit(train)
    return logistic_probs(pca.transform(train), train_labels, pca.transform(test), num_classes, ordered=ordered)


def few_features_logistic(
    train_features: FloatArray,
    train_labels: IntArray,
    train_subjects: StrArray,
    test_features: FloatArray,
    num_classes: int,
    *,
    ordered: bool = False,
) -> FloatArray:
    """Logistic regression on a few standardised features (N, D); one that is not known (NaN) counts as the average."""
    from scanwise.baselines.regression import logistic_probs

    finite = np.isfinite(train_features)
    means = np.where(finite, train_features, 0).sum(axis=0) / np.maximum(finite.sum(axis=0), 1)
    train, test = (np.where(np.isfinite(part), part, means) for part in (train_features, test_features))
    return logistic_probs(train, train_labels, test, num_classes, ordered=ordered)


def small_pixels_ridge(
    train_features: FloatArray,
    train_labels: IntArray,
    train_subjects: StrArray,
    test_features: FloatArray,
    num_classes: int,
    *,
    ordered: bool = False,
) -> FloatArray:
    """Ridge regression on the mean features of each person; of scans it reads their own features by the same weights."""
    from scanwise.baselines.regression import ridge_probs

    means, labels, _ = mean_features_by_subject(train_features, train_labels, train_subjects)
    return ridge_probs(means, labels, test_features, num_classes, ordered)


def frozen_features_logistic(
    train_features: FloatArray,
    train_labels: IntArray,
    train_subjects: StrArray,
    test_features: FloatArray,
    num_classes: int,
    *,
    ordered: bool = False,
) -> FloatArray:
    """Logistic regression on the features of a pretrained network that never saw these scans.

    For rows of scans give the features of scans; for rows of subjects give both sides through `mean_features_by_subject`. There are
    more features than people, so the strength of the penalty decides: it is chosen by cross-validation over training
    subjects, on the mean feature of each.

    Args:
        train_features: (N, D). test_features: (M, D).
    """
    from scanwise.baselines.regression import logistic_probs

    means, labels, _ = mean_features_by_subject(train_features, train_labels, train_subjects)
    inverse_penalty = (
        _choose_inverse_penalty(means, labels, ordered) * len(means) / len(train_features)
    )  # the scans of one person weigh as one
    return logistic_probs(train_features, train_labels, test_features, num_classes, inverse_penalty, ordered)


def _choose_inverse_penalty(features: FloatArray, labels: IntArray, ordered: bool) -> float:
    """The entry of `INVERSE_PENALTIES` with the least cross-validated loss; the middle one where there are too few people."""
    from sklearn.metrics import log_loss
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    from scanwise.baselines.regression import logistic_model

    some = np.unique(np.linspace(0, len(labels) - 1, MAX_SUBJECTS).astype(np.int64))
    counts = np.bincount(labels[some])
    some = some[counts[labels[some]] > 1]
    counts = counts[counts > 1]
    if len(counts) < 2:
        return INVERSE_PENALTIES[len(INVERSE_PENALTIES) // 2]
    folds = StratifiedKFold(min(5, int(counts.min())))
    losses = [
        log_loss(
            labels[some],
            cross_val_predict(
                logistic_model(inverse_penalty, ordered), features[some], labels[some], cv=folds, method="predict_proba"
            ),
        )
        for inverse_penalty in INVERSE_PENALTIES
    ]
    return INVERSE_PENALTIES[int(np.argmin(losses))]


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
    train_titles: StrArray, train_labels: IntArray, train_subjects: StrArray, test_titles: StrArray, num_classes: int
) -> FloatArray:
    """Logistic regression on the words and pairs of words of a title, weighed by rarity (tf-idf), without the image.

    Args:
        train_titles, test_titles: (N,) of text in place of pixels; an empty title gives the prediction without words.
    """
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    from scanwise.baselines.regression import floored

    if len(present := np.unique(train_labels)) == 1 or not any(re.search(r"\w", title) for title in train_titles):
        nothing = np.zeros((len(train_titles) + len(test_titles), 1, 1, 1), dtype=np.uint8)
        train_pixels, test_pixels = nothing[: len(train_titles)], nothing[len(train_titles) :]
        return majority_class(train_pixels, train_labels, train_subjects, test_pixels, num_classes)
    counters = [TfidfVectorizer(ngram_range=(n, n), analyzer="word", sublinear_tf=True, min_df=n) for n in (1, 2)]
    fitted = []
    for counter in counters:
        with contextlib.suppress(ValueError):  # no pair of words stands in two titles
            counter.fit(train_titles)
            fitted.append(counter)
    train, test = (hstack([c.transform(titles) for c in fitted]).tocsr() for titles in (train_titles, test_titles))
    probs = np.zeros((len(test_titles), num_classes))
    if len(test_titles):
        probs[:, present] = LogisticRegression(C=10.0, max_iter=2000).fit(train, train_labels).predict_proba(test)
    return floored(probs)


def _nearest(train: FloatArray, test: FloatArray, block: int = 1024) -> IntArray:
    """(M,) row of `train` with the largest product; the earliest among equals. Blocks bound the memory."""
    best = [np.argmax(test[start : start + block] @ train.T, axis=1) for start in range(0, len(test), block)]
    return np.concatenate(best) if best else np.zeros(0, dtype=np.int64)


def _check_inputs(
    train: NDArray[Any], labels: IntArray, subjects: StrArray, test: NDArray[Any], num_classes: int
) -> None:
    """Check the shapes and labels of what a baseline is fitted on."""
    if len(labels) != len(train) or len(subjects) != len(train) or train.shape[1:] != test.shape[1:]:
        raise ShapeError(
            "A baseline needs a label and a subject for each training scan, and test scans of the same shape; got "
            f"{train.shape} training scans, {len(labels)} labels, {len(subjects)} subjects, {test.shape} test scans."
        )
    if len(labels) == 0:
        raise DataError("A baseline needs training scans; there are none. Give the training side some subjects.")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise DataError(f"Labels must lie between 0 and {num_classes - 1}; found {labels.min()} to {labels.max()}.")


BASELINES: dict[str, BaselineSpec] = {
    spec.name: spec
    for spec in (
        BaselineSpec(
            name="majority",
            title="Majority class",
            meaning="always answers the most common class of training, without looking at the scan",
            classify=majority_class,
        ),
        BaselineSpec(
            name="nearest_neighbour",
            title="Nearest neighbour",
            meaning="answers the class of the most similar training scan, pixel by pixel",
            classify=nearest_neighbour,
        ),
        BaselineSpec(
            name="pca_logistic",
            title="Logistic regression on pixels",
            meaning="logistic regression on a few principal components of a tiny copy of the scan (PCA)",
            classify=pca_logistic,
            summary=small_pixels,
            by_subject=True,
            orders=True,
        ),
        BaselineSpec(
            name="small_pixels",
            title="Ridge regression on small pixels",
            meaning="ridge regression on a tiny copy of the subject's scans, averaged",
            classify=small_pixels_ridge,
            summary=small_pixels,
            by_subject=True,
            orders=True,
        ),
        BaselineSpec(
            name="dark_share",
            title="Share of dark pixels",
            meaning="logistic regression on how much of the scan is dark, and on nothing else",
            classify=few_features_logistic,
            summary=share_of_dark_pixels,
            by_subject=True,
            orders=True,
            shows_acquisition=True,
        ),
        BaselineSpec(
            name="gray_histogram",
            title="Gray histogram",
            meaning="logistic regression on the histogram of the scan's gray values, wherever they lie",
            classify=few_features_logistic,
            summary=gray_histogram,
            by_subject=True,
            orders=True,
            shows_acquisition=True,
        ),
        BaselineSpec(
            name="scan_count",
            title="Number of scans",
            meaning="logistic regression on how many scans the subject has; better than chance, it reads how people were scanned",
            classify=few_features_logistic,
            needs="counts",
            by_subject=True,
            orders=True,
            shows_acquisition=True,
        ),
        BaselineSpec(
            name="covariates",
            title="Covariates alone",
            meaning="logistic regression on what is known of the person (data.covariates), without any scan",
            classify=few_features_logistic,
            needs="covariates",
            by_subject=True,
            orders=True,
        ),
        BaselineSpec(
            name="frozen_features",
            title="Logistic regression on features",
            meaning="logistic regression on features of a network that was never trained on scans",
            classify=frozen_features_logistic,
            needs="features",
            by_subject=True,
            orders=True,
        ),
        BaselineSpec(
            name="words",
            title="Logistic regression on words",
            meaning="logistic regression on the words beside the scan, without the scan (tf-idf)",
            classify=title_words_logistic,
            needs="words",
        ),
    )
}
"""All baselines by the name that recipes and result files use, in the order of tables."""
