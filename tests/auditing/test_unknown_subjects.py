"""One line for all checks that wait for the subjects."""

from scanwise.auditing.unknown_subjects import UNKNOWN, join_unchecked
from scanwise.records import Finding


def test_checks_that_wait_for_the_subjects_are_one_finding_in_the_place_of_the_first() -> None:
    findings = [
        Finding("copies.found", "note", "No copies."),
        Finding("leakage.subjects", "note", f"Subjects on several sides: {UNKNOWN}."),
        Finding("shortcuts", "warning", "The class can be predicted. The subjects are not known: pass --subject."),
        Finding("leakage.permuted", "note", f"Under the honest split: Shuffled labels: {UNKNOWN}."),
    ]
    joined = join_unchecked(findings)
    assert [f.check for f in joined] == ["copies.found", "leakage.subjects", "shortcuts"]
    assert joined[1].message == (
        "Not checked, because the subjects are not known: subjects on several sides, shuffled labels. Pass --subject."
    )


def test_one_alone_and_others_stay_as_they_are() -> None:
    findings = [
        Finding("leakage.subjects", "note", f"Subjects on several sides: {UNKNOWN}."),
        Finding("a", "leak", "b"),
    ]
    assert join_unchecked(findings) == findings
