"""What a split gives away is found, in the right number of points, and nothing is found where nothing is."""

import importlib.util
import itertools
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from synthetic_evidence import ALZHEIMER, evidence_of, grave, only, split_of

from scanwise import cohort
from scanwise.auditing import leakage, nearest_scans
from scanwise.auditing.evidence import Evidence, Histogram, IntervalChart
from scanwise.auditing.subject_statistics import SubjectEstimate, subject_folds, subject_indices
from scanwise.recipe import Recipe
from scanwise.registration import THUMBNAIL, descriptors

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
CHECKS = ["leakage.subjects", "leakage.points", "leakage.permuted", "leakage.identity"]


def severities(evidence: Evidence) -> dict[str, str]:
    return {noted.finding.check: noted.finding.severity for noted in leakage.examine(evidence)}


def patterns(evidence: Evidence) -> np.ndarray:
    flat = evidence.pixels.reshape(len(evidence), -1).astype(np.float64)
    flat -= flat.mean(axis=1, keepdims=True)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)


# --- the checks ---


def test_a_split_by_scan_leaks_in_every_way() -> None:
    evidence = evidence_of(split="scan")
    assert severities(evidence) == dict.fromkeys(CHECKS, "leak")
    subjects = only(leakage.examine(evidence), "leakage.subjects").finding
    assert "of 40 subjects" in subjects.message
    assert evidence.split is not None
    sides = {path: set() for path in evidence.cohort.subject.tolist()}
    for subject, side in zip(evidence.cohort.subject.tolist(), evidence.split.side.tolist(), strict=True):
        sides[subject].add(side)
    both = [p for p, s in zip(evidence.cohort.path, evidence.cohort.subject, strict=True) if len(sides[str(s)]) == 2]
    assert list(subjects.scans) == [str(path) for path in both]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("signal", [0.0, 20.0])
def test_a_split_by_subject_does_not_leak(seed: int, signal: float) -> None:
    noted = leakage.examine(evidence_of(split="subject", seed=seed, signal=signal))
    assert grave(noted) == []
    assert [one.finding.check for one in noted] == CHECKS


def test_the_points_are_those_of_the_splits() -> None:
    evidence = evidence_of(people=60, split="scan", signal=6.0)
    bars = only(leakage.examine(evidence), "leakage.points").picture
    assert isinstance(bars, IntervalChart)
    labels, people, alike = evidence.cohort.labels, subject_indices(evidence), patterns(evidence)
    assert evidence.split is not None
    learnt, judged = evidence.split.rows("train"), evidence.split.rows("test")
    near = learnt[(alike[judged] @ alike[learnt].T).argmax(axis=1)]
    assert bars.values[0] == pytest.approx((labels[near] == labels[judged]).mean())
    drawn = []
    random = np.random.default_rng(0)
    similar = alike @ alike.T
    share = len(learnt) / len(evidence)
    for _ in range(300):  # the mean over all splits by subject, by drawing many
        learns = random.random(60)[people] < share
        rows = np.flatnonzero(~learns)
        best = np.where(learns, similar[rows], -2).argmax(axis=1)
        drawn.append((labels[best] == labels[rows]).mean())
    assert bars.values[1] == pytest.approx(np.mean(drawn), abs=4 * np.std(drawn) / np.sqrt(300))
    assert (bars.low <= bars.values).all()
    assert (bars.values <= bars.high).all()


def test_one_person_on_two_sides_is_said() -> None:
    evidence = evidence_of(split="subject")
    assert evidence.split is not None
    side = evidence.split.side.copy()
    side[np.flatnonzero(evidence.cohort.subject == "p001")[0]] = "test"
    noted = leakage.examine(replace(evidence, split=split_of(side)))
    finding = only(noted, "leakage.subjects").finding
    assert finding.severity == "leak"
    assert "share 1 of 40 subjects" in finding.message
    assert len(finding.scans) == 4


