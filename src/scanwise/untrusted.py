"""Text of others, read within bounds: regular files of a limited size, YAML and JSON of a limited depth, short quotations.

YAML here is the core of version 1.2: mappings, lists, and words, numbers, `true`, `false` and `null`. Anchors, aliases and
tags of its own are refused, since a few bytes of aliases stand for billions of values.
"""

import json
import os
import re
import stat
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from scanwise.errors import DataError

MOST_YAML = 2**17
"""Characters of a YAML text: a recipe with two thousand classes has fewer."""
MOST_DEPTH = 32
MOST_SHRUNK = 100
"""Times that the content of an archive may be larger than the file; a few kilobytes can else unpack to many gigabytes."""
NEVER_LARGE = 2**26
"""Bytes of content that need not ask how small the file is."""
MOST_SCALAR = 2**14
MOST_DIGITS = 400

_CORE = "tag:yaml.org,2002:"
_NULL = re.compile(r"~|null|Null|NULL|")
_TRUTH = re.compile(r"true|True|TRUE|(false|False|FALSE)")
_WHOLE = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_REAL = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


def require_data(path: Path, option: str = "") -> None:
    """Refuse a path of scans where nothing lies.

    Raises:
        DataError: if there is nothing.
    """
    if not path.exists():
        where = f", with {option}" if option else ""
        raise DataError(f"There is nothing at {path}. Give a folder of class folders, or a CSV manifest{where}.")


def read_text(path: Path, most: int, what: str) -> str:
    """Text of a regular file of at most that many bytes.

    Raises:
        DataError: if it is a pipe, a device or a folder, too large, or no UTF-8.
        OSError: if it cannot be opened.
    """
    refuse_special(path, what)
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise DataError(f"{path} is too large for {what}: more than {most / 1e6:.1f} MB.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start}). Save it as UTF-8.") from error


def refuse_special(path: Path, what: str) -> None:
    """Refuse a pipe, device or socket, which a reader could wait for without end.

    Raises:
        DataError: naming the kind of file.
        OSError: if there is nothing.
    """
    mode = os.stat(path).st_mode  # noqa: PTH116 - follows links, as opening does
    if not stat.S_ISREG(mode):
        kinds: dict[str, Callable[[int], bool]] = {
            "folder": stat.S_ISDIR,
            "pipe": stat.S_ISFIFO,
            "socket": stat.S_ISSOCK,
        }
        kind = next((kind for kind, test in kinds.items() if test(mode)), "device")
        raise DataError(f"{path} is a {kind}; {what} must be a file.")


def measure_archive(archive: zipfile.ZipFile, size: int) -> int:
    """Bytes that all files of a ZIP archive of this size unpack to.

    Raises:
        ValueError: if they are so many that it was made to fill the memory.
    """
    unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > max(NEVER_LARGE, MOST_SHRUNK * size):
        raise ValueError(f"a small file that would unpack to {unpacked / 1e6:,.0f} MB")
    return unpacked


def quote(value: object, most: int = 80) -> str:
    """A short repr of a value; of a long one the beginning, and never its whole text is built.

    >>> quote("short"), quote(["a"] * 1000), len(quote("x" * 10**6))
    ("'short'", '1000 values', 81)
    """
    if isinstance(value, str | bytes):
        shown = repr(value[:most])
        return shown if len(value) <= most else f"{shown[: most - 1]}…{shown[-1]}"
    if isinstance(value, dict | list | tuple | set):
        return f"{len(value)} values" if len(value) > 8 else repr(value)[:most]
    if isinstance(value, int) and abs(value) >= 10**most:
        return f"a number of more than {most} digits"
    return repr(value)[:most]


