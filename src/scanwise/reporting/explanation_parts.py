"""Explanations of network parts: the halves of a hybrid, and the words beside images."""

import math
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scanwise.csv_files import read_csv
from scanwise.phrases import printable
from scanwise.reporting.components import ReportTable, embed_picture
from scanwise.reporting.run_data import RunData
from scanwise.reporting.wording import percent
from scanwise.run import layout

TITLES_SHOWN = 24
"""Titles shown on the page; the file has them all."""
CLASS_COLUMNS = 4
"""Columns of the table about the halves; with more classes it tells of all scans together."""
STEPS = (0.2, 1.0, 3.0)
"""Log-odds from which a word is shown as weak, clear, strong: the odds change 1.2, 2.7 and 20 times."""
HALVES = ("convolution", "transformer")
LEFT_OUT = "left out: failed"
KINDS = ("surest right", "surest wrong", "most uncertain")
EXAMPLE_TITLES = {"surest right": "most confident correct", "surest wrong": "most confident error"}
"""Titles of the kinds that words.csv keeps under their own names."""
CsvRow = dict[str, str]


@dataclass(frozen=True, slots=True)
class ReportImage:
    """A picture inside the page, what it shows, and where that is long, a short word in its place.

    `above` is what is laid over it, as opaque as the reader wants.
    """

    source: str
    about: str
    short: str = ""
    above: str = ""

    @property
    def alt(self) -> str:
        return self.short or self.about


@dataclass(frozen=True, slots=True)
class HybridParts:
    """The two halves of a hybrid: what was found of their maps, summary, and a few scans of each class."""

    tables: tuple[ReportTable, ...]
    pictures: tuple[ReportImage, ...]


@dataclass(frozen=True, slots=True)
class WordEffect:
    """A word, how much it speaks (`for1` to `for3`, `against1` to `against3`, `unread`, or nothing), and in figures."""

    text: str
    kind: str
    odds: str


@dataclass(frozen=True, slots=True)
class TitleExample:
    """The words beside one scan. `image` is its share, a percentage; None for a network of words alone."""

    heading: str
    scan: str
    words: tuple[WordEffect, ...]
    image: float | None
    picture: ReportImage | None


@dataclass(frozen=True, slots=True)
class WordSection:
    """Effects of words: a table by class, and titles as examples. `why` has the reason if nothing is coloured."""

    why: str
    tables: tuple[ReportTable, ...]
    titles: tuple[TitleExample, ...]
    looks: bool


def build_hybrid_section(contents: RunData, folder: Path, results: dict[str, Any], checks: Any) -> HybridParts | None:
    """The section from `components.csv`; None where there is none.

    Args:
        results: content of `checks.json`. checks: makes a table of the checks of a map.
    """
    if not (folder / layout.COMPONENTS).is_file():
        return None
    rows = _read(folder / layout.COMPONENTS)
    check_tables = [
        checks(f"The map of the {name}: sanity checks", map_checks)
        for name, map_checks in results.get("halves", {}).items()
    ]
    names = [name for name in contents.cohort.classes if any(row["predicted"] == name for row in rows)]
    groups = {"All scans": rows}
    if 1 < len(names) <= CLASS_COLUMNS:
        groups |= {contents.title(name): [row for row in rows if row["predicted"] == name] for name in names}
    columns = ("Mean over scans", *(name if name == "All scans" else f"Predicted {name}" for name in groups))
    failed = {
        name
        for name, map_checks in results.get("halves", {}).items()
        if not all(check["passed"] for check in map_checks)
    }
    cells = zip(*(_summary(group, failed) for group in groups.values()), strict=True)
    lines = tuple((title, *line) for title, line in zip(_ASKED, cells, strict=True))
    table = ReportTable(
        "Regions and contributions of the two halves", columns, lines, layout.heatmap_link(layout.COMPONENTS)
    )
    return HybridParts((*check_tables, table), tuple(_scans(contents, folder, rows, failed)))


_ASKED = (
    "Scans",
    "Correct",
    "Overlap of what the halves look at",
    "Centre of the convolution’s map, from the top and from the left",
    "Spread of the convolution’s map",
    "Centre of the transformer’s map, from the top and from the left",
    "Spread of the transformer’s map",
    "Norm of what the convolution sees",
    "Norm of what the transformer sees",
    "Share of the convolution in what the classifier’s first layer gets",
)


