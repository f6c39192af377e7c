"""Pictures of every mode become one convention, and what is no picture is refused with a reason."""

import io
import os
import struct
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
from openjpeg.utils import encode_array
from PIL import Image

from picture_files import COLOUR, GRAY, packed, png, png16, tiff
from scanwise.cohort.decoding.pictures import FORMATS, count_pages, decode_picture, stretch
from scanwise.cohort.decoding.pixels import UnreadableScan

# --- every mode ---


def test_gray_stays_as_it_is() -> None:
    np.testing.assert_array_equal(decode_picture(png(GRAY)), GRAY[:, :, None])


def test_colour_stays_colour_and_gray_in_three_channels_comes_out_gray() -> None:
    np.testing.assert_array_equal(decode_picture(png(COLOUR)), COLOUR)
    np.testing.assert_array_equal(decode_picture(png(np.stack([GRAY] * 3, axis=2))), GRAY[:, :, None])


def test_a_palette_is_looked_up() -> None:
    image = Image.fromarray(np.array([[0, 1], [1, 0]], dtype=np.uint8))
    image.putpalette([10, 20, 30, 200, 100, 50])
    np.testing.assert_array_equal(
        decode_picture(packed(image)), [[[10, 20, 30], [200, 100, 50]], [[200, 100, 50], [10, 20, 30]]]
    )


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparent_parts_are_black_and_half_transparent_ones_half_as_bright(mode: str) -> None:
    alpha = np.array([[0, 128, 255]], dtype=np.uint8)
    layers = [np.full_like(alpha, 200)] * (len(mode) - 1)
    found = decode_picture(png(np.stack([*layers, alpha], axis=2)))
    assert found.shape == (1, 3, 1)
    assert found.ravel().tolist() == [0, 100, 200]


def test_transparency_of_a_palette_or_of_one_gray_is_black_too() -> None:
    palette = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8))
    palette.putpalette([255, 255, 255, 90, 90, 90, 40, 40, 40])
    assert decode_picture(packed(palette, transparency=0)).ravel().tolist() == [0, 90, 40]
    assert decode_picture(packed(palette, transparency=b"\x00\xff\xff")).ravel().tolist() == [0, 90, 40]
    gray = Image.fromarray(np.array([[255, 90, 40]], dtype=np.uint8))
    assert decode_picture(packed(gray, transparency=255)).ravel().tolist() == [0, 90, 40]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_twelve_bits_in_sixteen_fill_the_range(kind: str) -> None:
    deep = np.array([[100, 2147, 4195]], dtype=np.uint16)
    assert decode_picture(packed(Image.fromarray(deep), kind)).ravel().tolist() == [0, 127, 255]


def test_floats_and_32_bit_integers_fill_the_range() -> None:
    assert decode_picture(
        packed(Image.fromarray(np.array([[-1.0, 0.0, 1.0]], np.float32)), "TIFF")
    ).ravel().tolist() == [
        0,
        128,
        255,
    ]
    assert decode_picture(packed(Image.fromarray(np.array([[-5, 0, 5]], np.int32)), "TIFF")).ravel().tolist() == [
        0,
        128,
        255,
    ]


def test_a_flat_deep_image_is_black_and_not_a_division_by_zero() -> None:
    assert not decode_picture(png(np.full((2, 3), 4000, dtype=np.uint16))).any()


def test_one_bit_is_black_and_white() -> None:
    assert decode_picture(packed(Image.fromarray(np.array([[True, False]])))).ravel().tolist() == [255, 0]


