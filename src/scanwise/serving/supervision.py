"""The process that holds the model, as the server keeps it: started, checked, and started again where it ends."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from scanwise import errors
from scanwise.errors import RunError, ScanwiseError
from scanwise.serving.messages import FAULT, Header, HelperProcess, Message, ProcessEnded
from scanwise.serving.problems import Problem

log = logging.getLogger("scanwise.serving")
SHORTEST, LONGEST = 0.1, 30.0
"""Seconds between two starts of a process that ends again and again; each wait is twice the one before."""
_MODULE = "scanwise.serving.model_process"


class ServedModel(Protocol):
    """Whatever answers for a model.

    Attributes:
        about: the model in words, once it is open.
        ready: whether it answered its golden cases as it should.
        restarts: how often it was started again.
    """

    about: dict[str, Any]
    ready: bool
    restarts: int

    async def start(self) -> None:
        """Open the model, and check it in the background.

        Raises:
            ScanwiseError: if it cannot be opened.
        """
        ...

    async def ask(self, header: Header, contents: Sequence[bytes] = ()) -> Message:
        """The answer of the model.

        Raises:
            Problem: 503 where it ended over it.
        """
        ...

    async def close(self) -> None:
        """End it."""
        ...


class SupervisedModel:
    """A model in a process of its own.

    Args:
        path: an exported model, a run or a bundle.
        decoding_memory: bytes that decoding may take.
        at_once: requests that are answered beside each other.
        folder: for temporary files.
    """

    def __init__(self, path: Path, decoding_memory: int, at_once: int, folder: Path) -> None:
        self.about: dict[str, Any] = {}
        self.ready = False
        self.restarts = 0
        self._question = {"kind": "open", "path": str(path), "decoding_memory": decoding_memory}
        self._at_once, self._folder = at_once, folder
        self._process: HelperProcess | None = None
        self._ended = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the model, and check it in the background."""
        try:
            await self._open()
        except (Problem, Fault) as error:
            raise RunError(
                f"The process of the model ended before it had opened it ({type(error).__name__})."
            ) from None
        self._keeping = asyncio.create_task(self._keep())

    async def ask(self, header: Header, contents: Sequence[bytes] = ()) -> Message:
        """The answer of the model."""
        if self._process is None:
            raise _ended()
        try:
            answered, given = await asyncio.wrap_future(self._process.ask(header, contents))
        except ProcessEnded:
            raise _ended() from None
        if FAULT in answered:
            raise Fault(answered[FAULT])
        return answered, given

    async def close(self) -> None:
        """End the process."""
        self.ready = False
        if self._keeping is not None:
            self._keeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeping
        if self._process is not None:
            await asyncio.to_thread(self._process.close)

    async def _open(self) -> None:
        if self._process is not None:
            self._process.kill()
        self._ended = ended = asyncio.Event()
        loop = asyncio.get_running_loop()

        def end() -> None:
            with contextlib.suppress(RuntimeError):  # the loop may have closed before
                loop.call_soon_threadsafe(self._end, ended)

        environment = {"TMPDIR": str(self._folder)}
        self._process = HelperProcess(_MODULE, self._at_once, environment, end)
        answered, _ = await self.ask(self._question)
        if "refusal" in answered:
            kind = getattr(errors, answered["error"], RunError)
            raise kind(answered["refusal"])
        self.about = answered["about"]

    def _end(self, ended: asyncio.Event) -> None:
        """A process ended; one that was replaced before changes nothing."""
        ended.set()
        if ended is self._ended:
            self.ready = False

    async def _keep(self) -> None:
        """Check the model; start it again whenever its process has ended."""
        wait = SHORTEST
        while True:
            try:
                if self._ended.is_set():
                    await asyncio.sleep(wait)
                    self.restarts += 1
                    await self._open()
                await self._check()
                wait = SHORTEST if self.ready else wait
                await self._ended.wait()
                log.error("the process of the model ended; it is started again")
            except (ScanwiseError, Problem, Fault) as error:
                log.error("the model cannot be opened again (%s)", type(error).__name__)  # noqa: TRY400 - no traceback
                self._ended.set()
            wait = min(LONGEST, 2 * wait)

    async def _check(self) -> None:
        try:
            answered, _ = await self.ask({"kind": "check"})
            self.ready = "problem" not in answered
        except Fault:
            self.ready = False
        if not self.ready and not self._ended.is_set():
            log.error("the model does not answer its golden cases")


class Fault(Exception):  # noqa: N818 - a fault, not an error of the caller
    """A fault of the process over a question; the message is its kind."""


def _ended() -> Problem:
    return Problem(
        503, "The process of the model ended over it, and is started again. Send it again.", {"Retry-After": "5"}
    )
