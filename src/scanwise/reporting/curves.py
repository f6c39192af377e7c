"""More figures of a report: precision against recall, probabilities by true class, what acting is worth, differences.

As in `figures`: values in, SVG text out, the same bytes for the same values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scanwise.evaluation.bands import Band
from scanwise.records import FloatArray, IntArray
from scanwise.reporting.figures import shade_band
from scanwise.reporting.svg import (
    DASHES,
    MANY_CLASSES,
    SERIES,
    SOFT,
    Readout,
    render_svg,
    shorten,
    shorten_all,
    styled_figure,
    wrap_label,
)
from scanwise.reporting.wording import FEW, counted, fixed, listed, percent

BINS = 20


@dataclass(frozen=True, slots=True)
class PrecisionRecallCurve:
    """A line of one class.

    Attributes:
        title: what it is called.
        x: (n,) from left to right.
        y: (n,)
        value: a number that sums it up, for the legend.
        base: what chance alone would give, as a dotted level; or NaN.
        band: around the line, or None.
    """

    title: str
    x: FloatArray
    y: FloatArray
    value: float
    base: float = float("nan")
    band: Band | None = None


@dataclass(frozen=True, slots=True)
class DifferenceEstimate:
    """A difference with its interval, in the metric's own unit."""

    title: str
    value: float
    low: float
    high: float
    text: str


def draw_precision_recall(name: str, curves: Sequence[PrecisionRecallCurve], noun: str) -> str:
    """One curve a class; dotted, the precision of calling all positive; the average precision in the legend."""
    many = len(curves) > MANY_CLASSES
    with styled_figure(4.2 if many else 4.6) as figure:
        axes = figure.subplots()
        short = shorten_all([curve.title for curve in curves], 30)
        for index, curve in enumerate(curves):
            color, dash = (SOFT, "-") if many else (SERIES[index % 6], DASHES[index % 6])
            label = None if many else f"{short[index]}: {fixed(curve.value, 2)}"
            x, y = np.append(0.0, curve.x), np.append(curve.y[0], curve.y)
            axes.step(x, y, where="pre", color=color, ls=dash, label=label, lw=0.8 if many else 1.8)
            shade_band(axes, curve.band, color)
            if not many:
                axes.axhline(curve.base, color=color, lw=0.8, ls=":")
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel="sensitivity (recall)", ylabel="precision")
        axes.set_aspect("equal")
        if not many:
            figure.legend(loc="outside lower center", ncols=1)
        sentences = [f"{c.title} {fixed(c.value, 2)} ({fixed(c.base, 2)} by calling all positive)" for c in curves]
        readouts = [
            Readout(axes, curve.title, curve.x, curve.y, [
                f"precision {percent(y, 0)}, sensitivity {percent(x, 0)}"
                for x, y in zip(curve.x.tolist(), curve.y.tolist(), strict=True)
            ])
            for curve in curves[:MANY_CLASSES]
        ]  # fmt: skip
        about = f"Average precision by {noun}: {listed(sentences)}."
        return render_svg(figure, name, "Precision against sensitivity", about, readouts)


def draw_probabilities(
    name: str, chances: FloatArray, labels: IntArray, target: int, titles: Sequence[str], noun: str
) -> str:
    """Histograms of the probability of one class, a row for each true class that was tested.

    Args:
        name: what tells this drawing's ids from another's.
        chances: (N,) the probability of the class.
        labels: (N,) the true classes.
        target: the class that the probability is of.
        titles: what the classes are called.
        noun: what a row is.
    """
    present = [index for index in range(len(titles)) if (labels == index).any()]
    with styled_figure(0.7 + 0.95 * len(present)) as figure:
        stack = figure.subplots(len(present), 1, sharex=True, squeeze=False)[:, 0]
        sentences = []
        for axes, index in zip(stack, present, strict=True):
            here = chances[labels == index]
            counts, edges = np.histogram(here, bins=BINS, range=(0, 1))
            color = SERIES[0] if index == target else SERIES[1]
            if len(here) < FEW:  # each case a dot
                x, y = stack_dots(counts, edges)
                axes.plot(x, y, "o", color=color, ms=5)
                axes.set(ylim=(0, max(3, counts.max()) + 1))
            else:
                axes.bar(edges[:-1], counts, width=1 / BINS, align="edge", color=color, ec="none")
            axes.set_title(f"true: {shorten(titles[index], 34)}: {counted(len(here), noun)}")
            axes.locator_params(axis="y", nbins=3, integer=True)
            axes.set(xlim=(0, 1))
            middle, high = fixed(float(np.median(here)), 2), percent(float((here >= 0.5).mean()), len(here))
            sentences.append(f"true {titles[index]}: median {middle}, {high} at 0.5 or above")
        stack[-1].set_xlabel(f"probability of “{shorten(titles[target], 30)}”")
        title = f"Probability of {titles[target]}, by true class"
        return render_svg(figure, name, title, f"By true class: {'; '.join(sentences)}.")


