"""DICOM files in, pixels and safe columns out.

Gray values are rescaled (slope and intercept, or the modality LUT), shown through the header's first window (or a VOI
LUT; or percentiles where there is neither), and inverted where the file says that black is high (MONOCHROME1). Formulas
are those of DICOM PS3.3, C.11.2. A frame is shown in the pose of a slice of a volume (`dicom_geometry`), and where a
recipe keeps proportions, pixels that are not square are made so. Of the header only the modality and the position of a slice are kept in the clear; the
person, the study and the series become keyed hashes. Reasons never quote the header, nor what pydicom says of it.
"""

import io
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from scanwise.cohort.decoding.dicom_geometry import FrameGeometry, geometry_of, position_of
from scanwise.cohort.decoding.dicom_header import code, text, unreadable, whole
from scanwise.cohort.decoding.dicom_values import compression_of, read_values, syntax_of, to_colour
from scanwise.cohort.decoding.lookup_tables import apply_palette
from scanwise.cohort.decoding.memory import PIXELS, UNPACKED
from scanwise.cohort.decoding.pixels import (
    MAX_PIXELS,
    Pixels,
    Slices,
    Source,
    UnreadableScan,
    enlarge,
    hush,
    length_of,
    open_file,
)
from scanwise.cohort.decoding.windowing import apply_window
from scanwise.cohort.pseudonyms import Pseudonyms
from scanwise.records.names import compose, names_person, subject_key

if TYPE_CHECKING:
    from pydicom import Dataset

    from scanwise.recipe import Data

MAX_FRAMES, MAX_INFLATED = 100_000, 2**31
OF_PERSON = {"age": "PatientAge", "sex": "PatientSex"}
"""Covariates that a header may tell."""
JOINED = ("PatientID", "AccessionNumber", "StudyInstanceUID")
"""Header values by which a table can be joined."""
_OF_SERIES = ("SeriesDescription", "ProtocolName", "ImageType")
_PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
_FLOATS = ("FloatPixelData", "DoubleFloatPixelData")
_PHOTOMETRIC = (
    "MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT",
)  # fmt: skip
_LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"UC", b"UN", b"UR", b"UT")  # lengths of four bytes


@dataclass(frozen=True, slots=True)
class FileSummary:
    """Safe facts about a file, before its pixels are read.

    Attributes:
        frames: how many images it holds.
        columns: subject, patient and spelling (see `header_subjects`), study, modality, series and position, each of one value,
            or of one a frame; "" if not said.
        values: what else a table may be joined or a series chosen by, in the clear, by keyword; never written.
    """

    frames: int
    columns: dict[str, tuple[str, ...]]
    values: dict[str, str] = field(default_factory=dict, repr=False)


def read_geometry(file: Source, index: int = 0) -> FrameGeometry:
    """Read where a frame lies in the patient, and how it is shown.

    Raises:
        UnreadableScan: if the header cannot be read.
    """
    with open_file(file) as stream, _opened(stream, stop=True) as (header, _):
        return geometry_of(header, index)


def read_dataset(file: Source) -> "Dataset":
    """Read all that stands before the pixels, names and numbers of the person among it.

    Raises:
        UnreadableScan: if it cannot be read.
    """
    with open_file(file) as stream, _opened(stream, stop=True) as (header, _):
        return header


def read_header(file: Source, pseudonyms: Pseudonyms) -> FileSummary:
    """Read what stands before the pixels.

    Raises:
        UnreadableScan: if the file holds no pixels, or claims what cannot be read.
    """
    with open_file(file) as stream, _opened(stream, stop=True) as (header, met):
        there = length_of(stream) - stream.tell() - 8  # the tag and length of the pixels
        return _summarise(header, met, there, pseudonyms)


def _summarise(header: "Dataset", met: bool, there: int, pseudonyms: Pseudonyms) -> FileSummary:
    if not met:
        raise UnreadableScan(_without_pixels(header))
    frames = _check(header)
    _refuse_short(header, frames, there)
    issuer, person = (compose(text(header, keyword)) for keyword in ("IssuerOfPatientID", "PatientID"))
    person = person if names_person(person) else ""
    columns = {
        "subject": (pseudonyms("subject", f"{issuer}\0{person}" if person else ""),),
        "patient": (pseudonyms("subject", f"\0{person}" if person else ""),),
        "spelling": (pseudonyms("subject", f"\0{subject_key(person)}" if person else ""),),
        "study": (pseudonyms("study", text(header, "StudyInstanceUID")),),
        "modality": (code(text(header, "Modality")),),
        "series": (pseudonyms("series", text(header, "SeriesInstanceUID")),),
        "position": tuple(position_of(header, index) for index in range(frames)),
    }
    values = {keyword: text(header, keyword) for keyword in (*JOINED, *OF_PERSON.values(), *_OF_SERIES)}
    return FileSummary(frames, columns, values)


