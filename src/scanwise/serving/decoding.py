"""Decoding of uploads in a process of its own: what a damaged file does to its decoder, it does to nothing else."""

import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np

from scanwise.cohort.decoding.pixels import BROKEN, LACK, ScanBytes, Source
from scanwise.cohort.decoding.readers import DecodedScan
from scanwise.cohort.decoding.streams import Measure
from scanwise.cohort.listing import FileContents
from scanwise.errors import DataError
from scanwise.phrases import count_of
from scanwise.recipe import Data
from scanwise.serving.messages import FAULT, Header, HelperProcess, ProcessEnded

PATIENCE = 60.0
"""Seconds that a file, or some small ones together, may take."""
MOST_FILES, MOST_BYTES = 8, 4 * 2**20
"""Files, and bytes of them, that are decoded together; a larger one is decoded alone."""
_Decoded = tuple[Header, bytes]
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

    def read(
        self, scans: Sequence[Source], settings: Data, measure: Measure | None = None
    ) -> Iterator[DecodedScan | str]:
        """A scan, or the reason why there is none, for each in turn; nothing is measured."""
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
        self._shape = (settings.size, settings.size, settings.channels)
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
        return self._within(self._decode_all(files, [most_scans] * len(files)), most_scans, most_pixels)

    def decode_each(self, requests: Sequence[tuple[Sequence[ScanBytes], int, int]]) -> list[DecodedFiles | DataError]:
        """Decode the files of several requests together: of each what `decode` would give, or the error it would raise."""
        files = [file for own, _, _ in requests for file in own]
        decoded = iter(self._decode_all(files, [most for own, most, _ in requests for _ in own]))
        outcomes: list[DecodedFiles | DataError] = []
        for own, most_scans, most_pixels in requests:
            part = list(islice(decoded, len(own)))
            try:
                outcomes.append(self._within(part, most_scans, most_pixels))
            except DataError as error:
                outcomes.append(error)
        return outcomes

    def _within(self, decoded: Iterable[_Decoded], most_scans: int, most_pixels: int) -> DecodedFiles:
        opened: list[FileContents | str] = []
        scans: list[DecodedScan | str] = []
        area = 0
        for header, pixels in decoded:
            described = header.get("scans", [])
            area += sum(scan.get("area", 0) for scan in described)
            count = len(scans) + header.get("too_many", len(described))
            if count > most_scans:
                raise DataError(f"The files hold more than {count_of(most_scans, 'scan')}. Send fewer at once.")
            if area > most_pixels:
                raise DataError(f"The scans have more than {most_pixels:,} pixels in all. Send fewer at once.")
            opened.append(_opened(header["opened"]))
            scans += _scans_of(described, pixels, self._shape)
        return DecodedFiles(tuple(opened), tuple(scans))

    def start(self) -> None:
        """Start the process, or the first file waits for it."""
        self._process()

    def close(self) -> None:
        """End the process."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._starting:
            if self._current is not None:
                self._current.kill()

    def _decode_all(self, files: Sequence[ScanBytes], most: Sequence[int]) -> Iterable[_Decoded]:
        """Small files some at a time, since to hand over each alone takes longer than to decode it."""
        groups = _grouped(list(zip(files, most, strict=True)), self._at_once)
        ask = self._pool.map if len(groups) > 1 else map  # a thread more is dearer than a small file
        return chain.from_iterable(ask(self._decode_group, groups))

    def _decode_group(self, group: list[tuple[ScanBytes, int]]) -> list[_Decoded]:
        try:
            decoded = self._ask(self._process(), group)
        except ProcessEnded:
            return [self._decode_alone(file) for file in group]
        if len(group) == 1:
            return decoded
        return [  # what found no room beside its neighbours is tried without them
            self._decode_alone(file) if answer.get("opened") == LACK else (answer, content)
            for file, (answer, content) in zip(group, decoded, strict=True)
        ]

    def _decode_alone(self, file: tuple[ScanBytes, int]) -> _Decoded:
        with self._alone:
            process = self._start()
            try:
                return self._ask(process, [file])[0]
            except ProcessEnded:
                return {"opened": BROKEN, "scans": []}, b""
            finally:
                process.kill()

    def _ask(self, process: HelperProcess, group: list[tuple[ScanBytes, int]]) -> list[_Decoded]:
        suffixes, most = [file.suffix for file, _ in group], [most for _, most in group]
        header = {"settings": self._settings, "suffixes": suffixes, "most": most}
        try:
            answered, contents = process.ask(header, [file.data for file, _ in group]).result(PATIENCE)
        except TimeoutError:
            process.kill()
            raise ProcessEnded from None
        if FAULT in answered:  # before it came to any file
            return [(_damaged(answered[FAULT]), b"")] * len(group)
        described = [_damaged(file[FAULT]) if FAULT in file else file for file in answered["files"]]
        return list(zip(described, contents, strict=True))

    def _process(self) -> HelperProcess:
        with self._starting:
            if self._current is None or self._current.gone:
                self._current = self._start()
            return self._current

    def _start(self) -> HelperProcess:
        process = HelperProcess(_MODULE, self._at_once, _FEW_ARENAS)
        process.ask({"memory": self._memory})
        return process


def _grouped(files: list[tuple[ScanBytes, int]], at_once: int) -> list[list[tuple[ScanBytes, int]]]:
    """Files in groups: few and small enough to be decoded together, and a group at least for each that decodes."""
    most = min(MOST_FILES, -(-len(files) // at_once))
    groups: list[list[tuple[ScanBytes, int]]] = []
    size = 0
    for file in files:
        size += len(file[0].data)
        if not groups or len(groups[-1]) >= most or size > MOST_BYTES:
            groups.append([])
            size = len(file[0].data)
        groups[-1].append(file)
    return groups


def _damaged(kind: str) -> Header:
    return {"opened": f"damaged, or of a kind that is not read here ({kind})", "scans": []}


def _opened(contents: Header | str) -> FileContents | str:
    if isinstance(contents, str):
        return contents
    columns = {name: tuple(values) for name, values in contents["columns"].items()}
    return FileContents(contents["count"], columns, contents["remark"], contents["header"])


def _scans_of(described: Sequence[Header], content: bytes, shape: tuple[int, int, int]) -> list[DecodedScan | str]:
    pixels = iter(np.frombuffer(content, np.uint8).reshape(-1, *shape))
    return [
        scan["reason"] if "reason" in scan else DecodedScan(next(pixels), scan["sha256"], scan["digest"], scan["area"])
        for scan in described
    ]
