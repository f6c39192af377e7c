"""The figures of a report: values in, SVG text out, the same bytes for the same values.

Every drawing carries a title and a description in words; `svg` has the style.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from scanwise.evaluation.bands import Band, wilson_interval
from scanwise.records import FloatArray, IntArray
from scanwise.reporting.svg import (
    DASHES,
    GRID,
    MANY_CLASSES,
    MARKERS,
    PAPER,
    SERIES,
    SIZE,
    SOFT,
    Readout,
    render_svg,
    shorten_all,
    styled_figure,
    wrap_label,
)
from scanwise.reporting.wording import FEW, counted, fixed, listed, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, slots=True)
class ForestRow:
    """A row of a forest plot: a share, its interval and whether it is the network's."""

    title: str
    value: float
    low: float
    high: float
    count: int
    network: bool = False


@dataclass(frozen=True, slots=True)
class RocCurve:
    """The curve of one class against all others, and the area under it."""

    title: str
    false_alarms: FloatArray
    sensitivity: FloatArray
    area: float
    band: Band | None = None


def draw_learning_curves(
    name: str, histories: Sequence[Mapping[str, FloatArray]], best: Sequence[int], score: str = "validation_macro_f1"
) -> str:
    """Loss on both sides and the score on the validation side, epoch by epoch; folds share the panels.

    Args:
        name: what tells this drawing's ids from another's.
        histories: columns of `history.csv`, one a fold.
        best: the epoch that was kept, one a fold.
        score: the column of the lower panel.
    """
    title = score.removeprefix("validation_").replace("_", " ").replace("f1", "F1")
    with styled_figure(4.4) as figure:
        losses, scores = figure.subplots(2, 1, sharex=True)
        for history, epoch in zip(histories, best, strict=True):
            first = history is histories[0]
            x = history["epoch"]
            losses.plot(x, history["train_loss"], color=SERIES[0], ls="--", label="training" if first else None)
            losses.plot(x, history["validation_loss"], color=SERIES[1], label="validation" if first else None)
            scores.plot(x, history[score], color=SERIES[1])
            kept = np.flatnonzero(x == epoch)
            scores.plot(x[kept], history[score][kept], "o", ms=7, color=SERIES[1], label="kept" if first else None)
        losses.set(title="Loss (lower is better)", ylim=(0, None))
        scores.set(title=f"Validation {title} (higher is better)", ylim=(0, 1.02), xlabel="epoch")
        scores.locator_params(axis="x", integer=True)
        losses.legend(ncols=2)
        scores.legend(loc="best")
        ends = [f"{fixed(h['train_loss'][-1], 2)} and {fixed(h['validation_loss'][-1], 2)}" for h in histories]
        tops = [fixed(float(h[score][h["epoch"] == epoch][0]), 2) for h, epoch in zip(histories, best, strict=True)]
        about = (
            f"After the last epoch the training and validation loss were {listed(ends)}. The epoch kept was "
            f"{listed([str(epoch) for epoch in best])}, with a validation {title} of {listed(tops)}."
        )
        return render_svg(figure, name, "Learning curves", about)


def draw_class_distribution(name: str, titles: Sequence[str], counts: Mapping[str, IntArray], noun: str) -> str:
    """Cases of each class in each part of the split, as stacked bars with the class name above its bar."""
    with styled_figure(0.95 + 0.5 * len(titles)) as figure:
        axes = figure.subplots()
        left = np.zeros(len(titles))
        positions = np.arange(len(titles))
        for (side, values), color, shade in zip(counts.items(), SERIES, (0.95, 0.9, 0.85, 0.8, 0.75), strict=False):
            axes.barh(positions, values, left=left, height=0.42, color=color, alpha=shade, label=side, ec=PAPER, lw=0.8)
            left += values
        for row, title in enumerate(shorten_all(titles, 34)):
            axes.text(0, row - 0.3, f"{title}: {int(left[row]):,}", va="bottom", ha="left")
        axes.set(xlabel=f"{noun}s", yticks=[], ylim=(len(titles) - 0.6, -0.85), xlim=(0, None))
        axes.locator_params(axis="x", integer=True, nbins=5)
        axes.spines["left"].set_visible(False)
        axes.grid(visible=False, axis="y")
        figure.legend(loc="outside upper left", ncols=4, handlelength=0.9, columnspacing=0.9)
        rows = [
            f"{title}: " + ", ".join(f"{int(values[row]):,} {side.lower()}" for side, values in counts.items())
            for row, title in enumerate(titles)
        ]
        return render_svg(
            figure, name, f"{noun.capitalize()}s of each class in each part of the split", "; ".join(rows) + "."
        )


