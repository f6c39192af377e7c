"""An exported model answers as its run does, without torch, and nothing else is ever exported."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scanwise import bundle
from scanwise.errors import RunError
from scanwise.run import sha256_of
from tiny import Command, Whole
from tiny_bundles import KINDS, write_scans_of, write_tiny_bundle

pytest.importorskip("onnxscript", reason="needs scanwise[onnx]")
pytest.importorskip("onnxruntime", reason="needs scanwise[onnx]")

from scanwise.bundle.draws import draw_masks
from scanwise.pipeline.commands.export_model import export_model, verify_export

BuildOnce = Callable[[str, Callable[[Path], object]], Path]
WITHOUT_TORCH = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "timm", "lightning", "captum", "onnx", "onnxscript"):
            raise ImportError(f"{name} must not be needed")
sys.meta_path.insert(0, Refuse())
from scanwise.cli import main
main()
"""


def without_torch(*args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT_TORCH, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def scans(build_once: BuildOnce) -> Path:
    return build_once("scans-of-kinds", write_scans_of)


@pytest.fixture(scope="module")
def exported(build_once: BuildOnce, scans: Path) -> Callable[[str], tuple[Path, Path]]:
    """The bundle and the export of a kind."""

    def make(kind: str) -> tuple[Path, Path]:
        source = build_once(f"kind-{kind}", lambda folder: write_tiny_bundle(folder, kind))
        return source, build_once(f"export-{kind}", lambda folder: export_model(source, folder, scans=[scans]))

    return make


def rows_agree(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        if isinstance(value, float):
            assert other[name] == pytest.approx(value, rel=1e-3, abs=1e-4), name
        else:
            assert other[name] == value, name


@pytest.mark.extended
@pytest.mark.parametrize("kind", KINDS)
def test_every_recipe_is_exported_and_answers_as_it_did(
    kind: str, exported: Callable[[str], tuple[Path, Path]], scans: Path
) -> None:
    source, folder = exported(kind)
    parity = json.loads((folder / "parity.json").read_text(encoding="utf-8"))
    assert parity["scans"] >= 200
    assert parity["batches"] == [1, 2, 7, 32]
    assert (parity["classes"], parity["sets"], parity["flags"]) == (0, 0, 0)
    assert parity["difference"] <= 1e-4
    paths = sorted(scans.iterdir())
    subjects = [path.stem[:3] for path in paths]
    one, other = bundle.load(source), bundle.load(folder)
    words = ["red coat"] * len(paths) if one.recipe.model.reads_words else None
    columns = {"age": np.array([str(50 + row // 4) for row in range(len(paths))]), "sex": np.array(["F", "M"] * 12)}
    answers = [loaded.predict(paths, subjects, dict(columns), words=words) for loaded in (one, other)]
    for unit in ("scans", "subjects"):
        for first, second in zip(*(getattr(answer, unit).rows() for answer in answers), strict=True):
            rows_agree(first, second)
    alone = other.predict([paths[9]], words=None if words is None else words[:1]).scans
    if not one.recipe.model.by_subject and not one.recipe.model.is_ridge and not one.recipe.model.covariates:
        assert alone.probs.tobytes() == answers[1].scans.probs[9].tobytes()
    assert "to the last byte" in verify_export(folder)


@pytest.mark.extended
def test_it_is_predicted_with_and_verified_without_torch(
    exported: Callable[[str], tuple[Path, Path]], scans: Path
) -> None:
    for kind in ("demo", "fashion-fusion", "efficientnet-uncertainty"):
        _, folder = exported(kind)
        done = without_torch("export", "--verify", folder)
        assert done.returncode == 0, done.stderr
        assert "to the last byte" in done.stdout
        picture = scans / "p01_3.png"
        one = without_torch("predict", folder, picture, "--format", "json", "--threads", 2)
        assert one.returncode == 0, one.stderr
        among = without_torch("predict", folder, scans, "--format", "json", "--threads", 1)
        rows = {row["path"]: row for row in json.loads(among.stdout)["scans"]}
        assert json.loads(one.stdout)["scans"] == [rows[str(picture)]]
        assert one.stdout == bundle.load(folder).predict([picture]).to_json()


def test_a_run_is_exported_on_its_own_scans(whole: Whole, tmp_path: Path, scanwise: Command) -> None:
    said = scanwise("export", whole.run.path, "--out", tmp_path / "model")
    assert said.code == 0, said.err
    assert "another class in 0, another prediction set in 0, another flag in 0" in said.out
    names = {file.name for file in (tmp_path / "model").iterdir()}
    assert {"model.onnx", "decoder.json", "bundle.json", "recipe.yaml", "novelty.safetensors", "golden.json"} <= names
    parity = json.loads((tmp_path / "model" / "parity.json").read_text(encoding="utf-8"))
    assert parity["scans"] == 200
    assert parity["altered_copies"] == 200 - 94
    for file in (tmp_path / "model").iterdir():
        assert whole.data.parent.name.encode() not in file.read_bytes()  # nothing says where the scans lay
    said = scanwise("predict", tmp_path / "model", whole.data.parent / "few", "--format", "json")
    assert said.code == 0, said.err
    assert len(json.loads(said.out)["scans"]) == 4
    again = scanwise("export", whole.run.path, "--out", tmp_path / "model")
    assert again.code == 2
    assert "Give --out a new folder" in again.refusal
    said = scanwise("explain", tmp_path / "model", whole.data.parent / "few", "--out", tmp_path / "maps")
    assert said.code == 2
    assert "Give the run that it was exported from" in said.refusal
    said = scanwise("export", tmp_path / "model", "--out", tmp_path / "twice")
    assert "is an exported model already" in said.refusal


@pytest.mark.extended
def test_a_graph_that_answers_otherwise_is_not_exported(
    exported: Callable[[str], tuple[Path, Path]], scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scanwise.bundle.onnx_engine import OnnxEngine

    source, _ = exported("demo")
    run = OnnxEngine.run

    def slightly_off(self: OnnxEngine, pixels: Any, tokens: Any) -> Any:
        logits, features, attention = run(self, pixels, tokens)
        return logits + np.linspace(0, 1e-2, logits.shape[2], dtype=np.float32), features, attention

    monkeypatch.setattr(OnnxEngine, "run", slightly_off)
    with pytest.raises(RunError, match=r"does not answer as the network does: of .* largest difference"):
        export_model(source, tmp_path / "model", scans=[scans])
    assert not list(tmp_path.iterdir())


def test_a_machine_that_answers_otherwise_is_told(
    exported: Callable[[str], tuple[Path, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from scanwise.bundle.onnx_engine import OnnxEngine

    _, folder = exported("demo")
    run = OnnxEngine.run

    def shifted(self: OnnxEngine, pixels: Any, tokens: Any) -> Any:
        logits, features, attention = run(self, pixels, tokens)
        return logits + size * np.arange(logits.shape[2], dtype=np.float32), features, attention

    monkeypatch.setattr(OnnxEngine, "run", shifted)
    size = 1e-5
    assert "same class, set and flags; the largest difference" in verify_export(folder)
    size = 1e-1
    with pytest.raises(RunError, match=r"answers the golden cases of .* otherwise"):
        verify_export(folder)


@pytest.mark.parametrize("name", ["model.onnx", "golden.json", "golden-03.png", "bundle.json", "decoder.json"])
def test_an_altered_export_is_refused_in_one_line(
    name: str, exported: Callable[[str], tuple[Path, Path]], tmp_path: Path, scanwise: Command
) -> None:
    shutil.copytree(exported("demo")[1], tmp_path / "model")
    file = tmp_path / "model" / name
    data = bytearray(file.read_bytes())
    data[-2] ^= 1
    file.write_bytes(data)
    said = scanwise("export", "--verify", tmp_path / "model")
    assert said.code == 2
    assert f"{name} is not what scanwise wrote" in said.refusal
    file.unlink()
    assert scanwise("export", "--verify", tmp_path / "model").code == 2


def test_a_graph_of_others_is_refused_in_one_line(
    exported: Callable[[str], tuple[Path, Path]], tmp_path: Path, scanwise: Command
) -> None:
    shutil.copytree(exported("demo")[1], tmp_path / "model")
    (tmp_path / "model" / "model.onnx").write_bytes(b"no graph at all")
    sums = tmp_path / "model" / "SHA256SUMS"
    lines = [line.split("  ")[1] for line in sums.read_text(encoding="utf-8").splitlines()]
    sums.write_text("".join(f"{sha256_of(tmp_path / 'model' / n)}  {n}\n" for n in lines), encoding="utf-8")
    said = scanwise("export", "--verify", tmp_path / "model")
    assert said.code == 2
    assert "ONNX Runtime cannot read the exported network" in said.refusal


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ((), "Name a run and a new folder"),
        (("nowhere", "--out", "x"), "There is no run at nowhere"),
        (("--verify", "nowhere"), "There is no run at nowhere"),
        (("nowhere", "--verify", "nowhere"), "takes an exported folder and nothing else"),
    ],
)
def test_mistakes_are_refused(args: tuple[str, ...], expected: str, scanwise: Command) -> None:
    said = scanwise("export", *args)
    assert said.code == 2
    assert expected in said.refusal


def test_a_bundle_alone_needs_scans(exported: Callable[[str], tuple[Path, Path]], tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no scans to compare the export on"):
        export_model(exported("demo")[0], tmp_path / "model")


def test_masks_are_those_of_torch() -> None:
    import torch

    from scanwise.bundle.draws import DropoutLayer
    from scanwise.models.dropout import DropoutMasks
    from scanwise.prediction import _keys

    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), np.uint8)
    layers = [DropoutLayer((7,), 0.3), DropoutLayer((3, 5), 0.5)]
    masks = draw_masks(pixels, layers, draws=4, seed=3)
    with DropoutMasks(_keys(pixels, 3), torch.arange(4)):
        first = torch.nn.functional.dropout(torch.ones(5, 7), 0.3, training=False)
        second = torch.nn.functional.dropout(torch.ones(20, 3, 5), 0.5, training=False)
    for mask, drawn in zip(masks, (first, second), strict=True):
        assert np.array_equal(mask.swapaxes(0, 1).reshape(drawn.shape), drawn.numpy() > 0)
