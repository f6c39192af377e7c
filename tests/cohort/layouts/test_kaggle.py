"""The trees of Kaggle are known by their shape alone."""

from pathlib import Path

import numpy as np
import pytest
from cohort_scans import Scans
from PIL import Image

from scanwise import cohort
from scanwise.cohort import layouts, splits
from scanwise.cohort.layouts import kaggle
from scanwise.recipe import Recipe, SplitSection

RECIPE = Recipe.model_validate({"name": "a", "data": {"size": 16}})
CLASSES = ("MildDemented", "ModerateDemented", "NonDemented", "VeryMildDemented")


def told(found: layouts.Listing) -> dict[str, tuple[str, str]]:
    assert found.given is not None
    return dict(zip(found.path.tolist(), zip(found.label.tolist(), found.given.tolist(), strict=True), strict=True))


# --- augmented and original Alzheimer ---


@pytest.mark.parametrize("prefix", ["", "wrap/", "versions/1/"])
def test_the_augmented_scans_are_learnt_from_and_the_original_ones_are_the_test(scans: Scans, prefix: str) -> None:
    for name in CLASSES:
        scans.add(*(f"{prefix}AugmentedAlzheimerDataset/{name}/{index}.jpg" for index in range(5)))
        scans.add(*(f"{prefix}OriginalDataset/{name}/{index}.jpg" for index in range(2)))
    found = layouts.discover_scans(scans.root)
    assert len(found) == 28
    assert told(found)["AugmentedAlzheimerDataset/NonDemented/0.jpg"] == ("NonDemented", "train")
    assert told(found)["OriginalDataset/MildDemented/1.jpg"] == ("MildDemented", "test")


def test_the_published_protocol_takes_a_fifth_for_validation(scans: Scans) -> None:
    for name in CLASSES:
        scans.add(*(f"AugmentedAlzheimerDataset/{name}/{index}.jpg" for index in range(10)))
        scans.add(*(f"OriginalDataset/{name}/{index}.jpg" for index in range(5)))
    intake = cohort.read_cohort(str(scans.root), RECIPE)
    section = SplitSection.model_validate(
        {"protocols": ["published"], "published": {"by": "folders", "validation": 0.2}}
    )
    (split,) = splits.make_splits(intake.cohort, section, 0)
    counts = {side: len(split.rows(side)) for side in ("train", "validation", "test")}
    assert counts == {"train": 32, "validation": 8, "test": 20}
    original = np.char.startswith(intake.cohort.path, "OriginalDataset")
    assert ((split.side == "test") == original).all()


# --- multimodal stroke ---


def stroke_tree(scans: Scans, prefix: str = "deep/") -> Path:
    for name in ("1- Stroke", "2- Control"):
        scans.add(*(f"{prefix}train/{name}/{index}.png" for index in range(6)))
    for name in ("strokeBT", "strokeMR", "normalBT", "normalMR"):
        scans.add(*(f"{prefix}test/{name}/{index}.png" for index in range(2)))
    return scans.root


@pytest.mark.parametrize("prefix", ["deep/", "", "versions/1/deep/"])
def test_stroke_labels_are_one_and_the_modality_is_a_column(scans: Scans, prefix: str) -> None:
    root = stroke_tree(scans, prefix)
    if prefix == "deep/":
        (root / "readme.txt").write_text("x")  # then `deep` is not the only entry
    found = layouts.discover_scans(root)
    assert set(found.label.tolist()) == {"stroke", "normal"}
    by_path = dict(zip(found.path.tolist(), found.groups["modality"].tolist(), strict=True))
    assert by_path["train/1- Stroke/0.png"] == ""
    assert by_path["test/normalMR/1.png"] == "MR"
    assert by_path["test/strokeBT/0.png"] == "BT"
    assert told(found)["train/2- Control/0.png"] == ("normal", "train")
    assert told(found)["test/normalBT/0.png"] == ("normal", "test")
    assert told(found)["test/strokeMR/0.png"] == ("stroke", "test")


def test_stroke_becomes_a_cohort_of_a_known_scale(scans: Scans) -> None:
    intake = cohort.read_cohort(str(stroke_tree(scans)), RECIPE)
    assert intake.cohort.classes == ("normal", "stroke")
    assert sorted(set(intake.cohort.groups["modality"].tolist())) == ["", "BT", "MR"]


def test_other_trees_of_train_and_test_are_not_taken_for_it(scans: Scans) -> None:
    root = scans.add("train/stroke/a.png", "train/normal/a.png", "test/stroke/b.png", "test/normal/b.png")
    assert kaggle.stroke_tree(root) is None
    assert layouts.discover_scans(root).groups == {}


