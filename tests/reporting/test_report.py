"""The report says what the run folder holds: no more, no less, and the same bytes each time."""

import dataclasses
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from other_pages import MANY

from scanwise.errors import RunError
from scanwise.records import load_metrics, save_metrics
from scanwise.reporting import checksums
from scanwise.reporting import report as report_page
from scanwise.reporting.run_data import RunData
from scanwise.reporting.summary import compare_with_baselines
from scanwise.run import RunFolder

Make = Callable[..., RunFolder]
Page = Callable[..., str]
HOSTILE = ("<script>alert(1)</script>", 'a&b "q" $x_1$ {{7*7}}', "it's <b>bold|x")
STRANGE: dict[str, object] = {
    "classes": HOSTILE,
    "subjects": (40, 30, 20),
    "not_evaluable": (),
    "stages": False,
    "quarantine": (("<img src=x onerror=alert(1)>\x07.png", 'bad & "worse"'),),
}
LEAKED = '<strong class="stamp">leaked</strong>'


@pytest.fixture
def page(page_of: Page) -> str:
    return page_of()


def words(page: str) -> str:
    """The text of a page as a reader sees it, with plain spaces."""

    class Reader(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.parts: list[str] = []

        def handle_data(self, data: str) -> None:
            self.parts.append(data)

    reader = Reader()
    reader.feed(re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.DOTALL))
    return re.sub(r"\s+", " ", " ".join(reader.parts))


def section(page: str, name: str) -> str:
    """The words of one section."""
    found = re.search(rf'<section aria-labelledby="{name}">.*?</section>', page, re.DOTALL)
    return words(found[0]) if found else ""


def copied(run: RunFolder, to: Path) -> RunFolder:
    shutil.copytree(run.path, to)
    return RunFolder(to)


@pytest.mark.parametrize("wishes", [{}, STRANGE])
def test_is_well_formed(page_of: Page, wishes: dict[str, object]) -> None:
    tree = ElementTree.fromstring(page_of(**wishes))  # noqa: S314
    assert tree.tag == "html"
    ids = [element.get("id") for element in tree.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    for element in tree.iter():
        for named in (element.get("aria-labelledby") or "").split():
            assert named in ids
    links = [element.get("href", "") for element in tree.iter("a")]
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)


def test_headings_do_not_skip_and_tables_are_labelled(page: str) -> None:
    tree = ElementTree.fromstring(page)  # noqa: S314
    levels = [int(element.tag[1]) for element in tree.iter() if re.fullmatch(r"h\d", str(element.tag))]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    for table in tree.iter("table"):
        assert table.find("caption") is not None
        assert all(cell.get("scope") for cell in table.iter("th"))
    for svg in tree.iter("{http://www.w3.org/2000/svg}svg"):
        assert svg.get("role") == "img"
        assert svg.find("{http://www.w3.org/2000/svg}desc").text  # type: ignore[union-attr]


def test_loads_nothing(page: str) -> None:
    assert page.count("<script") == 1
    assert not re.search(r"(?:src|href|url\()\s*=?\s*[\"'(]?\s*(?:https?:)?//", page)
    assert "@import" not in page
    assert "default-src 'none'" in page
    kinds = re.findall(r'<img src="([^,]+,)', page)
    assert set(kinds) <= {"data:image/png;base64,", "data:image/jpeg;base64,"}
    assert len(kinds) - page.count("<li><img") == 2  # sheets; the others are cases of the confusion matrix


def test_same_folder_same_bytes_wherever_it_lies_and_whatever_is_made_later(
    make_run: Make, page: str, tmp_path: Path
) -> None:
    run = copied(make_run(), tmp_path / "elsewhere")
    run.bundle.mkdir()
    (run.bundle / "model.safetensors").write_bytes(b"x")
    assert report_page.write_report(run) == run.report
    assert run.report.read_bytes() == page.encode()


def test_numbers_are_those_of_the_metrics_rounded(make_run: Make, page: str) -> None:
    answer = section(page, "answer") + section(page, "published")
    shown = {m.name for m in load_metrics(make_run().metrics) if not m.group and m.model == "network"}
    assert {"accuracy", "balanced_accuracy", "auroc"} <= shown
    for m in load_metrics(make_run().metrics):
        if m.model != "network" or m.group or m.name not in ("accuracy", "balanced_accuracy", "auroc"):
            continue
        scale, decimals = (1, 2) if m.name == "auroc" else (100, 0)
        decimals += m.count >= 100
        value, low, high = (f"{scale * number:.{decimals}f}" for number in (m.value, m.low, m.high))
        unit = " %" if m.name != "auroc" else ""
        assert f"{value}{unit} ({low}–{high}), {m.count} {m.unit}s" in answer


