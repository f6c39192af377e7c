"""Checks and small operations on arrays that come in from anywhere: logits, probabilities, labels, features."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from scanwise.errors import DataError, ShapeError
from scanwise.records import BoolArray, FloatArray, IntArray
from scanwise.untrusted import quote


def log_softmax(logits: FloatArray) -> FloatArray:
    """Log-probabilities over the last axis, in float64; what is subtracted is the same for every class of a row.

    >>> log_softmax(np.array([0.0, 0.0])).round(4)
    array([-0.6931, -0.6931])
    """
    logits = np.asarray(logits, dtype=np.float64)
    shifted: FloatArray = logits - logits.max(axis=-1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted


def softmax(logits: FloatArray) -> FloatArray:
    """Probabilities over the last axis, in float64."""
    logits = np.asarray(logits, dtype=np.float64)
    shifted: FloatArray = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shifted /= shifted.sum(axis=-1, keepdims=True)
    return shifted


def ends_of_ties(values: FloatArray) -> IntArray:
    """Ends of the runs of equal values in a sorted array; infinities are equal to each other.

    >>> ends_of_ties(np.array([1.0, 1.0, 2.0, np.inf, np.inf]))
    array([1, 2, 4])
    """
    return np.flatnonzero(np.append(values[1:] != values[:-1], True))


def check_logits(logits: FloatArray) -> FloatArray:
    """(N, C) or (N, T, C) finite logits as they are, or an error that names the rows.

    They are logits whatever values they have, also between 0 and 1.
    """
    logits = np.asarray(logits)
    if logits.ndim not in (2, 3) or logits.shape[-1] < 2 or (logits.ndim == 3 and logits.shape[1] < 1):
        raise ShapeError(f"Logits must be (N, C) or (N, T, C) of two classes or more; they are {logits.shape}.")
    if len(logits) == 0:
        raise DataError("There are no logits: N is 0.")
    finite: BoolArray = np.logical_and.reduce(np.isfinite(logits.reshape(len(logits), -1)), axis=1)
    refuse_rows(~finite, "logits that are NaN or infinite")
    return logits if logits.dtype.kind == "f" else logits.astype(np.float64)


def check_probs(probs: FloatArray) -> FloatArray:
    """(N, C) probabilities as they are, or an error that names the rows.

    Rows must be finite, not negative and sum to one within what float16 can hold.
    """
    probs = np.asarray(probs)
    if probs.ndim != 2 or probs.shape[1] < 2:
        raise ShapeError(f"Probabilities must be (N, C) of two classes or more; they are {probs.shape}.")
    if len(probs) == 0:
        raise DataError("There are no probabilities: N is 0.")
    sums = probs.sum(axis=1, dtype=np.float64)
    tolerance = 1e-2 if probs.dtype == np.float16 else 1e-3
    wrong = ~(np.abs(sums - 1) <= tolerance)
    if probs.min() < 0:
        wrong |= (probs < 0).any(axis=1)
    refuse_rows(wrong, "probabilities that are negative, NaN or do not sum to one (logits? calibrate them first)")
    return probs if probs.dtype.kind == "f" else probs.astype(np.float64)


def check_labels(labels: IntArray, num_classes: int, count: int) -> IntArray:
    """(N,) class indices as they are, or an error that names the rows."""
    labels = np.asarray(labels)
    if labels.shape != (count,):
        raise ShapeError(f"Expected the label of each of {count} rows; found labels of shape {labels.shape}.")
    if labels.dtype.kind not in "iu":
        raise DataError(f"Labels must be class indices, whole numbers; they are {labels.dtype}.")
    refuse_rows((labels < 0) | (labels >= num_classes), f"a label outside 0…{num_classes - 1}")
    return labels.astype(np.int64, copy=False)


def check_features(features: FloatArray) -> FloatArray:
    """(N, D) finite features in float64, or an error that names the rows."""
    features = np.asarray(features, dtype=np.float64)
    if features.ndim != 2 or not len(features):
        raise ShapeError(f"Features must be (N, D) with N at least 1; they are {features.shape}.")
    refuse_rows(~np.logical_and.reduce(np.isfinite(features), axis=1), "features that are NaN or infinite")
    return features


def check_draws(draws: FloatArray, count: int) -> FloatArray:
    """(N,) numbers in [0, 1) as they are, or an error that names the rows."""
    draws = np.asarray(draws, dtype=np.float64)
    if draws.shape != (count,):
        raise ShapeError(f"Expected the draw of each of {count} rows; found draws of shape {draws.shape}.")
    refuse_rows(~((draws >= 0) & (draws < 1)), "a draw outside [0, 1)")
    return draws


def refuse_rows(wrong: BoolArray, what: str) -> None:
    """Raise a DataError that names the rows where `wrong` is true, if any."""
    if wrong.any():
        rows = np.flatnonzero(wrong)
        shown = ", ".join(map(str, rows[:5])) + (", …" if len(rows) > 5 else "")
        raise DataError(f"{len(rows)} of {len(wrong)} rows have {what}. Rows: {shown}.")


def number_from(values: Mapping[str, Any], name: str, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite number between `low` and `high` from a saved dictionary, or a DataError."""
    value = values.get(name)
    endless = isinstance(value, int) and value.bit_length() > 1000  # JSON may have thousands of digits
    if isinstance(value, bool) or not isinstance(value, int | float) or endless or not low <= value <= high:
        raise DataError(f"{name!r} must be a number from {low} to {high}; it is {quote(value)}. Was the file changed?")
    return float(value)
