"""The figures of the protocols beside the honest one, in one table at the end of the report."""

from scanwise.reporting.components import ReportTable
from scanwise.reporting.run_data import RunData
from scanwise.reporting.summary import HEADLINES, compare_with_baselines, protocol_title
from scanwise.reporting.wording import in_full, model_title, term
from scanwise.run import layout


def build_published_table(contents: RunData) -> tuple[ReportTable, tuple[str, ...]] | None:
    """A row each headline figure and unit, beside the honest figure; and sentences. None where there is nothing beside."""
    beside = [protocol for protocol in contents.protocols if protocol not in contents.shown]
    if not beside:
        return None
    rows = []
    protocols = [*beside, *contents.shown]
    for unit in ("subject", "scan"):
        for name in HEADLINES:
            values = [contents.numbers.find(name, protocol, unit) for protocol in protocols]
            if any(values[: len(beside)]):
                rows.append((f"{term(name).title}, by {unit}", *(in_full(m) if m else "–" for m in values)))
        best = [next(iter(contents.numbers.rivals(protocol, unit)), None) for protocol in protocols]
        if any(best[: len(beside)]):
            cells = (f"{in_full(m)}, {model_title(m.model).lower()}" if m else "–" for m in best)
            rows.append((f"Best baseline: accuracy, by {unit}", *cells))
    stamps = ["leaked" if contents.leaky(protocol) else "no subject shared" for protocol in beside]
    heads = [f"{protocol_title(contents, protocol)} ({stamp})" for protocol, stamp in zip(beside, stamps, strict=True)]
    columns = ("Figure", *heads, *(protocol_title(contents, protocol) for protocol in contents.shown))
    verdicts = [compare_with_baselines(contents, protocol) for protocol in beside]
    table = ReportTable("As published, beside new people", columns, tuple(rows), layout.METRICS)
    return table, tuple(verdict.text for verdict in verdicts if verdict)
