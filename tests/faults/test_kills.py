"""A command that is killed at any of its renames, or at any moment, loses nothing: run again, it ends as if nothing had been.

Each process of a chain dies at the first rename at which none has died yet, in turn before it and after it; so every rename of the
command is survived twice.
"""

import os
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from runs import FIT, TIMED, check_whole, run, settled

from scanwise import bundle
from tiny import RECIPE, picture, write_scans

pytestmark = pytest.mark.slow

DRAWS = int(os.environ.get("DRAWS", "20"))
"""Random moments of each command."""


REPORT = ("report.html", "checklists.html", "model_card.md")


@dataclass(frozen=True)
class Case:
    """A command, how it goes on, and the folder that it writes.

    Attributes:
        command: of a first start.
        again: added to go on with it.
        out: its folder, below the folder of the test.
        gone: files that are removed before, so that there is something to write.
    """

    command: Callable[[Path], Sequence[object]]
    again: tuple[str, ...] = ()
    out: str = "out"
    gone: tuple[str, ...] = ()


CASES = {
    "fit": Case(lambda folder: [*FIT, "--out", "out"], ("--resume",)),
    "audit": Case(lambda folder: ["audit", "data", "--out", "out", "--subject", r"([a-z]+\d+)_"]),
    "report": Case(lambda folder: ["report", "run"], out="run", gone=REPORT),
    "register": Case(lambda folder: ["register", "run", "--name", "one", "--registry", "out"]),
    "evaluate": Case(
        lambda folder: ["evaluate", "run", "--data", "others", "--subject", r"([a-z]+\d+)_", "--out", "out", "--draws", "100"]
    ),
    "fold": Case(
        lambda folder: [
            "fold", *FIT[1:-2], "--out", "out", "--folds", "2", "--try", "train.batch=32", "--threads", "1",
        ],
        ("--resume",),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scans, other scans, a recipe and a finished run."""
    folder = tmp_path_factory.mktemp("kills")
    write_scans(folder / "data", {"a": 12, "b": 12}, slices=2)
    for kind, name in enumerate(("a", "b")):
        (folder / "others" / name).mkdir(parents=True)
        for index in range(6):
            picture(kind, 777 + 10 * index + kind).save(folder / "others" / name / f"{name}{90 + index}_0.png")
    recipe = RECIPE.replace("explain: {scans: 0}", "explain: {scans: 2}\naudit: {checks: []}")  # `audit` dies by itself
    (folder / "tiny.yaml").write_text(recipe, encoding="utf-8")
    done = run(folder, [*FIT, "--out", "run"])
    assert done == (0, ""), done
    return folder


def copy_of(base: Path, folder: Path, case: Case) -> Path:
    shutil.copytree(base, folder)
    for name in case.gone:
        (folder / case.out / name).unlink()
    return folder


@pytest.fixture
def place(base: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    return copy_of(base, tmp_path / "here", CASES[request.node.callspec.params["name"]])


@pytest.fixture
def undisturbed(base: Path, tmp_path: Path, request: pytest.FixtureRequest) -> tuple[dict[str, bytes], list[str]]:
    """The folder of the command that lived, and its renames."""
    case = CASES[request.node.callspec.params["name"]]
    folder = copy_of(base, tmp_path / "undisturbed", case)
    code, said = run(folder, case.command(folder), f"record {tmp_path / 'renames'}")
    assert code in (0, 1, 3), said
    return settled(folder / case.out), (tmp_path / "renames").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("name", [name for name in CASES if name != "register"])
def test_killed_at_every_rename(name: str, place: Path, undisturbed: tuple[dict[str, bytes], list[str]]) -> None:
    case, (expected, renames) = CASES[name], undisturbed
    for _ in range(len(renames) + 9):
        codes = set()
        for how in ("before", "after"):
            code, said = run(place, [*case.command(place), *case.again], how)
            assert code in (-9, 0, 1, 3), said
            check_whole(place / case.out)
            codes.add(code)
        if -9 not in codes:
            break
    assert -9 not in codes
    assert settled(place / case.out) == expected
    deaths = (place / "deaths").read_text(encoding="utf-8").splitlines()
    for how in ("before", "after"):
        assert {f"{how} {target}" for target in renames} <= {line.rpartition(" ")[0] for line in deaths}
    print(f"kills: {name}: {len(deaths)} at {len(renames)} renames")  # noqa: T201 - for the log
    again, said = run(place, [*case.command(place), *case.again], f"record {place / 'again'}")
    assert again in (0, 1, 3), said
    if case.again:  # what goes on with what is finished writes nothing anew but files that hold times
        written = {Path(line).name for line in (place / "again").read_text(encoding="utf-8").splitlines()}
        assert written <= TIMED


def test_a_registration_that_is_killed_gives_a_whole_version_or_none(base: Path, tmp_path: Path) -> None:
    """Each start asks for one more version, so that there is no chain: one death before its rename, one after it."""
    folder, case = copy_of(base, tmp_path / "here", CASES["register"]), CASES["register"]
    for how, versions in (("before", set()), ("after", {"1"}), ("", {"1", "2"})):
        code, said = run(folder, case.command(folder), how)
        assert code == (-9 if how else 0), said
        check_whole(folder / case.out)
        there = folder / "out" / "one"
        assert {path.name for path in there.iterdir() if not path.name.startswith(".")} == versions
        for version in versions:
            bundle.load(there / version)
    assert not list(there.glob(".*.part"))


@pytest.mark.parametrize("name", CASES)
def test_killed_at_random_moments(name: str, place: Path, undisturbed: tuple[dict[str, bytes], list[str]]) -> None:
    case, (expected, _) = CASES[name], undisturbed
    moments = random.Random(name)  # noqa: S311
    kills = 0
    for _ in range(DRAWS):
        code, said = run(place, [*case.command(place), *case.again], f"seconds {moments.uniform(0.02, 2.5):.3f}")
        assert code in (-9, 0, 1, 3), said
        kills += code == -9
        check_whole(place / case.out)
    code, said = run(place, [*case.command(place), *case.again])
    assert code in (0, 1, 3), said
    if name != "register":  # each that lived gave one more version
        assert settled(place / case.out) == expected
    print(f"kills: {name}: {kills} of {DRAWS} at random")  # noqa: T201 - for the log
