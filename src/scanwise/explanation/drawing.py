"""Pictures of heatmaps: the scan bare, with the map laid over it, and with its outline; sheets by class; means.

The colours (cividis) are perceptually uniform and suited to colour blindness. A map that did not pass its
checks is drawn gray, with the reason.
"""

import io
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scanwise.records import FloatArray, Heatmap, IntArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

Pixels = NDArray[np.uint8]
COLOURS = "cividis"
SHEET = "#0b0d0f"
WORDS = "#e8ebee"
WARNING = "#ffb454"
CONTOURS = (0.5, 0.8)
"""Levels of the outlines, as shares of the maximum."""
BRIGHTEST = 99.5
"""Percentile of a map that is drawn as the brightest."""


def scale_for_display(values: FloatArray) -> FloatArray:
    """A map as 0 to 1, its brightest half per cent all 1; an empty map stays 0."""
    top = float(np.percentile(values, BRIGHTEST)) or float(values.max())
    return np.clip(values / top, 0, 1) if top > 0 else np.zeros_like(values)


def draw_overlay(scan: Pixels, values: FloatArray, *, opacity: float = 0.6, passed: bool | None = None) -> Pixels:
    """(H, W, 3): the scan with the map over it, the more opaque the higher the map.

    Args:
        scan: (H, W, 1) or (H, W, 3).
        values: (H, W).
        opacity: of the brightest, 0 to 1.
        passed: False draws it gray.
    """
    return _over(scan, scale_for_display(values), opacity, passed)


def draw_panel(
    scan: Pixels, heatmap: Heatmap, classes: Sequence[str], *, opacity: float = 0.6, truth: str = "", note: str = ""
) -> bytes:
    """One map as PNG: the bare scan, the overlay and the outline beside each other; above them class and probability, and
    a note, such as which words spoke."""
    text = textwrap.fill(note, 100)
    with _figure(7.2, 3.1 + 0.17 * len(text.splitlines())) as figure:
        axes, _ = _row(figure, 1, 0, scan, heatmap, opacity)
        _caption(axes, text)
        figure.suptitle(heatmap_title(heatmap, classes, truth), color=WORDS, fontsize=10, x=0.01, ha="left")
        _badge(figure, [heatmap])
        return _png(figure)


def draw_half_maps(
    scan: Pixels,
    maps: Mapping[str, FloatArray],
    heading: str,
    *,
    marks: Mapping[str, tuple[float, float, float]],
    reasons: Mapping[str, Sequence[str]],
    opacity: float = 0.6,
) -> bytes:
    """The bare scan and the map of each half of a network over it, as PNG; a cross marks the centre of a map, a circle its
    spread.

    Args:
        scan: (H, W, 1) or (H, W, 3).
        maps: (H, W) each, by the name of the half.
        heading: above all.
        marks: row and column of the centre and the spread, in shares of the side, of some of the maps.
        reasons: of the maps that were checked, why they did not pass; empty where they did.
        opacity: of the brightest, 0 to 1.
    """
    with _figure(7.2, 2.75) as figure:
        axes = figure.subplots(1, 1 + len(maps))
        axes[0].imshow(scan.squeeze(-1) if scan.shape[-1] == 1 else scan, cmap="gray", vmin=0, vmax=255)
        axes[0].set_title("scan", color=WORDS, fontsize=8)
        for axis, (name, values) in zip(axes[1:], maps.items(), strict=True):
            passed = not reasons[name] if name in reasons else None
            axis.imshow(draw_overlay(scan, values, opacity=opacity, passed=passed))
            axis.set_title(name, color=WORDS, fontsize=8)
            if name in marks and values.any() and not reasons.get(name):  # a failed map has no centre to show
                _mark(axis, *marks[name], side=scan.shape[0])
        for axis in axes:
            axis.set_axis_off()
        figure.suptitle(textwrap.fill(heading, 95), color=WORDS, fontsize=9, x=0.01, ha="left")
        _write_note(figure, *_of_halves(maps, reasons))
        return _png(figure)


