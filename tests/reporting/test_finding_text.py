"""Findings in words: verdict, what to do, numbers; red is what must not be quoted, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanwise.auditing import CHECKS
from scanwise.records import Finding
from scanwise.reporting.finding_text import REMEDIES, find_remedy, split_message, word_finding, word_findings


@pytest.mark.parametrize(
    "name", [*CHECKS, "duplicates.exact.sides", "copies.sides", "leakage.identity", "evaluability.group.x"]
)
def test_every_check_of_the_audit_has_a_verdict_and_a_remedy(name: str) -> None:
    verdict, todo = find_remedy(name)
    assert verdict
    assert todo.endswith(".")


@pytest.mark.parametrize(
    ("check", "severity", "mark"),
    [
        ("leakage.subjects", "leak", "bad"),
        ("rates.coverage", "warning", "bad"),
        ("explanation.faith", "warning", "bad"),
        ("rates.brightness", "warning", "caution"),
        ("quality.blank", "warning", "caution"),
        ("quality.size", "note", "none"),
        ("rates.coverage", "note", "none"),
        ("of.mine", "warning", "caution"),
    ],
)
def test_red_is_what_must_not_be_quoted(check: str, severity: str, mark: str) -> None:
    assert word_finding(Finding(check, severity, "One of 3. Two.")).mark == mark  # type: ignore[arg-type]


def test_numbers_of_a_warning_are_kept_whole_and_a_note_begins_with_its_first_sentence() -> None:
    warning = word_finding(
        Finding("quality.blank", "warning", "3 scans of one single gray value: a.", ("a", "b", "c", "d"))
    )
    assert (warning.verdict, warning.todo) == REMEDIES["quality.blank"]
    assert warning.numbers == "3 scans of one single gray value: a."
    assert warning.scans == "4\xa0scans: a, b, c and 1 more"
    note = word_finding(Finding("evaluability", "note", "All is well. Needed: 5 people."))
    assert (note.verdict, note.todo, note.numbers) == ("All is well.", "", "Needed: 5 people.")


def test_the_gravest_come_first() -> None:
    findings = [
        Finding("a", "note", "N."),
        Finding("b", "warning", "W."),
        Finding("rates.errors", "warning", "R."),
        Finding("c", "leak", "L."),
    ]
    grave, notes = word_findings(findings)
    assert [text.check for text in grave] == ["c", "rates.errors", "b"]
    assert [text.check for text in notes] == ["a"]


@given(st.text(max_size=300))
def test_no_word_of_a_message_is_lost(message: str) -> None:
    first, rest = split_message(message)
    assert "".join(f"{first}{rest}".split()) == "".join(message.split())


@pytest.mark.parametrize(
    "message",
    [
        f"Under the published split: With labels shuffled {'many times ' * 10}it is right as often.",
        f"The index is 1.000 (150 subjects given{' by a table' * 9}; recovered: 150 subjects).",
    ],
)
def test_a_verdict_is_no_half_sentence(message: str) -> None:
    assert split_message(message) == (message, "")