def test_every_pair_of_sides_is_looked_at() -> None:
    evidence = evidence_of(split="subject")
    side = np.where(subject_indices(evidence) % 4 == 0, "test", "train").astype("<U11")
    side[subject_indices(evidence) % 4 == 1] = "validation"
    side[np.flatnonzero(evidence.cohort.subject == "p001")[0]] = "train"
    side[np.flatnonzero(evidence.cohort.subject == "p005")[0]] = "test"
    message = only(leakage.examine(replace(evidence, split=split_of(side))), "leakage.subjects").finding.message
    assert "Train and validation share 1 of" in message
    assert "validation and test share 1 of" in message
    assert "train and test" not in message.lower()


def test_shuffled_labels_are_told_by_people_and_not_by_chance() -> None:
    shown = {}
    for split in ("scan", "subject"):
        noted = only(leakage.examine(evidence_of(split=split, classes=3, people=60)), "leakage.permuted")
        assert isinstance(noted.picture, Histogram)
        shown[split] = noted.picture
    assert shown["scan"].values["this split"].mean() > 0.8
    assert abs(shown["subject"].values["this split"].mean() - 1 / 3) < 0.05
    for picture in shown.values():
        assert len(picture.values["this split"]) >= 200
        assert abs(picture.values["splits by subject"].mean() - 1 / 3) < 0.05
        assert picture.threshold == pytest.approx(np.quantile(picture.values["splits by subject"], 0.975))


def test_unequal_classes_are_no_leak() -> None:
    """Nine in ten of one class: shuffled labels are far above 1/C, and nothing leaks."""
    evidence = evidence_of(people=60, split="subject")
    labels = (subject_indices(evidence) % 10 == 9).astype(np.int64)
    noted = leakage.examine(replace(evidence, cohort=replace(evidence.cohort, labels=labels)))
    assert grave(noted) == []
    picture = only(noted, "leakage.permuted").picture
    assert isinstance(picture, Histogram)
    assert picture.values["this split"].mean() > 0.7


@pytest.mark.parametrize("split", ["subject", ""])
def test_a_figure_without_an_interval_says_none(split: str) -> None:
    """Every scan is called right under every split: of no difference there is no interval."""
    evidence = evidence_of(split=split)
    random = np.random.default_rng(0)
    of_class = random.integers(20, 230, (2, *evidence.pixels.shape[1:]))
    pixels = (of_class[evidence.cohort.labels] + random.integers(-9, 9, evidence.pixels.shape)).astype(np.uint8)
    points = only(leakage.examine(replace(evidence, pixels=pixels)), "leakage.points").finding
    assert ("does not inflate accuracy: 0.0 points. " if split else "accuracy by 0.0 points. ") in points.message


def test_people_with_two_names_are_suspected() -> None:
    """No known subject is on two sides, but every test person also learns, under another name."""
    evidence = evidence_of(people=100)
    second = (subject_indices(evidence) < 30) & (np.arange(len(evidence)) % 2 == 0)
    named = np.char.add(evidence.cohort.subject, np.where(second, "x", ""))
    noted = leakage.examine(replace(evidence, subject=named, split=split_of(np.where(second, "test", "train"))))
    assert only(noted, "leakage.subjects").finding.severity == "note"
    points = only(noted, "leakage.points").finding
    assert points.severity == "warning"
    assert "two names" in points.message


def test_without_people_nothing_is_judged_and_all_is_said() -> None:
    for split in ("", "scan"):
        noted = leakage.examine(replace(evidence_of(split=split), subject=None))
        assert grave(noted) == []
        assert sorted(one.finding.check for one in noted) == sorted(CHECKS)
        assert all("not checked" in one.finding.message and "--subject" in one.finding.message for one in noted)


def test_without_a_split_the_price_of_one_by_scan_is_told() -> None:
    noted = leakage.examine(evidence_of(people=60))
    assert grave(noted) == []
    assert "would inflate accuracy by" in only(noted, "leakage.points").finding.message
    assert "not checked" in only(noted, "leakage.permuted").finding.message


@pytest.mark.parametrize(
    "sides", [["train"], ["test"], ["", "train"], ["", ""], ["train", "test", "", "", "", "", "", ""]]
)
def test_odd_splits_are_no_crash(sides: list[str]) -> None:
    evidence = evidence_of(people=8, slices=2)
    side = np.array([sides[row % len(sides)] for row in range(len(evidence))])
    noted = leakage.examine(replace(evidence, split=split_of(side)))
    assert [one.finding.check for one in noted] == CHECKS


