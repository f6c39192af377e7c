"""Masks, thumbnails and what systems leave behind are no scans and no classes; each is listed with the reason."""

from pathlib import Path

import pytest
from cohort_scans import Scans

from scanwise.cohort import layouts
from scanwise.cohort.layouts import set_aside


def reasons(root: Path) -> dict[str, str]:
    return dict(layouts.discover_scans(root).unused)


@pytest.mark.parametrize(
    "made", ["a_mask.png", "a-mask.png", "a mask.png", "a_mask_1.png", "a_Mask.PNG", "mask_a.png", "a_seg.png", "a_gt.png",
             "a_segmentation.png", "a_label.png", "thumb_a.png", "a_thumbnail.jpg", "a_overlay.png", "a.mask.png", "a_roi2.png",
             "a_lbl.png", "a_annot.png", "a_lesion_mask.png", "a_left_mask.png", "a_manual1.png", "a_bbox.png", "a_superpixels.png"],
)  # fmt: skip
def test_a_picture_made_of_another_one_beside_it_is_set_aside(scans: Scans, made: str) -> None:
    root = scans.add("benign/a.png", f"benign/{made}", "malignant/b.png")
    found = layouts.discover_scans(root)
    assert found.path.tolist() == ["benign/a.png", "malignant/b.png"]
    assert "made of a.png, which is beside it" in dict(found.unused)[f"benign/{made}"]


def test_the_names_of_a_public_set_of_ultrasound(scans: Scans) -> None:
    names = [
        "benign (1).png",
        "benign (1)_mask.png",
        "benign (1)_mask_1.png",
        "benign (10).png",
        "benign (10)_mask.png",
    ]
    root = scans.add(*(f"benign/{name}" for name in names), "normal/normal (1).png", "normal/normal (1)_mask.png")
    assert layouts.discover_scans(root).path.tolist() == [
        "benign/benign (1).png",
        "benign/benign (10).png",
        "normal/normal (1).png",
    ]


def test_pictures_whose_origin_is_not_there_are_scans(scans: Scans) -> None:
    root = scans.add("with_mask/1_mask.png", "with_mask/2_mask.png", "without_mask/1.png", "without_mask/maskless.png")
    found = layouts.discover_scans(root)
    assert len(found) == 4
    assert found.unused == ()


def test_segmentations_of_volumes_are_set_aside(scans: Scans) -> None:
    files = ["case_1_t1.nii.gz", "case_1_flair.nii.gz", "case_1_seg.nii.gz", "case_10_t1.nii.gz", "case_10_seg.nii"]
    root = scans.add(*(f"HGG/{name}" for name in files), "LGG/x.nii.gz", "LGG/x_mask.nii.gz")
    found = layouts.discover_scans(root)
    assert {path for path, _ in found.unused} == {"HGG/case_1_seg.nii.gz", "HGG/case_10_seg.nii", "LGG/x_mask.nii.gz"}


@pytest.mark.parametrize("masks", ["masks", "Mask", "labels", "ground_truth", "Segmentations", "annotations"])
@pytest.mark.parametrize("images", ["images", "Image", "scans"])
def test_folders_of_masks_beside_images_are_set_aside(scans: Scans, images: str, masks: str) -> None:
    root = scans.add(
        *(f"{name}/{kind}/{n}.png" for name in ("COVID", "Normal") for kind in (images, masks) for n in "12")
    )
    found = layouts.discover_scans(root)
    assert found.label.tolist() == ["COVID", "COVID", "Normal", "Normal"]
    assert {path for path, _ in found.unused} == {
        f"{name}/{masks}/{n}.png" for name in ("COVID", "Normal") for n in "12"
    }


def test_masks_above_the_classes_are_set_aside(scans: Scans) -> None:
    root = scans.add(
        *(f"{kind}/{name}/{n}.png" for name in ("tumor", "cyst") for kind in ("images", "masks") for n in "12")
    )
    found = layouts.discover_scans(root)
    assert set(found.label.tolist()) == {"tumor", "cyst"}
    assert len(found) == 4


def test_classes_that_are_called_masks_are_classes(scans: Scans) -> None:
    root = scans.add("mask/1.png", "no mask/1.png", "labels/2.png")
    assert set(layouts.discover_scans(root).label.tolist()) == {"mask", "no mask", "labels"}


@pytest.mark.parametrize(
    "folder",
    [
        "@eaDir",
        "$RECYCLE.BIN",
        "lost+found",
        "__pycache__",
        "System Volume Information",
        "#recycle",
        "thumbnails",
        "FOUND.000",
    ],
)
@pytest.mark.parametrize("place", ["", "tumor/", "tumor/p1/"])
def test_folders_of_systems_are_no_classes_and_listed(scans: Scans, place: str, folder: str) -> None:
    root = scans.add("tumor/p1/1.png", "tumor/2.png", "tumor/p2/x/3.png", "cyst/1.png", f"{place}{folder}/deep/1.png")
    if folder == "thumbnails" and place == "tumor/p1/":
        return  # beside files alone it is a folder like others
    found = layouts.discover_scans(root)
    assert set(found.label.tolist()) == {"tumor", "cyst"}
    assert len(found) == 4
    assert [path for path, _ in found.unused] in ([f"{place}{folder}"], [f"{place}{folder}/deep/1.png"])


def test_a_wrapping_folder_beside_system_folders_is_stepped_into(scans: Scans) -> None:
    root = scans.classes(prefix="wrap/")
    scans.add("@eaDir/x.png", "lost+found/y.png")
    assert set(layouts.discover_scans(root).label.tolist()) == {"NonDemented", "MildDemented"}


def test_system_files_are_listed_as_such(scans: Scans) -> None:
    root = scans.classes()
    for name in ("Thumbs.db", "desktop.ini"):
        (root / "NonDemented" / name).write_bytes(b"x")
    assert set(reasons(root).values()) == {"a file of the system, no scan"}


def test_masks_are_set_aside_where_a_folder_is_predicted_too(scans: Scans) -> None:
    root = scans.add("x/a.png", "x/a_mask.png", "x/@eaDir/b.png")
    found = layouts.list_unlabelled([root / "x"], None)
    assert found.path.tolist() == [str(root / "x" / "a.png")]
    assert {path for path, _ in found.unused} == {str(root / "x" / "a_mask.png"), str(root / "x" / "@eaDir")}


def test_many_files_of_one_folder_are_compared_once() -> None:
    names = [f"{number}.png" for number in range(3000)] + [f"{number}_mask.png" for number in range(3000)]
    assert set_aside.derived_files(names) == {f"{number}_mask.png": f"{number}.png" for number in range(3000)}


@pytest.mark.parametrize(
    "name", ["Network Trash Folder", "Temporary Items", "@SynoResource", "thumbs", "ipynb_checkpoints"]
)
def test_what_systems_leave_is_no_class(scans: Scans, name: str) -> None:
    root = scans.add("benign/1.png", "malignant/1.png", f"{name}/1.png")
    found = layouts.discover_scans(root)
    assert found.label.tolist() == ["benign", "malignant"]
    assert any(path.startswith(name) for path, _ in found.unused)
