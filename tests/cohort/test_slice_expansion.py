"""A file of many scans becomes its scans, with what its header tells; pictures of one page are not looked into."""

import os
from pathlib import Path

import numpy as np
import pytest
from cohort_scans import Scans
from PIL import Image, TiffImagePlugin

from medical_files import NAMES, dataset, write_dicom, write_nifti
from scanwise.cohort import header_subjects, layouts, pseudonyms, slice_expansion
from scanwise.cohort.decoding import readers
from scanwise.cohort.listing import Listing
from scanwise.cohort.slice_expansion import expand_slices
from scanwise.errors import DataError
from scanwise.recipe import Data

VOLUME = np.arange(6 * 8 * 10, dtype=np.int16).reshape(6, 8, 10)
FRAME = np.arange(300, dtype=np.uint16).reshape(20, 15)


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCANWISE_KEY", "a key of the tests")


def listed(root: Path, *paths: str, **columns: object) -> Listing:
    return Listing(root, np.array(paths), np.array(["x"] * len(paths)), **columns)


def test_pictures_stay_as_they_are_and_are_not_looked_into(scans: Scans, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slice_expansion, "kind_of", lambda head: pytest.fail("opened"))
    root = scans.classes(each=2)
    given = layouts.discover_scans(root)
    found, rows = expand_slices(given, Data())
    assert found.path.tolist() == given.path.tolist()
    assert rows.tolist() == [0, 1, 2, 3]
    assert (found.groups, found.subject, found.unused) == ({}, None, ())


@pytest.mark.parametrize(
    ("ending", "count"),
    [
        ("tif", 10),
        ("TIFF", 3),
        ("gif", 4),
        ("webp", 5),
        ("", 2),
        ("tif", 1),
        ("png", 3),
        ("png", 1),
        ("jpg", 3),
        ("mpo", 2),
    ],
)
def test_pages_are_slices(tmp_path: Path, ending: str, count: int) -> None:
    """Gray of a page rises, so that each page is known by its own."""
    pages = [Image.fromarray(np.full((20, 20), 20 * index, np.uint8)) for index in range(count)]
    for index, page in enumerate(pages):
        page.putpixel((index, 0), 255)  # a page of one value would be no scan
    file = tmp_path / (f"a.{ending}" if ending else "a")
    lossless = {"lossless": True} if ending == "webp" else {}
    kind = {"gif": "GIF", "webp": "WEBP", "png": "PNG", "jpg": "MPO", "mpo": "MPO"}.get(ending, "TIFF")
    pages[0].save(file, kind, save_all=True, append_images=pages[1:], **lossless)
    found, _ = expand_slices(listed(tmp_path, file.name), Data(size=20))
    assert found.path.tolist() == ([f"{file.name}#{i:03d}" for i in range(count)] if count > 1 else [file.name])
    for index, place in enumerate(found.path.tolist()):
        scan = readers.read_file(tmp_path / place, Data(size=20))
        assert isinstance(scan, readers.DecodedScan)
        np.testing.assert_allclose(scan.pixels[:, :, 0], np.asarray(pages[index]), atol=40 if kind == "MPO" else 1)
    if count > 1:
        assert f"holds {count} pages" in str(readers.read_file(file, Data()))
        assert "has no page" in str(readers.read_file(file.with_name(f"{file.name}#{count:03d}"), Data()))


def test_what_stands_in_for_an_animation_or_is_smaller_than_a_photo_is_no_page(tmp_path: Path) -> None:
    one, two, three = (Image.fromarray(np.full((20, 20), gray, np.uint8)) for gray in (50, 100, 150))
    one.save(tmp_path / "a.png", save_all=True, append_images=[two, three], default_image=True)
    two.save(tmp_path / "b.jpg", "MPO", save_all=True, append_images=[three.resize((10, 10))])
    found, _ = expand_slices(listed(tmp_path, "a.png", "b.jpg"), Data(size=20))
    assert found.path.tolist() == ["a.png#000", "a.png#001", "b.jpg"]
    scans = [readers.read_file(tmp_path / name, Data(size=20)) for name in found.path.tolist()]
    assert [round(scan.pixels.mean()) for scan in scans if isinstance(scan, readers.DecodedScan)] == [100, 150, 100]


