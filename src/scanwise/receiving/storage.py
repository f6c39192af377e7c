"""The C-STORE service: images alone, from known application entities, acknowledged when they are on the disk (PS3.4, annex B).

0x0000 kept, or kept before      0xB006 another content under an identifier that is taken; the first is kept
0xA700 the disk is full          0xA900 the identifiers contradict each other      0xC000 it cannot be understood
"""

import io
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from scanwise.cohort.decoding.dicom_header import text
from scanwise.cohort.decoding.pixels import hush
from scanwise.dicom_results.sources import NEEDED, is_uid
from scanwise.errors import DataError
from scanwise.receiving.spool import Arrival, Spool, SpoolFullError

if TYPE_CHECKING:
    from pydicom import Dataset

log = logging.getLogger("scanwise.receiving")
KEPT, DIFFERENT, FULL, CONTRADICTION, UNREADABLE, FAULT = 0x0000, 0xB006, 0xA700, 0xA900, 0xC000, 0xC001
_AFTER_UIDS = 0x0020000E
MOST_ASSOCIATIONS = 16


class StorageService:
    """A C-STORE service.

    Args:
        spool: that takes the images.
        title: of this application entity.
        allowed: titles of those that may send.
        host: an address of this machine.
        port: 0 for any that is free.

    Raises:
        DataError: if the port is in use.
    """

    def __init__(self, spool: Spool, title: str, allowed: Sequence[str], host: str, port: int) -> None:
        from pynetdicom import AE, evt
        from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

        hush("pynetdicom")
        hush("pydicom")
        self._spool = spool
        entity = AE(title)
        entity.require_called_aet = True
        entity.require_calling_aet = list(allowed)
        entity.maximum_associations = MOST_ASSOCIATIONS
        entity.network_timeout = 60
        entity.add_supported_context(Verification)
        for uid in image_classes():
            entity.add_supported_context(uid, _syntaxes())
        try:
            self._server: Any = entity.start_server(
                (host, port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
            )
        except OSError as error:
            raise DataError(
                f"Cannot listen at {host}:{port}: {error.strerror}. Choose another --port, or end the program that uses it."
            ) from error

    @property
    def port(self) -> int:
        """The port that it listens at."""
        return int(self._server.socket.getsockname()[1])

    def close(self) -> None:
        """Accept nothing more."""
        self._server.shutdown()

    def _store(self, event: Any) -> int:
        """The status for one image; its log names no person and no identifier."""
        try:
            header = _identify(event)
            if header is None:
                return UNREADABLE
            uid = text(header, "SOPInstanceUID")
            if (uid, text(header, "SOPClassUID")) != (
                str(event.request.AffectedSOPInstanceUID),
                str(event.request.AffectedSOPClassUID),
            ):
                return CONTRADICTION
            arrival = self._spool.store(text(header, "SeriesInstanceUID"), uid, event.encoded_dataset())
        except SpoolFullError:
            log.warning("the disk of the spool is full: an image was refused with A700")
            return FULL
        except Exception as error:  # noqa: BLE001 - one image may not end the service, and its values may be names
            log.error("an image was refused (%s)", type(error).__name__)  # noqa: TRY400
            return FAULT
        if arrival is Arrival.DIFFERENT:
            log.warning("an image came with another content under an identifier that is taken; the first one is kept")
            return DIFFERENT
        return KEPT


def image_classes() -> list[str]:
    """Storage classes of images."""
    from pynetdicom import AllStoragePresentationContexts

    contexts = [context.abstract_syntax for context in AllStoragePresentationContexts]
    return [str(uid) for uid in contexts if uid is not None and "Image Storage" in uid.name]


def _syntaxes() -> list[str]:
    """Transfer syntaxes that are decoded here, but for the deflated one."""
    from pydicom.uid import UID, DeflatedExplicitVRLittleEndian
    from pynetdicom import ALL_TRANSFER_SYNTAXES

    still = ("JPEG", "RLE", "VR")
    return [
        syntax
        for syntax in ALL_TRANSFER_SYNTAXES
        if syntax != DeflatedExplicitVRLittleEndian and any(kind in UID(syntax).name for kind in still)
    ]


def _identify(event: Any) -> "Dataset | None":
    """The header up to its identifiers; None where one is missing or invalid."""
    from pydicom.filereader import read_dataset

    syntax = event.context.transfer_syntax
    header = read_dataset(
        io.BytesIO(event.request.DataSet.getvalue()),
        syntax.is_implicit_VR,
        syntax.is_little_endian,
        stop_when=lambda tag, _vr, _length: tag > _AFTER_UIDS,
    )
    return header if all(is_uid(text(header, name)) for name in NEEDED) else None
