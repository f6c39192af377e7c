"""Destinations of results: application entities (C-STORE) and DICOMweb servers (STOW-RS)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from scanwise.errors import DataError
from scanwise.receiving.encryption import Encryption

if TYPE_CHECKING:
    import requests

_ENTITY = re.compile(r"([\x21-\x5b\x5d-\x7e]{1,16})@([^@:\s]+|\[[0-9a-fA-F:]+\]):([0-9]{1,5})")
_WARNINGS = (0xB000, 0xB006, 0xB007)


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

    def send(self, file: Path) -> None:
        """Send one object.

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

    def send(self, file: Path) -> None:
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

    def send(self, file: Path) -> None:
        """Send one object; see `Destination`."""
        import pydicom
        from dicomweb_client.api import DICOMwebClient

        client = DICOMwebClient(self.url, session=self._session())
        client.set_http_retry_params(retry=False)
        try:
            answer = client.store_instances([pydicom.dcmread(file)])
        except Exception as error:  # its messages may quote what was sent
            status = getattr(getattr(error, "response", None), "status_code", None)
            silent = f"it does not answer ({type(error).__name__})"
            raise Refusal(f"HTTP {status}" if status else silent, answered=bool(status)) from error
        if answer.get("FailedSOPSequence"):
            code = int(answer.FailedSOPSequence[0].get("FailureReason", 0))
            raise Refusal(f"status {code:04X}", answered=True)


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
