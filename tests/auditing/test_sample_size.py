"""Who is too few is counted in people, and told with the numbers needed; the split itself agrees."""

from dataclasses import replace

import numpy as np
import pytest
from synthetic_evidence import evidence_of, grave, only

from scanwise.auditing import sample_size
from scanwise.auditing.evidence import Evidence, IntervalChart
from scanwise.auditing.sample_size import SubjectRequirements
from scanwise.auditing.subject_statistics import subject_indices
from scanwise.cohort import splits
from scanwise.recipe import SplitSection
from scanwise.records import SIDES
from scanwise.risk import minimum_count


def counted(*people: int, slices: int = 2) -> Evidence:
    """So many people a class."""
    evidence = evidence_of(people=sum(people), slices=slices)
    labels = np.repeat(np.arange(len(people)), people)[subject_indices(evidence)]
    names = tuple(f"c{index}" for index in range(len(people)))
    return replace(evidence, cohort=replace(evidence.cohort, labels=labels, classes=names))


def test_two_people_are_two_however_many_scans() -> None:
    noted = sample_size.examine(counted(60, 50, 2, slices=16))
    (said,) = grave(noted)
    assert "Not evaluable, because of too few subjects: c2 has 2 subjects (32 scans)." in said
    finding = only(noted, "evaluability.class").finding
    assert len(finding.scans) == 32
    picture = only(noted, "evaluability").picture
    assert isinstance(picture, IntervalChart)
    assert picture.values.tolist() == [60, 50, 2]


@pytest.mark.parametrize("people", [(43, 43), (100, 60, 50)])
def test_enough_people_are_enough(people: tuple[int, ...]) -> None:
    noted = sample_size.examine(counted(*people))
    assert grave(noted) == []
    assert "enough subjects" in only(noted, "evaluability").finding.message


@pytest.mark.parametrize("section", [SplitSection(), SplitSection(calibration=0.3, validation=0.1)])
def test_the_numbers_are_what_the_split_needs(section: SplitSection) -> None:
    needs = SubjectRequirements.of(section)
    for people, enough in ((needs.split, True), (needs.split - 1, False)):
        cohort = counted(people, 60).cohort
        assert (not splits.too_small(cohort, section)) == enough

    def on(side: str, people: int) -> int:
        cohort = counted(people, 60).cohort
        (split,) = splits.make_splits(cohort, section, 0)
        return len(set(cohort.subject[(split.side == side) & (cohort.labels == 0)].tolist()))

    assert on("calibration", needs.conformal) >= minimum_count(0.1) > on("calibration", needs.conformal - 1)
    assert on("validation", needs.calibrate) >= sample_size.CALIBRATION_SUBJECTS > on("validation", needs.calibrate - 1)
    assert needs.split == len(SIDES)


def test_each_lack_is_told_by_its_name() -> None:
    message = only(sample_size.examine(counted(60, 42, 9)), "evaluability").finding.message
    assert "c1 (42) for a 90 % coverage guarantee of its own" in message
    assert "c2 (9) to calibrate" in message
    assert "c0 (60)" not in message


def test_a_small_cohort_is_said_to_be_small() -> None:
    assert "evaluability.cohort: The whole cohort has 24 subjects" in grave(sample_size.examine(counted(12, 12)))[0]


def test_groups_and_their_cells_are_counted_in_people() -> None:
    evidence = counted(60, 60)
    people, labels = subject_indices(evidence), evidence.cohort.labels
    site = np.where(labels == 1, "north", "south")
    site[(people >= 50) & (people < 68)] = "south"  # 8 of class 1
    site[people < 3] = "far"
    visit = np.array([f"v{row}" for row in range(len(people))])
    groups = {"site": site, "visit": visit, "even": np.where(people % 2 == 0, "a", "b")}
    noted = sample_size.examine(replace(evidence, cohort=replace(evidence.cohort, groups=groups)))
    assert grave(noted) == []
    message = only(noted, "evaluability.group.site").finding.message
    assert "far 3" in message
    assert "south × c1 8" in message
    assert "far × c0" not in message  # the whole is too few already
    assert [one.finding.check for one in noted if "visit" in one.finding.check] == []
    assert "a × c0 30" in only(noted, "evaluability.group.even").finding.message


def test_without_people_nothing_is_judged() -> None:
    (noted,) = sample_size.examine(replace(counted(9, 3), subject=None))
    assert noted.finding.severity == "note"
    assert "not checked" in noted.finding.message
