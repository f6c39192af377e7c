"""The network's word on the scans of several requests at once, before each request is listed and judged by itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from scanwise.bundle import Bundle
from scanwise.bundle.mapping import AskedScans, MappedScans, ScanMapper, ShardMap, map_in_memory
from scanwise.serving.decoding import DecodedFiles


@dataclass(frozen=True, slots=True)
class EarlyMap:
    """Rows of all scans of some requests.

    Attributes:
        rows: of the scans, one request behind the other.
        starts: of each request among them, by the identity of its files.
    """

    rows: MappedScans
    starts: dict[int, int]

    @classmethod
    def of(cls, files: Sequence[DecodedFiles], bundle: Bundle) -> Self:
        """Ask the network about the scans of these requests."""
        starts, count = {}, 0
        for own in files:
            starts[id(own)] = count
            count += len(own.scans)
        joined = DecodedFiles((), tuple(scan for own in files for scan in own.scans))
        request = AskedScans(joined.sources(), [""] * count, None)
        return cls(map_in_memory(request, bundle.mapper(files=joined), progress=False), starts)

    def of_files(self, files: DecodedFiles) -> ShardMap:
        """The map of one request; where it asks for more than pixels, or for other scans, the network is asked again."""
        start = self.starts[id(files)]

        def rows_of(request: AskedScans, mapper: ScanMapper, progress: bool) -> MappedScans:
            if request.tokens is not None or list(request.paths) != files.sources():
                return map_in_memory(request, mapper, progress)
            return self.rows.part(start, start + len(request))

        return rows_of
