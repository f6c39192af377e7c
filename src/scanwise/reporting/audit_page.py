"""The page of an audit: what was found, the gravest first, each with its picture and what to do."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from io import BytesIO
from pathlib import Path

from markupsafe import Markup

from scanwise.auditing.evidence import AuditFinding
from scanwise.phrases import printable
from scanwise.records import Finding, load_findings, save_findings
from scanwise.reporting import scan_sheets
from scanwise.reporting.finding_text import SEVERITIES, FindingText, word_finding
from scanwise.reporting.page import render_page
from scanwise.reporting.scan_sheets import Thumbnails
from scanwise.reporting.verdicts import describe_counts
from scanwise.run import layout, write_text, writing


@dataclass(frozen=True, slots=True)
class AuditTask:
    """Something to do, and the findings that ask for it: (number, verdict)."""

    todo: str
    mark: str
    findings: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class FindingEntry:
    """One finding as the page shows it: its words, its picture, and of a leak the twins, each (side, PNG, name, PNG, name)."""

    text: FindingText
    picture: Markup
    caption: str
    twins: tuple[tuple[str, str, str, str, str], ...]


def write_audit_page(
    folder: Path,
    audit_findings: Sequence[AuditFinding],
    pixels: Thumbnails,
    title: str,
    facts: Sequence[tuple[str, str]],
    others: Sequence[Finding] = (),
) -> Path:
    """Write `findings.json`, `figures/` and `audit.html` into a folder, each whole or not at all.

    Args:
        folder: an audit folder, or a run folder.
        audit_findings: results of the checks.
        pixels: (N, S, S) or (N, S, S, 1) thumbnails that the pictures refer to.
        title: the verdict, in one line.
        facts: (what, value) rows about the data.
        others: findings that `findings.json` has after those of the checks.

    Returns:
        the page.
    """
    entries: list[FindingEntry] = []
    findings: list[Finding] = []
    for index, audit_finding in enumerate(sort_findings(audit_findings)):
        finding = audit_finding.finding
        drawn = _draw(folder, index, audit_finding, pixels)
        if drawn:
            finding = replace(finding, figure=drawn[0])
        findings.append(finding)
        entry = _entry(finding, drawn[1] if drawn else Markup(), audit_finding, pixels)
        seen = any(entry.twins == other.twins for other in entries)  # the same pairs are shown once
        entries.append(replace(entry, twins=()) if seen else entry)
    with writing(folder / layout.FINDINGS) as temporary:
        save_findings([*findings, *others], temporary)
    grave = [entry for entry in entries if entry.text.mark != "none"]
    values = {
        "scanwise": version("scanwise"),
        "title": printable(title),
        "facts": facts,
        "entries": grave,
        "tasks": list_tasks(grave),
        "notes": [entry for entry in entries if entry.text.mark == "none"],
        "counts": describe_counts([finding.severity for finding in findings]),
        "copies": layout.COPIES if (folder / layout.COPIES).is_file() else "",
    }
    write_text(render_page("audit.html.jinja", values), folder / layout.AUDIT_PAGE)
    return folder / layout.AUDIT_PAGE


def list_tasks(entries: Sequence[FindingEntry]) -> list[AuditTask]:
    """Tasks, once each, in the order of the findings that ask for them."""
    by_todo: dict[str, list[tuple[int, FindingEntry]]] = {}
    for number, entry in enumerate(entries, 1):
        by_todo.setdefault(entry.text.todo or entry.text.verdict, []).append((number, entry))
    return [
        AuditTask(todo, asking[0][1].text.mark, tuple((number, entry.text.verdict) for number, entry in asking))
        for todo, asking in by_todo.items()
    ]


def remove_stale_figures(folder: Path) -> None:
    """Remove the pictures of an earlier audit, which no finding of this one names."""
    shown = {finding.figure for finding in load_findings(folder / layout.FINDINGS)}
    for file in (folder / layout.FIGURES).glob("[0-9][0-9]-*"):
        if layout.figure_link(file.name) not in shown:
            file.unlink()


def sort_findings(audit_findings: Sequence[AuditFinding]) -> list[AuditFinding]:
    """The gravest first; equals stay in the order of the checks."""
    order = list(SEVERITIES)
    return sorted(audit_findings, key=lambda audit_finding: order.index(audit_finding.finding.severity))


def _draw(folder: Path, index: int, audit_finding: AuditFinding, pixels: Thumbnails) -> tuple[str, Markup] | None:
    """Draw the picture of a finding into `figures/`; its relative path, and itself for the page."""
    if audit_finding.picture is None:
        return None
    name = f"{index:02d}-{audit_finding.finding.check.replace('.', '-')}"
    suffix, data = scan_sheets.draw_finding(f"a{index}", audit_finding.picture, pixels)
    with writing(folder / layout.FIGURES / f"{name}.{suffix}") as temporary:
        temporary.write_bytes(data)
    if suffix == "svg":
        return layout.figure_link(f"{name}.svg"), Markup(data.decode())  # noqa: S704 - our own drawing, its texts escaped
    source = base64.b64encode(data).decode("ascii")
    return layout.figure_link(f"{name}.png"), Markup('<img src="data:image/png;base64,{}" alt="{}"/>').format(
        source, f"Scans that the finding {audit_finding.finding.check} is about."
    )


def _entry(finding: Finding, picture: Markup, audit_finding: AuditFinding, pixels: Thumbnails) -> FindingEntry:
    return FindingEntry(
        text=word_finding(finding),
        picture=picture,
        caption=scan_sheets.describe_picture(audit_finding.picture) if audit_finding.picture else "",
        twins=_twins(audit_finding, pixels),
    )


def _twins(audit_finding: AuditFinding, pixels: Thumbnails) -> tuple[tuple[str, str, str, str, str], ...]:
    """Sides, pictures and names of the twins of a leak."""
    if audit_finding.twins is None:
        return ()
    twins = audit_finding.twins
    pairs = []
    for (left, right), caption in zip(twins.rows.tolist(), twins.captions, strict=True):
        scan, _, origin = printable(caption).partition(" | ")
        scan = scan[0].upper() + scan[1:]
        pairs.append((scan.partition(" ")[0], _thumbnail(pixels[left]), scan, _thumbnail(pixels[right]), origin))
    return tuple(pairs)


def _thumbnail(pixels: Thumbnails) -> str:
    """A scan as a data URI."""
    from PIL import Image

    stream = BytesIO()
    Image.fromarray(pixels.squeeze()).save(stream, "PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