def stack_dots(counts: IntArray, edges: FloatArray) -> tuple[FloatArray, IntArray]:
    """Places of a dot for each case: the middle of its bin, and its place in the pile.

    >>> x, y = stack_dots(np.array([2, 0, 1]), np.array([0.0, 0.2, 0.4, 0.6]))
    >>> x.round(1).tolist(), y.tolist()
    ([0.1, 0.1, 0.5], [1, 2, 1])
    """
    middles = (edges[:-1] + edges[1:]) / 2
    piles = [np.arange(1, count + 1) for count in counts]
    return np.repeat(middles, counts), np.concatenate(piles)


def draw_decision_curve(
    name: str, curve: Mapping[str, FloatArray], title: str, noun: str, band: Band | None = None
) -> str:
    """The decision curve of one class: acting on its probability, on all, on none; with a band where there is one."""
    cuts = np.asarray(curve["threshold"])
    network, everybody = np.asarray(curve["network"]), np.asarray(curve["everybody"])
    with styled_figure(3.4) as figure:
        axes = figure.subplots()
        axes.axhline(0, color=SOFT, lw=1, ls=":", label="none")
        axes.plot(cuts, everybody, color=SERIES[1], ls="--", label="all")
        axes.plot(cuts, network, color=SERIES[0], label="the network")
        shade_band(axes, band, SERIES[0])
        top = max(0.05, 1.15 * float(max(network.max(), everybody.max())))
        axes.set(xlim=(0, 1), ylim=(-0.25 * top, top), ylabel=f"net benefit a {noun}")
        axes.set_xlabel(f"probability of “{shorten(title, 24)}” from which one acts")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        figure.legend(loc="outside upper left", ncols=3)
        best = (network > np.maximum(everybody, 0) + 1e-12).nonzero()[0]
        where = "Acting on the network is nowhere better than acting on all or on none."
        if len(best):
            ends = [percent(float(cuts[k]), 0) for k in (best[0], best[-1])]
            where = f"Acting on the network is better than either at thresholds between {ends[0]} and {ends[1]}, not always throughout."
        texts = [f"{fixed(y, 2)} from {percent(x, 0)} on" for x, y in zip(cuts.tolist(), network.tolist(), strict=True)]
        return render_svg(
            figure, name, f"Decision curve for {title}", where, [Readout(axes, "Net benefit", cuts, network, texts)]
        )


def draw_differences(name: str, panels: Mapping[str, Sequence[DifferenceEstimate]], axis: str) -> str:
    """Paired differences with their intervals, a panel a pair; right of the line the first of the pair is better."""
    lengths = [len(rows) for rows in panels.values()]
    reach = max(
        (abs(end) for rows in panels.values() for row in rows for end in (row.value, row.low, row.high) if end == end),
        default=0.1,
    )
    with styled_figure(0.55 + sum(0.5 + 0.4 * length for length in lengths)) as figure:
        stack = figure.subplots(len(panels), 1, sharex=True, height_ratios=[n + 0.6 for n in lengths], squeeze=False)
        for axes, (title, rows) in zip(stack[:, 0], panels.items(), strict=True):
            axes.axvline(0, color=SOFT, lw=1, ls=":")
            for height, row in enumerate(rows):
                settled = row.low > 0 or row.high < 0
                color = SERIES[0] if settled else SOFT
                axes.plot([row.low, row.high], [height, height], color=color, lw=2.2 if settled else 1.4)
                axes.plot(row.value, height, "D" if settled else "o", color=color, ms=6)
            axes.set_yticks(range(len(rows)), [wrap_label(row.title, 18) for row in rows])
            axes.set(title=shorten(title, 48), xlim=(-1.08 * reach, 1.08 * reach), ylim=(len(rows) - 0.5, -0.5))
            axes.tick_params(axis="y", length=0)
        stack[-1, 0].set_xlabel(axis)
        sentences = [
            f"{title}: {listed([f'{row.title} {row.text}' for row in rows])}" for title, rows in panels.items()
        ]
        return render_svg(figure, name, "Paired differences with their intervals", ". ".join(sentences) + ".")
