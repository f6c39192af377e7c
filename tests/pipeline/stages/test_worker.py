"""The other processes of a fit do what the first one needs them for, and no more: here one of them is played."""

import pytest

from scanwise import recipe
from scanwise.pipeline.stages import explanation as explanation_stage
from scanwise.pipeline.stages import worker
from scanwise.run import Fit
from scanwise.training import distributed
from tiny import Again

FITS = ["trains honest/0", "trains published/0"]
MORE = ["trains retrained/labels", "trains retrained/seed"]


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the second process did: it `meets` the first, who is always there already, and `trains`."""
    steps: list[str] = []

    def train(_: object, place: Fit, __: object) -> None:
        steps.append(f"trains {place.path.parent.name}/{place.path.name}")

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(distributed, "join_processes", lambda: None)
    monkeypatch.setattr(distributed, "wait_for_all", lambda: steps.append("meets"))
    monkeypatch.setattr(worker, "train_fit", train)
    monkeypatch.setattr(explanation_stage, "train_fit", train)
    return steps


@pytest.mark.parametrize("subject", ["", "auto"])
def test_who_follows_trains_every_fit_and_waits_for_the_rest(again: Again, done: list[str], subject: str) -> None:
    again.resume(subject=subject)
    assert done == ["meets", *FITS, "meets"]


@pytest.mark.parametrize("explained", [False, True])
def test_who_follows_trains_what_the_checks_of_heatmaps_need(again: Again, done: list[str], explained: bool) -> None:
    asked = recipe.load_recipe(again.run.recipe, ["explain.scans=2", "explain.retrain=true"])
    again.run.recipe.write_text(asked.to_yaml(), encoding="utf-8")
    if explained:
        again.run.heatmaps.mkdir()
        (again.run.heatmaps / explanation_stage.CHECKS).touch()
    again.resume()
    assert done == ["meets", *FITS, *([] if explained else MORE), "meets"]
