"""The section on heatmaps: the badge first, then what the checks found, then the pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scanwise.csv_files import read_csv
from scanwise.phrases import printable
from scanwise.reporting import explanation_parts
from scanwise.reporting.components import ReportTable, embed_picture
from scanwise.reporting.explanation_parts import ReportImage
from scanwise.reporting.run_data import RunData
from scanwise.reporting.verdicts import judge_checks
from scanwise.reporting.wording import counted, percent
from scanwise.run import layout, read_json

WORDS_METHOD = "words"
"""Stands for the method where there are no heatmaps."""
SHEETS_SHOWN = 8
"""Classes whose sheet stands on the page; each is some hundred kB."""
CHECK_TITLES = {
    "weights": ("Random weights", "on a network of random weights the map must change"),
    "repeat": ("Repeatability", "a little noise in the scan must not change the map"),
    "faith": ("Faithfulness", "the answer must fall when what the map shows is taken out, more than with random or central places"),
    "foreground": ("Foreground", "the map must lie on what is scanned, not beside it"),
    "learnt": ("Something learnt", "the answers must fit the labels better than shuffled labels do"),
    "labels": ("Shuffled labels", "a network trained on shuffled labels must not give the same map"),
    "seed": ("Second seed", "a network trained from another seed must give much the same map"),
}  # fmt: skip
IMAGE_CAPTIONS = {
    layout.MEAN_SHEET: "The mean map of each predicted class, the heads laid over each other.",
    layout.UNCERTAINTY_SHEET: "Where the members of the network agree to look (mean), and where they differ (variance).",
}


@dataclass(frozen=True, slots=True)
class ExplanationSection:
    """The parts of the section; tables and pictures that are not there are left out.

    `opacity` is that of the maps over their scans, in tens of per cent, until the reader chooses another.
    """

    passed: bool
    badge: str
    tables: tuple[ReportTable, ...]
    pictures: tuple[ReportImage, ...]
    left: str
    opacity: int
    halves: explanation_parts.HybridParts | None
    words: explanation_parts.WordSection | None

    @property
    def opacities(self) -> list[int]:
        """Opacities that a reader can choose, in per cent."""
        return sorted({0, 30, 60, 100, self.opacity})


def build_explanations(contents: RunData) -> ExplanationSection | None:
    """The section from `heatmaps/`; None where there is nothing."""
    folder = contents.run.heatmaps
    if not (folder / layout.CHECKS).is_file():
        return None
    results = read_json(folder / layout.CHECKS)
    caption = "Sanity checks of the words" if results["method"] == WORDS_METHOD else "Sanity checks of the maps"
    check_tables = [_checks(caption, results["checks"]), *_regions(folder)] if results["checks"] else []
    pictures, left = _pictures(contents, folder) if not results["reasons"] else _failed_pictures(contents, folder)
    return ExplanationSection(
        not results["reasons"],
        _badge(results),
        tuple(check_tables),
        tuple(pictures),
        left,
        10 * round(10 * contents.recipe.explain.opacity),
        explanation_parts.build_hybrid_section(contents, folder, results, _checks),
        explanation_parts.build_word_section(contents, folder, results),
    )


def _badge(results: dict[str, Any]) -> str:
    method, scans = printable(results["method"].replace("_", " ")), counted(int(results["scans"]), "test scan")
    reasons = printable("; ".join(results["reasons"]))
    if results["method"] == WORDS_METHOD:
        if results["reasons"]:
            return f"What the words give is not coloured, and should not be used as explanations: {reasons}."
        return (
            f"This network reads words alone. Each word was taken out of its title ({scans}) and the network asked again: what "
            "its output depends on need not be related to the class."
        )
    if results["reasons"]:
        _, failed = judge_checks([bool(check["passed"]) for check in results["checks"]])
        return (
            f"{failed[0].upper()}{failed[1:]} as explanations (method: {method}, {scans}). They are drawn gray and left out "
            f"of the summaries: {reasons}."
        )
    return (
        f"The maps (method: {method}) passed every check that was made, on {scans}. They show what the network's output "
        "depends on, which need not be related to the disease."
    )


def _checks(caption: str, checks: Sequence[dict[str, Any]]) -> ReportTable:
    rows, notes = [], []
    for check in checks:
        title, about = CHECK_TITLES.get(check["name"], (check["name"], ""))
        rows.append((title, "passed" if check["passed"] else "failed", printable(check["message"])))
        notes.append(about)
    return ReportTable(
        caption, ("Check", "Outcome", "Result"), tuple(rows), layout.heatmap_link(layout.CHECKS), tuple(notes)
    )


def _regions(folder: Path) -> list[ReportTable]:
    """Share of each region in the maps of each predicted class."""
    if not (folder / layout.REGIONS).is_file():
        return []
    header, lines = read_csv(folder / layout.REGIONS)
    rows = [(line[0], line[1], *(percent(float(cell), int(line[1])) for cell in line[2:])) for line in lines]
    columns = ("Predicted", "Scans", *(name[0].upper() + name[1:] for name in header[2:]))
    return [
        ReportTable("Share of the maps in each region", columns, tuple(rows), layout.heatmap_link(layout.REGIONS), ())
    ]


def _failed_pictures(contents: RunData, folder: Path) -> tuple[list[ReportImage], str]:
    """The first sheet of maps that failed their checks, as a thumbnail; the others are files."""
    sheets = [(name, folder / f"class-{index}-scans.png") for index, name in enumerate(contents.cohort.classes)]
    for name, path in sheets:
        if path.is_file():
            about = f"Maps that failed their checks, on scans that are {contents.title(name)} in truth: not to be used."
            above = embed_picture(path.with_name(path.name.replace("-scans", "-maps")))
            return [
                ReportImage(embed_picture(path), about, above=above)
            ], "The other sheets are files: heatmaps/class-N.png."
    return [], ""


def _pictures(contents: RunData, folder: Path) -> tuple[list[ReportImage], str]:
    """The sheets of the first classes and what sums them up; and where the other sheets are."""
    sheets = [(name, folder / f"class-{index}-scans.png") for index, name in enumerate(contents.cohort.classes)]
    sheets = [(name, path) for name, path in sheets if path.is_file()]
    images = [
        ReportImage(
            embed_picture(path),
            f"Test scans that are {contents.title(name)} in truth: bare, with the map, with its outline.",
            above=embed_picture(path.with_name(path.name.replace("-scans", "-maps"))),
        )
        for name, path in sheets[:SHEETS_SHOWN]
    ]
    images += [
        ReportImage(embed_picture(folder / name), about)
        for name, about in IMAGE_CAPTIONS.items()
        if (folder / name).is_file()
    ]
    others = len(sheets) - SHEETS_SHOWN
    left = f"The sheets of the other {others} classes are files: heatmaps/class-N.png." if others > 0 else ""
    return images, left
