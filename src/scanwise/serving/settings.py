"""Settings of a server: limits on what a client may send, and who may ask."""

import ipaddress
import stat
from dataclasses import dataclass, replace
from pathlib import Path

from scanwise.errors import DataError

FEWEST_CHARACTERS = 16


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Limits on one request, and on all that wait.

    Attributes:
        body: bytes of a request.
        scans: files of a request, and scans in them.
        waiting: scans of all requests that are answered or wait.
        read_seconds: time in which a request must arrive.
        answer_seconds: time in which it is answered.
        fields: bytes of the JSON beside the files.
        held: bytes of all requests that arrive, wait or are answered.
        pixels: of all scans of a request, before they are resized.
        decoding_memory: bytes that decoding may take.
        explained: scans of a request that are explained.
        job_scans: scans of all jobs that have no answer yet.
        keep_hours: time for which a finished job is kept.
    """

    body: int = 256 * 2**20
    scans: int = 256
    waiting: int = 512
    read_seconds: float = 60.0
    answer_seconds: float = 120.0
    fields: int = 256 * 2**10
    held: int = 512 * 2**20
    pixels: int = 500_000_000
    decoding_memory: int = 2**30
    explained: int = 16
    job_scans: int = 4096
    keep_hours: float = 24.0

    def of_a_job(self) -> "ServerLimits":
        """Limits on one job, which may hold as many scans as all of them."""
        return replace(self, scans=self.job_scans, pixels=self.pixels * max(1, self.job_scans // self.scans))


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_token(file: Path) -> str:
    """The token in a file that its owner alone can read.

    Raises:
        DataError: if others can read it, or it is too short.
    """
    try:
        mode = file.stat().st_mode
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"The token file {file} cannot be read ({type(error).__name__}). Write a long random text into it."
        ) from error
    if not stat.S_ISREG(mode) or mode & 0o077:
        raise DataError(f"Others can read the token file {file}. Run: chmod 600 {file}")
    if len(token) < FEWEST_CHARACTERS or not token.isascii() or not token.isprintable() or " " in token:
        raise DataError(f"The token in {file} must be at least {FEWEST_CHARACTERS} letters and digits on one line.")
    return token