def test_scans_of_whom_nobody_knows_stand_for_themselves() -> None:
    evidence = evidence_of(split="subject")
    subject = evidence.cohort.subject.copy()
    subject[:6] = ""
    people = subject_indices(replace(evidence, subject=subject))
    assert len(set(people[:6].tolist())) == 6
    assert people.max() == len(set(people.tolist())) - 1
    assert grave(leakage.examine(replace(evidence, subject=subject))) == []


# --- what they rest on ---


def test_neighbours_are_those_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest_scans, "BLOCK", 23)
    evidence = evidence_of(people=30)
    people, labels, alike = subject_indices(evidence), evidence.cohort.labels, patterns(evidence)
    random = np.random.default_rng(1).permutation(len(evidence))
    queries, references = random[:40], random[40:]
    similar = alike[queries] @ alike[references].T
    assert (
        nearest_scans.nearest_scan(evidence.pixels, queries, references).tolist()
        == references[similar.argmax(1)].tolist()
    )
    others = nearest_scans.nearest_other_subjects(evidence.pixels, queries, references, people, labels, 8)
    for row, query in enumerate(queries.tolist()):
        ranked = [int(people[r]) for r in references[np.argsort(-similar[row])] if people[r] != people[query]]
        found = [int(people[r]) for r in others[row]]
        assert list(dict.fromkeys(found)) == list(dict.fromkeys(ranked))[: len(set(found))]


def test_a_subject_with_two_labels_is_looked_up_under_the_nearer_one() -> None:
    evidence = evidence_of(people=12, slices=6)
    labels = evidence.cohort.labels.copy()
    labels[2::6] = 1 - labels[2::6]
    people, alike = subject_indices(evidence), patterns(evidence)
    rows = np.arange(len(evidence))
    others = nearest_scans.nearest_other_subjects(evidence.pixels, rows, rows, people, labels, 4)
    similar = np.where(people[:, None] == people, -2, alike @ alike.T)
    assert labels[others[:, 0]].tolist() == labels[similar.argmax(axis=1)].tolist()


def test_the_mean_over_all_splits_is_that_of_each_split_in_turn() -> None:
    """Four other people, the third of them twice: all sixteen splits by hand."""
    labels = np.array([0, 1, 0, 1, 0, 1])
    people = np.array([0, 1, 2, 3, 3, 4])
    others = np.array([[1, 2, 3, 4, 5]])
    share, right, known = 0.7, 0.0, 0.0
    for drawn in itertools.product([False, True], repeat=4):
        chance = float(np.prod([share if learns else 1 - share for learns in drawn]))
        first = next((row for row in others[0] if drawn[people[row] - 1]), None)
        known += chance * (first is not None)
        right += chance * (first is not None and labels[first] == labels[0])
    strangers = leakage.NearestOtherSubjects(np.array([0]), others, share)
    assert strangers.accuracy(labels, people).value == pytest.approx(right / known)


def test_intervals_cover_as_often_as_they_say() -> None:
    random = np.random.default_rng(0)
    held, trials = 0, 600
    people = np.repeat(np.arange(40), 5)
    for _ in range(trials):
        own = np.clip(0.6 + 0.2 * random.standard_normal(40), 0, 1)
        right = (random.random(200) < own[people]).astype(float)
        estimate = SubjectEstimate.mean(right, np.arange(200), people)
        held += estimate.low <= 0.598 <= estimate.high
    assert abs(held / trials - 0.95) < 0.03


def test_what_two_figures_share_cancels() -> None:
    people = np.repeat(np.arange(30), 4)
    values = np.random.default_rng(0).random(120)
    one, other = (SubjectEstimate.mean(v, np.arange(120), people) for v in (values, values * 0.999))
    gap = one.minus(other, people)
    assert gap.value == pytest.approx(0.001 * values.mean())
    assert gap.high - gap.low < 0.01 * (one.high - one.low)


