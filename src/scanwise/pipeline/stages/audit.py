"""The audit: read the scans, recover subjects where they are not given, run the checks, write the result."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from scanwise import auditing, cohort, registration, run
from scanwise.auditing import copies, quality, subjects
from scanwise.auditing.evidence import AuditFinding, CopyPairs, Evidence, PairSheet, make_finding
from scanwise.auditing.subject_clustering import connected_scans
from scanwise.auditing.twins import find_twins
from scanwise.cohort import remote, splits, store
from scanwise.cohort.decoding.pixels import Pixels
from scanwise.cohort.layouts import manifests
from scanwise.cohort.listing import Listing
from scanwise.cohort.row_files import blocks_of, read_rows, store_rows
from scanwise.csv_files import write_csv
from scanwise.errors import DataError, LeakageError
from scanwise.phrases import count_of
from scanwise.pipeline.context import AuditResult
from scanwise.pipeline.stages.copy_cache import find_copies_once
from scanwise.pooling import join_subjects, rows_alike
from scanwise.progress_bar import plan_work, report_words, running_job, work_step
from scanwise.recipe import Recipe, with_settings
from scanwise.records import SIDES, BoolArray, Cohort, Finding, IntArray, Split
from scanwise.reporting import audit_page as page
from scanwise.run import layout
from scanwise.workers import OWN_PROCESS, Workers

log = logging.getLogger("scanwise")

Quarantine = tuple[tuple[str, str], ...]

SAID = ("cohort.listing", "cohort.merged")
"""Findings of reading that an audit repeats; of the others its own checks say more."""

LOOK = Recipe(name="audit", data=registration.DETAIL)
"""The recipe that an audit reads scans with."""


def audit_scans(
    data: str | Path,
    *,
    subject: str = cohort.AUTO,
    settings: Sequence[str] = (),
    checks: Sequence[str] = tuple(auditing.CHECKS),
    seed: int = 0,
    pseudonymise: bool = False,
    progress: bool = False,
    workers: Workers = OWN_PROCESS,
) -> AuditResult:
    """Audit a folder, manifest or URL of scans.

    Args:
        data: as in `fit`.
        subject: as in `fit`; "auto" or nothing recovers the subjects from the pixels where the data does not give them.
        settings: `data.label=COLUMN` and the like: where labels and persons are, and which series to use.
        checks: names of `auditing.CHECKS`.
        seed: of everything random.
        pseudonymise: as in `fit`.
        progress: show bars.
        workers: who decodes, describes and compares the scans.

    Raises:
        DataError: if nothing can be read.
    """
    with running_job(progress, opening=0.5):
        intake = cohort.read_cohort(
            str(data),
            with_settings(LOOK, settings),
            subject,
            pseudonymise=pseudonymise,
            bare=True,
            progress=progress,
            workers=workers,
        )
        plan_work(dict.fromkeys(("evidence", "checks"), len(intake.cohort)))
        with work_step("evidence"):
            evidence = gather_evidence(
                intake.cohort,
                _mapped(intake.store),
                quarantine=intake.quarantine,
                seed=seed,
                seek="copies" in checks,
                workers=workers,
            )
            evidence = replace(evidence, split=given_split(evidence.cohort))
            if "subjects" in checks:
                evidence = subjects.with_recovered(evidence)
        with work_step("checks"):
            findings, seconds = auditing.run_checks(evidence, checks, report_words)
    reading = [finding for finding in intake.findings if finding.check in SAID]
    findings += map(AuditFinding, [*reading, *splits.label_change_findings(evidence.cohort)])
    if len(evidence.cohort.classes) < 2:
        findings.append(
            make_finding("audit.classes", "note", "These scans have no classes: what needs them is not judged.")
        )
    return AuditResult(evidence, tuple(findings), seconds)


def audit_before_fit(
    evidence: Evidence,
    all_splits: Sequence[Split],
    earlier: Sequence[Finding],
    checks: Sequence[str],
) -> AuditResult:
    """Audit what a fit is about to learn from: every check on its first split, those of `each_protocol` on the first of each.

    Args:
        evidence: the cohort that is split.
        made: its splits.
        found: what reading and splitting have noticed already.
        checks: names of `auditing.CHECKS`.

    Raises:
        LeakageError: if scans of one origin stand on two sides of an honest split.
    """
    twins, new_findings, seconds = dict[Finding, PairSheet | None](), list[AuditFinding](), dict[str, float]()
    first = {split.protocol: split for split in reversed(all_splits)}
    for split in first.values():
        here = replace(evidence, split=split)
        for finding in splits.check_split(evidence.cohort, split):
            twins[as_asked_for(finding, split, all_splits)] = find_twins(here, None)
        names = checks if split is all_splits[0] else [name for name in checks if auditing.CHECKS[name].each_protocol]
        checked, spent = auditing.run_checks(here, names, report_words)
        new = [_with_twins(item, here) for item in checked]
        leaks = [item.finding for item in new if _stops_fit(item.finding)]
        if leaks and split.protocol == "honest":
            raise LeakageError(
                f"The honest split leaks. {leaks[0].message} `scanwise audit` shows it. If your eyes say otherwise, leave "
                f"that check out: --set audit.checks=[{', '.join(n for n in checks if n != leaks[0].check.partition('.')[0])}]"
            )
        new_findings += [
            _with_protocol(item, split, all_splits) for item in new if item.finding.check != "leakage.subjects"
        ]  # splits says so
        seconds |= spent
    findings = [*(AuditFinding(finding, twins=twins.get(finding)) for finding in earlier), *new_findings]
    return AuditResult(replace(evidence, split=all_splits[0]), tuple(findings), seconds)


def _with_twins(item: AuditFinding, evidence: Evidence) -> AuditFinding:
    """The finding; of a leak, with pairs of scans across the sides of the split that it is about."""
    if item.finding.severity != "leak" or item.twins is not None:
        return item
    return replace(item, twins=find_twins(evidence, item.picture))


def _stops_fit(finding: Finding) -> bool:
    spec = auditing.spec_of(finding)
    return finding.severity == "leak" and spec is not None and spec.stops_fit


def as_asked_for(finding: Finding, split: Split, all_splits: Sequence[Split]) -> Finding:
    """The finding about a split; a note where the recipe asked for that split beside an honest one.

    A published split that leaks is no fault of the data: it is fitted to show what its figures are worth.
    """
    beside_honest = split.protocol != "honest" and any(other.protocol == "honest" for other in all_splits)
    return replace(finding, severity="note") if beside_honest else finding


def _with_protocol(item: AuditFinding, split: Split, all_splits: Sequence[Split]) -> AuditFinding:
    """The finding, with the protocol that it is about where its check runs on each."""
    spec = auditing.spec_of(item.finding)
    if spec is None or not spec.each_protocol:
        return item
    finding = as_asked_for(item.finding, split, all_splits)
    return replace(item, finding=replace(finding, message=f"Under the {split.protocol} split: {item.finding.message}"))


def gather_evidence(
    cohort: Cohort,
    scans: Pixels,
    *,
    quarantine: Quarantine = (),
    seed: int = 0,
    seek: bool = True,
    workers: Workers = OWN_PROCESS,
) -> Evidence:
    """Evidence for all checks; subjects that are not given are recovered from the pixels, where possible.

    Args:
        cohort: the scans.
        scans: (N, S, S, 1) their pixels, in the convention of `registration.DETAIL`.
        quarantine: what could not be read.
        seed: of everything random.
        seek: look for augmented copies, which takes the longest; where subjects are unknown they are needed anyway.
        workers: who describes and compares the scans.
    """
    detail = scans.reshape(scans.shape[:3])
    blocks = (read_rows(detail, block) for block in blocks_of(len(detail)))
    pixels, vectors = store_rows(workers.map(registration.describe_scans, blocks))
    copy_pairs = None
    if seek or not cohort.subjects_known:
        copy_pairs = find_copies_once(detail, cohort.given, seed=seed, workers=workers)
    recovered = None
    if copy_pairs is not None and not cohort.subjects_known:
        recovered = subjects.recover_subjects(pixels, vectors, cohort.labels, copy_pairs.rows)
        if recovered.is_confident:
            source = f"recovered from pixels, {recovered.reason}"
            subject = join_subjects(recovered.subject, rows_alike(cohort.subject))
            if fewer := len(np.unique(recovered.subject)) - len(np.unique(subject)):
                source += f"; {count_of(fewer, 'subject')} joined to others, of the same study or pixels"
            cohort = replace(cohort, subject=subject, subject_source=source)
    who = cohort.subject if cohort.subjects_known else None
    files = quality.read_file_facts(remote.local_root(cohort.root), cohort.path)
    return Evidence(
        cohort,
        pixels,
        vectors,
        who,
        files=files,
        quarantine=quarantine,
        seed=seed,
        recovered=recovered,
        copies=copy_pairs,
    )


def with_recovered_subjects(cohort: Cohort, *, progress: bool = False) -> Cohort:
    """The cohort with its people, recovered from the pixels where they are not given and the pixels can tell."""
    return cohort if cohort.subjects_known else gather_evidence(cohort, audit_pixels(cohort, progress=progress)).cohort


def audit_pixels(cohort: Cohort, *, progress: bool = False) -> Pixels:
    """(N, S, S, 1) what the audit looks at; memory-mapped, for 40,000 scans are 1 GB."""
    scans, refused = store.build_store(
        remote.local_root(cohort.root), cohort.path, registration.DETAIL, progress=progress
    )
    if refused:
        raise DataError(f"{len(refused)} scans could be read a moment ago and cannot now. Is the disk there?")
    return _mapped(scans)


def _mapped(scans: store.Store) -> Pixels:
    whole = len(scans) == len(scans.array) and bool((np.diff(scans.rows) == 1).all())
    return scans.array if whole else scans.read(np.arange(len(scans)))


def given_split(cohort: Cohort) -> Split | None:
    """The split that the data itself comes with, where it has a training side and another one."""
    sides = [] if cohort.given is None else [side for side in SIDES if (cohort.given == side).any()]
    if cohort.given is None or "train" not in sides or len(sides) < 2:
        return None
    split = Split(cohort.given, "given", 0, f"the data's own {' and '.join(sides)} sides", leaky=False)
    return replace(split, leaky=any(finding.severity == "leak" for finding in splits.check_split(cohort, split)))


def write_audit(result: AuditResult, folder: Path) -> Path:
    """Write the page, `findings.json`, the pictures and `subjects.csv` (path, subject) into a folder of their own.

    Raises:
        RunError: if the folder holds something that is no audit.
    """
    run.refuse_foreign(folder, layout.FINDINGS, "audit")
    with run.owning(folder):
        cohort = result.evidence.cohort
        if result.evidence.subject is not None:
            rows = zip(cohort.path.tolist(), result.evidence.subject.tolist(), strict=True)
            write_csv(("path", "subject"), rows, folder / layout.SUBJECTS)
        written = write_audit_files(result, folder)
        page.remove_stale_figures(folder)
    return written


def write_audit_files(result: AuditResult, folder: Path, others: Sequence[Finding] = ()) -> Path:
    """Write the page, `findings.json` with other findings behind, the pictures and `copies.csv`, beside what else is there."""
    write_csv(copies.COLUMNS, copies.list_copies(result.evidence), folder / layout.COPIES)
    checked = [_with_twins(item, result.evidence) for item in result.checked]
    return page.write_audit_page(folder, checked, result.evidence.pixels, result.verdict, result.facts(), others)


def write_fixed_manifest(result: AuditResult, file: Path) -> str:
    """Write a manifest with the people that were given or recovered, without exact copies, with a safe split.

    Of scans with the same pixels the first stays; where they have two labels none does, since either may be wrong. Changed
    copies stay, under the subject of their origin. Where subjects are unknown the column `split` stays empty, for no split would
    be safe, and changed copies leave as exact ones do: nothing would keep them with their origin.

    Returns:
        what was done, in words.
    """
    cohort, joined = _joined(result.evidence)
    kept, messages = _without_copies(cohort, result.evidence.copies)
    messages += joined
    mended = replace(cohort.take(kept), given=None)
    if cohort.subjects_known:
        mended = replace(mended, given=splits.make_splits(mended, LOOK.split, result.evidence.seed)[0].side)
        messages.append(f"{count_of(len(np.unique(mended.subject)), 'subject')}, split by subject")
        messages += _parted(result.evidence, mended, kept)
    else:
        messages.append("no split, because the subjects are unknown")
    with run.writing(file) as temporary:
        manifests.write_manifest(as_listing(mended), temporary, file)
    return "; ".join([count_of(len(mended), "scan"), *messages])


def _parted(evidence: Evidence, mended: Cohort, kept: IntArray) -> list[str]:
    """People by the images, too unsure to be joined, that the split by given subjects parts; a warning, or nothing."""
    recovered = evidence.recovered
    if recovered is None or not recovered.is_confident or recovered.is_certain:
        return []
    people = recovered.subject[kept]
    parted = len(np.unique(people[subjects.torn_people(mended.subject, people, mended.given)]))
    if not parted:
        return []
    return [
        f"not joined: {count_of(parted, 'subject')} by the images (confidence {recovered.confidence:.2f}, too unsure beside given "
        "ones) stand on several sides; look at them first"
    ]


def as_listing(cohort: Cohort) -> Listing:
    """The cohort as a manifest tells it."""
    return Listing(
        root=remote.local_root(cohort.root),
        path=cohort.path,
        label=np.array(cohort.classes)[cohort.labels] if cohort.spelling is None else cohort.spelling,
        subject=cohort.subject if cohort.subjects_known else None,
        subject_source=cohort.subject_source,
        groups=dict(cohort.groups),
        text=cohort.text,
        given=cohort.given,
    )


def _joined(evidence: Evidence) -> tuple[Cohort, list[str]]:
    """The cohort with one subject for scans that are copies of each other or certainly of one person, and what was joined."""
    cohort, messages = evidence.cohort, []
    if not cohort.subjects_known:
        return cohort, []
    recovered = evidence.recovered
    reasons = {
        "whose scans they copy": None if evidence.copies is None else evidence.copies.rows,
        "who are the same person by the images": rows_alike(recovered.subject)
        if recovered is not None and recovered.is_certain
        else None,
    }
    for reason, same in reasons.items():
        if same is not None:
            subject = join_subjects(cohort.subject, same)
            fewer = len(np.unique(cohort.subject)) - len(np.unique(subject))
            messages += [f"{count_of(fewer, 'subject')} joined to others, {reason}"] if fewer else []
            cohort = replace(cohort, subject=subject)
    return replace(cohort, subject_source="; ".join([cohort.subject_source, *messages])), messages


def _without_copies(cohort: Cohort, copy_pairs: CopyPairs | None) -> tuple[IntArray, list[str]]:
    """Rows that stay, and what was taken out, in words; changed copies only where subjects are unknown."""
    equal = rows_alike(cohort.pixels)
    exact = connected_scans(len(cohort), equal)
    alike = exact
    if copy_pairs is not None and not cohort.subjects_known:
        alike = connected_scans(len(cohort), np.concatenate([equal, copy_pairs.rows]))
    lowest, highest = np.full(len(cohort), len(cohort.classes)), np.full(len(cohort), -1)
    np.minimum.at(lowest, alike, cohort.labels)
    np.maximum.at(highest, alike, cohort.labels)
    torn = (lowest != highest)[alike]
    again, copied = (~_first_of_each(group) & ~torn for group in (exact, alike))
    changed = int(copied.sum() - again.sum())
    messages = [
        f"{count:,} {kind} {'copy' if count == 1 else 'copies'} removed"
        for count, kind in ((int(again.sum()), "exact"), (changed, "changed"))
        if count
    ]
    if torn.any():
        messages.append(f"{count_of(int(torn.sum()), 'scan')} removed whose pixels have two labels")
    return np.flatnonzero(~torn & ~copied), messages


def _first_of_each(group: IntArray) -> BoolArray:
    """(N,) whether a scan is the first of its group."""
    first = np.zeros(len(group), dtype=np.bool_)
    first[np.unique(group, return_index=True)[1]] = True
    return first
