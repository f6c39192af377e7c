"""Volumes are cut as radiologists see them, whatever their orientation; damage and claims are refused with a reason."""

import gzip
import itertools
import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest

from medical_files import write_nifti
from scanwise.cohort.decoding import nifti, readers
from scanwise.cohort.decoding.pixels import UnreadableScan
from scanwise.recipe import Data

WHOLE = (0.0, 100.0)


def ramp(shape: tuple[int, ...] = (6, 8, 5)) -> np.ndarray:
    """Voxels (right, front, top), all different."""
    return np.arange(np.prod(shape), dtype=np.int16).reshape(shape)


def cut(file: Path, index: int | None, **settings: object) -> np.ndarray:
    (found,) = nifti.decode_nifti(file.read_bytes(), [index], Data(percentiles=WHOLE, **settings))
    assert not isinstance(found, str), found
    return found[:, :, 0]


def refusal(file: Path, index: int | None = None, **settings: object) -> str:
    found = readers.read_file(file if index is None else Path(f"{file}#{index:03d}"), Data(size=16, **settings))
    assert isinstance(found, str)
    return found


def shades(voxels: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.rint((voxels - whole.min()) * (255.0 / (whole.max() - whole.min()))).astype(np.uint8)


# --- orientation ---


def test_axial_slices_have_the_front_above_and_the_right_hand_on_the_left(tmp_path: Path) -> None:
    voxels = ramp()
    file = write_nifti(tmp_path / "x.nii", voxels)
    np.testing.assert_array_equal(cut(file, 3), shades(voxels[::-1, ::-1, 3].T, voxels))


def test_coronal_and_sagittal_slices_have_the_top_above(tmp_path: Path) -> None:
    voxels = ramp()
    file = write_nifti(tmp_path / "x.nii.gz", voxels)
    np.testing.assert_array_equal(cut(file, 2, axis="coronal"), shades(voxels[::-1, 2, ::-1].T, voxels))
    np.testing.assert_array_equal(cut(file, 4, axis="sagittal"), shades(voxels[4, ::-1, ::-1].T, voxels))


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, 1), (1, -1, -1), (-1, -1, -1)])
def test_every_way_of_storing_a_volume_gives_the_same_slices(
    tmp_path: Path, order: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    """A volume stored with other axes, or axes that run the other way, is the same volume if its header says so."""
    voxels = ramp()
    plain = write_nifti(tmp_path / "plain.nii", voxels)
    turned, affine = voxels.transpose(order), np.zeros((4, 4))
    affine[3, 3] = 1
    for axis, (world, sign) in enumerate(zip(order, signs, strict=True)):
        turned = np.flip(turned, axis) if sign < 0 else turned
        affine[world, axis] = sign
    other = write_nifti(tmp_path / "other.nii.gz", turned, affine)
    for axis, count in (("axial", 5), ("coronal", 8), ("sagittal", 6)):
        settings = Data(percentiles=WHOLE, axis=axis)
        assert nifti.read_summary(other, settings).count == count
        for index in (0, count - 1):
            np.testing.assert_array_equal(cut(other, index, axis=axis), cut(plain, index, axis=axis))


def test_the_orientation_is_nibabels_own(tmp_path: Path) -> None:
    """Oblique volumes too: the nearest canonical orientation."""
    turn = np.array([[0.1, -0.9, 0.2, 5], [0.95, 0.15, 0.1, 6], [-0.1, 0.2, 0.9, 7], [0, 0, 0, 1]])
    file = write_nifti(tmp_path / "x.nii", ramp(), turn)
    canonical = nibabel.as_closest_canonical(nibabel.load(file))
    voxels = np.asarray(canonical.dataobj)
    np.testing.assert_array_equal(cut(file, 2), shades(voxels[::-1, ::-1, 2].T, voxels))


def test_a_header_that_says_nothing_of_places_is_taken_as_it_is(tmp_path: Path) -> None:
    file = write_nifti(tmp_path / "x.nii", ramp())
    header = bytearray(file.read_bytes())
    struct.pack_into("<h", header, 254, 1)
    struct.pack_into("<12f", header, 280, *[0.0] * 12)
    file.write_bytes(bytes(header))
    assert not nibabel.load(file).affine[:3].any()
    assert cut(file, 0).shape == (8, 6)


def with_sform(file: Path, rows: np.ndarray, code: int = 1) -> Path:
    """The file with other rows of its sform, which nibabel would not write."""
    header = bytearray(file.read_bytes())
    struct.pack_into("<h", header, 254, code)
    struct.pack_into("<12f", header, 280, *rows.ravel().tolist())
    file.write_bytes(bytes(header))
    return file


TURNED = np.array([[0, 0, -2.0, 4], [3.0, 0, 0, 5], [0, 4.0, 0, 6], [0, 0, 0, 1]])  # axes: front, top, left


@pytest.mark.parametrize("rows", [[0, 1, 2], [0], [1], [2]])
@pytest.mark.parametrize("value", [0.0, np.nan])
def test_an_sform_that_spans_no_space_gives_way_to_the_qform(tmp_path: Path, rows: list[int], value: float) -> None:
    image = nibabel.Nifti1Image(ramp(), TURNED)
    image.set_qform(TURNED, 1)
    image.to_filename(tmp_path / "plain.nii")
    image.to_filename(tmp_path / "x.nii")
    broken = TURNED[:3].copy()
    broken[rows] = value
    file = with_sform(tmp_path / "x.nii", broken)
    assert nifti.read_summary(file, Data()).count == 8
    for axis in nifti.AXES:
        np.testing.assert_array_equal(cut(file, 1, axis=axis), cut(tmp_path / "plain.nii", 1, axis=axis))
    found = nifti.affine_of(nibabel.load(file))
    assert found is not None
    np.testing.assert_allclose(found, TURNED, atol=1e-5)


def test_an_sform_that_says_something_goes_before_the_qform(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(ramp(), TURNED)
    image.set_qform(np.eye(4), 1)
    image.to_filename(tmp_path / "x.nii")
    np.testing.assert_array_equal(nifti.affine_of(nibabel.load(tmp_path / "x.nii")), TURNED)


# --- one slice ---


@pytest.mark.parametrize(("name", "shape"), [("sagittal", (1, 8, 5)), ("coronal", (6, 1, 5)), ("axial", (6, 8, 1))])
@pytest.mark.parametrize("axis", ["sagittal", "coronal", "axial"])
def test_where_an_axis_has_length_one_the_volume_is_one_slice(
    tmp_path: Path, name: str, shape: tuple[int, int, int], axis: str
) -> None:
    file = write_nifti(tmp_path / "x.nii", ramp(shape))
    summary = nifti.read_summary(file, Data(axis=axis))
    assert summary.count == 1
    assert (summary.remark == "") == (axis == name)
    np.testing.assert_array_equal(cut(file, None, axis=axis), cut(file, None, axis=name))
    assert cut(file, None, axis=axis).shape == tuple(length for length in shape if length > 1)[::-1]


def test_one_coronal_picture_is_one_coronal_slice(tmp_path: Path) -> None:
    """60 × 80 × 1, columns to the left and rows to the feet: shown as it is stored, not cut into 80 lines."""
    stored = np.random.default_rng(0).integers(0, 999, (60, 80, 1)).astype(np.int16)
    coronal = np.array([[-1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    file = write_nifti(tmp_path / "x.nii", stored, coronal)
    summary = nifti.read_summary(file, Data())
    assert summary.count == 1
    assert summary.remark == "One coronal slice, and shown so although data.axis is axial"
    np.testing.assert_allclose(cut(file, None), shades(stored[:, :, 0].T, stored), atol=1)


def test_an_axis_that_was_probably_not_acquired_is_said(tmp_path: Path) -> None:
    thick = write_nifti(tmp_path / "x.nii", ramp(), np.diag([1, 6, 1, 1]))
    assert nifti.read_summary(thick, Data()).remark == (
        "Thickest along the coronal axis, so probably acquired as coronal slices, but cut into axial ones; set data.axis "
        "to coronal to see them as acquired"
    )
    assert not nifti.read_summary(thick, Data(axis="coronal")).remark
    for sides in ([1, 1, 1, 1], [1, 1.9, 1, 1], [3, 3, 1, 1]):
        assert not nifti.read_summary(write_nifti(tmp_path / "y.nii", ramp(), np.diag(sides)), Data()).remark


@pytest.mark.parametrize(("axis", "size"), [("axial", (8, 6)), ("coronal", (25, 6)), ("sagittal", (25, 8))])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_where_proportions_are_kept_thick_slices_are_as_high_as_they_are(
    tmp_path: Path, axis: str, size: tuple[int, int], order: tuple[int, ...]
) -> None:
    """Voxels of 2 × 2 × 10 mm, in whatever order they are stored."""
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for place, world in enumerate(order):
        affine[world, place] = (2, 2, 10)[world]
    file = write_nifti(tmp_path / "x.nii", ramp().transpose(order), affine)
    assert cut(file, 0, axis=axis, shape="pad").shape == size
    assert cut(file, 0, axis=axis).shape == (8 if axis == "axial" else 5, size[1])


@pytest.mark.parametrize("thickness", [1000.0, 1.0])
def test_sizes_that_cannot_be_change_nothing(tmp_path: Path, thickness: float) -> None:
    file = write_nifti(tmp_path / "x.nii", ramp(), np.diag([1, 1, thickness, 1]))
    assert cut(file, 0, axis="coronal", shape="pad").shape == (5, 6)


# --- intensities ---


def test_percentiles_of_the_volume_become_black_and_white(tmp_path: Path) -> None:
    voxels = np.zeros((10, 10, 10), dtype=np.float32)
    voxels[:, :, 5] = np.arange(100).reshape(10, 10)
    voxels[0, 0, 0] = 1e6  # one hot voxel must not make all others black
    file = write_nifti(tmp_path / "x.nii", voxels)
    low, high = np.percentile(voxels, [1, 99])
    (found,) = nifti.decode_nifti(file.read_bytes(), [5], Data(percentiles=(1, 99)))
    expected = np.clip((voxels[::-1, ::-1, 5].T - low) / (high - low), 0, 1)
    np.testing.assert_allclose(np.asarray(found)[:, :, 0], 255 * expected, atol=0.51)
    assert np.asarray(found).max() == 255


def test_slope_and_intercept_of_the_header_are_applied(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(ramp().astype(np.int16), np.eye(4))
    image.header.set_slope_inter(-2, 10)  # a negative slope turns black and white around
    image.to_filename(tmp_path / "x.nii")
    voxels = np.asarray(nibabel.load(tmp_path / "x.nii").dataobj)
    np.testing.assert_array_equal(cut(tmp_path / "x.nii", 0), shades(voxels[::-1, ::-1, 0].T, voxels))


def test_a_volume_of_one_value_is_black_and_not_a_division_by_zero(tmp_path: Path) -> None:
    assert not cut(write_nifti(tmp_path / "x.nii", np.full((4, 4, 4), 7.5, np.float32)), 0).any()


def test_a_volume_that_is_nearly_all_background_is_not_lost(tmp_path: Path) -> None:
    voxels = np.zeros((20, 20, 20), dtype=np.int16)
    voxels[10, 10, 10] = 500
    file = write_nifti(tmp_path / "x.nii", voxels)
    (found,) = nifti.decode_nifti(file.read_bytes(), [10], Data())
    assert np.asarray(found).max() == 255


# --- shapes ---


def test_of_volumes_over_time_the_first_is_taken(tmp_path: Path) -> None:
    voxels = np.stack([ramp(), ramp()[::-1]], axis=3)
    file = write_nifti(tmp_path / "x.nii.gz", voxels)
    np.testing.assert_array_equal(cut(file, 3), cut(write_nifti(tmp_path / "y.nii", voxels[..., 0]), 3))
    remark = "The first of 2 volumes over time (or directions, or echoes) is used, and the others are not"
    assert nifti.read_summary(file, Data()).remark == remark
    assert not nifti.read_summary(tmp_path / "y.nii", Data()).remark


@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 1), (6, 8, 1, 1), (6, 8, 1, 1, 1)])
def test_a_single_slice_needs_no_number(tmp_path: Path, shape: tuple[int, ...]) -> None:
    file = write_nifti(tmp_path / "x.nii", ramp(shape))
    assert nifti.read_summary(file, Data()).count == 1
    assert cut(file, None).shape == (8, 6)


def test_second_version_of_the_format(tmp_path: Path) -> None:
    file = write_nifti(tmp_path / "x.nii.gz", ramp(), kind=nibabel.Nifti2Image)
    assert readers.kind_of(file.read_bytes()[: readers.HEAD]) == "nifti"
    np.testing.assert_array_equal(cut(file, 1), cut(write_nifti(tmp_path / "y.nii", ramp()), 1))


def test_a_slice_that_is_not_named_or_not_there(tmp_path: Path) -> None:
    file = write_nifti(tmp_path / "x.nii", ramp())
    assert refusal(file) == "holds 5 slices; name one of them, such as FILE#002"
    assert refusal(file, 5) == "holds 5 slices, the last of them #004"


def test_colours_and_complex_numbers_are_refused(tmp_path: Path) -> None:
    colours = np.zeros((4, 4, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    for voxels in (colours, np.zeros((4, 4, 4), np.complex64)):
        assert "one number a voxel" in refusal(write_nifti(tmp_path / "x.nii", voxels))


def test_a_type_of_voxels_that_there_is_not_and_a_surface_are_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = write_nifti(tmp_path / "x.nii", ramp())
    header = bytearray(file.read_bytes())
    struct.pack_into("<h", header, 68, 3002)
    file.write_bytes(bytes(header))
    assert "CIFTI" in refusal(file)
    assert "damaged" not in refusal(file)
    struct.pack_into("<hh", header, 68, 0, 77)
    file.write_bytes(bytes(header))
    assert "type of voxels" in refusal(file)
    assert not capfd.readouterr().err


def test_a_pair_of_header_and_image_is_told_apart(tmp_path: Path) -> None:
    nibabel.Nifti1Pair(ramp(), np.eye(4)).to_filename(tmp_path / "x.img")
    assert "convert it to one .nii file" in refusal(tmp_path / "x.hdr")


def test_five_dimensions_are_refused(tmp_path: Path) -> None:
    assert "has the shape 3 × 3 × 3 × 1 × 3" in refusal(
        write_nifti(tmp_path / "x.nii", np.zeros((3, 3, 3, 1, 3), np.int16))
    )


# --- voxels that are no numbers ---


def holed(tmp_path: Path) -> Path:
    voxels = ramp((6, 8, 5)).astype(np.float32)
    voxels[2, 3, 1], voxels[0, 0, 3] = np.nan, np.inf
    return write_nifti(tmp_path / "x.nii.gz", voxels)


def test_slices_with_nan_are_refused_and_the_others_are_not(tmp_path: Path) -> None:
    file = holed(tmp_path)
    said = readers.read_slices(file, [0, 1, 2, 3], Data(size=16))
    assert [isinstance(found, str) for found in said] == [False, True, False, True]
    assert said[1] == "holds 1 NaN or infinite voxels; data.nan=black makes these black"


def test_or_their_nan_are_black_if_the_recipe_says_so(tmp_path: Path) -> None:
    found = cut(holed(tmp_path), 1, nan="black")
    assert found[8 - 1 - 3, 6 - 1 - 2] == 0
    assert np.count_nonzero(found == 0) == 1


def test_nothing_but_nan(tmp_path: Path) -> None:
    file = write_nifti(tmp_path / "x.nii", np.full((3, 3, 3), np.nan, np.float32))
    assert refusal(file, 1, nan="black") == "every voxel is NaN or infinite"


# --- damage and claims ---


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
@pytest.mark.parametrize("share", [0.5, 0.9, 0.999])
def test_truncated(tmp_path: Path, name: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 1000, (20, 20, 20)).astype(np.int16)
    file = write_nifti(tmp_path / name, noise)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * share)])
    assert refusal(file, 3).startswith("damaged or truncated")


def test_a_flipped_bit_in_packed_voxels_is_noticed(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 1000, (20, 20, 20)).astype(np.int16)
    file = write_nifti(tmp_path / "x.nii", noise)
    packed = bytearray(gzip.compress(file.read_bytes(), compresslevel=0))  # so that the damage is not in the packing
    packed[-500] ^= 1
    (tmp_path / "x.nii.gz").write_bytes(bytes(packed))
    assert refusal(tmp_path / "x.nii.gz", 3).startswith("damaged or truncated")


def claiming(file: Path, *shape: int, gz: bool = False) -> Path:
    """A header of the second version, which has room for large numbers, and no voxels."""
    header = bytearray(nibabel.Nifti2Image(np.zeros((2, 2, 2), np.int16), np.eye(4)).to_bytes()[:544])
    struct.pack_into("<8q", header, 16, len(shape), *shape, *[1] * (7 - len(shape)))
    file.write_bytes(gzip.compress(bytes(header)) if gz else bytes(header))
    return file


@pytest.mark.parametrize("gz", [False, True])
@pytest.mark.parametrize("shape", [(100_000, 100_000, 1), (100_000, 100_000), (2**40, 2, 2), (800, 800, 800)])
def test_a_bomb_is_refused_from_its_header(tmp_path: Path, shape: tuple[int, ...], gz: bool) -> None:
    file = claiming(tmp_path / "x.nii", *shape, gz=gz)
    with pytest.raises(UnreadableScan, match="claims"):
        nifti.read_summary(file, Data())
    assert "claims" in refusal(file, 0)


@pytest.mark.parametrize(("gz", "shape"), [(False, (700, 700, 700)), (True, (700, 700, 700)), (False, (40, 40, 40, 3))])
def test_a_header_that_claims_more_than_the_file_can_hold_is_not_about_memory(
    tmp_path: Path, gz: bool, shape: tuple[int, ...]
) -> None:
    reason = refusal(claiming(tmp_path / "x.nii", *shape, gz=gz), 3)
    assert reason.startswith("damaged or truncated: ")
    assert f"cannot hold the {2 * np.prod(shape[:3]):,} of its voxels" in reason


@pytest.mark.parametrize("shape", [(0, 5, 5), (-3, 5, 5)])
def test_a_volume_of_nothing(tmp_path: Path, shape: tuple[int, ...]) -> None:
    assert refusal(claiming(tmp_path / "x.nii", *shape)).startswith(("claims", "damaged"))


@pytest.mark.parametrize("gz", [False, True])
def test_damage_anywhere_is_a_reason_and_never_a_crash(tmp_path: Path, gz: bool) -> None:
    voxels = np.random.default_rng(1).integers(0, 1000, (6, 7, 5)).astype(np.int16)
    whole = write_nifti(tmp_path / "x.nii", voxels).read_bytes()
    random, file, outcomes = np.random.default_rng(0), tmp_path / "y.nii", set()
    for _ in range(200):
        damaged = bytearray(whole)
        for place in random.integers(0, 352, 3):
            damaged[place] = random.integers(256)
        file.write_bytes(gzip.compress(bytes(damaged)) if gz else bytes(damaged))
        try:
            nifti.read_summary(file, Data())
        except UnreadableScan as reason:
            outcomes.add("refused")
            assert str(reason)  # noqa: PT017
        found = readers.read_file(Path(f"{file}#001"), Data(size=16))
        outcomes.add("refused" if isinstance(found, str) else "read")
    assert outcomes == {"refused", "read"}


def test_counting_reads_no_voxels(tmp_path: Path) -> None:
    """A header alone suffices, as for the first bytes of a large file."""
    file = write_nifti(tmp_path / "x.nii", ramp())
    file.write_bytes(file.read_bytes()[:352])
    assert nifti.read_summary(file, Data(axis="sagittal")).count == 6
