"""Findings as pages word them: the verdict first, then what to do, then the numbers.

The table has a row for each check that can find something wrong; of a note, the message itself says it all.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scanwise.phrases import printable
from scanwise.records import Finding
from scanwise.reporting.verdicts import MISSED, Mark
from scanwise.reporting.wording import counted

NAMED = 3
"""Scans that a finding names; findings.json has them all."""
SHORTEST = 30
"""Letters of a message before its first colon that say enough to stand alone."""
SEVERITIES = {"leak": "Leak", "warning": "Warning", "note": "Note"}
"""The word of each severity, the gravest first."""
REMEDIES = {
    "duplicates": ("The same scan stands in the data more than once", "Keep one of each, or keep all on one side."),
    "duplicates.exact.sides": ("The same scan stands on two sides of the split", "Keep one of each, or keep all on one side."),
    "copies.sides": ("Changed copies of a scan stand on two sides of the split", "Keep each copy on the side of its original, or remove it."),
    "copies": ("Some scans are changed copies of others", "Keep each copy on the side of its original, or remove it."),
    "subjects.recovered": ("Subjects could not be told apart from the images", "Name the subjects with --subject."),
    "subjects.names": ("File names may tell the subjects", "If they do, pass the pattern below with --subject."),
    "subjects": ("Given subjects and images disagree", "Give each subject one name, or check the scans named here."),
    "leakage.subjects": ("Subjects are on two sides of the split", "Put every subject on one side, or let scanwise split."),
    "leakage.points": ("The split makes results too good", "Put every subject on one side, or let scanwise split."),
    "leakage.permuted": ("A simple classifier knows the subjects, not the classes", "Put every subject on one side, or let scanwise split."),
    "leakage.identity": ("Training scans of the same subject answer for test scans", "Put every subject on one side, or let scanwise split."),
    "leakage": ("Test results are too good: subjects are recognised", "Put every subject on one side, or let scanwise split."),
    "shortcuts.border": ("The border alone predicts the class", "Remove this cue from the scans, or balance it over classes."),
    "shortcuts.background": ("The background alone predicts the class", "Remove this cue from the scans, or balance it over classes."),
    "shortcuts.bytes": ("The file size predicts the class", "Remove this cue from the scans, or balance it over classes."),
    "shortcuts": ("The class can be predicted from cues beside the content", "Remove this cue from the scans, or balance it over classes."),
    "quality.unreadable": ("Some files cannot be used", "Repair or remove those that are meant as scans."),
    "quality.blank": ("Some scans show nothing", "Remove them."),
    "quality.faint": ("Some scans are nearly blank", "Remove them if they are not needed."),
    "quality.stranger": ("Some scans are unlike all others", "Look at them; remove those that do not belong."),
    "quality.labels": ("Some labels may be wrong", "Have a reader review them, from the top of the list."),
    "quality": ("Some scans differ in kind from the others", "Check that they belong here."),
    "evaluability": ("Too few subjects", "Add subjects, or merge or drop small classes (split.small_classes)."),
    "split.classes": ("A class has too few subjects to be tested", "Merge it with another or drop it (split.small_classes)."),
    "split": ("Subjects, or pictures, are on two sides of the split", "Quote figures of the split by subject alone."),
    "cohort.subjects": ("The subjects are not known", "Name them with --subject and run again."),
    "cohort.quarantine": ("Some files are not used", "See quarantine.csv; repair those that are meant as scans."),
    "cohort.label_changes": ("Some subjects have more than one label", "Check that each label is meant."),
    "cohort.merged": ("Spellings of a label were merged", "Check that they mean one class."),
    "cohort.listing": ("The listing needs a check", "Check the rows that are named here."),
    "rates.coverage": ("The prediction sets miss their stated coverage", "Do not quote the guarantee, and do not rely on the sets."),
    "rates.errors": ("More errors among the answered than stated", "Have all answers reviewed."),
    "rates.false_alarms": ("More false alarms than stated", "Do not quote the rate; look at what differs."),
    "rates.operating_points": ("Operating points do not hold on the test side", "Do not quote their rates; choose them on more data."),
    "rates.brightness": ("A change of brightness alone is flagged", "Bring scans to one scale of gray values before use."),
    "explanation": ("A sanity check of the explanations failed", "Do not use them as explanations."),
    "model.weights": ("The weights may have seen these subjects", "Quote nothing unless you know that they have not."),
    "train.changed": ("The training was changed on its way", "Train again from the start to quote one recipe."),
    "external.labels": ("Some labels here are none of the run’s classes", "Map or drop them, then evaluate again."),
    "external.classes": ("A class has no scan here", "Say nothing about it from these figures."),
    "external.few": ("Few subjects were tested here", "Read the figures as hints."),
    "external.subjects": ("It is not known whether subjects are shared with the run", "Name the subjects of both in one way."),
    "external.copies": ("Copies of training scans may be here", "Look at the pairs before you quote a figure."),
}  # fmt: skip
"""Verdict and remedy by check, or by the beginning of its name; the longest that fits is used."""


@dataclass(frozen=True, slots=True)
class FindingText:
    """A finding in words.

    Attributes:
        mark: `bad` where something must not be quoted, `caution` for other warnings, `none` for notes.
        word: its severity.
        verdict: what was found, in a few words.
        todo: what to do; empty for notes.
        numbers: the figures behind it.
        scans: the scans concerned, the first of them by name.
        check: the name of the check.
    """

    mark: Mark
    word: str
    verdict: str
    todo: str
    numbers: str
    scans: str
    check: str


def word_finding(finding: Finding) -> FindingText:
    """A finding in words: verdict, remedy, figures."""
    message = printable(finding.message)
    verdict, todo = find_remedy(finding.check)
    if finding.severity == "note" or not verdict:
        verdict, message = split_message(message)
        todo = ""
    marks: dict[str, Mark] = {"leak": "bad", "warning": "bad" if _denies(finding.check) else "caution", "note": "none"}
    mark = marks[finding.severity]
    return FindingText(
        mark, SEVERITIES[finding.severity], verdict, todo, message, name_scans(finding.scans), printable(finding.check)
    )


def _denies(check: str) -> bool:
    """Whether a warning of this check says that something stated does not hold: it must not be quoted."""
    room, _, name = check.partition(".")
    return room == "explanation" or (room == "rates" and name in MISSED)


def word_findings(findings: Iterable[Finding]) -> tuple[list[FindingText], list[FindingText]]:
    """Findings in words, the gravest first: those that ask for something, and the notes."""
    order = list(SEVERITIES)
    texts = [word_finding(finding) for finding in sorted(findings, key=lambda finding: order.index(finding.severity))]
    grave = sorted((text for text in texts if text.mark != "none"), key=lambda text: text.mark != "bad")
    return grave, [text for text in texts if text.mark == "none"]


def find_remedy(check: str) -> tuple[str, str]:
    """Verdict and remedy of a check by its name; empty for a check that is not in the table.

    >>> find_remedy("quality.blank")[1], find_remedy("quality.mode")[1], find_remedy("mine")
    ('Remove them.', 'Check that they belong here.', ('', ''))
    """
    parts = check.split(".")
    names = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((REMEDIES[name] for name in names if name in REMEDIES), ("", ""))


def split_message(message: str) -> tuple[str, str]:
    """The first sentence of a message and the rest; a long sentence with a list in it is parted before the list.

    >>> split_message("No subject is on two sides. Of 3.5 % it is not known.")
    ('No subject is on two sides.', 'Of 3.5 % it is not known.')
    """
    first, *rest = re.split(r"(?<=[.!?])\s+(?=[^\W\d_a-z])", message, maxsplit=1)
    head, _, tail = first.partition(": ")
    whole = len(head) > SHORTEST and head.count("(") == head.count(
        ")"
    )  # neither "Under the … split" nor half a bracket
    if len(first) > 110 and tail and whole:
        return f"{head}:", " ".join([tail, *rest])
    return first, " ".join(rest)


def name_scans(scans: Sequence[str]) -> str:
    """The number of scans, and the first of them by name."""
    if not scans:
        return ""
    more = f" and {len(scans) - NAMED:,} more" if len(scans) > NAMED else ""
    return f"{counted(len(scans), 'scan')}: {', '.join(printable(scan) for scan in scans[:NAMED])}{more}"
