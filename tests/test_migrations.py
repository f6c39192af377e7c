"""Files carry the number of their format; older ones are read, newer ones refused."""

import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from scanwise.errors import RunError
from scanwise.migrations import FORMATS, OLDEST, check_format
from scanwise.records import Logits
from scanwise.run import RunFolder, read_json, write_json, write_text
from scanwise.training.checkpoints import AtomicCheckpointIO
from tiny import run_command, write_scans

PATTERN = ("--subject", r"([^/]+)_\d+\.png")
LOGITS = Logits(np.zeros((2, 1, 2)), np.array([0, 1]), np.array(["a", "b"]), np.array(["p", "q"]), ("no", "yes"))


@pytest.mark.parametrize("kind", FORMATS)
def test_formats_up_to_the_present_one_are_read_and_newer_ones_refused(kind: str) -> None:
    oldest = OLDEST.get(kind, 0)
    for number in (oldest or None, oldest, FORMATS[kind]):
        check_format(kind, number, "x")
    for number in (FORMATS[kind] + 1, oldest - 1, "1", True):
        with pytest.raises(RunError, match="Update scanwise"):
            check_format(kind, number, "x")


def test_logits_carry_a_number_and_are_read_without_one(tmp_path: Path) -> None:
    LOGITS.save(tmp_path / "new.npz")
    arrays = dict(np.load(tmp_path / "new.npz"))
    assert arrays.pop("format") == FORMATS["logits"]
    np.savez(tmp_path / "old.npz", **arrays)
    assert Logits.load(tmp_path / "old.npz").subjects.tolist() == ["p", "q"]
    np.savez(tmp_path / "newer.npz", **arrays, format=99)
    with pytest.raises(RunError, match="format 99"):
        Logits.load(tmp_path / "newer.npz")


def test_a_run_of_a_newer_version_is_not_opened(tmp_path: Path) -> None:
    write_text("name: x\n", tmp_path / "recipe.yaml")
    assert RunFolder.open(tmp_path).path == tmp_path
    write_json({"format": 99}, tmp_path / "provenance.json")
    with pytest.raises(RunError, match="format 99"):
        RunFolder.open(tmp_path)
    with pytest.raises(RunError, match="format 99"):
        RunFolder.create(tmp_path, resume=True)


def test_checkpoints_carry_a_number_and_newer_ones_are_refused(tmp_path: Path) -> None:
    AtomicCheckpointIO().save_checkpoint({"state_dict": {}}, tmp_path / "new.ckpt")
    saved = torch.load(tmp_path / "new.ckpt", weights_only=True)
    assert saved == {"state_dict": {}, "scanwise_format": FORMATS["checkpoint"]}
    torch.save(saved | {"scanwise_format": 99}, tmp_path / "newer.ckpt")
    with pytest.raises(RunError, match="format 99"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "newer.ckpt")


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of scanwise 0.1 without its pages, one that was killed after its first epoch, and their scans."""
    folder = tmp_path_factory.mktemp("stored")
    with tarfile.open(Path(__file__).parent / "data" / "run-0.1.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.mark.extended
def test_a_run_of_0_1_is_reported_resumed_used_and_evaluated(stored: Path) -> None:
    run, scans = stored / "run", stored / "scans"
    before = (run / "tables" / "predictions.csv").read_bytes()
    trained = (run / "fits" / "honest" / "0" / "model.safetensors").read_bytes()
    assert "format" not in read_json(run / "provenance.json")
    assert run_command("report", run).code == 0
    assert read_json(run / "bundle" / "bundle.json")["format"] == 2
    answers = run_command("predict", run, scans / "nondemented", "--device", "cpu")  # by the bundle that 0.1 wrote
    assert answers.code == 0, answers.err
    resumed = run_command(
        "fit", stored / "tiny.yaml", "--data", scans, "--out", run, *PATTERN, "--device", "cpu", "--resume"
    )
    assert resumed.code == 0, resumed.err
    assert (run / "tables" / "predictions.csv").read_bytes() == before
    assert (run / "fits" / "honest" / "0" / "model.safetensors").read_bytes() == trained  # nothing was trained again
    assert read_json(run / "provenance.json")["format"] == FORMATS["run"]
    assert run_command("predict", run, scans / "nondemented", "--device", "cpu").out == answers.out
    about = read_json(run / "bundle" / "bundle.json")
    assert (about["format"], about["hashed"]) == (
        FORMATS["bundle"],
        "file",
    )  # the sets of 0.1 draw from the file's hash
    others = write_scans(stored / "others", {path.name: 24 for path in sorted(scans.iterdir())})
    for path in scans.rglob("*.png"):
        (others / path.relative_to(scans)).unlink()
    evaluated = run_command(
        "evaluate", run, "--data", others, *PATTERN, "--out", stored / "external", "--device", "cpu"
    )
    assert evaluated.code == 0, evaluated.err


@pytest.mark.extended
def test_a_training_that_0_1_began_goes_on_from_its_checkpoint(stored: Path) -> None:
    run = stored / "killed"
    saved = torch.load(run / "fits" / "honest" / "0" / "checkpoints" / "last.ckpt", weights_only=True)
    assert "scanwise_format" not in saved
    resumed = run_command(
        "fit", stored / "killed.yaml", "--data", stored / "scans", "--out", run, *PATTERN, "--device", "cpu", "--resume"
    )
    assert resumed.code == 0, resumed.err
    history = (run / "fits" / "honest" / "0" / "history.csv").read_text(encoding="utf-8").splitlines()
    assert len(history) == 3  # a heading, the epoch of 0.1 and one of now
    assert float(history[1].split(",")[1]) == saved["callbacks"]["Keeper"]["history"][0]["train_loss"]