def _summary(rows: Sequence[CsvRow], failed: Collection[str]) -> list[str]:
    """The cells of one column, in the order of `_ASKED`; where a half's map failed, nothing is said of where it looks."""
    count = len(rows)

    def mean(name: str) -> float:
        return sum(float(row[name]) for row in rows) / count

    def share(name: str) -> str:
        return percent(mean(name), 0)

    labelled = [row for row in rows if row.get("truth")]
    right = sum(row["truth"] == row["predicted"] for row in labelled)
    cells = [f"{count}", percent(right / len(labelled), len(labelled)) if labelled else "not known"]
    cells.append(LEFT_OUT if failed else share("overlap"))
    for half in HALVES:
        cells += (
            [LEFT_OUT] * 2
            if half in failed
            else [f"{share(f'{half}_row')}, {share(f'{half}_column')}", share(f"{half}_spread")]
        )
    cells += [f"{mean(f'{half}_norm'):.3g}" for half in HALVES]
    return [*cells, share("convolution_share")]


def _scans(contents: RunData, folder: Path, rows: Sequence[CsvRow], failed: Collection[str]) -> Iterable[ReportImage]:
    """The most confident correct and the most confident wrong scan of each true class, among the scans that were checked."""
    sure = sorted(rows, key=lambda row: -float(row["probability"]))
    for name in contents.cohort.classes:
        candidates = [row for row in sure if row.get("truth") == name and (folder / row.get("picture", "")).is_file()]
        right = [row for row in candidates if row["predicted"] == name][:1]
        wrong = [row for row in candidates if row["predicted"] != name][:1]
        for kind, row in [("Most confident correct", row) for row in right] + [
            ("Most confident error", row) for row in wrong
        ]:
            about = (
                f"{kind}: {contents.title(row['predicted'])} {percent(float(row['probability']), 0)}, in truth "
                f"{contents.title(name)} ({printable(row['scan'])}). {_where(row, failed)}"
            )
            yield ReportImage(
                embed_picture(folder / row["picture"]),
                about,
                f"{printable(row['scan'])}: the scan bare, and under the map of each half and of both.",
            )


def _where(row: CsvRow, failed: Collection[str]) -> str:
    """Sentences on the region of each half in one scan."""
    sentences = []
    for half in HALVES:
        if half in failed:
            sentences.append(f"The map of the {half} did not pass its checks.")
            continue
        down, right, spread = (percent(float(row[f"{half}_{what}"]), 0) for what in ("row", "column", "spread"))
        sentences.append(f"The {half} looks around {down} from the top and {right} from the left (spread {spread}).")
    if not failed:
        sentences.append(f"They share {percent(float(row['overlap']), 0)} of the strongest fifth.")
    if len(failed) < len(HALVES):
        sentences.append("A cross marks a centre, a circle the spread.")
    return " ".join(sentences)


# --- words ---


def build_word_section(contents: RunData, folder: Path, results: dict[str, Any]) -> WordSection | None:
    """The section from `words.csv`; None where there is none."""
    if not (folder / layout.WORDS).is_file():
        return None
    rows = _read(folder / layout.WORDS)
    if not rows or "word" not in rows[0]:  # an older scanwise knew tokens by their numbers
        return None
    scans: dict[str, list[CsvRow]] = {}
    for row in rows:
        scans.setdefault(row["path"], []).append(row)
    why = printable("; ".join(results.get("words", {}).get("reasons", [])))
    titles = tuple(_title(contents, folder, words, bool(why)) for words in _chosen(contents, scans))
    return WordSection(why, tuple(_by_class(contents, scans)), titles, any(example.picture for example in titles))


def format_odds(fall: float) -> str:
    """Change of the odds of a class without a word: "÷ 20" is a twentieth of them.

    >>> format_odds(3.0), format_odds(-0.5), format_odds(9.0), format_odds(0.1)
    ('÷\\xa020', '×\\xa01.6', '÷\\xa01000+', '')
    """
    if abs(fall) < STEPS[0]:
        return ""
    times = math.exp(min(abs(fall), 20))
    shown = "1000+" if times > 1000 else f"{times:.0f}" if times >= 10 else f"{times:.1f}"
    return f"{'÷' if fall > 0 else '×'}\u00a0{shown}"


