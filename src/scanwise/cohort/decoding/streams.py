"""Many files, decoded ahead of the loop that reads them.

Threads begin. Python runs one thread at a time, though, and what decoding does between its C code would hold up a small network; so
where much is left to do, processes take over once they have started (`stream_helper`). A few files never wait for one.
"""

import pickle  # of nothing but what a helper and this process tell each other
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scanwise.cohort.decoding.helpers import Helper
from scanwise.cohort.decoding.pixels import BROKEN, LACK, Pixels, RemoteScan, Source
from scanwise.cohort.decoding.readers import DecodedScan, FileSlices, files_together, read_slices, reading_threads

if TYPE_CHECKING:
    from scanwise.recipe import Data

_PATIENCE = 600.0  # seconds that a batch may take, or the one file of it that is at fault
_RETRIAL = 60.0  # seconds that one file may take which was refused before: it may hang each time
_AHEAD = 256  # scans that are decoded ahead of the reader
_BATCH = 16  # scans that are handed over at once, after the first few
_TRIAL = 32  # scans after which it is known how long they take
_FIRST = 8  # of these, whose decoders are loaded with them
_FEW = 32  # scans a worker that are decoded ahead before that is known, and while helpers start
_IMPATIENCE = 0.1  # seconds that a reader waits for one helper, in all, before it gets more
_WORTH = 0.25  # seconds of work for each process, which its start makes up for

Batch = list[FileSlices]
Decoded = list[DecodedScan | str]
Measure = Callable[[Pixels], NDArray[np.floating[Any]]]
"""A function of a module: pixels (n, H, W, C) in, (n, P) out, where no row depends on the others."""


def read_files(
    paths: Iterable[Source], settings: "Data", measure: Measure | None = None
) -> Iterator[DecodedScan | str]:
    """A scan, or the reason why there is none, for each path in turn; a path is a file, `file#slice`, or the content of a file.

    Neighbouring slices of one file are read together, and a few scans are decoded ahead of the reader; workers wait for one
    another where all of them together would need too much memory (`memory`).

    Args:
        paths: of the scans.
        settings: of the recipe.
        measure: is asked about the pixels of each scan, where they are decoded.
    """
    scans = list(paths)
    waiting: deque[Future[Decoded]] = deque()
    far = any(isinstance(file, RemoteScan) for file in scans)  # what this process knows of its place, no helper does
    decoders, ahead = _Decoders(settings, measure, 0 if far else len(scans)), 0
    try:
        for batch in _batches(scans):
            waiting.append(decoders.submit(batch))
            ahead += sum(len(slices) for _, slices in batch)
            while ahead > decoders.ahead:
                decoded = decoders.wait_for(waiting.popleft())
                ahead -= len(decoded)
                yield from decoded
        while waiting:
            yield from decoders.wait_for(waiting.popleft())
    finally:
        decoders.close()


def read_one_by_one(paths: Iterable[Source], settings: "Data") -> Iterator[DecodedScan | str]:
    """The same of files that may be at fault: each has a process for itself, which it may end."""
    decoders, helper = _Decoders(settings, None, 0), None
    try:
        for batch in files_together(paths, scans=1):
            decoded, helper = decoders.decode_apart(batch, helper, _RETRIAL)
            yield from decoded
    finally:
        decoders.close()


def _batches(scans: Sequence[Source]) -> Iterator[Batch]:
    """Files with the slices that are asked of each; small ones together, except for the first few."""
    batch: Batch = []
    count = before = 0
    for (file,) in files_together(scans, scans=1):
        batch.append(file)
        count += len(file[1])
        if count >= (_BATCH if before >= _TRIAL else 1):
            yield batch
            batch, count, before = [], 0, before + count
    if batch:
        yield batch


def decode_batch(batch: Batch, settings: "Data", measure: Measure | None) -> Decoded:
    """The scans of some files, or the reasons why there are none."""
    decoded = [scan for file, slices in batch for scan in read_slices(file, slices, settings)]
    pixels = [scan.pixels for scan in decoded if isinstance(scan, DecodedScan)]
    if measure is None or not pixels:
        return decoded
    rows = iter(measure(np.stack(pixels)))
    return [replace(scan, measured=next(rows)) if isinstance(scan, DecodedScan) else scan for scan in decoded]


