"""Calibration errors: confidence against accuracy in bins of confidence."""

import numpy as np

from scanwise.errors import DataError
from scanwise.metrics.inputs import check_metric_inputs
from scanwise.metrics.sums import divide_or
from scanwise.records import BoolArray, FloatArray, IntArray

NUM_BINS = 15
"""Bins of equal width behind each calibration error."""


def calibration_rows(probs: FloatArray, labels: IntArray) -> FloatArray:
    """(N, 3 · bins): for the bin of the row's confidence one, the confidence, and whether the prediction is correct."""
    return _bin_rows(probs.max(axis=1), probs.argmax(axis=1) == labels)


def calibration_error_from_bins(sums: FloatArray) -> FloatArray:
    """(…,) mean gap between confidence and accuracy over bins (Naeini et al. 2015), from sums of `calibration_rows`."""
    count, confidence, correct = np.split(sums, 3, axis=-1)
    return divide_or(np.abs(confidence - correct).sum(axis=-1), count.sum(axis=-1))


def classwise_calibration_error(
    probs: FloatArray, labels: IntArray, weights: FloatArray | None = None
) -> float | FloatArray:
    """Mean over classes of the calibration error of that class's probability (Kull et al. 2019)."""
    probs, labels, weights = check_metric_inputs(probs, labels, weights)
    rows = [_bin_rows(probs[:, c], labels == c) for c in range(probs.shape[1])]
    errors = np.mean([calibration_error_from_bins(weights @ of_class) for of_class in rows], axis=0)
    return float(errors) if np.ndim(errors) == 0 else errors


def assign_bins(confidence: FloatArray, num_bins: int) -> IntArray:
    """(N,) the bin of each confidence, from 0; bins have equal width, and each holds its upper edge."""
    if num_bins < 1:
        raise DataError(f"A calibration error needs one bin or more; num_bins is {num_bins}.")
    return np.searchsorted(np.arange(1, num_bins) / num_bins, confidence, side="left")


def _bin_rows(confidence: FloatArray, correct: BoolArray) -> FloatArray:
    bins, index = assign_bins(confidence, NUM_BINS), np.arange(len(confidence))
    rows = np.zeros((len(bins), 3 * NUM_BINS))
    rows[index, bins], rows[index, NUM_BINS + bins], rows[index, 2 * NUM_BINS + bins] = 1, confidence, correct
    return rows
