"""Processes of our own that answer one question after another: each message is its length in eight bytes, then itself."""

import contextlib
import errno
import os
import struct
import subprocess
import sys
import threading
from typing import IO

_LENGTH = struct.Struct("<Q")
_ONE_CORE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class Helper:
    """A process that runs Python until it is ended, or nothing more can be asked.

    Args:
        arguments: of Python: a script, or `-m` and a module.

    Raises:
        OSError: if it cannot be started.
    """

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-P", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, env={**os.environ, **_ONE_CORE}, start_new_session=True,
        )  # fmt: skip  # its session is its own, or a Ctrl-C would end it over a file that is not damaged

    def ask(self, question: bytes, patience: float) -> bytes:
        """The answer to a question.

        Args:
            question: is sent.
            patience: seconds after which the process is ended.

        Raises:
            EOFError: if the process ended over it.
            OSError: if it had ended before, or nothing can watch it.
        """
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: S101, PT018 - they are pipes
        watch = threading.Timer(patience, self.stop)
        watch.daemon = True
        try:
            watch.start()
        except RuntimeError as error:  # the system grants no thread
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error
        try:
            send(self._process.stdin, question)
            answer = receive(self._process.stdout)
        finally:
            watch.cancel()
        if answer is None:
            raise EOFError
        return answer

    def end(self) -> None:
        """End it now."""
        with contextlib.suppress(OSError, ValueError):
            self._process.kill()
            self._process.communicate()

    def stop(self) -> None:
        """Make it end; a thread that waits for its answer learns that there is none."""
        self._process.kill()


def send(stream: IO[bytes], message: bytes) -> None:
    """Write one message."""
    stream.write(_LENGTH.pack(len(message)))
    stream.write(message)
    stream.flush()


def receive(stream: IO[bytes]) -> bytes | None:
    """Read one message; None if nothing more comes."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    message = stream.read(length)
    return message if len(message) == length else None