def test_folds_part_nobody_and_deal_classes_evenly() -> None:
    people = np.repeat(np.arange(53), 3)
    labels = (np.arange(53) % 3)[people]
    fold = subject_folds(people, labels, 5, seed=3)
    assert all(len(set(fold[people == person].tolist())) == 1 for person in range(53))
    for label in range(3):
        sizes = [len(set(people[(fold == f) & (labels == label)].tolist())) for f in range(5)]
        assert max(sizes) - min(sizes) <= 1


def test_what_is_asked_of_many_scans_does_not_grow() -> None:
    for count in (100, 4096, 40_000, 1_000_000):
        asked = leakage.sample_queries(np.arange(count), count, seed=0)
        assert len(set(asked.tolist())) == len(asked) == min(count, 4096, leakage.PAIRS // count)
        assert len(asked) * count <= leakage.PAIRS


# --- real scans ---


@pytest.mark.slow
@pytest.mark.skipif(not ALZHEIMER.is_dir(), reason=f"no {ALZHEIMER}: set SCANWISE_SHARED to the folder of real scans")
def test_the_kaggle_folders_cost_what_is_known() -> None:
    intake = cohort.read_cohort(str(ALZHEIMER), Recipe(name="audit", data=THUMBNAIL), subject=f"{ALZHEIMER}-truth.csv")
    pixels = intake.store.array[intake.store.rows][..., 0]
    assert intake.cohort.given is not None
    evidence = Evidence(
        intake.cohort, pixels, descriptors(pixels[:1]), intake.cohort.subject, split_of(intake.cohort.given)
    )
    noted = leakage.examine(evidence)
    assert {one.finding.severity for one in noted} == {"leak"}
    assert "share 200 of 200 subjects" in only(noted, "leakage.subjects").finding.message
    bars = only(noted, "leakage.points").picture
    assert isinstance(bars, IntervalChart)
    assert (
        np.abs(bars.values - [0.729, 0.499, 0.999]).max() < 0.02
    )  # ANCHORS: measured apart, on pixels of another size


# --- few people, with unequal scans


@pytest.fixture(scope="module")
def few() -> ModuleType:
    """Cohorts of the benchmark: few people, 1 to 100 scans each, all scans of one with the same nearest other person."""
    spec = importlib.util.spec_from_file_location("clean_splits", BENCHMARKS / "clean_splits.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def warned(few: ModuleType, people: int, trials: int, *, leak: bool) -> int:
    random = np.random.default_rng(people)
    severity = [
        only(leakage.examine(few.evidence_of(random, people, 100, 0.0, leak)), "leakage.points").finding.severity
        for _ in range(trials)
    ]
    return sum(each != "note" for each in severity)


def test_clean_splits_of_few_people_are_not_warned_of(few: ModuleType) -> None:
    """Two of two tested people are right by luck in a quarter of splits; 7 of 100 splits of 8 people were warned of."""
    assert warned(few, 8, 40, leak=False) <= 2


@pytest.mark.slow
@pytest.mark.parametrize("people", [8, 12, 20, 40])
def test_clean_splits_are_warned_of_in_at_most_one_of_forty(few: ModuleType, people: int) -> None:
    assert warned(few, people, 200, leak=False) <= 5


def test_people_under_two_names_are_warned_of_as_before(few: ModuleType) -> None:
    assert warned(few, 80, 5, leak=True) == 5


def test_the_given_split_is_measured_as_the_splits_that_it_is_compared_with(few: ModuleType) -> None:
    """Over random splits the accuracy is that of the exact mean, with the numbers of people on each side kept."""
    evidence = few.evidence_of(np.random.default_rng(2), 40, 10, 6.0, False)
    people = subject_indices(evidence)
    others = leakage.NearestOtherSubjects.of(evidence, people)
    found = leakage.clean_accuracies(evidence, people, others)
    given = leakage.NearestNeighbourSplit.of(
        evidence,
        evidence.split.rows("train"),
        evidence.split.rows("test"),
        "test",  # type: ignore[union-attr]
    )
    assert len(found) == leakage.PERMUTATIONS
    assert found.min() - 1e-9 <= given.accuracy(evidence.cohort.labels, people).value <= found.max() + 1e-9
    assert found.mean() == pytest.approx(others.accuracy(evidence.cohort.labels, people).value, abs=0.06)
