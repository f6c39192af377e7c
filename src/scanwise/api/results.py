"""Results of the functions: tables (pandas), a page to show, one line as text, and HTML in a notebook."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from scanwise.api.classifier import Classifier
from scanwise.api.display import Shown, frame_of, metric_frame, row_frame
from scanwise.phrases import count_of
from scanwise.records import Metric, load_findings, load_metrics
from scanwise.reporting.headlines import HEADLINES, deciding_metrics, headline
from scanwise.reporting.wording import model_title, term, with_interval
from scanwise.run import RunFolder, layout

if TYPE_CHECKING:
    import pandas as pd

    from scanwise.pipeline.commands.comparison import RunComparison
    from scanwise.pipeline.commands.cross_validation import CrossValidation
    from scanwise.pipeline.commands.external_validation import ExternalValidation
    from scanwise.pipeline.context import AuditResult


@dataclass(frozen=True, slots=True, repr=False)
class Run(Shown):
    """A finished run.

    Attributes:
        path: its folder.
    """

    path: Path

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open the folder of a run.

        Raises:
            RunError: if there is none.
        """
        return cls(RunFolder.open(Path(path)).path)

    @property
    def folder(self) -> RunFolder:
        """The paths of its files."""
        return RunFolder(self.path)

    @property
    def page(self) -> Path | None:
        return self.folder.report

    @property
    def metrics(self) -> "pd.DataFrame":
        """Every figure with its interval: model, protocol, fold, split, unit, group, name, value, low, high, count."""
        return metric_frame(load_metrics(self.folder.metrics))

    @property
    def predictions(self) -> "pd.DataFrame":
        """A row a test scan: path, subject, label, predicted, p_<class>…, set, entropy, abstain, …"""
        return self._table(layout.PREDICTIONS)

    @property
    def subjects(self) -> "pd.DataFrame":
        """A row a test subject, all scans together, with the columns of `predictions`."""
        return self._table(layout.PREDICTIONS_SUBJECT)

    @property
    def findings(self) -> "pd.DataFrame":
        """Findings of the audit and the fit: severity, check, message, scans."""
        return frame_of(load_findings(self.folder.findings), ("severity", "check", "message", "scans"))

    def load(self) -> Classifier:
        """Its classifier."""
        return Classifier.open(self.path)

    def _table(self, name: str) -> "pd.DataFrame":
        import pandas as pd

        protocol = self.folder.fits()[0].protocol
        return pd.read_parquet((self.folder.tables_of(protocol) / name).with_suffix(".parquet"))

    @property
    def summary(self) -> str:
        """The headline figures in one line."""
        metrics = deciding_metrics([m for m in load_metrics(self.folder.metrics) if m.split == "test"])
        return f"{self.path}: {headline(metrics)}"

    def tables(self) -> "Mapping[str, pd.DataFrame]":
        metrics = deciding_metrics([m for m in load_metrics(self.folder.metrics) if m.split == "test"])
        return {"": _beside_baselines(metrics)}


@dataclass(frozen=True, slots=True, repr=False)
class AuditSummary(Shown):
    """The result of an audit.

    Attributes:
        verdict: the answer in one sentence.
        exit_code: 0 clean, 1 something leaks, 3 not to be judged without the subjects.
        findings: severity, check, message, scans; the gravest first.
        page: the written page, if a folder was named.
    """

    verdict: str
    exit_code: int
    findings: "pd.DataFrame"
    page: Path | None = None

    @classmethod
    def of(cls, result: "AuditResult", page: Path | None) -> Self:
        from scanwise.reporting.audit_page import sort_findings

        findings = [entry.finding for entry in sort_findings(result.checked)]
        frame = frame_of(findings, ("severity", "check", "message", "scans"))
        return cls(f"{result.verdict}.", result.exit_code, frame, page)

    @property
    def summary(self) -> str:
        return self.verdict

    def tables(self) -> "Mapping[str, pd.DataFrame]":
        return {"": self.findings[["severity", "check", "message"]]}


@dataclass(frozen=True, slots=True, repr=False)
class Folds(Shown):
    """The result of cross-validation.

    Attributes:
        path: its folder; each candidate is a run in it.
        metrics: fold by fold and pooled (fold -1), as `Run.metrics`.
        choices: fold, candidate, value on validation people, chosen.
        pooled: the network beside its baselines, all folds together.
    """

    path: Path
    metrics: "pd.DataFrame"
    choices: "pd.DataFrame"
    summary: str
    pooled: "pd.DataFrame"

    @classmethod
    def of(cls, result: "CrossValidation") -> Self:
        metrics = deciding_metrics([m for m in result.metrics if m.fold < 0])
        return cls(
            result.folder,
            metric_frame(result.metrics),
            frame_of(result.choices, ("fold", "candidate", "value", "chosen")),
            f"{result.folder}: {headline(metrics)}",
            _beside_baselines(metrics),
        )

    def tables(self) -> "Mapping[str, pd.DataFrame]":
        return {"": self.pooled}


@dataclass(frozen=True, slots=True, repr=False)
class External(Shown):
    """The result of an external validation.

    Attributes:
        metrics: as `Run.metrics`.
        predictions: a row a unit, as `Run.predictions`.
        findings: severity, check, message, scans.
        page: the written page.
    """

    metrics: "pd.DataFrame"
    predictions: "pd.DataFrame"
    findings: "pd.DataFrame"
    summary: str
    page: Path | None

    @classmethod
    def of(cls, result: "ExternalValidation", page: Path) -> Self:
        return cls(
            metric_frame(result.metrics),
            row_frame(result.main.rows()),
            frame_of(result.findings, ("severity", "check", "message", "scans")),
            f"{page.parent}: {headline(deciding_metrics(list(result.metrics)))}",
            page,
        )

    def tables(self) -> "Mapping[str, pd.DataFrame]":
        return {"": self.findings[["severity", "check", "message"]]}


@dataclass(frozen=True, slots=True, repr=False)
class Comparison(Shown):
    """The result of a comparison of runs.

    Attributes:
        metrics: a row a system and metric, as `Run.metrics`.
        differences: paired, each with its interval.
        ranks: place of each system, with its range.
        page: the written page.
    """

    metrics: "pd.DataFrame"
    differences: "pd.DataFrame"
    ranks: "pd.DataFrame"
    summary: str
    page: Path | None

    @classmethod
    def of(cls, result: "RunComparison", page: Path) -> Self:
        systems = list(dict.fromkeys(m.model for m in result.metrics))
        return cls(
            metric_frame(result.metrics),
            frame_of(result.differences),
            frame_of(result.ranks),
            f"{page.parent}: {count_of(len(systems), 'system')} by {result.unit}",
            page,
        )

    def tables(self) -> "Mapping[str, pd.DataFrame]":
        return {"": self.ranks}


def _beside_baselines(metrics: Sequence[Metric]) -> "pd.DataFrame":
    """A row a model: its headline figures with their intervals."""
    models = list(dict.fromkeys(m.model for m in metrics if m.name in HEADLINES))
    cells = {(m.model, m.name): with_interval(m) for m in metrics}
    rows = [
        {"": model_title(model), **{term(name).title: cells.get((model, name), "") for name in HEADLINES}}
        for model in models
    ]
    return row_frame(rows)
