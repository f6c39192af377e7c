"""What the documentation says of files is so."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "scanwise"
STEP = re.compile(r"^\| `([\w/]+\.py)` \| `(\w+)` \|", re.MULTILINE)
REFERENCE = re.compile(r"`([\w-]+(?:/[\w.-]+)*\.(?:py|md|yaml|json|toml))(?:::(\w+))?`")
PAGES = [
    page
    for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"))
    if page.name not in ("log.md", "CHANGELOG.md")  # of earlier trees
]
ROOMS = {path.name for base in (ROOT / "tests", SOURCE) for path in base.iterdir() if path.is_dir()} | {
    "src",
    "tests",
    "benchmarks",
    "docs",
    "tools",
}


def test_the_honest_path_of_a_fit_is_read_in_25_files_and_6000_lines() -> None:
    steps = STEP.findall((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"))
    files = [file for file, _ in steps]
    assert 20 <= len(set(files)) == len(files) <= 25
    assert sum(len((SOURCE / file).read_text(encoding="utf-8").splitlines()) for file in files) <= 6000
    for file, name in steps:
        module = importlib.import_module(
            "scanwise." + file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        )
        assert hasattr(module, name), f"{file} has no {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_tests_benchmarks_and_modules_that_a_page_names_are_there(page: Path) -> None:
    missing = []
    for name, test in REFERENCE.findall(page.read_text(encoding="utf-8")):
        found = [base / name for base in (ROOT, ROOT / "tests", SOURCE) if (base / name).is_file()]
        if "NAME" in name or ("/" not in name and not test) or ("/" in name and name.split("/")[0] not in ROOMS):
            continue
        if not found or (test and f"def {test}(" not in found[0].read_text(encoding="utf-8")):
            missing.append(f"{name}::{test}")
    assert not missing


TASKS = [
    ("docs/limits.md", task) for task in ("Multi-label", "Regression", "3-D convolution", "Survival", "Segmentation")
]


def test_the_readme_is_short_and_leads_to_every_answer() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.split()) <= 900
    questions = text.partition("## Twelve questions\n")[2].partition("\n## ")[0]
    answers = re.findall(r"^- \[[^]]+\?\]\((docs/[\w/.-]+\.md)\)$", questions, re.MULTILINE)
    assert len(answers) == 12
    opening = {answer: (ROOT / answer).read_text(encoding="utf-8").splitlines()[2] for answer in answers}
    assert all(line.startswith("**") for answer, line in opening.items() if "/how-to/" in answer), (
        "a verdict comes first"
    )
    assert all((ROOT / answer).read_text(encoding="utf-8").count(f"**{task}") for answer, task in TASKS)


LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)(#[\w-]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert not [target for target, _ in LINK.findall(text) if not (page.parent / target).exists()]


def test_every_page_of_the_manual_is_reached() -> None:
    listed, linked = set[Path](), set[Path]()
    for page in (ROOT / "docs").rglob("*.md"):
        text = page.read_text(encoding="utf-8")
        for entries in re.findall(r"```{toctree}\n(.*?)```", text, re.DOTALL):
            names = [line for line in entries.splitlines() if line and not line.startswith(":")]
            listed |= {found for name in names for found in page.parent.glob(f"{name}.md")}
        linked |= {(page.parent / target).resolve() for target, _ in LINK.findall(text)}
    pages = set((ROOT / "docs").rglob("*.md")) - {ROOT / "docs" / "index.md"}
    assert not sorted(page.name for page in pages - listed - linked)
    assert len(listed) > 40


def test_pictures_are_small_and_shown() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    pictures = list((ROOT / "docs").rglob("*.png"))
    assert len(pictures) >= 4
    assert not [picture.name for picture in pictures if picture.stat().st_size > 200_000 or picture.name not in text]
