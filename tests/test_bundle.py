"""The only predictor: the numbers of the run's own tables, from files, folders and manifests, and nothing from an altered bundle."""

import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import scanwise as api
from forked import run_forked
from scanwise import bundle
from scanwise.bundle import load as load_bundle
from scanwise.errors import DataError, RunError
from scanwise.migrations import FORMATS
from scanwise.run import sha256_of
from tiny import JUNK, Command, Fill, Whole, read_csv, write_csv

FILES = ("bundle.json", "recipe.yaml", "model.safetensors", "novelty.safetensors")


def told(whole: Whole, name: str = "predictions.csv") -> dict[str, dict[str, str]]:
    """The run's own table: path (or subject) to row."""
    rows = whole.table(name)
    key = "path" if "path" in rows[0] else "subject"
    return {row[key]: row for row in rows}


def same(row: dict[str, Any], own: dict[str, str]) -> None:
    """A prediction says what the run's table says."""
    chances = [name for name in own if name.startswith("p_")]
    assert len(chances) == 4
    for name in (*chances, "entropy", "mutual_information", "ood", "expected_cdr", "cdr_sd"):
        assert float(row[name]) == pytest.approx(float(own[name]), abs=1e-5), name
    for name in ("predicted", "set", "abstain", "ood_flag", *(["deferred"] if "deferred" in own else [])):
        assert str(row[name]) == own[name], name
    assert [name for name in row if name != "site"] == [name for name in own if name != "site"]


@pytest.fixture
def tested(whole: Whole) -> Path:
    """A manifest of the scans on the honest test side, without labels, beside the run's own."""
    rows = [
        {"path": row["path"], "subject": row["subject"], "site": row["site"]} for row in whole.table("predictions.csv")
    ]
    return write_csv(whole.data.with_name("tested.csv"), rows)


# --- the same numbers


def test_manifest_gives_the_numbers_of_the_run(whole: Whole, tested: Path, scanwise: Command) -> None:
    """By scan, and pooled by subject; groups are carried along."""
    said = scanwise("predict", whole.run.path, "--manifest", tested, "--format", "json")
    assert said.code == 0, said.err
    answer = json.loads(said.out)
    own = told(whole)
    assert {row["path"] for row in answer["scans"]} == own.keys()
    for row in answer["scans"]:
        same(row, own[row["path"]])
        assert (row["subject"], row["site"]) == (own[row["path"]]["subject"], own[row["path"]]["site"])
        assert row["label"] == row["correct"] == ""
    own = told(whole, "predictions_subject.csv")
    assert {row["subject"] for row in answer["subjects"]} == own.keys()
    for row in answer["subjects"]:
        same(row, own[row["subject"]])
        assert str(row["scans"]) == own[row["subject"]]["scans"]
    assert answer["quarantine"] == []


def test_files_in_any_order_give_the_numbers_of_the_run(whole: Whole, scanwise: Command) -> None:
    own = told(whole)
    paths = [whole.data.parent / path for path in reversed(own)]
    said = scanwise("predict", whole.run.path, *paths, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(said.out)))
    assert [row["path"] for row in rows] == [str(path) for path in paths]
    for row in rows:
        same(row, own[Path(row["path"]).relative_to(whole.data.parent).as_posix()])


def test_one_scan_alone_says_what_it_says_among_others(whole: Whole, scanwise: Command) -> None:
    path, own = next(iter(told(whole).items()))
    said = scanwise("predict", whole.run.bundle, whole.data.parent / path, "--format", "json")
    (row,) = json.loads(said.out)["scans"]
    same(row, own)
    assert json.loads(said.out)["subjects"] == []


def test_folder_with_junk_is_answered_and_the_junk_listed(whole: Whole, scanwise: Command) -> None:
    folder = whole.data.parent / "nondemented"
    said = scanwise("predict", whole.run.path, folder, "--format", "json", "--subject", r"(s\d+|name)")
    assert said.code == 2  # empty.png has no subject in its name
    said = scanwise("predict", whole.run.path, folder, "--format", "json")
    assert said.code == 0
    answer = json.loads(said.out)
    assert len(answer["scans"]) == len(list(folder.iterdir())) - 1
    assert [found["path"] for found in answer["quarantine"]] == [str(folder / "empty.png")]
    assert "not used: " in said.err
    assert "the file is empty" in said.err
    own = told(whole)
    for row in answer["scans"]:
        name = f"nondemented/{Path(row['path']).name}"
        if name in own:
            same(row, own[name])


