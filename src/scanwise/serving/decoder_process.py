"""A process that decodes files within a limit of memory; it gets the content of a file and its ending, and no name."""

import contextlib
import sys
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

from scanwise.cohort.decoding.pixels import LACK, ScanBytes
from scanwise.cohort.decoding.readers import DecodedScan, read_slices
from scanwise.cohort.slice_expansion import open_contents, scans_in
from scanwise.recipe import Data
from scanwise.serving.messages import FAULT, Header, Message, answer_questions


def limit_memory(size: int) -> None:
    """Let this process take so many bytes more than it has; only where the system can hold it to that."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        most = pages * resource.getpagesize() + size
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def decode(header: Header, contents: list[bytes]) -> Message:
    """Contents of each file by its header, or why it cannot be used; the hashes of its scans, or why there is none; their pixels."""
    settings = _settings(header["settings"])
    decoded = [
        _decode_file(ScanBytes(f"scan{suffix}", content), most, settings)
        for suffix, most, content in zip(header["suffixes"], header["most"], contents, strict=True)
    ]
    return {"files": [described for described, _ in decoded]}, [pixels for _, pixels in decoded]


def _decode_file(file: ScanBytes, most: int, settings: Data) -> tuple[Header, bytes]:
    decoded: list[DecodedScan | str]
    try:
        opened = open_contents(file, settings)
        if isinstance(opened, str):
            return {"opened": opened, "scans": []}, b""
        scans = scans_in(file, opened, settings)
        if len(scans) > most:
            return {"too_many": len(scans)}, b""
        decoded = read_slices(file, [scan.index for scan, _ in scans if isinstance(scan, ScanBytes)], settings)
    except MemoryError:
        return {"opened": LACK, "scans": []}, b""
    except Exception as error:  # noqa: BLE001 - the next file is another's; the words may be a user's
        return {FAULT: type(error).__name__}, b""
    described = [
        {"sha256": scan.sha256, "digest": scan.digest, "area": scan.area}
        if isinstance(scan, DecodedScan)
        else {"reason": scan}
        for scan in decoded
    ]
    pixels = [scan.pixels for scan in decoded if isinstance(scan, DecodedScan)]
    return {"opened": asdict(opened), "scans": described}, b"".join(scan.tobytes() for scan in pixels)


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
