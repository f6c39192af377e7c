"""The calibration error that a calibrated classifier would show on these very rows.

The error is a mean of absolute gaps, so that chance alone makes it larger than zero: with few cases by much. How large is
drawn here from the classifier's own probabilities, as if they were the truth.
"""

import numpy as np

from scanwise.metrics import assign_bins
from scanwise.metrics.binned import NUM_BINS
from scanwise.records import FloatArray, IntArray

BLOCK = 4_000_000
"""Draws times rows at a time."""


def calibrated_errors(probs: FloatArray, of_subject: IntArray, draws: int, seed: int) -> FloatArray:
    """(draws,) calibration errors (ECE) of a classifier whose probabilities (N, C) are right.

    In every draw each subject has one uniform number, by which the labels of all its scans are drawn from their
    probabilities: scans of a subject agree as far as these let them.

    >>> probs = np.array([[0.5, 0.5]])
    >>> calibrated_errors(probs, np.array([0]), 3, 0)
    array([0.5, 0.5, 0.5])
    """
    random = np.random.default_rng([seed, 7])
    rows = np.arange(len(probs))
    top = probs.argmax(axis=1)
    ends = np.cumsum(probs.astype(np.float64), axis=1)
    ends /= ends[:, -1:]
    high = ends[rows, top]
    low = np.where(top > 0, ends[rows, np.maximum(top - 1, 0)], 0.0)
    confidence = probs[rows, top].astype(np.float64)
    bins = np.zeros((len(probs), NUM_BINS))
    bins[rows, assign_bins(confidence, NUM_BINS)] = 1
    people = int(of_subject.max()) + 1
    errors = []
    for start in range(0, draws, step := max(1, BLOCK // len(probs))):
        uniform = random.random((min(step, draws - start), people))[:, of_subject]
        gaps = (confidence - ((uniform >= low) & (uniform < high))) @ bins
        errors.append(np.abs(gaps).sum(axis=1) / len(probs))
    return np.concatenate(errors)