def _chosen(contents: RunData, scans: dict[str, list[CsvRow]]) -> list[list[CsvRow]]:
    """Examples of each class, the surest right of all classes before their surest wrong; then class by class."""
    order: list[tuple[int, int, int, list[CsvRow]]] = []
    for position, words in enumerate(scans.values()):
        kinds = [kind for kind in KINDS if kind in words[0]["example"]]
        if kinds:
            index = (
                contents.cohort.classes.index(words[0]["truth"]) if words[0]["truth"] in contents.cohort.classes else 0
            )
            order.append((KINDS.index(kinds[0]), index, position, words))
    first: dict[tuple[int, int], int] = {}
    turns = []
    for kind, index, position, words in sorted(order, key=lambda key: key[:3]):
        turn = first[kind, index] = first.get((kind, index), -1) + 1
        turns.append((turn, kind, index, position, words))
    kept = sorted(turns, key=lambda key: key[:4])[:TITLES_SHOWN]
    return [words for *_, words in sorted(kept, key=lambda key: (key[2], key[1], key[3]))]


def _title(contents: RunData, folder: Path, rows: Sequence[CsvRow], plain: bool) -> TitleExample:
    row = rows[0]
    kinds = ", ".join(EXAMPLE_TITLES.get(kind, kind) for kind in row["example"].split("; "))
    kinds = kinds[:1].upper() + kinds[1:]
    heading = (
        f"{kinds}: {contents.title(row['target'])} {percent(float(row['probability']), 0)}, "
        f"in truth {contents.title(row['truth'])}"
    )
    image = 100 * float(row["share_of_image"]) if row["share_of_image"] else None
    path = folder / row["picture"] if row["picture"] else None
    picture = None
    if path is not None and path.is_file():
        picture = ReportImage(embed_picture(path), "The scan, and where the words look in it.")
    words = tuple(_word(word_row, plain) for word_row in rows if word_row["word"])
    return TitleExample(heading, printable(row["path"]), words, image, picture)


def _word(row: CsvRow, plain: bool) -> WordEffect:
    if not row["fall_of_log_odds"]:
        return WordEffect(printable(row["word"]), "unread", "")
    fall = float(row["fall_of_log_odds"])
    step = sum(abs(fall) >= least for least in STEPS)
    kind = f"{'for' if fall > 0 else 'against'}{step}" if step and not plain else ""
    return WordEffect(printable(row["word"]), kind, format_odds(fall))


def _by_class(contents: RunData, scans: dict[str, list[CsvRow]], most: int = 5) -> Iterable[ReportTable]:
    """Words behind each predicted class, over scans that were not selected by their prediction."""
    lines = []
    drawn = [words for words in scans.values() if words[0]["checked"] == "1"]
    fuses = any(words[0]["share_of_image"] for words in drawn)
    for name in contents.cohort.classes:
        here = [words for words in drawn if words[0]["target"] == name]
        if not here:
            continue
        falls: dict[str, list[float]] = {}
        for row in (row for words in here for row in words if row["fall_of_log_odds"]):
            falls.setdefault(_plain(row["word"]), []).append(float(row["fall_of_log_odds"]))
        order = sorted(falls, key=lambda word: (-sum(falls[word]), word))
        strong = [word for word in order[:most] if sum(falls[word]) / len(falls[word]) >= STEPS[0]]
        summary = ", ".join(
            f"{printable(word)} {format_odds(sum(falls[word]) / len(falls[word]))} ({len(falls[word])})"
            for word in strong
        )
        shares = [1 - float(words[0]["share_of_image"]) for words in here if words[0]["share_of_image"]]
        parts = (percent(sum(shares) / len(shares), 0),) if shares else ()
        lines.append((contents.title(name), f"{len(here)}", *parts, summary or "none"))
    if lines:
        columns = (
            "Predicted",
            "Scans",
            *(("Share of the words",) if fuses else ()),
            "Words in favour (number of titles)",
        )
        yield ReportTable("Words behind each predicted class", columns, tuple(lines), layout.heatmap_link(layout.WORDS))


def _plain(word: str) -> str:
    """A word as it is counted: in small letters, without signs around it."""
    return re.sub(r"^\W+|\W+$", "", word).lower() or word


def _read(path: Path) -> list[CsvRow]:
    header, lines = read_csv(path)
    return [dict(zip(header, line, strict=True)) for line in lines]