def decode_dicom(data: bytes, slices: Slices, settings: "Data") -> Iterator[Pixels | str]:
    """Some frames of a file, (H, W, 1) or (H, W, 3), or the reason why there is none.

    Raises:
        UnreadableScan: if the file as a whole cannot be read.
    """
    with _opened(io.BytesIO(data), stop=False) as (header, met):
        if not met:
            raise UnreadableScan(_without_pixels(header))
        there = [header[tag].value for tag in _PIXELS if tag in header]
        if not there:
            raise UnreadableScan("damaged or truncated: the file ends inside its pixels")
        frames = _check(header)
        _refuse_short(header, frames, len(there[0] or b""))
        for index in slices:
            if index is None and frames > 1:
                yield f"holds {frames} frames; name one of them, such as FILE#{frames // 2:03d}"
            elif index is not None and index >= frames:
                yield f"holds {frames} frames, the last of them #{frames - 1:03d}"
            else:
                yield from _frame(header, index or 0, settings)


@contextmanager
def _opened(stream: Any, *, stop: bool) -> Iterator[tuple["Dataset", bool]]:
    """The header, and whether pixels follow; with `stop` they are not read."""
    import pydicom  # noqa: F401 - whole, which waits for a thread that imports it; a part alone would not, and fail

    size = _inflated_size(stream) or (0 if stop else len(stream.getvalue()))
    with UNPACKED.reserve(size):
        yield _read(stream, stop=stop)


def _read(stream: Any, *, stop: bool) -> tuple["Dataset", bool]:
    from pydicom.filereader import read_partial

    hush("pydicom")
    met: list[int] = []

    def at_pixels(tag: int, vr: str | None, length: int) -> bool:
        if tag in _PIXELS:
            met.append(tag)
        return stop and bool(met)

    try:
        return read_partial(stream, at_pixels, force=True), bool(met)
    except MemoryError:
        raise
    except Exception as error:
        raise UnreadableScan(f"damaged or truncated: its header cannot be read ({type(error).__name__})") from error


def _inflated_size(stream: Any) -> int:
    """Bytes of a deflated data set, which is unpacked at once; counted piece by piece, and 0 where it is not deflated."""
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    start = _end_of_meta(stream)
    stream.seek(0)
    size = 0
    if DeflatedExplicitVRLittleEndian.encode() in stream.read(start):
        unpacker, packed = zlib.decompressobj(-zlib.MAX_WBITS), stream.read()
        while packed and size <= MAX_INFLATED:
            size += len(_inflate(unpacker, packed))
            packed = unpacker.unconsumed_tail
        if size > MAX_INFLATED:
            raise UnreadableScan(f"unpacks to more than {MAX_INFLATED:,} bytes")
    stream.seek(0)
    return size


def _inflate(unpacker: Any, packed: bytes) -> bytes:
    try:
        return bytes(unpacker.decompress(packed, 2**20))
    except zlib.error as error:
        raise UnreadableScan("damaged or truncated: it cannot be unpacked") from error


def _end_of_meta(stream: Any) -> int:
    """Bytes up to the end of group 2; element by element, for not all files say how long that is."""
    head = stream.read(132)
    position = 132 if head.endswith(b"DICM") else 0
    while True:
        stream.seek(position)
        element = stream.read(12)
        if element[:2] != b"\x02\x00" or len(element) < 8:
            return position
        if element[4:6] in _LONG:
            position += 12 + int.from_bytes(element[8:12], "little")
        else:
            position += 8 + int.from_bytes(element[6:8], "little")


def _without_pixels(header: "Dataset") -> str:
    if not len(header):
        return "damaged or truncated: no DICOM header can be read"
    if header.get("DirectoryRecordSequence") is not None:
        return "a DICOMDIR, which lists other files and holds no pixels"
    modality = code(text(header, "Modality"))
    return f"a DICOM file without pixels{f' (modality {modality})' if modality else ''}"


