"""Images of every mode become one convention, and what is no image is refused with a reason."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scanwise.cohort.decoding.pixels import UnreadableScan
from scanwise.cohort.decoding.readers import decode_picture, digest, read_scan, resize
from scanwise.recipe import Data

GRAY = np.random.default_rng(0).integers(0, 256, (12, 10), dtype=np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (12, 10, 3), dtype=np.uint8)


def packed(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png(pixels: np.ndarray, **options: object) -> bytes:
    return packed(Image.fromarray(pixels), **options)


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


# --- size and hashes ---


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("pixels", [GRAY, COLOUR])
def test_every_scan_gets_the_size_and_channels_of_the_recipe(channels: int, pixels: np.ndarray) -> None:
    scan = read_scan(png(pixels), Data(size=16, channels=channels))
    assert scan.pixels.shape == (16, 16, channels)
    assert scan.pixels.dtype == np.uint8


def test_padding_keeps_the_proportions_and_stretching_does_not() -> None:
    wide = np.full((16, 64, 1), 200, dtype=np.uint8)
    padded = resize(wide, Data(size=32, shape="pad"))[:, :, 0]
    assert (padded[:12] == 0).all()
    assert (padded[12:20] == 200).all()
    assert (padded[20:] == 0).all()
    assert (resize(wide, Data(size=32)) == 200).all()


def test_shrinking_averages_and_does_not_skip() -> None:
    stripes = np.tile(np.array([0, 255], dtype=np.uint8), (64, 32))[:, :, None]
    assert np.abs(resize(stripes, Data(size=16)).astype(int) - 127).max() < 20


def test_hashes_are_of_the_bytes_and_of_the_pixels() -> None:
    settings = Data(size=16)
    one, other = read_scan(png(GRAY), settings), read_scan(packed(Image.fromarray(GRAY), "BMP"), settings)
    assert one.sha256 != other.sha256
    assert one.digest == other.digest
    touched = GRAY.copy()
    touched[0, 0] ^= 1
    assert read_scan(png(touched), settings).digest != one.digest
    assert digest(GRAY[:, :, None]) != digest(GRAY.reshape(10, 12)[:, :, None])
    assert read_scan(png(np.zeros_like(GRAY)), settings).digest == ""


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
    for junk in (b"hello", bytes(1000), b"\x89PNG\r\n\x1a\n", b"<html></html>", b"path,label\n"):
        assert "not an image" in reason(junk)


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
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "JPEG2000", "ICO"])
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
