"""A healthy file of another format is named, with what to do; "damaged" is only what is damaged."""

import gzip
import io
import struct

import numpy as np
import pytest
from PIL import Image

from scanwise.cohort.decoding.foreign_formats import reason_against
from scanwise.cohort.decoding.pixels import UnreadableScan
from scanwise.cohort.decoding.readers import read_scan
from scanwise.recipe import Data

MGH = struct.pack(">6i", 1, 4, 4, 4, 1, 3) + bytes(400)


@pytest.mark.parametrize(
    ("head", "name", "advice"),
    [
        (b"\xff\x0a" + bytes(40), "JPEG XL", "PNG"),
        (b"\x00\x00\x00\x0cJXL \r\n\x87\n" + bytes(40), "JPEG XL", "PNG"),
        (b"\x00\x00\x00\x1cftypavif" + bytes(40), "AVIF", "PNG"),
        (b"\x00\x00\x00\x1cftypheic" + bytes(40), "HEIC", "PNG"),
        (b"\x00\x00\x00\x1cftypisom" + bytes(40), "video", "frames"),
        (b"\x89HDF\r\n\x1a\n" + bytes(40), "HDF5", "NIfTI"),
        (b"CDF\x01" + bytes(40), "MINC 1", "NIfTI"),
        (b"NRRD0005\ntype: short\n", "NRRD", "NIfTI"),
        (b"ObjectType = Image\nNDims = 3\n", "MetaImage", "NIfTI"),
        (MGH, "MGH", "NIfTI"),
        (gzip.compress(MGH, mtime=0), "MGZ", "NIfTI"),
        (gzip.compress(b"something else", mtime=0), "packed", "unpack"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS pointer", "git lfs pull"),
        (b"/annex/objects/MD5E-s5--0.dcm\n", "git-annex pointer", "git annex get"),
        (b"<!DOCTYPE html><html><title>Log in</title>", "web page", "download it again"),
        (b"<?xml version='1.0'?><svg/>", "SVG", "PNG"),
        (b"%PDF-1.7\n", "PDF", "PNG"),
        (b"PK\x03\x04" + bytes(40), "ZIP", "unpack"),
        (b"\x00\x05\x16\x07" + bytes(40), "macOS", "leave it out"),
        (b"\x93NUMPY\x01\x00", "NumPy", "PNG"),
        (b"II\xbc\x01" + bytes(40), "JPEG XR", "PNG"),
        (b"\x00\x00\x02\x00" + bytes(40), "Targa", "PNG"),
        (b"Comment = x\nObjectType = Image\nNDims = 3\n", "MetaImage", "NIfTI"),
        (b"# vtk DataFile Version 3.0\n", "research program", "NIfTI"),
        (b"MATLAB 7.3 MAT-file, Platform: GLNXA64", "MATLAB", "PNG"),
        (b"outs:\n- md5: a304afb9\n  path: x.png\n", "DVC pointer", "dvc pull"),
        (b"../../.git/annex/objects/xx/MD5E-s5--0.dcm\n", "git-annex pointer", "git annex get"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "error message", "download it again"),
        (b'{"message": "Not Found"}', "error message", "download it again"),
        (b"<?xml version='1.0'?><!DOCTYPE GIFTI SYSTEM 'x'>", "surface", "leave it out"),
        (b"bplist00" + bytes(40), "iCloud", "download it again"),
        (b"SQLite format 3\x00" + bytes(40), "table", "--data"),
    ],
)
def test_it_is_named_with_a_way_out(head: bytes, name: str, advice: str) -> None:
    with pytest.raises(UnreadableScan) as refused:
        read_scan(head, Data(size=16))
    assert name in str(refused.value)
    assert advice in str(refused.value)
    assert "damaged" not in str(refused.value)


def jpeg(marker: int, bits: int) -> bytes:
    """A JPEG whose frame says to be of another kind than it is."""
    stream = io.BytesIO()
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(stream, "JPEG")
    data = bytearray(stream.getvalue())
    at = data.index(b"\xff\xc0")
    data[at + 1], data[at + 4] = marker, bits
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (jpeg(0xC1, 12), "12 bits"),
        (jpeg(0xC3, 16), "lossless"),
        (jpeg(0xF7, 8), "JPEG-LS"),
        (jpeg(0xC5, 8), "hierarchical"),
    ],
)
def test_a_jpeg_of_a_rare_kind_is_not_damaged(data: bytes, kind: str) -> None:
    with pytest.raises(UnreadableScan, match=f"JPEG of a kind that is not read here .{kind}"):
        read_scan(data, Data(size=16))


def test_of_a_format_that_is_read_only_the_header_can_be_wrong() -> None:
    assert reason_against(b"GIF89a") == "damaged or truncated: its GIF header cannot be read"
    assert "TIFF of a kind that is not read here, or damaged" in reason_against(b"II*\0" + bytes(40))
    assert reason_against(b"\x1f\x8bnot packed") == "damaged or truncated: it cannot be unpacked"
