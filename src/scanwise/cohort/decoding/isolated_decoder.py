"""Compressed frames, decoded in a process of their own.

The decoders of JPEG-LS, lossless JPEG and JPEG 2000 are written in C++, and on damaged frames some of them end the
whole process. So a helper does it: where it ends, the frame is refused, and another helper takes its place. Helpers see
the frame and the numbers that describe it, and nothing else of the header.
"""

import atexit
import contextlib
import io
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scanwise.cohort.decoding.pixels import UnreadableScan

if TYPE_CHECKING:
    from pydicom import Dataset

PATIENCE = 60.0
"""Seconds that a helper may take for one frame."""

_SCRIPT = Path(__file__).with_name("isolated_decoder_worker.py")
_TOLD = (
    "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "BitsAllocated",
    "BitsStored", "HighBit", "PixelRepresentation",
)  # fmt: skip

_idle: list["subprocess.Popen[bytes]"] = []
_lock = threading.Lock()


def decode_isolated(frame: bytes, header: "Dataset") -> NDArray[Any]:
    """(H, W) or (H, W, 3) stored values of a compressed frame, colours as RGB.

    Raises:
        RuntimeError: if no decoder takes the frame.
        UnreadableScan: if the decoder ended, or took too long.
    """
    helper = _borrow()
    watch = threading.Timer(PATIENCE, helper.kill)
    watch.start()
    try:
        answer = _ask(helper, _alone(frame, header))
    except (OSError, EOFError) as error:
        helper.kill()
        helper.communicate()
        raise UnreadableScan("damaged: its decoder broke down over it, or took too long") from error
    finally:
        watch.cancel()
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


def _borrow() -> "subprocess.Popen[bytes]":
    with _lock:
        if _idle:
            return _idle.pop()
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-P", str(_SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )


def _ask(helper: "subprocess.Popen[bytes]", question: bytes) -> bytes:
    """Each message is its length in eight bytes, then itself."""
    assert helper.stdin is not None and helper.stdout is not None  # noqa: S101, PT018 - they are pipes
    helper.stdin.write(struct.pack("<Q", len(question)) + question)
    helper.stdin.flush()
    length = helper.stdout.read(8)
    answer = helper.stdout.read(struct.unpack("<Q", length)[0]) if len(length) == 8 else b""
    if len(length) < 8 or len(answer) < struct.unpack("<Q", length)[0]:
        raise EOFError
    return answer


@atexit.register
def _dismiss() -> None:
    """Helpers end when nothing can be asked any more."""
    with _lock:
        for helper in _idle:
            with contextlib.suppress(OSError):
                helper.kill()
                helper.communicate()
        _idle.clear()
