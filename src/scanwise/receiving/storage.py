"""The intake of images, and the C-STORE service: images alone, from known application entities, acknowledged when they are on the disk (PS3.4, annex B).

0x0000 kept, or kept before      0xB006 another content under an identifier that is taken; the first is kept
0xA700 the disk is full          0xA900 the identifiers contradict each other      0xC000 it cannot be understood
0x0122 it is no image            0xC122 its encoding is not read here

An object that is too large, or a message that is, ends its association; so does a client that falls silent within one.
"""

import io
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scanwise.cohort.decoding.dicom_header import text
from scanwise.cohort.decoding.pixels import hush
from scanwise.dicom_results.sources import NEEDED, is_uid
from scanwise.errors import DataError, place_of
from scanwise.receiving.encryption import Encryption
from scanwise.receiving.spool import Arrival, Spool, SpoolFullError
from scanwise.untrusted import quote

if TYPE_CHECKING:
    from pydicom import Dataset

log = logging.getLogger("scanwise.receiving")
KEPT, DIFFERENT, FULL, CONTRADICTION, UNREADABLE, FAULT = 0x0000, 0xB006, 0xA700, 0xA900, 0xC000, 0xC001
NO_IMAGE, NO_SYNTAX = 0x0122, 0xC122
_AFTER_UIDS = 0x0020000E
MOST_ASSOCIATIONS = 16
LONGEST_SILENCE = 60.0
"""Seconds."""
_MOST_AT_ONCE = 2**20
"""Bytes of one message; what is asked of senders is 16 KiB."""


@dataclass(frozen=True, slots=True)
class StorageAddress:
    """Address of a C-STORE service, and what it accepts.

    Attributes:
        title: of its application entity.
        allowed: titles of those that may send.
        host: an address of this machine.
        port: 0 for any that is free.
        encryption: of connections; None for none.
        most_bytes: of one object.
    """

    title: str
    allowed: tuple[str, ...]
    host: str = "127.0.0.1"
    port: int = 11112
    encryption: Encryption | None = None
    most_bytes: int = 2**30


@dataclass(frozen=True, slots=True)
class WebAddress:
    """Address of a STOW-RS service, and who may send to it.

    Attributes:
        token_file: with the token that every request bears; of mode 0600.
        host: an address of this machine.
        port: 0 for any that is free.
        encryption: of connections; None for none.
        most_bytes: of one object.
    """

    token_file: Path
    host: str = "127.0.0.1"
    port: int = 8042
    encryption: Encryption | None = None
    most_bytes: int = 2**30


@dataclass(frozen=True, slots=True)
class StoredImage:
    """The outcome of storing an image.

    Attributes:
        kind: its SOPClassUID.
        name: its SOPInstanceUID; "" where it is not known.
        status: of C-STORE.
    """

    kind: str
    name: str
    status: int

    @property
    def is_kept(self) -> bool:
        """Whether an image under this identifier is in the spool."""
        return self.status in (KEPT, DIFFERENT)


class ImageIntake:
    """Whatever takes images into a spool, by whichever way they come: images alone, in encodings that are read here.

    Args:
        spool: that keeps them.
    """

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._classes, self._syntaxes = frozenset(image_classes()), frozenset(image_syntaxes())

    def take(self, kind: str, name: str, syntax: Any, content: io.BytesIO, study: str = "") -> StoredImage:
        """Keep one image, and say so once it is on the disk; the log names no person and no identifier.

        Args:
            kind: SOPClassUID that the sender says.
            name: SOPInstanceUID that the sender says.
            syntax: TransferSyntaxUID of the content.
            content: a data set, from where it stands to its end.
            study: StudyInstanceUID that it must have; "" for any.
        """
        return StoredImage(
            kind if is_uid(kind) else "", name if is_uid(name) else "", self._take(kind, name, syntax, content, study)
        )

    def _take(self, kind: str, name: str, syntax: Any, content: io.BytesIO, study: str) -> int:
        if kind not in self._classes:
            return NO_IMAGE
        if str(syntax) not in self._syntaxes:
            return NO_SYNTAX
        try:
            start = content.tell()
            header = _identify(syntax, content)
            if header is None:
                return UNREADABLE
            if (text(header, "SOPClassUID"), text(header, "SOPInstanceUID")) != (kind, name):
                return CONTRADICTION
            if study not in ("", text(header, "StudyInstanceUID")):
                return CONTRADICTION
            series, head = text(header, "SeriesInstanceUID"), _head_of_file(kind, name, syntax)
            with content.getbuffer()[start:] as data:  # no copy: it may have a gigabyte
                arrival = self._spool.store(series, name, head, data)
        except SpoolFullError:
            log.warning("the disk of the spool is full: an image was refused with A700")
            return FULL
        except Exception as error:  # noqa: BLE001 - one image may not end the service, and its values may be names
            log.error("an image was refused (%s)", place_of(error))  # noqa: TRY400
            return FAULT
        if arrival is Arrival.DIFFERENT:
            log.warning("an image came with another content under an identifier that is taken; the first one is kept")
            return DIFFERENT
        return KEPT


