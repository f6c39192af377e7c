"""Memory for decoding: budgets that all workers of a process share.

A small file may claim many pixels, and eight workers decode at once. So each says what it needs before room is made for
it: workers wait for one another where all of them together would need too much, and a file that is too large for the
machine alone is refused. What the machine has is looked at again whenever a budget is unused.
"""

import contextlib
import ctypes
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from scanwise.cohort.decoding.pixels import LACK, UnreadableScan
from scanwise.run import processes
from scanwise.workers.sharing import sharing_processes

_USUAL = 4 * 2**30  # bytes, where the system does not say
_FRESH = 1.0  # seconds that a measurement stays good
_LARGE = 2**25  # bytes
_UNLIMITED = 2**60
_CGROUP = Path("/sys/fs/cgroup")


class MemoryBudget:
    """A share of the free memory.

    Attributes:
        share: of the free memory, over all budgets less than 1.
        measure: gives the free bytes.
    """

    def __init__(self, share: float, measure: Callable[[], int] | None = None) -> None:
        self.share = share
        self.measure = measure or free_memory
        self._used = self._total = 0
        self._measured = -_FRESH
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def reserve(self, size: int) -> Iterator[None]:
        """Wait until there is room for so many bytes beside those of other workers, and keep it while the block runs.

        Budgets are nested in one order (`FILES`, `UNPACKED`, `PIXELS`), and none in itself, so that no worker waits for one
        that waits for it.

        Raises:
            UnreadableScan: if there is not so much, even for this one alone.
        """
        with self._changed:
            while not self._fits(size):
                self._changed.wait()
            self._used += size
        try:
            yield
        finally:
            if size >= _LARGE:
                _trim()
            with self._changed:
                self._used -= size
                self._changed.notify_all()

    def _fits(self, size: int) -> bool:
        if not self._used:
            if size > self._total or time.monotonic() - self._measured > _FRESH:
                self._total, self._measured = int(self.measure() * self.share), time.monotonic()
            if size > self._total:
                raise UnreadableScan(
                    f"{LACK}: about {_in_megabytes(size)}, and {_in_megabytes(self._total)} may be used; close other "
                    "programs, use a machine with more, or make the file smaller"
                )
        return self._used + size <= self._total


def free_memory() -> int:
    """Bytes that this process may still use: the least of the machine's, the container's and its own limit."""
    free = min(_of_machine(), _of_container(), _of_process())
    return max(0, free if free < _UNLIMITED else _USUAL) // (processes() * sharing_processes())


def _trim() -> None:
    """Give back to the system what was freed: the allocator of Linux keeps it, once for each thread."""
    with contextlib.suppress(OSError, AttributeError, TypeError):  # of other systems
        ctypes.CDLL(None).malloc_trim(0)


def _of_machine() -> int:
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    with contextlib.suppress(OSError, ValueError, AttributeError):  # of macOS; all of it, of which half may be free
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return _UNLIMITED


def _of_container(root: Path = _CGROUP, own: Path = Path("/proc/self/cgroup")) -> int:
    """Memory left by the control groups of this process, of both versions; pages that can be dropped are free."""
    free = _UNLIMITED
    for folder, limit, used in _groups(root, own):
        with contextlib.suppress(OSError, ValueError):
            most = int((folder / limit).read_text(encoding="ascii"))
            stat = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
            droppable = int(stat.get("inactive_file", stat.get("total_inactive_file", 0)))
            free = min(free, most - int((folder / used).read_text(encoding="ascii")) + droppable)
    return free


def _groups(root: Path, own: Path) -> Iterator[tuple[Path, str, str]]:
    """Folders of the groups of this process, up to the root, and their files for the limit and for what is used."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers in ("", "memory"):
            base = root / controllers
            files = (
                ("memory.limit_in_bytes", "memory.usage_in_bytes") if controllers else ("memory.max", "memory.current")
            )
            inner = base / name.lstrip("/")
            for folder in (inner, *inner.parents):
                if folder.is_relative_to(base):
                    yield folder, *files


def _of_process() -> int:
    """Memory left by `ulimit -v`."""
    with contextlib.suppress(ImportError, OSError, ValueError, IndexError):
        import resource

        most, _ = resource.getrlimit(resource.RLIMIT_AS)
        if most != resource.RLIM_INFINITY:
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
            return most - pages * resource.getpagesize()
    return _UNLIMITED


def _in_megabytes(size: int) -> str:
    return f"{max(0, size) / 1e6:,.0f} MB"


FILES = MemoryBudget(0.2)
"""Content of files, as they lie on the disk."""
UNPACKED = MemoryBudget(0.15)
"""Content of DICOM files, as they are parsed or once they are inflated."""
PIXELS = MemoryBudget(0.4)
"""Pixels, from the decoder to the picture that is resized."""
