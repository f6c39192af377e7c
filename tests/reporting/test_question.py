"""The title of a page is the question that the data asks, in the data's own spelling."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanwise.reporting.question import LONGEST, ask_question, name_modality


@pytest.mark.parametrize(
    ("titles", "groups", "scans", "people", "question"),
    [
        (["AD", "MCI", "CN"], {"modality": ["MR", "MR"]}, 2, 90, "AD, MCI or CN from MRI of 90 people"),
        (["AD", "CN"], {"suffix": ["a", "b"], "modality": ["T1w", "T1w"]}, 2, 1, "AD or CN from T1 MRI of 1 person"),
        (["normal", "stroke"], {"Modality": ["CT", "MR"]}, 1200, None, "Normal or stroke from 1,200 CT and MRI scans"),
        (["mTBI", "control"], {}, 2, 4100, "mTBI or control from scans of 4,100 people"),
        ([f"kind {k}" for k in range(75)], {}, 2, 9, "One of 75 classes from scans of 9 people"),
        (["a" * 60, "b" * 60], {"modality": ["XY", ""]}, 2, 9, "One of 2 classes from XY of 9 people"),
        (["a", "b"], {"modality": ["CT", "MR", "US"]}, 3, 3, "A or b from scans of 3 people"),
    ],
)
def test_question(titles, groups, scans, people, question) -> None:
    columns = {name: np.array(values) for name, values in groups.items()}
    assert ask_question(titles, columns, scans, people).replace("\xa0", " ") == question


@given(st.lists(st.text(min_size=1, max_size=200), min_size=2, max_size=40, unique=True))
def test_question_is_short_whatever_the_classes_are_called(titles: list[str]) -> None:
    assert len(ask_question(titles, {}, 540, 90)) < LONGEST + 40


def test_identifiers_are_no_modality() -> None:
    assert name_modality({"modality": np.array(["1.2.840.1.5", "1.2.840.1.6"])}) == ""
