"""What the manual prints works: commands against the command line's own parser, recipes against the schema, and tutorial and how-tos
by running them on a tiny hospital."""

import csv
import re
import shlex
import shutil
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from ruamel.yaml import YAML

from hospital_export import write_export, write_patients
from medical_files import write_nifti
from scanwise.cli import cli
from scanwise.errors import RecipeError
from scanwise.recipe import Recipe, load_recipe, setting_keys, shipped_recipes
from scanwise.recipe.options import OPTIONS
from tiny import Command, Whole, read_csv, write_csv

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(
    page for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")) if page.name != "log.md"
)
LED = [DOCS / "tutorial.md", *sorted((DOCS / "how-to").glob("*.md"))]
ELSEWHERE = {"gpu", "many-machines", "s3", "sagemaker", "offline-hospital", "publish"}
"""Pages about what is not here: other devices, machines, buckets, networks. Their commands are parsed."""
EVERY_DAY = {"deploy", "own-logits"}
"""Pages that `make test` runs; CI runs all."""
TINY = (
    "train.epochs=1",
    "data.size=32",
    "explain.scans=0",
    "evaluation.draws=100",
    "rivals.names=[majority]",
    "audit.checks=[duplicates]",
)
SMALL = ("model.name=small", "model.dropout=0")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def relative(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    return [text for kind, text in FENCE.findall(page.read_text(encoding="utf-8")) if kind == language]


def commands(page: Path) -> Iterator[list[str]]:
    """Arguments of each `$ … scanwise …` line; those of docker and torchrun from scanwise's name on."""
    for block in blocks(page, "console"):
        for line in block.replace("\\\n", " ").splitlines():
            if not line.startswith("$ "):
                continue
            words = shlex.split(line[2:].partition(" > ")[0], comments=True)
            at = [index for index, word in enumerate(words) if Path(word).name == "scanwise"]
            if (
                at
                and words[at[-1] + 1 :]
                and not any(word in ("build", "push", "pip", "wheel") for word in words[: at[-1]])
            ):
                yield words[at[-1] + 1 :]


EVERY_COMMAND = [(page, command) for page in PAGES for command in commands(page)]


def test_commands_of_the_manual_are_found() -> None:
    """So that a page with another kind of fence does not pass unread."""
    assert len(EVERY_COMMAND) > 50
    assert {"audit", "fit", "fold", "predict", "evaluate", "compare", "explain", "register", "launch"} <= {
        command[0] for _, command in EVERY_COMMAND
    }


@pytest.mark.parametrize(
    ("page", "command"), EVERY_COMMAND, ids=lambda part: part.stem if isinstance(part, Path) else " ".join(part)[:80]
)
def test_a_printed_command_is_one_of_the_command_line(page: Path, command: list[str]) -> None:
    assert parse(command)["command"]
    for name, settings in recipes_of(command):
        refusal = refused(name, settings)
        assert not refusal, f"{relative(page)}: {refusal}"


def parse(args: Sequence[str]) -> dict[str, Any]:
    """Values of a command's parameters, without running it or asking for its files; a wrong option or value is an error."""
    group, context, rest = cli, click.Context(cli, info_name="scanwise"), list(args)
    while True:
        name, *rest = rest
        found = group.get_command(context, name)
        assert found is not None, f"there is no command {name}"
        context = click.Context(found, info_name=name, parent=context)
        if not isinstance(found, click.Group) or not rest or rest[0].startswith("-"):
            break
        group = found
    values, left, _ = found.make_parser(context).parse_args(rest)
    assert not left, f"too many arguments: {left}"
    for parameter in found.params:
        value = values.get(str(parameter.name))
        if isinstance(value, Enum):  # an option without its optional value, or no argument at all
            value = parameter.flag_value if isinstance(parameter, click.Option) else None
        assert value is not None or not parameter.required or parameter.nargs == -1, f"{parameter.name} is missing"
        if value is not None and not isinstance(parameter.type, click.Path | click.types.FuncParamType):
            parameter.type_cast_value(context, value)
    return {"command": found.name, **values}


def recipes_of(args: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """The recipe that a command names, with its settings, once for each candidate."""
    values = parse(args)
    settings = [str(setting) for name in ("settings", "set") for setting in values.get(name) or ()]
    settings += [args[index + 1] for index, word in enumerate(args) if word == "--set"] if not settings else []
    candidates = [args[index + 1] for index, word in enumerate(args) if word == "--try"] or [""]
    for candidate in candidates:
        yield str(values.get("recipe") or "backbone"), [*settings, *shlex.split(candidate)]


def refused(name: str, settings: Sequence[str]) -> str:
    """Why a recipe with these settings is refused; files of the reader's own are judged as `backbone`."""
    known = {*setting_keys(), *(f"model.options.{option}" for option in OPTIONS)}
    unknown = [key for setting in settings if (key := setting.partition("=")[0]) not in known]
    if unknown:
        return f"there is no key {unknown}"
    try:
        load_recipe(name if name in shipped_recipes() else "backbone", settings)
    except RecipeError as error:
        return str(error)
    return ""


def recipe_blocks(page: Path) -> list[str]:
    """Blocks of YAML that are recipes, and no description of a cluster."""
    return [block for block in blocks(page, "yaml") if not block.startswith("apiVersion:")]


@pytest.mark.parametrize("page", [page for page in PAGES if recipe_blocks(page)], ids=relative)
def test_a_printed_recipe_is_one(page: Path) -> None:
    for block in recipe_blocks(page):
        Recipe.model_validate({"name": "printed", **YAML(typ="safe", pure=True).load(block)})


def test_the_checks_see_what_is_wrong() -> None:
    assert "there is no key" in refused("backbone", ["train.epoch=3"])
    assert "train.epochs" in refused("backbone", ["train.epochs=-3"])
    with pytest.raises(click.UsageError):
        parse(["fit", "demo", "--dada", "scans"])
    with pytest.raises(click.UsageError):
        parse(["conformal", "a.npz", "b.npz", "--score", "best", "--out", "sets.npz"])


# --- run ---


@pytest.fixture(scope="session")
def stocked(phantom_cohort: Path, whole: Whole, build_once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """All that the pages name, for a tiny hospital: scans, who.csv, cohort.csv, dicom, patients.csv, bids, other, npz files, runs."""
    return build_once("manual", lambda folder: stock(folder, phantom_cohort, whole))


def stock(folder: Path, phantoms: Path, whole: Whole) -> None:
    from scanwise.cohort import phantom, phantom_files

    folder.mkdir()
    shutil.copytree(phantoms / "scans", folder / "scans")
    truth = read_csv(phantoms / "truth.csv")
    write_csv(folder / "who.csv", [{name: row[name] for name in ("path", "subject")} for row in truth])
    random = np.random.default_rng(0)
    about = {row["subject"]: {"age": random.integers(50, 90), "sex": random.choice(["f", "m"])} for row in truth}
    with (folder / "cohort.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, ["path", "label", "subject", "age", "sex"])
        table.writeheader()
        for row in truth:
            scan = {"path": f"scans/{row['path']}", "label": row["label"], "subject": row["subject"]}
            table.writerow(scan | about[row["subject"]])
    write_patients(
        folder / "patients.csv", write_export(folder / "dicom", 24, series=(("localizer", 1), ("T1 MPRAGE", 1)))
    )
    rows = ["participant_id\tdiagnosis"]
    for number in range(24):
        name = f"sub-{number:02d}"
        write_nifti(
            folder / "bids" / name / "anat" / f"{name}_T1w.nii.gz", random.integers(0, 900, (9, 10, 8)).astype(np.int16)
        )
        rows.append(f"{name}\t{('CN', 'AD')[number % 2]}")
    (folder / "bids" / "participants.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (folder / "bids" / "dataset_description.json").write_text("{}", encoding="utf-8")
    stages = ("nondemented", "verymilddemented", "milddemented")
    phantom_files.write_phantoms(
        folder / "others", phantom.Phantom(subjects=12, slices=1, size=64, stages=stages, seed=7)
    )
    (folder / "others" / "scans").rename(folder / "other")
    logits = whole.run.fits()[0].path / "logits"
    for side in ("validation", "calibration", "test"):
        shutil.copy(logits / f"{side}.npz", folder / f"{side}.npz")
    for name in ("a", "b"):
        shutil.copytree(whole.run.path, folder / "runs" / name)


def is_fit(command: Sequence[str]) -> bool:
    return command[0] in ("fit", "fold") and "--plan" not in command


def smaller(command: Sequence[str]) -> list[str]:
    """A command as printed, with settings after it under which it ends in a second."""
    if command[0] in ("fit", "fold"):
        command = [*command, "--set", "model.weights=none"]  # the hub is elsewhere
    if not is_fit(command):
        return list(command)
    settings = [*TINY, *(SMALL if not any(word.startswith("model.name") for word in command) else ())]
    words = [
        *command,
        *(word for setting in settings for word in ("--set", setting)),
        "--device",
        "cpu",
        "--threads",
        "1",
    ]
    return [("2" if before == "--folds" else word) for before, word in zip(["", *words], words, strict=False)]


RUN = [
    pytest.param(page, id=page.stem, marks=() if page.stem in EVERY_DAY else pytest.mark.extended)
    for page in LED
    if page.stem not in ELSEWHERE
]


@pytest.mark.parametrize("page", RUN)
def test_a_page_runs_as_it_is_printed(
    page: Path, stocked: Path, tmp_path: Path, scanwise: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = shutil.copytree(stocked, tmp_path / "here")
    monkeypatch.chdir(here)
    for command in commands(page):
        said = scanwise(*smaller(command))
        expected = (0, 1, 3) if command[0] == "audit" else (0,)
        assert said.code in expected, f"{' '.join(command)}\n{said.err}"
    for block in blocks(page, "python"):
        exec(compile(block, relative(page), "exec"), {"__name__": "snippet"})  # noqa: S102 - our own page


def test_pages_that_are_parsed_alone_are_there() -> None:
    assert {page.stem for page in LED} >= ELSEWHERE
    assert len(LED) >= 20
