"""Text of others is read within bounds, and says in one line what is wrong with it."""

import math
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanwise import recipe, untrusted
from scanwise.errors import DataError, RecipeError
from scanwise.untrusted import parse_json, parse_yaml, quote, read_text
from tiny import Command

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{after}: &{after} [{', '.join([f'*{name}'] * 9)}]\n" for name, after in zip("abcdefgh", "bcdefghi", strict=True)
)

VALUES: dict[str, Any] = {
    "a: 1e-3\nb: no\nc: true\nd: 0x1F\ne: 0o17\nf: ~\ng: [1, '2', {h: i}]": {
        "a": 0.001, "b": "no", "c": True, "d": 31, "e": 15, "f": None, "g": [1, "2", {"h": "i"}]
    },
    "a: -.inf\nb: +1.5\nc: .5e3": {"a": -math.inf, "b": 1.5, "c": 500.0},
    "": None,
    "a:\nb: ''": {"a": None, "b": ""},
    "a: 2024-13-45": {"a": "2024-13-45"},
    "a: 2024-01-15": {"a": "2024-01-15"},
    "a: !!str 5\nb: !!float 5": {"a": "5", "b": 5.0},
    "a: |\n  two\n  lines\nb: >\n  one\n  line": {"a": "two\nlines\n", "b": "one line"},
    "- 1\n- [a, b]\n- {c: d}": [1, ["a", "b"], {"c": "d"}],
    "1: one\n2.5: yes": {1: "one", 2.5: "yes"},
    "# only a comment": None,
}  # fmt: skip


@pytest.mark.parametrize("text", VALUES)
def test_yaml_is_read_as_version_1_2_says(text: str) -> None:
    assert parse_yaml(text) == VALUES[text]


REFUSED = {
    "a bomb of aliases": (BOMB, "line 1: anchors and aliases"),
    "an alias": ("a: *b", "line 1: anchors and aliases"),
    "an alias for a key": ("*a : 1", "line 1: anchors and aliases"),
    "a tag that calls": ("a: 1\nb: !!python/object/apply:os.system [x]", "line 2: the tag"),
    "a tag of its own": ("a: !mine {b: 1}", "line 1: the tag '!mine'"),
    "a set": ("a: !!set {b}", "line 1: the tag"),
    "bytes": ("a: !!binary aGk=", "line 1: the tag"),
    "a number that is none": ("a: !!int abc", "line 1: 'abc' is not what its tag !!int says"),
    "a truth that is none": ("a: !!bool maybe", "line 1: 'maybe' is not what its tag !!bool says"),
    "5,000 digits": ("a: " + "1" * 5000, "line 1: a number of 5,000 digits"),
    "5,000 digits and a point": ("a: 0." + "1" * 5000, "line 1: a number of 5,002 digits"),
    "500 brackets": ("a: " + "[" * 500 + "]" * 500, "line 1: nested deeper than 32 levels"),
    "100,000 brackets": ("a: " + "[" * 100_000, "line 1: nested deeper than 32 levels"),
    "1,000 braces": ("a: " + "{b: " * 1000, "line 1: nested deeper than 32 levels"),
    "1,000 dashes": ("- " * 1000, "line 1: nested deeper than 32 levels"),
    "a title of 20 MB": ("title: " + "x" * 20_000_000, "it has 20,000,007 characters; at most 131,072 are read"),
    "a title of 20 KB": ("title: " + "x" * 20_000, "line 1: a text of 20,000 characters; at most 16,384 are read"),
    "a key twice": ("a: 1\na: 2", "line 2: duplicate key 'a'"),
    "a list for a key": ("? [a]\n: b", "line 1: a key must be a word"),
    "two documents": ("a: 1\n---\nb: 2", "line 2: a second document begins"),
    "an open bracket": ("a: [", "line 1: "),
    "a tab": ("a:\n\tb: 1", "line 2: "),
    "a zero byte": ("a: \0", "not YAML: "),
    "an unknown escape": ('a: "\\q"', "line 1: found unknown escape character 'q'"),
    "another version": ("%YAML 9.9\n---\na: 1", "line 1: "),
}


