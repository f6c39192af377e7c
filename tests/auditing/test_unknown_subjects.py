"""One line for all checks that wait for the subjects."""

from pathlib import Path

import numpy as np
import scan_cases

from scanwise.auditing import run_checks
from scanwise.auditing.unknown_subjects import UNKNOWN, join_unchecked
from scanwise.records import Finding, load_findings, save_findings

SHARED = Finding(
    "leakage.subjects", "note", f"Subjects on several sides: {UNKNOWN}.", unchecked="subjects on several sides"
)
SHUFFLED = Finding("leakage.permuted", "note", "Under the honest split: In any words.", unchecked="shuffled labels")


def test_checks_that_wait_for_the_subjects_are_one_finding_in_the_place_of_the_first() -> None:
    findings = [
        Finding("copies.found", "note", "No copies."),
        SHARED,
        Finding("shortcuts", "warning", f"The class can be predicted: {UNKNOWN}."),
        SHUFFLED,
        SHARED,
    ]
    joined = join_unchecked(findings)
    assert [f.check for f in joined] == ["copies.found", "leakage.subjects", "shortcuts"]
    assert joined[1].message == (
        "Not checked, because the subjects are not known: subjects on several sides, shuffled labels. Pass --subject."
    )


def test_one_alone_and_others_stay_as_they_are() -> None:
    findings = [SHARED, Finding("a", "leak", "b")]
    assert join_unchecked(findings) == findings


def test_every_check_that_waits_says_what_it_waits_for(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 32, 32), dtype=np.uint8)
    evidence = scan_cases.evidence_of(pixels, np.array([0, 1] * 4), side=np.array(["train"] * 6 + ["test"] * 2))
    found = [item.finding for item in run_checks(evidence, ("leakage", "evaluability"))[0]]
    save_findings(found, tmp_path / "findings.json")
    assert load_findings(tmp_path / "findings.json") == found
    waiting = [finding for finding in found if finding.unchecked]
    assert [finding.check for finding in waiting] == [
        "leakage.subjects", "leakage.permuted", "leakage.identity", "evaluability",
    ]  # fmt: skip
    for finding in waiting:
        assert finding.message.lower().startswith(
            f"{finding.unchecked}: not checked, because the subjects are not known"
        )
    assert join_unchecked(found)[-1].message == (
        "Not checked, because the subjects are not known: subjects on several sides, shuffled labels, recognition of subjects "
        "from the images, sample size. Pass --subject."
    )
