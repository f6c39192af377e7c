"""Damaged files of every kind go through the command that reads them: an answer or one line, in seconds, and in little memory.

`FUZZ` says how many of each kind, 500 by default. Scans go through by the dozen, which is harder than one by one: what holds for
all of them together holds for each.
"""

import gzip
import io
import os
import random
import re
import shutil
import time
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
from mutations import damage, damage_json, damage_text

from medical_files import shipped, write_dicom, write_packed
from picture_files import png16, tiff
from scanwise.cohort import store
from scanwise.errors import WeightsError
from scanwise.models.weights import read_weights
from scanwise.recipe import Data
from scanwise.run import sha256_of
from tiny import RECIPE, Command, Said, Whole, picture

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

COUNT = int(os.environ.get("FUZZ", "500"))
SECONDS, MEGABYTES = 10.0, 1024
"""Of computing, so that a busy machine changes nothing; by the clock, `WAITED`."""
WAITED = 120.0
DOZEN = 25
Change = Callable[[bytes, random.Random], bytes]


@dataclass
class Toll:
    """What a kind of files cost: the slowest command, and the most memory beside what was there before."""

    kind: str
    commands: int = 0
    refused: int = 0
    seconds: float = 0.0
    megabytes: float = 0.0

    def check(self, scanwise: Command, *command: object) -> Said:
        """Run a command, and see that it ends as it should."""
        before = _memory(reset=True)
        start, clock = time.process_time(), time.monotonic()
        said = scanwise(*command)
        self.commands += 1
        self.seconds = max(self.seconds, time.process_time() - start)
        self.megabytes = max(self.megabytes, _memory() - before)
        assert said.code in (0, 1, 2, 3), said.err[-2000:]
        if said.code == 2:
            self.refused += 1
            assert re.search(r"^error: .", said.err, re.MULTILINE)
        assert "Traceback" not in said.err
        assert self.seconds <= SECONDS, command
        assert time.monotonic() - clock <= WAITED, command
        assert self.megabytes <= MEGABYTES, command
        return said

    def tell(self, files: int) -> None:
        print(  # noqa: T201 - for the log
            f"fuzz: {self.kind}: {files} files, {self.commands} commands, {self.refused} refused, slowest {self.seconds:.1f} s, "
            f"at most {self.megabytes:.0f} MB more"
        )