def test_thumbnails_and_masks_beside_a_page_are_no_pages(tmp_path: Path) -> None:
    page, other = (Image.fromarray(np.arange(start, start + 100, dtype=np.uint8).reshape(10, 10)) for start in (0, 100))
    small = page.resize((5, 5))
    kinds = [(page, {}), (small, {254: 1}), (other, {254: 2}), (small, {254: 4}), (small, {255: 2})]
    frames = [tmp_path / f"{index}.tif" for index in range(len(kinds))]
    for file, (picture, tags) in zip(frames, kinds, strict=True):
        picture.save(file, "TIFF", tiffinfo=tags)
    with (tmp_path / "whole.tif").open("w+b") as opened, TiffImagePlugin.AppendingTiffWriter(opened) as writer:
        for index, (picture, tags) in enumerate(kinds):
            if index:
                writer.newFrame()
            picture.save(writer, "TIFF", tiffinfo=tags)
    found, _ = expand_slices(listed(tmp_path, "whole.tif"), Data(size=16))
    assert found.path.tolist() == ["whole.tif#000", "whole.tif#001"]
    scans = [readers.read_file(tmp_path / place, Data(size=16)) for place in found.path.tolist()]
    alone = [readers.read_file(frames[index], Data(size=16)) for index in (0, 2)]
    for scan, single in zip(scans, alone, strict=True):
        assert isinstance(scan, readers.DecodedScan)
        assert isinstance(single, readers.DecodedScan)
        assert scan.digest == single.digest


def test_a_damaged_page_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    pages = [Image.fromarray(random.integers(0, 256, (30, 30), dtype=np.uint8)) for _ in range(3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:], compression="tiff_lzw")
    with Image.open(tmp_path / "a.tif") as image:
        image.seek(1)
        (start,) = image.tag_v2[273]  # type: ignore[attr-defined]
    data = bytearray((tmp_path / "a.tif").read_bytes())
    data[start : start + 40] = b"\xff" * 40
    (tmp_path / "a.tif").write_bytes(data)
    scans = [readers.read_file(tmp_path / f"a.tif#{index:03d}", Data(size=16)) for index in range(3)]
    assert [isinstance(scan, str) for scan in scans] == [False, True, False]


def test_a_picture_that_is_not_there_is_said(scans: Scans) -> None:
    root = scans.add("a.png", "b.tif", "sub/c.png")
    (root / "folder.png").mkdir()
    gone = ["A.png", "gone.tif", ".\\a.png", "C:\\scans\\a.png", "nul\0.png"]
    found, _ = expand_slices(listed(root, "a.png", *gone, "folder.png", "b.tif", "sub/c.png"), Data())
    assert found.path.tolist() == ["a.png", "b.tif", "sub/c.png"]
    reasons = dict(found.unused)
    assert set(reasons) == {*gone, "folder.png"}
    assert all(reasons[path].startswith("cannot be opened: No such file") for path in gone)
    assert all("write / between folders" in reasons[path] for path in gone if "\\" in path)
    assert "a folder" in reasons["folder.png"]


def test_a_volume_becomes_its_slices_and_they_can_be_read(tmp_path: Path) -> None:
    write_nifti(tmp_path / "a.nii.gz", VOLUME)
    found, rows = expand_slices(listed(tmp_path, "a.nii.gz"), Data(size=16))
    assert found.path.tolist() == [f"a.nii.gz#{index:03d}" for index in range(10)]
    assert rows.tolist() == [0] * 10
    for place in found.path.tolist():
        assert isinstance(readers.read_file(tmp_path / place, Data(size=16)), readers.DecodedScan)


def test_a_doubtful_axis_is_said_once_with_its_files(tmp_path: Path) -> None:
    for name in "abcd":
        write_nifti(tmp_path / f"{name}.nii", VOLUME[:, :1] if name == "d" else VOLUME, np.diag([1, 5, 1, 1]))
    given = listed(tmp_path, "a.nii", "b.nii#003", "b.nii#004", "c.nii", "d.nii", remarks=("an earlier one",))
    found, _ = expand_slices(given, Data())
    assert found.remarks == (
        "an earlier one",
        "Thickest along the coronal axis, so probably acquired as coronal slices, but cut into axial ones; set data.axis "
        "to coronal to see them as acquired: 3 volumes (a.nii, b.nii, c.nii).",
        "One coronal slice, and shown so although data.axis is axial: 1 volume (d.nii).",
    )


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"axis": "sagittal"}, range(6)),
        ({"axis": "coronal"}, range(8)),
        ({"slices": (0.4, 0.6)}, [4, 5]),
        ({"slices": (0.0, 0.3), "every": 2}, [0, 2]),
        ({"slices": (0.51, 0.52)}, [5]),
        ({"every": 100}, [0]),
    ],
)
def test_the_recipe_chooses_axis_part_and_step(
    tmp_path: Path, settings: dict[str, object], expected: "list[int] | range"
) -> None:
    write_nifti(tmp_path / "a.nii", VOLUME)
    found, _ = expand_slices(listed(tmp_path, "a.nii"), Data(**settings))
    assert found.path.tolist() == [f"a.nii#{index:03d}" for index in expected]


