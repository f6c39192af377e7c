"""Encryption of what is received and sent: TLS 1.2 or later, with the certificates that the operator gives."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scanwise.errors import DataError


@dataclass(frozen=True, slots=True)
class Encryption:
    """Certificates of this side, and the authorities of the others.

    Attributes:
        certificate: PEM file with the own certificate; None where there is none, and what is received is not encrypted.
        key: PEM file with its private key, without a password.
        authorities: PEM file with the certificates that those of the others are signed by; None for those of the system, and senders need
            no certificate.
    """

    certificate: Path | None
    key: Path | None
    authorities: Path | None

    @classmethod
    def parse(cls, certificate: Path | None, key: Path | None, authorities: Path | None) -> "Encryption | None":
        """Encryption with these files; None where none is given.

        Raises:
            DataError: if one is missing, cannot be read, or does not belong to the others.
        """
        if not (certificate or key or authorities):
            return None
        if (certificate is None) != (key is None):
            raise DataError("--tls-cert and --tls-key go together: a certificate, and its private key.")
        encryption = cls(certificate, key, authorities)
        encryption.for_sending()
        return encryption

    def for_receiving(self) -> ssl.SSLContext | None:
        """A context for connections from others; None where there is no certificate to show them."""
        if self.certificate is None:
            return None
        context = _LateHandshake(ssl.PROTOCOL_TLS_SERVER)
        self._load(context)
        if self.authorities is not None:
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def for_sending(self) -> ssl.SSLContext:
        """A context for connections to others, who must have a certificate for the host that they are reached at."""
        context = ssl.create_default_context()
        if self.authorities is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._load(context)
        return context

    def _load(self, context: ssl.SSLContext) -> None:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        for option, file in (
            ("--tls-cert", self.certificate),
            ("--tls-key", self.key),
            ("--tls-ca", self.authorities),
        ):
            if file is not None and not file.is_file():
                raise DataError(f"{option} {file} is not there, or is no file.")
        try:
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.key, password=_no_password)
        except (OSError, ValueError) as error:
            raise DataError(
                f"--tls-cert {self.certificate} and --tls-key {self.key} are no certificate in PEM with its own key, without a password."
            ) from error
        try:
            if self.authorities is not None:
                context.load_verify_locations(self.authorities)
        except (OSError, ValueError) as error:
            raise DataError(f"--tls-ca {self.authorities} holds no certificate in PEM.") from error


class _LateHandshake(ssl.SSLContext):
    """A context that leaves the handshake to the first read, so that a client that says nothing keeps nobody else waiting."""

    def wrap_socket(self, sock: Any, *args: Any, **options: Any) -> Any:
        return super().wrap_socket(sock, *args, **options | {"do_handshake_on_connect": False})


def _no_password() -> str:
    raise ValueError("the key has a password")
