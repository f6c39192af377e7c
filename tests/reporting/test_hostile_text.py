"""Text of users is text on every page, drawing and card: markup in names of classes, subjects, files, columns and titles."""

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from scanwise.phrases import printable
from scanwise.records.names import compose
from scanwise.reporting.model_card import markdown_text
from scanwise.reporting.page import plain_text, read_asset
from tiny import RECIPE, WITHOUT_COPIES, Command, picture

MARKUP = "<img src=x onerror=alert(1)>"
PLANTED = {
    "title": "[T](javascript:alert(1)) <script>alert(2)</script> `t` -->",
    "description": "</p><iframe srcdoc=x></iframe> **bold** {{ 7*7 }} ${x} https://evil.example/d",
    "class 0": "| a | ](javascript:alert(3)) <!-- www.evil.example",
    "class 1": f'"> {MARKUP} & &lt;b&gt; \u202egnp.exe\u2066 *b* \\',
    "subject": "<svg onload=alert(4)>'s \x1b[31m",
    "column": "<a href='javascript:alert(5)'>site</a>",
    "site": "]]> <![CDATA[<b>]]> <style>*{display:none}</style> \u0646\u0648\u0631",
    "file": "<b onmouseover=alert(6)>`x`](data:text,x) \u200f",
}
HARMLESS = {"href": ("#", "data:,"), "src": ("data:image/",)}
"""Beginnings of links other than those to files beside the page."""


class Page(HTMLParser):
    """Elements, attributes and texts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.styles: list[str] = []
        self.scripts: list[str] = []
        self.comments: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        {"style": self.styles, "script": self.scripts}.get(self.cdata_elem or "", self.texts).append(data)

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)

    def check(self, folder: Path) -> None:
        for tag, attributes in self.tags:
            assert tag not in ("iframe", "object", "embed", "base", "form"), tag
            assert not [name for name in attributes if name.startswith("on") or name == "srcdoc"], attributes
            for name in ("href", "src", "xlink:href"):
                value = attributes.get(name, "#")
                ours = value.startswith(HARMLESS["href"] + HARMLESS["src"]) or (folder / value).exists()
                assert ours, (tag, name, value)
        scripts = sum(tag == "script" for tag, _ in self.tags)
        assert self.scripts == [read_asset("page.js")] * scripts
        assert scripts <= 1
        assert not self.comments
        assert "display:none" not in "".join(self.styles)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, scanwise: Command) -> Path:
    """A run, an audit, an external validation and a comparison of scans with such names."""
    folder = tmp_path_factory.mktemp("hostile")
    for name, seed in (("scans", 0), ("others", 5000)):
        rows = []
        for kind in range(2):
            for person in range(14):
                file = f"{kind}{person}{PLANTED['file']}.png"
                (folder / name).mkdir(exist_ok=True)
                picture(kind, seed + 100 * kind + person).save(folder / name / file)
                rows.append({
                    "path": f"{name}/{file}", "label": PLANTED[f"class {kind}"], "subject": f"{name}{kind}{person:02d}{PLANTED['subject']}",
                    PLANTED["column"]: f"{person % 2}{PLANTED['site']}",
                })  # fmt: skip
        (folder / name / f"junk{PLANTED['file']}.png").write_bytes(b"none")
        rows.append({**rows[0], "path": f"{name}/junk{PLANTED['file']}.png", "subject": "q"})
        pd.DataFrame(rows).to_parquet(folder / f"{name}.parquet")
    quoted = {name: PLANTED[name].replace("\\", "\\\\").replace('"', '\\"') for name in ("title", "description")}
    text = RECIPE.replace("explain: {scans: 0}", "explain: {scans: 2}") + WITHOUT_COPIES
    text += "".join(f'{name}: "{value}"\n' for name, value in quoted.items())
    (folder / "tiny.yaml").write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        reading = ("scans.parquet", "--subject", "subject")
        for command in (
            ("fit", "tiny.yaml", "--data", *reading, "--out", "run", "--threads", "1"),
            ("fit", "tiny.yaml", "--data", *reading, "--out", "run2", "--set", "train.epochs=1", "--set", "title=<u>x"),
            ("audit", *reading, "--out", "audit"),
            ("evaluate", "run", "--data", "others.parquet", *reading[1:], "--out", "external", "--draws", "100"),
            ("compare", "run", "run2", "--out", "comparison", "--draws", "100"),
        ):
            said = scanwise(*command)
            assert said.code in (0, 1, 3), said.err
    return folder


def as_shown(name: str) -> str:
    """What was planted, as a page shows it; signs that cannot be seen are no part of a label or of a column's name."""
    text = PLANTED[name]
    return " ".join(printable(compose(text) if name.startswith(("class", "column")) else text).split())