def draw_confusion_matrix(name: str, matrix: IntArray, titles: Sequence[str], noun: str) -> str:
    """Confusion matrix: counts, and shares of the true class as the depth of colour."""
    size = len(titles)
    total = matrix.sum(axis=1, keepdims=True)
    share = np.divide(matrix, total, out=np.zeros(matrix.shape), where=total > 0)
    few = size <= MANY_CLASSES
    with styled_figure(4.3 if few else 5.2) as figure:
        axes = figure.subplots()
        for row, column in np.ndindex(size, size):
            if matrix[row, column]:
                color, depth = SERIES[0] if row == column else SERIES[1], 0.5 * share[row, column]
                axes.fill_between([column, column + 1], row, row + 1, color=color, alpha=depth, lw=0)
            if few:
                _cell(axes, column, row, int(matrix[row, column]), share[row, column], bool(total[row, 0]))
        wide = 16 if size <= 4 else 10
        labels = (
            [wrap_label(title, wide) for title in shorten_all(titles, 2 * wide)] if few else shorten_all(titles, 14)
        )
        ticks = np.arange(size) + 0.5
        axes.set(xlim=(0, size), ylim=(size, 0), xlabel="predicted class", ylabel="true class")
        longest = max(len(line) for label in labels for line in label.split("\n"))
        turn = 0 if size * longest <= 33 else 40 if few else 90  # about as many letters as fit side by side
        anchor: dict[str, Any] = (
            {"ha": "right", "va": "center" if turn == 90 else "top", "rotation_mode": "anchor"} if turn else {}
        )
        axes.set_xticks(ticks, labels, rotation=turn, **anchor)
        axes.set_yticks(ticks, labels)
        if not few:
            axes.tick_params(labelsize=max(4.5, SIZE * 9 / size))
        axes.tick_params(length=0)
        axes.grid(visible=False)
        for edge in range(1, size):
            axes.axhline(edge, color=GRID, lw=0.6)
            axes.axvline(edge, color=GRID, lw=0.6)
        return render_svg(figure, name, f"Confusion matrix, by {noun}", _confusion_words(matrix, titles, noun))


def draw_roc(name: str, curves: Sequence[RocCurve], noun: str) -> str:
    """One curve a class against all others; the area under each in the legend."""
    with styled_figure(4.6 if len(curves) <= MANY_CLASSES else 4.2) as figure:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=SOFT, lw=1, ls=":")
        short = shorten_all([curve.title for curve in curves], 30)
        for index, curve in enumerate(curves):
            many = len(curves) > MANY_CLASSES
            color, dash = (SOFT, "-") if many else (SERIES[index % 6], DASHES[index % 6])
            label = None if many else f"{short[index]}: {fixed(curve.area, 2)}"
            axes.plot(curve.false_alarms, curve.sensitivity, color=color, ls=dash, label=label, lw=0.8 if many else 1.8)
            shade_band(axes, curve.band, color)
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel="false alarms (1 − specificity)", ylabel="sensitivity")
        axes.set_aspect("equal")
        if len(curves) <= MANY_CLASSES:
            figure.legend(loc="outside lower center", ncols=1)
        areas = [f"{curve.title} {fixed(curve.area, 2)}" for curve in curves]
        about = f"Area under the curve by {noun}, each class against all others: {listed(areas)}; 0.5 is chance."
        readouts = [
            Readout(axes, curve.title, curve.false_alarms, curve.sensitivity, [
                f"sensitivity {percent(y, 0)}, false alarms {percent(x, 0)}"
                for x, y in zip(curve.false_alarms.tolist(), curve.sensitivity.tolist(), strict=True)
            ])
            for curve in curves[:MANY_CLASSES]
        ]  # fmt: skip
        return render_svg(figure, name, "Sensitivity against false alarms (ROC)", about, readouts)


def shade_band(axes: "Axes", band: Band | None, color: str) -> None:
    """The band of a curve, pale behind it."""
    if band is not None:
        axes.fill_between(band.x, band.low, band.high, color=color, alpha=0.13, lw=0)


