"""Files of a run that were edited, removed or never sealed."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from scanwise.errors import RunError
from scanwise.reporting import checksums, pdf
from scanwise.reporting import report as report_page
from scanwise.run import RunFolder, sha256_of

pytestmark = pytest.mark.figures

Make = Callable[..., RunFolder]


@pytest.fixture
def run(make_run: Make, tmp_path: Path) -> RunFolder:
    shutil.copytree(make_run().path, tmp_path / "run")
    return RunFolder.open(tmp_path / "run")


@pytest.mark.parametrize(
    "name", ["metrics.json", "tables/predictions.csv", "tables/breakdown_site.csv", "fits/honest/0/calibrator.json"]
)
def test_an_edited_file_is_named(run: RunFolder, name: str) -> None:
    assert checksums.verify_checksums(run)
    path = run.path / name
    text = path.read_text(encoding="utf-8")
    changed = text.replace("0.", "0.9", 1) if "0." in text else text.replace("1", "2", 1)
    assert changed != text
    path.write_text(changed, encoding="utf-8")
    with pytest.raises(RunError, match=rf"{Path(name).name} is not what scanwise wrote"):
        report_page.build_report(run)
    path.write_text(text, encoding="utf-8")
    assert checksums.verify_checksums(run)


def test_a_missing_file_is_named_with_what_to_do(run: RunFolder) -> None:
    (run.tables / "predictions.csv").unlink()
    with pytest.raises(RunError, match=r"predictions\.csv is missing.*--resume"):
        report_page.build_report(run)


def test_a_run_that_was_never_sealed_is_not_vouched_for(run: RunFolder) -> None:
    (run.path / checksums.CHECKSUMS_FILE).unlink()
    assert not checksums.verify_checksums(run)
    assert checksums.read_checksums(run) == {}


def test_sums_are_what_sha256sum_reads(run: RunFolder) -> None:
    told = checksums.read_checksums(run)
    assert {"recipe.yaml", "metrics.json", "cohort.parquet", "tables/predictions.parquet"} <= set(told)
    assert told["recipe.yaml"] == sha256_of(run.recipe)


@pytest.mark.extended
def test_report_card_and_checklists_are_the_same_bytes_again(run: RunFolder) -> None:
    report_page.write_report(run)
    names = ("report.html", "model_card.md", "checklists.html")
    first = {name: (run.path / name).read_bytes() for name in names}
    report_page.write_report(run)
    assert first == {name: (run.path / name).read_bytes() for name in names}


def test_paper_needs_a_browser_and_says_so(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    page = run.path / "report.html"
    page.write_text("<p>a page</p>", encoding="utf-8")
    monkeypatch.setattr(pdf.shutil, "which", lambda _: None)
    with pytest.raises(RunError, match="needs a Chromium"):
        pdf.write_pdf(page, "summary", run.path / "report.pdf")


@pytest.mark.extended
@pytest.mark.browser
@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no chromium here")
def test_summary_is_on_two_pages_and_the_full_report_on_more(run: RunFolder, tmp_path: Path) -> None:
    page = report_page.write_report(run)
    pages = {}
    for extent in ("summary", "full"):
        data = pdf.write_pdf(page, extent, tmp_path / f"{extent}.pdf").read_bytes()
        assert data[:5] == b"%PDF-"
        pages[extent] = len(re.findall(rb"/Type /Page\b", data))
    assert pages["summary"] <= 2
    assert pages["full"] > 5