def test_a_slice_that_is_named_is_taken_alone_whatever_the_recipe_chooses(tmp_path: Path) -> None:
    write_nifti(tmp_path / "a.nii", VOLUME)
    found, rows = expand_slices(listed(tmp_path, "a.nii#009", "a.nii#2"), Data(slices=(0.4, 0.5)))
    assert found.path.tolist() == ["a.nii#009", "a.nii#002"]
    assert rows.tolist() == [0, 1]


def test_a_slice_that_is_not_there(tmp_path: Path) -> None:
    write_nifti(tmp_path / "a.nii", VOLUME)
    found, _ = expand_slices(listed(tmp_path, "a.nii#010", "a.nii#009"), Data())
    assert found.path.tolist() == ["a.nii#009"]
    assert found.unused == (("a.nii#010", "there is no such slice; the last of the file is #009"),)


def test_expanding_again_changes_nothing(tmp_path: Path) -> None:
    write_nifti(tmp_path / "a.nii", VOLUME)
    write_dicom(tmp_path / "b", FRAME)
    once, _ = expand_slices(listed(tmp_path, "a.nii", "b"), Data(every=3))
    twice, rows = expand_slices(once, Data(every=3))
    assert twice.path.tolist() == once.path.tolist()
    assert rows.tolist() == list(range(len(once)))
    assert {n: v.tolist() for n, v in twice.groups.items()} == {n: v.tolist() for n, v in once.groups.items()}


@pytest.mark.parametrize("paths", [("a.nii", "a.nii#003"), ("a.nii#3", "a.nii#003")])
def test_a_scan_under_two_names(tmp_path: Path, paths: tuple[str, ...]) -> None:
    write_nifti(tmp_path / "a.nii", VOLUME)
    with pytest.raises(DataError, match=r"1 scans are listed more than once \(a.nii#003\)"):
        expand_slices(listed(tmp_path, *paths), Data())


def test_what_the_listing_knows_goes_with_every_slice(tmp_path: Path) -> None:
    write_nifti(tmp_path / "a.nii", VOLUME[:, :, :2])
    write_nifti(tmp_path / "b.nii", VOLUME[:, :, :1])
    known = listed(
        tmp_path,
        "a.nii",
        "b.nii",
        subject=np.array(["p", "q"]),
        subject_source="column subject",
        groups={"site": np.array(["north", "south"])},
        text=np.array(["one", "two"]),
        given=np.array(["train", "test"]),
    )
    found, rows = expand_slices(known, Data())
    assert found.path.tolist() == ["a.nii#000", "a.nii#001", "b.nii"]
    assert rows.tolist() == [0, 0, 1]
    assert found.subject is not None
    assert found.text is not None
    assert found.given is not None
    assert found.subject.tolist() == ["p", "p", "q"]
    assert found.groups["site"].tolist() == ["north", "north", "south"]
    assert found.text.tolist() == ["one", "one", "two"]
    assert found.given.tolist() == ["train", "train", "test"]


# --- DICOM ---


def test_headers_become_columns_and_subjects(tmp_path: Path) -> None:
    write_dicom(tmp_path / "one", FRAME, SliceLocation=1, Modality="CT")
    write_dicom(tmp_path / "two", FRAME, SliceLocation=2, Modality="CT")
    write_dicom(tmp_path / "three", FRAME, PatientID="another", StudyInstanceUID="1.2.3")
    found, _ = expand_slices(listed(tmp_path, "one", "two", "three"), Data())
    assert found.subject is not None
    mine, same, other = found.subject.tolist()
    assert mine == same != other
    assert found.subject_source == header_subjects.HEADER
    assert found.groups["modality"].tolist() == ["CT", "CT", "MR"]
    assert found.groups["position"].tolist() == ["1.00", "2.00", ""]
    assert found.groups["study"][0] == found.groups["study"][1] != found.groups["study"][2]
    assert len(set(found.groups["series"].tolist())) == 1


