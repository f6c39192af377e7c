"""Explanations of the parts of a network: the halves of a hybrid, words beside images, members that differ.

HEATMAPS/  components.csv  components/NNN.png   a row and a picture a scan: where each half looks and what it gives
           words.csv  words/NNN.png             a row a word: what it gave; where the words look in the scan
           uncertainty.png  spread.npz          where members disagree
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scanwise import run
from scanwise.csv_files import write_csv
from scanwise.errors import RecipeError
from scanwise.records import BoolArray, FloatArray, Heatmap, IntArray, Predictions
from scanwise.run import layout

if TYPE_CHECKING:
    from scanwise.explanation.components import ComponentSummary, HybridMaps
    from scanwise.explanation.sanity import CheckedMaps, SanityCheck
    from scanwise.explanation.uncertainty_map import MemberMaps
    from scanwise.explanation.words import WordAttribution
    from scanwise.models import Network
    from scanwise.models.vocabulary import Vocabulary

CHECKED = 8
"""Scans that the maps of each half are checked on: the default method is checked on all of them already."""
WORD_COLUMNS = (
    "path", "truth", "target", "probability", "example", "checked", "place", "word", "fall_of_log_odds", "looked_at",
    "share_of_image", "picture",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ExplainedScans:
    """Scans that are explained, with their predictions and true classes.

    Attributes:
        names: of the scans.
        scans: (N, H, W, C) uint8; None for a network that reads words alone.
        targets: (N,) the class that is explained.
        class_probs: (N, C) calibrated probabilities of all classes.
        classes: all their names.
        truth: the name of the true class of each; "" where it is not known.
        titles: as the network reads them; empty for one that reads none.
        opacity: of the brightest of a map over its scan.
    """

    names: Sequence[str]
    scans: Any
    targets: IntArray
    class_probs: FloatArray
    classes: Sequence[str]
    truth: Sequence[str]
    titles: Sequence[str] = ()
    opacity: float = 0.6

    @property
    def probs(self) -> FloatArray:
        """(N,) of the class that is explained."""
        return np.asarray(np.take_along_axis(self.class_probs, self.targets[:, None], axis=1)[:, 0])


def heaviest_scans(predictions: Predictions, rows: IntArray) -> tuple[Predictions, IntArray]:
    """Predictions and rows of the scan that weighs most in the answer for each subject; of all where they weigh alike."""
    if predictions.attention is None:
        return predictions, rows
    order = np.argsort(-predictions.attention, kind="stable")
    most = np.sort(order[np.unique(predictions.subjects[order], return_index=True)[1]])
    return predictions.take(most), rows[most]


# --- the halves of a hybrid ---


def map_halves(network: "Network", explained: ExplainedScans, batch: int, device: str) -> "HybridMaps":
    """The maps of both halves about the classes that are explained, `batch` scans at a time."""
    from scanwise.explanation import components

    return components.explain_halves(
        network, explained.scans, targets=explained.targets[:, None], batch=batch, device=device
    )


def check_halves(
    network: "Network",
    explained: ExplainedScans,
    looks: "HybridMaps",
    masks: BoolArray,
    seed: int,
    batch: int,
    device: str,
) -> dict[str, "list[SanityCheck]"]:
    """The checks of the map of each half, by its name; `masks` (N, H, W) mark the foreground."""
    from scanwise.explanation import components, sanity

    some = slice(0, CHECKED)
    checks = {}
    for name, method in components.HALF_METHODS.items():
        values, options = getattr(looks, name)[some], {"method": method, "batch": batch, "device": device}
        subject = sanity.CheckedMaps(network, explained.scans[some], values, explained.targets[some, None], options)
        checks[name] = sanity.check_maps(subject, masks=masks[some], seed=seed)
    return checks


def write_components(
    explained: ExplainedScans,
    looks: "HybridMaps",
    out: Path,
    reasons: Mapping[str, Sequence[str]],
    pictures: Sequence[str] = (),
) -> None:
    """A picture and a row for each scan.

    Args:
        reasons: of each half that was checked, why its map may not be believed.
        pictures: their names below `out`; default: `components/NNN.png`.
    """
    from scanwise.explanation import components

    passed = {f"{half}_passed": int(not reasons[half]) if half in reasons else "" for half in components.HALF_METHODS}
    rows = []
    for index, component in enumerate(
        components.summarise_halves(looks, explained.class_probs, explained.names, explained.classes)
    ):
        picture = pictures[index] if pictures else f"components/{index:03d}.png"
        with run.writing(out / picture) as temporary:
            temporary.write_bytes(draw_halves(explained, looks, component, index, reasons))
        rows.append({**component.row(), **passed, "truth": explained.truth[index], "picture": picture})
    with run.writing(out / layout.COMPONENTS) as temporary:
        write_csv(tuple(rows[0]), [tuple(row.values()) for row in rows], temporary)


def draw_halves(
    explained: ExplainedScans,
    looks: "HybridMaps",
    component: "ComponentSummary",
    index: int,
    reasons: Mapping[str, Sequence[str]],
) -> bytes:
    """The maps of both halves and the two combined, over one scan."""
    from scanwise.explanation import drawing

    maps = {name: getattr(looks, name)[index] for name in ("convolution", "transformer", "combined")}
    truth = f", in truth {explained.truth[index]}" if explained.truth[index] else ""
    target = explained.classes[explained.targets[index]]
    shared = "" if any(reasons.values()) else f" · overlap {100 * component.overlap:.0f} %"
    heading = (
        f"{target} {100 * explained.probs[index]:.0f} %{truth} · convolution {100 * component.convolution_share:.0f} % of what the "
        f"classifier gets{shared}"
    )
    why = dict(reasons)
    if why:  # the two combined are as good as the worse of them
        why["combined"] = [text for told_of in reasons.values() for text in told_of]
    return drawing.draw_half_maps(
        explained.scans[index], maps, heading, marks=component.marks, reasons=why, opacity=explained.opacity
    )


# --- words ---


def write_words(
    network: "Network",
    vocabulary: "Vocabulary",
    explained: ExplainedScans,
    out: Path,
    *,
    device: str,
    pictures: Sequence[str],
    examples: Sequence[str] = (),
    checked: Sequence[bool] = (),
    failed: bool = False,
) -> list[str]:
    """`words.csv`, and pictures of where the words look.

    Args:
        pictures: their names below `out`, "" for none; without words, or a map of more than one place, there is none.
        examples: what each scan is an example of; "" for none.
        checked: whether each scan was drawn as one of a person, and not chosen for its answer.
        failed: whether pictures are to be gray.

    Returns:
        the words that speak most in each title, in a line.
    """
    from scanwise.explanation import drawing, words

    spelled, places = vocabulary.words(explained.titles)
    tokens = vocabulary(explained.titles)
    effects = words.explain_words(
        network, explained.scans, tokens, words=places, targets=explained.targets, device=device
    )
    drawn = list(pictures)
    for index, name in enumerate(pictures):
        if not name or effects.regions is None or effects.regions[index].size == 1 or not spelled[index]:
            drawn[index] = ""
            continue
        with run.writing(out / name) as temporary:
            shown = words.more_than_evenly(effects.regions[index])
            picture = drawing.draw_thumbnail(
                explained.scans[index], shown, opacity=explained.opacity, passed=False if failed else None
            )
            temporary.write_bytes(picture)
    read = places.max(axis=1, initial=-1)
    lines = [
        line
        for index in range(len(explained.names))
        for line in _lines(explained, effects, spelled[index], int(read[index]), index, examples, checked, drawn[index])
    ]
    with run.writing(out / layout.WORDS) as temporary:
        write_csv(WORD_COLUMNS, lines, temporary)
    return [strongest_words(effects, written, index) for index, written in enumerate(spelled)]


def _lines(
    explained: ExplainedScans,
    effects: "WordAttribution",
    spelled: Sequence[str],
    last: int,
    index: int,
    examples: Sequence[str],
    checked: Sequence[bool],
    picture: str,
) -> list[tuple[object, ...]]:
    """A row a word of one title; an empty row for a scan without one. A word that is not read has empty cells."""
    share = "" if effects.shares is None else round(float(effects.shares[index, 0]), 4)
    before = (
        explained.names[index],
        explained.truth[index],
        explained.classes[explained.targets[index]],
        round(float(explained.probs[index]), 4),
        examples[index] if examples else "",
        int(checked[index]) if checked else "",
    )
    rows: list[tuple[object, ...]] = []
    for position, word in enumerate(spelled):
        fall = round(float(effects.fall[index, position]), 4) if position <= last else ""
        looked = "" if effects.looked is None or position > last else round(float(effects.looked[index, position]), 4)
        rows.append((*before, position, word, fall, looked, share, picture))
    return rows or [(*before, "", "", "", "", share, picture)]


def strongest_words(effects: "WordAttribution", spelled: Sequence[str], index: int, most: int = 4) -> str:
    """In one line: the words that speak most, and the share of each part."""
    fall = effects.fall[index, : len(spelled)]
    order = [
        int(position) for position in np.argsort(-np.abs(fall), kind="stable")[:most] if abs(fall[position]) >= 0.01
    ]
    listed = ", ".join(f"{spelled[position]} {fall[position]:+.1f}" for position in order) or "none"
    share = "" if effects.shares is None else (
        f"; image {100 * effects.shares[index, 0]:.0f} %, words {100 * effects.shares[index, 1]:.0f} %"
    )  # fmt: skip
    return f"words (log-odds lost without them): {listed}{share}"


# --- members ---


def write_spread(
    spread: "MemberMaps",
    explained: ExplainedScans,
    rows: slice,
    reasons: Sequence[str] | None,
    *,
    arrays: Path,
    picture: Path,
) -> None:
    """Mean map and variance over members, of some of the scans.

    Args:
        rows: of the scans.
        reasons: why maps of the method may not be believed; None where it was not checked.
        arrays: an npz: mean and variance (N, H, W), targets (N, 1), scans (N,).
    """
    from scanwise.explanation import drawing

    mean, variance, names = spread.mean[rows, 0], spread.variance[rows, 0], list(explained.names[rows])
    with run.writing(arrays) as temporary, temporary.open("wb") as stream:
        np.savez(stream, mean=mean, variance=variance, targets=spread.targets[rows], scans=np.array(names))
    captions = [
        f"{name} · {explained.classes[target]} {100 * prob:.0f} %"
        for name, target, prob in zip(names, explained.targets[rows], explained.probs[rows], strict=True)
    ]
    drawn = drawing.draw_members(
        explained.scans[rows], mean, variance, captions, spread.members, reasons=reasons, opacity=explained.opacity
    )
    with run.writing(picture) as temporary:
        temporary.write_bytes(drawn)


# --- summaries ---


def write_region_summary(subject: "CheckedMaps", classes: Sequence[str], out: Path) -> None:
    """The mean map of each class that is named, over registered scans, and which regions carry it."""
    from scanwise.explanation import drawing, regions

    laid = regions.align_maps(subject.scans, subject.values)
    means, lines = {}, []
    for index, name in enumerate(classes):
        members = subject.targets[:, 0] == index
        if members.any():
            here = replace(laid, maps=laid.maps[members])
            means[f"{name} ({int(members.sum())} scans)"] = here.maps.mean(axis=0)
            lines.append(
                (name, int(members.sum()), *(round(share, 4) for share in regions.region_shares(here).values()))
            )
    write_csv(("class", "scans", *regions.REGIONS), lines, out / layout.REGIONS)
    (out / layout.MEAN_SHEET).write_bytes(
        drawing.draw_mean_maps(means, "Mean map of each predicted class, heads laid over each other")
    )


def save_heatmaps(maps: Sequence[Heatmap], path: Path) -> None:
    """An npz: scans (N,), targets (N,), values (N, H, W), probs (N,), method, passed, reason."""
    if not maps:
        raise RecipeError("There are no maps to write; ask for at least one scan.")
    with path.open("wb") as file:
        np.savez(
            file,
            scans=np.array([heatmap.scan for heatmap in maps]),
            targets=np.array([heatmap.target for heatmap in maps]),
            values=np.stack([heatmap.values for heatmap in maps]).astype(np.float32),
            probs=np.array([heatmap.prob for heatmap in maps]),
            method=np.array(maps[0].method),
            passed=np.array([bool(heatmap.passed) for heatmap in maps]),
            reason=np.array([heatmap.reason for heatmap in maps]),
        )
