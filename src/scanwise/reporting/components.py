"""Tables and drawings as a page holds them; of those that grow with the classes, what stands open and what is folded away."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from markupsafe import Markup
from PIL import Image

CLASSES_SHOWN = 6
"""Classes that a page shows one by one; of more, so many stand open, and the whole is one key press away."""
LARGE = 50_000
"""Bytes of a picture that are worth a loss which nobody sees."""


@dataclass(frozen=True, slots=True)
class ReportTable:
    """A table with a caption; the first cell of a row is its heading, with a small note below where there is one.

    `short` is what stands open of a table that is folded away itself; None where the whole stands open.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    file: str = ""
    notes: tuple[str, ...] = ()
    short: "ReportTable | None" = None


@dataclass(frozen=True, slots=True)
class ReportFigure:
    """A figure and what it shows; one that is as long as the classes are many is folded away."""

    svg: Markup
    caption: str
    folded: bool = False


def embed_svg(svg: str, caption: str, *, folded: bool = False) -> ReportFigure:
    """A drawing of ours: its text was escaped where it was made."""
    return ReportFigure(Markup(svg), caption, folded)  # noqa: S704


def pick_classes(sizes: Sequence[float], scores: Sequence[float]) -> list[int]:
    """The places of the commonest classes and of the worst of the others, `CLASSES_SHOWN` in all, in their own order.

    Args:
        sizes: how many cases each class has; a class without any is never picked.
        scores: how well each does, more is better; NaN where that cannot be said, and then no reason to pick it.

    >>> pick_classes([90, 50, 9, 9, 9, 9, 40, 0], [0.9, 0.8, 0.2, 0.1, 0.7, 0.3, 0.6, 0.0])
    [0, 1, 2, 3, 5, 6]
    """
    size, score = np.asarray(sizes, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    most = [int(k) for k in np.argsort(-size, kind="stable")[: CLASSES_SHOWN // 2] if size[k] > 0]
    worst = [int(k) for k in np.argsort(score, kind="stable") if size[k] > 0 and score[k] == score[k]]
    return sorted([*most, *[k for k in worst if k not in most][: CLASSES_SHOWN - len(most)]])


def shorten_table(table: ReportTable, rows: Sequence[int], what: str) -> ReportTable:
    """The table with these rows open and the whole folded away; as it is where these are all.

    Args:
        table: the whole.
        rows: places of the rows that stand open.
        what: they are, for the caption.
    """
    if len(rows) >= len(table.rows):
        return table
    kept = tuple(table.rows[row] for row in rows)
    notes = tuple(table.notes[row] for row in rows) if table.notes else ()
    return replace(table, short=replace(table, caption=f"{table.caption}; {what}", rows=kept, notes=notes))


def describe_pick(count: int, worst: str) -> str:
    """Caption for the classes that `pick_classes` picked.

    >>> describe_pick(30, "with the lowest F1")
    'of 30 classes, the 3 commonest and the 3 with the lowest F1'
    """
    return (
        f"of {count} classes, the {CLASSES_SHOWN // 2} commonest and the {CLASSES_SHOWN - CLASSES_SHOWN // 2} {worst}"
    )


def embed_picture(image: Path) -> str:
    """A PNG of the run folder as a data URI; a large opaque one as JPEG, so that the page stays small and the file whole."""
    content, kind = image.read_bytes(), "png"
    if len(content) > LARGE:
        with Image.open(image, formats=["PNG"]) as picture:
            stream = io.BytesIO()
            if picture.mode in ("L", "RGB") or picture.getextrema()[-1] == (255, 255):
                picture.convert("L" if picture.mode == "L" else "RGB").save(stream, "JPEG", quality=85)
        if 0 < len(stream.getvalue()) < len(content):
            content, kind = stream.getvalue(), "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
