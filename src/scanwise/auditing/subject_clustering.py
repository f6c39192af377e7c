"""Clustering of scans into subjects: a maximum spanning forest over their similarity, cut at a mixture's threshold.

Similarity is the correlation of whitened vectors less the mean correlation that either scan has with its nearest neighbours:
some scans resemble all others, and this corrects for it (CSLS: Conneau et al. 2018).
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from scanwise.records import FloatArray, IntArray
from scanwise.registration import nearest_neighbours

NEAREST = 10
"""Neighbours of each scan that give the first edges, and over which its mean similarity is taken."""
QUERIES = 8192
"""Scans compared with all others in each later round, spread over the trees: all of them in a cohort of that size."""

STARTS = (0.01, 0.03, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97)
"""Quantiles that divide weak from strong values at the start of expectation maximisation."""
FEWEST = 2.5
"""Values that a component must hold at least."""


@dataclass(frozen=True, slots=True)
class SpanningForest:
    """Maximum spanning forest of scans: the strongest edges that join them without a cycle.

    Attributes:
        count: N.
        rows: (E, 2) scans that an edge joins.
        values: (E,) their similarity; infinity for pairs known to be the same scan.
    """

    count: int
    rows: IntArray
    values: FloatArray

    @classmethod
    def build(cls, vectors: FloatArray, groups: IntArray | None = None, same: IntArray | None = None) -> Self:
        """The forest of these scans.

        Args:
            vectors: (N, D) rows of length 1.
            groups: (N,) groups between which no edge may lie, or None.
            same: (P, 2) rows that are known to belong together.
        """
        count = len(vectors)
        groups = np.zeros(count, dtype=np.int64) if groups is None else groups
        near, similarity = _nearest_others(vectors)
        hub = similarity.mean(axis=1) / 2
        rows = np.stack([np.repeat(np.arange(count), near.shape[1]), near.reshape(-1)], axis=1)
        values = similarity.reshape(-1) - hub[rows[:, 0]] - hub[rows[:, 1]]
        inside = groups[rows[:, 0]] == groups[rows[:, 1]]
        rows, values = rows[inside], values[inside]
        if same is not None and len(same):
            rows, values = np.concatenate([same, rows]), np.concatenate([np.full(len(same), np.inf), values])
        rows, values = _maximum_spanning_forest(count, rows, values)
        while True:  # Borůvka: every tree adds its strongest edge to another one
            tree = connected_scans(count, rows)
            more, strength = _strongest_edges(vectors, hub, tree, groups)
            if not len(more):
                return cls(count, rows, values)
            rows, values = _maximum_spanning_forest(
                count, np.concatenate([rows, more]), np.concatenate([values, strength])
            )

    @property
    def measured(self) -> FloatArray:
        """The similarity of the edges that were not given beforehand."""
        return self.values[np.isfinite(self.values)]

    def clusters(self, threshold: float) -> IntArray:
        """(N,) the cluster of each scan once weaker edges are cut."""
        return connected_scans(self.count, self.rows[self.values >= threshold])


@dataclass(frozen=True, slots=True)
class TwoComponentMixture:
    """Mixture of two normal distributions: weak and strong values.

    Attributes:
        share: weight of the strong component.
        mean: of the weak and of the strong component.
        deviation: standard deviation of each.
        threshold: value that is equally likely under both.
    """

    share: float
    mean: tuple[float, float]
    deviation: tuple[float, float]
    threshold: float

    @classmethod
    def fit(cls, values: FloatArray) -> Self:
        """The most likely fit of expectation maximisation from several starts.

        Two components with one mean describe heavy tails, and a component of hardly any values is no component either: such
        fits are taken only where there is no other.
        """
        fits = [_expectation_maximisation(values, start) for start in STARTS]
        mixtures = [(likelihood, cls._ordered(*parts)) for likelihood, *parts in fits]
        fewest = FEWEST / len(values)
        apart = [fit for fit in mixtures if fit[1].separation >= 1 and fewest <= fit[1].share <= 1 - fewest]
        return max(apart or mixtures, key=lambda fit: fit[0])[1]

    @classmethod
    def _ordered(cls, weight: FloatArray, mean: FloatArray, deviation: FloatArray) -> Self:
        weak, strong = np.argsort(mean).tolist()
        between = np.linspace(mean[weak], mean[strong], 1001)
        densities = _log_densities(between, weight, mean, deviation)
        likely = densities[:, strong] >= densities[:, weak]
        threshold = float(between[likely.argmax()] if likely.any() else mean[strong])
        means, deviations = mean[[weak, strong]].tolist(), deviation[[weak, strong]].tolist()
        return cls(float(weight[strong]), (means[0], means[1]), (deviations[0], deviations[1]), threshold)

    @property
    def separation(self) -> float:
        """Ashman's D (Ashman et al. 1994): distance of the means in standard deviations; distinct from 2 on."""
        spread = np.sqrt((self.deviation[0] ** 2 + self.deviation[1] ** 2) / 2)
        return (self.mean[1] - self.mean[0]) / float(spread)