def _check(header: "Dataset") -> int:
    """The number of frames; what the header claims is refused before room is made for it."""
    _refuse_gaps(header)
    rows, columns, samples = (whole(header, name) for name in ("Rows", "Columns", "SamplesPerPixel"))
    frames = whole(header, "NumberOfFrames") or 1
    if rows < 1 or columns < 1 or frames < 1:
        raise UnreadableScan(f"claims {frames} frames of {columns} × {rows} pixels")
    if rows * columns > MAX_PIXELS:
        raise UnreadableScan(f"claims {columns} × {rows} pixels; the limit is {MAX_PIXELS:,}")
    if frames > MAX_FRAMES:
        raise UnreadableScan(f"claims {frames:,} frames; the limit is {MAX_FRAMES:,}")
    if samples not in (1, 3):
        raise UnreadableScan(f"claims {samples} values a pixel; expected 1 or 3")
    if (photometric := text(header, "PhotometricInterpretation")) not in _PHOTOMETRIC:
        raise UnreadableScan(
            f"has the photometric interpretation {code(photometric) or '(none)'}, which is not read here"
        )
    bits, stored = whole(header, "BitsAllocated"), whole(header, "BitsStored")
    if (bits != 1 and bits % 8) or not 1 <= bits <= 64 or stored > bits:
        raise UnreadableScan(f"has pixels of {stored} bits in {bits}, which is not read here")
    return frames


def _refuse_gaps(header: "Dataset") -> None:
    """A value that is missing is named; a guess in its place would be a guess of the pixels."""
    needed = ["Rows", "Columns", "SamplesPerPixel", "BitsAllocated"]
    if not any(keyword in header for keyword in _FLOATS):
        needed += ["BitsStored", "PixelRepresentation"]
    if whole(header, "SamplesPerPixel") == 3:
        needed.append("PlanarConfiguration")
    if text(header, "NumberOfFrames"):
        needed.append("NumberOfFrames")
    missing = unreadable(header, needed)
    if not text(header, "PhotometricInterpretation"):
        missing.append("PhotometricInterpretation")
    if missing:
        raise UnreadableScan(f"its header lacks {', '.join(missing)}; export the file again with all of its header")


def _refuse_short(header: "Dataset", frames: int, there: int) -> None:
    """Check that no byte of uncompressed pixels is missing."""
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    syntax = syntax_of(header)
    if syntax.is_encapsulated or syntax == DeflatedExplicitVRLittleEndian:
        return
    values = whole(header, "Rows") * whole(header, "Columns") * whole(header, "SamplesPerPixel") * frames
    needed = math.ceil(values * whole(header, "BitsAllocated") / 8)
    if text(header, "PhotometricInterpretation") == "YBR_FULL_422":
        needed = needed * 2 // 3
    if there < needed:
        raise UnreadableScan(f"damaged or truncated: {max(0, there):,} of {needed:,} bytes of pixels are there")


def _frame(header: "Dataset", index: int, settings: "Data") -> Iterator[Pixels | str]:
    """One frame as it is shown, or the reason why there is none; its room is kept until the next one is asked for."""
    try:
        geometry = geometry_of(header, index)
        size = geometry.fitted_size(settings)
        with PIXELS.reserve(_cost(header) + 4 * math.prod(size)):
            shown = geometry.pose.apply(_painted(read_values(header, index), header, index, settings))
            yield enlarge(shown, size)
    except UnreadableScan as reason:
        yield str(reason)
    except MemoryError:
        raise
    except (RuntimeError, NotImplementedError):  # no decoder took it
        yield f"damaged, or of a compression that is not read here: {compression_of(header)}"
    except Exception as error:  # noqa: BLE001 - the other frames may be whole
        yield f"damaged, or its header does not fit its pixels ({type(error).__name__})"


def _cost(header: "Dataset") -> int:
    """Bytes that a frame takes with all copies, those of the process that unpacks it included."""
    depth = math.ceil(whole(header, "BitsAllocated") / 8)
    a_value = 3 * depth + 4 + (6 * depth + 8 if syntax_of(header).is_encapsulated else 0)
    return whole(header, "Rows") * whole(header, "Columns") * (whole(header, "SamplesPerPixel") * a_value + 4)


def _painted(stored: NDArray[Any], header: "Dataset", index: int, settings: "Data") -> Pixels:
    """(H, W, 1) gray or (H, W, 3) colours of stored values."""
    photometric = text(header, "PhotometricInterpretation")
    little = syntax_of(header).is_little_endian
    if photometric == "PALETTE COLOR":
        return to_colour(apply_palette(stored, header, little=little), 8)
    if stored.ndim == 3:
        return to_colour(stored, whole(header, "BitsStored"))
    gray = apply_window(stored, header, index, settings, little=little)
    return (255 - gray if photometric == "MONOCHROME1" else gray)[:, :, None]