def test_first_screen_is_of_new_people_and_the_published_figures_stand_in_one_table_at_the_end(page: str) -> None:
    answer = section(page, "answer")
    assert re.search(r"On new people 76 % accuracy by subject, 95 % interval 60–88, on 34 subjects", answer)
    assert "As published" not in answer
    for name in ("training", "discrimination", "rivals"):
        assert "As published" not in section(page, name)
    published = section(page, "published")
    assert published.startswith(" As published leaked")
    assert re.search(r"Accuracy, by scan 100\.0 %", published)
    assert page.index('aria-labelledby="published"') > page.index('aria-labelledby="rivals"')


def test_the_first_screen_says_who_was_tested_and_from_which_weights(page: str) -> None:
    head = section(page, "answer")
    assert re.search(
        r"Tested 34 subjects \(\d+ Cognitively Normal, \d+ Very Mild Dementia, \d+ Mild Dementia\)\.", head
    )
    assert "Weights at the start random start." in head
    assert "Research use only. Not a medical device." in words(page)


@pytest.mark.parametrize(
    ("wishes", "leaked", "not_evaluable", "unknown"),
    [
        ({}, True, True, False),
        ({"leaky": False}, False, True, False),
        ({"published": False}, False, True, False),
        (
            {"classes": ("normal", "stroke"), "subjects": (60, 50), "not_evaluable": (), "leaky": False},
            False,
            False,
            False,
        ),
        ({"known": False, "published": False}, False, True, True),
    ],
)
def test_says_what_is_wrong_exactly_when_it_is(
    page_of: Page, wishes: dict[str, object], leaked: bool, not_evaluable: bool, unknown: bool
) -> None:
    page = page_of(**wishes)
    assert (LEAKED in page) == leaked
    assert ("The same people, or the same pictures, were used to train and to test" in words(page)) == leaked
    assert ("Quoting the leaked figure" in page) == leaked
    assert ("“Moderate Dementia” is not evaluable: 2 subjects have it" in words(page)) == (
        not_evaluable and not unknown
    )
    assert ("is not evaluable" in words(page)) == not_evaluable
    assert ("Leakage cannot be excluded" in words(page)) == unknown
    assert ("On new people" in page) != unknown


OF_READERS = r"may decide the care of a person|Care of any person|Claims about new people"


def test_nobody_is_spoken_of_where_nobody_is_known(page_of: Page) -> None:
    text = re.sub(OF_READERS, "", words(page_of(known=False, published=False)))
    assert re.findall(r".{40}\b(?:people|persons?|patients?)\b.{40}", text) == []


def test_flags_few_test_subjects(page_of: Page, page: str) -> None:
    few = {"classes": ("normal", "stroke"), "subjects": (30, 20), "not_evaluable": ()}
    assert "Only 10 subjects were tested" in words(page_of(**few))
    assert "were tested. Below 30" not in words(page)


def test_hostile_names_stay_text(page_of: Page) -> None:
    page = page_of(**STRANGE)
    assert page.count("<script") == 1
    assert "onerror=alert(1)>" not in page
    assert "<b>bold" not in page
    text = words(page)
    assert all(name in text for name in HOSTILE)
    assert "<img src=x onerror=alert(1)>\ufffd.png" in text
    assert "49" not in section(page, "discrimination").split("{{7*7}}")[0][-20:]


def test_published_has_accuracy_alone(page: str) -> None:
    published = section(page, "published")
    assert "Accuracy figures and nothing else" in published
    for name in ("ECE", "set size", "Coverage", "Log loss", "temperature"):
        assert name.lower() not in published.lower()
    for name in ("calibration", "sets"):
        assert "published" not in section(page, name).lower()


def test_published_metrics_of_calibration_and_sets_are_never_shown(make_run: Make, page: str, tmp_path: Path) -> None:
    run = copied(make_run(), tmp_path / "run")
    metrics = load_metrics(run.metrics)
    extra = [
        dataclasses.replace(m, protocol="published", value=0.4242, low=0.41, high=0.43)
        for m in metrics
        if m.protocol == "honest" and m.name in ("ece", "nll", "brier", "coverage", "mean_set_size")
    ]
    assert extra
    save_metrics([*metrics, *extra], run.metrics)
    checksums.write_checksums(run)
    assert report_page.build_report(run) == page


def test_a_run_without_published_protocol_has_no_second_column(page_of: Page) -> None:
    assert "As published" not in page_of(published=False)


@pytest.mark.parametrize(("skill", "beats"), [(8.0, True), (1.6, False), (0.4, False)])
def test_verdict_needs_an_interval_above_zero(make_run: Make, page_of: Page, skill: float, beats: bool) -> None:
    run = make_run(skill=skill, published=False)
    page = page_of(skill=skill, published=False)
    metrics = load_metrics(run.metrics)
    leads = [m.low > 0 for m in metrics if m.name == "accuracy difference" and m.unit == "subject"]
    assert all(leads) == beats
    found = compare_with_baselines(RunData.of(run), "honest")
    assert found is not None
    assert found.beats == beats
    assert ("It beats every baseline" in page) == beats
    assert ("It does not beat" in page) != beats