def draw_reliability(name: str, curves: Mapping[str, Sequence[Mapping[str, float]]], noun: str = "scan") -> str:
    """Reliability diagram: accuracy against confidence; on the diagonal they are equal.

    Args:
        name: what tells this drawing's ids from another's.
        curves: bins as `evaluation.reliability` gives them; the last curve is the one in use.
        noun: what is counted; subjects are independent, so that their bins have Wilson's intervals.
    """
    with styled_figure(4.8) as figure:
        axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(3.4, 1))
        axes.plot([0, 1], [0, 1], color=SOFT, lw=1, ls=":")
        words, readouts = [], []
        for index, (label, bins) in enumerate(curves.items()):
            used = index == len(curves) - 1
            color, dash = (SERIES[0], "-") if used else (SERIES[1], "--")
            confidence, right, count = (np.array([b[key] for b in bins]) for key in ("confidence", "accuracy", "count"))
            axes.plot(confidence, right, color=color, ls=dash, marker=MARKERS[index], ms=5, label=label)
            points = [
                f"confidence {percent(s, 0)}, accuracy {percent(r, 0)}" for s, r in zip(confidence, right, strict=True)
            ]
            words.append(f"{label.capitalize()}: {'; '.join(points)}.")
            counts = [f"{point}, {counted(int(n), noun)}" for point, n in zip(points, count, strict=True)]
            readouts.append(Readout(axes, label.capitalize(), confidence, right, counts))
            if used:
                below.bar(confidence, count, width=0.05, color=color)
            if used and noun == "subject":
                low, high = wilson_interval(right * count, count)
                axes.vlines(confidence, low, high, color=color, lw=1)
        axes.set(xlim=(0, 1.01), ylim=(0, 1.02), ylabel="accuracy")
        below.set(xlabel="confidence", ylabel=f"{noun}s")
        below.locator_params(axis="y", nbins=3, integer=True)
        figure.legend(loc="outside upper left", ncols=2)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value:.0%}")
        return render_svg(figure, name, "Reliability diagram", " ".join(words), readouts)


def draw_set_sizes(name: str, sizes: IntArray, covered: IntArray, noun: str, start: int = 0) -> str:
    """Sizes of the prediction sets, and how many of each size hold the true class."""
    with styled_figure(3.2) as figure:
        axes = figure.subplots()
        end = max(int(np.flatnonzero(sizes).max(initial=0)) + 1, min(len(sizes), MANY_CLASSES))
        sizes, covered = sizes[start:end], covered[start:end]
        positions = np.arange(start, end)
        axes.bar(positions, covered, color=SERIES[0], width=0.62, label="holds the true class")
        axes.bar(
            positions,
            sizes - covered,
            bottom=covered,
            color=SERIES[1],
            width=0.62,
            label="does not",
            hatch="///",
            ec=PAPER,
        )
        axes.set(xlabel="classes named by the set", ylabel=f"{noun}s", ylim=(0, 1.12 * sizes.max()))
        axes.locator_params(axis="y", integer=True)
        if len(sizes) <= MANY_CLASSES + 1:
            axes.set_xticks(positions)
            for x, count in zip(positions.tolist(), sizes.tolist(), strict=True):
                total = int(sizes.sum())
                label = f"{count:,}" if total < FEW else percent(count / total, total)
                axes.text(x, count, label, ha="center", va="bottom")
        else:
            axes.locator_params(axis="x", integer=True)
        axes.grid(visible=False, axis="x")
        figure.legend(loc="outside upper left", ncols=2)
        words = [
            f"{counted(int(n), noun)} with {counted(int(x), 'class')}"
            for x, n in zip(positions, sizes, strict=True)
            if n
        ]
        return render_svg(figure, name, "Sizes of the prediction sets", f"{listed(words)}.")


