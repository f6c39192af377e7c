"""Splits that can be trusted: over many cohorts and seeds nobody stands on two sides, and everybody is judged once."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from scanwise.cohort import splits
from scanwise.errors import DataError, LeakageError
from scanwise.recipe import PublishedSplit, SplitSection
from scanwise.records import SIDES, Cohort, Split

STAGED = ("nondemented", "verymilddemented", "milddemented", "moderatedemented")


def cohort_of(*counts: int, slices: int = 3, ordered: bool = True, names: tuple[str, ...] = STAGED) -> Cohort:
    """A cohort of so many subjects a class, each with some slices, in a mixed order."""
    labels = np.repeat(np.repeat(np.arange(len(counts)), counts), slices)
    subject = np.array([f"p{number:03}" for number in np.repeat(np.arange(sum(counts)), slices)], dtype=np.str_)
    mixed = np.random.default_rng(9).permutation(len(labels))
    paths = np.array([f"{names[label]}/{row:04}.png" for row, label in enumerate(labels)])
    return Cohort(
        root="/data",
        path=paths[mixed],
        labels=labels[mixed],
        classes=names[: len(counts)],
        ordered=ordered,
        subject=subject[mixed],
        subject_source="column subject",
        sha256=paths[mixed],
        pixels=paths[mixed],
    )


def only(cohort: Cohort, section: SplitSection, seed: int = 0) -> Split:
    (split,) = splits.make_splits(cohort, section, seed)
    return split


def sides_of_subjects(cohort: Cohort, split: Split) -> dict[str, set[str]]:
    sides: dict[str, set[str]] = {}
    for subject, side in zip(cohort.subject.tolist(), split.side.tolist(), strict=True):
        sides.setdefault(subject, set()).add(side)
    return sides


# --- labels that change ---


def test_people_whose_label_changes_are_counted_and_how_they_count_is_said() -> None:
    """40 people with four scans; of 12 the first two are mild and the last two severe."""
    cohort = cohort_of(20, 20, slices=4, names=("mild", "severe"))
    order = np.argsort(cohort.subject, kind="stable")
    labels = cohort.labels.copy()
    labels[order[: 12 * 4].reshape(12, 4)[:, 2:].ravel()] = 1
    changed = replace(cohort, labels=labels)
    (finding,) = splits.label_change_findings(changed)
    assert finding.severity == "warning"
    assert "12 of 40 subjects have scans of several classes (mild and severe: 12)" in finding.message
    assert "12 with as many of two classes count as the later one (mild, severe)" in finding.message
    assert len(finding.scans) == 48
    assert splits.subjects_per_class(changed) == {"mild": 8, "severe": 32}
    labels[order[0]] = 1  # three of four: no tie
    (finding,) = splits.label_change_findings(replace(cohort, labels=labels))
    assert "11 with as many" in finding.message


def test_nothing_is_said_where_no_label_changes_or_nobody_is_known() -> None:
    cohort = cohort_of(6, 6, slices=4)
    assert splits.label_change_findings(cohort) == []
    labels = cohort.labels.copy()
    labels[0] = 1 - labels[0]
    assert splits.label_change_findings(replace(cohort, labels=labels))
    assert splits.label_change_findings(replace(cohort, labels=labels, subject_source="")) == []


# --- honest ---


@pytest.mark.parametrize("seed", range(40))
def test_whatever_the_cohort_nobody_is_on_two_sides_and_every_class_is_on_all(seed: int) -> None:
    random = np.random.default_rng(seed)
    folds = int(random.choice([1, 1, 2, 3, 5]))
    shares = {"validation": 0.1, "calibration": 0.1} if folds == 2 else {}
    section = SplitSection(folds=folds, **shares)
    counts = [int(n) for n in random.integers(7, 60, random.integers(2, 5))]
    cohort = cohort_of(*counts, slices=int(random.integers(1, 5)))
    made = splits.make_splits(cohort, section, seed)
    assert [split.fold for split in made] == list(range(folds))
    for split in made:
        assert all(len(sides) == 1 for sides in sides_of_subjects(cohort, split).values())
        assert set(split.side.tolist()) == set(SIDES)
        for side in SIDES:
            assert set(cohort.labels[split.rows(side)].tolist()) == set(range(len(counts))), side
        assert not split.leaky
        assert splits.check_split(cohort, split) == []


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_every_subject_is_tested_in_exactly_one_fold(folds: int) -> None:
    cohort = cohort_of(17, 23, 11)
    section = SplitSection(folds=folds, validation=0.1, calibration=0.1)
    tested = Counter[str]()
    for split in splits.make_splits(cohort, section, 3):
        tested.update(set(cohort.subject[split.rows("test")].tolist()))
    assert set(tested) == set(cohort.subject.tolist())
    assert set(tested.values()) == {1}


@pytest.mark.parametrize(("folds", "shares"), [(1, (0.45, 0.15, 0.2, 0.2)), (5, (0.45, 0.15, 0.2, 0.2))])
def test_shares_are_of_all_subjects_in_every_class(folds: int, shares: tuple[float, ...]) -> None:
    cohort = cohort_of(200, 100, 40)
    for split in splits.make_splits(cohort, SplitSection(folds=folds), 0):
        for index, total in enumerate((200, 100, 40)):
            for side, share in zip(SIDES, shares, strict=True):
                here = len(set(cohort.subject[(split.side == side) & (cohort.labels == index)].tolist()))
                assert abs(here - share * total) <= 1.5, (side, index)


def test_the_seed_decides_and_nothing_else() -> None:
    cohort, section = cohort_of(20, 20), SplitSection()
    first = only(cohort, section, seed=7)
    assert only(cohort, section, seed=7).side.tolist() == first.side.tolist()
    assert only(cohort, section, seed=8).side.tolist() != first.side.tolist()
    backwards = np.arange(len(cohort))[::-1]
    assert only(cohort.take(backwards), section, seed=7).side[backwards].tolist() == first.side.tolist()


def test_a_subject_with_two_diagnoses_is_still_on_one_side() -> None:
    cohort = cohort_of(12, 12)
    labels = cohort.labels.copy()
    labels[cohort.subject == "p000"] = [0, 1, 1]
    labels[cohort.subject == "p001"] = [0, 0, 1]
    mixed = replace(cohort, labels=labels)
    assert all(len(sides) == 1 for sides in sides_of_subjects(mixed, only(mixed, SplitSection())).values())
    assert splits.subjects_per_class(mixed) == {STAGED[0]: 11, STAGED[1]: 13}


def test_counts_are_the_rows_of_the_plan() -> None:
    cohort = cohort_of(10, 8)
    rows = splits.counts(cohort, only(cohort, SplitSection()))
    assert sum(int(str(row["subjects"])) for row in rows) == 18
    assert all(int(str(row["scans"])) == 3 * int(str(row["subjects"])) for row in rows)
    assert [(row["side"], row["class"]) for row in rows[:3]] == [
        ("train", STAGED[0]),
        ("train", STAGED[1]),
        ("validation", STAGED[0]),
    ]


# --- splits that last ---


def folds_of(cohort: Cohort, section: SplitSection, seed: int = 0) -> dict[str, int]:
    """The fold in which each subject is tested."""
    made = splits.make_splits(cohort, section, seed)
    return {subject: split.fold for split in made for subject in cohort.subject[split.rows("test")].tolist()}


def with_newcomer(cohort: Cohort, label: int) -> Cohort:
    """The cohort and one subject more, whose scans come first."""
    more = replace(
        cohort.take(np.zeros(2, dtype=np.int64)), subject=np.array(["new"] * 2), labels=np.array([label] * 2)
    )
    columns = {name: np.concatenate([getattr(more, name), getattr(cohort, name)]) for name in COLUMNS}
    return replace(cohort, **columns)


COLUMNS = ("path", "labels", "subject", "sha256", "pixels")
SHARES = st.floats(0.05, 0.3)


@settings(max_examples=200, deadline=None)
@drawn(st.lists(st.integers(4, 40), min_size=2, max_size=4), SHARES, SHARES, SHARES, st.integers(0, 99), st.data())
def test_a_subject_that_is_added_moves_at_most_one_other_into_or_out_of_test(
    counts: list[int], validation: float, calibration: float, test: float, seed: int, data: st.DataObject
) -> None:
    label = data.draw(st.integers(0, len(counts) - 1))
    cohort, section = (
        cohort_of(*counts, slices=1),
        SplitSection(validation=validation, calibration=calibration, test=test),
    )
    before, after = (folds_of(known, section, seed) for known in (cohort, with_newcomer(cohort, label)))
    moved = before.keys() ^ after.keys() - {"new"}
    assert len(moved) <= 1
    assert not ("new" in after and after.keys() & moved)  # the newcomer takes a place, and brings nobody along
    of_label = set(cohort.subject[cohort.labels == label].tolist())
    assert moved <= of_label


@settings(max_examples=100, deadline=None)
@drawn(st.integers(2, 6), st.lists(st.integers(11, 60), min_size=2, max_size=3), st.integers(0, 99))
def test_with_folds_at_most_one_subject_moves_over_each_border_between_two(
    folds: int, counts: list[int], seed: int
) -> None:
    section, cohort = SplitSection(folds=folds, validation=0.1, calibration=0.1), cohort_of(*counts, slices=1)
    before, after = (folds_of(known, section, seed) for known in (cohort, with_newcomer(cohort, 0)))
    moved = [subject for subject, fold in before.items() if after[subject] != fold]
    assert len(moved) <= folds - 1
    assert all(abs(after[subject] - before[subject]) == 1 for subject in moved)


@pytest.mark.parametrize("seed", range(5))
def test_the_other_shares_do_not_decide_who_is_tested_and_a_larger_share_adds_to_them(seed: int) -> None:
    cohort = cohort_of(60, 40, 20)
    usual = folds_of(cohort, SplitSection(), seed).keys()
    assert folds_of(cohort, SplitSection(validation=0.1, calibration=0.1), seed).keys() == usual
    assert folds_of(cohort, SplitSection(test=0.3), seed).keys() > usual
    folds = folds_of(cohort, SplitSection(folds=5), seed)
    assert {subject for subject, fold in folds.items() if fold == 0} == usual
    assert folds_of(cohort, SplitSection(), seed + 1).keys() != usual


@pytest.mark.parametrize("seed", range(5))
def test_recipes_that_merge_labels_test_the_subjects_that_others_test(seed: int) -> None:
    """100 / 70 / 28 / 2 people, as well or ill and as four stages; the two of the last stage are in training."""
    fine = cohort_of(100, 70, 28, 2, slices=2)
    spelled = np.array(["NonDemented", "VeryMild Demented", "Mild_Demented", "ModerateDemented"])[fine.labels]
    coarse = replace(fine, labels=np.minimum(fine.labels, 1), classes=("well", "ill"), spelling=spelled)
    named = replace(fine, spelling=spelled)
    sides = [only(cohort, SplitSection(), seed).side.tolist() for cohort in (fine, named, coarse)]
    assert sides[0] == sides[1] == sides[2]


def test_small_labels_of_a_class_are_divided_together() -> None:
    cohort = cohort_of(30, 30, slices=1)
    number = np.array([int(subject[1:]) for subject in cohort.subject.tolist()])
    many = replace(cohort, spelling=np.array([f"kind {index}" for index in number // 3]))
    for split in splits.make_splits(many, SplitSection(folds=3, validation=0.1, calibration=0.1), 0):
        for row in splits.counts(many, split):
            assert int(str(row["subjects"])) == {"test": 10, "train": 14}.get(str(row["side"]), 3)


def test_a_label_is_that_of_most_scans_of_the_class() -> None:
    """Two scans are of one ill label and two of the other, and three of none: the class is ill, the label the later."""
    cohort = cohort_of(30, 30, slices=7)
    labels, spelled = cohort.labels.copy(), np.where(cohort.labels == 0, "well", "ill b").astype("<U6")
    rows = np.flatnonzero(cohort.subject == "p040")
    labels[rows[:3]], spelled[rows[:3]], spelled[rows[3:5]] = 0, "well", "ill a"
    one = replace(cohort, labels=labels, spelling=spelled)
    assert only(one, SplitSection()).side.tolist() == only(cohort, SplitSection()).side.tolist()


# --- classes with few subjects ---


def test_a_small_class_is_kept_in_training_and_said_to_be_not_evaluable() -> None:
    cohort = cohort_of(20, 20, 3)
    settled, rows, told = splits.settle_small_classes(cohort, SplitSection())
    assert (settled, told, len(rows)) == (cohort, (), len(cohort))
    split = only(cohort, SplitSection())
    assert split.not_evaluable == {"milddemented": 3}
    assert set(split.side[cohort.labels == 2].tolist()) == {"train"}


def test_a_small_class_may_be_dropped() -> None:
    cohort = cohort_of(20, 3, 20)
    settled, rows, told = splits.settle_small_classes(cohort, SplitSection(small_classes="drop"))
    assert settled.classes == ("nondemented", "milddemented")
    assert told == ("verymilddemented has 3 subjects of the 4 needed: dropped",)
    assert settled.path.tolist() == cohort.path[rows].tolist()
    assert [settled.classes[i] for i in settled.labels] == [path.split("/")[0] for path in settled.path.tolist()]
    assert only(settled, SplitSection()).not_evaluable == {}


@pytest.mark.parametrize(
    ("counts", "names"),
    [
        ((20, 20, 3), ("nondemented", "verymilddemented+milddemented")),
        ((3, 20, 20), ("nondemented+verymilddemented", "milddemented")),
        ((20, 2, 20, 1), ("nondemented+verymilddemented", "milddemented+moderatedemented")),
        ((1, 2, 20, 20), ("nondemented+verymilddemented+milddemented", "moderatedemented")),
    ],
)
def test_a_small_class_may_be_merged_with_its_neighbour(counts: tuple[int, ...], names: tuple[str, ...]) -> None:
    cohort = cohort_of(*counts)
    settled, rows, told = splits.settle_small_classes(cohort, SplitSection(small_classes="merge"))
    assert settled.classes == names
    assert len(rows) == len(cohort)
    assert all(
        path.split("/")[0] in settled.classes[label].split("+")
        for path, label in zip(settled.path.tolist(), settled.labels.tolist(), strict=True)
    )
    assert splits.too_small(settled, SplitSection()) == {}
    assert all("merged" in line for line in told)


def test_without_an_order_there_is_no_neighbour() -> None:
    with pytest.raises(DataError, match="no neighbour"):
        splits.settle_small_classes(cohort_of(20, 20, 3, ordered=False), SplitSection(small_classes="merge"))


def test_a_class_that_is_one_person_is_refused() -> None:
    with pytest.raises(DataError, match=r"'milddemented' is one single subject.*small_classes=drop"):
        splits.settle_small_classes(cohort_of(20, 20, 1, slices=9), SplitSection())
    assert splits.settle_small_classes(cohort_of(20, 20, 1), SplitSection(small_classes="drop"))[2]


@pytest.mark.parametrize("choice", ["keep", "merge", "drop"])
def test_fewer_than_two_classes_to_judge_is_refused(choice: str) -> None:
    section = SplitSection.model_validate({"small_classes": choice})
    with pytest.raises(DataError, match=r"Fewer than two classes can be judged: .* 3 subjects of the 4 needed"):
        splits.settle_small_classes(cohort_of(20, 3), section)


@pytest.mark.parametrize("folds", [1, 2, 3, 4, 5, 10])
def test_what_counts_as_enough_subjects_is_enough_for_every_side_of_every_fold(folds: int) -> None:
    section = SplitSection(folds=folds, validation=0.1, calibration=0.1)
    enough = next(n for n in range(1, 30) if not splits.too_small(cohort_of(n, 29), section))
    for split in splits.make_splits(cohort_of(enough, 29), section, 0):
        for row in splits.counts(cohort_of(enough, 29), split):
            assert int(str(row["subjects"])) >= 1, (split.fold, row)


# --- sides that the data gives ---


def given(cohort: Cohort, **sides: str) -> Cohort:
    """The honest split of a cohort, written into it as given; some subjects moved."""
    side = only(cohort, SplitSection()).side.astype("<U11")
    for subject, where in sides.items():
        side[cohort.subject == subject] = where
    return replace(cohort, given=side)


def test_a_given_split_with_all_four_sides_is_used() -> None:
    cohort = given(cohort_of(20, 20))
    split = only(cohort, SplitSection(), seed=99)
    assert cohort.given is not None
    assert split.side.tolist() == cohort.given.tolist()
    assert split.rule == "as the data gives it"
    assert splits.check_split(cohort, split) == []


def test_a_given_split_that_leaks_by_subject_stops_an_honest_fit() -> None:
    cohort = given(cohort_of(20, 20))
    assert cohort.given is not None
    side = cohort.given.copy()
    rows = np.flatnonzero(cohort.subject == "p003")
    side[rows] = ["train", "test", "test"]
    leaking = replace(cohort, given=side)
    split = only(leaking, SplitSection())
    assert split.leaky
    with pytest.raises(LeakageError, match=r"1 of 40 subjects .*honest split \(first: p003\)"):
        splits.check_split(leaking, split)


def test_identical_pixels_on_two_sides_stop_an_honest_fit() -> None:
    cohort = given(cohort_of(20, 20), p003="train", p004="test")
    pixels = cohort.pixels.copy()
    pixels[np.flatnonzero(cohort.subject == "p004")[0]] = pixels[np.flatnonzero(cohort.subject == "p003")[0]]
    copied = replace(cohort, pixels=pixels)
    split = only(copied, SplitSection())
    assert split.leaky
    with pytest.raises(LeakageError, match="1 of 119 groups of scans with identical pixels"):
        splits.check_split(copied, split)


def test_blank_scans_are_copies_of_nothing() -> None:
    cohort = given(cohort_of(20, 20))
    blank = replace(cohort, pixels=np.full(len(cohort), ""))
    assert splits.check_split(blank, only(blank, SplitSection())) == []


def test_a_given_split_and_folds_contradict_each_other() -> None:
    with pytest.raises(DataError, match=r"not 5 folds.*split\.folds=1"):
        splits.make_splits(given(cohort_of(20, 20)), SplitSection(folds=5), 0)


def test_train_and_test_alone_are_no_honest_split() -> None:
    cohort = cohort_of(20, 20)
    halves = replace(cohort, given=np.where(np.arange(len(cohort)) % 2 == 0, "train", "test"))
    split = only(halves, SplitSection())
    assert not split.leaky
    assert split.rule.startswith("by subject")


# --- published ---

BY_SCAN = SplitSection(protocols=("published",))
BY_FOLDERS = SplitSection(protocols=("published",), published=PublishedSplit(by="folders"))


def test_by_scan_has_its_shares_and_leaks() -> None:
    cohort = cohort_of(40, 20, slices=10)
    split = only(cohort, BY_SCAN)
    assert Counter(split.side.tolist()) == {"train": 420, "validation": 90, "test": 90}
    assert Counter(split.side[cohort.labels == 1].tolist()) == {"train": 140, "validation": 30, "test": 30}
    assert (split.protocol, split.rule, split.leaky) == ("published", "at random by scan, 70/15/15", True)
    (finding,) = splits.check_split(cohort, split)  # told, and no error
    assert (finding.check, finding.severity) == ("split.subject", "leak")
    assert only(cohort, BY_SCAN, seed=1).side.tolist() != split.side.tolist()


def test_by_scan_with_one_scan_a_subject_does_not_leak() -> None:
    cohort = cohort_of(40, 20, slices=1)
    assert not only(cohort, BY_SCAN).leaky


@pytest.mark.parametrize("few", [1, 2, 3])
def test_a_class_of_few_scans_is_taught_before_it_is_tested(few: int) -> None:
    cohort = cohort_of(40, few, slices=1)
    sides = Counter(only(cohort, BY_SCAN).side[cohort.labels == 1].tolist())
    assert sides.total() == few
    assert sides["train"] == 1
    folders = replace(cohort, given=np.where(cohort.subject < "p020", "test", "train"))
    assert "train" in only(folders, BY_FOLDERS).side[cohort.labels == 1].tolist()


def test_by_folders_the_test_folder_decides() -> None:
    cohort = cohort_of(20, 20)
    folder = np.where(cohort.subject < "p030", "train", "test")
    folder[:5] = ""
    data = replace(cohort, given=folder)
    split = only(data, BY_FOLDERS)
    assert set(split.rows("test").tolist()) == set(np.flatnonzero(folder == "test").tolist())
    assert (split.side[:5] == "").all()
    assert len(split.rows("validation")) == pytest.approx(0.15 * (folder == "train").sum(), abs=2)
    assert split.leaky  # validation is drawn by scan
    own = folder.astype("<U11")
    own[5:9] = ["validation", "validation", "calibration", "train"]
    split = only(replace(cohort, given=own), BY_FOLDERS)
    assert split.rows("validation").tolist() == [5, 6]
    assert split.side[7] == ""


def test_by_folders_needs_folders() -> None:
    with pytest.raises(DataError, match=r"has none.*split\.published\.by=scan"):
        splits.make_splits(cohort_of(20, 20), BY_FOLDERS, 0)


def test_both_protocols_and_folds_come_honest_first() -> None:
    made = splits.make_splits(cohort_of(20, 20), SplitSection(protocols=("published", "honest"), folds=3), 0)
    assert [(split.protocol, split.fold) for split in made] == [
        ("honest", 0),
        ("honest", 1),
        ("honest", 2),
        ("published", 0),
    ]