def connected_scans(count: int, rows: IntArray) -> IntArray:
    """(N,) the connected component of each of `count` scans, joined by edges (E, 2)."""
    graph = coo_array((np.ones(len(rows), dtype=np.int8), (rows[:, 0], rows[:, 1])), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def _nearest_others(vectors: FloatArray) -> tuple[IntArray, FloatArray]:
    """(N, K) the nearest other scans and their correlations."""
    near, similarity = nearest_neighbours(vectors, vectors, NEAREST + 1)
    similarity = np.where(
        near == np.arange(len(near))[:, None], np.inf, similarity
    )  # a duplicate may come before the scan itself
    order = np.argsort(-similarity, axis=1, kind="stable")[:, 1:]
    return np.take_along_axis(near, order, axis=1), np.take_along_axis(similarity, order, axis=1)


def _maximum_spanning_forest(count: int, rows: IntArray, values: FloatArray) -> tuple[IntArray, FloatArray]:
    """The maximum spanning forest of some edges."""
    order = np.argsort(-values, kind="stable")
    key = np.sort(rows[order], axis=1) @ np.array([count, 1])
    first = order[np.unique(key, return_index=True)[1]]
    rows, values = np.sort(rows[first], axis=1), values[first]
    rank = np.empty(len(values))
    rank[np.argsort(-values, kind="stable")] = np.arange(1, len(values) + 1)  # weights must be finite and not zero
    ends = rows.astype(np.int32)  # SciPy before 1.16 takes no other
    graph = coo_array((rank, (ends[:, 0], ends[:, 1])), shape=(count, count)).tocsr()
    kept = np.sort(minimum_spanning_tree(graph).data.astype(np.int64)) - 1
    chosen = np.argsort(-values, kind="stable")[kept]
    return rows[chosen], values[chosen]


def _strongest_edges(
    vectors: FloatArray, hub: FloatArray, tree: IntArray, groups: IntArray
) -> tuple[IntArray, FloatArray]:
    """The strongest edge of each tree to another one of its group, among the edges of a sample of its scans."""
    queries = _sample_of_trees(tree)
    partner = np.empty(len(queries), dtype=np.int64)
    value = np.empty(len(queries), dtype=np.float32)
    for start in range(0, len(queries), 1024):
        some = queries[start : start + 1024]
        similarity = vectors[some] @ vectors.T - hub
        similarity[tree[some][:, None] == tree] = -np.inf
        similarity[groups[some][:, None] != groups] = -np.inf
        partner[start : start + 1024] = similarity.argmax(axis=1)
        value[start : start + 1024] = similarity.max(axis=1) - hub[some]
    order = np.lexsort((-value, tree[queries]))
    best = order[np.unique(tree[queries][order], return_index=True)[1]]
    best = best[np.isfinite(value[best])]
    return np.stack([queries[best], partner[best]], axis=1), value[best]


def _sample_of_trees(tree: IntArray) -> IntArray:
    """A sample of scans, as many of each tree as `QUERIES` allows, spread evenly over its rows; at least one of each."""
    order = np.argsort(tree, kind="stable")
    size = np.bincount(tree)
    each = max(1, QUERIES // len(size))
    rank = np.arange(len(tree)) - np.repeat(np.cumsum(size) - size, size)
    step = np.repeat(np.maximum(1, -(-size // each)), size)
    return np.sort(order[rank % step == 0])


def _expectation_maximisation(values: FloatArray, start: float) -> tuple[float, FloatArray, FloatArray, FloatArray]:
    """(mean log-likelihood, weights, means, deviations), started from a division at a quantile."""
    upper = (values > np.quantile(values, start)).astype(np.float64)
    belongs = np.stack([1 - upper, upper], axis=1)
    floor, likelihood = 1e-3 * max(float(values.std()), 1e-6), -np.inf
    while True:
        total = np.maximum(belongs.sum(axis=0), 1e-9)
        weight, mean = total / len(values), values @ belongs / total
        deviation = np.sqrt((belongs * (values[:, None] - mean) ** 2).sum(axis=0) / total) + floor
        densities = _log_densities(values, weight, mean, deviation)
        together = np.logaddexp(densities[:, 0], densities[:, 1])
        belongs = np.exp(densities - together[:, None])
        before, likelihood = likelihood, float(together.mean())
        if likelihood - before < 1e-6:
            return likelihood, weight, mean, deviation


def _log_densities(values: FloatArray, weight: FloatArray, mean: FloatArray, deviation: FloatArray) -> FloatArray:
    """(V, 2) the log of each component's weight times its density."""
    standard = (values[:, None] - mean) / deviation
    return np.asarray(np.log(weight) - np.log(deviation) - 0.5 * standard**2)
