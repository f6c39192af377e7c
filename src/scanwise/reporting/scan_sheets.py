"""Pictures of scans: those of an audit (side by side, named values, a threshold among values), and the surest mistakes."""

import io
import textwrap

import numpy as np
from numpy.typing import NDArray

from scanwise.auditing.evidence import FindingPicture, Histogram, IntervalChart, PairSheet, ScanSheet
from scanwise.csv_files import read_csv
from scanwise.phrases import printable
from scanwise.reporting.components import ReportTable, embed_picture
from scanwise.reporting.run_data import RunData
from scanwise.reporting.svg import INK, SERIES, SOFT, render_svg, styled_figure, wrap_label
from scanwise.reporting.wording import counted, fixed, listed, percent
from scanwise.run import layout

SCANS_SHOWN = 12  # scans or pairs on one sheet
Thumbnails = NDArray[np.uint8]


def draw_finding(name: str, picture: FindingPicture, pixels: Thumbnails) -> tuple[str, bytes]:
    """One picture as a file: its suffix and its bytes.

    Args:
        name: what tells this drawing's ids from another's.
        picture: rows refer to `pixels`.
        pixels: (N, S, S) or (N, S, S, 1) thumbnails.
    """
    if isinstance(picture, PairSheet):
        left, right = (_gray(pixels, picture.rows[:SCANS_SHOWN, side]) for side in (0, 1))
        gap = np.full((len(left), left.shape[1], 4), 11, dtype=np.uint8)  # the colour of the sheet
        return "png", _sheet(np.concatenate([left, gap, right], axis=2), picture.captions[:SCANS_SHOWN], 3)
    if isinstance(picture, ScanSheet):
        return "png", _sheet(_gray(pixels, picture.rows[:SCANS_SHOWN]), picture.captions[:SCANS_SHOWN], 6)
    if isinstance(picture, IntervalChart):
        return "svg", _bars(name, picture).encode()
    return "svg", _histogram(name, picture).encode()


def draw_gallery(pixels: Thumbnails, captions: tuple[str, ...]) -> bytes:
    """Scans (N, H, W, 1 or 3) in rows of four, each with its caption below, as PNG bytes."""
    return _sheet(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels, captions, 4)


def build_failure_sheet(contents: RunData) -> tuple[str, ReportTable] | None:
    """The sheet of the surest mistakes as a data URI, and what each was taken for; None where the run has none."""
    sheet, csv_path = contents.run.figures / layout.FAILURES_SHEET, contents.run.tables / layout.FAILURES
    if not (sheet.is_file() and csv_path.is_file()):
        return None
    header, lines = read_csv(csv_path)
    rows = [dict(zip(header, line, strict=True)) for line in lines]
    cells = tuple(
        (
            printable(row["path"]),
            contents.title(row["label"]),
            contents.title(row["predicted"]),
            percent(float(row["probability"]), 0),
        )
        for row in rows
    )
    caption = "Most confident errors on the test set, one a subject"
    table = ReportTable(caption, ("Scan", "True", "Predicted", "Confidence"), cells, layout.table_link(layout.FAILURES))
    return embed_picture(sheet), table


def describe_picture(picture: FindingPicture) -> str:
    """The line below a picture."""
    if isinstance(picture, PairSheet | ScanSheet):
        kind = "pair" if isinstance(picture, PairSheet) else "scan"
        total = len(picture.rows)
        return (
            f"The first {SCANS_SHOWN} of {counted(total, kind)}." if total > SCANS_SHOWN else counted(total, kind) + "."
        )
    return "Values with their intervals." if isinstance(picture, IntervalChart) else "Distribution of the values."


def _gray(pixels: Thumbnails, rows: NDArray[np.integer]) -> Thumbnails:
    return np.asarray(pixels[np.asarray(rows, dtype=np.int64)]).reshape(-1, *pixels.shape[1:3])


def _sheet(images: Thumbnails, captions: tuple[str, ...], columns: int) -> bytes:
    """Scans in rows, each with its caption below, as PNG bytes."""
    columns = min(columns, max(1, len(images)))
    rows = -(-len(images) // columns)
    width, words = 7.6 / columns, 0.45  # inches
    gap = 0.06 if columns > 3 else 0.2
    height = (width - gap) * images.shape[1] / images.shape[2] + words
    with styled_figure(rows * height + gap, width=7.6) as figure:
        figure.set_layout_engine("none")
        tall = figure.get_figheight()
        for index, (image, caption) in enumerate(zip(images, captions, strict=True)):
            row, column = divmod(index, columns)
            low = tall - gap - (row + 1) * height + words
            axes = figure.add_axes(
                ((column * width + gap / 2) / 7.6, low / tall, (width - gap) / 7.6, (height - words) / tall)
            )
            axes.set_axis_off()
            axes.imshow(image, cmap="gray", vmin=0, vmax=255, aspect="auto")
            text = textwrap.fill(printable(caption), int(15 * width), max_lines=3, placeholder="…")
            axes.text(0.5, -0.03, text, transform=axes.transAxes, ha="center", va="top", fontsize=7, color="#e8ebee")
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=130, facecolor="#0b0d0f", metadata={"Software": None})
    return stream.getvalue()


def _bars(name: str, picture: IntervalChart) -> str:
    with styled_figure(0.8 + 0.42 * len(picture.names)) as figure:
        axes = figure.subplots()
        for height, (value, low, high) in enumerate(zip(picture.values, picture.low, picture.high, strict=True)):
            if np.isfinite(low) and np.isfinite(high):
                axes.plot([low, high], [height, height], color=SERIES[0], lw=2.2)
            axes.plot(value, height, "o", color=SERIES[0], ms=6)
        if picture.reference is not None:
            axes.axvline(picture.reference, color=SOFT, ls="--", lw=1.2)
        axes.set_yticks(range(len(picture.names)), [wrap_label(text, 22) for text in picture.names])
        axes.set(xlabel=picture.axis, ylim=(len(picture.names) - 0.5, -0.5))
        axes.tick_params(axis="y", length=0)
        sentences = [
            f"{text} {fixed(float(value), 3)}" for text, value in zip(picture.names, picture.values, strict=True)
        ]
        return render_svg(figure, name, picture.axis, listed(sentences) + ".")


def _histogram(name: str, picture: Histogram) -> str:
    with styled_figure(3.0) as figure:
        axes = figure.subplots()
        together = np.concatenate([np.asarray(values, dtype=np.float64) for values in picture.values.values()])
        edges = np.histogram_bin_edges(together[np.isfinite(together)], 60).tolist()
        for (kind, values), color in zip(picture.values.items(), SERIES, strict=False):
            axes.hist(values, bins=edges, color=color, alpha=0.6, label=kind)
        if picture.threshold is not None:
            axes.axvline(
                picture.threshold, color=INK, ls="--", lw=1.4, label=f"threshold {fixed(picture.threshold, 3)}"
            )
        axes.set(xlabel=picture.axis, ylabel="how many", yscale="log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(lambda *_: "")
        figure.legend(loc="outside upper left", ncols=3)
        sentences = [
            f"{kind}: {counted(len(values), 'value')}, median {fixed(float(np.median(values)), 3)}"
            for kind, values in picture.values.items()
            if len(values)
        ]
        return render_svg(figure, name, picture.axis, "; ".join(sentences) + ".")
