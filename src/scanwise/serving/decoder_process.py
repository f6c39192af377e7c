"""A process that decodes files within a limit of memory; it gets the content of a file and its ending, and no name."""

import contextlib
import io
import sys
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

import numpy as np

from scanwise.cohort.decoding.pixels import LACK, ScanBytes
from scanwise.cohort.decoding.readers import DecodedScan, read_slices
from scanwise.cohort.slice_expansion import open_contents, scans_in
from scanwise.recipe import Data
from scanwise.serving.messages import Header, Message, answer_questions


def limit_memory(size: int) -> None:
    """Let this process take so many bytes more than it has; only where the system can hold it to that."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        most = pages * resource.getpagesize() + size
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def decode(header: Header, contents: list[bytes]) -> Message:
    """Contents of one file by its header, or why it cannot be used; the hashes of its scans, or why there is none; their pixels."""
    settings = _settings(header["settings"])
    file = ScanBytes(f"scan{header['suffix']}", contents[0])
    decoded: list[DecodedScan | str]
    try:
        opened = open_contents(file, settings)
        if isinstance(opened, str):
            return {"opened": opened, "scans": []}, [b""]
        scans = scans_in(file, opened, settings)
        if len(scans) > header["most"]:
            return {"too_many": len(scans)}, []
        decoded = read_slices(file, [scan.index for scan, _ in scans if isinstance(scan, ScanBytes)], settings)
    except MemoryError:
        return {"opened": LACK, "scans": []}, [b""]
    described = [
        {"sha256": scan.sha256, "digest": scan.digest, "area": scan.area}
        if isinstance(scan, DecodedScan)
        else {"reason": scan}
        for scan in decoded
    ]
    pixels = [scan.pixels for scan in decoded if isinstance(scan, DecodedScan)]
    stream = io.BytesIO()
    if pixels:
        np.save(stream, np.stack(pixels), allow_pickle=False)
    return {"opened": asdict(opened), "scans": described}, [stream.getvalue()]


@lru_cache(maxsize=4)
def _settings(text: str) -> Data:
    return Data.model_validate_json(text)


def answer(header: Header, contents: list[bytes]) -> Message:
    """Set the limit once, then decode."""
    if "memory" in header:
        limit_memory(header["memory"])
        return {}, []
    return decode(header, contents)


if __name__ == "__main__":
    answer_questions(answer, int(sys.argv[1]))
