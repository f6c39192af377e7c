"""The people tested are described from columns that say something, whatever these are called."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from scanwise.records import Cohort
from scanwise.reporting.tested_people import describe_tested


def described(**groups: list[str]) -> str:
    """Three tested subjects with two scans each, and one in training."""
    subject = np.array(["a", "a", "b", "b", "c", "c", "d"])
    paths = np.array([f"{row}.png" for row in range(7)])
    columns = {name: np.array([*np.repeat(values, 2), "99"]) for name, values in groups.items()}
    cohort = Cohort(
        "/x", paths, np.array([0, 0, 1, 1, 1, 1, 0]), ("well", "ill"), False, subject, "column", paths, paths, columns
    )
    fit = SimpleNamespace(split=SimpleNamespace(side=np.array(["test"] * 6 + ["train"])))
    contents: Any = SimpleNamespace(protocols=["honest"], cohort=cohort, fits_of=lambda _: [fit], title=str.capitalize)
    return " ".join(describe_tested(contents)).replace("\u00a0", " ")


def test_classes_are_counted_and_what_is_not_known_is_said() -> None:
    text = described()
    assert text == "Tested: 3 subjects (2 Ill, 1 Well). Age, sex and site of those tested are not known."


@pytest.mark.parametrize("name", ["age", "Age", "PatientAge", "age_at_scan"])
@pytest.mark.parametrize("suffix", ["", "Y"])
def test_ages_are_a_range(name: str, suffix: str) -> None:
    text = described(**{name: [f"0{age}{suffix}" for age in (71, 63, 80)]})
    assert "Age 63 to 80, median 71." in text
    assert "Sex and site of those tested are not known." in text


def test_values_are_counted_by_subject_and_gaps_are_said() -> None:
    text = described(PatientSex=["F", "M", ""], institution=["north", "north", "south"])
    assert "Sex F 1, M 1 (known of 2); site north 2, south 1." in text
    assert "Age of those tested is not known." in text


def test_words_within_words_are_no_columns() -> None:
    assert "Age, sex and site" in described(image_page=["1", "2", "3"], websites=["x", "y", "z"], usage=["a", "b", "c"])