def parse_json(text: str) -> Any:
    """Values of a JSON text.

    Raises:
        ValueError: if it is no JSON, nested too deep, or holds a number of thousands of digits.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def parse_yaml(text: str) -> Any:
    """Values of a YAML text.

    Raises:
        DataError: with the line and what is wrong there.
    """
    if len(text) > MOST_YAML:
        raise DataError(f"it has {len(text):,} characters; at most {MOST_YAML:,} are read")
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        return _build(iter(YAML(typ="safe", pure=True).parse(text)))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        raise DataError(f"{where}{(error.problem or 'not YAML').splitlines()[0]}") from error
    except (YAMLError, ValueError) as error:  # characters that no YAML has, unknown escapes
        raise DataError(f"not YAML: {quote(str(error).splitlines()[0], 200)[1:-1]}") from error


def _build(events: Iterator[Any]) -> Any:
    """The one document of a stream of events."""
    result: list[Any] = []
    open_values: list[Any] = [result]  # the list or dict that each level fills
    keys: list[Any] = [None]  # of each level that is a dict: the key whose value comes next
    for event in events:
        kind = type(event).__name__
        if kind == "DocumentStartEvent" and result:
            raise DataError(f"line {event.start_mark.line + 1}: a second document begins; one is read")
        if kind in ("SequenceEndEvent", "MappingEndEvent"):
            open_values.pop()
            keys.pop()
        if kind not in ("ScalarEvent", "SequenceStartEvent", "MappingStartEvent", "AliasEvent"):
            continue
        line = event.start_mark.line + 1
        if kind == "AliasEvent" or event.anchor is not None:
            raise DataError(f"line {line}: anchors and aliases (& and *) are not read; write the values out")
        value: Any = _scalar(event, line) if kind == "ScalarEvent" else [] if kind == "SequenceStartEvent" else {}
        if kind != "ScalarEvent" and str(event.tag or _CORE).removeprefix(_CORE) not in ("", "map", "seq"):
            raise DataError(f"line {line}: the tag {quote(str(event.tag))} is not read")
        _add(open_values[-1], keys, value, kind == "ScalarEvent", line)
        if kind != "ScalarEvent":
            open_values.append(value)
            keys.append(_NO_KEY)
            if len(open_values) > MOST_DEPTH:
                raise DataError(f"line {line}: nested deeper than {MOST_DEPTH} levels")
    return result[0] if result else None


_NO_KEY = object()


def _add(into: Any, keys: list[Any], value: Any, is_scalar: bool, line: int) -> None:
    """Add a value to the list or dict that is being filled; in a dict, each second one is a key."""
    if isinstance(into, list):
        into.append(value)
    elif keys[-1] is not _NO_KEY:
        into[keys[-1]] = value
        keys[-1] = _NO_KEY
    elif not is_scalar:
        raise DataError(f"line {line}: a key must be a word")
    elif value in into:
        raise DataError(f"line {line}: duplicate key {quote(value)}")
    else:
        keys[-1] = value


def _scalar(event: Any, line: int) -> Any:
    """A word, number, truth value or nothing."""
    text = str(event.value)
    if len(text) > MOST_SCALAR:
        raise DataError(f"line {line}: a text of {len(text):,} characters; at most {MOST_SCALAR:,} are read")
    tag = str(event.tag).removeprefix(_CORE) if event.tag else ""
    if tag == "str" or (not tag and not event.implicit[0]):  # quoted
        return text
    if tag not in ("", "null", "bool", "int", "float"):
        raise DataError(f"line {line}: the tag {quote(str(event.tag))} is not read")
    if len(text) > MOST_DIGITS and (_WHOLE.fullmatch(text) or _REAL.fullmatch(text)):
        raise DataError(f"line {line}: a number of {len(text):,} digits; at most {MOST_DIGITS} are read")
    if tag in ("", "null") and _NULL.fullmatch(text):
        return None
    if tag in ("", "bool") and (match := _TRUTH.fullmatch(text)):
        return match[1] is None
    if tag in ("", "int") and _WHOLE.fullmatch(text):
        return int(text, 0 if text[:2] in ("0o", "0x") else 10)
    if tag in ("", "float") and _REAL.fullmatch(text):
        return float(
            text.replace(".inf", "inf")
            .replace(".Inf", "inf")
            .replace(".INF", "inf")
            .replace(".n", "n")
            .replace(".N", "n")
        )
    if tag:
        raise DataError(f"line {line}: {quote(text)} is not what its tag !!{tag} says")
    return text