def test_frames_become_scans_each_with_its_columns(tmp_path: Path) -> None:
    write_dicom(tmp_path / "x", np.stack([FRAME, FRAME + 1]))
    found, _ = expand_slices(listed(tmp_path, "x"), Data())
    assert found.path.tolist() == ["x#000", "x#001"]
    assert found.subject is not None
    assert found.subject[0] == found.subject[1] != ""
    assert found.groups["modality"].tolist() == ["MR", "MR"]


def test_what_the_user_says_comes_before_the_header(tmp_path: Path) -> None:
    write_dicom(tmp_path / "x", FRAME)
    known = listed(
        tmp_path, "x", subject=np.array(["p"]), subject_source="column who", groups={"modality": np.array(["T1"])}
    )
    found, _ = expand_slices(known, Data())
    assert found.subject is not None
    assert (found.subject.tolist(), found.subject_source) == (["p"], "column who")
    assert found.groups["modality"].tolist() == ["T1"]
    assert "study" in found.groups


def test_files_without_suffix_beside_junk(tmp_path: Path) -> None:
    write_dicom(tmp_path / "IM0001", FRAME)
    (tmp_path / "notes").write_text("x")
    made = dataset(FRAME)
    del made.PixelData
    made.save_as(tmp_path / "report", enforce_file_format=True)
    Image.fromarray(FRAME.astype(np.uint8)).save(tmp_path / "picture", "PNG")
    found, _ = expand_slices(listed(tmp_path, "IM0001", "notes", "report", "gone", "picture"), Data())
    assert found.path.tolist() == ["IM0001", "picture"]
    assert dict(found.unused) == {
        "notes": "not an image in a format that scanwise reads (a text file)",
        "report": "a DICOM file without pixels (modality MR)",
        "gone": "cannot be opened: No such file or directory",
    }


def test_no_key_is_made_where_no_header_needs_one(
    tmp_path: Path, scans: Scans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SCANWISE_KEY")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    write_nifti(tmp_path / "scans" / "a.nii", VOLUME)
    expand_slices(listed(scans.add("b.png"), "a.nii", "b.png"), Data())
    assert not pseudonyms.key_file().exists()
    write_dicom(tmp_path / "scans" / "c", FRAME)
    expand_slices(listed(scans.root, "c"), Data())
    assert pseudonyms.key_file().exists()


def test_headers_are_read_and_pixels_are_not(tmp_path: Path) -> None:
    """A sparse file of gigabytes is opened at once."""
    write_dicom(tmp_path / "x", FRAME)
    with (tmp_path / "x").open("r+b") as file:
        file.truncate(2**33)
    found, _ = expand_slices(listed(tmp_path, "x"), Data())
    assert found.path.tolist() == ["x"]


def test_names_of_a_file_are_those_of_its_listing(tmp_path: Path) -> None:
    def names(file: Path) -> list[str]:
        return [str(scan) for scan, _ in slice_expansion.scans_of(file, settings)]

    write_nifti(tmp_path / "a.nii", VOLUME)
    settings = Data(axis="coronal", every=3)
    found, _ = expand_slices(listed(tmp_path, "a.nii"), settings)
    assert names(tmp_path / "a.nii") == [str(tmp_path / path) for path in found.path.tolist()]
    assert names(tmp_path / "a.nii#004") == [str(tmp_path / "a.nii#004")]
    assert names(tmp_path / "gone") == [str(tmp_path / "gone")]
    assert names(tmp_path / "a.png") == [str(tmp_path / "a.png")]


@pytest.mark.parametrize("name", ["a file.nii", "脳.nii", "new\nline.nii", "a#b.nii", "a#1.nii"])
def test_names_of_every_kind(tmp_path: Path, name: str) -> None:
    write_nifti(tmp_path / name, VOLUME[:, :, :2])
    found, _ = expand_slices(listed(tmp_path, name), Data(size=16))
    assert found.path.tolist() == [f"{name}#000", f"{name}#001"]
    assert all(
        isinstance(readers.read_file(tmp_path / p, Data(size=16)), readers.DecodedScan) for p in found.path.tolist()
    )


def test_nothing_of_a_person_is_in_a_listing(tmp_path: Path) -> None:
    write_dicom(tmp_path / "x", FRAME)
    told = repr(expand_slices(listed(tmp_path, "x"), Data()))
    assert not any(value in told for value in NAMES.values())
    assert os.environ["SCANWISE_KEY"] not in told
