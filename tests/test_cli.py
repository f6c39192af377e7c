"""The command line: bad input is refused in one clear message, with its exit code."""

import csv
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from forked import run_forked
from scanwise import recipe
from scanwise.errors import ScanwiseError
from tiny import Command, Fill

EIGHT = {"a": 8, "b": 8}


def real(*args: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m scanwise ARGS…` in a terminal of 80 columns."""
    return run_forked(*args, env={"COLUMNS": "80", **environment})


def refused(done: subprocess.CompletedProcess[str], code: int = 2) -> str:
    """The one message of a refusal: after `error:`, without traceback, on stderr alone."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error: ") == 1, done.stderr
    assert done.stderr.startswith("error: "), done.stderr
    return done.stderr.removeprefix("error: ").strip()


def listed(folder: Path, *, split: Callable[[int], str] | None = None) -> list[dict[str, str]]:
    """Rows of a manifest for what `fill` wrote."""
    files = sorted(folder.rglob("*.png"))
    rows = [{"path": f.relative_to(folder).as_posix(), "label": f.parent.name, "subject": f.stem[:3]} for f in files]
    if split is not None:
        for index, row in enumerate(rows):
            row["split"] = split(index)
    return rows


def manifest(folder: Path, rows: list[dict[str, str]]) -> Path:
    file = folder / "scans.csv"
    with file.open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return file


Make = Callable[[Path, Fill], list[object]]


def empty_folder(folder: Path, fill: Fill) -> list[object]:
    folder.mkdir()
    return ["--data", folder]


def missing_folder(folder: Path, fill: Fill) -> list[object]:
    return ["--data", folder]


def one_class(folder: Path, fill: Fill) -> list[object]:
    return ["--data", fill(folder, {"a": 8})]


def class_with_one_subject(folder: Path, fill: Fill) -> list[object]:
    return ["--data", fill(folder, {**EIGHT, "c": 1}, slices=3), "--subject", r"([abc]\d\d)_"]


def all_corrupt(folder: Path, fill: Fill) -> list[object]:
    for file in fill(folder, EIGHT).rglob("*.png"):
        file.write_bytes(file.read_bytes()[:120])
    return ["--data", folder]


def one_class_corrupt(folder: Path, fill: Fill) -> list[object]:
    for file in (fill(folder, EIGHT) / "b").iterdir():
        file.write_bytes(b"")
    return ["--data", folder]


def untaught_label(folder: Path, fill: Fill) -> list[object]:
    fill(folder / "train", EIGHT)
    fill(folder / "test", {**EIGHT, "c": 4})
    return ["--data", folder]


def untaught_label_in_manifest(folder: Path, fill: Fill) -> list[object]:
    rows = listed(fill(folder, {**EIGHT, "c": 4}), split=lambda index: "train" if index < 16 else "test")
    return ["--data", manifest(folder, rows)]


def duplicate_rows(folder: Path, fill: Fill) -> list[object]:
    rows = listed(fill(folder, EIGHT))
    return ["--data", manifest(folder, [*rows, rows[3]])]


def path_outside(folder: Path, fill: Fill) -> list[object]:
    rows = listed(fill(folder, EIGHT))
    Image.new("L", (40, 40)).save(folder.parent / "other.png")
    return ["--data", manifest(folder, [*rows, {"path": "../other.png", "label": "a", "subject": "x"}])]


def link_outside(folder: Path, fill: Fill) -> list[object]:
    rows = listed(fill(folder, EIGHT))
    Image.new("L", (40, 40)).save(folder.parent / "other.png")
    (folder / "link.png").symlink_to(folder.parent / "other.png")
    return ["--data", manifest(folder, [*rows, {"path": "link.png", "label": "a", "subject": "x"}])]


def nan_label(folder: Path, fill: Fill) -> list[object]:
    rows = listed(fill(folder, EIGHT))
    rows[4]["label"] = "NaN"
    return ["--data", manifest(folder, rows)]


def empty_subject(folder: Path, fill: Fill) -> list[object]:
    rows = listed(fill(folder, EIGHT))
    rows[2]["subject"] = ""
    return ["--data", manifest(folder, rows)]


def wrong_subject(folder: Path, fill: Fill) -> list[object]:
    return ["--data", fill(folder, EIGHT), "--subject", r"patient(\d+)"]


def wrong_setting(folder: Path, fill: Fill) -> list[object]:
    return ["--data", fill(folder, EIGHT), "--set", "train.epoch=3", "--set", "data.size=1"]


def wrong_network(folder: Path, fill: Fill) -> list[object]:
    return ["--data", fill(folder, EIGHT), "--set", "model.name=resnt18"]


def wrong_device(folder: Path, fill: Fill) -> list[object]:
    return ["--data", fill(folder, EIGHT), "--device", "gpu"]


BAD: dict[str, tuple[Make, str]] = {
    "an empty folder": (empty_folder, "No scans in"),
    "one class": (one_class, "Found one class (a); a classifier needs at least two"),
    "a class with one subject": (class_with_one_subject, "'c' is one single subject"),
    "all files corrupt": (all_corrupt, "None of the 16 files"),
    "a label that train lacks": (untaught_label, "The test side has labels that the train side lacks: c"),
    "duplicate rows": (duplicate_rows, "1 path is listed more than once (a/a03_0.png)"),
    "a path outside the data": (path_outside, "'../other.png' leads outside"),
    "NaN for a label": (nan_label, "'label' is empty in 1 row (lines 6)"),
}
ALSO_BAD: dict[str, tuple[Make, str]] = {
    "nothing there": (missing_folder, "There is nothing at"),
    "all files of a class corrupt": (one_class_corrupt, "No scan of the class 'b' can be read"),
    "a label that train lacks, in a manifest": (untaught_label_in_manifest, "the train side lacks: c"),
    "a link outside the data": (link_outside, "'link.png' leads outside"),
    "no subject": (empty_subject, "'subject' is empty in 1 row (lines 4)"),
    "a pattern that does not match": (wrong_subject, "does not match 16 of 16 paths"),
    "wrong settings, all told at once": (wrong_setting, "has 2 mistakes"),
    "an unknown network": (wrong_network, "Did you mean 'resnet18'?"),
    "an unknown device": (wrong_device, "There is no device 'gpu'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused(name: str, tmp_path: Path, fill: Fill, tiny_recipe: Path) -> None:
    make, expected = BAD[name]
    cache = tmp_path / "cache"
    args = make(tmp_path / "data", fill)
    done = real("fit", tiny_recipe, *args, "--out", tmp_path / "run", SCANWISE_CACHE=str(cache))
    assert expected in refused(done)
    assert not (tmp_path / "run").exists()
    assert not list(cache.rglob("*.part"))


@pytest.mark.parametrize("name", ALSO_BAD)
def test_other_bad_input_is_refused(
    name: str, tmp_path: Path, fill: Fill, tiny_recipe: Path, scanwise: Command
) -> None:
    make, expected = ALSO_BAD[name]
    said = scanwise("fit", tiny_recipe, *make(tmp_path / "data", fill), "--out", tmp_path / "run")
    assert said.code == 2
    assert expected in said.refusal
    assert not (tmp_path / "run").exists()


def test_wrong_key_in_a_recipe_file(tmp_path: Path, fill: Fill, tiny_recipe: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(tiny_recipe.read_text(encoding="utf-8").replace("epochs:", "epoch:"), encoding="utf-8")
    done = real("fit", file, "--data", fill(tmp_path / "data", EIGHT), "--out", tmp_path / "run")
    message = refused(done)
    assert "train.epoch: there is no such key. Did you mean 'epochs'?" in message
    assert not (tmp_path / "run").exists()


def test_recipe_that_is_not_there(scanwise: Command) -> None:
    said = scanwise("fit", "alexnet-grey", "--data", "x")
    assert said.code == 2
    assert "Did you mean 'alexnet-gray'?" in said.refusal


# --- leaks: exit 1


def test_given_split_with_a_subject_on_two_sides(tmp_path: Path, fill: Fill, tiny_recipe: Path) -> None:
    sides = ("train", "validation", "calibration", "test")
    rows = listed(fill(tmp_path / "data", EIGHT), split=lambda index: sides[index % 4])
    rows[1]["subject"] = rows[0]["subject"]
    done = real("fit", tiny_recipe, "--data", manifest(tmp_path / "data", rows), "--out", tmp_path / "run")
    message = refused(done, code=1)
    assert "The honest split leaks: 1 of 15 subjects stand on more than one side" in message
    assert "a00" in message
    assert not (tmp_path / "run").exists()


def test_identical_pixels_under_two_subjects(tmp_path: Path, fill: Fill, tiny_recipe: Path) -> None:
    folder = fill(tmp_path / "data", EIGHT)
    for file in sorted(folder.rglob("*.png")):  # saved anew: other bytes, other names, the same pixels
        Image.open(file).save(file.with_name("c" + file.name), compress_level=0)
    args = ["--data", folder, "--subject", r"(c?[ab]\d\d)_"]
    message = refused(real("fit", tiny_recipe, *args, "--out", tmp_path / "run"), code=1)
    assert "identical pixels stand on more than one side" in message
    assert not (tmp_path / "run").exists()


# --- the disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a tmpfs of a given size, or give the one that is there another size; skip where that is not permitted."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = False

    def mount(size: str) -> Path:
        nonlocal mounted
        options = f"remount,size={size}" if mounted else f"size={size}"
        tool = shutil.which("mount") or ""
        done = subprocess.run(
            [tool or "false", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        if done.returncode:
            pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
        mounted = True
        return place

    yield mount
    if mounted:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.extended
def test_disk_full_in_the_run_folder(
    tmp_path: Path,
    fill: Fill,
    tiny_recipe: Path,
    small_disk: Callable[[str], Path],
    scanwise: Command,
) -> None:
    """Wherever the disk is full, what stands is whole, and with more room the run goes on to its end."""
    fit = ["fit", tiny_recipe, "--data", fill(tmp_path / "data", EIGHT), "--threads", 1]
    for size in ("16k", "500k", "1m", "1700k"):
        run = small_disk(size) / "run"
        said = scanwise(*fit, "--out", run, "--resume")
        assert said.code == 2, (size, said)
        assert "No space left on device" in said.refusal, size
        assert not [f for f in run.rglob("*") if f.name.endswith(".part")], size
    small_disk("30m")
    assert scanwise(*fit, "--out", run, "--resume").code == 0
    assert (run / "report.html").is_file()
    assert scanwise("predict", run, tmp_path / "data").code == 0


@pytest.mark.parametrize("size", ["2m", "16k"])
def test_disk_full_in_the_cache(
    size: str, tmp_path: Path, fill: Fill, tiny_recipe: Path, small_disk: Callable[[str], Path]
) -> None:
    cache = small_disk(size)
    settings = ["--set", "data.size=512"]
    done = real(
        "fit", tiny_recipe, "--data", fill(tmp_path / "data", EIGHT), "--out", cache / "run", *settings,
        SCANWISE_CACHE=str(cache),
    )  # fmt: skip
    assert "Free some space" in refused(done)
    assert not (cache / "run").exists()
    assert not [f for f in cache.rglob("*") if f.is_file() and f.suffix != ".lock"]


def test_folder_that_cannot_be_written(tmp_path: Path, fill: Fill, tiny_recipe: Path) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    fit = ["fit", tiny_recipe, "--data", fill(tmp_path / "data", EIGHT)]
    assert "is a file; a run needs a folder" in refused(real(*fit, "--out", tmp_path / "file"))
    refused(real(*fit, "--out", tmp_path / "file" / "run"))
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


# --- run folders


def test_taken_run_folder(tmp_path: Path, fill: Fill, tiny_recipe: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.yaml").write_text("name: mine\n", encoding="utf-8")
    done = real("fit", tiny_recipe, "--data", fill(tmp_path / "data", EIGHT), "--out", run)
    message = refused(done)
    assert "--resume" in message
    assert "another name" in message
    assert [f.name for f in run.iterdir()] == ["recipe.yaml"]
    assert (run / "recipe.yaml").read_text(encoding="utf-8") == "name: mine\n"


def test_resume_needs_a_run(tmp_path: Path, fill: Fill, tiny_recipe: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "letter.txt").write_text("mine", encoding="utf-8")
    done = real("fit", tiny_recipe, "--data", fill(tmp_path / "data", EIGHT), "--out", run, "--resume")
    assert "no run to resume" in refused(done)
    assert [f.name for f in run.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize("command", [["predict", "{}", "x.png"], ["report", "{}"]])
def test_place_that_is_no_run(command: list[str], tmp_path: Path, scanwise: Command) -> None:
    (tmp_path / "x.png").write_bytes(b"")
    said = scanwise(*(part.format(tmp_path) for part in command))
    assert said.code == 2
    assert str(tmp_path) in said.refusal


# --- commands that only tell


COMMANDS = (
    "audit", "augment", "calibrate", "cohort", "compare", "conformal", "demo", "evaluate", "fetch", "fit", "fold",
    "launch", "open", "predict", "recipes", "register", "report",
)  # fmt: skip


def test_no_command_is_help(scanwise: Command) -> None:
    said = scanwise()
    assert (said.code, said.err) == (0, "")
    for command in COMMANDS:
        assert f"\n  {command} " in said.out


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS), ["recipes", "show"], ["launch", "sagemaker"]])
def test_help_fits_a_terminal(
    command: list[str],
    scanwise: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    said = scanwise(*command, "--help")
    assert said.code == 0
    assert said.out.startswith("Usage: ")
    assert max(map(len, said.out.splitlines())) <= 80
    assert "..." not in said.out.replace("]...", "")


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["fit"], "Missing argument 'RECIPE'"),
        (["fit", "demo"], "Missing option '--data'"),
        (["fit", "demo", "--dta", "x"], "No such option"),
        (["fitt"], "No such command 'fitt'"),
        (["predict", "x", "y", "--format", "xml"], "Invalid value for '--format'"),
    ],
)
def test_wrong_usage_is_one_line(args: list[str], expected: str, scanwise: Command) -> None:
    said = scanwise(*args)
    assert said.code == 2
    assert expected in said.refusal
    assert "--help" in said.refusal
    assert said.out == ""


def test_recipes_are_listed_and_shown(scanwise: Command) -> None:
    listing = scanwise("recipes").out
    for name, text in recipe.shipped_recipes().items():
        assert f"{name} " in listing
        assert recipe.load_recipe(name).title in listing
        assert scanwise("recipes", "show", name).out == text
    assert "Did you mean 'demo'?" in scanwise("recipes", "show", "demi").refusal


def test_shown_recipe_can_be_fitted(tmp_path: Path, scanwise: Command) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(scanwise("recipes", "show", "alexnet-gray").out, encoding="utf-8")
    assert recipe.load_recipe(file) == recipe.load_recipe("alexnet-gray")


def test_schema_is_a_schema(scanwise: Command) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(scanwise("recipes", "schema").out)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(recipe.load_recipe("demo").model_dump(mode="json"), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"name": "x", "trian": {}}, schema)


# --- what becomes of errors


@pytest.mark.parametrize(
    ("raised", "code", "expected"),
    [
        (ScanwiseError("Said in words."), 2, "Said in words."),
        (KeyboardInterrupt(), 130, "--resume"),
        (
            OSError(errno.ENOSPC, "No space left on device", "x.bin"),
            2,
            "x.bin: No space left on device. Free some space",
        ),
        (
            OSError(errno.EROFS, "Read-only file system", "x.bin"),
            2,
            "x.bin: Read-only file system. Choose a place that",
        ),
        (OSError(errno.ENOENT, "No such file", "x.bin"), 2, "x.bin: No such file. Check the path"),
        (OSError(errno.EFBIG, "File too large", "x.bin"), 2, "x.bin: File too large. Raise the limit of the size"),
        (
            OSError(errno.ENOTCONN, "Transport endpoint is not connected"),
            2,
            "not connected. The disk or its connection",
        ),
        (MemoryError(), 2, "Out of memory. Close other programs"),
        (RuntimeError("can't start new thread"), 2, "no more threads. Raise the limit"),
    ],
)
def test_foreseen_errors_are_messages(
    raised: BaseException,
    code: int,
    expected: str,
    scanwise: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails() -> dict[str, str]:
        raise raised

    monkeypatch.setattr(recipe, "shipped_recipes", fails)
    said = scanwise("recipes")
    assert said.code == code
    assert expected in said.refusal


@pytest.mark.parametrize("error", [ZeroDivisionError("division\nby zero"), OSError("no number"), RuntimeError("x")])
def test_a_fault_of_scanwise_is_one_line_and_names_the_traceback(
    error: Exception, scanwise: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fails() -> dict[str, str]:
        raise error

    monkeypatch.setattr(recipe, "shipped_recipes", fails)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    said = scanwise("recipes")
    assert said.code == 70
    (file,) = tmp_path.iterdir()
    assert str(file) in said.refusal
    assert f"Unforeseen {type(error).__name__}: " in said.refusal
    assert "\n" not in said.refusal
    text = file.read_text(encoding="utf-8")
    assert text.startswith("Traceback")
    assert "in fails" in text
    assert file.stat().st_mode & 0o077 == 0


def test_traceback_is_shown_where_it_cannot_be_kept(
    scanwise: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(recipe, "shipped_recipes", lambda: 1 / 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "not there"))
    said = scanwise("recipes")
    assert said.code == 70
    assert said.err.index("Traceback") < said.err.index("error: Unforeseen ZeroDivisionError")


@pytest.mark.extended
@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 143), ("SIGINT", 130)])
def test_a_signal_ends_a_fit_cleanly(name: str, code: int, tmp_path: Path, fill: Fill, tiny_recipe: Path) -> None:
    """The fit goes on from there, and nothing half-written is left."""
    fit = [
        sys.executable, "-m", "scanwise", "fit", tiny_recipe, "--data", fill(tmp_path / "data", EIGHT),
        "--out", tmp_path / "run", "--threads", "1", "--set", "train.epochs=3000",
    ]  # fmt: skip

    def heed() -> None:  # the caller of these tests may ignore the signal, which a program then ignores as well
        signal.signal(getattr(signal, name), signal.SIG_DFL)

    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(fit, **pipes, text=True, preexec_fn=heed) as process:
        while process.poll() is None and not list((tmp_path / "run").rglob("last.ckpt")):
            time.sleep(0.05)
        process.send_signal(getattr(signal, name))
        out, err = process.communicate()
    assert process.returncode == code, err
    assert err.splitlines()[-1].startswith("error: ")
    assert "--resume" in err.splitlines()[-1]
    assert "Traceback" not in err
    assert not out
    assert not [file for file in (tmp_path / "run").rglob(".*") if file.suffix in (".part", ".old")]


def test_a_signal_is_what_ends_a_command_whatever_fails_on_the_way_out(
    scanwise: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_off() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            raise RuntimeError("unexpected pos 522816 vs 522708")  # as a torch archive that is closed too early

    monkeypatch.setattr(recipe, "shipped_recipes", break_off)
    said = scanwise("recipes")
    assert (said.code, said.refusal.split(".")[0]) == (143, "Ended by SIGTERM")


def test_a_signal_that_the_caller_ignores_stays_ignored(scanwise: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    monkeypatch.setattr(recipe, "shipped_recipes", lambda: os.kill(os.getpid(), signal.SIGHUP) or {})
    try:
        assert scanwise("recipes").code == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_reader_that_leaves_is_no_error() -> None:
    piped = f"{sys.executable} -m scanwise recipes schema | head -c 1"
    done = subprocess.run(["sh", "-c", piped], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("{", "")


def test_pipes_and_devices_are_refused_before_anything_is_read(tmp_path: Path, scanwise: Command) -> None:
    """A pipe that nobody writes to would be waited for, and a device read without end."""
    pipe, link = tmp_path / "pipe.csv", tmp_path / "link.png"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for arguments in (
        ["audit", pipe],
        ["audit", tmp_path, "--subject", pipe],
        ["cohort", f"file://{pipe}", "--out", tmp_path / "t.csv"],
        ["fit", pipe, "--data", tmp_path, "--out", tmp_path / "run"],
        ["predict", tmp_path, link],
        ["predict", tmp_path, f"--manifest={pipe}"],
        ["conformal", "/dev/zero", "/dev/zero", "--out", tmp_path / "x"],
    ):
        said = scanwise(*arguments)
        assert said.code == 2
        assert "is a pipe or a device, not a file or folder" in said.refusal
