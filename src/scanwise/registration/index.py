"""Nearest neighbours among very many vectors: an index that looks at a part of them, and knows how much that misses.

The references are dealt into cells around centres (an inverted file: Jégou et al. 2011), and a query looks into the cells
nearest to it. How many it must look into is measured: on a sample of the queries, against all pairs, until the index
finds the share of true neighbours that is asked for. Where no part of the cells is enough, all are looked into.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from scanwise.records import FloatArray, IntArray

RECALL = 0.99
"""Share of the true neighbours that must be found on the sample."""
MARGIN = 0.003
"""By how much more is asked for, because a sample is not all."""
SAMPLE = 512
"""Queries on which that is measured."""
LEARNT = 40
"""References a cell, from which the centres are learnt."""

COMPARED = 40_000_000
"""Similarities made at once: 160 MB."""


@dataclass(frozen=True, slots=True)
class NeighbourIndex:
    """References in cells.

    Attributes:
        cells: a `faiss.IndexIVFFlat` over all references.
        recall: share of the true neighbours of the sample that it finds.
        looked: share of the cells that a query looks into.
    """

    cells: Any
    recall: float
    looked: float

    @classmethod
    def build(cls, queries: FloatArray, references: FloatArray, count: int) -> Self:
        """An index of `references` that finds at least `RECALL` of the `count` nearest of such queries.

        Args:
            queries: (N, D) rows of which a sample is asked. references: (M, D).
        """
        import faiss  # late: it brings a thread pool of its own, which small cohorts need not have
        import torch

        faiss.omp_set_num_threads(torch.get_num_threads())
        references = np.ascontiguousarray(references, dtype=np.float32)
        number = max(1, round(2 * len(references) ** 0.5))
        cells: Any = faiss.index_factory(references.shape[1], f"IVF{number},Flat", faiss.METRIC_INNER_PRODUCT)
        cells.cp.seed = 0
        cells.train(references[:: max(1, len(references) // (LEARNT * number))])
        cells.add(references)
        random = np.random.default_rng(0)
        some = queries[random.choice(len(queries), min(SAMPLE, len(queries)), replace=False)]
        wanted = exact_neighbours(some, references, count)[1][:, -1:]
        cells.nprobe = max(1, number // 64)
        while True:
            found = cells.search(np.ascontiguousarray(some, dtype=np.float32), count)[0]
            recall = float((found >= wanted - 1e-6).mean())
            if recall >= min(RECALL + MARGIN, 1) or cells.nprobe >= number:
                return cls(cells, recall, cells.nprobe / number)
            cells.nprobe = min(2 * cells.nprobe, number)

    def search(self, queries: FloatArray, count: int) -> tuple[IntArray, FloatArray]:
        """(N, count) places and similarities, the most alike first; place -1 and -inf where the cells held fewer."""
        values, places = self.cells.search(np.ascontiguousarray(queries, dtype=np.float32), count)
        return places, np.where(places >= 0, values, -np.inf)


def exact_neighbours(queries: FloatArray, references: FloatArray, count: int) -> tuple[IntArray, FloatArray]:
    """The same from all pairs, in blocks of queries."""
    import torch  # its selection of the largest is ten times as fast as a partition of NumPy's, and steadier

    places = np.empty((len(queries), count), dtype=np.int64)
    values = np.empty((len(queries), count), dtype=np.float32)
    block = max(1, COMPARED // max(len(references), 1))
    for start in range(0, len(queries), block):
        alike = np.asarray(queries[start : start + block] @ references.T)
        best = torch.topk(torch.from_numpy(alike), count, dim=1)
        places[start : start + block] = best.indices.numpy()
        values[start : start + block] = best.values.numpy()
    return places, values
