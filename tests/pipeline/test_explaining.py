"""A fit explains itself: maps, badge, findings and pages; new scans are explained on the grid of their file."""

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

import scanwise as package
from scanwise.cohort import phantom
from scanwise.explanation import drawing
from scanwise.pipeline import explaining, showing
from scanwise.recipe import Data
from scanwise.records import load_findings
from scanwise.run import Run
from tiny import RECIPE, Command, read_csv

STEPS = ["train.epochs=2", "explain.scans=6", "explain.examples=1", "audit.checks=[]", "rivals.names=[majority]"]


@pytest.fixture(scope="module")
def ventricles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ventricles") / "cohort"
    phantom.write(folder, phantom.Phantom(subjects=40, slices=1, size=48, stages=("well", "ill"), signal="ventricles"))
    return folder


def fit(ventricles: Path, out: Path, *settings: str, resume: bool = False) -> Run:
    file = out.parent / "tiny.yaml"
    file.write_text(RECIPE, encoding="utf-8")
    return package.fit(
        file, data=ventricles / "scans", subject=str(ventricles / "truth.csv"), out=out, settings=[*STEPS, *settings],
        device="cpu", threads=1, resume=resume,
    )  # fmt: skip


@pytest.fixture(scope="module")
def explained(ventricles: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("explained") / "run"
    return fit(ventricles, out, "explain.retrain=true", "model.dropout=0.3", "model.members.kind=mc_dropout")


def told(run: Run) -> Any:
    return json.loads((run.path / "heatmaps" / "checks.json").read_text(encoding="utf-8"))


def test_every_check_is_a_finding_and_decides_the_badge(explained: Run) -> None:
    checks = told(explained)["checks"]
    assert [one["name"] for one in checks] == ["weights", "repeat", "faith", "foreground", "labels", "seed", "learnt"]
    findings = {one.check: one for one in load_findings(explained.findings) if one.check.startswith("explanation.")}
    assert set(findings) == {f"explanation.{one['name']}" for one in checks}
    for one in checks:
        assert (findings[f"explanation.{one['name']}"].severity == "note") == one["passed"]
    maps = np.load(explained.path / "heatmaps" / "maps.npz")
    assert maps["values"].shape == (6, 32, 32)
    failed = [one["name"] for one in checks if not one["passed"]]
    assert bool(told(explained)["reasons"]) == bool(failed)
    assert not maps["passed"].any() if failed else maps["passed"].all()


def test_what_failed_is_left_out_of_the_summary_and_said_in_the_report(explained: Run) -> None:
    folder = explained.path / "heatmaps"
    failed = bool(told(explained)["reasons"])
    assert (folder / "mean.png").is_file() != failed
    assert (folder / "regions.csv").is_file() != failed
    assert (folder / "class-0.png").is_file()
    assert (folder / "uncertainty.png").is_file()
    page = explained.report.read_text(encoding="utf-8")
    assert 'id="explanations"' in page
    assert ("did not pass every check" in page) == failed


def test_a_passing_method_is_summarised(ventricles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scanwise.explanation.sanity.reasons", lambda checks: [])
    run = fit(ventricles, tmp_path / "run")
    rows = read_csv(run.path / "heatmaps" / "regions.csv")
    for row in rows:
        assert sum(float(row[name]) for name in drawing.REGIONS) == pytest.approx(1, abs=0.01)
    assert sum(int(row["scans"]) for row in rows) == 6
    assert "passed every check" in run.report.read_text(encoding="utf-8")
    before = (run.path / "heatmaps" / "maps.npz").stat().st_mtime_ns
    fit(ventricles, tmp_path / "run", resume=True)
    assert (run.path / "heatmaps" / "maps.npz").stat().st_mtime_ns == before  # what is there is kept
    assert any(one.check == "explanation.weights" for one in load_findings(run.findings))


def test_labels_are_shuffled_between_people(ventricles: Path) -> None:
    from dataclasses import replace

    from scanwise.pipeline import prepare
    from scanwise.recipe import Recipe

    work = prepare(
        Recipe(name="x", data=Data(size=32)), data=ventricles / "scans", subject=str(ventricles / "truth.csv")
    )
    slices = np.repeat(np.arange(len(work.cohort)), 2)
    work = replace(work, cohort=work.cohort.take(slices))
    labels = explaining.shuffle(work, 0)
    assert (labels[::2] == labels[1::2]).all()
    assert (labels != work.cohort.labels).any()
    np.testing.assert_array_equal(np.bincount(labels), np.bincount(work.cohort.labels))


def test_new_scans_are_explained_on_their_own_grid(explained: Run, tmp_path: Path, scanwise: Command) -> None:
    wide = tmp_path / "wide.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60), dtype=np.uint8)).save(wide)
    said = scanwise(
        "explain", explained.path, wide, "--target", "all", "--method", "layer_cam", "--out", tmp_path / "maps"
    )
    assert said.code == 0, said.err
    assert "was not checked" in said.err
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == [
        "wide.png-ill.npz", "wide.png-ill.png", "wide.png-well.npz", "wide.png-well.png",
    ]  # fmt: skip
    maps = np.load(tmp_path / "maps" / "wide.png-ill.npz")
    assert maps["aligned"].shape == (40, 60)
    assert str(maps["target_name"]) == "ill"
    assert scanwise("explain", explained.path, wide, "--target", "il").refusal.endswith("Did you mean 'ill'?")
    assert "Did you mean" in scanwise("explain", explained.path, wide, "--method", "layercam").refusal


def test_a_map_of_a_volume_lies_in_the_volumes_space(explained: Run, tmp_path: Path) -> None:
    """A file whose axes run otherwise than the reader's: the map must come back to where the voxels are."""
    shown = np.zeros((20, 30, 4), np.float32)
    shown[14:18, 3:7, 2] = 1  # right, back
    affine = np.diag([-2.0, 3.0, 4.0, 1.0])  # the first axis runs to the left
    volume = nibabel.Nifti1Image(shown[::-1].copy(), affine)
    nibabel.save(volume, tmp_path / "x.nii.gz")
    loaded = showing._volume(tmp_path / "x.nii.gz", Data(axis="axial"))
    assert loaded is not None
    from scanwise.cohort.readers import read_slices

    scan = read_slices(tmp_path / "x.nii.gz", [2], Data(size=64, channels=1))[0]
    assert not isinstance(scan, str)
    aligned = showing.align(scan.pixels[..., 0].astype(np.float32), *loaded.grid, Data(size=64))
    (tmp_path / "map.nii.gz").write_bytes(loaded.holding(aligned, 2))
    back = nibabel.load(tmp_path / "map.nii.gz")
    here = np.array(np.unravel_index(back.get_fdata().argmax(), back.shape))
    there = [back.affine @ [*here, 1], affine @ [*np.argwhere(shown[::-1] > 0).mean(0), 1]]
    assert np.abs(there[0][:3] - there[1][:3]).max() <= 6


@pytest.mark.parametrize("shape", ["pad", "stretch"])
def test_aligning_undoes_what_the_reader_did(shape: str) -> None:
    from scanwise.cohort.readers import resize

    settings = Data(size=64, shape=shape)
    image = np.zeros((60, 90, 1), np.uint8)
    image[20:30, 60:75] = 255
    back = showing.align(resize(image, settings)[..., 0].astype(np.float32), 60, 90, settings)
    assert back.shape == (60, 90)
    assert np.corrcoef(back.ravel(), image[..., 0].ravel())[0, 1] > 0.9
