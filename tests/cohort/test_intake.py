"""From a folder to a cohort and its pixels, with everything that a reader must know about the data."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from cohort_scans import Scans
from PIL import Image

from medical_files import dataset, write_dicom, write_nifti
from scanwise import cohort
from scanwise.cohort import splits
from scanwise.cohort.decoding import nifti, readers
from scanwise.errors import DataError
from scanwise.recipe import Recipe, SplitSection
from scanwise.records import Cohort

RECIPE = Recipe.model_validate({"name": "a", "data": {"size": 16}})
RANDOM = np.random.default_rng(0)


def checks(intake: cohort.LoadedCohort) -> set[str]:
    return {finding.check for finding in intake.findings}


def in_step(intake: cohort.LoadedCohort, root: Path) -> None:
    """Each row of the cohort is the row of the store, and the file that it names."""
    assert len(intake.cohort) == len(intake.store)
    for row, path in enumerate(intake.cohort.path.tolist()):
        scan = readers.read_scan((root / path).read_bytes(), RECIPE.data)
        np.testing.assert_array_equal(intake.store.read([row])[0], scan.pixels)
        assert intake.cohort.sha256[row] == scan.sha256
        assert intake.cohort.pixels[row] == scan.digest


def test_a_folder_becomes_a_cohort(scans: Scans) -> None:
    root = scans.classes(["NonDemented", "MildDemented"], each=3)
    intake = cohort.read_cohort(str(root), RECIPE)
    assert intake.cohort.classes == ("NonDemented", "MildDemented")
    assert intake.cohort.labels.tolist() == [1, 1, 1, 0, 0, 0]
    assert intake.cohort.root == str(root)
    assert intake.quarantine == ()
    in_step(intake, root)


def test_unreadable_files_are_listed_and_the_rest_goes_on(scans: Scans) -> None:
    root = scans.classes(each=4)
    (root / "NonDemented" / "a.png").write_bytes(b"")
    (root / "NonDemented" / "s0x.png").write_text("notes")
    (root / "MildDemented" / "Thumbs.db").write_bytes(b"\xd0\xcf")
    (root / "loose.png").write_bytes(b"x")
    whole = (root / "MildDemented" / "s1.png").read_bytes()
    (root / "MildDemented" / "s1.png").write_bytes(whole[:-40])
    intake = cohort.read_cohort(str(root), RECIPE)
    told = dict(intake.quarantine)
    assert set(told) == {
        "NonDemented/a.png",
        "NonDemented/s0x.png",
        "MildDemented/Thumbs.db",
        "MildDemented/s1.png",
        "loose.png",
    }
    assert "0 bytes" in told["NonDemented/a.png"]
    assert "truncated" in told["MildDemented/s1.png"]
    assert len(intake.cohort) == 7
    assert "cohort.quarantine" in checks(intake)
    in_step(intake, root)


def test_a_missing_file_of_a_manifest_is_listed(scans: Scans) -> None:
    scans.add("a.png", "b.png", "c.png")
    file = scans.manifest(
        {
            "path": ["a.png", "gone.png", "b.png", "c.png"],
            "label": ["x", "x", "y", "y"],
            "subject": ["1", "2", "3", "4"],
            "site": ["n", "n", "s", ""],
            "text": ["t", "", "", "u"],
        }
    )
    intake = cohort.read_cohort(str(file), RECIPE)
    assert intake.quarantine == (("gone.png", "cannot be opened: No such file or directory"),)
    assert intake.cohort.subject.tolist() == ["1", "3", "4"]
    assert intake.cohort.groups["site"].tolist() == ["n", "s", ""]
    assert intake.cohort.text is not None
    assert intake.cohort.text.tolist() == ["t", "", "u"]
    assert intake.cohort.subjects_known
    assert "cohort.subjects" not in checks(intake)
    in_step(intake, scans.root)


def test_without_subjects_each_scan_stands_for_itself_and_copies_are_one(scans: Scans) -> None:
    root = scans.classes(each=8)
    shutil.copy(root / "NonDemented" / "s0.png", root / "NonDemented" / "s0-copy.png")
    intake = cohort.read_cohort(str(root), RECIPE)
    assert not intake.cohort.subjects_known
    assert "cohort.subjects" in checks(intake)
    who = dict(zip(intake.cohort.path.tolist(), intake.cohort.subject.tolist(), strict=True))
    assert who["NonDemented/s0.png"] == who["NonDemented/s0-copy.png"]
    assert len(set(who.values())) == 16
    for split in splits.make_splits(intake.cohort, SplitSection(folds=3), 0):
        assert splits.check_split(intake.cohort, split) == []


def test_who_knows_that_each_file_is_of_another_subject_can_say_so(scans: Scans) -> None:
    """As the remark on unknown subjects advises."""
    root = scans.classes(each=8)
    (remark,) = [
        finding.message
        for finding in cohort.read_cohort(str(root), RECIPE).findings
        if finding.check == "cohort.subjects"
    ]
    pattern = remark.rpartition("--subject '")[2].removesuffix("'.")
    intake = cohort.read_cohort(str(root), RECIPE, pattern)
    assert intake.cohort.subjects_known
    assert len(set(intake.cohort.subject.tolist())) == 16


def test_slices_of_one_file_are_of_one_person_though_nobody_is_known(scans: Scans) -> None:
    for label in "xy":
        for index in range(3):
            pages = [Image.fromarray(RANDOM.integers(0, 256, (20, 20), dtype=np.uint8)) for _ in range(4)]
            (scans.root / label).mkdir(parents=True, exist_ok=True)
            pages[0].save(scans.root / label / f"{index}.tif", save_all=True, append_images=pages[1:])
    scans.add("x/#1", "x/#2")  # two files that are really called so
    intake = cohort.read_cohort(str(scans.root), RECIPE)
    assert len(intake.cohort) == 26
    assert not intake.cohort.subjects_known
    files = [path.partition(".tif")[0] for path in intake.cohort.path.tolist()]
    assert len(set(zip(files, intake.cohort.subject.tolist(), strict=True))) == 8 == len(set(files))


def test_labels_that_the_recipe_leaves_out_are_not_even_decoded(scans: Scans) -> None:
    root = scans.classes(["tumor", "cyst", "artefact"])
    (root / "artefact" / "s0.png").write_bytes(b"")
    recipe = Recipe.model_validate({"name": "a", "data": {"size": 16}, "classes": {"mass": "tumor", "cyst": "cyst"}})
    intake = cohort.read_cohort(str(root), recipe)
    assert intake.cohort.classes == ("mass", "cyst")
    assert intake.quarantine == ()
    assert len(intake.cohort) == 6
    assert "cohort.labels" in checks(intake)
    in_step(intake, root)


def test_classes_without_an_order_are_said_to_have_none(scans: Scans) -> None:
    intake = cohort.read_cohort(str(scans.classes(["tumor", "cyst", "edema"])), RECIPE)
    assert not intake.cohort.ordered
    assert "cohort.order" in checks(intake)


def test_a_class_of_which_nothing_can_be_read(scans: Scans) -> None:
    root = scans.classes()
    for file in (root / "NonDemented").iterdir():
        file.write_bytes(b"")
    with pytest.raises(DataError, match=r"No scan of the class 'NonDemented' can be read \(3 × the file is empty"):
        cohort.read_cohort(str(root), RECIPE)


def test_nothing_that_can_be_read(scans: Scans) -> None:
    root = scans.classes()
    for file in root.rglob("*.png"):
        file.write_bytes(b"")
    with pytest.raises(DataError, match=r"None of the 6 files .* can be read \(6 × the file is empty \(0 bytes\)\)"):
        cohort.read_cohort(str(root), RECIPE)


def test_one_class(scans: Scans) -> None:
    with pytest.raises(DataError, match="one class"):
        cohort.read_cohort(str(scans.classes(["NonDemented"])), RECIPE)


def test_a_cohort_with_odd_names_can_be_saved_and_read(scans: Scans, tmp_path: Path) -> None:
    root = scans.add("脳 a/new\nline.png", "脳 a/b.png", "ü/c.png", "ü/d.png")
    Path(str(root) + "/ü/\udcff.png").write_bytes(b"x")
    intake = cohort.read_cohort(str(root), RECIPE)
    intake.cohort.save(tmp_path / "cohort.parquet")
    assert Cohort.load(tmp_path / "cohort.parquet").path.tolist() == intake.cohort.path.tolist()
    "".join(path for path, _ in intake.quarantine).encode()


def test_folders_that_differ_in_a_sign_are_classes_and_merged_ones_are_said(scans: Scans) -> None:
    vessels = ["normal", "1-vessel", "2-vessel", "3-vessel"]
    intake = cohort.read_cohort(str(scans.classes(vessels)), RECIPE)
    assert sorted(intake.cohort.classes) == sorted(vessels)
    assert np.bincount(intake.cohort.labels).tolist() == [3] * 4
    assert "cohort.merged" not in checks(intake)
    scans.classes(["Normal", "nor_mal"])
    intake = cohort.read_cohort(str(scans.root), RECIPE)
    assert len(intake.cohort.classes) == 4
    (merged,) = [finding for finding in intake.findings if finding.check == "cohort.merged"]
    assert "'Normal' and 'nor_mal' and 'normal' as 'Normal'" in merged.message


def test_one_name_in_two_forms_of_unicode_is_one_class_and_one_person(scans: Scans) -> None:
    """A Mac writes decomposed letters, everybody else composed ones."""
    names = ("Démence/Müller", "De\u0301mence/Mu\u0308ller", "sain/a", "sain/b")
    scans.add(*(f"{name}/{index}.png" for name in names for index in range(2)))
    intake = cohort.read_cohort(str(scans.root), RECIPE, r"/([^/]+)/")
    assert intake.cohort.classes == ("Démence", "sain")
    assert set(intake.cohort.subject.tolist()) == {"Müller", "a", "b"}
    assert any("signs that are not seen) are one each: Démence" in finding.message for finding in intake.findings)
    in_step(intake, scans.root)


def test_subjects_that_hardly_differ_are_counted(scans: Scans) -> None:
    root = scans.add("x/p01-a.png", "x/P1-a.png", "y/p2-a.png", "y/p3-a.png")
    intake = cohort.read_cohort(str(root), RECIPE, r"/(.+)-a")
    assert any("2 subjects differ from another only in case" in finding.message for finding in intake.findings)


def test_a_gap_in_a_column_is_no_group_and_whole_floats_are_integers(scans: Scans) -> None:
    scans.add("a.png", "b.png", "c.png")
    file = scans.manifest(
        {
            "path": ["a.png", "b.png", "c.png"],
            "label": ["x", "y", "y"],
            "subject": ["5.0", "6.0", "5"],
            "site": ["#N/A", "n", "null"],
        }
    )
    intake = cohort.read_cohort(str(file), RECIPE)
    assert intake.cohort.subject.tolist() == ["5", "6", "5"]
    assert intake.cohort.groups["site"].tolist() == ["", "n", ""]


# --- DICOM and volumes ---

VOLUME = np.random.default_rng(0).integers(0, 1000, (12, 14, 6)).astype(np.int16)


def hospital(root: Path, people: int = 4) -> Path:
    """Class folders of DICOM without suffix, two files a person, with a report and notes among them."""
    random = np.random.default_rng(1)
    for label in ("NonDemented", "MildDemented"):
        for person in range(people):
            tags = {"PatientID": f"HOSP-{label}-{person}", "StudyInstanceUID": f"1.2.{len(label)}.{person}"}
            for number in range(2):
                frame = random.integers(0, 4096, (20, 16)).astype(np.uint16)
                write_dicom(root / label / f"E{person}" / f"IM{number}", frame, SliceLocation=number, **tags)
    (root / "NonDemented" / "notes.txt").write_text("x")
    report = dataset(np.zeros((2, 2), np.uint8))
    del report.PixelData
    report.save_as(root / "NonDemented" / "SR001", enforce_file_format=True)
    whole = (root / "MildDemented" / "E0" / "IM0").read_bytes()
    (root / "MildDemented" / "cut").write_bytes(whole[:-200])
    return root


def test_a_folder_of_dicom_and_junk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCANWISE_KEY", "a key")
    intake = cohort.read_cohort(str(hospital(tmp_path / "data")), RECIPE)
    assert len(intake.cohort) == 16
    assert len(set(intake.cohort.subject.tolist())) == 8
    assert intake.cohort.subjects_known
    assert set(intake.cohort.groups) == {"study", "modality", "series", "position"}
    told = dict(intake.quarantine)
    assert set(told) == {"NonDemented/notes.txt", "NonDemented/SR001", "MildDemented/cut"}
    assert "without pixels" in told["NonDemented/SR001"]
    assert "truncated" in told["MildDemented/cut"]
    for row, path in enumerate(intake.cohort.path.tolist()):
        scan = readers.read_file(tmp_path / "data" / path, RECIPE.data)
        assert isinstance(scan, readers.DecodedScan)
        np.testing.assert_array_equal(intake.store.read([row])[0], scan.pixels)
    for split in splits.make_splits(intake.cohort, SplitSection(), 0):
        assert splits.check_split(intake.cohort, split) == []


def test_a_header_that_names_nobody_leaves_nobody_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCANWISE_KEY", "a key")
    root = hospital(tmp_path / "data")
    write_dicom(root / "NonDemented" / "anonymous", np.arange(20, dtype=np.uint16).reshape(4, 5), PatientID="")
    intake = cohort.read_cohort(str(root), RECIPE)
    assert not intake.cohort.subjects_known
    (told,) = [finding.message for finding in intake.findings if finding.check == "cohort.subjects"]
    assert "1 of 17 scans have no PatientID" in told


def test_slices_of_a_volume_are_scans_of_their_own(tmp_path: Path) -> None:
    for name in ("x/a.nii.gz", "y/b.nii"):
        write_nifti(tmp_path / "data" / name, VOLUME)
    intake = cohort.read_cohort(str(tmp_path / "data"), RECIPE, r"([ab])\.nii")
    assert intake.cohort.path.tolist() == [f"{n}#{i:03d}" for n in ("x/a.nii.gz", "y/b.nii") for i in range(6)]
    assert intake.cohort.subject.tolist() == ["a"] * 6 + ["b"] * 6
    assert len(set(intake.cohort.sha256.tolist())) == 12
    assert len(set(intake.cohort.pixels.tolist())) == 6  # two copies of a volume are seen as such
    for row, path in enumerate(intake.cohort.path.tolist()):
        scan = readers.read_file(tmp_path / "data" / path, RECIPE.data)
        assert isinstance(scan, readers.DecodedScan)
        np.testing.assert_array_equal(intake.store.read([row])[0], scan.pixels)
        assert (intake.cohort.sha256[row], intake.cohort.pixels[row]) == (scan.sha256, scan.digest)


def test_a_slice_with_nan_is_named_and_the_others_are_used(tmp_path: Path) -> None:
    voxels = VOLUME.astype(np.float32)
    voxels[3, 3, 2] = np.nan
    write_nifti(tmp_path / "data" / "x" / "a.nii.gz", voxels)
    write_nifti(tmp_path / "data" / "y" / "b.nii.gz", VOLUME)
    intake = cohort.read_cohort(str(tmp_path / "data"), RECIPE)
    assert [path for path, _ in intake.quarantine] == ["x/a.nii.gz#002"]
    assert "NaN" in intake.quarantine[0][1]
    assert len(intake.cohort) == 11


def test_another_axis_makes_another_store(tmp_path: Path) -> None:
    for name in ("x/a.nii.gz", "y/b.nii"):
        write_nifti(tmp_path / "data" / name, VOLUME)
    counts = []
    for axis in ("axial", "coronal", "sagittal"):
        recipe = Recipe.model_validate({"name": "a", "data": {"size": 16, "axis": axis}})
        counts.append(len(cohort.read_cohort(str(tmp_path / "data"), recipe).cohort) // 2)
    assert counts == [6, 14, 12]


def test_a_volume_is_unpacked_once_for_all_its_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []
    decode = nifti.decode_nifti
    monkeypatch.setattr(nifti, "decode_nifti", lambda data, *more: opened.append(1) or decode(data, *more))
    for name in ("x/a.nii.gz", "y/b.nii"):
        write_nifti(tmp_path / "data" / name, VOLUME)
    cohort.read_cohort(str(tmp_path / "data"), RECIPE)
    assert len(opened) == 2
