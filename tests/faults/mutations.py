"""Damage of files: bits, blocks, lengths and words, drawn from a seed."""

import copy
import json
import random
from collections.abc import Callable
from typing import Any

EXTREMES = (
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\x80\0\0\0",
    b"\0\0\0\x80",
    b"\xff\xff",
    b"\0",
)
WORDS = (
    b"\0", b"&a [*a, *a]", b"*a", b"!!python/object:os.system", b"!!int abc", b"[" * 200, b"{" * 50, b"1e999", b"-1", b"nan", b"null",
    b'""', b"'", b'"', b"\r", b"\n\n", b"---\n", b"\t", b"\xff\xfe", b"\xef\xbb\xbf", b"../" * 9, b"/dev/zero", b"9" * 5000, b"\xe2\x80\xae",
    b"=1+1", b",", b";", b"x" * 70_000, b"2024-13-45", b"%", b"\x1b[2J",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 10**30, 1e308, float("inf"), float("nan"), "", "x" * 5000, [], {}, [[]], {"": None}, ["a"] * 300, "../../x", "\u202e\0",
)  # fmt: skip


def damage(content: bytes, draw: random.Random) -> bytes:
    """One to four changes of some bytes."""
    changed = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        draw.choice(CHANGES)(changed, draw)
    return bytes(changed)


def damage_text(content: bytes, draw: random.Random) -> bytes:
    """Changes of words and lines, or of bytes."""
    if draw.random() < 0.3:
        return damage(content, draw)
    lines = content.splitlines(keepends=True)
    for _ in range(draw.randint(1, 3)):
        place = draw.randrange(len(lines)) if lines else 0
        match draw.randrange(5):
            case 0 if lines:
                lines.insert(place, draw.choice(lines))
            case 1 if lines:
                del lines[place]
            case 2:
                lines.insert(place, draw.choice(WORDS) + b"\n")
            case _ if lines:
                line = lines[place]
                cut = draw.randint(0, len(line))
                lines[place] = line[:cut] + draw.choice(WORDS) + line[cut + draw.randint(0, 6) :]
    return b"".join(lines)


def damage_json(content: bytes, draw: random.Random) -> bytes:
    """Another value, or a missing or unknown name, somewhere in the tree; or damage as of any text."""
    if draw.random() < 0.3:
        return damage_text(content, draw)
    value = json.loads(content)
    for _ in range(draw.randint(1, 2)):
        places = list(_places(value))
        into, key = draw.choice(places) if places else ([value], 0)
        match draw.randrange(3):
            case 0:
                del into[key]
            case 1 if isinstance(into, dict):
                into[f"{key}x"] = into.pop(key)
            case _:
                into[key] = copy.deepcopy(draw.choice(VALUES))
    return json.dumps(value).encode()


def _places(value: Any) -> Any:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in list(inner):
        yield value, key
        yield from _places(child)


def _flip(content: bytearray, draw: random.Random) -> None:
    if content:
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)


def _overwrite(content: bytearray, draw: random.Random) -> None:
    place = draw.randint(0, len(content))
    new = draw.choice((*EXTREMES, draw.randbytes(draw.randint(1, 40))))
    content[place : place + len(new)] = new


def _overwrite_the_beginning(content: bytearray, draw: random.Random) -> None:
    place = draw.randint(0, min(400, len(content)))
    new = draw.choice(EXTREMES)
    content[place : place + len(new)] = new


def _cut(content: bytearray, draw: random.Random) -> None:
    del content[draw.randint(0, len(content)) :]


def _leave_out(content: bytearray, draw: random.Random) -> None:
    place = draw.randint(0, len(content))
    del content[place : place + draw.randint(1, 64)]


def _repeat(content: bytearray, draw: random.Random) -> None:
    place = draw.randint(0, len(content))
    content[place:place] = content[place : place + draw.randint(1, 200)] * draw.randint(1, 3)


def _insert(content: bytearray, draw: random.Random) -> None:
    place = draw.randint(0, len(content))
    content[place:place] = draw.randbytes(draw.randint(1, 30))


CHANGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _flip, _flip, _overwrite, _overwrite_the_beginning, _overwrite_the_beginning, _cut, _leave_out, _repeat, _insert,
)  # fmt: skip
