"""The project's words: names in the code, first lines of docstrings, and every text that a user may read.

The house style is in docs/style.md and the terms in docs/glossary.md; this file holds them.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "scanwise"
FILES = sorted(SOURCE.rglob("*.py"))

VAGUE = {
    "made",
    "known",
    "told",
    "said",
    "place",
    "judged",
    "judge",
    "judges",
    "judging",
    "found",
    "one",
    "asked",
    "doubt",
    "doubts",
    "spoken",
    "dealt",
    "begun",
    "noted",
    "work",
    "whom",
    "mine",
    "theirs",
}
"""Names that say nothing of what they hold."""

OPENINGS = re.compile(r"^(Of|What|Who|Whom|Whose|Whoever|Which|Where|How|That|By whom|By what|Unsaid|From what)\b")
OBSCURE = re.compile(
    r"\b(unsaid|whoever|whom|dealt|who is who|(?:it|is|are|was|were) told|trivial rivals?|look-?alikes?|learnt scans?)\b",
    re.IGNORECASE,
)
REFUSED = re.compile(
    r"\b(told(?! apart)|dealt|unsaid|whoever|whom|who is who|learnt scans?|trivial rivals?|rivals|look-?alikes?|promis(?:e|es|ed)|once in forty|"
    r"somebody|nobody|cut at|must look|a person must|deviations apart|strangers?|hangs? on|good to know|needs a look|"
    r"right and wrong|no answer|doubts?|what is not anatomy|is of no use|lives? on)\b",
    re.IGNORECASE,
)
"""Private words where the field has one of its own."""
PLURALS = re.compile(
    r"(?<![\d.,])1 (scans|subjects|people|pairs|classes|files|folds|slices|members|findings|errors|rows|groups)\b"
)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def name_of(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def docstrings(tree: ast.Module) -> Iterator[ast.Constant]:
    """Docstrings of modules, classes, functions, and of the assignments above them."""
    for node in ast.walk(tree):
        for child in getattr(node, "body", []) if not isinstance(node, (ast.Lambda, ast.IfExp)) else []:
            if (
                isinstance(child, ast.Expr)
                and isinstance(child.value, ast.Constant)
                and isinstance(child.value.value, str)
            ):
                yield child.value


def visible(tree: ast.Module) -> Iterator[ast.Constant]:
    """Strings that are no docstrings: messages, titles, sentences."""
    hidden = {id(text) for text in docstrings(tree)}
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in hidden
            and " " in node.value.strip()
        ):
            yield node


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_names_say_what_they_hold(path: Path) -> None:
    names = [
        (node.lineno, node.id if isinstance(node, ast.Name) else node.arg)
        for node in ast.walk(tree_of(path))
        if (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)) or isinstance(node, ast.arg)
    ]
    assert not [f"line {line}: {name}" for line, name in sorted(set(names)) if name in VAGUE]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_docstrings_open_with_a_plain_phrase(path: Path) -> None:
    texts = [(text.lineno, text.value.strip()) for text in docstrings(tree_of(path))]
    wrong = [f"line {line}: {text.splitlines()[0]}" for line, text in texts if text and OPENINGS.match(text)]
    wrong += [f"line {line}: {match.group()}" for line, text in texts for match in OBSCURE.finditer(text)]
    assert not wrong


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_users_read_the_words_of_the_field(path: Path) -> None:
    texts = [(text.lineno, text.value) for text in visible(tree_of(path))]
    wrong = [
        f"line {line}: {match.group()!r} in {text[:90]!r}" for line, text in texts for match in REFUSED.finditer(text)
    ]
    wrong += [f"line {line}: {match.group()!r}" for line, text in texts for match in PLURALS.finditer(text)]
    assert not wrong


@pytest.mark.parametrize("path", sorted([*SOURCE.rglob("*.jinja"), *SOURCE.rglob("*.yaml")]), ids=name_of)
def test_templates_and_recipes_read_plainly(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    keys = re.compile(r"^\s*[\w.]+:\s*$|\{[%{].*?[%}]\}")
    assert not [
        f"line {number}: {match.group()!r}"
        for number, line in enumerate(lines, 1)
        for match in REFUSED.finditer(keys.sub("", re.sub(r"<[^>]*>", "", line)))
    ]


def test_one_class_has_one_name() -> None:
    homes = defaultdict(list)
    for path in FILES:
        for node in tree_of(path).body:
            if isinstance(node, ast.ClassDef):
                homes[node.name].append(name_of(path))
    assert not {name: where for name, where in homes.items() if len(where) > 1}


MANY = {
    "examine",  # every audit check has it: `audit.CHECKS`
    "main",  # entry points
}


def test_one_function_has_one_name() -> None:
    """A public function's name stands once; those of `cli` and `api` may share the name of what they call."""
    homes = defaultdict(list)
    for path in FILES:
        for node in tree_of(path).body:
            if (
                isinstance(node, ast.FunctionDef)
                and not node.name.startswith("_")
                and not {"cli", "api"} & set(path.parts)
            ):
                homes[node.name].append(name_of(path))
    assert not {name: where for name, where in homes.items() if len(where) > 1 and name not in MANY}


def test_no_file_is_long() -> None:
    lengths = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert not {name: length for name, length in lengths.items() if length > 400}


def test_modules_keep_their_private_names() -> None:
    wrong = []
    for path in FILES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("scanwise"):
                wrong += [
                    f"{name_of(path)}: {node.module}.{a.name}"
                    for a in node.names
                    if a.name.startswith("_") and not a.name.startswith("__")
                ]
    assert not wrong
