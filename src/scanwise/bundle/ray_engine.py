"""Shards mapped by workers of Ray.

Workers hold the model and send back what the network said; files are written by the command alone. A worker that dies gives its
shard to another one. Where it dies twice, the shard is halved until the scan is found that kills: that one is quarantined.
"""

import os
import socket
from collections import deque
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from scanwise import bundle
from scanwise.bundle.contents import digest_of_model
from scanwise.bundle.mapping import AskedScans, MappedScans, ScanMapper
from scanwise.cohort.decoding.pixels import BROKEN
from scanwise.errors import RunError, ScanwiseError
from scanwise.progress_bar import track
from scanwise.workers.ray_session import connected_ray, return_home

DEATHS = 2
"""Deaths of workers after which a scan is quarantined."""
FATAL = f"{BROKEN} (the process that read it died twice)"
ROW_OF_FATAL = 3
"""Scans in a row that kill, with none answered between them: then it is not the scans."""
PATIENCE = 300.0
"""Seconds in which a worker has to open the model."""
MORE_MEMORY = "Give fewer with --workers, or machines with more memory (--plan says how much each needs), and go on with --resume."


class ShardWorker:
    """A process of Ray that holds the model.

    Args:
        model: a run folder or a bundle, under this path on every machine.
        digest: that it must have.
    """

    def __init__(self, model: Path, digest: str) -> None:
        return_home()
        if digest_of_model(model) != digest:
            raise RunError(f"{model} is another model on {socket.gethostname()}. Copy the same bundle there.")
        loaded = bundle.load(model)
        loaded.use_one_core()
        self._mapper = loaded.mapper()

    def ready(self) -> bool:
        """Whether the model is open."""
        return True

    def map(self, shard: AskedScans) -> MappedScans:
        """Rows of a shard.

        Raises:
            RunError: if the folder of a scan is not on this machine.
        """
        for folder in dict.fromkeys(path.parent for path in shard.paths if isinstance(path, Path)):
            if not folder.is_dir():
                raise RunError(
                    f"{folder} is not on {socket.gethostname()}. Scans must lie under the same path on every machine, or at a URL."
                )
        return self._mapper.map(shard, self._mapper.read([shard], progress=False))


@dataclass(frozen=True, slots=True)
class ShardPiece:
    """Some scans of a shard that one worker is asked about.

    Attributes:
        shard: number of the shard.
        start: row of the first scan in it.
        scans: that are asked about.
        deaths: of workers, over these scans.
    """

    shard: int
    start: int
    scans: AskedScans
    deaths: int = 0

    def after_death(self) -> "list[ShardPiece]":
        """The pieces to ask about once a worker died: this one again, or its halves; none of a scan that killed twice."""
        if self.deaths + 1 < DEATHS:
            return [replace(self, deaths=self.deaths + 1)]
        middle = len(self.scans) // 2
        if not middle:
            return []
        parts = ((0, middle), (middle, len(self.scans)))
        return [ShardPiece(self.shard, self.start + low, self.scans.part(low, high), DEATHS - 1) for low, high in parts]


@dataclass(slots=True)
class PieceQueue:
    """Pieces that wait for a worker, and the rows of those that were answered.

    Args:
        shards: that are asked about.
    """

    shards: Sequence[AskedScans]
    waiting: deque[ShardPiece] = field(init=False)
    _parts: list[dict[int, MappedScans]] = field(init=False)
    _fatal: int = 0

    def __post_init__(self) -> None:
        self.waiting = deque(ShardPiece(number, 0, shard) for number, shard in enumerate(self.shards))
        self._parts = [{} for _ in self.shards]

    def answer(self, piece: ShardPiece, mapped: MappedScans) -> MappedScans | None:
        """Take the rows of a piece; those of its shard, if they are complete now."""
        self._fatal = 0
        return self._take(piece, mapped)

    def lose(self, piece: ShardPiece) -> MappedScans | None:
        """Ask about a piece again whose worker died; the rows of its shard, if its last scan is in quarantine now.

        Raises:
            RunError: if workers die whatever they read.
        """
        again = piece.after_death()
        self.waiting.extendleft(reversed(again))
        if again:
            return None
        self._fatal += 1
        if self._fatal == ROW_OF_FATAL:
            raise RunError(
                f"Workers of Ray died over {ROW_OF_FATAL} scans in a row, most likely of too little memory. {MORE_MEMORY}"
            )
        none = np.empty(0, np.int64)
        return self._take(piece, MappedScans(1, none, [], np.empty((0, 1, 0), np.float32), None, None, ((0, FATAL),)))

    def _take(self, piece: ShardPiece, mapped: MappedScans) -> MappedScans | None:
        parts = self._parts[piece.shard]
        parts[piece.start] = mapped
        if sum(part.count for part in parts.values()) < len(self.shards[piece.shard]):
            return None
        self._parts[piece.shard] = {}
        return MappedScans.join([parts[start] for start in sorted(parts)])