def draw_risk_coverage(name: str, covered: FloatArray, risk: FloatArray, noun: str) -> str:
    """Error among the answered against the share answered; the dotted line is the error of answering everyone."""
    with styled_figure(3.4) as figure:
        axes = figure.subplots()
        axes.axhline(risk[-1], color=SOFT, lw=1, ls=":")
        axes.step(np.append(0, covered), np.append(risk[0], risk), where="pre", color=SERIES[0])
        top = max(0.05, 1.15 * float(risk.max()))
        axes.set(xlim=(0, 1.01), ylim=(0, min(1.02, top)), ylabel="answers that are wrong")
        axes.set_xlabel(f"share of {noun}s answered, most confident first")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value:.0%}")
        points = [int(np.searchsorted(covered, share - 1e-9)) for share in (0.25, 0.5, 0.75, 1.0)]
        sentences = [f"{percent(risk[k], 0)} wrong with {percent(covered[k], 0)} of {noun}s answered" for k in points]
        texts = [f"{percent(r, 0)} wrong" for r in risk.tolist()]
        readouts = [
            Readout(axes, f"{percent(c, 0)} answered", covered[k : k + 1], risk[k : k + 1], [texts[k]])
            for k, c in enumerate(covered.tolist())
        ][:: max(1, len(covered) // 60)]
        return render_svg(figure, name, "Error against how many are answered", f"{listed(sentences)}.", readouts)


def draw_forest(name: str, panels: Mapping[str, Sequence[ForestRow]], measure: str) -> str:
    """The network and its baselines, each with its interval, a panel a protocol."""
    lengths = [len(rows) for rows in panels.values()]
    with styled_figure(0.55 + sum(0.5 + 0.42 * length for length in lengths)) as figure:
        stack = figure.subplots(len(panels), 1, sharex=True, height_ratios=[n + 0.6 for n in lengths], squeeze=False)
        for axes, (title, rows) in zip(stack[:, 0], panels.items(), strict=True):
            for height, row in enumerate(rows):
                color = SERIES[0] if row.network else SOFT
                axes.plot([row.low, row.high], [height, height], color=color, lw=2.4 if row.network else 1.4)
                axes.plot(
                    row.value,
                    height,
                    "D" if row.network else "o",
                    color=color,
                    ms=7 if row.network else 5.5,
                    clip_on=False,
                    zorder=3,
                )
                axes.text(1.03, height, percent(row.value, row.count), va="center", ha="left")
            labels = [wrap_label(row.title, 22) for row in rows]
            axes.set_yticks(range(len(rows)), labels)
            axes.set(title=title, xlim=(0, 1), ylim=(len(rows) - 0.5, -0.5))
            axes.tick_params(axis="y", length=0)
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        stack[-1, 0].set_xlabel(f"{measure}, with its interval")
        words = [
            f"{title}: " + listed([f"{row.title} {percent(row.value, row.count)}" for row in rows])
            for title, rows in panels.items()
        ]
        return render_svg(figure, name, f"{measure} of the network beside simple baselines", ". ".join(words) + ".")


def draw_montage(images: "np.ndarray[Any, np.dtype[np.uint8]]", titles: Sequence[str]) -> bytes:
    """A sheet of scans with a title over each, as PNG bytes.

    Args:
        images: (N, H, W, C) with one or three channels.
        titles: N texts.
    """
    columns = min(4, max(1, len(images)))
    rows = -(-len(images) // columns)
    with styled_figure(1.66 * rows, width=1.45 * columns) as figure:
        for index, (image, title) in enumerate(zip(images, titles, strict=True)):
            axes = figure.add_subplot(rows, columns, index + 1)
            axes.imshow(image.squeeze(-1) if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=255)
            if index % columns == 0 or title != titles[index - 1]:  # said once for the scans that share it
                row = titles[index : (index // columns + 1) * columns]
                same = next((k for k, other in enumerate(row) if other != title), columns)
                shown = axes.set_title(wrap_label(title, 17 * same), fontsize=8.5 if same == 1 else 11, color="#e8ebee")
                shown.set_in_layout(False)
            axes.set_axis_off()
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=130, facecolor="#0b0d0f", metadata={"Software": None})
    return stream.getvalue()


def _cell(axes: "Axes", column: int, row: int, count: int, share: float, tested: bool) -> None:
    axes.text(column + 0.5, row + 0.44, f"{count:,}", ha="center", va="center", fontsize=SIZE + 1)
    if tested:
        axes.text(column + 0.5, row + 0.76, f"{share:.0%}", ha="center", va="center", fontsize=SIZE - 2)


def _confusion_words(matrix: IntArray, titles: Sequence[str], noun: str) -> str:
    rows = []
    for row, title in enumerate(titles):
        called = [f"{int(n):,} as {titles[column]}" for column, n in enumerate(matrix[row]) if n]
        rows.append(
            f"Of {counted(int(matrix[row].sum()), noun)} truly {title}: {listed(called) if called else 'none tested'}."
        )
    return " ".join(rows)