def test_csv_by_subject_to_a_file(whole: Whole, tested: Path, tmp_path: Path, scanwise: Command) -> None:
    out = tmp_path / "new" / "people.csv"
    said = scanwise("predict", whole.run.path, "--manifest", tested, "--format", "csv", "--by", "subject", "--out", out)
    assert (said.code, said.out) == (0, "")
    own = told(whole, "predictions_subject.csv")
    rows = read_csv(out)
    assert len(rows) == len(own)
    for row in rows:
        same(row, own[row["subject"]])


def test_by_subject_needs_subjects(whole: Whole, scanwise: Command) -> None:
    said = scanwise("predict", whole.run.path, whole.data.parent / "few", "--format", "csv", "--by", "subject")
    assert said.code == 2
    assert "--subject" in said.refusal
    assert said.out == ""


def test_terminal_shows_names_as_they_are(
    whole: Whole, scanwise: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Brackets are no markup and emoji codes are no emoji; 80 columns are enough."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    for name in ("[bold]a.png", "[red]b.png", ":brain:.png", "two\nlines.png"):
        shutil.copy(whole.data.parent / "few" / "0.png", name)
    said = scanwise("predict", whole.run.path, *sorted(f.name for f in tmp_path.iterdir()), "--subject", "[a-z]")
    assert said.code == 0, said.err
    for name in ("[bold]a.png", "[red]b.png", ":brain:.png"):
        assert name in said.out
    assert max(map(len, said.out.splitlines())) <= 80
    assert said.out.splitlines()[0].split() == [
        "subject",
        "class",
        "prob.",
        "prediction",
        "set",
        "entropy",
        "ood",
        "review",
    ]


def test_unreadable_row_of_a_manifest_is_listed_by_its_name(whole: Whole, scanwise: Command) -> None:
    said = scanwise("predict", whole.run.path, "--manifest", whole.data, "--format", "json")
    assert said.code == 0, said.err
    answer = json.loads(said.out)
    assert {found["path"] for found in answer["quarantine"]} == set(JUNK)
    assert len(answer["scans"]) == 94


def test_nothing_readable_is_refused(whole: Whole, tmp_path: Path, scanwise: Command) -> None:
    (tmp_path / "x.png").write_bytes(b"no")
    said = scanwise("predict", whole.run.path, tmp_path)
    assert said.code == 2
    assert "The file cannot be read" in said.refusal


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], "Name scans"),
        (["nowhere.png"], "There is nothing at nowhere.png"),
        (["--manifest", "nowhere.csv"], "There is no manifest at nowhere.csv"),
        (["--manifest", "x.csv", "x.png"], "one of the two"),
    ],
)
def test_nothing_to_predict_is_refused(args: list[str], expected: str, whole: Whole, scanwise: Command) -> None:
    said = scanwise("predict", whole.run.path, *args)
    assert said.code == 2
    assert expected in said.refusal


# --- Python


def test_python_says_the_same(whole: Whole) -> None:
    own = told(whole)
    loaded = load_bundle(whole.run.path)
    assert isinstance(loaded, api.Bundle)
    paths = [whole.data.parent / path for path in own]
    answer = loaded.predict(paths, [row["subject"] for row in own.values()])
    for row, mine in zip(answer.scans.rows(), own.values(), strict=True):
        same(row, mine)
    assert answer.subjects is not None
    subjects = told(whole, "predictions_subject.csv")
    assert set(answer.subjects.subjects.tolist()) == subjects.keys()
    for row in answer.subjects.rows():
        same(row, subjects[str(row["subject"])])
    alone = loaded.predict(str(paths[0]))
    assert alone.subjects is None
    same(alone.scans.rows()[0], next(iter(own.values())))
    with pytest.raises(DataError, match="as many subjects"):
        loaded.predict(paths, ["x"])


# --- what leaves


def test_bundle_holds_plain_files_alone(whole: Whole) -> None:
    folder = whole.run.bundle
    assert {f.name for f in folder.iterdir()} == {*FILES, "SHA256SUMS"}
    for file in folder.iterdir():
        assert b"\x80\x04" not in file.read_bytes()[:2]
        assert not file.read_bytes().startswith(b"PK")
    about = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    assert about["classes"][0] == "nondemented"
    assert about["ordered"] is True
    assert about["protocol"] == "honest"