def test_a_rival_without_paired_difference_is_not_beaten(make_run: Make, tmp_path: Path) -> None:
    run = copied(make_run(skill=8.0, published=False), tmp_path / "run")
    kept = [m for m in load_metrics(run.metrics) if not (m.name == "accuracy difference" and m.model == "majority")]
    save_metrics(kept, run.metrics)
    checksums.write_checksums(run)
    found = compare_with_baselines(RunData.of(run), "honest")
    assert found is not None
    assert not found.beats
    assert "majority class" in found.text


def test_folds_are_shown_one_by_one_and_pooled(page_of: Page) -> None:
    page = page_of(folds=3, published=False)
    text = section(page, "discrimination")
    assert all(title in text for title in ("Fold 1", "Fold 2", "Fold 3", "All folds"))
    assert "168 subjects" in section(page, "answer")
    assert "It was fitted 3 times" in words(page)


def test_promise_is_stated_with_unit_count_and_target(page: str) -> None:
    text = section(page, "sets")
    assert "one scan, drawn at random, of a new person" in text
    assert "at least 90 %" in text
    assert "set on 33 calibration subjects" in text
    assert "does not cover anyone with “Moderate Dementia”" in text


def test_secrets_in_addresses_are_hidden(page: str) -> None:
    assert "secret" not in page
    assert "s3://…@bucket/scans" in page


@pytest.mark.parametrize(
    "name", ["metrics.json", "cohort.parquet", "findings.json", "provenance.json", "tables/predictions.csv"]
)
def test_a_missing_file_is_named(make_run: Make, tmp_path: Path, name: str) -> None:
    run = copied(make_run(), tmp_path / "run")
    (run.path / name).unlink()
    run.report.unlink(missing_ok=True)
    with pytest.raises(RunError, match=Path(name).name):
        report_page.write_report(run)
    assert not run.report.exists()


def test_long_quarantine_is_cut_and_counted(page_of: Page) -> None:
    many = tuple((f"bad/{index:03d}.png", "not an image") for index in range(57))
    text = section(page_of(quarantine=many, published=False), "data")
    assert "57 files set aside, the first 20 of 57" in text
    assert "bad/019.png" in text
    assert "bad/020.png" not in text


def test_cuts_of_all_folds_speak_together_with_the_range_of_their_places(page_of: Page) -> None:
    told = section(page_of(folds=3, published=False), "points")
    assert "all 3 folds together, each by its own threshold" in told
    assert re.search(r"thresholds 0\.\d\d to 0\.\d\d, fold by fold \(validation: sensitivity \d+", told)
    alone = section(page_of(published=False), "points")
    assert "fold" not in alone


def test_where_classes_are_many_some_stand_open_and_all_are_folded_away(page_of: Page) -> None:
    tree = ElementTree.fromstring(page_of(**MANY))  # noqa: S314
    details = [each for each in tree.iter("details") if each.get("class") != "fold"]
    folded = [list(each.iter("table")) for each in details]
    inside = {id(table) for tables in folded for table in tables}
    opened = [table for table in tree.iter("table") if id(table) not in inside]
    captions = {"".join(table.find("caption").itertext()) for table in opened}  # type: ignore[union-attr]
    assert any("3 commonest and the 3 with the lowest F1" in caption for caption in captions)
    assert any("3 commonest and the 3 rarest" in caption for caption in captions)
    for table in opened:
        heads = ["".join(row.find("th").itertext()) for row in table.findall("tbody/tr")]  # type: ignore[union-attr]
        assert len({head[:6] for head in heads if head.startswith("kind ")}) <= 6, heads
    rows = [each for each in details if re.match(r"All \d", each.find("summary").text or "")]  # type: ignore[union-attr]
    whole = ["".join(next(each.iter("table")).itertext()) for each in rows]
    assert whole
    assert all(f"kind {letter}" in text for text in whole for letter in "abcdefg")


def test_how_scans_of_a_subject_are_pooled_is_said_of_rivals_too(page: str) -> None:
    assert "by the mean of their logits for the network, as the recipe says. For baselines it is always" in section(
        page, "rivals"
    )


def test_nothing_is_said_of_diseases_where_the_classes_are_goods(make_run: Callable[..., RunFolder]) -> None:
    """Photos of bags and ties were told about their anatomy, the clinic and the hospital that they come from."""
    goods = make_run(classes=("bags", "ties"), subjects=(60, 60), not_evaluable=(), known=False, published=False)
    text = re.sub(r"<(script|style|svg)\b.*?</\1>|<[^>]+>", " ", report_page.build_report(goods), flags=re.DOTALL)
    words = set(re.findall(r"[a-z]+", text.lower()))
    assert not words & {"anatomy", "anatomical", "clinic", "clinical", "patient", "patients", "hospital", "ill"}
    assert "disease" not in words
