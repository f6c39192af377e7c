"""What a plan says is what training takes, and what training would refuse is refused by the plan."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from scanwise import pipeline
from scanwise.errors import RecipeError
from scanwise.pipeline import fit as fit_run
from scanwise.pipeline.commands import plan as plan_command
from scanwise.pipeline.stages import training as training_stage
from scanwise.run import Fit
from tiny import RECIPE, write_scans

STAGES = "train.stages=[{epochs: 1, freeze: backbone, views: 4}, {epochs: 1, freeze: backbone, views: 80}]"
ENSEMBLE = "model.members={kind: batch_ensemble, count: 2}"
"""By default its last ten layers differ: more than the head."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `tiny.yaml` and `scans/`."""
    folder = tmp_path_factory.mktemp("plan")
    text = (
        RECIPE.replace("epochs: 2, ", "").replace("size: 32", "size: 64").replace("batch: 32", "batch: 8")
        + "audit: {checks: []}\n"
    )
    (folder / "tiny.yaml").write_text(text, encoding="utf-8")
    write_scans(folder / "scans", {"nondemented": 10, "milddemented": 10})
    return folder


def prepared(place: Path, *settings: str) -> pipeline.Context:
    return pipeline.prepare(
        place / "tiny.yaml", data=place / "scans", subject=r"(\w+)_\d", settings=settings, device="cpu", threads=1
    )


def megabytes(work: pipeline.Context) -> float:
    """Of kept features, by the plan; 0 where it names none."""
    (told,) = (line for line in plan_command.plan_fit(work).lines if line.startswith("disk: "))
    found = re.search(r"(\d+) MB more while it trains", told)
    return float(found[1]) if found else 0


def test_the_plan_says_how_many_people_change_their_label(place: Path, tmp_path: Path) -> None:
    write_scans(tmp_path / "scans", {"nondemented": 10, "milddemented": 10}, slices=2)
    for person in range(3):  # who fell ill
        file = tmp_path / "scans" / "nondemented" / f"nondemented{person:02d}_1.png"
        file.rename(tmp_path / "scans" / "milddemented" / file.name)
    work = pipeline.prepare(
        place / "tiny.yaml", data=tmp_path / "scans", subject=r"([a-z]+\d+)_\d", device="cpu", threads=1
    )
    (line,) = [f.message for f in plan_command.plan_fit(work).findings if "several classes" in f.message]
    assert "3 of 20 subjects have scans of several classes" in line
    assert "3 with as many of two classes count as the later one" in line


def test_the_plan_says_how_many_people_teach_and_what_interval_to_expect(place: Path) -> None:
    verdict = plan_command.plan_fit(prepared(place)).verdict
    assert verdict.startswith("This fit can run")
    assert verdict.endswith(
        "8 subjects teach, with 4 to choose by; 4 are tested: AUROC ± 0.49 to expect around 0.8. `scanwise fold` tests all "
        "20: AUROC ± 0.20."
    )
    folded = plan_command.plan_fit(prepared(place, "split={folds: 2, calibration: 0.1}")).verdict
    assert "over all folds are tested all 20: AUROC ± 0.20" in folded
    assert "teach" not in plan_command.plan_fit(prepared(place, "split.protocols=[published]")).verdict


@pytest.mark.extended
def test_the_plan_counts_the_features_that_a_frozen_backbone_leaves_on_disk(place: Path, tmp_path: Path) -> None:
    work, found = prepared(place, STAGES), [0.0]

    def weigh() -> None:
        found.append(sum(file.stat().st_size for file in tmp_path.rglob("*.f16")) / 1e6)

    training_stage.train_fit(replace(work, send=weigh), Fit(tmp_path, "honest", 0), work.splits[0])
    assert megabytes(work) == round(max(found)) > 1
    several = prepared(place, STAGES, "model.members={kind: deep_ensemble, count: 2}")
    assert megabytes(several) == megabytes(work)  # one after the other


@pytest.mark.extended
def test_an_ensemble_that_differs_below_the_head_keeps_no_features_and_that_is_said_first(
    place: Path, tmp_path: Path
) -> None:
    stages = STAGES.replace("freeze: backbone, ", "", 1)  # hours later it would be refused as well
    told = r"Stage 2 of train\.stages .* \(model\.members\.layers=10\).*views: 0"
    with pytest.raises(RecipeError, match=told):
        plan_command.plan_fit(prepared(place, stages, ENSEMBLE))
    with pytest.raises(RecipeError, match=told):
        fit_run(
            place / "tiny.yaml", data=place / "scans", out=tmp_path / "run", settings=[stages, ENSEMBLE], device="cpu"
        )
    assert not (tmp_path / "run").exists()
    assert megabytes(prepared(place, stages, ENSEMBLE, "model.members.layers=1"))
    assert not megabytes(prepared(place, stages.replace("views: 80", "views: 0"), ENSEMBLE))


def test_a_backbone_of_a_baseline_that_does_not_exist_is_refused_before_training(place: Path, tmp_path: Path) -> None:
    settings = ["rivals={names: [frozen_features], backbone: no_such_network, weights: hub}"]
    with pytest.raises(RecipeError, match="no_such_network"):
        plan_command.plan_fit(prepared(place, *settings))
    with pytest.raises(RecipeError, match="no_such_network"):
        fit_run(place / "tiny.yaml", data=place / "scans", out=tmp_path / "run", settings=settings, device="cpu")
    assert not (tmp_path / "run").exists()
