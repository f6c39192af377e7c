"""A network that others trained, from its file to a report and an answer, with nothing trained here."""

from pathlib import Path

import numpy as np
import pytest
import torch

from scanwise.bundle import load as load_bundle
from scanwise.models import build_network, weights
from scanwise.recipe import Model
from scanwise.run import RunFolder
from tiny import RECIPE, WITHOUT_COPIES, Said, run_command, write_scans

THEIRS = ("Very Mild Demented", "NonDemented", "Mild Demented")  # in an order of their own
OURS = ("nondemented", "verymilddemented", "milddemented")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunFolder, Said]:
    """The file, the run that took it as it is, and what was said."""
    place = tmp_path_factory.mktemp("untrained")
    torch.manual_seed(0)
    file = weights.export_weights(build_network(Model(name="small"), 3, 1), place, 7)
    (place / "tiny.yaml").write_text(RECIPE + WITHOUT_COPIES)
    data = write_scans(place / "scans", dict.fromkeys(OURS, 10))
    settings = ("train.epochs=0", f"model.weights={file}", f"model.class_order=[{', '.join(THEIRS)}]")
    said = run_command(
        "fit", place / "tiny.yaml", "--data", data, "--out", place / "run", "--threads", 1,
        *(part for setting in settings for part in ("--set", setting)),
    )  # fmt: skip
    assert said.code == 0, said.err
    return file, RunFolder.open(place / "run"), said


def test_the_weights_are_those_of_the_file_with_its_classes_by_name(made: tuple[Path, RunFolder, Said]) -> None:
    file, run, _ = made
    theirs, ours = weights.read_weights(file), weights.read_weights(run.fit("honest", 0).model)
    assert torch.equal(ours["body.blocks.3.0.weight"], theirs["blocks.3.0.weight"])
    assert torch.equal(ours["body.head.weight"], theirs["head.weight"][[1, 0, 2]])
    assert not run.fit("honest", 0).history.exists()
    assert not run.fit("honest", 0).checkpoints.exists()


def test_it_is_said_that_nothing_was_trained_and_who_may_have_been_seen(made: tuple[Path, RunFolder, Said]) -> None:
    file, run, said = made
    assert "it is unknown whether they have seen these scans" in " ".join(said.err.split())
    page = " ".join(run.report.read_text(encoding="utf-8").split())
    assert f"the weights are those of {file.name}, and it is unknown whether they have seen these scans" in page
    card = (run.path / "model_card.md").read_text(encoding="utf-8")
    assert "**Procedure:** none here, the weights came from a file" in card
    assert f"pretrained, from {file.name}, with its classifier" in card.replace("\\", "")


def test_it_is_calibrated_bundled_and_answers_for_one_file(made: tuple[Path, RunFolder, Said]) -> None:
    _, run, _ = made
    place = run.fit("honest", 0)
    assert place.calibrator.is_file()
    assert place.conformal.is_file()
    scan = next((run.path.parent / "scans" / OURS[0]).iterdir())
    answer = load_bundle(run.path).predict(scan)
    np.testing.assert_allclose(answer.scans.probs.sum(1), 1, atol=1e-6)
