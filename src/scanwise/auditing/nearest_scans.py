"""Nearest scans by pixel correlation: the nearest scan among references, and the nearest other subjects.

Thumbnails are compared at full size, because the blur of a descriptor hides detail that a memorising classifier sees.
References are compared in blocks, so that memory does not grow with their number.
"""

import numpy as np
from numpy.typing import NDArray

from scanwise.records import FloatArray, IntArray

BLOCK = 1024
"""References compared at once; with 4,096 queries of 104 × 104 pixels about 300 MB."""


def nearest_scan(pixels: NDArray[np.uint8], queries: IntArray, references: IntArray) -> IntArray:
    """(Q,) the row among `references` that correlates best with each of the rows `queries`; the earliest of equals."""
    patterns = _centred_patterns(pixels, queries)
    best = np.full(len(queries), -np.inf, dtype=np.float32)
    nearest = np.full(len(queries), references[0], dtype=np.int64)
    for start in range(0, len(references), BLOCK):
        rows = references[start : start + BLOCK]
        correlation = patterns @ _centred_patterns(pixels, rows).T
        top = correlation.argmax(axis=1)
        value = correlation[np.arange(len(queries)), top]
        better = value > best
        best[better], nearest[better] = value[better], rows[top[better]]
    return nearest


def nearest_other_subjects(
    pixels: NDArray[np.uint8], queries: IntArray, references: IntArray, people: IntArray, labels: IntArray, count: int
) -> IntArray:
    """The other subjects with the scans most similar to each query, the most similar first.

    Args:
        pixels: (N, S, S).
        queries: (Q,) rows.
        references: (R,) rows to compare with.
        people: (N,) the index of each scan's subject.
        labels: (N,).
        count: how many.

    Returns:
        (Q, count) rows. Each stands for a subject under one label: it has the subject and the label of the most similar
        scan, and need not be that scan. -1 where there are no more. A subject may be listed twice: with another label, or
        where the edge of a block divides it.
    """
    order = references[np.lexsort((labels[references], people[references]))]
    patterns = _centred_patterns(pixels, queries)
    rows: IntArray = np.full((len(queries), count), -1, dtype=np.int64)
    values: FloatArray = np.full((len(queries), count), -np.inf, dtype=np.float32)
    for start in range(0, len(order), BLOCK):
        block = order[start : start + BLOCK]
        is_new = (np.diff(people[block], prepend=-1) != 0) | (np.diff(labels[block], prepend=-1) != 0)
        first = np.flatnonzero(is_new)
        best = np.maximum.reduceat(patterns @ _centred_patterns(pixels, block).T, first, axis=1)
        kinds = block[first]
        best[people[queries][:, None] == people[kinds]] = -np.inf
        rows, values = _merge(rows, values, np.broadcast_to(kinds, best.shape), best)
    rows = np.where(np.isfinite(values), rows, -1)
    return np.take_along_axis(rows, np.argsort(-values, axis=1, kind="stable"), axis=1)


def _merge(
    rows: IntArray, values: FloatArray, new_rows: IntArray, new_values: FloatArray
) -> tuple[IntArray, FloatArray]:
    """The best of the old and the new, as many as the old."""
    count = rows.shape[1]
    rows, values = np.concatenate([rows, new_rows], axis=1), np.concatenate([values, new_values], axis=1)
    best = np.argpartition(values, -count, axis=1)[:, -count:]
    return np.take_along_axis(rows, best, axis=1), np.take_along_axis(values, best, axis=1)


def _centred_patterns(pixels: NDArray[np.uint8], rows: IntArray) -> FloatArray:
    """(n, S²) float32 centred, of length 1, so that a product of two is their correlation; a blank scan is zeros."""
    flat = pixels[rows].reshape(len(rows), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(flat, axis=1, keepdims=True)
    flat /= np.where(norm > 0, norm, 1)
    return flat