def _memory(*, reset: bool = False) -> float:
    """Megabytes: what this process has now where the peak is reset, else the peak since then."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    name = "VmRSS" if reset else "VmHWM"
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def saved(save: Callable[[Path], object], file: Path) -> bytes:
    save(file)
    return file.read_bytes()


def mend_png(content: bytes) -> bytes:
    """The chunks with checksums that fit, so that damage gets past them."""
    mended, place = bytearray(content), 8
    while place + 12 <= len(mended):
        length = int.from_bytes(mended[place : place + 4])
        end = place + 8 + length
        if end + 4 > len(mended):
            break
        mended[end : end + 4] = zlib.crc32(mended[place + 4 : end]).to_bytes(4)
        place = end + 4
    return bytes(mended)


def damage_png(content: bytes, draw: random.Random) -> bytes:
    damaged = damage(content, draw)
    return mend_png(damaged) if draw.random() < 0.7 else damaged


def damage_packed(content: bytes, draw: random.Random) -> bytes:
    """Damage of what is packed, or of the packing."""
    if draw.random() < 0.5:
        return damage(content, draw)
    return gzip.compress(damage(gzip.decompress(content), draw), 1)


def damage_member(content: bytes, draw: random.Random) -> bytes:
    """Damage of one file of a ZIP archive, or of the archive."""
    if draw.random() < 0.4:
        return damage(content, draw)
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        chosen = draw.choice(old.namelist())
        for name in old.namelist():
            inner = old.read(name)
            change = damage_text if inner[:1] == b"<" else damage
            new.writestr(name, change(inner, draw) if name == chosen else inner)
    return out.getvalue()


def picture_seeds(form: str, folder: Path) -> list[bytes]:
    gray, colour = picture(0, 1), picture(1, 2).convert("RGB")
    return [saved(lambda file, image=image: image.save(file, form), folder / "seed") for image in (gray, colour)]


def scan_seeds(kind: str, folder: Path) -> list[bytes]:
    """Whole files of a kind of scan."""
    values = np.random.default_rng(0).integers(0, 4000, (24, 20)).astype(np.uint16)
    voxels = np.random.default_rng(0).integers(0, 900, (12, 14, 9)).astype(np.int16)
    match kind:
        case "png":
            return [*picture_seeds("PNG", folder), png16(values), png16(np.stack([values] * 3, -1))]
        case "tif":
            packed = [saved(lambda file, how=how: picture(0, 1).save(file, "TIFF", compression=how), folder / "seed.tif")
                      for how in ("tiff_lzw", "tiff_adobe_deflate")]  # fmt: skip
            return [*picture_seeds("TIFF", folder), tiff(values), tiff(np.stack([values] * 3, -1), 2, ">"), *packed]
        case "jpg":
            return picture_seeds("JPEG", folder)
        case "bmp" | "gif" | "webp":
            return picture_seeds(kind.upper(), folder)
        case "pgm":
            return picture_seeds("PPM", folder)
        case "dcm":
            write_dicom(folder / "a.dcm", values)
            write_dicom(folder / "b.dcm", np.stack([values] * 3), WindowCenter=2000, WindowWidth=900)
            write_packed(
                folder / "c.dcm",
                [picture_seeds("JPEG", folder)[0]],
                "1.2.840.10008.1.2.4.50",
                np.zeros((40, 40), np.uint8),
            )
            small = [shipped(name) for name in ("MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "CT_small.dcm")]
            return [file.read_bytes() for file in (folder / "a.dcm", folder / "b.dcm", folder / "c.dcm", *small)]
        case "nii":
            return [
                nibabel.Nifti1Image(voxels, np.eye(4)).to_bytes(),
                nibabel.Nifti2Image(voxels, np.eye(4)).to_bytes(),
            ]
        case _:
            return [gzip.compress(content, 1) for content in scan_seeds("nii", folder)]


@pytest.fixture
def toll(request: pytest.FixtureRequest) -> Toll:
    return Toll(
        request.node.callspec.params.get("kind", request.node.name)
        if hasattr(request.node, "callspec")
        else request.node.name
    )


@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "bmp", "gif", "webp", "pgm", "dcm", "nii", "nii.gz"])
def test_scans(kind: str, toll: Toll, whole: Whole, scanwise: Command, tmp_path: Path) -> None:
    draw = random.Random(kind)  # noqa: S311
    seeds = scan_seeds(kind, tmp_path)
    change = {"png": damage_png, "nii.gz": damage_packed}.get(kind, damage)
    for start in range(0, COUNT, DOZEN):
        data = tmp_path / f"data{start}"
        (data / "a").mkdir(parents=True)
        (data / "b").mkdir()
        picture(0, start).save(data / "b" / "whole.png")
        files = [data / "a" / f"{start + index}.{kind}" for index in range(DOZEN)]
        for file in files:
            file.write_bytes(change(draw.choice(seeds), draw))
        toll.check(scanwise, "cohort", data, "--out", tmp_path / "scans.csv")
        said = toll.check(scanwise, "predict", whole.run.path, *files, data / "b" / "whole.png", "--format", "json")
        assert said.code == 0
        shutil.rmtree(data)
    toll.tell(COUNT)


def table_seeds(kind: str, folder: Path) -> list[bytes]:
    rows = {
        "path": [f"a/{index}.png" for index in range(8)], "label": ["x", "y"] * 4, "subject": list(range(8)),
        "site": ["north", "", "sö", "=1"] * 2,
    }  # fmt: skip
    table = pd.DataFrame(rows)
    match kind:
        case "csv":
            return [table.to_csv(index=False).encode(), table.to_csv(sep=";").encode("utf-16")]
        case "tsv":
            return [table.to_csv(index=False, sep="\t", quoting=1).encode("cp1252")]
        case "xlsx":
            return [saved(lambda file: table.to_excel(file, index=False), folder / "seed.xlsx")]
        case _:
            return [saved(table.to_parquet, folder / "seed.parquet")]


@pytest.mark.parametrize("kind", ["csv", "tsv", "xlsx", "parquet"])
def test_tables(kind: str, toll: Toll, scanwise: Command, tmp_path: Path) -> None:
    draw = random.Random(kind)  # noqa: S311
    (tmp_path / "a").mkdir()
    for index in range(8):
        picture(index % 2, index).save(tmp_path / "a" / f"{index}.png")
    seeds = table_seeds(kind, tmp_path)
    change: Change = {"csv": damage_text, "tsv": damage_text, "xlsx": damage_member}.get(kind, damage)
    for _ in range(COUNT):
        (tmp_path / f"scans.{kind}").write_bytes(change(draw.choice(seeds), draw))
        toll.check(scanwise, "cohort", tmp_path / f"scans.{kind}", "--out", tmp_path / "out.csv")
    toll.tell(COUNT)


def test_logits(toll: Toll, scanwise: Command, tmp_path: Path) -> None:
    draw = random.Random("npz")  # noqa: S311
    values = np.random.default_rng(0)
    arrays = {
        "logits": values.normal(size=(40, 3)), "labels": values.integers(0, 3, 40), "subjects": np.arange(40).astype(str),
        "classes": np.array(["a", "b", "c"]), "group_site": np.array(["n", "s"] * 20),
    }  # fmt: skip
    seeds = [
        saved(lambda file, save=save: save(file, **arrays), tmp_path / "seed.npz")
        for save in (np.savez, np.savez_compressed)
    ]
    for _ in range(COUNT):
        (tmp_path / "a.npz").write_bytes(damage_member(draw.choice(seeds), draw))
        toll.check(scanwise, "calibrate", tmp_path / "a.npz", "--out", tmp_path / "c.json")
    toll.tell(COUNT)


def test_calibrators(toll: Toll, scanwise: Command, tmp_path: Path) -> None:
    draw = random.Random("calibrator")  # noqa: S311
    values = np.random.default_rng(0)
    for name in ("valid", "known", "test"):
        np.savez(tmp_path / f"{name}.npz", logits=values.normal(size=(40, 3)), labels=values.integers(0, 3, 40),
                 subjects=np.char.add(name, np.arange(40).astype(str)))  # fmt: skip
    seeds = []
    for method in ("temperature", "vector", "isotonic"):
        assert scanwise("calibrate", tmp_path / "valid.npz", "--out", tmp_path / "c.json", "--method", method).code == 0
        seeds.append((tmp_path / "c.json").read_bytes())
    for _ in range(COUNT):
        (tmp_path / "c.json").write_bytes(damage_json(draw.choice(seeds), draw))
        toll.check(scanwise, "conformal", tmp_path / "known.npz", tmp_path / "test.npz", "--calibrator", tmp_path / "c.json",
                   "--out", tmp_path / "s.npz")  # fmt: skip
    toll.tell(COUNT)


def test_recipes(toll: Toll, scanwise: Command, tmp_path: Path) -> None:
    draw = random.Random("recipe")  # noqa: S311
    for kind in range(2):
        (tmp_path / "data" / "ab"[kind]).mkdir(parents=True)
        for index in range(2):
            picture(kind, index).save(tmp_path / "data" / "ab"[kind] / f"{index}.png")
    shown = scanwise("recipes", "show", "resnet50-two-stage").out
    seeds = [RECIPE.encode(), shown.encode()]
    for _ in range(COUNT):
        (tmp_path / "a.yaml").write_bytes(damage_text(draw.choice(seeds), draw))
        toll.check(
            scanwise, "cohort", tmp_path / "data", "--recipe", tmp_path / "a.yaml", "--out", tmp_path / "out.csv"
        )
    toll.tell(COUNT)


@pytest.fixture
def bundle(whole: Whole, tmp_path: Path) -> Path:
    shutil.copytree(next(whole.run.path.rglob("bundle.json")).parent, tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.mark.parametrize(
    "kind", ["bundle.json", "recipe.yaml", "model.safetensors", "novelty.safetensors", "SHA256SUMS"]
)
def test_bundles(kind: str, toll: Toll, bundle: Path, scanwise: Command, tmp_path: Path) -> None:
    """Hashes are made anew after the damage, so that it is met."""
    draw = random.Random(kind)  # noqa: S311
    picture(0, 1).save(tmp_path / "scan.png")
    content = (bundle / kind).read_bytes()
    sums = (bundle / "SHA256SUMS").read_text(encoding="utf-8")
    change: Change = {"bundle.json": damage_json, "recipe.yaml": damage_text, "SHA256SUMS": damage_text}.get(
        kind, _damage_header
    )
    old = sha256_of(bundle / kind)
    for _ in range(COUNT):
        (bundle / kind).write_bytes(change(content, draw))
        if kind != "SHA256SUMS":
            (bundle / "SHA256SUMS").write_text(sums.replace(old, sha256_of(bundle / kind)), encoding="utf-8")
        toll.check(scanwise, "predict", bundle, tmp_path / "scan.png", "--format", "json")
    toll.tell(COUNT)


def _damage_header(content: bytes, draw: random.Random) -> bytes:
    """Damage of the header of a safetensors file, its length mended half the time; or of any byte."""
    if draw.random() < 0.3:
        return damage(content, draw)
    end = 8 + int.from_bytes(content[:8], "little")
    header = damage_json(content[8:end], draw)
    length = (len(header) if draw.random() < 0.8 else draw.randint(0, 2**40)).to_bytes(8, "little")
    return length + header + content[end:]


def test_stores(toll: Toll, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is damaged is made anew, and is as before."""
    monkeypatch.setenv("SCANWISE_CACHE", str(tmp_path / "cache"))
    draw = random.Random("store")  # noqa: S311
    names = np.array([f"{index}.png" for index in range(6)])
    for index, name in enumerate(names):
        picture(0, index).save(tmp_path / name)
    first, refused = store.build_store(tmp_path, names, Data(size=32))
    expected = first.read(range(6)).copy()
    files = [file for file in (tmp_path / "cache" / "stores").glob("*/*") if file.name in ("store.json", "pixels.u8")]
    assert len(files) == 2
    for _ in range(COUNT):
        file = draw.choice(files)
        file.write_bytes((damage_json if file.suffix == ".json" else damage)(file.read_bytes(), draw))
        again, reasons = store.build_store(tmp_path, names, Data(size=32))
        np.testing.assert_array_equal(again.read(range(6)), expected)
        assert (again.sha256.tolist(), reasons) == (first.sha256.tolist(), refused)
    toll.tell(COUNT)


