"""A fit explains itself: maps, badge, findings and pages; new scans are explained on the grid of their file."""

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

from medical_files import shipped
from scanwise import pipeline
from scanwise.bundle import load as load_bundle
from scanwise.cohort import phantom, phantom_files
from scanwise.errors import RecipeError
from scanwise.explanation.components import HALF_METHODS
from scanwise.explanation.regions import REGIONS
from scanwise.pipeline import fit as fit_run
from scanwise.pipeline.stages import explanation as explanation_stage
from scanwise.recipe import Data, load_recipe
from scanwise.records import load_findings
from scanwise.records.array_files import read_arrays
from scanwise.run import RunFolder
from tiny import RECIPE, Command, Whole, read_csv, run_command

EXPLAINED = ("explain.retrain=true", "model.dropout=0.3", "model.members.kind=mc_dropout")
STEPS = ["train.epochs=2", "explain.scans=6", "explain.examples=1", "audit.checks=[]", "rivals.names=[majority]"]


@pytest.fixture(scope="module")
def ventricles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ventricles") / "cohort"
    phantom_files.write_phantoms(
        folder, phantom.Phantom(subjects=40, slices=1, size=48, stages=("well", "ill"), signal="ventricles")
    )
    return folder


def fit(ventricles: Path, out: Path, *settings: str, resume: bool = False) -> RunFolder:
    file = out.parent / "tiny.yaml"
    file.write_text(RECIPE, encoding="utf-8")
    return fit_run(
        file, data=ventricles / "scans", subject=str(ventricles / "truth.csv"), out=out, settings=[*STEPS, *settings],
        device="cpu", threads=1, resume=resume,
    )  # fmt: skip