def test_the_shared_stroke_folder_is_one_of_classes(shared: Path) -> None:
    found = layouts.discover_scans(shared / "stroke", r"^\w+/(\d+) ")
    assert sorted(set(found.label.tolist())) == ["Normal", "Stroke"]
    assert len(found) == 2023
    assert found.given is None


# --- fashion ---

HEADER = "id,gender,masterCategory,subCategory,articleType,baseColour,season,year,usage,productDisplayName"


def fashion(root: Path, *rows: str, images: tuple[str, ...] = ("1", "2", "3")) -> Path:
    (root / "images").mkdir(parents=True)
    for name in images:
        pixels = np.random.default_rng(int(name)).integers(0, 256, (20, 20, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{name}.jpg", "JPEG")
    (root / "styles.csv").write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")
    return root


GOOD = (
    "1,Men,Apparel,Topwear,Shirts,Blue,Fall,2011,Casual,Blue shirt",
    "2,Women,Footwear,Shoes,Heels,Red,Summer,2012,Formal,Red heels",
    "3,Men,Apparel,Topwear,Shirts,Grey,Fall,2011,,Grey shirt",
)


@pytest.mark.parametrize("name", ["", "styles.csv"])
def test_the_title_is_the_text_and_the_product_the_subject(tmp_path: Path, name: str) -> None:
    found = layouts.discover_scans(fashion(tmp_path / "data", *GOOD) / name)
    assert found.path.tolist() == ["images/1.jpg", "images/2.jpg", "images/3.jpg"]
    assert found.label.tolist() == ["Shirts", "Heels", "Shirts"]
    assert found.text is not None
    assert found.text.tolist() == ["Blue shirt", "Red heels", "Grey shirt"]
    assert found.subject is not None
    assert found.subject.tolist() == ["1", "2", "3"]
    assert found.groups["usage"].tolist() == ["Casual", "Formal", ""]
    assert not any(value.endswith(".jpg") for values in found.groups.values() for value in values.tolist())


@pytest.mark.parametrize(
    ("title", "read"),
    [
        ("Red, green, and blue", "Red, green, and blue"),
        ('"Red, green"', "Red, green"),
        ('19" bag', '19" bag'),
        ('"Unended', '"Unended'),
        ('"He said ""no"""', 'He said "no"'),
        ("", ""),
    ],
)
def test_commas_and_quotes_that_belong_to_the_title(tmp_path: Path, title: str, read: str) -> None:
    row = "2,Women,Footwear,Shoes,Heels,Red,Summer,2012,Formal," + title
    found = layouts.discover_scans(fashion(tmp_path / "data", GOOD[0], row, GOOD[2]))
    assert found.text is not None
    assert found.text.tolist() == ["Blue shirt", read, "Grey shirt"]


def test_rows_and_images_that_do_not_fit_are_told(tmp_path: Path) -> None:
    rows = (
        *GOOD,
        "4,Men,Apparel",
        GOOD[0],
        "x,Men,A,B,Shirts,C,D,E,F,G",
        "5,Men,A,B,,C,D,E,F,G",
        "",
        "7" + GOOD[1][1:],
    )
    root = fashion(tmp_path / "data", *rows, images=("1", "2", "3", "6"))
    found = layouts.discover_scans(root)
    assert found.path.tolist() == ["images/1.jpg", "images/2.jpg", "images/3.jpg", "images/7.jpg"]
    assert dict(found.unused) == {
        "styles.csv, line 5": "has 3 values, expected 10",
        "styles.csv, line 6": "the product 1 is listed twice",
        "styles.csv, line 7": "has no id or no articleType",
        "styles.csv, line 8": "has no id or no articleType",
        "images/6.jpg": "no row in styles.csv",
    }
    intake = cohort.read_cohort(str(root), RECIPE)
    assert dict(intake.quarantine)["images/7.jpg"] == "cannot be opened: No such file or directory"
    assert len(intake.cohort) == 3


def test_subjects_by_another_column_or_pattern(tmp_path: Path) -> None:
    root = fashion(tmp_path / "data", *GOOD)
    found = layouts.discover_scans(root, "baseColour")
    assert found.subject is not None
    assert found.subject.tolist() == ["Blue", "Red", "Grey"]
    found = layouts.discover_scans(root, r"(\d+)\.jpg")
    assert found.subject is not None
    assert found.subject.tolist() == ["1", "2", "3"]


def test_a_table_of_that_name_and_other_columns_is_a_manifest(scans: Scans) -> None:
    file = scans.manifest({"path": ["a.png", "b.png"], "label": ["x", "y"]}, "styles.csv")
    assert layouts.discover_scans(file).label.tolist() == ["x", "y"]


def test_the_shared_fashion_photos(shared: Path) -> None:
    found = layouts.discover_scans(shared / "fashion")
    assert len(found) == 8025
    assert len(set(found.label.tolist())) == 75
    assert found.unused == ()
    assert found.text is not None
    assert (found.text != "").all()
