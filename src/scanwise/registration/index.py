"""Approximate nearest neighbours among very many vectors, with a measured recall.

The references are divided into cells around centres (an inverted file: Jégou et al. 2011), and a query is compared with the
cells nearest to it. Their number is chosen on a sample of the queries: it grows until the index finds the wanted share of the
true neighbours, or until it takes in all cells. Where less than nearly all are wanted, codes of four bits a number are compared
first, many at once (André et al. 2015), and only the most alike of these exactly.
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

MOST_AT_FIRST = 8
"""Cells that the first trial probes at most: the share of the true neighbours in so many cells hardly depends on the number of
references, and the cost of a query with them grows as its root."""
CODED = 0.9
"""Recall up to which references are compared by their codes: at 1.3 million descriptions less than half the time of all numbers."""
COMPARED = 3
"""References compared exactly for every neighbour wanted."""

MAX_SIMILARITIES = 40_000_000
"""Similarities computed at once: 160 MB."""


@dataclass(frozen=True, slots=True)
class NeighbourIndex:
    """Inverted-file index of references.

    Attributes:
        index: a `faiss.IndexIVFFlat` over all references, or a `faiss.IndexRefine` of a `faiss.IndexIVFPQFastScan`.
        cells: the `faiss.IndexIVF` in it.
        recall: share of the true neighbours of the sample that it finds.
        probed: share of the cells that a query is compared with.
    """

    index: Any
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
            recall: share of them that must be found; up to `CODED` codes are compared first.
        """
        import faiss  # late: it starts a thread pool of its own, which small cohorts do not need
        import torch

        faiss.omp_set_num_threads(torch.get_num_threads())
        references = np.ascontiguousarray(references, dtype=np.float32)
        number, size = max(1, round(2 * len(references) ** 0.5)), references.shape[1]
        stored = f"PQ{size}x4fsr,RFlat" if recall <= CODED else "Flat"
        index: Any = faiss.index_factory(size, f"IVF{number},{stored}", faiss.METRIC_INNER_PRODUCT)
        cells = faiss.extract_index_ivf(index) if recall <= CODED else index
        cells.cp.seed = 0
        index.train(references[:: max(1, len(references) // (TRAINING_SCANS * number))])
        index.add(references)
        random = np.random.default_rng(0)
        some = queries[random.choice(len(queries), min(SAMPLE, len(queries)), replace=False)]
        lowest = exact_neighbours(some, references, count)[1][:, -1:]
        cells.nprobe, compared = max(1, min(number // 256, MOST_AT_FIRST)), COMPARED
        while True:
            if index is not cells:
                index.k_factor = compared
            similarity = index.search(np.ascontiguousarray(some, dtype=np.float32), count)[0]
            reached = float((similarity >= lowest - 1e-6).mean())
            if reached >= min(recall + MARGIN, 1) or cells.nprobe >= number:
                return cls(index, cells, reached, cells.nprobe / number)
            cells.nprobe, compared = min(2 * cells.nprobe, number), 2 * compared

    def search(self, queries: FloatArray, count: int) -> tuple[IntArray, FloatArray]:
        """(N, count) indices and similarities, the most similar first; -1 and -inf where the cells held fewer."""
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        values, indices = (
            self._search_by_cell(queries, count) if self.index is self.cells else self.index.search(queries, count)
        )
        return indices, np.where(indices >= 0, values, -np.inf)

    def _search_by_cell(self, queries: FloatArray, count: int) -> tuple[FloatArray, IntArray]:
        """The same as `cells.search`; the references of a cell are read once for all queries near it."""
        likeness, cell = self.cells.quantizer.search(queries, self.cells.nprobe)
        order = np.argsort(cell[:, 0], kind="stable")
        indices = np.empty((len(queries), count), dtype=np.int64)
        values = np.empty((len(queries), count), dtype=np.float32)
        values[order], indices[order] = self.cells.search_preassigned(
            queries[order], count, cell[order], likeness[order]
        )
        return values, indices


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
