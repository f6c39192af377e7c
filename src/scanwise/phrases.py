"""Parts of sentences for people, shared by findings, errors and pages."""

import logging
import re
from collections.abc import Sequence

_BLANK = re.compile(r"[\t\n\r\u2028\u2029]")
_STEERING = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
"""Characters that steer a terminal, turn round the text after them, or are halves of a broken encoding."""


def count_of(number: int, noun: str) -> str:
    """A number with its noun, in the right form.

    >>> count_of(1, "subject"), count_of(1200, "class")
    ('1 subject', '1,200 classes')
    """
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def none_readable(number: int, where: str = "") -> str:
    """The start of a refusal of files, of which none can be read.

    >>> none_readable(1), none_readable(3, " in scans")
    ('The file cannot be read', 'None of the 3 files in scans can be read')
    """
    return f"The file{where} cannot be read" if number == 1 else f"None of the {number:,} files{where} can be read"


def short_names(names: Sequence[str], most: int) -> list[str]:
    """Names of at most `most` letters where that can be; those that differ still do.

    What all have in common is left out first: the folders above them, then what stands before and after the letters in
    which they differ. Names that would look alike for all that are shortened again among themselves, or stay longer.

    >>> short_names(["study/patient-0001-baseline-t1.png", "study/patient-0002-baseline-t1.png"], 16)
    ['…ent-0001-basel…', '…ent-0002-basel…']
    >>> short_names(["a/b/c/1.png", "a/b/d/1.png"], 8)
    ['…c/1.png', '…d/1.png']
    """
    if max(map(len, names), default=0) <= most:
        return list(names)
    distinct = list(dict.fromkeys(names))
    folders = [name.split("/")[:-1] for name in distinct]
    start = len("".join(f"{folder}/" for folder in folders[0][: _shared(folders)]))
    bare = [name[start:] for name in distinct]
    several = len(bare) > 1
    before = _shared(bare) if several else 0
    after = _shared([name[before:][::-1] for name in bare]) if several else 0
    alike: dict[str, list[str]] = {}
    for name, rest in zip(distinct, bare, strict=True):
        alike.setdefault(_window(rest, before, len(rest) - after, start > 0, most), []).append(name)
    short_of: dict[str, str] = {}
    for text, group in alike.items():
        again = short_names(group, most) if 1 < len(group) < len(distinct) else [text] * len(group)
        short_of |= dict(zip(group, again, strict=True))
    if len(set(short_of.values())) < len(distinct):
        return short_names(names, 2 * most)
    return [short_of[name] for name in names]


def _shared(rows: Sequence[Sequence[str]]) -> int:
    """Number of items that all rows begin with."""
    low, high = min(map(tuple, rows)), max(map(tuple, rows))
    return next((index for index, pair in enumerate(zip(low, high, strict=False)) if pair[0] != pair[1]), len(low))


def _window(name: str, low: int, high: int, cut: bool, most: int) -> str:
    """The part of a name around the letters from `low` to `high`, with an ellipsis where something is left out."""
    if len(name) + cut <= most:
        return "…" * cut + name
    if high - low > most - 2:  # they differ in more than there is room for: their ends
        head = (most - 1) // 2
        return f"{name[low : low + head]}…{name[high - (most - 1 - head) : high]}"
    low = max(0, min((low + high - most) // 2 + 1, len(name) - most + 1))
    high = low + most - 2
    if low <= 1 - cut:
        low, high = 0, most - 1 - cut
    return f"{'…' * (cut or low > 0)}{name[low:high]}{'…' * (high < len(name))}"


def printable(text: str, *, lines: bool = False) -> str:
    """The text with a mark for each character that no page shows, that steers a terminal or turns the text around it.

    Args:
        text: of users, or with names of theirs in it.
        lines: whether tabs and line feeds stay; otherwise they become blanks.

    >>> printable("a\\x00b\\nc\\x1b[31m\\u202ed")
    'a�b c�[31m�d'
    """
    return _STEERING.sub("\ufffd", _BLANK.sub(lambda match: match[0] if lines and match[0] in "\t\n" else " ", text))


class PlainLines(logging.Formatter):
    """Log messages without what steers a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record), lines=True)