def test_cmyk_becomes_colour() -> None:
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # red ink
    red, green, blue = decode_picture(packed(image, "JPEG", quality=95))[8, 8].tolist()
    assert red > 240
    assert max(green, blue) < 20


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_rotated_photograph_is_set_upright(orientation: int) -> None:
    upright = np.zeros((16, 32), dtype=np.uint8)
    upright[:8, :8] = 255  # a mark in the upper left corner
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    image = Image.fromarray(upright)
    if orientation in undo:
        image = image.transpose(undo[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = decode_picture(packed(image, "JPEG", quality=100, exif=exif))
    assert found.shape == (16, 32, 1)
    assert np.abs(found[:, :, 0].astype(int) - upright).max() < 30


# --- more than 8 bits a channel: the same as in the plain form ---

DEEP = np.random.default_rng(2).integers(0, 4096, (12, 10)).astype(np.uint16)  # 12 bits in 16
OPAQUE = np.full_like(DEEP, 65535)


def plain(values: np.ndarray) -> np.ndarray:
    return decode_picture(png16(values))[:, :, 0]


def layers(*channels: np.ndarray) -> np.ndarray:
    return np.stack(channels, axis=2)


@pytest.mark.parametrize(
    "data",
    [
        png16(layers(DEEP, DEEP, DEEP)),
        png16(layers(DEEP, DEEP, DEEP), filters=(0, 2)),
        png16(layers(DEEP, DEEP, DEEP, OPAQUE)),
        png16(layers(DEEP, DEEP, DEEP, 0 * DEEP)),
        png16(layers(DEEP, OPAQUE)),
        png16(layers(DEEP, 0 * DEEP)),
        tiff(DEEP),
        tiff(DEEP, order=">"),
        tiff(layers(DEEP, DEEP, DEEP), 2),
        tiff(layers(DEEP, DEEP, DEEP), 2, ">"),
        tiff(layers(DEEP, DEEP, DEEP), 2, separate=True),
        tiff(layers(DEEP, DEEP, DEEP), 2, ">", separate=True),
        tiff(layers(DEEP, DEEP, DEEP, OPAQUE), 2, extra=2),
        tiff(layers(DEEP, DEEP, DEEP, 0 * DEEP), 2, ">", extra=2),
        tiff(layers(DEEP, DEEP, DEEP, 0 * DEEP), 2, extra=0),
        tiff(4095 - DEEP, 0),
        tiff((4095.0 - DEEP).astype(np.float32), 0, ">"),
        tiff(DEEP.astype(np.int32)),
        b"P6 10 12 65535\n" + layers(DEEP, DEEP, DEEP).astype(">u2").tobytes(),
        b"P3 10 12 65535\n" + b" ".join(b"%d %d %d" % (value, value, value) for value in DEEP.ravel().tolist()),
        b"P5 10 12 65535\n" + DEEP.astype(">u2").tobytes(),
    ],
)
def test_gray_of_twelve_bits_is_the_same_in_every_container(data: bytes) -> None:
    found = decode_picture(data)
    assert found.shape == (12, 10, 1)
    np.testing.assert_array_equal(found[:, :, 0], plain(DEEP))


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate"])
def test_white_is_zero_is_turned_around_in_packed_tiffs_too(compression: str) -> None:
    image = Image.fromarray(4095 - DEEP)
    for photometric, expected in ((0, plain(DEEP)), (1, 255 - plain(DEEP))):
        data = packed(image, "TIFF", compression=compression, tiffinfo={262: photometric})
        assert Image.open(io.BytesIO(data)).tag_v2[262] == photometric
        np.testing.assert_array_equal(decode_picture(data)[:, :, 0], expected)


def test_deep_colours_are_stretched_together() -> None:
    colours = np.random.default_rng(3).integers(0, 4096, (12, 10, 3)).astype(np.uint16)
    expected = np.rint((colours - float(colours.min())) * (255.0 / float(np.ptp(colours))))
    for data in (png16(colours), tiff(colours, 2), tiff(colours, 2, ">", separate=True)):
        np.testing.assert_array_equal(decode_picture(data), expected)


@pytest.mark.parametrize("boxes", [0, 1])
def test_deep_colours_of_jpeg_2000_too(boxes: int) -> None:
    gray = np.random.default_rng(4).integers(0, 4096, (96, 80)).astype(np.uint16)
    stream = bytes(
        encode_array(layers(gray, gray, gray), photometric_interpretation=1, use_mct=False, codec_format=boxes)
    )
    np.testing.assert_array_equal(decode_picture(stream)[:, :, 0], plain(gray))
    with pytest.raises(UnreadableScan):
        decode_picture(stream[: len(stream) // 2])
    clear = packed(Image.fromarray(np.dstack([COLOUR, GRAY])), "JPEG2000")
    assert decode_picture(clear).shape == (12, 10, 3)
    at = clear.index(b"\xff\x4f\xff\x51") + 42
    assert "16 bits and transparency" in reason(clear[:at] + b"\x0f" + clear[at + 1 :])


@pytest.mark.parametrize("channels", [2, 4])
def test_deep_transparent_parts_are_black_and_do_not_count(channels: int) -> None:
    alpha = np.full_like(DEEP, 65535)
    alpha[:6], alpha[6] = 0, 32768
    values = np.where(alpha == 0, 60000, DEEP)
    found = decode_picture(png16(layers(*[values] * (channels - 1), alpha)))[:, :, 0]
    assert not found[:6].any()
    inside = plain(DEEP[6:])
    np.testing.assert_array_equal(found[7:], inside[1:])
    np.testing.assert_allclose(found[6], inside[0] / 2, atol=1)


def test_the_one_gray_that_is_transparent_is_black_and_does_not_count() -> None:
    values = np.where(np.arange(12)[:, None] < 6, 60000, DEEP).astype(np.uint16)
    found = decode_picture(png16(values, clear=(60000,)))[:, :, 0]
    assert not found[:6].any()
    np.testing.assert_array_equal(found[6:], plain(DEEP[6:]))


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
@pytest.mark.parametrize("everywhere", [0, 128, 255])
def test_the_same_transparency_everywhere_says_nothing(mode: str, everywhere: int) -> None:
    channels = [GRAY] * (len(mode) - 1) + [np.full_like(GRAY, everywhere)]
    np.testing.assert_array_equal(decode_picture(png(np.stack(channels, axis=2)))[:, :, 0], GRAY)


@pytest.mark.parametrize(
    "data", [tiff(DEEP[..., None], separate=True), tiff(DEEP[..., None].astype(np.float32), order=">", separate=True)]
)
def test_planes_that_pillow_reads_wrongly_are_refused(data: bytes) -> None:
    assert "separate planes" in reason(data)
    assert "save it as PNG" in reason(data)


# --- formats that are not meant ---


def test_only_the_formats_that_are_meant_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A PostScript file would be handed to a program; others need none, but nobody meant them."""

    def run(*_: object, **__: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "Popen", run)
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    assert reason(script) == "a PostScript file, which is not read here; save it as PNG"
    for kind in ("ICO", "TGA", "PCX", "SGI", "IM", "PDF", "DDS"):
        assert "damaged" not in reason(packed(Image.fromarray(COLOUR), kind))
    assert not {"EPS", "WMF", "FITS", "HDF5", "GRIB"} & set(FORMATS)


# --- what is no scan ---


def claims(width: int, height: int) -> bytes:
    """A PNG whose header is right and whose pixels are not there."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def reason(data: bytes) -> str:
    with pytest.raises(UnreadableScan) as caught:
        decode_picture(data)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_truncated(kind: str, share: float) -> None:
    whole = packed(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)), kind)
    assert reason(whole[: int(len(whole) * share)]).startswith("damaged or truncated: ")


def test_empty_and_junk() -> None:
    assert reason(b"") == "the file is empty (0 bytes)"
    for junk in (b"hello", bytes(1000), b"path,label\n", b"\xfe\x01\x02"):
        assert "not an image" in reason(junk)
    assert reason(b"\x89PNG\r\n\x1a\n") == "damaged or truncated: its PNG header cannot be read"


def test_flipped_bits_are_noticed() -> None:
    whole = bytearray(png(GRAY))
    whole[60] ^= 0xFF
    assert "damaged" in reason(bytes(whole))


def test_a_decompression_bomb_is_refused_before_it_is_unpacked() -> None:
    assert "limit" in reason(claims(60_000, 60_000))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_so_is_one_that_pillow_only_warns_of() -> None:
    assert reason(claims(12_000, 10_000)) == "claims 12000 × 10000 pixels; the limit is 100,000,000"


def test_pixels_that_are_no_numbers() -> None:
    holes = np.array([[1.0, np.nan]], dtype=np.float32)
    assert "NaN" in reason(packed(Image.fromarray(holes), "TIFF"))


@pytest.mark.filterwarnings("ignore")  # Pillow warns of odd metadata; here the bytes are odd on purpose
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "JPEG2000", "PPM"])
def test_damage_anywhere_is_a_reason_and_never_a_crash(kind: str) -> None:
    whole = packed(Image.fromarray(COLOUR), kind)
    random = np.random.default_rng(0)
    outcomes = set()
    for _ in range(60):
        damaged = bytearray(whole)
        for place in random.integers(0, len(whole), 4):
            damaged[place] = random.integers(256)
        try:
            outcomes.add(decode_picture(bytes(damaged[: random.integers(len(whole) // 2, len(whole) + 1)])).dtype.name)
        except UnreadableScan as refusal:
            assert str(refusal)  # noqa: PT017
            outcomes.add("refused")
    assert "refused" in outcomes


def test_a_file_of_another_name_is_read_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "scan.jpg").write_bytes(png(GRAY))
    np.testing.assert_array_equal(decode_picture((tmp_path / "scan.jpg").read_bytes())[:, :, 0], GRAY)


def test_a_pipe_or_a_device_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.png")
    for file, kind in ((tmp_path / "x.png", "a pipe"), (Path("/dev/zero"), "a device"), (tmp_path, "a folder")):
        with pytest.raises(UnreadableScan, match=f"not a file but {kind}"):
            count_pages(file)


@pytest.mark.parametrize("order", ["<", ">"])
def test_bytes_with_a_sign_are_numbers_below_and_above_zero(order: str) -> None:
    signed = np.arange(-100, 100, dtype=np.int8).reshape(20, 10)
    expected = stretch(signed.astype(np.int16))[:, :, None]
    np.testing.assert_array_equal(decode_picture(tiff(signed, order=order)), expected)
