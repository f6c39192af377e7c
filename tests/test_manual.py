"""The manual: its pages of tables equal the tables, every finding is explained, and the site is one without outside resources."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import util
from pathlib import Path
from types import ModuleType

import pytest

import scanwise
from scanwise.auditing import CHECKS
from scanwise.cli import cli
from scanwise.metrics import CLASS_METRICS, METRICS, OTHER_METRICS
from scanwise.recipe import Recipe, setting_keys

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SOURCE = ROOT / "src" / "scanwise"
MAKERS = {"Finding": "", "make_finding": "", "ShortcutSource": "", "SanityCheck": "explanation."}
"""Calls that name a finding, and what stands before its name."""
OUTSIDE = re.compile(r"""<(?:script|link|img|iframe|source|video)\b[^>]*?\b(?:src|href)=["'](?:https?:)?//""")


@pytest.fixture(scope="module")
def manual() -> ModuleType:
    spec = util.spec_from_file_location("manual", ROOT / "tools" / "manual.py")
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["options.md", "metrics.md"])
def test_pages_of_tables_are_those_of_the_tables(manual: ModuleType, page: str) -> None:
    written = (DOCS / page).read_text(encoding="utf-8")
    assert written == manual.PAGES[page](), "run: .venv/bin/python tools/manual.py"


def test_every_key_of_a_recipe_has_a_description(manual: ModuleType) -> None:
    schema = Recipe.model_json_schema()
    rows = {key: meaning for key, _, _, meaning in manual.option_rows(schema, schema["$defs"])}
    assert set(setting_keys()) <= set(rows)
    assert not [key for key, meaning in rows.items() if not meaning.strip()]
    assert not [name for name, section in schema["$defs"].items() if not section.get("description")]


def test_every_key_stands_in_the_option_reference() -> None:
    page = (DOCS / "options.md").read_text(encoding="utf-8")
    assert not [key for key in setting_keys() if f"| `{key}` |" not in page]


def test_every_figure_stands_in_the_metric_reference() -> None:
    page = (DOCS / "metrics.md").read_text(encoding="utf-8")
    assert not [
        spec.name
        for table in (METRICS, CLASS_METRICS, OTHER_METRICS)
        for spec in table.values()
        if f"`{spec.name}` | {spec.title} | {spec.meaning}" not in page
    ]


def test_every_command_and_every_public_name_has_its_line() -> None:
    page = (DOCS / "commands.md").read_text(encoding="utf-8")
    table = page.partition("\n## ")[0]
    assert not [name for name in cli.commands if not re.search(rf"`{name}\b", table)]
    python = (DOCS / "python.md").read_text(encoding="utf-8")
    public = [name for name in scanwise.__all__ if name != "__version__"]
    assert not [name for name in public if not re.search(rf":: (scanwise\.)?{name}\n", python)]


def findings_in_source() -> Iterator[str]:
    """Patterns of the names of all findings that the source can make."""
    for path in SOURCE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        named = {
            target.id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        prefix = str(named.get("PREFIX", ""))
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or not node.args:
                continue
            lead = prefix if node.func.id == "_finding" else MAKERS.get(node.func.id)
            if lead is None:
                continue
            match node.args[0]:
                case ast.Constant(value=str(name)):
                    yield re.escape(lead + name)
                case ast.Name(id=name) if name in named:
                    yield re.escape(str(named[name]))
                case ast.JoinedStr(values=parts) if node.func.id != "Finding":
                    yield "".join(re.escape(part.value) if isinstance(part, ast.Constant) else r"\w+" for part in parts)


def test_every_finding_is_explained_and_every_explained_one_can_occur() -> None:
    page = (DOCS / "findings.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\| (`[a-z][^|]*`) \|", page, re.MULTILINE)
    explained = {name for cell in cells for name in re.findall(r"`([\w.]+)`", cell)}
    patterns = set(findings_in_source())
    assert len(patterns) > 40
    assert not [pattern for pattern in patterns if not any(re.fullmatch(pattern, name) for name in explained)]
    known = {"split.subject", "split.pixels", "quality.labels"}  # their names are put together
    assert not [name for name in explained - known if not any(re.fullmatch(pattern, name) for pattern in patterns)]


def test_every_check_of_the_audit_has_a_heading() -> None:
    page = (DOCS / "findings.md").read_text(encoding="utf-8")
    assert not [spec for spec in CHECKS.values() if f"## {spec.name}: {spec.title}\n" not in page]


@pytest.mark.extended
def test_the_site_is_built_without_warning_and_loads_nothing_from_outside(tmp_path: Path) -> None:
    pytest.importorskip("sphinx")
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", tmp_path / "trees", DOCS, tmp_path / "site"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert {page.stem for page in pages} >= {"index", "options", "metrics", "findings", "python", "files", "glossary"}
    assert not [page.name for page in pages if OUTSIDE.search(page.read_text(encoding="utf-8"))]
    styles = [path.read_text(encoding="utf-8") for path in (tmp_path / "site").rglob("*.css")]
    assert not [found for style in styles for found in re.findall(r"url\([\"']?(?:https?:)?//|@import", style)]
    python = (tmp_path / "site" / "python.html").read_text(encoding="utf-8")
    assert not [name for name in scanwise.__all__ if f'id="scanwise.{name}"' not in python and name != "__version__"]
