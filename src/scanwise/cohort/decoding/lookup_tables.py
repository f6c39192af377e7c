"""Lookup tables of a DICOM header: modality and VOI tables, and palettes (PS3.3, C.11.1, C.11.2 and C.7.6.3).

Headers declare them loosely: in bytes or words, in the byte order of the file, with a signed first value written as
unsigned, and with more bits than their entries have.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scanwise.cohort.decoding.pixels import Pixels, UnreadableScan

if TYPE_CHECKING:
    from pydicom import Dataset

_DEPTHS = (8, 10, 12, 14, 16)  # bits of a screen


@dataclass(frozen=True, slots=True)
class LookupTable:
    """Output values for input values that rise by one.

    Attributes:
        lowest: input value of the first entry; what is beyond the ends takes the value of the end.
        entries: (N,) or (N, 3).
        bits: depth of the entries as declared.
    """

    lowest: int
    entries: NDArray[np.uint16]
    bits: int

    def apply(self, values: NDArray[Any]) -> NDArray[np.uint16]:
        """Entries of values of any shape."""
        rows = np.clip(np.rint(values) - self.lowest, 0, len(self.entries) - 1).astype(np.int64)
        looked_up: NDArray[np.uint16] = self.entries[rows]
        return looked_up

    @property
    def white(self) -> int:
        """The highest value of the declared bits; tables of 8 or 12 bits are often declared as 16, so there it is that of
        the fewest bits that hold every entry."""
        largest = int(self.entries.max())
        bits = next(bits for bits in _DEPTHS if largest < 1 << bits)
        return (1 << max(bits, self.bits if self.bits < _DEPTHS[-1] else 0)) - 1


def read_table(header: "Dataset", sequence: str, *, little: bool, signed: bool) -> LookupTable | None:
    """The first table of a sequence; None where it is empty.

    Args:
        header: of the file.
        sequence: `ModalityLUTSequence` or `VOILUTSequence`.
        little: whether the file is little-endian.
        signed: whether values to be looked up may be negative.

    Raises:
        UnreadableScan: if the table is there and cannot be understood.
    """
    items = header.get(sequence)
    if not items or not items[0].get("LUTData"):
        return None
    count, lowest, bits = _descriptor(items[0], "LUTDescriptor", signed=signed)
    return LookupTable(lowest, _entries(items[0].get("LUTData"), count, little=little), bits)


def apply_palette(values: NDArray[Any], header: "Dataset", *, little: bool) -> Pixels:
    """(H, W, 3) colours of stored values (H, W)."""
    table = _read_palette(header, values, little=little)
    colours: Pixels = np.rint(table.apply(values) * (255.0 / table.white)).astype(np.uint8)
    return colours


def _read_palette(header: "Dataset", values: NDArray[Any], *, little: bool) -> LookupTable:
    signed = values.dtype.kind == "i"
    count, lowest, bits = _descriptor(header, "RedPaletteColorLookupTableDescriptor", signed=signed)
    tables = [header.get(f"{colour}PaletteColorLookupTableData") for colour in ("Red", "Green", "Blue")]
    if all(tables):
        channels = [_entries(table, count, little=little) for table in tables]
        if len({len(channel) for channel in channels}) != 1:
            raise UnreadableScan("its palettes of red, green and blue are not equally long")
        return LookupTable(lowest, np.stack(channels, axis=1), bits)
    if not header.get("SegmentedRedPaletteColorLookupTableData"):
        raise UnreadableScan("its header has no palette")
    return LookupTable(lowest, _expand_segments(header, np.arange(lowest, lowest + count), bits), bits)


def _expand_segments(header: "Dataset", values: NDArray[Any], bits: int) -> NDArray[np.uint16]:
    """(N, 3) entries of a palette in segments (PS3.3, C.7.9.2), as pydicom reads them."""
    from pydicom.pixels.processing import apply_color_lut

    if bits == 8 and len(values) > 256:  # pydicom counts these entries in bytes
        raise UnreadableScan("has a palette in segments of 8 bits, which is not read here")
    return apply_color_lut(values, header)[:, :3].astype(np.uint16)


def _descriptor(header: "Dataset", keyword: str, *, signed: bool) -> tuple[int, int, int]:
    try:
        count, lowest, bits = (int(part) for part in header.get(keyword))
    except (TypeError, ValueError) as error:
        raise UnreadableScan(f"its header's {keyword} cannot be read") from error
    if signed and lowest >= 2**15:  # a negative value, written as an unsigned one
        lowest -= 2**16
    return count or 2**16, lowest, bits  # 65,536 does not fit into the descriptor


def _entries(data: Any, count: int, *, little: bool) -> NDArray[np.uint16]:
    wide = not isinstance(data, bytes) or len(data) >= 2 * count
    entries = _words(data, wide=wide, little=little)[:count]
    if not len(entries):
        raise UnreadableScan("a lookup table of its header is empty")
    return entries


def _words(data: Any, *, wide: bool, little: bool) -> NDArray[np.uint16]:
    """Numbers of one or two bytes, as the file has them; those of one byte stand in words, too."""
    if not isinstance(data, bytes):
        return np.atleast_1d(np.asarray(data)).astype(np.int64).astype(np.uint16)
    words = np.frombuffer(data[: len(data) // 2 * 2], "<u2" if little else ">u2").astype("<u2")
    if wide:
        return words
    return np.frombuffer(words.tobytes() + data[len(data) // 2 * 2 :], np.uint8).astype(np.uint16)
