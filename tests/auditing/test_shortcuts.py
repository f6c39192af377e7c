"""Planted shortcuts are found with the right area and interval; where there are none, nothing is said."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from synthetic_evidence import evidence_of, grave, only

from scanwise import metrics
from scanwise.auditing import border_features, shortcuts
from scanwise.auditing.evidence import Evidence, IntervalChart
from scanwise.auditing.subject_statistics import subject_folds, subject_indices


def warned(evidence: Evidence) -> list[str]:
    return [one.finding.check for one in shortcuts.examine(evidence) if one.finding.severity == "warning"]


def areas(evidence: Evidence) -> dict[str, tuple[float, float, float]]:
    picture = only(shortcuts.examine(evidence), "shortcuts").picture
    assert isinstance(picture, IntervalChart)
    rows = zip(picture.names, picture.values, picture.low, picture.high, strict=True)
    return {name: (value, low, high) for name, value, low, high in rows}


def marked(evidence: Evidence, place: tuple[slice, slice], share: float, other: float = 0.0) -> Evidence:
    """The scans of so many people of class 1 (and of the other classes) with a bright mark at one place."""
    random = np.random.default_rng(5)
    people = subject_indices(evidence)
    chance = random.random(people.max() + 1)[people]
    has = chance < np.where(evidence.cohort.labels == 1, share, other)
    pixels = evidence.pixels.copy()
    pixels[(np.flatnonzero(has)[:, None, None], *np.ogrid[place])] = 230
    return replace(evidence, pixels=pixels)


def by_class(evidence: Evidence, names: tuple[str, ...], right: float, seed: int = 0) -> NDArray[np.str_]:
    """A value a person: that of its class for a share of the people, any for the others."""
    random = np.random.default_rng(seed)
    people = subject_indices(evidence)
    count = people.max() + 1
    own = random.random(count) < right
    other = random.integers(len(names), size=count)
    return np.array(names)[np.where(own[people], evidence.cohort.labels, other[people])]


# --- nothing planted, nothing found ---


@pytest.mark.parametrize("seed", range(8))
def test_without_shortcuts_nothing_is_said(seed: int) -> None:
    evidence = evidence_of(people=60, classes=3, seed=seed, signal=15.0)
    random = np.random.default_rng(seed)
    people = subject_indices(evidence)
    site = np.array(["north", "south", "west"])[random.integers(3, size=60)[people]]
    files = {"bytes": random.integers(4000, 9000, len(evidence)), "quality": random.integers(70, 95, 60)[people]}
    clean = replace(evidence, cohort=replace(evidence.cohort, groups={"site": site}), files=files)
    assert grave(shortcuts.examine(clean)) == []
    assert set(areas(clean)) == {
        "the file size beyond what the picture explains",
        "the JPEG quality",
        "the column 'site'",
    }  # black margins tell nothing


@pytest.mark.parametrize("people", [40, 120])
def test_who_it_is_is_not_taken_for_the_class(people: int) -> None:
    """Each person has a border of its own: it tells the person on every scan, and the class of nobody new."""
    evidence = evidence_of(people=people, slices=8)
    random = np.random.default_rng(3)
    pixels = evidence.pixels.copy()
    pixels[:, :4, :] = random.integers(0, 255, (people, 4, 48), dtype=np.uint8)[subject_indices(evidence)]
    known = replace(evidence, pixels=pixels)
    assert grave(shortcuts.examine(known)) == []
    _, low, high = areas(known)["the border"]
    assert low < 0.5 < high


# --- what is planted is found ---


@pytest.mark.parametrize("place", [(slice(0, 3), slice(0, 6)), (slice(20, 30), slice(45, 48))])
def test_a_mark_on_the_border_is_found(place: tuple[slice, slice]) -> None:
    evidence = marked(evidence_of(people=60), place, 0.8)
    assert "shortcuts.border" in warned(evidence)
    value, low, high = areas(evidence)["the border"]
    assert 0.75 < value < 1
    assert 0.5 < low < value < high


def test_a_mark_in_the_background_is_found_and_is_not_the_border() -> None:
    evidence = marked(evidence_of(people=100), (slice(5, 9), slice(5, 9)), 0.8)
    assert warned(evidence) == ["shortcuts.background"]


def test_a_mark_that_all_classes_bear_is_none() -> None:
    evidence = marked(evidence_of(people=80), (slice(0, 3), slice(0, 6)), 0.4, 0.4)
    assert warned(evidence) == []


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("quality", (75, 92, 60)),
        ("bytes", (5000, 7000, 6000)),
        ("has_exif", (True, False, False)),
        ("mode", ("L", "RGB", "L")),
        ("format", ("JPEG", "PNG", "BMP")),
    ],
)
def test_files_that_differ_by_class_are_found(name: str, values: tuple[Any, ...], classes: int) -> None:
    evidence = evidence_of(people=60, classes=classes)
    chosen = by_class(evidence, tuple("012"[:classes]), 0.8).astype(int)
    files = {name: np.array(values)[chosen]}
    if name == "bytes":
        files[name] = files[name] + np.random.default_rng(0).integers(-400, 400, len(evidence))
    assert warned(replace(evidence, files=files)) == [f"shortcuts.{name.removeprefix('has_')}"]


def test_sizes_that_differ_by_class_are_found() -> None:
    evidence = evidence_of(people=60)
    wide = np.where(by_class(evidence, ("a", "b"), 0.8) == "a", 512, 480)
    assert "shortcuts.size" in warned(replace(evidence, files={"width": wide, "height": np.full(len(wide), 512)}))


def test_a_column_that_tells_the_class_is_found() -> None:
    evidence = evidence_of(people=60, classes=3)
    modality = by_class(evidence, ("MR", "CT", ""), 0.7)
    cohort = replace(evidence.cohort, groups={"modality": modality})
    assert warned(replace(evidence, cohort=cohort)) == ["shortcuts.group.modality"]


def test_a_number_in_the_middle_is_found() -> None:
    """Slice positions of one class lie between those of the other: no line through them parts the two."""
    evidence = evidence_of(people=60, slices=6)
    random = np.random.default_rng(0)
    position = np.where(
        evidence.cohort.labels == 1, random.uniform(40, 60, len(evidence)), random.uniform(0, 100, len(evidence))
    )
    groups = {"slice_position": position.round(2).astype(str)}
    assert warned(replace(evidence, cohort=replace(evidence.cohort, groups=groups))) == [
        "shortcuts.group.slice_position"
    ]


def test_without_people_the_doubt_is_said() -> None:
    evidence = marked(evidence_of(people=60), (slice(0, 3), slice(0, 6)), 0.9)
    (found,) = [
        one for one in shortcuts.examine(replace(evidence, subject=None)) if one.finding.check == "shortcuts.border"
    ]
    assert "--subject" in found.finding.message


def test_more_checks_make_wider_intervals() -> None:
    evidence = marked(evidence_of(people=60), (slice(0, 3), slice(0, 6)), 0.5)
    random = np.random.default_rng(0)
    groups = {f"c{k}": np.array(["a", "b"])[random.integers(2, size=60)[subject_indices(evidence)]] for k in range(20)}
    few = areas(evidence)["the border"]
    many = areas(replace(evidence, cohort=replace(evidence.cohort, groups=groups)))["the border"]
    assert few[0] == many[0]
    assert many[2] - many[1] > 1.1 * (few[2] - few[1])


def test_classes_of_few_people_are_left_out_and_named() -> None:
    evidence = evidence_of(people=40, classes=2)
    labels = np.where(subject_indices(evidence) < 3, 2, evidence.cohort.labels)
    cohort = replace(evidence.cohort, labels=labels, classes=("c0", "c1", "rare"))
    site = np.where(labels == 2, "far", np.where(subject_indices(evidence) % 3 == 0, "near", "nearer"))
    noted = shortcuts.examine(replace(evidence, cohort=replace(cohort, groups={"site": site})))
    assert grave(noted) == []
    assert "Without rare" in only(noted, "shortcuts").finding.message
    lonely = replace(cohort, labels=np.where(labels == 2, 2, 0))
    assert "not checked" in only(shortcuts.examine(replace(evidence, cohort=lonely)), "shortcuts").finding.message


def test_the_class_that_is_told_is_named() -> None:
    evidence = evidence_of(people=80, classes=4)
    mode = np.where(evidence.cohort.labels == 2, "RGB", "L")
    message = only(shortcuts.examine(replace(evidence, files={"mode": mode})), "shortcuts.mode").finding.message
    assert "from the image mode alone (above all c2 1.00" in message
    evidence = evidence_of(people=40, classes=2)
    mode = np.where(evidence.cohort.labels == 1, "RGB", "L")
    message = only(shortcuts.examine(replace(evidence, files={"mode": mode})), "shortcuts.mode").finding.message
    assert "alone (c0 against c1): AUROC 1.00" in message


# --- what they rest on ---


def test_areas_are_those_of_the_metrics() -> None:
    random = np.random.default_rng(0)
    for classes in (2, 4):
        labels = random.integers(classes, size=200)
        scores = random.random((200, classes)).round(1) + 0.3 * np.eye(classes)[labels]
        scores /= scores.sum(axis=1, keepdims=True)
        found = shortcuts.clustered_auroc(scores, labels, np.arange(200), 0.95)
        assert found.value == pytest.approx(metrics.METRICS["auroc"](scores, labels))
        assert abs(found.influence.sum()) < 1e-12


@pytest.mark.parametrize("classes", [2, 3])
def test_intervals_of_areas_cover_people(classes: int) -> None:
    """Scores with a part that all scans of a person share; the truth is that of a great many people."""
    random = np.random.default_rng(0)

    def drawn(people: int, slices: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        who = np.repeat(np.arange(people), slices)
        labels = (np.arange(people) % classes)[who]
        scores = np.eye(classes)[labels] + random.standard_normal((people, classes))[who]
        return scores + random.standard_normal((len(who), classes)), labels, who

    truth = shortcuts.clustered_auroc(*drawn(30_000, 1), 0.95).value
    held = 0
    for _ in range(400):
        found = shortcuts.clustered_auroc(*drawn(45, 4), 0.95)
        held += found.low <= truth <= found.high
    assert abs(held / 400 - 0.95) < 0.035


def test_scores_never_saw_the_person() -> None:
    evidence = evidence_of(people=30, slices=3)
    people, classes = subject_indices(evidence), evidence.cohort.labels
    fold = subject_folds(people, classes, 5, 0)
    features = np.random.default_rng(0).standard_normal((len(people), 5))
    before = shortcuts.out_of_fold_scores(features, classes, fold)
    held = fold == 2
    changed = np.where(held, 1 - classes, classes)
    assert np.allclose(shortcuts.out_of_fold_scores(features, changed, fold)[held], before[held])
    assert not np.allclose(shortcuts.out_of_fold_scores(features, changed, fold)[~held], before[~held])


def test_the_border_is_that_of_the_scan_and_not_of_its_padding() -> None:
    files = {"width": np.array([100, 200, 0]), "height": np.array([200, 100, 0])}
    boxes = border_features.content_boxes(48, 3, files)
    assert boxes.tolist() == [[0, 12, 48, 36], [12, 0, 36, 48], [0, 0, 48, 48]]
    pixels = np.zeros((3, 48, 48), dtype=np.uint8)
    pixels[0, :, 12:14] = 200
    assert border_features.border_features(pixels, boxes)[0].max() == 200
    assert (
        border_features.border_features(pixels, border_features.content_boxes(48, 3, {}))[0].max() == 200
    )  # on the upper and lower edge
    pixels[0, :4], pixels[0, -4:] = 0, 0
    assert border_features.border_features(pixels, border_features.content_boxes(48, 3, {}))[0].max() == 0
    assert border_features.border_features(pixels, boxes)[0].max() == 200


def test_the_shape_of_the_body_is_not_in_the_background() -> None:
    """Two heads of very different size on the same gray: the same background."""
    y, x = np.mgrid[-1:1:48j, -1:1:48j]
    pixels = np.stack([np.where(x**2 + y**2 < size**2, 150, 40) for size in (0.3, 0.8)]).astype(np.uint8)
    found = border_features.background_features(pixels)
    assert found is not None
    assert np.allclose(found[0], found[1])


def test_scans_that_fill_the_picture_have_no_background() -> None:
    pixels = np.full((30, 48, 48), 180, dtype=np.uint8)
    pixels[:, :, 20:28] = 60
    pixels[:, 0], pixels[:, -1], pixels[:, :, 0], pixels[:, :, -1] = 10, 10, 10, 10
    assert border_features.background_features(pixels) is None


def test_a_light_background_is_one_too() -> None:
    pixels = np.full((6, 48, 48), 255, dtype=np.uint8)
    pixels[:, 15:33, 15:33] = 60
    pixels[:3, 4:8, 4:8] = 0
    found = border_features.background_features(pixels)
    assert found is not None
    assert not np.allclose(found[0], found[5])
    assert np.allclose(found[0], found[2])


def test_a_larger_file_of_a_fuller_picture_tells_nothing() -> None:
    random = np.random.default_rng(0)
    noise = random.integers(0, 255, (60, 48, 48)).astype(float)
    fullness = random.uniform(0.1, 1, 60)
    pixels = (noise * fullness[:, None, None]).astype(np.uint8)
    size = np.round(8000 * np.exp(0.002 * pixels.mean(axis=(1, 2))))
    assert np.ptp(np.log(size)) > 0.2
    assert np.ptp(border_features.unexplained_file_size(pixels, size)) < 0.01
    saved = np.where(np.arange(60) % 2, 1.3, 1.0)  # half of them were saved otherwise
    left = border_features.unexplained_file_size(pixels, size * saved)
    assert left[1::2].min() > left[::2].max()