def test_runs(toll: Toll, whole: Whole, scanwise: Command, tmp_path: Path) -> None:
    """Any file of a run; the report reads nearly all of them, and takes long."""
    draw = random.Random("run")  # noqa: S311
    shutil.copytree(whole.run.path, tmp_path / "run")
    kinds: dict[str, Change] = {".json": damage_json, ".csv": damage_text, ".yaml": damage_text, ".npz": damage_member}
    files = [
        file for file in sorted((tmp_path / "run").rglob("*")) if file.suffix in (*kinds, ".parquet", ".safetensors")
    ]
    for _ in range(COUNT // 5):
        file = draw.choice(files)
        content = file.read_bytes()
        file.write_bytes(kinds.get(file.suffix, damage)(content, draw))
        toll.check(scanwise, "report", tmp_path / "run")
        file.write_bytes(content)
    toll.tell(COUNT // 5)


def test_weights(toll: Toll, tmp_path: Path) -> None:
    draw = random.Random("pth")  # noqa: S311
    seed = saved(lambda file: torch.save({"a.weight": torch.zeros(3, 4), "b": torch.ones(2)}, file), tmp_path / "w.pth")
    for _ in range(COUNT):
        (tmp_path / "w.pth").write_bytes(damage_member(seed, draw))
        before = _memory(reset=True)
        try:
            read_weights(tmp_path / "w.pth")
        except WeightsError:
            toll.refused += 1
        toll.megabytes = max(toll.megabytes, _memory() - before)
    assert toll.megabytes <= MEGABYTES
    toll.tell(COUNT)


def test_damage_is_damage() -> None:
    """Most of what is drawn differs from what was whole; a fuzz of whole files would show nothing."""
    draw = random.Random(0)  # noqa: S311
    content = bytes(range(256)) * 4
    assert sum(damage(content, draw) != content for _ in range(100)) > 95
    assert sum(damage_text(b"a: 1\nb: 2\n", draw) != b"a: 1\nb: 2\n" for _ in range(100)) > 90
    assert sum(damage_json(b'{"a": {"b": 1}}', draw) != b'{"a": {"b": 1}}' for _ in range(100)) > 90
