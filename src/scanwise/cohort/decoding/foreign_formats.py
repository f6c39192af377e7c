"""Names of the formats that are not read, by the first bytes of a file, and what to do about each.

A healthy file of another format is not damaged, and who knows what it is can convert it.
"""

import re
import struct
import zlib

_TO_PNG, _TO_NIFTI = "save it as PNG", "convert it to NIfTI (.nii.gz)"
_UNPACK, _FETCH = "unpack it", "download it again"

_FORMATS: tuple[tuple[int, tuple[bytes, ...], str, str], ...] = (
    (0, (b"\xff\x0a", b"\x00\x00\x00\x0cJXL \r\n\x87\n"), "a JPEG XL picture", _TO_PNG),
    (4, (b"ftypavif", b"ftypavis"), "an AVIF picture", _TO_PNG),
    (4, (b"ftyphei", b"ftyphev", b"ftypmif1", b"ftypmsf1"), "an HEIC picture", _TO_PNG),
    (4, (b"ftyp",), "a video", "save its frames as PNG"),
    (0, (b"\x1aE\xdf\xa3", b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3", b"OggS"), "a video", "save its frames as PNG"),
    (8, (b"AVI ",), "a video", "save its frames as PNG"),
    (0, (b"8BPS", b"gimp xcf"), "a file of a drawing program", _TO_PNG),
    (0, (b"%!PS", b"\xc5\xd0\xd3\xc6"), "a PostScript file", _TO_PNG),
    (0, (b"%PDF",), "a PDF document", "save its pictures as PNG"),
    (0, (b"v/1\x01",), "an OpenEXR picture", "save it as TIFF"),
    (0, (b"SIMPLE  =",), "a FITS file", "save it as TIFF"),
    (0, (b"\x00\x00\x01\x00",), "an icon", _TO_PNG),
    (0, (b"\x00\x00\x02\x00", b"\x00\x00\x0a\x00"), "an icon or a Targa picture", _TO_PNG),
    (0, (b"II\xbc\x01",), "a JPEG XR picture", _TO_PNG),
    (0, (b"DDS ", b"qoif", b"icns", b"\x01\xda\x01", b"\x0a\x05\x01\x08"), "a rare picture format", _TO_PNG),
    (0, (b"ZISRAWFILE", b"\xda\xce\xbe\x0a"), "a microscope's own format", "save it as TIFF or PNG"),
    (0, (b"\x89HDF\r\n\x1a\n",), "an HDF5 file (as MINC 2 and MATLAB 7.3 are, too)", _TO_NIFTI),
    (0, (b"CDF\x01", b"CDF\x02", b"CDF\x05"), "a NetCDF file (as MINC 1 is, too)", _TO_NIFTI),
    (0, (b"NRRD000",), "an NRRD volume", _TO_NIFTI),
    (0, (b"ObjectType", b"NDims"), "a MetaImage volume", _TO_NIFTI),
    (0, (b"MATRIX7",), "an ECAT volume", _TO_NIFTI),
    (0, (b"\x5c\x01\x00\x00", b"\x00\x00\x01\x5c"), "an Analyze 7.5 header", _TO_NIFTI),
    (0, (b"type  =", b"\ntype  =", b"\ntype ="), "an AFNI header", _TO_NIFTI),
    (0, (b"# === DATA DESCRIPTION FILE", b"# CLINICAL TRYOUT"), "a Philips PAR header", _TO_NIFTI),
    (0, (b"# vtk DataFile", b"#INRIMAGE-4"), "a volume of a research program", _TO_NIFTI),
    (0, (b"MATLAB 5.0 MAT-file", b"MATLAB 7.3 MAT-file"), "a MATLAB file", "save its pictures as PNG or its volumes as NIfTI"),
    (0, (b"\x93NUMPY",), "a NumPy array", "save its pictures as PNG or its volumes as NIfTI"),
    (0, (b"PAR1", b"ARROW1", b"SQLite format 3\x00"), "a table or database", "give it as --data or --patients if it lists scans"),
    (0, (b"\x80\x02", b"\x80\x03", b"\x80\x04\x95", b"\x80\x05\x95"), "a Python pickle, which may run a program", "leave it out"),
    (0, (b"bplist00",), "a property list of macOS or a placeholder of iCloud", _FETCH),
    (0, (b"TRACK\x00", b"mrtrix tracks"), "a file of fibre tracks", "leave it out"),
    (0, (b"\xff\xff\xfe", b"GIFT", b"<GIFTI"), "a surface", "leave it out"),
    (0, (b"version https://git-lfs", b"version https://hawser"), "a Git LFS pointer, not the file", "run git lfs pull"),
    (0, (b"outs:\n", b"outs:\r\n"), "a DVC pointer, not the file", "run dvc pull"),
    (0, (b"/annex/objects/", b".git/annex/", b"../.git/annex/", b"../../.git/annex/", b"../../../.git/annex/"), "a git-annex pointer, not the file", "run git annex get"),
    (0, (b"\x00\x05\x16\x07",), "a companion file of macOS, not a scan", "leave it out"),
    (0, (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",), "an Office file or a database of thumbnails", "leave it out"),
    (0, (b"PK\x03\x04", b"PK\x05\x06"), "a ZIP archive", _UNPACK),
    (0, (b"7z\xbc\xaf\x27\x1c", b"Rar!", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"), "a packed file", _UNPACK),
    (257, (b"ustar",), "a tar archive", _UNPACK),
)  # fmt: skip

_WEB_PAGE = re.compile(rb"\s*(?:<!--.*?-->\s*)?<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL)
_META_IMAGE = re.compile(rb"(?:^|[\r\n])(?:ObjectType|NDims|DimSize|ElementDataFile)\s*=", re.ASCII)
_SURFACE = re.compile(rb"<!DOCTYPE GIFTI|<GIFTI\b|<VTKFile\b|\A(?:solid|ply|OFF)\b")
_ERROR = re.compile(rb"""<Error>\s*<Code>|\A\s*\{\s*"(?:error|message|detail|errors)"\s*:""", re.IGNORECASE)
_XML = re.compile(rb"\s*<(?:\?xml|svg)\b", re.IGNORECASE)
_TEXT = re.compile(rb"[\t\n\r\x20-\x7e\x80-\xff]+")

_OWN = {
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF8": "GIF",
    b"RIFF": "WebP",
    b"\x00\x00\x00\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
}
"""Beginnings of pictures that are read."""

_TIFF = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_READ_JPEG = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)  # baseline, extended and progressive
_NO_FRAME = (0xC4, 0xC8, 0xCC)
_JPEG_KINDS = {0xC3: "lossless", 0xC7: "lossless", 0xCB: "lossless", 0xF7: "JPEG-LS"}


def reason_against(head: bytes) -> str:
    """Why a file whose first bytes are these is no picture that is read.

    >>> reason_against(b"NRRD0004\\ntype: short")
    'an NRRD volume, which is not read here; convert it to NIfTI (.nii.gz)'
    >>> reason_against(b"hello")
    'not an image in a format that scanwise reads (a text file)'
    """
    for start, name in _OWN.items():
        if head.startswith(start):
            return unsupported_jpeg(head) or f"damaged or truncated: its {name} header cannot be read"
    return _named(head) or "not an image in a format that scanwise reads"


def unsupported_jpeg(data: bytes) -> str | None:
    """Why a healthy JPEG is not read, by the marker and the bits of its first frame; None where nothing speaks for that."""
    frame = _jpeg_frame(data)
    if frame is None or (frame[0] in _READ_JPEG and frame[1] == 8):
        return None
    marker, bits = frame
    kind = f"{bits} bits" if marker in _READ_JPEG else _JPEG_KINDS.get(marker, "hierarchical")
    return f"a JPEG of a kind that is not read here ({kind}); save it as PNG"


def _named(head: bytes) -> str | None:
    for offset, starts, name, advice in _FORMATS:
        if head.startswith(starts, offset):
            return f"{name}, which is not read here; {advice}"
    if head.startswith(_TIFF):
        return f"a TIFF of a kind that is not read here, or damaged; {_TO_PNG}, or as TIFF of 8 or 16 bits, gray or RGB"
    if head.startswith(b"\x1f\x8b"):
        return _packed(head)
    if _is_mgh(head):
        return f"a FreeSurfer volume (MGH), which is not read here; {_TO_NIFTI}"
    if _WEB_PAGE.match(head):
        return f"a web page, perhaps an error or log-in page in place of the scan; {_FETCH}"
    if _ERROR.search(head[:1024]):
        return f"an error message of a server in place of the scan; {_FETCH}"
    if _SURFACE.search(head[:1024]):
        return "a surface, which is not read here; leave it out"
    if _META_IMAGE.search(head[:4096]):
        return f"a MetaImage volume, which is not read here; {_TO_NIFTI}"
    if _XML.match(head):
        return f"an XML or SVG file, which is not read here; {_TO_PNG}"
    if _TEXT.fullmatch(head):
        return "not an image in a format that scanwise reads (a text file)"
    return None


def _packed(head: bytes) -> str:
    try:
        inside = zlib.decompressobj(wbits=31).decompress(head, 2048)
    except zlib.error:
        return "damaged or truncated: it cannot be unpacked"
    if _is_mgh(inside):
        return f"a FreeSurfer volume (MGZ), which is not read here; {_TO_NIFTI}"
    if inside[128:132] == b"DICM":
        return f"a packed DICOM file, which is not read here; {_UNPACK}"
    return f"a packed file, which is not read here; {_UNPACK}"


def _is_mgh(head: bytes) -> bool:
    """Version 1, four lengths, and a type of voxels that there is."""
    if len(head) < 24:
        return False
    version, *lengths, kind = struct.unpack_from(">6i", head)
    return version == 1 and all(0 < length < 2**20 for length in lengths) and kind in (0, 1, 3, 4, 10)


def _jpeg_frame(data: bytes) -> tuple[int, int] | None:
    """The marker and the bits of the first frame; None where no JPEG frame is found."""
    offset = 2
    while data[:2] == b"\xff\xd8" and offset + 5 <= len(data) and data[offset] == 0xFF:
        marker = data[offset + 1]
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in _NO_FRAME):
            return marker, data[offset + 4]
        offset += 2 + max(2, int.from_bytes(data[offset + 2 : offset + 4])) if marker != 0xFF else 1
    return None
