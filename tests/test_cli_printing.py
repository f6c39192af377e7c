"""What reaches the terminal steers it nowhere: names lose control and direction characters, whatever command prints them."""

import ast
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import click
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import scanwise as package
from scanwise.cli import cli, printing
from scanwise.records.names import compose
from tiny import RECIPE, Command, picture, read_csv

STEERING = {chr(code) for code in (*range(32), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"} | set(
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)
SITE = "si\x1b[7mte"
STEERED = "\x1b]0;owned\x07\x1b[2J\x9b31m\r\u202eetar\u2066\u200f\u061cs"
"""The title of a window, a cleared screen, a colour, a line overwritten, and text from right to left."""

HOSTILE = st.text(st.one_of(st.sampled_from(sorted(STEERING)), st.characters()), max_size=30)


def steering(text: str) -> set[str]:
    """Characters that steer a terminal, styles of ours apart."""
    for style in ("\x1b[0m", "\x1b[1m", "\x1b[31m", "\x1b[33m"):
        text = text.replace(style, "")
    return set(text) & STEERING | {char for char in text if "\ud800" <= char <= "\udfff"}


@given(text=HOSTILE)
def test_no_way_of_printing_lets_a_name_steer(text: str) -> None:
    out = StringIO()
    with redirect_stdout(out), redirect_stderr(out):
        printing.talk()
        printing.say(text)
        printing.say(text, lead="error: ", fg="red", err=True)
        printing.say_value("page", text, text)
        printing.print_notes([text])
        table = printing.make_table(text, ["", text])
        table.add_row(text, text)
        table.caption = text
        printing.print_table(table)
        logging.getLogger("scanwise").warning("%s", text)
    logging.getLogger("scanwise").handlers.clear()
    assert not steering(out.getvalue()), ascii(out.getvalue())


@given(text=HOSTILE)
def test_json_keeps_every_character_and_steers_nothing(text: str) -> None:
    out = StringIO()
    with redirect_stdout(out):
        printing.say_json(json.dumps({"class": text}, ensure_ascii=False, indent=1) + "\n")
    assert not steering(out.getvalue())
    assert json.loads(out.getvalue()) == {"class": text}


def test_letters_of_every_script_stay(capsys: pytest.CaptureFixture[str]) -> None:
    printing.say("Übergröße 脑 שלום مرحبا 👩🏽‍⚕️ – “x”")
    assert capsys.readouterr().out == "Übergröße 脑 שלום مرحبا 👩🏽‍⚕️ – “x”\n"


def test_one_module_prints() -> None:
    """`launch/container.py` and `launch/submission.py` pass on what another process has printed; `api/display.py` prints a plain
    line, and `progress_bar.py` draws one."""
    prints: list[str] = []
    root = Path(package.__file__).parent
    for file in sorted(root.rglob("*.py")):
        if file.relative_to(root).as_posix() in (
            "cli/printing.py",
            "api/display.py",
            "progress_bar.py",
            "launch/container.py",
            "launch/submission.py",
        ):
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if name in ("print", "click.echo", "click.secho", "sys.stdout.write", "sys.stderr.write") or name.endswith(
                "Console"
            ):
                prints.append(f"{file.relative_to(root)}: {name}")
    assert prints == []


def test_warnings_of_packages_are_one_plain_line(tmp_path: Path) -> None:
    code = "import warnings, sys; from scanwise.cli.printing import guard_streams; guard_streams(); "
    code += r"import logging; warnings.warn('\x1b[2Jno\u202e'); logging.getLogger('other').warning('\x07bell')"
    done = subprocess.run([sys.executable, "-W", "default", "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "UserWarning: \ufffd[2Jno\ufffd\n\ufffdbell\n"


@pytest.fixture(scope="module")
def steered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scans whose classes, subjects, sites and files are named to steer a terminal, a recipe alike, and their run."""
    folder = tmp_path_factory.mktemp("steered")
    rows = [{"path": "junk\x1b[5m.png", "label": f"c0{STEERED}", "subject": "px", SITE: "s"}]
    (folder / "junk\x1b[5m.png").write_bytes(b"none")
    for kind in range(2):
        for person in range(12):
            name = f"{kind}{person}{STEERED}.png"
            picture(kind, 100 * kind + person).save(folder / name)
            named = {
                "label": f"c{kind}{STEERED}",
                "subject": f"p{kind}{person}{STEERED}",
                SITE: f"s{person % 2}{STEERED}",
            }
            rows.append({"path": name, **named})
    pd.DataFrame(rows).to_parquet(folder / "scans.parquet")
    text = RECIPE.replace("name: tiny", 'name: tiny\ntitle: "T\\e[2J\\u202e"\ndescription: "D\\a"')
    (folder / "tiny.yaml").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.extended
def test_no_command_lets_a_name_steer(steered: Path, monkeypatch: pytest.MonkeyPatch, scanwise: Command) -> None:
    monkeypatch.chdir(steered)
    monkeypatch.setenv("COLUMNS", "300")
    scan = next(path.name for path in steered.glob("0*.png"))
    commands: list[tuple[str, ...]] = [
        ("cohort", "scans.parquet", "--subject", "subject", "--out", "again.parquet"),
        ("audit", "scans.parquet", "--subject", "subject", "--out", "audit", "--json"),
        ("fit", "tiny.yaml", "--data", "scans.parquet", "--subject", "subject", "--plan"),
        ("fit", "tiny.yaml", "--data", "scans.parquet", "--subject", "subject", "--out", "run", "--threads", "1"),
        ("report", "run"),
        ("predict", "run", scan, "junk\x1b[5m.png"),
        ("predict", "run", scan, "--format", "json"),
        ("evaluate", "run", "--data", "scans.parquet", "--subject", "subject"),
        ("compare", "run", "run", "--out", "both"),
        ("register", "run", "--name", f"x{STEERED}"),
        ("fit", f"none{STEERED}", "--data", "scans.parquet"),
        ("fit", "tiny.yaml", "--data", f"none{STEERED}", "--out", "other"),
        ("fit", "tiny.yaml", "--data", "scans.parquet", "--set", f"name=a{STEERED}", "--out", "other"),
        ("fit", "tiny.yaml", "--data", "scans.parquet", "--subject", f"none{STEERED}", "--out", "other"),
        ("audit", "scans.parquet", "--label", f"none{STEERED}"),
        ("predict", f"name{STEERED}:3", scan),
        (f"no-command{STEERED}",),
        ("fit", f"--no-option{STEERED}"),
    ]
    for command in commands:
        said = scanwise(*command)
        assert said.code in (0, 1, 2, 3), said.err
        assert not steering(said.out + said.err), command
    labels = set(pd.read_parquet(steered / "again.parquet")["label"])
    assert labels == {compose(f"c{kind}{STEERED}").replace("\r", " ") for kind in range(2)}


def commands_of(group: click.Group, *before: str) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands_of(command, *before, name)
        yield (*before, name)


@pytest.mark.parametrize("command", sorted(commands_of(cli)), ids=" ".join)
@pytest.mark.parametrize("given", ["caf\udce9.png", "--out=\udcff", "--set=name=\udc80"])
def test_an_argument_that_is_no_text_is_one_line(command: tuple[str, ...], given: str, scanwise: Command) -> None:
    said = scanwise(*command, given)
    assert said.code == 2
    assert said.refusal.endswith("is not UTF-8 text. Rename that file or folder, and give its new name.")
    assert "\n" not in said.refusal
    assert ascii(given).strip("'") in said.refusal


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems hold UTF-8 alone")
def test_files_whose_names_are_no_text_are_listed_by_a_name_that_can_be_read(tmp_path: Path, scanwise: Command) -> None:
    for kind in ("a", "b"):
        (tmp_path / "data" / kind).mkdir(parents=True)
        for person in range(3):
            picture(0, person).save(tmp_path / "data" / kind / f"{kind}{person}.png")
    broken = os.fsencode(tmp_path / "data" / "a") + b"/caf\xe9.png"
    Path(os.fsdecode(broken)).write_bytes((tmp_path / "data" / "a" / "a0.png").read_bytes())
    said = scanwise("cohort", tmp_path / "data", "--out", tmp_path / "scans.csv")
    assert said.code == 0
    listed = read_csv(next(tmp_path.glob("*quarantine*")))
    assert [(row["path"], row["reason"]) for row in listed] == [("a/caf\\udce9.png", "its name is not UTF-8")]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_no_encoding_of_a_terminal_is_a_fault(encoding: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scanwise", "fit", "脑\u202e.yaml", "--data", os.fsencode(tmp_path) + b"/\xe9"],
        capture_output=True, check=False, env=os.environ | {"PYTHONIOENCODING": encoding},
    )  # fmt: skip
    assert done.returncode == 2
    assert b"error: " in done.stderr
    assert b"Traceback" not in done.stderr
    assert b"is not UTF-8 text" in done.stderr
