"""Scanners that send images, and a receiver for them; not a test."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pynetdicom import AE
from pynetdicom.sop_class import MRImageStorage, RawDataStorage

from medical_files import NAMES, dataset
from scanwise.receiving.encryption import Encryption
from scanwise.receiving.receiver import Receiver, ReceiverSettings, open_receiver
from scanwise.receiving.spool import Spool
from scanwise.receiving.storage import StorageAddress

QUIET = 0.4


def image(series: int, slice_: int, **tags: Any) -> pydicom.FileDataset:
    """One slice of a series of a person of its own, who must never be named."""
    pixels = np.random.default_rng(series * 100 + slice_).integers(0, 900, (40, 40)).astype(np.uint16)
    values = {
        "StudyInstanceUID": f"1.2.9.{series}",
        "SeriesInstanceUID": f"1.2.9.{series}.1",
        "SOPInstanceUID": f"1.2.9.{series}.1.{slice_}",
        "PatientID": f"{NAMES['PatientID']}-{series}",
        "InstanceNumber": slice_,
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [1, 1],
        "FrameOfReferenceUID": f"1.2.9.{series}.2",
    }
    built = dataset(pixels, **values | tags)
    built.file_meta.MediaStorageSOPInstanceUID = built.SOPInstanceUID
    return built


def send(
    port: int,
    images: Sequence[pydicom.Dataset],
    *,
    title: str = "MODALITY",
    called: str = "SCANWISE",
    secure: Any = None,
) -> list[int | None]:
    """Statuses of images sent over one association; none where it is refused."""
    entity = AE(title)
    entity.add_requested_context(MRImageStorage)
    entity.add_requested_context(RawDataStorage)
    association = entity.associate("127.0.0.1", port, ae_title=called, tls_args=secure)
    if not association.is_established:
        return []
    statuses = [association.send_c_store(entry).get("Status") for entry in images]
    association.release()
    return statuses


@contextmanager
def running(
    model: Path,
    spool: Spool,
    destinations: Sequence[Any] = (),
    *,
    encryption: Encryption | None = None,
    most_bytes: int = 2**30,
    **settings: Any,
) -> Iterator[tuple[Receiver, int]]:
    """A receiver in a thread, and its port."""
    address = StorageAddress("SCANWISE", ("MODALITY",), port=0, encryption=encryption, most_bytes=most_bytes)
    wanted = ReceiverSettings(address, **{"quiet": QUIET, "retry": 0.1} | settings)
    receiver = open_receiver(model, spool, wanted, destinations)
    ports: list[int] = []
    opened, stop = threading.Event(), threading.Event()
    thread = threading.Thread(target=receiver.run, args=(stop.is_set, lambda port: (ports.append(port), opened.set())))
    thread.start()
    try:
        assert opened.wait(20)
        yield receiver, ports[0]
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive()
