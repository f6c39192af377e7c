"""The same questions to every row of the table of checks, and what `audit` and `fit` make of the table."""

import subprocess
import sys
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from synthetic_evidence import evidence_of, split_of

from scanwise import auditing
from scanwise.auditing import CHECKS, CheckSpec, run_checks, spec_of
from scanwise.auditing.evidence import AuditFinding, Evidence, PairSheet, ScanSheet, make_finding
from scanwise.cohort import splits
from scanwise.errors import LeakageError, RecipeError
from scanwise.pipeline.stages import audit as audit_stage
from scanwise.recipe import Recipe
from scanwise.recipe.data import AuditCheck
from scanwise.records import Severity

SPECS = pytest.mark.parametrize(
    "spec",
    [  # to search for copies takes longer than all the others together; it has tests of its own
        pytest.param(spec, id=name, marks=pytest.mark.extended if name == "copies" else ())
        for name, spec in CHECKS.items()
    ],
)


@pytest.fixture(scope="module")
def leaky() -> Evidence:
    """People on both sides, a group column, and file facts of which one is odd."""
    evidence = evidence_of(40, 3, split="scan", signal=20.0, quarantine=(("c0/broken.png", "truncated: no end"),))
    sites = np.where(np.arange(len(evidence)) % 3 == 0, "north", "south")
    modes = np.where(np.arange(len(evidence)) == 5, "RGB", "L")
    return replace(evidence, cohort=replace(evidence.cohort, groups={"site": sites}), files={"mode": modes})


def one_class() -> Evidence:
    return evidence_of(12, 3, classes=1)


def test_recipes_take_every_check_and_run_every_check_by_default() -> None:
    assert get_args(AuditCheck) == tuple(CHECKS)
    assert Recipe(name="any").audit.checks == tuple(CHECKS)


@SPECS
def test_findings_carry_the_name_of_their_check(spec: CheckSpec, leaky: Evidence) -> None:
    findings = spec.examine(leaky)
    assert all(spec_of(item.finding) is spec for item in findings)
    assert all(name == spec.name for name, spec in CHECKS.items())


@SPECS
def test_findings_are_sentences_about_scans_of_the_cohort(spec: CheckSpec, leaky: Evidence) -> None:
    paths = {*leaky.cohort.path.tolist(), *(path for path, _ in leaky.quarantine)}
    for item in spec.examine(leaky):
        assert item.finding.severity in get_args(Severity)
        assert item.finding.message[0].isupper() or item.finding.message[0].isdigit()
        assert item.finding.message.endswith((".", "?", ")"))
        assert set(item.finding.scans) <= paths
        if isinstance(item.picture, PairSheet | ScanSheet):
            assert len(item.picture.captions) == len(item.picture.rows)
            assert int(item.picture.rows.max()) < len(leaky)


@SPECS
def test_a_check_says_the_same_each_time(spec: CheckSpec, leaky: Evidence) -> None:
    assert [item.finding for item in spec.examine(leaky)] == [item.finding for item in spec.examine(leaky)]


@SPECS
def test_a_check_copes_with_unknown_people_and_no_split(spec: CheckSpec, leaky: Evidence) -> None:
    assert not [
        item for item in spec.examine(replace(leaky, subject=None, split=None)) if item.finding.severity == "leak"
    ]


@SPECS
def test_checks_that_need_classes_are_skipped_where_there_is_one(spec: CheckSpec) -> None:
    _, seconds = run_checks(one_class(), [spec.name])
    assert list(seconds) == ([] if spec.needs_classes else [spec.name])


def test_names_titles_and_times_follow_the_table(leaky: Evidence) -> None:
    titles: list[str] = []
    _, seconds = run_checks(leaky, report_progress=titles.append)
    assert list(seconds) == list(CHECKS)
    assert titles == [spec.title for spec in CHECKS.values()]


def test_an_unknown_name_is_refused_before_any_check_runs(leaky: Evidence) -> None:
    titles: list[str] = []
    with pytest.raises(RecipeError, match="quality"):
        run_checks(leaky, ["subjects", "qualty"], titles.append)
    assert titles == []


