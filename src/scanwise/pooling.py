"""Subjects of rows: pooling of their scans into one row, their labels, and subjects that are one."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from scanwise.arrays import check_labels, check_logits, log_softmax, refuse_rows, softmax
from scanwise.errors import ShapeError, lookup
from scanwise.records import FloatArray, IntArray, Logits, StrArray


def _mean_of_logits(values: FloatArray, of_subject: IntArray, counts: IntArray) -> FloatArray:
    return mean_by(log_softmax(values), of_subject, counts)


def _mean_of_probs(values: FloatArray, of_subject: IntArray, counts: IntArray) -> FloatArray:
    return np.asarray(np.log(np.clip(mean_by(softmax(values), of_subject, counts), 1e-12, None)))


def _votes(values: FloatArray, of_subject: IntArray, counts: IntArray) -> FloatArray:
    """Log-shares of the scans that name each class, half a vote added to each so that none is impossible."""
    named = values.argmax(axis=-1)[..., None] == np.arange(values.shape[-1])
    votes = mean_by(named.astype(np.float64), of_subject, counts) * counts.reshape(-1, *[1] * (values.ndim - 1)) + 0.5
    return np.asarray(np.log(votes / votes.sum(axis=-1, keepdims=True)))


POOLINGS: dict[str, Callable[[FloatArray, IntArray, IntArray], FloatArray]] = {
    "mean_logit": _mean_of_logits,
    "mean_prob": _mean_of_probs,
    "majority": _votes,
}
"""Ways of pooling the scans of a subject: (logits (N, T, C), subject codes, counts) to logits (K, T, C)."""


def pool_by_subject(logits: Logits, how: str = "mean_logit") -> Logits:
    """One row a subject, in order of first appearance, by one of `POOLINGS`, member by member.

    Default: the mean over its scans of log-softmax logits. A subject's label is its most common one, the later class
    where two are as common; -1 is an unknown label. `scan_counts` holds the number of scans; a group keeps its value where all scans of the subject agree, and is "" where not; features are
    averaged. Where the scans have an attention, `mean_logit` is the mean with these weights.

    Raises:
        DataError: if a scan has no subject, or a logit is NaN or infinite.

    >>> scans = np.array(["1.png", "2.png", "3.png"])
    >>> both = Logits(np.zeros((3, 1, 2)), np.array([0, 1, 1]), scans, np.array(["b", "b", "a"]), ("no", "yes"))
    >>> pooled = pool_by_subject(both)
    >>> pooled.subjects.tolist(), pooled.scan_counts.tolist(), pooled.labels.tolist()
    (['b', 'a'], [2, 1], [1, 1])
    """
    values = check_logits(logits.logits)
    of_subject, names = subject_codes(logits.subjects, len(logits))
    counts = np.bincount(of_subject, minlength=len(names))
    if logits.attention is not None and how == "mean_logit":
        weights = attention_weights(logits.attention, of_subject)[:, :, None] * counts[of_subject, None, None]
        pooled = mean_by(weights * log_softmax(values), of_subject, counts).astype(values.dtype)
    else:
        pooled = lookup(POOLINGS, how, "pooling")(values, of_subject, counts).astype(values.dtype)
    features = logits.features
    return replace(
        logits,
        logits=pooled,
        labels=common_label(logits.labels + 1, of_subject, len(logits.classes) + 1) - 1,
        scans=np.full(len(names), ""),
        scan_counts=counts,
        subjects=names,
        groups={name: _agreed(column, of_subject, counts) for name, column in logits.groups.items()},
        features=None if features is None else mean_by(features, of_subject, counts).astype(features.dtype),
        appearance=None,
        attention=None,
    )


def attention_weights(scores: FloatArray, codes: IntArray) -> FloatArray:
    """(N, T) softmax of scores (N, T) over the rows of each code, so that the weights of a subject sum to one.

    >>> attention_weights(np.array([[2.0], [2.0], [7.0]]), np.array([0, 0, 1]))[:, 0].tolist()
    [0.5, 0.5, 1.0]
    """
    count = int(codes.max(initial=-1)) + 1
    largest = np.full((count, scores.shape[1]), -np.inf)
    np.maximum.at(largest, codes, scores)
    exponentials = np.exp(scores - largest[codes])
    return np.asarray(exponentials / sum_of_rows(exponentials, codes, np.bincount(codes, minlength=count))[codes])


def subject_codes(subjects: StrArray, count: int) -> tuple[IntArray, StrArray]:
    """(N,) the index of each row's subject and (K,) the subjects, in order of first appearance.

    Raises:
        ShapeError: if there are not `count` subjects.
        DataError: if a subject is "".
    """
    subjects = np.asarray(subjects)
    if subjects.shape != (count,):
        raise ShapeError(f"Expected the subject of each of {count} rows; found subjects of shape {subjects.shape}.")
    if subjects.dtype.kind == "U":
        refuse_rows(subjects == "", "no subject; pooling and guarantees need one for each scan")
    names, first, codes = np.unique(subjects, return_index=True, return_inverse=True)
    order = np.argsort(first)
    position = np.empty_like(order)
    position[order] = np.arange(len(order))
    return position[codes], names[order]


def common_label(labels: IntArray, of_subject: IntArray, num_classes: int) -> IntArray:
    """(K,) the most common label of each subject; the later class where two are as common."""
    labels = check_labels(labels, num_classes, len(of_subject))
    num_subjects = int(of_subject.max()) + 1
    counts = np.bincount(of_subject * num_classes + labels, minlength=num_subjects * num_classes)
    latest: IntArray = (num_classes - 1) - counts.reshape(num_subjects, num_classes)[:, ::-1].argmax(axis=1)
    return latest


def join_subjects(subject: StrArray, same: IntArray) -> StrArray:
    """(N,) the subjects, those that share a scan joined under the name that most of their scans have.

    Args:
        subject: (N,) names; empty where a scan's subject is not known.
        same: (P, 2) rows of one person, such as copies of one scan.

    >>> join_subjects(np.array(["a", "a", "b", "c"]), np.array([[1, 2]])).tolist()
    ['a', 'a', 'a', 'c']
    >>> join_subjects(np.array(["", "", "b", "b"]), np.array([[0, 1], [2, 3]])).tolist()
    ['', '', 'b', 'b']
    """
    if np.array_equal(subject[same[:, 0]], subject[same[:, 1]]):  # nobody is two people
        return subject
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    names, people, sizes = np.unique(subject, return_inverse=True, return_counts=True)
    node = np.where(subject == "", len(names) + np.arange(len(subject)), people.reshape(-1))
    count = len(names) + len(subject)
    edges = (np.ones(len(same)), (node[same[:, 0]], node[same[:, 1]]))
    group = connected_components(coo_array(edges, shape=(count, count)), directed=False)[1]
    order = np.argsort(sizes, kind="stable")
    order = order[names[order] != ""]
    name_of = np.full(count, "", dtype=subject.dtype)
    name_of[group[order]] = names[order]  # the largest comes last and overwrites the others
    return name_of[group[node]]


def rows_alike(values: StrArray) -> IntArray:
    """(P, 2) pairs of rows of one value, enough to join all of them; "" is no value.

    >>> rows_alike(np.array(["a", "b", "a", "", "a", ""])).tolist()
    [[0, 2], [2, 4]]
    """
    order = np.argsort(values, kind="stable")
    order = order[values[order] != ""]
    again = np.flatnonzero(values[order[1:]] == values[order[:-1]])
    return np.column_stack([order[again], order[again + 1]])


def mean_by(values: FloatArray, codes: IntArray, counts: IntArray) -> FloatArray:
    """(K, …) the mean of the rows (N, …) of each code, in float64, to the last digit the same in whatever order they come."""
    means: FloatArray = sum_of_rows(values, codes, counts) / counts.reshape(-1, *[1] * (values.ndim - 1))
    return means


def sum_of_rows(values: FloatArray, codes: IntArray, counts: IntArray) -> FloatArray:
    """(K, …) the sum of the rows (N, …) of each code, in float64; rows are added in an order of their content.

    >>> rows = np.array([[0.1], [0.2], [0.3]])
    >>> one, other = (sum_of_rows(rows[order], np.zeros(3, int), np.array([3])) for order in ([0, 1, 2], [2, 1, 0]))
    >>> bool(one == other), 0.1 + 0.2 + 0.3 == 0.3 + 0.2 + 0.1
    (True, False)
    """
    rows = np.ascontiguousarray(values, dtype=np.float64)
    content = np.zeros(len(rows), dtype=np.int64)
    if not len(rows):
        return np.zeros((len(counts), *rows.shape[1:]))
    if rows[0].size and (counts > 1).any():
        contents = rows.reshape(len(rows), -1).view(np.dtype((np.void, rows[0].nbytes))).ravel()
        content[np.argsort(contents, kind="stable")] = np.arange(len(rows))
    starts = np.concatenate(([0], np.cumsum(counts)[:-1]))
    return np.asarray(np.add.reduceat(rows[np.lexsort((content, codes))], starts, axis=0))


def _agreed(column: StrArray, of_subject: IntArray, counts: IntArray) -> StrArray:
    first = np.argsort(of_subject, kind="stable")[np.concatenate(([0], np.cumsum(counts)[:-1]))]
    agrees = np.bincount(of_subject, weights=column == column[first][of_subject]) == counts
    return np.where(agrees, column[first], "")