class _Decoders:
    """This process, then a helper once it is known that it pays, and more of them where the reader has to wait nonetheless.

    Args:
        settings: of the recipe.
        measure: as in `read_files`.
        scans: number of those that helpers may decode.
    """

    def __init__(self, settings: "Data", measure: Measure | None, scans: int) -> None:
        self._settings, self._measure, self._left = settings, measure, scans
        self._seconds, self._done = 0.0, 0
        self._changed = threading.Condition()
        self._pool = ThreadPoolExecutor(reading_threads())
        self._asked = self._asked_more = False  # for helpers
        self._starting: list[threading.Thread] = []
        self._helpers: list[Helper] = []
        self._idle: list[Helper] = []
        self._ready = 0  # helpers, idle or not
        self._reader_waits, self._may_wait = False, _IMPATIENCE
        self._closed = False

    @property
    def ahead(self) -> int:
        """Scans that are decoded ahead of the reader: few as long as they would be decoded here, and a helper may take them."""
        waits = self._done < _TRIAL or any(thread.is_alive() for thread in self._starting)
        return min(_AHEAD, _FEW * reading_threads()) if waits else _AHEAD

    def submit(self, batch: Batch) -> Future[Decoded]:
        """The scans of a batch to come, or the reasons why there are none."""
        return self._pool.submit(self._decode, batch)

    def wait_for(self, batch: Future[Decoded]) -> Decoded:
        """The scans of a batch; a reader that waits too long for one helper gets more of them."""
        if self._ready and not self._asked_more and not batch.done():
            start = time.perf_counter()
            self._let_reader_wait(True)
            wait((batch,), self._may_wait)
            self._let_reader_wait(False)
            self._may_wait -= time.perf_counter() - start
            if self._may_wait <= 0:
                self._add_others()
        return batch.result()

    def _let_reader_wait(self, waits: bool) -> None:
        with self._changed:
            self._reader_waits = waits
            self._changed.notify_all()

    def _add_others(self) -> None:
        with self._changed:
            self._asked_more = True
            for _ in range(reading_threads() - 1):
                self._begin_helper()
            self._changed.notify_all()

    def close(self) -> None:
        """End the helpers; what is under way is given up."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            for helper in self._helpers:
                helper.stop()  # and a thread that waits for its answer learns that there is none
        for thread in self._starting:
            thread.join()
        self._pool.shutdown(cancel_futures=True)
        for helper in self._helpers:
            helper.end()

    def _decode(self, batch: Batch) -> Decoded:
        helper = self._free_helper()
        if helper is None:
            return self._decode_here(batch)
        try:
            decoded = _ask(helper, batch)
        except (EOFError, OSError):
            helper.end()
            decoded, helper = self.decode_apart(batch)
        else:
            decoded = self._decode_here(batch) if _lacked(decoded) else decoded
        with self._changed:
            self._give_back(helper)
        return decoded

    def _free_helper(self) -> Helper | None:
        """A helper that has nothing to do, or None where this process shall decode: not beside a reader that need not wait for it."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._idle or not self._ready or self._reader_waits or self._asked_more or self._closed
            )
            return self._idle.pop() if self._idle else None

    def _give_back(self, helper: Helper | None) -> None:
        """A helper is free again, or has ended."""
        if helper is None:
            self._ready -= 1
        else:
            self._idle.append(helper)
        self._changed.notify_all()

    def _decode_here(self, batch: Batch) -> Decoded:
        start = time.perf_counter()
        decoded = decode_batch(batch, self._settings, self._measure)
        with self._changed:
            self._seconds += time.perf_counter() - start if self._done >= _FIRST else 0
            self._done += len(decoded)
            if not self._asked and self._pays():
                self._asked = True
                self._begin_helper()
        return decoded

    def _pays(self) -> bool:
        """Whether what is left takes longer than helpers take to start."""
        left = self._seconds / max(1, self._done - _FIRST) * (self._left - self._done)
        return self._done >= _TRIAL and reading_threads() > 1 and left > _WORTH * reading_threads()

    def _begin_helper(self) -> None:
        """Start one beside all else; where the system grants no thread for it, what decodes now goes on alone."""
        if self._closed:
            return
        thread = threading.Thread(target=self._add_helper, daemon=True)
        with suppress(RuntimeError):
            thread.start()
            self._starting.append(thread)

    def _add_helper(self) -> None:
        helper = self._start()
        if helper is not None:
            with self._changed:
                self._ready += 1
                self._give_back(helper)

    def _start(self) -> Helper | None:
        """A helper that is ready; None where there can be none."""
        try:
            with self._changed:
                if self._closed:
                    return None
                helper = Helper("-m", "scanwise.cohort.decoding.stream_helper")
                self._helpers.append(helper)
            plain = SimpleNamespace(**self._settings.of_pixels)
            helper.ask(pickle.dumps((plain, self._measure, reading_threads())), _PATIENCE)
        except (EOFError, OSError):
            return None
        return helper

    def decode_apart(
        self, batch: Batch, helper: Helper | None = None, patience: float | None = None
    ) -> tuple[Decoded, Helper | None]:
        """The scans of a batch, file by file, and the helper that is left: the file that ends one is damaged.

        Args:
            batch: may end helpers.
            helper: that was left before.
            patience: seconds that a file may take; None for as many as a batch.
        """
        decoded: Decoded = []
        for file, slices in batch:
            helper = helper or self._start()
            try:
                scans: Decoded = [LACK] if helper is None else _ask(helper, [(file, slices)], patience)
            except (EOFError, OSError):
                scans = [BROKEN] * len(slices)
                if helper is not None:
                    helper.end()
                helper = None
            if _lacked(scans):
                scans = [] if self._closed else decode_batch([(file, slices)], self._settings, self._measure)
            decoded += scans
        return decoded, helper


def _lacked(decoded: Decoded) -> bool:
    """Whether a helper had too little memory, of which it may use but its share: this process has more."""
    return any(isinstance(scan, str) and scan.startswith(LACK) for scan in decoded)


def _ask(helper: Helper, batch: Batch, patience: float | None = None) -> Decoded:
    answer = helper.ask(pickle.dumps(batch, pickle.HIGHEST_PROTOCOL), patience or _PATIENCE)
    decoded: Decoded = pickle.loads(answer)  # noqa: S301
    return decoded
