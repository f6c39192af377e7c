"""One person and one class have one spelling, and what stands for nothing is nothing."""

import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanwise.records import names


@given(st.text())
def test_the_form_of_unicode_changes_no_key(text: str) -> None:
    other = unicodedata.normalize("NFD", text)
    assert names.compose(other) == names.compose(text)
    assert names.label_key(other) == names.label_key(text)
    assert names.subject_key(other) == names.subject_key(text)


@given(st.text(st.characters(categories=["Mn", "Mc", "Lo"]), min_size=1))
def test_nothing_that_a_script_needs_is_dropped(text: str) -> None:
    assert unicodedata.normalize("NFD", names.label_key(text)) == unicodedata.normalize("NFD", text.lower())


@pytest.mark.parametrize("sign", ["\u200b", "\ufeff", "\u00ad", "\u2060", "\u200e"])
def test_signs_that_are_not_seen_make_no_class_and_no_person(sign: str) -> None:
    assert names.label_key(f"{sign}tu{sign}mor") == names.label_key("tumor")
    assert names.clean_subjects([f"Müller{sign}"]) == ["Müller"]


def test_signs_that_join_letters_stay() -> None:
    assert names.compose("न\u200dया") != names.compose("नया")


@given(st.lists(st.integers(-(10**6), 10**6), min_size=1))
def test_whole_numbers_are_one_person_however_they_are_kept(numbers: list[int]) -> None:
    whole = names.clean_subjects(names.text_of_values(np.array(numbers)))
    for other in (
        np.array(numbers, float),
        np.array(numbers, np.float32),
        np.array([f"{number}.0" for number in numbers]),
    ):
        assert names.clean_subjects(names.text_of_values(other)) == whole


@pytest.mark.parametrize("word", ["", " ", "nan", "NaN", "#N/A", "N/A", "null", "None", "unknown", "Unknown ", "<NA>",
                                  "#REF!", "n.a.", "k.A.", "(none)", "<unknown>", "keine Angabe", "inconnue", "sin datos", "неизвестно", "不明", "???"])  # fmt: skip
def test_words_for_nobody_are_no_person(word: str) -> None:
    assert names.clean_subjects([word, "7"]) == ["", "7"]
    assert not names.names_person(word)


def test_none_and_unknown_may_be_groups_and_gaps_may_not() -> None:
    assert names.clean_values(["None", "unknown", "NaN", "#N/A", "null"]) == ["None", "unknown", "", "", ""]


def test_numbers_with_parts_and_texts_stay_as_they_are() -> None:
    assert names.clean_subjects(["1.0", "1.5"]) == ["1.0", "1.5"]
    assert names.clean_subjects(["007", "08"]) == ["007", "08"]
    assert names.text_of_values(np.array([True, False])) == ["True", "False"]


@pytest.mark.parametrize(
    ("subjects", "alike"),
    [
        (["7", "007", "8"], [("007", "7")]),
        (["p1", "P1", "p10"], [("P1", "p1")]),
        (["5.0", "5", "5a"], [("5", "5.0")]),
        (["sub-01", "sub-1", "sub-10"], [("sub-01", "sub-1")]),
        (["10", "100", "1", ""], []),
        (["1-2", "12"], []),
    ],
)
def test_names_that_hardly_differ_are_found(subjects: list[str], alike: list[tuple[str, ...]]) -> None:
    assert names.lookalike_subjects(subjects) == alike