class StorageService:
    """A C-STORE service.

    Args:
        intake: that takes the images.
        address: of the service.

    Raises:
        DataError: if the port is in use.
    """

    def __init__(self, intake: ImageIntake, address: StorageAddress) -> None:
        from pynetdicom import AE, evt
        from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

        hush("pynetdicom")
        hush("pydicom")
        self._intake, self._address = intake, address
        self._received: dict[int, int] = {}
        entity = AE(address.title)
        entity.require_called_aet = True
        entity.require_calling_aet = list(address.allowed)
        entity.maximum_associations = MOST_ASSOCIATIONS
        entity.network_timeout = LONGEST_SILENCE
        entity.add_supported_context(Verification)
        for uid in image_classes():
            entity.add_supported_context(uid, image_syntaxes())
        try:
            self._server: Any = entity.start_server(
                (address.host, address.port),
                block=False,
                ssl_context=None if address.encryption is None else address.encryption.for_receiving(),
                evt_handlers=[
                    (evt.EVT_C_STORE, self._store),
                    (evt.EVT_CONN_OPEN, self._limit),
                    (evt.EVT_REJECTED, self._say_rejected),
                    (evt.EVT_ESTABLISHED, self._say_useless),
                    (evt.EVT_DIMSE_RECV, self._count_anew),
                    (evt.EVT_CONN_CLOSE, self._forget),
                ],
            )
        except OSError as error:
            raise DataError(
                f"Cannot listen at {address.host}:{address.port}: {error.strerror}. Choose another --port, or end the program "
                "that uses it."
            ) from error

    @property
    def port(self) -> int:
        """The port that it listens at."""
        return int(self._server.socket.getsockname()[1])

    def close(self) -> None:
        """Accept nothing more."""
        self._server.shutdown()

    def _limit(self, event: Any) -> None:
        """Let an association read no more than its limits, and wait no longer."""
        own, wire = id(event.assoc), event.assoc.dul.socket
        wire.socket.settimeout(LONGEST_SILENCE)
        read = wire.recv

        def read_within_limits(count: int) -> Any:
            self._received[own] = self._received.get(own, 0) + count
            if count > _MOST_AT_ONCE or self._received[own] > self._address.most_bytes:
                log.warning("an object or message is too large (--most-megabytes); its association was ended")
                raise OSError("too large")
            return read(count)

        wire.recv = read_within_limits

    def _say_rejected(self, event: Any) -> None:
        """Tell the operator why somebody cannot send; the sender sees a code, if that."""
        sender = str(event.assoc.requestor.ae_title).strip()
        called = str(event.assoc.requestor.primitive.called_ae_title).strip()
        if called != self._address.title:
            why = f"it called {quote(called)}, and the title here is {quote(self._address.title)} (--aet)"
        elif sender not in self._address.allowed:
            why = "it is not among those that may send (--allow)"
        else:
            why = f"{MOST_ASSOCIATIONS} others send"
        log.warning("%s was turned away: %s", quote(sender), why)

    def _say_useless(self, event: Any) -> None:
        if not event.assoc.accepted_contexts:
            sender = quote(str(event.assoc.requestor.ae_title).strip())
            log.warning("%s offers no images, or only in encodings that are not read here", sender)

    def _count_anew(self, event: Any) -> None:
        self._received[id(event.assoc)] = 0

    def _forget(self, event: Any) -> None:
        self._received.pop(id(event.assoc), None)

    def _store(self, event: Any) -> int:
        """The status for one image."""
        request, syntax = event.request, event.context.transfer_syntax
        names = str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID)
        request.DataSet.seek(0)
        return self._intake.take(*names, syntax, request.DataSet).status


def image_classes() -> list[str]:
    """Storage classes of images."""
    from pynetdicom import AllStoragePresentationContexts

    contexts = [context.abstract_syntax for context in AllStoragePresentationContexts]
    return [str(uid) for uid in contexts if uid is not None and "Image Storage" in uid.name]


def image_syntaxes() -> list[str]:
    """Transfer syntaxes that are decoded here, but for the deflated one."""
    from pynetdicom import ALL_TRANSFER_SYNTAXES

    return [syntax for syntax in ALL_TRANSFER_SYNTAXES if _is_decoded(syntax)]


def _is_decoded(syntax: str) -> bool:
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

    if not UID(syntax).is_transfer_syntax:  # as pydicom knows them
        return False
    if not UID(syntax).is_encapsulated:
        return syntax != DeflatedExplicitVRLittleEndian
    try:
        return get_decoder(syntax).is_available
    except NotImplementedError:  # video, and parts of JPEG 2000 that nobody decodes
        return False


def _identify(syntax: Any, content: io.BytesIO) -> "Dataset | None":
    """The header up to its identifiers; None where one is missing or invalid."""
    from pydicom.filereader import read_dataset

    header = read_dataset(
        content,
        syntax.is_implicit_VR,
        syntax.is_little_endian,
        stop_when=lambda tag, _vr, _length: tag > _AFTER_UIDS,
    )
    return header if all(is_uid(text(header, name)) for name in NEEDED) else None


def _head_of_file(kind: str, name: str, syntax: Any) -> bytes:
    """The beginning of a file of PS3.10, the same whatever way its data set came."""
    from pydicom.uid import UID
    from pynetdicom.dsutils import create_file_meta, encode_file_meta

    meta = create_file_meta(sop_class_uid=UID(kind), sop_instance_uid=UID(name), transfer_syntax=syntax)
    return bytes(128) + b"DICM" + encode_file_meta(meta)