@dataclass(slots=True)
class WorkerPool:
    """Workers of Ray: those that open the model, those that wait, those that map a piece.

    Args:
        ray: the module, connected.
        model: a run folder or a bundle.
        digest: of it.
    """

    ray: Any
    model: Path
    digest: str
    idle: deque[Any] = field(default_factory=deque)
    opening: dict[Any, Any] = field(default_factory=dict)
    mapping: dict[Any, tuple[Any, ShardPiece]] = field(default_factory=dict)

    def start(self, count: int = 1) -> None:
        """Ask the cluster for more workers."""
        remote = self.ray.remote(num_cpus=1, max_restarts=0)(ShardWorker)
        for _ in range(count):
            worker = remote.remote(self.model.absolute(), self.digest)
            self.opening[worker.ready.remote()] = worker

    def ask(self, piece: ShardPiece) -> None:
        """Give a piece to a worker that waits."""
        worker = self.idle.popleft()
        here = [path.absolute() if isinstance(path, Path) else path for path in piece.scans.paths]
        self.mapping[worker.map.remote(replace(piece.scans, paths=here))] = worker, piece

    def wait(self) -> tuple[ShardPiece, MappedScans | None] | None:
        """A piece and its rows, None for these where its worker died; or None where a worker became ready.

        Raises:
            RunError: if no worker gets a place, cannot open the model, fails, or has not enough memory.
        """
        pending = [*self.mapping, *self.opening]
        done, _ = self.ray.wait(pending, num_returns=1, timeout=None if self.mapping else PATIENCE)
        if not done:
            raise RunError(f"The cluster gave no place to a worker within {PATIENCE:.0f} s: its cores are taken.")
        if done[0] in self.opening:
            self._open(done[0])
            return None
        worker, piece = self.mapping.pop(done[0])
        try:
            mapped: MappedScans = deepcopy(
                self.ray.get(done[0])
            )  # what it gives lies in the memory of Ray until it is let go
        except self.ray.exceptions.RayError as error:
            self._require_memory(error)
            if isinstance(error, self.ray.exceptions.RayTaskError):
                if isinstance(error.cause, ScanwiseError):
                    raise error.cause from error
                raise RunError(f"A worker of Ray failed: {error.cause!r}. Try --engine local.") from error
            self.start()  # it died, or its machine did
            return piece, None
        self.idle.append(worker)
        return piece, mapped

    def _open(self, done: Any) -> None:
        worker = self.opening.pop(done)
        try:
            self.ray.get(done)
        except self.ray.exceptions.RayError as error:
            self._require_memory(error)
            reason = str(error).strip().splitlines()[-1]
            raise RunError(f"A worker of Ray cannot open {self.model}: {reason}") from error
        self.idle.append(worker)

    def _require_memory(self, error: Exception) -> None:
        """Refuse to go on where a worker had none left: the scans that it read are not at fault."""
        none_left = isinstance(error, self.ray.exceptions.OutOfMemoryError)
        if none_left or isinstance(getattr(error, "cause", None), MemoryError):
            raise RunError(f"A worker of Ray had not enough memory. {MORE_MEMORY}") from error


@dataclass(frozen=True, slots=True)
class RayEngine:
    """Workers of Ray that map shards.

    Attributes:
        model: a run folder or a bundle.
        digest: of it.
        workers: their number; 0 for one a core.
        cluster: HOST:PORT of one that runs, or "" for one of this machine alone.
    """

    model: Path
    digest: str
    workers: int
    cluster: str

    def __call__(
        self, shards: Sequence[AskedScans], mapper: ScanMapper, progress: bool
    ) -> Iterator[tuple[int, MappedScans]]:
        """The number of each shard and what the network said of it, as they come.

        Raises:
            RunError: if Ray is not installed, the cluster is not there, or its workers cannot work.
        """
        if mapper.device != "cpu":
            raise RunError(
                f"Workers of Ray run on CPUs, and not on {mapper.device}. Give --device cpu, or --engine local."
            )
        if mapper.shape is None:
            raise RunError(
                "Answers of this model, made by an earlier version, depend on neighbours. Use --engine local."
            )
        if not shards:
            return
        with connected_ray(self.cluster, self.workers or os.cpu_count() or 1) as ray:
            workers = self.workers or int(ray.cluster_resources().get("CPU", 1))
            pool = WorkerPool(ray, self.model, self.digest)
            pool.start(min(workers, len(shards)))
            yield from track(map_with(pool, shards), "predicting shard", len(shards), progress)


def map_with(pool: WorkerPool, shards: Sequence[AskedScans]) -> Iterator[tuple[int, MappedScans]]:
    """The number of each shard and its rows, as the workers of a pool give them.

    Raises:
        RunError: as `WorkerPool.wait` and `PieceQueue.lose` do.
    """
    queue = PieceQueue(shards)
    while queue.waiting or pool.mapping:
        while queue.waiting and pool.idle:
            pool.ask(queue.waiting.popleft())
        event = pool.wait()
        if event is None:
            continue
        piece, mapped = event
        whole = queue.lose(piece) if mapped is None else queue.answer(piece, mapped)
        if whole is not None:
            yield piece.shard, whole
