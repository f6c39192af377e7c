"""Approximate nearest neighbours among very many vectors, with a measured recall.

The references are divided into cells around centres (an inverted file: Jégou et al. 2011), and a query is compared with the
cells nearest to it. Their number is chosen on a sample of the queries: it grows until the index finds the wanted share of the
true neighbours, or until it takes in all cells.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from scanwise.records import FloatArray, IntArray

RECALL = 0.99
"""Share of the true neighbours that must be found on the sample, unless less is asked for."""
MARGIN = 0.003
"""Added to the recall that the sample must reach, because it is only a sample."""
SAMPLE = 512
"""Queries on which the recall is measured."""
TRAINING_SCANS = 40
"""References a cell, on which the centres are fitted."""

MOST_AT_FIRST = 5
"""Cells that the first trial probes at most: the share of the true neighbours in so many cells hardly depends on the number of
references (.88, .85, .86 and .85 at 51,000 to 410,000 descriptions of head scans), and the cost of a query with them grows as its root."""

MAX_SIMILARITIES = 40_000_000
"""Similarities computed at once: 160 MB."""


@dataclass(frozen=True, slots=True)
class NeighbourIndex:
    """Inverted-file index of references.

    Attributes:
        cells: a `faiss.IndexIVFFlat` over all references.
        recall: share of the true neighbours of the sample that it finds.
        probed: share of the cells that a query is compared with.
    """

    cells: Any
    recall: float
    probed: float

    @classmethod
    def build(cls, queries: FloatArray, references: FloatArray, count: int, recall: float = RECALL) -> Self:
        """An index of `references` that finds at least the share `recall` of the `count` nearest of such queries.

        Args:
            queries: (N, D) rows, of which a sample measures the recall.
            references: (M, D).
            count: number of neighbours.
            recall: share of them that must be found.
        """
        import faiss  # late: it starts a thread pool of its own, which small cohorts do not need
        import torch

        faiss.omp_set_num_threads(torch.get_num_threads())
        references = np.ascontiguousarray(references, dtype=np.float32)
        number = max(1, round(2 * len(references) ** 0.5))
        cells: Any = faiss.index_factory(references.shape[1], f"IVF{number},Flat", faiss.METRIC_INNER_PRODUCT)
        cells.cp.seed = 0
        cells.train(references[:: max(1, len(references) // (TRAINING_SCANS * number))])
        cells.add(references)
        random = np.random.default_rng(0)
        some = queries[random.choice(len(queries), min(SAMPLE, len(queries)), replace=False)]
        lowest = exact_neighbours(some, references, count)[1][:, -1:]
        cells.nprobe = max(1, min(number // 256, MOST_AT_FIRST))
        while True:
            similarity = cells.search(np.ascontiguousarray(some, dtype=np.float32), count)[0]
            reached = float((similarity >= lowest - 1e-6).mean())
            if reached >= min(recall + MARGIN, 1) or cells.nprobe >= number:
                return cls(cells, reached, cells.nprobe / number)
            cells.nprobe = min(2 * cells.nprobe, number)

    def search(self, queries: FloatArray, count: int) -> tuple[IntArray, FloatArray]:
        """(N, count) indices and similarities, the most similar first; -1 and -inf where the cells held fewer."""
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        likeness, cell = self.cells.quantizer.search(queries, self.cells.nprobe)
        order = np.argsort(cell[:, 0], kind="stable")  # the references of a cell are read once for all queries near it
        indices = np.empty((len(queries), count), dtype=np.int64)
        values = np.empty((len(queries), count), dtype=np.float32)
        near = self.cells.search_preassigned(queries[order], count, cell[order], likeness[order])
        values[order], indices[order] = near
        return indices, np.where(indices >= 0, values, -np.inf)


def exact_neighbours(queries: FloatArray, references: FloatArray, count: int) -> tuple[IntArray, FloatArray]:
    """(N, count) indices and similarities from a comparison of all pairs, in blocks of queries."""
    import torch  # its top-k is ten times as fast as NumPy's partition, and its time varies less

    indices = np.empty((len(queries), count), dtype=np.int64)
    values = np.empty((len(queries), count), dtype=np.float32)
    block = max(1, MAX_SIMILARITIES // max(len(references), 1))
    for start in range(0, len(queries), block):
        similarity = np.asarray(queries[start : start + block] @ references.T)
        best = torch.topk(torch.from_numpy(similarity), count, dim=1)
        indices[start : start + block] = best.indices.numpy()
        values[start : start + block] = best.values.numpy()
    return indices, values
