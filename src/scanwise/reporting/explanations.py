"""The section on heatmaps: the badge first, then what the checks found, then the pictures."""

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scanwise.reporting import tables
from scanwise.reporting.contents import Contents
from scanwise.reporting.sections import Table
from scanwise.reporting.wording import counted, percent, printable
from scanwise.run import read_json

TITLES = {
    "weights": ("Random weights", "on a network of random weights the map must change"),
    "repeat": ("Repeatability", "a little noise in the scan must not change the map"),
    "faith": ("Faithfulness", "the answer must fall when what the map shows is taken out, more than with random or central places"),
    "foreground": ("Foreground", "the map must lie on what is scanned, not beside it"),
    "learnt": ("Something learnt", "the answers must fit the labels better than shuffled labels do"),
    "labels": ("Shuffled labels", "a network trained on shuffled labels must not give the same map"),
    "seed": ("Second seed", "a network trained from another seed must give much the same map"),
}  # fmt: skip
NAMES = {
    "mean.png": "The mean map of each predicted class, the heads laid over each other.",
    "uncertainty.png": "Where the members of the network agree to look (mean), and where they differ (variance).",
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture inside the page, and what it shows."""

    source: str
    about: str


@dataclass(frozen=True, slots=True)
class Explanations:
    """The parts of the section; tables and pictures that are not there are left out."""

    passed: bool
    badge: str
    tables: tuple[Table, ...]
    pictures: tuple[Picture, ...]


def explanations(contents: Contents) -> Explanations | None:
    """What lies in `heatmaps/`; None where there is nothing."""
    folder = contents.run.path / "heatmaps"
    if not (folder / "checks.json").is_file():
        return None
    told = read_json(folder / "checks.json")
    made = [_checks(told), *_regions(folder), *_components(folder)]
    return Explanations(not told["reasons"], _badge(told), tuple(made), tuple(_pictures(contents, folder)))


def _badge(told: dict[str, Any]) -> str:
    method, scans = printable(told["method"].replace("_", " ")), counted(int(told["scans"]), "test scan")
    if told["reasons"]:
        return (
            f"The maps (method: {method}, {scans}) did not pass every check, so they are drawn gray and left out of the "
            f"summaries. Do not read them as reasons: {printable('; '.join(told['reasons']))}."
        )
    return (
        f"The maps (method: {method}) passed every check that was made, on {scans}. They show what the network's answer "
        "hangs on, which need not be what the disease hangs on."
    )


def _checks(told: dict[str, Any]) -> Table:
    rows, notes = [], []
    for one in told["checks"]:
        title, about = TITLES.get(one["name"], (one["name"], ""))
        rows.append((title, "passed" if one["passed"] else "failed", printable(one["message"])))
        notes.append(about)
    return Table(
        "May these maps be believed?",
        ("Check", "Outcome", "What was found"),
        tuple(rows),
        "heatmaps/checks.json",
        tuple(notes),
    )


def _regions(folder: Path) -> list[Table]:
    """Which regions carry the maps of each predicted class."""
    if not (folder / "regions.csv").is_file():
        return []
    header, lines = tables.read_csv(folder / "regions.csv")
    rows = [(line[0], line[1], *(percent(float(cell), int(line[1])) for cell in line[2:])) for line in lines]
    columns = ("Predicted", "Scans", *(name[0].upper() + name[1:] for name in header[2:]))
    return [Table("Which regions carry the maps", columns, tuple(rows), "heatmaps/regions.csv", ())]


def _components(folder: Path) -> list[Table]:
    """Of a hybrid: the means over scans of what each half looks at and gives."""
    if not (folder / "components.csv").is_file():
        return []
    header, lines = tables.read_csv(folder / "components.csv")
    names = {
        "overlap": "Overlap of what the halves look at",
        "convolution_norm": "Norm, convolution",
        "transformer_norm": "Norm, transformer",
        "convolution_share": "Share of the convolution in the first linear layer",
    }
    cells = {name: [float(line[header.index(name)]) for line in lines] for name in names}
    rows = [(title, f"{sum(cells[name]) / len(lines):.3g}") for name, title in names.items()]
    return [Table("The two halves", ("Mean over scans", "Value"), tuple(rows), "heatmaps/components.csv", ())]


def _pictures(contents: Contents, folder: Path) -> list[Picture]:
    found = []
    for index, name in enumerate(contents.cohort.classes):
        path = folder / f"class-{index}.png"
        if path.is_file():
            about = f"Test scans that are {name} in truth: bare, with the map, with its outline."
            found.append(Picture(_data(path), printable(about)))
    found += [Picture(_data(folder / name), about) for name, about in NAMES.items() if (folder / name).is_file()]
    return found


def _data(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
