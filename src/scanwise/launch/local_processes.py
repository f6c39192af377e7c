"""One command in several processes on this machine, as torchrun would start them, with the command's own exit code.

    scanwise fit RECIPE --data DATA --processes 4

On several machines torchrun does it: `torchrun --nnodes 2 --nproc-per-node 4 … -m scanwise fit …`; both set the same
environment, which is all that the training looks at.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

GRACE = 30.0
"""Seconds that processes have to end once one of them has failed, or all were asked to."""


def run(arguments: Sequence[str], count: int) -> int:
    """Run `scanwise ARGUMENTS` in that many processes, and wait for all.

    Args:
        arguments: of the command line, without those that start several processes.
        count: of processes.

    Returns:
        the exit code of the process that failed first, or 0.
    """
    started = [_start(arguments, rank, count, port) for port in [_free_port()] for rank in range(count)]
    signals: list[float] = []
    with _passing_on(started, signals):
        return _wait(started, signals)


def _start(arguments: Sequence[str], rank: int, count: int, port: int) -> "subprocess.Popen[bytes]":
    about = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": count,
        "LOCAL_WORLD_SIZE": count,
        "GROUP_RANK": 0,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        # Each with all cores would stand in the others' way.
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or max(1, (os.cpu_count() or 1) // count),
    }
    environment = os.environ | {name: str(value) for name, value in about.items()}
    return subprocess.Popen([sys.executable, "-m", "scanwise", *arguments], env=environment)  # noqa: S603


def _wait(started: list["subprocess.Popen[bytes]"], signals: list[float]) -> int:
    """Wait; when one fails the others wait in vain for it, so they are ended. `told` holds when they were asked to end."""
    code, left = 0, list(started)
    while left:
        time.sleep(0.05)
        for process in list(left):
            status = process.poll()
            if status is None:
                continue
            left.remove(process)
            if status and not code:
                code = status if status > 0 else 128 - status
                signals.append(time.monotonic())
                for other in left:
                    other.terminate()
        if signals and time.monotonic() > signals[0] + GRACE:
            for process in left:
                process.kill()
    return code


@contextmanager
def _passing_on(started: list["subprocess.Popen[bytes]"], signals: list[float]) -> Iterator[None]:
    """Hand a cluster's request to end on to all processes; Ctrl-C reaches them from the terminal itself."""

    def end(number: int, _: FrameType | None) -> None:
        signals.append(time.monotonic())
        for process in started:
            process.send_signal(number)  # does nothing to one that has ended

    listening = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, end) for number in listening}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, lambda *_: signals.append(time.monotonic()))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for process in started:
            if process.poll() is None:
                process.kill()
                process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
