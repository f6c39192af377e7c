"""Decoding of uploads in a process of its own: what a damaged file does to its decoder, it does to nothing else."""

import io
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from scanwise.cohort.decoding.pixels import ScanBytes, Source
from scanwise.cohort.decoding.readers import DecodedScan
from scanwise.cohort.listing import FileContents
from scanwise.errors import DataError
from scanwise.phrases import count_of
from scanwise.recipe import Data
from scanwise.serving.messages import FAULT, Header, HelperProcess, Message, ProcessEnded

PATIENCE = 60.0
"""Seconds that a file may take."""
BROKEN = "damaged: its decoder broke down over it, or took too long"
_MODULE = "scanwise.serving.decoder_process"
_FEW_ARENAS = {"MALLOC_ARENA_MAX": "2"}  # of the allocator, which else reserves addresses for each thread


@dataclass(frozen=True, slots=True)
class DecodedFiles:
    """Files that are decoded; a reader for `Bundle.predict`, which asks by the number of a scan.

    Attributes:
        opened: contents of each file, or why it cannot be used.
        scans: of those that can, one after another: decoded, or the reason why not.
    """

    opened: tuple[FileContents | str, ...]
    scans: tuple[DecodedScan | str, ...]

    def sources(self) -> list[ScanBytes]:
        """The scans, to ask about."""
        return [ScanBytes("scan", b"", number) for number in range(len(self.scans))]

    def scans_of(self, file: Source, settings: Data) -> list[tuple[Source, str]]:
        """A scan itself."""
        return [(file, "")]

    def read(self, scans: Sequence[Source], settings: Data) -> Iterator[DecodedScan | str]:
        """A scan, or the reason why there is none, for each in turn."""
        return iter([self.scans[scan.index or 0] for scan in scans if isinstance(scan, ScanBytes)])


class IsolatedDecoder:
    """A decoder in a process with a limit of memory, which is started again where it ends.

    The files that it had in hand are then decoded once more, each by itself in a fresh process; the one over which that
    ends too is damaged.

    Args:
        settings: of the recipe.
        memory: bytes that decoding may take.
        at_once: files.
    """

    def __init__(self, settings: Data, memory: int, at_once: int = 1) -> None:
        self._settings, self._memory = settings.model_dump_json(), memory
        self._at_once, self._pool = at_once, ThreadPoolExecutor(at_once)
        self._current: HelperProcess | None = None
        self._starting, self._alone = threading.Lock(), threading.Lock()

    def decode(self, files: Sequence[ScanBytes], most_scans: int, most_pixels: int) -> DecodedFiles:
        """Decode files.

        Args:
            files: with their contents.
            most_scans: that all files may hold.
            most_pixels: of all scans, before they are resized.

        Raises:
            DataError: if they hold more.
        """
        ask = self._pool.map if len(files) > 1 else map  # a thread more is dearer than a small file
        opened: list[FileContents | str] = []
        scans: list[DecodedScan | str] = []
        area = 0
        for header, contents in ask(lambda file: self._decode_file(file, most_scans), files):
            described = header.get("scans", [])
            area += sum(scan.get("area", 0) for scan in described)
            count = len(scans) + header.get("too_many", len(described))
            if count > most_scans:
                raise DataError(f"The files hold more than {count_of(most_scans, 'scan')}. Send fewer at once.")
            if area > most_pixels:
                raise DataError(f"The scans have more than {most_pixels:,} pixels in all. Send fewer at once.")
            opened.append(_opened(header["opened"]))
            scans += _decoded(described, contents[0])
        return DecodedFiles(tuple(opened), tuple(scans))

    def close(self) -> None:
        """End the process."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._starting:
            if self._current is not None:
                self._current.kill()

    def _decode_file(self, file: ScanBytes, most: int) -> Message:
        header = {"settings": self._settings, "suffix": file.suffix, "most": most}
        try:
            return _ask(self._process(), header, file.data)
        except ProcessEnded:
            pass
        with self._alone:
            process = self._start()
            try:
                return _ask(process, header, file.data)
            except ProcessEnded:
                return {"opened": BROKEN, "scans": []}, [b""]
            finally:
                process.kill()

    def _process(self) -> HelperProcess:
        with self._starting:
            if self._current is None or self._current.gone:
                self._current = self._start()
            return self._current

    def _start(self) -> HelperProcess:
        process = HelperProcess(_MODULE, self._at_once, _FEW_ARENAS)
        process.ask({"memory": self._memory})
        return process


def _ask(process: HelperProcess, header: Header, content: bytes) -> Message:
    try:
        answered, contents = process.ask(header, [content]).result(PATIENCE)
    except TimeoutError:
        process.kill()
        raise ProcessEnded from None
    if FAULT in answered:
        return {"opened": f"damaged, or of a kind that is not read here ({answered[FAULT]})", "scans": []}, [b""]
    return answered, contents


def _opened(contents: Header | str) -> FileContents | str:
    if isinstance(contents, str):
        return contents
    columns = {name: tuple(values) for name, values in contents["columns"].items()}
    return FileContents(contents["count"], columns, contents["remark"], contents["header"])


def _decoded(described: Sequence[Header], content: bytes) -> list[DecodedScan | str]:
    pixels = iter(np.load(io.BytesIO(content), allow_pickle=False) if content else ())
    return [
        scan["reason"] if "reason" in scan else DecodedScan(next(pixels), scan["sha256"], scan["digest"], scan["area"])
        for scan in described
    ]
