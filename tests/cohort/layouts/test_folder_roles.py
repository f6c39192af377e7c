"""Which level of folders holds the classes: names decide, and where they do not, nothing is guessed."""

from itertools import product

import pytest
from cohort_scans import Scans

from scanwise import cohort
from scanwise.cohort import layouts
from scanwise.cohort.layouts import Listing
from scanwise.cohort.layouts.folder_roles import sides_of
from scanwise.errors import DataError
from scanwise.recipe import Recipe


def nested(scans: Scans, *levels: list[str], each: int = 2) -> Listing:
    """Scans in every folder of the product of some levels, listed."""
    for folders in product(*levels):
        scans.add(*("/".join([*folders, f"{'-'.join(folders)}-{number}.png"]) for number in range(each)))
    return layouts.discover_scans(scans.root)


def refusal(scans: Scans, *levels: list[str]) -> str:
    with pytest.raises(DataError) as caught:
        nested(scans, *levels)
    return str(caught.value)


CLASSES = ["cancer", "healthy"]


@pytest.mark.parametrize(("label", "said"), [("diagnosis", 1), ("", 0), ("folder 1", 0)])
def test_a_column_that_nothing_has_is_said(label: str, said: int, scans: Scans) -> None:
    scans.add("cancer/a.png", "healthy/b.png")
    remarks = [remark for remark in layouts.discover_scans(scans.root, label=label).remarks if "--patients" in remark]
    assert len(remarks) == said
    assert all("no table with the column 'diagnosis'" in remark for remark in remarks)


@pytest.mark.parametrize(
    ("tops", "sides"),
    [
        (["train_data", "test_data"], ["train", "test"]),
        (["train_set", "test_set"], ["train", "test"]),
        (["trainset", "testset"], ["train", "test"]),
        (["seg_train", "seg_test"], ["train", "test"]),
        (["training_set", "validation_set"], ["train", "validation"]),
        (["TrainingData", "ValidationData", "TestingData"], ["train", "validation", "test"]),
        (["train", "eval"], ["train", "test"]),
        (["train", "eval", "test"], ["train", "validation", "test"]),
        (["BraTS2020_Training", "BraTS2020_Validation"], ["train", "validation"]),
        (["chest-train", "chest-val", "chest-test"], ["train", "validation", "test"]),
        (["Train Images", "Test Images"], ["train", "test"]),
        (["images_train", "images_test"], ["train", "test"]),
        (["train1", "train2", "test"], ["train", "train", "test"]),
        (["dev", "train"], ["validation", "train"]),
        (["train", "hold-out test"], ["train", "test"]),
        (["train", "Held_Out"], ["train", "test"]),
    ],
)
def test_folders_that_are_called_sides_are_sides(scans: Scans, tops: list[str], sides: list[str]) -> None:
    found = nested(scans, tops, CLASSES)
    assert set(found.label.tolist()) == set(CLASSES)
    assert found.given is not None
    side_of = dict(zip(tops, sides, strict=True))
    assert found.given.tolist() == [side_of[path.split("/")[0]] for path in found.path.tolist()]
    assert found.unused == ()


@pytest.mark.parametrize(
    "names", [["cancer", "healthy"], ["valid", "invalid"], ["test", "control"], ["TR", "TS"], ["pretest", "posttest"]]
)
def test_classes_are_no_sides(scans: Scans, names: list[str]) -> None:
    assert sides_of(names) == {}
    found = nested(scans, names)
    assert (set(found.label.tolist()), found.given) == (set(names), None)


@pytest.mark.parametrize(
    ("tops", "column"),
    [
        (["fold_1", "fold_2"], "fold"),
        (["fold0", "fold1", "fold2"], "fold"),
        (["internal", "external"], "site"),
        (["internal_cohort", "external_cohort"], "cohort"),
        (["hospital_A", "hospital_B"], "hospital"),
        (["Site 1", "Site 2"], "site"),
        (["scanner-GE", "scanner-Siemens"], "scanner"),
    ],
)
def test_folders_that_are_called_sites_are_a_column(scans: Scans, tops: list[str], column: str) -> None:
    found = nested(scans, tops, CLASSES)
    assert set(found.label.tolist()) == set(CLASSES)
    assert found.given is None
    assert found.groups[column].tolist() == [path.split("/")[0] for path in found.path.tolist()]
    assert any("the folders inside them the classes" in remark for remark in found.remarks)


