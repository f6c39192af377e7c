"""Display of results: one line as text; a sentence, tables and pictures as HTML; a page in a notebook or browser."""

import base64
import html
import sys
import webbrowser
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scanwise.api.progress import in_notebook
from scanwise.phrases import printable
from scanwise.records import METRIC_COLUMNS, Metric

if TYPE_CHECKING:
    import pandas as pd

MOST_ROWS = 20
MOST_PICTURES = 12
FRAME_HEIGHT = 640


class Shown:
    """A result with one line, tables, pictures and perhaps a page."""

    __slots__ = ()

    summary: Any
    """The answer in one line."""

    page: Any = None
    """The page that was written, or None."""

    @abstractmethod
    def tables(self) -> "Mapping[str, pd.DataFrame]":
        """Title to table of what is worth seeing first."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {printable(self.summary)}>"

    def _repr_html_(self) -> str:
        parts = [f"<p><strong>{html.escape(printable(self.summary))}</strong></p>"]
        for title, frame in self.tables().items():
            parts.append(f"<p>{html.escape(title)}</p>" if title else "")
            parts.append(_table_html(frame))
        pictures = list(getattr(self, "pictures", {}).items())
        for name, picture in pictures[:MOST_PICTURES]:
            data = base64.b64encode(picture).decode()
            parts.append(f'<img alt="{html.escape(name, quote=True)}" src="data:image/png;base64,{data}">')
        if len(pictures) > MOST_PICTURES:
            parts.append(f"<p>and {len(pictures) - MOST_PICTURES:,} more in <code>pictures</code></p>")
        return "\n".join(filter(None, parts))

    def show(self) -> None:
        """Show the page in the notebook, or in a browser; where there is no page, the summary."""
        page: Path | None = self.page
        if in_notebook():
            from IPython.display import HTML, display

            display(HTML(self._repr_html_() if page is None else _frame(page)))  # type: ignore[no-untyped-call]
        elif page is not None:
            webbrowser.open(page.absolute().as_uri())
        else:
            sys.stdout.write(f"{self!r}\n")


def frame_of(values: Sequence[Any], columns: Sequence[str] | None = None) -> "pd.DataFrame":
    """A row a value, a column a field."""
    return row_frame([asdict(value) for value in values], columns)


def row_frame(rows: Iterable[Mapping[str, Any]], columns: Sequence[str] | None = None) -> "pd.DataFrame":
    """A row a mapping, a column a key."""
    import pandas as pd

    return pd.DataFrame(list(rows), columns=None if columns is None else list(columns))


def metric_frame(metrics: Sequence[Metric]) -> "pd.DataFrame":
    """Metrics as a table with the columns of `metrics.json`."""
    import pandas as pd

    return pd.DataFrame([[getattr(m, name) for name in METRIC_COLUMNS] for m in metrics], columns=list(METRIC_COLUMNS))


def _table_html(frame: "pd.DataFrame") -> str:
    shown = frame.head(MOST_ROWS).to_html(
        index=False, border=0, escape=True, float_format=lambda x: f"{x:.3f}", na_rep=""
    )
    more = len(frame) - MOST_ROWS
    return shown + (f"<p>and {more:,} more rows</p>" if more > 0 else "")


def _frame(page: Path) -> str:
    """The page in a frame of its own, so that neither takes the other's style."""
    text = html.escape(page.read_text(encoding="utf-8"), quote=True)
    return f'<div><iframe title="{html.escape(page.name)}" srcdoc="{text}" style="width:100%;height:{FRAME_HEIGHT}px;border:0"></iframe></div>'