def draw_thumbnail(
    scan: Pixels, shown: FloatArray, *, side: int = 160, opacity: float = 0.6, passed: bool | None = None
) -> bytes:
    """A small PNG: the bare scan, and beside it the scan with a map over it.

    Args:
        scan: (H, W, 1) or (H, W, 3).
        shown: (h, w) of any size, 0 to 1 as they are to be drawn.
        side: height of the picture.
        opacity: of the brightest, 0 to 1.
        passed: False draws it gray.
    """
    from PIL import Image

    high, wide = scan.shape[:2]
    smooth = Image.fromarray(np.asarray(shown, dtype=np.float32)).resize((wide, high), Image.Resampling.BICUBIC)
    both = [np.broadcast_to(scan, (high, wide, 3)), _over(scan, np.clip(np.asarray(smooth), 0, 1), opacity, passed)]
    size = (max(1, round(side * wide / high)), side)
    sized = [np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize(size)) for picture in both]
    gap = np.full((side, 4, 3), 11, dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(np.concatenate([sized[0], gap, sized[1]], axis=1)).save(stream, format="png")
    return stream.getvalue()


def heatmap_title(heatmap: Heatmap, classes: Sequence[str], truth: str = "") -> str:
    """Caption of a map: class, probability, truth and method."""
    truth_text = f", in truth {truth}" if truth else ""
    return f"{classes[heatmap.target]} {100 * heatmap.prob:.0f} %{truth_text} · {heatmap.method.replace('_', ' ')}"


@dataclass(frozen=True, slots=True)
class MosaicLayers:
    """One mosaic as three PNGs of one size.

    Attributes:
        whole: with the maps over their scans.
        below: the same without the maps.
        above: the maps alone, as opaque as can be; laid over `below` at any opacity.
    """

    whole: bytes
    below: bytes
    above: bytes


def draw_mosaic(
    scans: Sequence[Pixels], heatmaps: Sequence[Heatmap], captions: Sequence[str], heading: str, *, opacity: float = 0.6
) -> MosaicLayers:
    """Several maps under one heading, each as bare scan, overlay and outline with its caption."""
    covers = []
    with _figure(7.2, 0.6 + 2.4 * len(scans)) as figure:
        for row, (scan, heatmap, caption) in enumerate(zip(scans, heatmaps, captions, strict=True)):
            axes, cover = _row(figure, len(scans), row, scan, heatmap, opacity)
            covers.append(cover)
            _caption(axes, textwrap.fill(caption, 90))
        figure.suptitle(heading, color=WORDS, fontsize=11, x=0.01, ha="left")
        _badge(figure, heatmaps)
        return _split_layers(figure, covers)


def draw_members(
    scans: Pixels,
    means: FloatArray,
    variances: FloatArray,
    captions: Sequence[str],
    count: int,
    *,
    reasons: Sequence[str] | None,
    opacity: float = 0.6,
) -> bytes:
    """The bare scan, the mean map of the members of a network, and its variance over them, a row a scan, as PNG.

    Args:
        scans: (N, H, W, C). means, variances: (N, H, W). captions: of the scans. count: of members.
        reasons: why the method failed its checks, empty where it passed; None where it was not checked.
        opacity: of the brightest, 0 to 1.
    """
    passed = None if reasons is None else not reasons
    with _figure(7.2, 0.6 + 2.4 * len(scans)) as figure:
        for row, (scan, mean, variance, caption) in enumerate(zip(scans, means, variances, captions, strict=True)):
            axes = [figure.add_subplot(len(scans), 3, 3 * row + column + 1) for column in range(3)]
            for axis, values in zip(axes, (np.zeros_like(mean), mean, variance), strict=True):
                axis.imshow(draw_overlay(scan, values, opacity=opacity, passed=passed))
                axis.set_axis_off()
            axes[0].set_title(textwrap.fill(caption, 40), color=WORDS, fontsize=8, loc="left")
            axes[1].set_title(f"mean of {count}", color=WORDS, fontsize=8)
            text = "variance" if variance.any() else "no variance: this method does not see the members"
            axes[2].set_title(textwrap.fill(text, 28), color=WORDS, fontsize=8)
        heading = "Where the members agree to look, and where they differ"
        figure.suptitle(heading, color=WORDS, fontsize=11, x=0.01, ha="left")
        _write_check_result(figure, passed, "; ".join(reasons or ()))
        return _png(figure)


def draw_mean_maps(images: Mapping[str, FloatArray], heading: str, *, columns: int = 4) -> bytes:
    """Maps beside each other, such as the mean of each class, as PNG."""
    rows = -(-len(images) // columns)
    with _figure(max(4.0, 1.8 * min(columns, len(images))), 0.5 + 2.0 * rows) as figure:
        for index, (name, values) in enumerate(images.items()):
            axes = figure.add_subplot(rows, min(columns, len(images)), index + 1)
            axes.imshow(scale_for_display(values), cmap=COLOURS, vmin=0, vmax=1)
            axes.set_title(textwrap.fill(name, 24), color=WORDS, fontsize=8)
            axes.set_axis_off()
        figure.suptitle(heading, color=WORDS, fontsize=10, x=0.01, ha="left")
        return _png(figure)


def pick_examples(labels: IntArray, probs: FloatArray, of: int, count: int = 3) -> dict[str, IntArray]:
    """Rows of one true class to show: the most confident correct, the most confident wrong, the most uncertain.

    Args:
        labels: (N,) the true class. probs: (N, C). of: the class. count: of each kind.
    """
    best = probs.argmax(axis=1)
    order = np.argsort(-probs.max(axis=1), kind="stable")
    of_class = order[labels[order] == of]
    entropy = -(probs * np.log(np.maximum(probs, 1e-12))).sum(axis=1)
    return {
        "surest right": of_class[best[of_class] == of][:count],
        "surest wrong": of_class[best[of_class] != of][:count],
        "most uncertain": of_class[np.argsort(-entropy[of_class], kind="stable")][:count],
    }


def _over(scan: Pixels, shown: FloatArray, opacity: float, passed: bool | None) -> Pixels:
    """(H, W, 3): the scan under what is shown (H, W), 0 to 1."""
    colours = _coloured(shown, passed)
    below = np.broadcast_to(scan, (*scan.shape[:2], 3)).astype(np.float64)
    cover = opacity * colours[..., 3:]
    return np.asarray(np.rint(below * (1 - cover) + 255 * colours[..., :3] * cover), dtype=np.uint8)


def _coloured(shown: FloatArray, passed: bool | None) -> FloatArray:
    """(H, W, 4) of what is shown, 0 to 1: the more opaque the higher."""
    import matplotlib as mpl

    colours = np.array(mpl.colormaps["gray" if passed is False else COLOURS](shown), dtype=np.float64)
    colours[..., 3] = shown
    return colours


def _row(
    figure: "Figure", rows: int, row: int, scan: Pixels, heatmap: Heatmap, opacity: float
) -> "tuple[list[Axes], AxesImage]":
    """The three places of a row, and the map over the scan."""
    shown = scan.squeeze(-1) if scan.shape[-1] == 1 else scan
    gray: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 255}
    axes = [figure.add_subplot(rows, 3, 3 * row + column + 1) for column in range(3)]
    axes[0].imshow(shown, **gray)
    axes[1].imshow(shown, **gray)
    cover = axes[1].imshow(_coloured(scale_for_display(heatmap.values), heatmap.passed), alpha=opacity)
    axes[2].imshow(shown, **gray)
    if heatmap.values.any():
        colour = "#c3c8cd" if heatmap.passed is False else "#ffd43b"
        for line, width in (("black", 2.2), (colour, 1.0)):  # seen on dark and on bright
            axes[2].contour(scale_for_display(heatmap.values), levels=CONTOURS, colors=line, linewidths=width)
    for axis in axes:
        axis.set_axis_off()
    return axes, cover


def _caption(axes: "Sequence[Axes]", text: str) -> None:
    """Caption above a row, left-aligned; only its height counts in the layout, or a long one would spread the panels."""
    if text:
        written = axes[0].text(0, 1.03, text, color=WORDS, fontsize=8, va="bottom", transform=axes[0].transAxes)
        written.set_in_layout(False)
        axes[1].set_title("\n".join(" " for _ in text.splitlines()), fontsize=8)


def _badge(figure: "Figure", heatmaps: Sequence[Heatmap]) -> None:
    """Note below the maps: whether the method passed its checks."""
    failed = [heatmap for heatmap in heatmaps if heatmap.passed is False]
    unknown = None if any(heatmap.passed is None for heatmap in heatmaps) else True
    _write_check_result(figure, False if failed else unknown, failed[0].reason if failed else "")


def _write_check_result(figure: "Figure", passed: bool | None, reason: str) -> None:
    texts = {
        False: f"Did not pass its checks: {reason}. Do not read it as an answer.",
        True: "Passed its checks on this network.",
        None: "Not checked on this network.",
    }
    _write_note(figure, texts[passed], passed is False)


def _write_note(figure: "Figure", text: str, failed: bool) -> None:
    figure.supxlabel(textwrap.fill(text, 110), color=WARNING if failed else WORDS, fontsize=7, x=0.01, ha="left")


def _of_halves(maps: Mapping[str, FloatArray], reasons: Mapping[str, Sequence[str]]) -> tuple[str, bool]:
    """Note below the maps of the halves, and whether it is a warning."""
    if not reasons:
        return "Not checked on this network.", False
    failed = {name: text for name, text in reasons.items() if text and name in maps}
    if not failed:
        return "Passed their checks on this network.", False
    text = "; ".join(f"{name}: {'; '.join(why)}" for name, why in failed.items())
    return f"Drawn gray because they did not pass their checks: {textwrap.shorten(text, 230, placeholder=' …')}", True


def _mark(axes: Any, row: float, column: float, spread: float, *, side: int) -> None:
    """A cross and a circle that are seen on dark and on bright."""
    from matplotlib.patches import Circle

    axes.autoscale(False)  # the scan fills its place whatever is drawn upon it
    centre = (column * side - 0.5, row * side - 0.5)
    for colour, wide in (("black", 2.6), ("white", 1.2)):
        axes.plot(*centre, marker="+", ms=9, mew=wide, color=colour)
        axes.add_patch(Circle(centre, spread * side, fill=False, ec=colour, lw=wide, ls="--" if wide < 2 else "-"))


@contextmanager
def _figure(width: float, height: float) -> "Iterator[Figure]":
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"font.family": "DejaVu Sans", "text.parse_math": False}):
        yield Figure(figsize=(width, height), layout="constrained")


def _split_layers(figure: "Figure", covers: "Sequence[AxesImage]") -> MosaicLayers:
    """The figure whole, without its covers, and the covers alone; each thing in its place in all three."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
    figure.set_layout_engine("none")  # or what is hidden would leave its place to others
    whole = _png(figure)
    for cover in covers:
        cover.set_visible(False)
    below = _png(figure)
    for axes in figure.axes:
        for artist in axes.get_children():
            artist.set_visible(artist in covers)
    for text in figure.texts:
        text.set_visible(False)
    for cover in covers:
        cover.set_alpha(1)
    return MosaicLayers(whole, below, _png(figure, "none"))


def _png(figure: "Figure", ground: str = SHEET) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=90, facecolor=ground, metadata={"Software": None})
    return stream.getvalue()