def test_a_whole_scale_inside_tells_that_the_upper_folders_are_none(scans: Scans) -> None:
    found = nested(scans, ["north", "south"], ["NonDemented", "MildDemented"])
    assert set(found.label.tolist()) == {"NonDemented", "MildDemented"}
    assert set(found.groups["folder"].tolist()) == {"north", "south"}


@pytest.mark.parametrize(
    ("tops", "inner"),
    [
        (["north", "south"], ["cancer", "healthy"]),
        (["A", "B", "C"], ["pos", "neg"]),
        (["cyst", "tumor"], ["0", "1"]),
        (["set 1", "set 2"], ["grade1", "grade2", "grade3"]),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused_with_both(scans: Scans, tops: list[str], inner: list[str]) -> None:
    said = refusal(scans, tops, inner)
    assert "not clear which are the classes" in said
    assert all(name in said for name in (*tops, *inner))
    below = layouts.discover_scans(scans.root, label="folder 2")
    assert set(below.label.tolist()) == set(inner)
    assert set(below.groups["folder"].tolist()) == set(tops)
    above = layouts.discover_scans(scans.root, label="folder 1")
    assert (set(above.label.tolist()), above.groups) == (set(tops), {})


@pytest.mark.parametrize("tops", [["Entrenamiento", "Prueba"], ["GE", "Siemens"]])
def test_so_is_what_holds_nearly_the_same_folders(scans: Scans, tops: list[str]) -> None:
    scans.add(*(f"{top}/{name}/1.png" for top in tops for name in ("cancer", "cyst")), f"{tops[0]}/healthy/1.png")
    with pytest.raises(
        DataError, match=f"{tops[0]}, {tops[1]}.* hold nearly the same folders, cancer, cyst, healthy, so"
    ):
        layouts.discover_scans(scans.root)


def test_classes_that_share_a_few_inner_folders_stay_classes(scans: Scans) -> None:
    scans.add("lung/old/1.png", "lung/new/1.png", "liver/old/1.png", "liver/late/1.png", "liver/early/1.png")
    assert set(layouts.discover_scans(scans.root).label.tolist()) == {"lung", "liver"}


@pytest.mark.parametrize(
    "inner",
    [
        ["p1", "p2", "p3"],
        ["patient_1", "patient_2"],
        ["E0", "E1"],
        [f"{number:03d}" for number in range(13)],
        ["CT", "MR"],
        ["T1", "T2", "FLAIR"],
        ["left", "right"],
        ["site1", "site2"],
    ],
)
def test_people_views_and_sites_inside_classes_are_no_classes(scans: Scans, inner: list[str]) -> None:
    found = nested(scans, CLASSES, inner)
    assert set(found.label.tolist()) == set(CLASSES)


def test_sides_inside_classes_are_sides(scans: Scans) -> None:
    found = nested(scans, CLASSES, ["train", "test"])
    assert set(found.label.tolist()) == set(CLASSES)
    assert found.given is not None
    assert found.given.tolist() == [path.split("/")[1] for path in found.path.tolist()]


def test_sites_above_sides_and_sides_above_sites(scans: Scans) -> None:
    found = nested(scans, ["internal", "external"], ["train", "test"], CLASSES)
    assert set(found.label.tolist()) == set(CLASSES)
    assert found.given is not None
    assert found.given.tolist() == [path.split("/")[1] for path in found.path.tolist()]
    assert found.groups["site"].tolist() == [path.split("/")[0] for path in found.path.tolist()]


def test_sides_above_sites(scans: Scans) -> None:
    found = nested(scans, ["train", "test"], ["site_1", "site_2"], CLASSES)
    assert set(found.label.tolist()) == set(CLASSES)
    assert found.given is not None
    assert set(found.given.tolist()) == {"train", "test"}
    assert set(found.groups["site"].tolist()) == {"site_1", "site_2"}


@pytest.mark.parametrize("wrapped", ["seg_train/seg_train seg_test/seg_test", "train/images test/images"])
def test_wrapping_folders_inside_sides_are_stepped_into(scans: Scans, wrapped: str) -> None:
    for side, name in product(wrapped.split(), CLASSES):
        scans.add(f"{side}/{name}/{name}{side.count('test')}.png")
    found = layouts.discover_scans(scans.root)
    assert set(found.label.tolist()) == set(CLASSES)
    assert found.given is not None
    assert set(found.given.tolist()) == {"train", "test"}


def test_sides_beside_other_folders_are_refused(scans: Scans) -> None:
    scans.add("extra/x.png")
    assert "beside others (extra)" in refusal(scans, ["train_data", "test_data"], CLASSES)


def test_a_level_that_is_not_there(scans: Scans) -> None:
    nested(scans, CLASSES)
    with pytest.raises(DataError, match=r"'folder 3'.* has 1 level of folders"):
        layouts.discover_scans(scans.root, label="folder 3")


# --- people in place of classes ---


@pytest.mark.parametrize(
    "names", [["patient_01", "patient_02", "patient_03"], ["P1", "P2", "P10"], ["sub 1", "sub 2", "sub 3"]]
)
def test_folders_that_are_called_patients_are_refused(scans: Scans, names: list[str]) -> None:
    nested(scans, names)
    with pytest.raises(DataError, match="3 folders look like patients and not like classes: their names say so"):
        cohort.read_cohort(str(scans.root), Recipe(name="a"))


@pytest.mark.parametrize("name", ["10{:03}", "TCGA-02-{:04}", "ADNI_{:03}_S_0295", "case{:05}"])
def test_many_folders_with_numbers_for_names_are_refused(scans: Scans, name: str) -> None:
    nested(scans, [name.format(7 * number) for number in range(20)], each=1)
    with pytest.raises(DataError, match="20 folders look like patients and not like classes: their names say so"):
        cohort.read_cohort(str(scans.root), Recipe(name="a"))


def test_folders_of_one_subject_each_are_refused_and_other_classes_are_not(scans: Scans) -> None:
    nested(scans, ["anna", "bert", "carl", "dora", "emil"], each=3)
    with pytest.raises(DataError, match=r"each holds one subject, and no subject is in two.*scanwise cohort DATA"):
        cohort.read_cohort(str(scans.root), Recipe(name="a"), r"^([^/]+)")
    recipe = Recipe.model_validate({"name": "a", "data": {"size": 16}})
    assert len(cohort.read_cohort(str(scans.root), recipe, r"(\d)\.png").cohort.classes) == 5
    assert len(cohort.read_cohort(str(scans.root), recipe).cohort.classes) == 5
    scans.add("anna/bert-9.png")  # a subject in two folders
    assert len(cohort.read_cohort(str(scans.root), recipe, r"([a-z]+)-\d").cohort.classes) == 5


def test_what_looks_like_people_may_be_chosen_as_classes(scans: Scans) -> None:
    nested(scans, ["p1", "p2", "p3"], each=3)
    recipe = Recipe.model_validate({"name": "a", "data": {"size": 16, "label": "folder 1"}})
    assert cohort.read_cohort(str(scans.root), recipe).cohort.classes == ("p1", "p2", "p3")


# --- class folders without scans ---


def test_class_folders_that_give_no_scan_are_named(scans: Scans) -> None:
    nested(scans, CLASSES)
    (scans.root / "empty").mkdir()
    (scans.root / "elsewhere").symlink_to(scans.root / "cancer")
    (scans.root / "only system").mkdir()
    (scans.root / "only system" / "Thumbs.db").write_bytes(b"x")
    (scans.root / "@eaDir").mkdir()
    found = layouts.discover_scans(scans.root)
    assert set(found.label.tolist()) == set(CLASSES)
    (remark,) = found.remarks
    assert "empty (an empty folder)" in remark
    assert "elsewhere (a link to a folder" in remark
    assert "only system (none of its files is a scan)" in remark
    assert "@eaDir" not in remark
    assert {path for path, _ in found.unused} == {
        "empty",
        "elsewhere",
        "only system",
        "only system/Thumbs.db",
        "@eaDir",
    }


def test_a_class_that_is_empty_on_one_side_is_named(scans: Scans) -> None:
    nested(scans, ["train", "test"], CLASSES)
    for file in (scans.root / "test" / "healthy").iterdir():
        file.unlink()
    found = layouts.discover_scans(scans.root)
    assert "test/healthy (an empty folder)" in found.remarks[0]
