"""The exception tree is what its page says, and each leaf has the exit code that it promises."""

import re

import pytest

from scanwise import errors
from scanwise.errors import LeakageError, RecipeError, ScanwiseError, did_you_mean, lookup, place_of

EVERY = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, Exception) and kind.__module__ == errors.__name__
}


def test_the_tree_on_the_page_is_the_tree_in_the_code() -> None:
    assert set(re.findall(r"\w+Error", errors.__doc__ or "")) == set(EVERY)
    assert all(issubclass(kind, ScanwiseError) and kind.__doc__ for kind in EVERY.values())


@pytest.mark.parametrize("name", EVERY)
def test_only_leakage_exits_with_one(name: str) -> None:
    assert EVERY[name].exit_code == (1 if EVERY[name] is LeakageError else 2)


def test_a_hint_is_given_when_something_is_near_and_not_otherwise() -> None:
    assert did_you_mean("optimiser", ["optimizer", "loss"]) == " Did you mean 'optimizer'?"
    assert did_you_mean("zebra", ["optimizer", "loss"]) == ""


def test_the_place_of_an_error_tells_nothing_of_its_message() -> None:
    with pytest.raises(ValueError, match="Smith") as caught:
        int("Smith^John")
    assert re.fullmatch(r"ValueError, tests/test_errors\.py:\d+", place_of(caught.value))
    assert place_of(ValueError("Smith^John")) == "ValueError"


def test_lookup_names_the_choices() -> None:
    assert lookup({"focal": 1}, "focal", "loss") == 1
    with pytest.raises(
        RecipeError, match=r"no loss 'focale'; choose one of cross_entropy, focal\. Did you mean 'focal'"
    ):
        lookup({"cross_entropy": 0, "focal": 1}, "focale", "loss")
