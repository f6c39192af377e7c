"""Compressed frames, decoded in a process of their own.

The decoders of JPEG-LS, lossless JPEG and JPEG 2000 are written in C++, and on damaged frames some of them end the
whole process. So a helper does it: where it ends, the frame is refused, and another helper takes its place. Helpers see
the frame and the numbers that describe it, and nothing else of the header.
"""

import atexit
import io
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scanwise.cohort.decoding.helpers import Helper
from scanwise.cohort.decoding.pixels import BROKEN, UnreadableScan

if TYPE_CHECKING:
    from pydicom import Dataset

PATIENCE = 60.0
"""Seconds that a helper may take for one frame."""

_SCRIPT = Path(__file__).with_name("isolated_decoder_worker.py")
_TOLD = (
    "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "BitsAllocated",
    "BitsStored", "HighBit", "PixelRepresentation",
)  # fmt: skip

_idle: list[Helper] = []
_lock = threading.Lock()


def decode_isolated(frame: bytes, header: "Dataset") -> NDArray[Any]:
    """(H, W) or (H, W, 3) stored values of a compressed frame, colours as RGB.

    Raises:
        RuntimeError: if no decoder takes the frame.
        UnreadableScan: if the decoder ended, or took too long.
    """
    helper = _borrow()
    try:
        answer = helper.ask(_alone(frame, header), PATIENCE)
    except (OSError, EOFError) as error:
        helper.end()
        raise UnreadableScan(BROKEN) from error
    with _lock:
        _idle.append(helper)
    if not answer:
        raise RuntimeError("no decoder takes this frame")
    values: NDArray[Any] = np.load(io.BytesIO(answer), allow_pickle=False)
    return values


def decode_jpeg2000(stream: bytes, height: int, width: int, bits: int) -> NDArray[Any]:
    """(H, W, 3) values of a JPEG 2000 codestream in colour.

    Raises:
        RuntimeError: if no decoder takes it.
        UnreadableScan: if the decoder ended, or took too long.
    """
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import JPEG2000

    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = JPEG2000
    header.Rows, header.Columns, header.SamplesPerPixel, header.PlanarConfiguration = height, width, 3, 0
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, bits, bits - 1, 0
    header.PhotometricInterpretation = "RGB"
    return decode_isolated(stream, header)


def _alone(frame: bytes, header: "Dataset") -> bytes:
    """A DICOM file of one frame, with what decoding needs and nothing about a person."""
    from pydicom import FileDataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.encaps import encapsulate

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = header.file_meta.TransferSyntaxUID
    dataset = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))  # type: ignore[arg-type]
    for keyword in _TOLD:
        if keyword in header:
            setattr(dataset, keyword, header.get(keyword))
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    stream = io.BytesIO()
    dataset.save_as(stream)
    return stream.getvalue()


def _borrow() -> Helper:
    with _lock:
        if _idle:
            return _idle.pop()
    return Helper(str(_SCRIPT))


@atexit.register
def _dismiss() -> None:
    """Helpers end when nothing can be asked any more."""
    with _lock:
        for helper in _idle:
            helper.end()
        _idle.clear()