@pytest.fixture(scope="module")
def explained(ventricles: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    out = tmp_path_factory.mktemp("explained") / "run"
    return fit(ventricles, out, *EXPLAINED)


def test_a_finished_run_that_goes_on_is_at_no_moment_without_its_findings(
    explained: RunFolder, ventricles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was killed before its explanations are looked at again; a damaged list is made anew."""
    again = RunFolder.open(shutil.copytree(explained.path, tmp_path / "run"))
    whole = explained.findings.read_bytes()

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "explain_run", die)
        with pytest.raises(KeyboardInterrupt):
            fit(ventricles, again.path, *EXPLAINED, resume=True)
    assert again.findings.read_bytes() == whole
    again.findings.write_bytes(whole[: len(whole) // 2])
    fit(ventricles, again.path, *EXPLAINED, resume=True)
    assert again.findings.read_bytes() == whole


def told(run: RunFolder) -> Any:
    return json.loads((run.path / "heatmaps" / "checks.json").read_text(encoding="utf-8"))


def faint(image: Image.Image, opacity: float) -> Image.Image:
    image.putalpha(image.getchannel("A").point(lambda value: round(opacity * value)))
    return image


def test_every_check_is_a_finding_and_decides_the_badge(explained: RunFolder) -> None:
    checks = told(explained)["checks"]
    assert [one["name"] for one in checks] == ["weights", "repeat", "faith", "foreground", "labels", "seed", "learnt"]
    findings = {one.check: one for one in load_findings(explained.findings) if one.check.startswith("explanation.")}
    assert set(findings) == {f"explanation.{one['name']}" for one in checks}
    for one in checks:
        assert (findings[f"explanation.{one['name']}"].severity == "note") == one["passed"]
    maps = read_arrays(explained.path / "heatmaps" / "maps.npz")
    assert maps["values"].shape == (6, 32, 32)
    failed = [one["name"] for one in checks if not one["passed"]]
    assert bool(told(explained)["reasons"]) == bool(failed)
    assert not maps["passed"].any() if failed else maps["passed"].all()


def test_what_failed_is_left_out_of_the_summary_and_said_in_the_report(explained: RunFolder) -> None:
    folder = explained.path / "heatmaps"
    failed = bool(told(explained)["reasons"])
    assert (folder / "mean.png").is_file() != failed
    assert (folder / "regions.csv").is_file() != failed
    scans, maps = (Image.open(folder / f"class-0{part}.png") for part in ("-scans", "-maps"))
    assert scans.size == maps.size
    laid = Image.alpha_composite(scans.convert("RGBA"), faint(maps.convert("RGBA"), 0.6))
    whole = np.asarray(Image.open(folder / "class-0.png").convert("RGBA")).astype(int)
    assert np.abs(whole - np.asarray(laid)).max() <= 3
    assert (folder / "uncertainty.png").is_file()
    page = explained.report.read_text(encoding="utf-8")
    assert 'id="explanations"' in page
    assert ("checks failed" in page) == failed


@pytest.mark.extended
def test_a_passing_method_is_summarised(ventricles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scanwise.explanation.sanity.failure_reasons", lambda checks: [])
    run = fit(ventricles, tmp_path / "run")
    rows = read_csv(run.path / "heatmaps" / "regions.csv")
    for row in rows:
        assert sum(float(row[name]) for name in REGIONS) == pytest.approx(1, abs=0.01)
    assert sum(int(row["scans"]) for row in rows) == 6
    assert "passed every check" in run.report.read_text(encoding="utf-8")
    before = (run.path / "heatmaps" / "maps.npz").stat().st_mtime_ns
    fit(ventricles, tmp_path / "run", resume=True)
    assert (run.path / "heatmaps" / "maps.npz").stat().st_mtime_ns == before  # what is there is kept
    assert any(one.check == "explanation.weights" for one in load_findings(run.findings))


@pytest.mark.extended
def test_labels_are_shuffled_between_people(ventricles: Path) -> None:
    from dataclasses import replace

    from scanwise.pipeline import prepare
    from scanwise.recipe import Recipe

    work = prepare(
        Recipe(name="x", data=Data(size=32)), data=ventricles / "scans", subject=str(ventricles / "truth.csv")
    )
    slices = np.repeat(np.arange(len(work.cohort)), 2)
    work = replace(work, cohort=work.cohort.take(slices))
    labels = explanation_stage.shuffled_labels(work, 0)
    assert (labels[::2] == labels[1::2]).all()
    assert (labels != work.cohort.labels).any()
    np.testing.assert_array_equal(np.bincount(labels), np.bincount(work.cohort.labels))


def test_new_scans_are_explained_on_their_own_grid(explained: RunFolder, tmp_path: Path, scanwise: Command) -> None:
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
    maps = read_arrays(tmp_path / "maps" / "wide.png-ill.npz")
    assert maps["aligned"].shape == (40, 60)
    assert str(maps["target_name"]) == "ill"
    assert scanwise("explain", explained.path, wide, "--target", "il").refusal.endswith("Did you mean 'ill'?")
    assert "Did you mean" in scanwise("explain", explained.path, wide, "--method", "layercam").refusal


def picture(path: Path, *, gray: int | None = None) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    Image.fromarray(pixels if gray is None else np.full_like(pixels, gray)).save(path)
    return path


def test_the_verdict_travels_with_the_bundle(explained: RunFolder, tmp_path: Path, scanwise: Command) -> None:
    reasons = told(explained)["reasons"]
    for place in (explained.path, explained.bundle):
        loaded = load_bundle(place)
        assert loaded.verdict("pooled_gradients") == reasons
        assert loaded.verdict("pooled_gradients", "another") is None
        assert loaded.verdict("grad_cam") is None
    alone = tmp_path / "alone"
    shutil.copytree(explained.bundle, alone)
    said = scanwise("explain", alone, picture(tmp_path / "a.png"), "--target", "ill", "--out", tmp_path / "maps")
    assert said.code == 0, said.err
    assert str(read_arrays(tmp_path / "maps" / "a.png-ill.npz")["passed"]) == str(not reasons)
    assert ("did not pass the checks" in said.err) == bool(reasons)


@pytest.mark.parametrize("reasons", [None, [], ["it jumps"]])
def test_the_badge_is_on_every_map(
    reasons: list[str] | None, explained: RunFolder, tmp_path: Path, scanwise: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a scan on which nothing stands out the map is empty, which no check of the method can make good."""
    monkeypatch.setattr("scanwise.bundle.Bundle.verdict", lambda *_: reasons)
    scans = [picture(tmp_path / "scan.png"), picture(tmp_path / "black.png", gray=0)]
    said = scanwise("explain", explained.path, *scans, "--target", "ill", "--out", tmp_path / "maps")
    assert said.code == 0, said.err
    drawn, empty = (read_arrays(tmp_path / "maps" / f"{name}.png-ill.npz") for name in ("scan", "black"))
    assert (
        str(drawn["passed"])
        == {None: "not checked", True: "True", False: "False"}[None if reasons is None else not reasons]
    )
    assert not empty["values"].any()
    assert str(empty["passed"]) == "False"
    assert "the map is empty" in str(empty["reason"])
    assert "the map is empty" in said.err
    shown = np.asarray(Image.open(tmp_path / "maps" / "scan.png-ill.png").convert("RGB")).astype(int)
    colourful = (np.ptp(shown[70:-60], axis=2) > 60).any()
    assert colourful == (not reasons)


@pytest.mark.extended
def test_no_two_scans_are_written_over_each_other(explained: RunFolder, tmp_path: Path, scanwise: Command) -> None:
    scans = [picture(tmp_path / name) for name in ("a b.png", "a_b.png")]
    said = scanwise(
        "explain", explained.path, *scans, "--target", "ill", "--target", "well", "--out", tmp_path / "maps"
    )
    assert said.code == 0, said.err
    found = {
        str(read_arrays(path)["scan"]) + str(read_arrays(path)["target_name"])
        for path in (tmp_path / "maps").glob("*.npz")
    }
    assert len(found) == 4


def test_where_the_draws_differ_is_shown_of_new_scans(
    explained: RunFolder, whole: Whole, tmp_path: Path, scanwise: Command
) -> None:
    scan = picture(tmp_path / "a.png")
    said = scanwise("explain", explained.path, scan, "--target", "ill", "--uncertainty", "--out", tmp_path / "maps")
    assert said.code == 0, said.err
    assert str(tmp_path / "maps" / "a.png-ill-members.png") in said.out
    members = read_arrays(tmp_path / "maps" / "a.png-ill-members.npz")
    assert members["variance"].shape == (1, 32, 32)
    assert (members["variance"] > 0).any()
    assert members["scans"].tolist() == [str(scan)]
    refused = scanwise("explain", whole.run.path, scan, "--uncertainty", "--out", tmp_path / "none")
    assert "model.members.kind" in refused.refusal


def test_a_method_that_does_not_apply_is_refused_before_training(ventricles: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="Rollout reads"):
        fit(ventricles, tmp_path / "run", "explain.method=rollout")
    with pytest.raises(RecipeError, match="no layer"):
        fit(ventricles, tmp_path / "run", "explain.method=grad_cam", "explain.layer=nowhere")
    assert not (tmp_path / "run").exists()


@pytest.mark.extended
def test_what_is_no_head_has_no_regions(ventricles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scanwise.explanation.sanity.failure_reasons", lambda checks: [])
    run = fit(ventricles, tmp_path / "run", "explain.heads=false", "explain.scans=2")
    assert (run.heatmaps / "maps.npz").is_file()
    assert not (run.heatmaps / "regions.csv").exists()
    assert not (run.heatmaps / "mean.png").exists()


HYBRID = (
    "split.protocols=[honest]", "data.size=32", "model.weights=none", "model.hidden=[16]", "train.epochs=1", "train.schedule.warmup=0", "evaluation.draws=100",
    "model.hybrid.convolution.name=resnet10t", "model.hybrid.transformer.name=vit_tiny_patch16_224",
    "model.hybrid.transformer.options={img_size: 32, patch_size: 8, embed_dim: 32, depth: 2, num_heads: 2}",
)  # fmt: skip


@pytest.fixture(scope="module")
def hybrid(ventricles: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """`scanwise fit stroke-hybrid`, with halves that are small."""
    out = tmp_path_factory.mktemp("hybrid") / "run"
    settings = [part for text in (*STEPS[1:], *HYBRID) for part in ("--set", text)]
    said = run_command(
        "fit", "stroke-hybrid", "--data", ventricles / "scans", "--subject", ventricles / "truth.csv", "--out", out,
        "--device", "cpu", "--threads", 1, *settings,
    )  # fmt: skip
    assert said.code == 0, said.err
    return RunFolder.open(out)


@pytest.mark.extended
def test_the_halves_of_a_hybrid_are_in_the_report(hybrid: RunFolder) -> None:
    folder = hybrid.path / "heatmaps"
    rows = read_csv(folder / "components.csv")
    assert len(rows) == 6
    for row in rows:
        assert (folder / row["picture"]).is_file()
        assert 0 <= float(row["convolution_share"]) <= 1
        assert row["truth"] in ("well", "ill")
    halves = told(hybrid)["halves"]
    names = {half: [one["name"] for one in checks] for half, checks in halves.items()}
    made = ["weights", "repeat", "faith", "foreground", "learnt"]
    assert names == {"convolution": made, "transformer": made}
    messages = [one.message for one in load_findings(hybrid.findings) if one.check == "explanation.repeat"]
    assert [message.split(":")[0] for message in messages] == ["pooled_gradients", "grad_cam", "gradient_rollout"]
    assert (
        sum(one.check == "explanation.learnt" for one in load_findings(hybrid.findings)) == 1
    )  # of the network, said once
    page = hybrid.report.read_text(encoding="utf-8")
    assert "The two halves: regions and contributions" in page
    assert "Centre of the transformer’s map" in page
    for half, method in HALF_METHODS.items():
        reasons = [one["message"].rstrip(".") for one in halves[half] if not one["passed"]]
        assert load_bundle(hybrid.path).verdict(method) == reasons
        assert {row[f"{half}_passed"] for row in rows} == {str(int(not reasons))}
    mean = np.mean([float(row["convolution_norm"]) for row in rows])
    assert f"<td>{mean:.3g}</td>" in page
    kinds = {(row["truth"], row["truth"] == row["predicted"]) for row in rows}
    assert page.count(': the scan bare, and under the map of each half and of both."/>') == len(kinds)


def test_scans_are_explained_a_few_at_a_time(
    explained: RunFolder,
    ventricles: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scanwise: Command,
    batches_seen: list[int],
) -> None:
    """Gradients take as much memory as training does, so at most as many as it was given."""
    for room in ("pipeline.stages.explanation", "prediction"):
        monkeypatch.setattr(f"scanwise.{room}.MAX_BATCH", 2)
    scans = sorted((ventricles / "scans").rglob("*.png"))[:3]
    said = scanwise("explain", explained.path, *scans, "--target", "ill", "--out", tmp_path / "maps")
    assert said.code == 0, said.err
    assert max(batches_seen) == 2
    learnt = load_recipe("demo", ["train.batch=2"])
    assert explanation_stage.explanation_options(learnt, "cpu", False)["batch"] == 2


@pytest.mark.extended
def test_a_real_dicom_is_explained_on_its_own_grid(hybrid: RunFolder, tmp_path: Path, scanwise: Command) -> None:
    import pydicom

    files = [shipped(name) for name in ("CT_small.dcm", "MR_small.dcm")]
    said = scanwise("explain", hybrid.path, *files, "--target", "ill", "--out", tmp_path / "maps")
    assert said.code == 0, said.err
    for file in files:
        header, stem = pydicom.dcmread(file), f"{file.name}-ill"
        maps = read_arrays(tmp_path / "maps" / f"{stem}.npz")
        assert maps["aligned"].shape == (header.Rows, header.Columns)
        np.testing.assert_allclose(maps["spacing"], header.PixelSpacing)
        image = nibabel.load(tmp_path / "maps" / f"{stem}.nii.gz")
        assert image.shape == (header.Columns, header.Rows, 1)
        np.testing.assert_allclose(image.get_fdata()[:, :, 0].T, maps["aligned"], rtol=1e-6)
        np.testing.assert_allclose(image.affine, maps["affine"], rtol=1e-6)
        np.testing.assert_allclose(
            image.header.get_zooms(), (*header.PixelSpacing[::-1], header.SliceThickness), rtol=1e-6
        )
        np.testing.assert_allclose(image.affine[:3, 3] * [-1, -1, 1], header.ImagePositionPatient, rtol=1e-6)
        assert (tmp_path / "maps" / f"{stem}-halves.png").is_file()
    assert [row["scan"] for row in read_csv(tmp_path / "maps" / "components.csv")] == [str(file) for file in files]
    assert str(tmp_path / "maps" / "components.csv") in said.out


@pytest.mark.slow
def test_a_recipes_network_is_trained_twice_more_for_its_checks(ventricles: Path, tmp_path: Path) -> None:
    settings = [part for text in (*STEPS[1:], "train.epochs=1", "explain.retrain=true", "split.protocols=[honest]", "evaluation.draws=100")
                for part in ("--set", text)]  # fmt: skip
    said = run_command(
        "fit", "alexnet-gray", "--data", ventricles / "scans", "--subject", ventricles / "truth.csv", "--out", tmp_path / "run",
        "--device", "cpu", "--threads", 1, *settings,
    )  # fmt: skip
    assert said.code == 0, said.err
    run = RunFolder.open(tmp_path / "run")
    checks = {one["name"]: one for one in told(run)["checks"]}
    assert {"labels", "seed"} <= set(checks)
    for name in ("labels", "seed"):
        assert 0 <= checks[name]["figures"]["overlap"] <= 1
        assert (run.path / "retrained" / name / "model.safetensors").is_file()
    assert "Shuffled labels" in run.report.read_text(encoding="utf-8")
