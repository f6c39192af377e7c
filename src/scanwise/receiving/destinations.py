"""Destinations of results: application entities (C-STORE) and DICOMweb servers (STOW-RS)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit
from uuid import uuid4

from scanwise.errors import DataError
from scanwise.receiving.encryption import Encryption
from scanwise.receiving.store_response import JSON, XML, read_response

if TYPE_CHECKING:
    import requests

_ENTITY = re.compile(r"([\x21-\x5b\x5d-\x7e]{1,16})@([^@:\s]+|\[[0-9a-fA-F:]+\]):([0-9]{1,5})")
_WARNINGS = (0xB000, 0xB006, 0xB007)
_MOST_ANSWER = 2**20
"""Bytes of an answer about one object."""


class Refusal(Exception):  # noqa: N818 - it becomes a line of the state
    """An object that was not taken; the message names no person.

    Attributes:
        answered: whether the destination refused this object, and may take another.
    """

    def __init__(self, reason: str, *, answered: bool = False) -> None:
        super().__init__(reason)
        self.answered = answered


class Destination(Protocol):
    """Anything that takes results.

    Attributes:
        name: in the state.
    """

    @property
    def name(self) -> str: ...

    def send(self, file: Path) -> int:
        """Send one object; the status is 0, or that of a warning with which it was taken.

        Raises:
            Refusal: if it is not taken.
        """
        ...


@dataclass(frozen=True, slots=True)
class StoreEntity:
    """An application entity that takes C-STORE.

    Attributes:
        title: of the entity.
        host: its address.
        port: its port.
        own_title: that this side calls itself.
        encryption: of the connection; None for none.
    """

    title: str
    host: str
    port: int
    own_title: str
    encryption: Encryption | None = None

    @classmethod
    def parse(cls, value: str, own_title: str, encryption: Encryption | None = None) -> "StoreEntity":
        """Read `AET@HOST:PORT`.

        Raises:
            DataError: if it is none.
        """
        match = _ENTITY.fullmatch(value)
        if match is None or not 0 < int(match[3]) < 65536:
            raise DataError(f"--send takes AET@HOST:PORT, such as PACS@127.0.0.1:4242; got {value!r}.")
        return cls(match[1], match[2].strip("[]"), int(match[3]), own_title, encryption)

    @property
    def name(self) -> str:
        """As it was given."""
        return f"{self.title}@{self.host}:{self.port}"

    def send(self, file: Path) -> int:
        """Send one object; see `Destination`."""
        import pydicom
        from pynetdicom import AE

        built = pydicom.dcmread(file)
        entity = AE(self.own_title)
        entity.connection_timeout = entity.acse_timeout = 10
        entity.dimse_timeout = entity.network_timeout = 60
        entity.add_requested_context(built.SOPClassUID, built.file_meta.TransferSyntaxUID)
        secure = None if self.encryption is None else (self.encryption.for_sending(), self.host)
        association = entity.associate(self.host, self.port, ae_title=self.title, tls_args=secure)
        if not association.is_established:
            silent = "it does not answer" + (", or its certificate is not trusted" if secure else "")
            raise Refusal("it refuses the association" if association.is_rejected else silent)
        try:
            if not association.accepted_contexts:
                raise Refusal("it takes no objects of this kind", answered=True)
            answer = association.send_c_store(built)
        finally:
            association.release()
        status = answer.get("Status")
        if status is None:
            raise Refusal("it ended the association")
        if status != 0 and status not in _WARNINGS:
            raise Refusal(f"status {status:04X}", answered=True)
        return int(status)


@dataclass(frozen=True, slots=True)
class WebServer:
    """A DICOMweb server that takes STOW-RS.

    Attributes:
        url: of the service, without a password.
        encryption: own certificate and authorities; None for those of the system.
    """

    url: str
    encryption: Encryption | None = None

    @classmethod
    def parse(cls, value: str, encryption: Encryption | None = None) -> "WebServer":
        """Check a URL.

        Raises:
            DataError: if it is none, holds a password, or is not encrypted while the others are.
        """
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
            raise DataError("--stow takes the URL of a DICOMweb service, without a user or password.")
        if encryption is not None and parts.scheme == "http":
            raise DataError(
                "--stow with http:// would send results in the clear while TLS is asked for; give an https:// address."
            )
        return cls(value.rstrip("/"), encryption)

    @property
    def name(self) -> str:
        """As it was given."""
        return self.url

    def _session(self) -> "requests.Session":
        import requests

        session = requests.Session()
        if self.encryption is not None and self.encryption.authorities is not None:
            session.verify = str(self.encryption.authorities)
            session.trust_env = False  # authorities that the environment names would be taken in place of these
        if self.encryption is not None and self.encryption.certificate is not None:
            session.cert = (str(self.encryption.certificate), str(self.encryption.key))
        return session

    def send(self, file: Path) -> int:
        """Send one object; see `Destination`."""
        import requests
        from urllib3.exceptions import HTTPError

        boundary = uuid4().hex
        head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        tail = f"\r\n--{boundary}--\r\n".encode()
        headers = {
            "Content-Type": f'multipart/related; type="application/dicom"; boundary="{boundary}"',
            "Accept": f"{JSON}, {XML};q=0.9",
        }
        try:
            with (
                self._session() as session,
                session.post(
                    f"{self.url}/studies",
                    head + file.read_bytes() + tail,
                    headers=headers,
                    timeout=(10, 60),
                    allow_redirects=False,  # another method, another server, or one that is not encrypted
                    stream=True,
                ) as answer,
            ):
                content = answer.raw.read(_MOST_ANSWER, decode_content=True)
        except (requests.RequestException, HTTPError) as error:  # its messages may quote what was sent
            raise Refusal(f"it does not answer ({type(error).__name__})") from error
        return _status_of(answer.status_code, content, answer.headers.get("Content-Type", ""))


def _status_of(code: int, content: bytes, media_type: str) -> int:
    """The status of the one object of a request; a failure is a refusal, whatever HTTP says."""
    taken = code in (200, 202)
    try:
        outcome = read_response(content, media_type)
    except ValueError as error:  # a page to log in, or of a gateway
        problem = f"HTTP {code}" + (", without a store response" if taken else "")
        raise Refusal(problem, answered=True) from error
    if outcome.failures:
        raise Refusal(f"status {outcome.failures[0]:04X}", answered=True)
    if not taken:
        raise Refusal(f"HTTP {code}", answered=True)
    return next(iter(outcome.warnings), 0)


def parse_destinations(
    entities: Sequence[str], urls: Sequence[str], own_title: str, encryption: Encryption | None = None
) -> list[Destination]:
    """Destinations of the options `--send` and `--stow`.

    Raises:
        DataError: naming the one that is none.
    """
    return [
        *(StoreEntity.parse(value, own_title, encryption) for value in entities),
        *(WebServer.parse(value, encryption) for value in urls),
    ]