@pytest.mark.parametrize("name", REFUSED)
def test_yaml_beyond_bounds_is_one_line(name: str) -> None:
    text, expected = REFUSED[name]
    with pytest.raises(DataError) as refused:
        parse_yaml(text)
    assert str(refused.value).startswith(expected)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("name", REFUSED)
def test_a_recipe_beyond_bounds_is_one_line(name: str, tmp_path: Path, scanwise: Command) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"name: a\n{REFUSED[name][0]}", encoding="utf-8")
    said = scanwise("fit", file, "--data", tmp_path)
    assert said.code == 2
    assert str(file) in said.refusal
    assert len(said.refusal) < 1000


@given(st.text(alphabet="ab1:-,[]{}&*!|>'\"#%@?~.\\ \n\t\0é", max_size=60))
def test_any_text_is_values_or_one_line(text: str) -> None:
    try:
        parse_yaml(text)
    except DataError as error:
        assert "\n" not in str(error)  # noqa: PT017


WORDS = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=12)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False) | WORDS,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
        max_leaves=12,
    )
)
def test_what_is_written_is_read_again(value: object) -> None:
    import io

    from ruamel.yaml import YAML

    yaml, stream = YAML(typ="safe", pure=True), io.StringIO()
    yaml.dump(value, stream)
    assert parse_yaml(stream.getvalue()) == value


def test_thousands_of_unknown_keys_are_twenty_lines(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("name: a\n" + "".join(f"k{index}: 1\n" for index in range(3_000)), encoding="utf-8")
    with pytest.raises(RecipeError) as refused:
        recipe.load_recipe(file)
    lines = str(refused.value).splitlines()
    assert lines[0].endswith("has 3,000 mistakes:")
    assert lines[-1] == "  - … and 2,980 more"
    assert len(lines) == 22


@pytest.mark.parametrize(
    "setting",
    ["seed=" + "1" * 300, "train.epochs=[" + "a, " * 3000 + "]", "title=[" + "'" + "x" * 16_000 + "']", "x" * 9000],
)
def test_a_value_of_others_is_quoted_in_short(setting: str) -> None:
    with pytest.raises(RecipeError) as refused:
        recipe.load_recipe("demo", [setting])
    assert len(str(refused.value)) < 1500


QUOTED = {
    "a": "'a'",
    "x" * 1000: "'" + "x" * 78 + "…'",
    "two\nlines": "'two\\nlines'",
}


@pytest.mark.parametrize("value", QUOTED)
def test_quotations_are_short(value: str) -> None:
    assert quote(value) == QUOTED[value]


def test_a_quotation_never_builds_the_whole_text() -> None:
    class Huge(list[int]):
        def __repr__(self) -> str:
            raise AssertionError

    assert quote(Huge(range(100))) == "100 values"
    assert quote(10**5000) == "a number of more than 80 digits"
    assert quote(-7) == "-7"
    assert quote(None) == "None"


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "nul", "1" * 5000, '"\\ud800', ""])
def test_json_that_is_none_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        parse_json(text)
    assert isinstance(refused.value, ValueError)


# --- files


def test_text_of_a_file_within_its_bounds(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("\ufeffgrün", encoding="utf-8")  # as Windows saves it
    assert read_text(file, 100, "a note") == "grün"
    with pytest.raises(DataError, match=r"too large for a note"):
        read_text(file, 5, "a note")
    file.write_bytes(b"gr\xfcn")
    with pytest.raises(DataError, match=r"not UTF-8 text \(byte 2\)"):
        read_text(file, 100, "a note")


@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "folder"])
def test_what_is_no_regular_file_is_refused_at_once(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(DataError, match=f"is a {kind}; a note must be a file"):
        untrusted.refuse_special(path, "a note")
    with pytest.raises(RecipeError, match=f"is a {kind}"):
        recipe.load_recipe(path)
