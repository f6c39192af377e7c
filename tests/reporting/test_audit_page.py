"""The page of an audit: every finding with its picture, the gravest first, and nothing that names of files could break."""

import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from scanwise.auditing.evidence import AuditFinding, Histogram, IntervalChart, PairSheet, ScanSheet, make_finding
from scanwise.reporting import audit_page, scan_sheets


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 255, (40, 24, 24), dtype=np.uint8)


def everything() -> list[AuditFinding]:
    rows = np.arange(30).reshape(15, 2)
    three = np.array([0.5, 0.6, 0.7])
    return [
        make_finding("quality.blank", "note", "Two scans are blank.", ("a.png", "b.png"), ScanSheet(rows[:, 0], ("blank",) * 15)),
        make_finding("copies", "leak", "Copies on two sides.", ("c.png",), PairSheet(rows, tuple(f"pair {i}" for i in range(15)))),
        make_finding("shortcut", "warning", "The border tells.", (), IntervalChart(("a", "b", "c"), three, three - 0.1, three + 0.1, "AUROC", 0.5)),
        make_finding("subjects", "note", "200 people.", (), Histogram({"nearest": np.linspace(0, 1, 50)}, "correlation", 0.9)),
    ]  # fmt: skip


def test_the_page_has_every_finding_and_picture(tmp_path, pixels) -> None:
    page = audit_page.write_audit_page(
        tmp_path, everything(), pixels, "These scans leak", [("Scans", "40")]
    ).read_text()
    page = page[page.index('id="evidence"') :]
    assert page.index("Copies on two sides.") < page.index("The border tells.") < page.index("Two scans are blank.")
    assert page.count("<img") == 2
    assert page.count("<svg") == 2
    assert "The first 12 of 15" in page


def test_a_leak_shows_twins_side_by_side_and_says_what_to_do_first(tmp_path, pixels) -> None:
    leak = make_finding("leakage.subjects", "leak", "train and test share 9 of 30 subjects.", ("a.png",))
    twins = PairSheet(np.array([[0, 1], [2, 3], [4, 5]]), tuple(f"test scan t{k} | r{k}" for k in range(3)))
    page = audit_page.write_audit_page(
        tmp_path, [replace(leak, twins=twins)], pixels, "These scans leak", []
    ).read_text()
    assert page.count("<b>Test scan</b>") == page.count("<b>Its twin in training</b>") == 3
    assert [re.sub(r"\s+", " ", name) for name in re.findall(r'alt="([^"]*)"', page)] == [
        text for k in range(3) for text in (f"Test scan t{k}", f"r{k}, in training")
    ]
    order = [page.index(text) for text in ("These scans leak</h1>", "Put every subject on one side", "share 9 of 30")]
    assert order == sorted(order)


def test_what_to_do_is_said_once_and_the_same_twins_are_shown_once(tmp_path, pixels) -> None:
    leaks = [make_finding(f"leakage.{name}", "leak", f"{name} leaks.") for name in ("subjects", "identity")]
    twins = PairSheet(np.array([[0, 1]]), ("validation scan a | b",))
    findings = [replace(leak, twins=twins) for leak in leaks] + [make_finding("quality.blank", "warning", "2 scans.")]
    page = audit_page.write_audit_page(tmp_path, findings, pixels, "These scans leak", []).read_text()
    todo = page[page.index('class="todo"') : page.index("</ol>")]
    assert todo.count("<li") == 2
    assert re.findall(r'href="#(finding-\d)"', todo) == ["finding-1", "finding-2", "finding-3"]
    assert page.count("<b>Validation scan</b>") == 1


@pytest.mark.figures
def test_findings_json_names_pictures_that_exist(tmp_path, pixels) -> None:
    audit_page.write_audit_page(tmp_path, everything(), pixels, "These scans leak", [])
    found = json.loads((tmp_path / "findings.json").read_text())
    assert [one["severity"] for one in found] == ["leak", "warning", "note", "note"]
    assert all((tmp_path / one["figure"]).stat().st_size > 500 for one in found)
    assert found[0]["scans"] == ["c.png"]


def test_names_cannot_break_the_page(tmp_path, pixels) -> None:
    nasty = make_finding(
        "quality.odd", "note", "<script>alert(1)</script>", ("<b>\n.png",), ScanSheet(np.array([0]), ("<i>&",))
    )
    page = audit_page.write_audit_page(tmp_path, [nasty], pixels, "<u>", [("<a>", "<b>")]).read_text()
    assert page.count("<script") == 1
    assert "&lt;b&gt; .png" in page


@pytest.mark.figures
def test_a_pair_is_drawn_side_by_side(pixels) -> None:
    suffix, data = scan_sheets.draw_finding("x", PairSheet(np.array([[0, 1]]), ("one and two",)), pixels)
    with Image.open(io.BytesIO(data)) as picture:
        assert suffix == "png"
        assert picture.width > 1.2 * picture.height


def test_an_audit_without_findings_says_so(tmp_path, pixels) -> None:
    page = audit_page.write_audit_page(tmp_path, [], pixels, "No leak was found", [("Scans", "40")]).read_text()
    assert "No check found anything that asks for something." in page
    assert json.loads((tmp_path / "findings.json").read_text()) == []
