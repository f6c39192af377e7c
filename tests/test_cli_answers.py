"""The table of a prediction: flags and those left to a person are seen, in 80 columns, and said in words below."""

from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from scanwise.cli.predicting import _answer_table
from scanwise.records import Predictions, Unit

NAMES = ("nondemented", "verymilddemented", "milddemented", "moderatedemented")
SAID = Predictions(
    scans=np.array(["a/very/long/path/to/a/scan/of/somebody_0001.png", "b.png", "c.png"]),
    subjects=np.array(["anna", "bert", "carl"]),
    classes=NAMES,
    probs=np.array([[0.9, 0.05, 0.03, 0.02], [0.4, 0.3, 0.2, 0.1], [0.7, 0.1, 0.1, 0.1]]),
    sets=np.array([[1, 0, 0, 0], [1, 1, 1, 0], [1, 0, 0, 0]], dtype=bool),
    entropy=np.array([0.3, 1.2, 0.9]),
    abstain=np.array([False, True, True]),
    ood=np.array([0.62, 0.98, 1234.5]),
    ood_flag=np.array([False, False, True]),
)


def shown(said: Predictions, unit: Unit) -> str:
    console = Console(width=80, record=True, quiet=False, file=None, markup=False, emoji=False, highlight=False)
    with console.capture() as captured:
        console.print(_answer_table(said, unit))
    return captured.get()


@pytest.mark.parametrize("unit", ["scan", "subject"])
def test_flag_is_seen_and_said_in_80_columns(unit: Unit) -> None:
    text = shown(replace(SAID, unit=unit), unit)
    assert max(map(len, text.splitlines())) <= 80
    rows = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    first, second, third = ("anna", "bert", "carl") if unit == "subject" else ("…", "b.png", "c.png")
    if unit == "subject":
        assert rows[first].split()[-1] == "0.6"
    assert rows[second].split()[-2:] == ["1.0", "yes"]
    assert rows[third].split()[-2:] == ["99.0!", "yes"]
    words = " ".join(text.split())
    assert "ood: marked ! unlike training; its set has no guarantee" in words
    assert "a person should look at the scan" in words


def test_nothing_is_said_of_flags_where_there_are_none() -> None:
    plain = replace(SAID, ood_flag=np.zeros(3, dtype=bool), abstain=np.zeros(3, dtype=bool))
    assert "marked" not in shown(plain, "scan")
    unknown = replace(SAID, ood=None, ood_flag=None)
    text = shown(unknown, "scan")
    assert "!" not in text
    assert "review:" in text


def test_subject_that_is_too_doubtful_is_left_to_a_person() -> None:
    sure = replace(SAID, unit="subject", abstain=np.zeros(3, dtype=bool), ood_flag=np.zeros(3, dtype=bool))
    deferred = replace(sure, deferred=np.array([False, True, False]))
    lines = {line.split()[0]: line for line in shown(deferred, "subject").splitlines() if line.strip()}
    assert lines["bert"].split()[-1] == "yes"
    assert lines["anna"].split()[-1] != "yes"
    assert "too unsure for the error allowed" in " ".join(shown(deferred, "subject").split())
    assert "too unsure" not in shown(sure, "subject")