@pytest.mark.extended
def test_no_page_takes_text_for_markup(written: Path) -> None:
    pages = sorted(written.rglob("*.html"))
    assert {page.name for page in pages} >= {"report.html", "audit.html", "checklists.html"}
    assert len(pages) >= 6
    for file in pages:
        text = file.read_text(encoding="utf-8")
        assert printable(text, lines=True) == text.replace("\u2068", "\ufffd").replace("\u2069", "\ufffd")
        Page(text).check(file.parent)
    report = Page((written / "run" / "report.html").read_text(encoding="utf-8"))
    shown = " ".join("".join(report.texts).split())
    for name in ("title", "description", "class 0", "class 1", "column"):
        assert as_shown(name) in shown, name


@pytest.mark.extended
def test_no_drawing_takes_text_for_markup(written: Path) -> None:
    drawings = sorted(written.rglob("*.svg"))
    assert drawings
    for file in drawings:
        text = file.read_text(encoding="utf-8")
        names = {element.tag.rpartition("}")[2] for element in ET.fromstring(text).iter()}  # noqa: S314 - is it XML?
        assert not names & {"script", "img", "iframe", "foreignObject", "a", "b", "image"}, file
        Page(text).check(file.parent)


def rendered(text: str) -> Page:
    return Page(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text))


@pytest.mark.extended
def test_no_card_takes_text_for_markup(written: Path) -> None:
    cards = sorted(written.rglob("*.md"))
    assert cards
    for file in cards:
        _, about, card = file.read_text(encoding="utf-8").split("---\n", 2)
        assert "evil" not in about
        page = rendered(card)
        page.check(file.parent)
        assert not {tag for tag, _ in page.tags} & {"img", "a", "iframe", "svg", "style", "del", "em"}
        assert not {"www.", "http:"} & {*card.split()}
        shown = " ".join("".join(page.texts).split())
        if file.parent.name == "run":
            for name in ("title", "class 0", "class 1"):
                assert as_shown(name) in shown, name


@given(text=st.text(max_size=40))
@example("- a")
@example("1. a")
@example("1) a")
@example("---")
@example("===")
@example("# a")
@example("    code")
@example("a\n\n<b>")
@example("a  \nb")
@example("<https://a.b> &amp; \\")
def test_markdown_text_is_text(text: str) -> None:
    page = rendered(f"- {markdown_text(text)}\n\n| a |\n|---|\n| {markdown_text(text)} |\n")
    tags = [tag for tag, _ in page.tags]
    assert tags == ["ul", "li", "table", "thead", "tr", "th", "tbody", "tr", "td"]
    shown, expected = ("".join(value.split()) for value in ("".join(page.texts), printable(text)))
    assert shown == f"{expected}a{expected}"


def directions(text: str) -> Iterator[str]:
    return (char for char in text if char in "\u2066\u2067\u2068\u2069\u202a\u202b\u202c\u202d\u202e\u200e\u200f\u061c")


@given(text=st.text(st.one_of(st.sampled_from("\u202e\u2066\u2069\u05d0\u05d1\u0646 1<"), st.characters())))
def test_directions_of_a_page_are_closed_where_they_are_opened(text: str) -> None:
    shown = str(plain_text(text))
    assert "".join(directions(shown)) == "\u2068\u2069" * shown.count("\u2068")
    assert shown.replace("\u2068", "").replace("\u2069", "") == printable(text)
