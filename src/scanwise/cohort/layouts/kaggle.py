"""Three trees of Kaggle, known by their shape: augmented Alzheimer, multimodal stroke, and fashion."""

import csv
import re
from collections.abc import Callable
from pathlib import Path

from scanwise.cohort.classes import bare_label
from scanwise.cohort.layouts import folders
from scanwise.cohort.listing import Listing, texts

_ALZHEIMER = {"augmentedalzheimerdataset": "train", "originaldataset": "test"}
_STROKE = re.compile(r"(stroke|normal)(bt|mr)", re.IGNORECASE)
_TAUGHT = {"stroke": "stroke", "control": "normal", "normal": "normal"}
_TITLE = "productDisplayName"
_GROUPS = ("gender", "masterCategory", "season", "usage")


def alzheimer_tree(root: Path) -> Path | None:
    """The folder of AugmentedAlzheimerDataset and OriginalDataset."""
    return root if _ALZHEIMER.keys() <= {name.casefold() for name in folders.tops(root)} else None


def alzheimer(root: Path) -> Listing:
    """`uraninjo/augmented-alzheimer-mri-dataset`: the augmented scans are learnt from, the original ones are the test.

    The published protocol takes a fifth of the augmented scans for validation (`split.published.validation`). They are
    copies of the test scans; subjects are not known.
    """
    rows: list[tuple[str, str, str]] = []
    unused: list[tuple[str, str]] = []
    for path, fault in folders.walk(root):
        parts = path.split("/")
        side = _ALZHEIMER.get(parts[0].casefold())
        if fault or side is None or len(parts) < 3:
            unused.append((path, fault or "not inside a class folder"))
        else:
            rows.append((path, parts[1], side))
    paths, labels, sides = ([row[index] for row in rows] for index in range(3))
    return Listing(root, texts(paths), texts(labels), given=texts(sides), unused=tuple(unused))


def stroke_tree(root: Path) -> Path | None:
    """The folder of train/{1- Stroke,2- Control} and test/{strokeBT,strokeMR,normalBT,normalMR}: `deep`, or it itself."""
    for folder in (root, root / "deep"):
        if folder.is_dir() and {"train", "test"} <= set(folders.tops(folder)):
            taught, tested = folders.tops(folder / "train"), folders.tops(folder / "test")
            recognised = all(bare_label(name) in _TAUGHT for name in taught) and all(map(_STROKE.fullmatch, tested))
            if taught and tested and recognised:
                return folder
    return None


def stroke(root: Path) -> Listing:
    """The multimodal stroke images: labels stroke and normal; the modality (BT, MR) is known of the test side alone."""
    rows: list[tuple[str, str, str, str]] = []
    unused: list[tuple[str, str]] = []
    for path, fault in folders.walk(root):
        parts = path.split("/")
        if fault or parts[0] not in ("train", "test") or len(parts) < 3:
            unused.append((path, fault or "not inside a class folder"))
        elif parts[0] == "train":
            rows.append((path, _TAUGHT[bare_label(parts[1])], "train", ""))
        elif match := _STROKE.fullmatch(parts[1]):
            rows.append((path, match[1].casefold(), "test", match[2].upper()))
    paths, labels, sides, modalities = ([row[index] for row in rows] for index in range(4))
    groups = {"modality": texts(modalities)}
    return Listing(root, texts(paths), texts(labels), groups=groups, given=texts(sides), unused=tuple(unused))


def is_styles(file: Path) -> bool:
    """Whether this is the table of the fashion images."""
    if file.name.casefold() != "styles.csv" or not file.is_file():
        return False
    with file.open(encoding="utf-8-sig", errors="replace") as opened:
        header = [name.strip() for name in opened.readline().split(",")]
    return {"id", "articleType"} <= set(header) and header[-1] == _TITLE


def fashion(root: Path, subject: str = "") -> Listing:
    """`styles.csv` and images/ID.jpg: the article type is the label, the title the text, the product the subject.

    Titles stand last and hold commas that nobody quoted, so what a row has too much belongs to its title.
    """
    rows, unused = _styles(root / "styles.csv")
    images = dict(folders.walk(root / "images"))
    listed = {f"{row['id']}.jpg" for row in rows}
    unused += [
        (f"images/{path}", fault or "no row in styles.csv")
        for path, fault in images.items()
        if fault or path not in listed
    ]
    rows = [row for row in rows if not images.get(f"{row['id']}.jpg")]
    who = subject or "id"
    by_column = bool(rows) and who in rows[0]
    return Listing(
        root,
        texts(f"images/{row['id']}.jpg" for row in rows),
        texts(row["articleType"] for row in rows),
        subject=texts(row[who] for row in rows) if by_column else None,
        subject_source=f"column {who}" if by_column else "",
        groups={name: texts(row.get(name, "") for row in rows) for name in _GROUPS},
        text=texts(row[_TITLE] for row in rows),
        unused=tuple(unused),
    )


def _styles(file: Path) -> tuple[list[dict[str, str]], list[tuple[str, str]]]:
    """Rows by their column names, and those that cannot be used."""
    rows: dict[str, dict[str, str]] = {}
    unused: list[tuple[str, str]] = []
    with file.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        table = csv.reader(stream, quoting=csv.QUOTE_NONE)  # titles hold quotes that end nowhere
        header = [name.strip() for name in next(table)]
        for values in table:
            line = f"styles.csv, line {table.line_num}"
            if not values:
                continue
            if len(values) < len(header):
                unused.append((line, f"has {len(values)} values, expected {len(header)}"))
                continue
            last = len(header) - 1
            title = _unquoted(",".join(values[last:]).strip())
            row = dict(zip(header, [*(value.strip() for value in values[:last]), title], strict=True))
            if not row["id"].isdigit() or not row["articleType"]:
                unused.append((line, "has no id or no articleType"))
            elif row["id"] in rows:
                unused.append((line, f"the product {row['id']} is listed twice"))
            else:
                rows[row["id"]] = row
    return list(rows.values()), unused


def _unquoted(text: str) -> str:
    return text[1:-1].replace('""', '"') if len(text) > 1 and text[0] == text[-1] == '"' else text


TREES: tuple[tuple[Callable[[Path], Path | None], Callable[[Path], Listing]], ...] = (
    (alzheimer_tree, alzheimer),
    (stroke_tree, stroke),
)
"""(recognises a tree, lists it) for each known data set; fashion is recognised by its table."""
