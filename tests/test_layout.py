"""Names of the run folder's files stand in `scanwise.run.layout`, and nowhere else in the package."""

import ast
from pathlib import Path

import pytest

from scanwise.run import layout

SOURCE = Path(layout.__file__).parents[1]
FILES = [path for path in sorted(SOURCE.rglob("*.py")) if path.parent != SOURCE / "run"]
NAMES = {
    value for name, value in vars(layout).items() if name.isupper() and isinstance(value, str) and "." in value
} | {layout.CHECKSUMS}
OTHER_MEANINGS = {
    "bundle": {layout.RECIPE, layout.MODEL, layout.NOVELTY, layout.VOCABULARY},  # a bundle is a folder of its own
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_no_other_module_spells_a_file_of_the_run_folder(path: Path) -> None:
    allowed = OTHER_MEANINGS.get(path.relative_to(SOURCE).parts[0], set())
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    spelt = [
        f"line {node.lineno}: {node.value}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
        if " " not in node.value and node.value.rsplit("/", 1)[-1] in NAMES - allowed
    ]
    assert not spelt


def test_every_name_of_the_layout_stands_once() -> None:
    assert layout.table_link(layout.PREDICTIONS) == "tables/predictions.csv"
    assert layout.table_link(layout.PREDICTIONS, "published") == "tables/published/predictions.csv"
    values = [value for name, value in vars(layout).items() if name.isupper() and isinstance(value, str)]
    assert len(values) == len(set(values))


def test_pictures_are_opened_in_one_place() -> None:
    """`Image.open` tries every format that Pillow has, and some run programs: `decoding.pictures` names those meant."""
    named = "Image.open(image, formats="  # a figure that we drew ourselves
    opened = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        if "Image.open(" in path.read_text(encoding="utf-8").replace(named, "")
    }
    assert opened == {"cohort/decoding/pictures.py"}