def test_a_row_is_enough_for_a_check_of_ones_own(leaky: Evidence) -> None:
    def examine(evidence: Evidence) -> list[AuditFinding]:
        return [make_finding("mine", "note", f"{len(evidence)} scans.")]

    findings, _ = run_checks(
        leaky, ["mine"], checks={**CHECKS, "mine": CheckSpec(name="mine", title="mine", examine=examine)}
    )
    assert [item.finding.message for item in findings] == ["120 scans."]


def test_fit_runs_every_check_once_and_those_of_each_protocol_on_each(
    leaky: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[tuple[str, tuple[str, ...]]] = []

    def record(evidence: Evidence, names: tuple[str, ...], *_: object) -> tuple[list[AuditFinding], dict[str, float]]:
        assert evidence.split is not None
        runs.append((f"{evidence.split.protocol}/{evidence.split.fold}", tuple(names)))
        return [make_finding(f"{name}.any", "note", "Fine.") for name in names], {}

    monkeypatch.setattr(auditing, "run_checks", record)
    first = replace(split_of(np.full(len(leaky), "train")), protocol="honest")
    all_splits = [first, replace(first, fold=1), replace(first, protocol="published")]
    result = audit_stage.audit_before_fit(leaky, all_splits, [], Recipe(name="any").audit.checks)
    each = tuple(spec.name for spec in CHECKS.values() if spec.each_protocol)
    assert sorted(runs) == [("honest/0", tuple(CHECKS)), ("published/0", each)]
    named = {
        item.finding.check.partition(".")[0] for item in result.checked if item.finding.message.startswith("Under the ")
    }
    assert named == set(each)


@SPECS
@pytest.mark.parametrize("protocol", ["honest", "published"])
def test_a_leak_stops_an_honest_fit_where_the_row_says_so(
    spec: CheckSpec, protocol: str, leaky: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    leak = make_finding(f"{spec.name}.any", "leak", "It leaks.")
    monkeypatch.setattr(auditing, "run_checks", lambda *_: ([leak], {}))
    all_splits = [replace(split_of(np.full(len(leaky), "train")), protocol=protocol)]
    if spec.stops_fit and protocol == "honest":
        with pytest.raises(LeakageError) as caught:
            audit_stage.audit_before_fit(leaky, all_splits, [], tuple(CHECKS))
        others = ", ".join(name for name in CHECKS if name != spec.name)
        assert f"audit.checks=[{others}]" in str(caught.value)
    else:
        assert audit_stage.audit_before_fit(leaky, all_splits, [], tuple(CHECKS)).exit_code == 1


def test_the_leak_of_a_published_split_beside_an_honest_one_is_a_note_with_its_twins(leaky: Evidence) -> None:
    published = replace(leaky.split, protocol="published") if leaky.split else pytest.fail("the fixture has a split")
    honest = replace(split_of(np.full(len(leaky), "train")), protocol="honest")
    both = [honest, published]
    earlier = [audit_stage.as_asked_for(leak, published, both) for leak in splits.check_split(leaky.cohort, published)]
    (found,) = (
        item for item in audit_stage.audit_before_fit(leaky, both, earlier, ()).checked
        if item.finding.check == "split.subject"
    )  # fmt: skip
    assert found.finding.severity == "note"
    assert found.twins is not None
    for scan, origin in found.twins.rows.tolist():
        assert (published.side[scan], published.side[origin]) == ("test", "train")
        assert leaky.cohort.subject[scan] == leaky.cohort.subject[origin]


def test_the_leaks_that_stop_a_fit_are_certain_ones() -> None:
    """Of `subjects` only people whom the pixels show at full confidence are a leak."""
    assert [spec.name for spec in CHECKS.values() if spec.stops_fit] == ["duplicates", "subjects", "leakage"]


def test_the_table_imports_none_of_its_checks() -> None:
    code = "import sys, scanwise.auditing; print(*[m for m in sys.modules if m.startswith(('scanwise.auditing.', 'scipy', 'sklearn', 'torch'))])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert sorted(loaded) == ["scanwise.auditing.checks", "scanwise.auditing.evidence"]