@pytest.mark.extended
def test_bundle_loads_without_the_means_to_unpickle(whole: Whole, tmp_path: Path) -> None:
    """Copied elsewhere, without its run, in a process where unpickling raises."""
    shutil.copytree(whole.run.bundle, tmp_path / "elsewhere")
    path, own = next(iter(told(whole).items()))
    code = """
import sys, torch, scanwise
from scanwise import bundle, pipeline
import scanwise.models, scanwise.prediction, pickle, torch._weights_only_unpickler
def refuse(*args, **kwargs): raise SystemExit("something was unpickled")
pickle.load = pickle.loads = pickle.Unpickler = torch.load = refuse
row = scanwise.load(sys.argv[1]).predict(sys.argv[2]).scans.iloc[0]
print(row["predicted"], row["set"], sep="\\t")
"""
    command = [sys.executable, "-c", code, str(tmp_path / "elsewhere"), str(whole.data.parent / path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip("\n").split("\t") == [own["predicted"], own["set"]]


@pytest.mark.parametrize("name", FILES)
def test_altered_bundle_is_refused(name: str, whole: Whole, tmp_path: Path, scanwise: Command) -> None:
    shutil.copytree(whole.run.bundle, tmp_path / "bundle")
    file = tmp_path / "bundle" / name
    data = bytearray(file.read_bytes())
    data[-2] ^= 1
    file.write_bytes(data)
    said = scanwise("predict", tmp_path / "bundle", whole.data.parent / "few")
    assert said.code == 2
    assert f"{name} is not what scanwise wrote: its hash differs" in said.refusal
    assert said.out == ""


@pytest.mark.parametrize("name", [*FILES, "SHA256SUMS"])
def test_incomplete_bundle_is_refused(name: str, whole: Whole, tmp_path: Path) -> None:
    shutil.copytree(whole.run.bundle, tmp_path / "bundle")
    (tmp_path / "bundle" / name).unlink()
    with pytest.raises(RunError, match="no bundle" if name == "bundle.json" else name):
        bundle.load(tmp_path / "bundle")


def test_place_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="There is no run at"):
        bundle.load(tmp_path / "nowhere")


@pytest.mark.extended
def test_altered_bundle_through_the_real_command_line(whole: Whole, tmp_path: Path) -> None:
    shutil.copytree(whole.run.bundle, tmp_path / "bundle")
    with (tmp_path / "bundle" / "bundle.json").open("a", encoding="utf-8") as file:
        file.write(" ")
    done = run_forked("predict", tmp_path / "bundle", whole.data)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_list_of_hashes_that_lacks_a_file_is_refused(whole: Whole, tmp_path: Path) -> None:
    shutil.copytree(whole.run.bundle, tmp_path / "bundle")
    sums = tmp_path / "bundle" / "SHA256SUMS"
    lines = sums.read_text(encoding="utf-8").splitlines(keepends=True)
    assert lines == [f"{sha256_of(tmp_path / 'bundle' / name)}  {name}\n" for name in FILES]
    sums.write_text("".join(lines[1:]), encoding="utf-8")
    with pytest.raises(RunError, match=r"bundle\.json is not what scanwise wrote"):
        bundle.load(tmp_path / "bundle")


def test_bundle_of_a_later_scanwise_is_refused(whole: Whole, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(whole.run.bundle, folder)
    about = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    (folder / "bundle.json").write_text(json.dumps({**about, "format": FORMATS["bundle"] + 1}), encoding="utf-8")
    sums = "".join(f"{sha256_of(folder / name)}  {name}\n" for name in FILES)
    (folder / "SHA256SUMS").write_text(sums, encoding="utf-8")
    with pytest.raises(RunError, match="Update scanwise"):
        bundle.load(folder)


def as_before(whole: Whole, folder: Path) -> Path:
    """The bundle as an older scanwise wrote it: without what tells strange scans, and without abstention."""
    shutil.copytree(whole.run.bundle, folder)
    (folder / "novelty.safetensors").unlink()
    about = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    old = {name: value for name, value in about.items() if name not in ("abstention", "novelty")}
    (folder / "bundle.json").write_text(json.dumps({**old, "format": 1}), encoding="utf-8")
    sums = "".join(f"{sha256_of(folder / name)}  {name}\n" for name in FILES[:3])
    (folder / "SHA256SUMS").write_text(sums, encoding="utf-8")
    return folder


def test_bundle_of_an_older_scanwise_answers_without_flags_and_says_so(
    whole: Whole, tmp_path: Path, scanwise: Command
) -> None:
    folder = as_before(whole, tmp_path / "bundle")
    path, own = next(iter(told(whole).items()))
    said = scanwise("predict", folder, whole.data.parent / path, "--format", "json")
    assert said.code == 0, said.err
    assert "does not flag scans unlike training" in said.err
    (row,) = json.loads(said.out)["scans"]
    assert (row["ood"], row["ood_flag"]) == ("", "")
    assert (row["predicted"], row["set"]) == (own["predicted"], own["set"])
    assert scanwise("predict", folder, whole.data.parent / path).code == 0


def test_bundle_whose_list_forgets_the_flags_is_refused(whole: Whole, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(whole.run.bundle, folder)
    sums = folder / "SHA256SUMS"
    lines = [line for line in sums.read_text(encoding="utf-8").splitlines(keepends=True) if "novelty" not in line]
    sums.write_text("".join(lines), encoding="utf-8")
    with pytest.raises(RunError, match=r"does not list novelty\.safetensors"):
        bundle.load(folder)


# --- scans that are none


def test_strange_scans_are_flagged_and_left_to_a_person(whole: Whole, tmp_path: Path, scanwise: Command) -> None:
    """Of one value, noise and a negative; one person is all strange, another is not."""
    random = np.random.default_rng(0)
    Image.new("L", (50, 50), 128).save(tmp_path / "x_blank.png")
    Image.new("RGB", (50, 50), (0, 0, 0)).save(tmp_path / "x_black.png")
    Image.fromarray(random.integers(0, 256, (64, 64), dtype=np.uint8)).save(tmp_path / "x_noise.png")
    good = [whole.data.parent / path for path, row in told(whole).items() if row["ood_flag"] == "False"][:3]
    with Image.open(good[0]) as image:
        Image.fromarray(255 - np.asarray(image.convert("L"))).save(tmp_path / "x_negative.png")
    for place, path in enumerate(good):
        shutil.copy(path, tmp_path / f"y_{place}.png")
    said = scanwise("predict", whole.run.path, tmp_path, "--format", "json", "--subject", r"([xy])_")
    assert said.code == 0, said.err
    answer = json.loads(said.out)
    assert {Path(row["path"]).name: row["ood_flag"] for row in answer["scans"]} == {
        name: name.startswith("x") for name in sorted(f.name for f in tmp_path.iterdir())
    }
    assert all(row["abstain"] for row in answer["scans"] if row["ood_flag"])
    assert all(row["ood"] > 1 for row in answer["scans"] if row["ood_flag"])
    assert {row["subject"]: (row["ood_flag"], row["ood"] > 1) for row in answer["subjects"]} == {
        "x": (True, True),
        "y": (False, False),
    }
    table = scanwise("predict", whole.run.path, tmp_path).out
    assert table.count("!") == 4 + 1  # and once in the words below
    assert "its set has no guarantee" in " ".join(table.split())


# --- a run without an honest protocol


def test_published_run_predicts_without_sets(fill: Fill, tiny_recipe: Path, tmp_path: Path, scanwise: Command) -> None:
    data = fill(tmp_path / "data", {"a": 8, "b": 8}, slices=2)
    said = scanwise(
        "fit", tiny_recipe, "--data", data, "--subject", r"([ab]\d\d)_", "--out", tmp_path / "run",
        "--set", "split.protocols=[published]", "--set", "train.epochs=1",
    )  # fmt: skip
    assert said.code == 0, said.err
    said = scanwise("predict", tmp_path / "run", data / "a", "--format", "json", "--subject", r"([ab]\d\d)_")
    answer = json.loads(said.out)
    assert len(answer["scans"]) == 16
    assert len(answer["subjects"]) == 8
    told = {(row["set"], row["abstain"], row["ood"], row["ood_flag"]) for row in answer["scans"] + answer["subjects"]}
    assert told == {("", False, "", "")}
    assert {row["deferred"] for row in answer["subjects"]} == {""}
    assert not (tmp_path / "run" / "bundle" / "novelty.safetensors").exists()
    assert "no guarantee" in scanwise("predict", tmp_path / "run", data / "a").out


def test_colour_scan_of_another_size_is_answered(whole: Whole, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 255, (70, 50, 3), dtype=np.uint8)).save(tmp_path / "x.jpg")
    answer = load_bundle(whole.run.path).predict([tmp_path / "x.jpg"])
    assert answer.scans.probs.sum() == pytest.approx(1)
