"""Long batches: handed over, answered one after another beside the requests, and asked for later.

The files of a job lie in an unnamed temporary file of a private folder until they are answered; names, subjects, words and
answers stay in memory. Nothing of a job outlives the server.
"""

import asyncio
import contextlib
import secrets
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from scanwise.serving.messages import Header
from scanwise.serving.problems import Problem
from scanwise.serving.settings import ServerLimits
from scanwise.serving.uploads import ScanUpload

Ask = Callable[[Header, list[bytes]], Awaitable[bytes]]
Status = Literal["waiting", "running", "done", "failed"]
MOST_KEPT = 256
"""Jobs that are kept, finished or not."""
TRIES = 2


@dataclass(slots=True)
class ScanJob:
    """A batch of scans.

    Attributes:
        header: of the question to the model.
        sizes: of the files, in bytes.
        files: their contents, one after another.
        key: that its owner alone knows.
        status: as the client sees it.
        answer: JSON of the model.
        problem: why there is none.
    """

    header: Header
    sizes: list[int]
    files: IO[bytes]
    key: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    status: Status = "waiting"
    answer: bytes = b""
    problem: Problem | None = None

    def contents(self) -> list[bytes]:
        """The contents of its files."""
        self.files.seek(0)
        return [self.files.read(size) for size in self.sizes]

    def about(self) -> dict[str, Any]:
        """State of it, for its owner."""
        about: dict[str, Any] = {"id": self.key, "status": self.status, "files": len(self.sizes)}
        if self.problem is not None:
            about["problem"] = {"status": self.problem.status, "detail": str(self.problem)}
        return about


class JobQueue:
    """Jobs of a server, of which one runs at a time.

    Args:
        ask: asks the model.
        limits: on jobs.
        folder: private, for the files; None for that of the system.
    """

    def __init__(self, ask: Ask, limits: ServerLimits, folder: Path | None) -> None:
        self._ask, self._limits, self._folder = ask, limits, folder
        self._jobs: dict[str, ScanJob] = {}
        self._queue: asyncio.Queue[ScanJob] = asyncio.Queue()
        self._working: asyncio.Task[None] | None = None

    @property
    def unfinished(self) -> int:
        """Number of jobs that have no answer yet."""
        return sum(job.status in ("waiting", "running") for job in self._jobs.values())

    @property
    def scans(self) -> int:
        """Files of jobs that have no answer yet."""
        return sum(len(job.sizes) for job in self._jobs.values() if job.status in ("waiting", "running"))

    async def add(self, upload: ScanUpload) -> ScanJob:
        """Take a batch.

        Raises:
            Problem: 429 where too much waits.
        """
        if self.scans + len(upload.names) > self._limits.job_scans or len(self._jobs) >= MOST_KEPT:
            raise Problem(
                429,
                "Too many jobs are kept. Fetch and delete finished ones, or ask again later.",
                {"Retry-After": "60"},
            )
        header = upload.question("predict", self._limits.of_a_job())
        job = ScanJob(
            header, [len(content) for content in upload.contents], await asyncio.to_thread(self._keep, upload)
        )
        self._jobs[job.key] = job
        self._queue.put_nowait(job)
        if self._working is None:
            self._working = asyncio.create_task(self._work())
        return job

    def find(self, key: str) -> ScanJob:
        """A job by its key.

        Raises:
            Problem: 404 where there is none.
        """
        for own, job in self._jobs.items():
            if secrets.compare_digest(own.encode(), key.encode()):
                return job
        raise Problem(
            404,
            "There is no such job: it was deleted, it is older than jobs are kept, or the server was started again.",
        )

    def delete(self, key: str) -> None:
        """Forget a job; one that runs is answered to nobody.

        Raises:
            Problem: 404 where there is none.
        """
        job = self.find(key)
        del self._jobs[job.key]
        job.files.close()

    async def close(self) -> None:
        """Forget all."""
        if self._working is not None:
            self._working.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._working
        for key in list(self._jobs):
            self.delete(key)

    def _keep(self, upload: ScanUpload) -> IO[bytes]:
        file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - the job closes it
        for content in upload.contents:
            file.write(content)
        return file

    async def _work(self) -> None:
        while True:
            job = await self._queue.get()
            if job.key in self._jobs:
                job.status = "running"
                await self._answer(job)
                job.files.close()
                asyncio.get_running_loop().call_later(3600 * self._limits.keep_hours, self._jobs.pop, job.key, None)

    async def _answer(self, job: ScanJob) -> None:
        for left in reversed(range(TRIES)):
            try:
                job.answer = await self._ask(job.header, await asyncio.to_thread(job.contents))
            except Problem as problem:
                if problem.status == 503 and left:
                    await asyncio.sleep(float(problem.headers.get("Retry-After", "1")))
                    continue
                job.status, job.problem = "failed", problem
            except Exception:  # noqa: BLE001 - the next job is another's
                job.status = "failed"
                job.problem = Problem(500, "This is a fault of the server. Give the id of the job to those who run it.")
            else:
                job.status = "done"
            return
