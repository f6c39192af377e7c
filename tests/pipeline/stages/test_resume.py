"""What may change when a run goes on, and what may not; what changed is kept and said."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scanwise import recipe
from scanwise.errors import RunError
from scanwise.pipeline.context import Context
from scanwise.pipeline.stages.resume import check_resume, record_changes
from scanwise.records import Cohort, Finding, Split
from scanwise.run import RunFolder, read_json
from tiny import Again

GoOn = Callable[..., list[Finding]]


@pytest.fixture
def go_on(again: Again) -> GoOn:
    """Go on with the run, with settings on top, as far as the question whether it may."""

    def ask(*settings: str) -> list[Finding]:
        folder: RunFolder = again.run
        nothing: Any = None
        splits = tuple(Split.load(fit.split) for fit in folder.fits())
        made = recipe.load_recipe(folder.recipe, settings)
        context = Context(made, Cohort.load(folder.cohort), nothing, splits, nothing, (), "")
        check_resume(folder, context)
        return record_changes(folder, context)

    return ask


@pytest.fixture
def unfinished(again: Again) -> Path:
    """One of its networks is left to train, and its first session never came to write where it came from."""
    again.run.provenance.unlink()
    again.run.fit("published", 0).model.unlink()
    return again.run.provenance


def test_what_memory_asks_for_may_change_and_stays_known(go_on: GoOn, unfinished: Path) -> None:
    assert go_on() == []
    assert not unfinished.exists()
    (said,) = go_on("train.batch=16", "train.accumulate=2", "train.precision=full")
    assert "train.accumulate 2 instead of 1, train.batch 16 instead of 32" in said.message
    assert "epoch 2 of published/0" in said.message
    assert read_json(unfinished)["changes"][0]["settings"]["train.batch"] == [32, 16]
    assert go_on() == [said], "said again in every later session"
    assert len(go_on("train.clip=1")) == 2


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["train.batch=16"], r"differs in train\.batch\..*product stays"),
        (["train.accumulate=2", "train.clip=1"], r"differs in train\.accumulate, train\.clip\."),
        (["train.clip=1", "train.optimizer.lr=1e-4"], r"differs in train\.clip, train\.optimizer\.lr\."),
        (["train.clip=1", "seed=3"], r"differs in seed, train\.clip\."),
    ],
)
def test_what_changes_the_course_of_the_training_is_refused(
    go_on: GoOn, unfinished: Path, settings: list[str], told: str
) -> None:
    with pytest.raises(RunError, match=told):
        go_on(*settings)
    assert not unfinished.exists()


def test_a_run_whose_networks_are_trained_is_as_its_recipe_says(go_on: GoOn) -> None:
    with pytest.raises(RunError, match=r"differs in train\.clip\."):
        go_on("train.clip=1")
