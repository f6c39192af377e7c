"""Stored values of a DICOM frame, before they are rescaled or shown: packed or not, gray or in colour.

The bits that count are those from `HighBit` downwards; what stands above them, or below, is an overlay or nothing.
"""

import struct
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scanwise.cohort.decoding import isolated_decoder
from scanwise.cohort.decoding.dicom_header import whole
from scanwise.cohort.decoding.pictures import stretch
from scanwise.cohort.decoding.pixels import MAX_PIXELS, Pixels, UnreadableScan

if TYPE_CHECKING:
    from pydicom import Dataset


def read_values(header: "Dataset", index: int) -> NDArray[Any]:
    """(H, W) or (H, W, 3) values as they are stored, colours as RGB."""
    from pydicom import uid
    from pydicom.encaps import get_frame
    from pydicom.pixels.utils import pixel_array

    syntax = syntax_of(header)
    if not syntax.is_encapsulated or syntax == uid.RLELossless:
        return _unpacked_values(header, index)
    _refuse_compression(header)
    frame = get_frame(header.PixelData, index, number_of_frames=whole(header, "NumberOfFrames") or 1)
    _refuse_large(frame)
    if syntax in (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit):
        return pixel_array(header, index=index, decoding_plugin="pillow")
    return _without_unused_bits(isolated_decoder.decode_isolated(frame, header), header)


def syntax_of(header: "Dataset") -> Any:
    """The transfer syntax; where the file does not say, that which its first element was read in."""
    from pydicom import uid

    meta = getattr(header, "file_meta", None)
    if meta is None or not meta.get("TransferSyntaxUID"):
        implicit, little = header.original_encoding
        plain = uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian
        header.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian if implicit else plain
    syntax = header.file_meta.TransferSyntaxUID
    if not isinstance(syntax, uid.UID) or syntax.is_private or not syntax.is_transfer_syntax:
        raise UnreadableScan("has a transfer syntax that is not of DICOM's; convert it to Explicit VR Little Endian")
    return syntax


def compression_of(header: "Dataset") -> str:
    """The compression of a file, in words."""
    return f"{syntax_of(header).name}, {whole(header, 'BitsStored')} bits"


def to_colour(values: NDArray[Any], bits: int) -> Pixels:
    """(H, W, 3) uint8, or (H, W, 1) where all channels are equal; deep colours are stretched as those of pictures are."""
    if bits > 8:
        colour = stretch(values)
    elif bits == 8:
        colour = np.clip(values, 0, 255).astype(np.uint8)
    else:
        colour = np.rint(np.clip(values * (255.0 / (2**bits - 1)), 0, 255)).astype(np.uint8)
    return colour[:, :, :1] if (colour == colour[:, :, :1]).all() else colour


def claimed_size(frame: bytes) -> tuple[int, int] | None:
    """Width and height by the start of a JPEG, JPEG-LS or JPEG 2000 stream; None for what is none of these."""
    at = frame.find(b"\xff\x4f\xff\x51", 0, 4096)  # JPEG 2000, bare or in boxes
    if at >= 0:
        width, height, left, top = struct.unpack_from(">4I", frame, at + 8)
        return max(0, width - left), max(0, height - top)
    if frame[4:8] == b"jP  ":
        raise UnreadableScan("damaged: JPEG 2000 boxes without a picture")
    offset = 2
    while frame[:2] == b"\xff\xd8" and offset + 9 <= len(frame) and frame[offset] == 0xFF:
        if frame[offset + 1] in _FRAME_STARTS:
            height, width = struct.unpack_from(">2H", frame, offset + 5)
            return width, height
        offset += 2 + max(2, int.from_bytes(frame[offset + 2 : offset + 4]))
    return None


def _unpacked_values(header: "Dataset", index: int) -> NDArray[Any]:
    """Values of a frame that no codec packs; older files count their bits from the top (`HighBit`)."""
    from pydicom.pixels.utils import pixel_array

    stored, top = whole(header, "BitsStored"), whole(header, "HighBit") + 1
    if not 1 <= stored < top <= whole(header, "BitsAllocated"):
        return pixel_array(header, index=index)
    header.BitsStored = top  # or pydicom takes the lowest bits for the highest
    try:
        values = pixel_array(header, index=index)
    finally:
        header.BitsStored = stored
    low = _without_unused_bits(values, header)
    return low if (low == values).all() else values >> (top - stored)  # headers say so of low bits, too


def _refuse_compression(header: "Dataset") -> None:
    """Refuse a compression that no decoder here knows: the file is healthy."""
    from pydicom import uid
    from pydicom.pixels.decoders.base import get_decoder

    syntax = syntax_of(header)
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    if not available or (syntax == uid.JPEGExtended12Bit and whole(header, "BitsStored") > 8):
        raise UnreadableScan(
            f"compressed as {compression_of(header)}, which is not read here; export the file uncompressed, or decompress "
            "it with a DICOM tool"
        )


def _without_unused_bits(values: NDArray[Any], header: "Dataset") -> NDArray[Any]:
    """Values of the bits that count; above them, compressed frames may hold an overlay, or the sign."""
    unused = 8 * values.dtype.itemsize - whole(header, "BitsStored")
    return values << unused >> unused if unused > 0 else values


def _refuse_large(frame: bytes) -> None:
    """A compressed frame says its size itself; decoders make room for that, whatever the header says."""
    claimed = claimed_size(frame)
    if claimed is not None and claimed[0] * claimed[1] > MAX_PIXELS:
        raise UnreadableScan(
            f"damaged: its frame claims {claimed[0]} × {claimed[1]} pixels; the limit is {MAX_PIXELS:,}"
        )


_FRAME_STARTS = {0xF7, *range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # SOF of JPEG-LS and JPEG
