"""The section on heatmaps: which words spoke, what each half of a hybrid looks at, and what may be believed."""

import io
import math
import re
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_browser import AXE

from scanwise.csv_files import write_csv
from scanwise.reporting import explanation_parts, explanations
from scanwise.reporting.page import render_page
from scanwise.reporting.run_data import RunData
from scanwise.run import RunFolder, write_json

CLASSES = ("nondemented", "verymilddemented")
TITLES = ("Cognitively Normal", "Very Mild Dementia")  # of these in the run's recipe
SAID = {
    "a/0.png": (0, 0, 0.97, "surest right", [("Crisp", 3.4), ("scan,", 0.5), ("well", 1.6), ("done", 0.02)], 0.25),
    "a/1.png": (0, 1, 0.71, "surest wrong; most uncertain", [("odd", -1.2), ("<b>scan</b>", 0.9), ("gone", None)], 0.8),
    "b/0.png": (1, 1, 0.88, "surest right", [("Scan", 2.1), ("well", -0.4)], 0.5),
    "b/1.png": (1, 1, 0.55, "", [], 1.0),
}
HEADER = (
    "path", "truth", "target", "probability", "example", "checked", "place", "word", "fall_of_log_odds", "looked_at",
    "share_of_image", "picture",
)  # fmt: skip
HALF = ("row", "column", "spread", "norm", "contribution")


def picture(wide: int = 324) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.tile(np.arange(wide, dtype=np.uint8), (160, 1))).save(stream, format="png")
    return stream.getvalue()


def check(name: str, passed: bool) -> dict[str, Any]:
    return {"name": name, "passed": passed, "message": f"{name} was tried.", "figures": {}}


def fill(folder: Path, *, fuses: bool = True, knows: bool = True, hybrid: bool = False) -> None:
    """What a fit leaves in `heatmaps/`."""
    (folder / "words").mkdir(parents=True)
    (folder / "components").mkdir()
    learnt = check("learnt", knows)
    told = {"method": "pooled_gradients" if fuses or hybrid else "words", "scans": 4, "checks": [learnt]}
    told |= {
        "reasons": [] if knows else ["it learnt nothing"],
        "words": {"reasons": [] if knows else ["it learnt nothing"]},
    }
    told["halves"] = {"convolution": [learnt, check("weights", False)], "transformer": [learnt]} if hybrid else {}
    write_json(told, folder / "checks.json")
    if hybrid:
        return _components(folder)
    lines: list[tuple[object, ...]] = []
    for index, (path, (true, target, prob, kind, words, share)) in enumerate(SAID.items()):
        shown = f"words/{index:03d}.png" if kind and fuses else ""
        if shown:
            (folder / shown).write_bytes(picture())
        before = (path, CLASSES[true], CLASSES[target], prob, kind, 1)
        after = (0.1, share, shown) if fuses else ("", "", "")
        lines += [
            (*before, place, word, "" if fall is None else fall, *after) for place, (word, fall) in enumerate(words)
        ]
        if not words:
            lines.append((*before, "", "", "", "", *after[1:]))
    write_csv(HEADER, lines, folder / "words.csv")
    return None


def _components(folder: Path) -> None:
    names = [f"{half}_{what}" for half in ("convolution", "transformer") for what in HALF]
    header = ("scan", "predicted", "probability", "overlap", *names, "convolution_share", "truth", "picture")
    lines = []
    for index, (path, (true, target, prob, *_)) in enumerate(SAID.items()):
        (folder / f"components/{index:03d}.png").write_bytes(picture(640))
        values = [0.3, 0.6, 0.2, 12.0 + index, 3.0, 0.5, 0.4, 0.25, 8.0, 1.0]
        lines.append((path, CLASSES[target], prob, 0.12, *values, 0.75, CLASSES[true], f"components/{index:03d}.png"))
    write_csv(header, lines, folder / "components.csv")


Explained = Callable[..., str]


@pytest.fixture(scope="module")
def explained(make_run: Callable[..., RunFolder], tmp_path_factory: pytest.TempPathFactory) -> Explained:
    """The section on explanations of a run that left this in `heatmaps/`."""
    contents = RunData.of(make_run())

    def build(**wishes: bool) -> str:
        place = tmp_path_factory.mktemp("explained")
        fill(place / "heatmaps", **wishes)
        return section(contents, place)

    return build


def section(contents: RunData, place: Path) -> str:
    found = explanations.build_explanations(replace(contents, run=RunFolder(place)))
    return render_page("report_parts/explanations.html.jinja", {"explanations": found})


def plain(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page).replace("\u00a0", " ").split())


def test_words_are_named_with_what_they_gave(explained: Explained) -> None:
    page = explained()
    assert '<span class="word for3">Crisp<small>÷\u00a030</small></span>' in page
    assert '<span class="word against2">odd<small>×\u00a03.3</small></span>' in page
    assert '<span class="word ">done</span>' in page  # too little to be told
    assert "<s>gone</s>" in page  # not read
    assert "&lt;b&gt;scan&lt;/b&gt;" in page
    told = plain(page)
    assert f"Most confident error, most uncertain: {TITLES[1]} 71 %, in truth {TITLES[0]}" in told
    assert "Image 80 %, words 20 % of what the classifier gets" in told
    assert page.count("<img") == 3
    assert page.count('alt="The scan, and where the words look in it."') == 3


def test_words_are_summed_up_by_class(explained: Explained) -> None:
    told = plain(explained())
    # Those of b/0 (scan, well) and of a/1, both told the second class; the share is the mean with b/1, of no title.
    assert f"{TITLES[1]} 3 23 % scan ÷ 8.2 (1)" in told
    assert f"{TITLES[0]} 1 75 % crisp ÷ 30 (1), well ÷ 5.0 (1), scan ÷ 1.6 (1)" in told


def test_a_network_of_words_alone_has_neither_pictures_nor_shares(explained: Explained) -> None:
    page = explained(fuses=False)
    assert "This network reads words alone" in page
    assert "reads words alone" in page
    assert "of what the classifier gets" not in page
    assert "<img" not in page
    assert 'class="word for3"' in page


def test_words_of_a_network_that_learnt_nothing_are_not_coloured(explained: Explained) -> None:
    page = explained(knows=False)
    assert "not coloured" in page
    assert "it learnt nothing" in page
    assert not re.search(r"word (for|against)\d", page)


def test_the_halves_are_shown_for_each_class_and_summed_up(explained: Explained) -> None:
    page = explained(hybrid=True)
    told = plain(page)
    assert page.count("<img") == 3  # right and wrong of the first class, right of the second
    assert "Most confident error: Very Mild Dementia 71 %, in truth Cognitively Normal (a/1.png)" in told
    assert "The transformer looks around 50 % from the top and 40 % from the left (spread 25 %)." in told
    assert "Centre of the transformer’s map, from the top and from the left 50 %, 40 % 50 %, 40 % 50 %, 40 %" in told
    assert "The map of the convolution did not pass its checks." in told
    assert (
        "Centre of the convolution’s map, from the top and from the left left out: failed left out: failed left out: failed"
        in told
    )
    assert "looks around 30 %" not in told
    assert "Norm of what the convolution sees 13.5 12 14" in told
    assert "Correct 75 % 100 % 67 %" in told
    assert "The map of the convolution: sanity checks" in told
    assert "weights was tried." in told
    assert 'href="heatmaps/components.csv"' in page


def test_files_of_an_older_scanwise_are_left_out(make_run: Callable[..., RunFolder], tmp_path: Path) -> None:
    fill(tmp_path / "heatmaps")
    write_csv(("path", "token"), [("a/0.png", 7)], tmp_path / "heatmaps" / "words.csv")
    page = section(RunData.of(make_run()), tmp_path)
    assert "Sanity checks of the maps" in page
    assert "Effects of words" not in page


def test_of_many_titles_each_class_shows_its_surest_first() -> None:
    class Few:
        cohort = type("Cohort", (), {"classes": tuple("abcdefghijkl")})

    scans = {
        f"{name}{place}": [{"truth": name, "example": kind}]
        for name in Few.cohort.classes
        for place, kind in enumerate(("surest right", "surest right", "surest wrong", "most uncertain"))
    }
    chosen = explanation_parts._chosen(Few, scans)  # type: ignore[arg-type]
    assert len(chosen) == explanation_parts.TITLES_SHOWN
    assert [mine[0]["truth"] for mine in chosen] == [name for name in Few.cohort.classes for _ in range(2)]
    assert {mine[0]["example"] for mine in chosen} == {"surest right", "surest wrong"}


@pytest.mark.parametrize("fall", [0.2, 0.7, 2.5, 4.0, 6.9])
def test_figures_below_words_are_odds(fall: float) -> None:
    told = float(explanation_parts.format_odds(fall).split("\u00a0")[1])
    assert told == pytest.approx(math.exp(fall), rel=0.05)
    assert explanation_parts.format_odds(-fall)[0] == "×"
    assert explanation_parts.format_odds(fall)[0] == "÷"


# --- in a browser ---


@pytest.fixture(scope="module")
def pages(explained: Explained, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The section alone in a page of the house style; the whole page takes seconds to draw."""
    style = resources.files("scanwise.reporting").joinpath("report.css").read_text(encoding="utf-8")
    found = {}
    for name, wishes in {"words": {}, "halves": {"hybrid": True}}.items():
        found[name] = tmp_path_factory.mktemp(name) / "page.html"
        head = f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>x</title><style>{style}</style>'
        body = f'<meta name="viewport" content="width=device-width"></head><body><main><section aria-labelledby="explanations"><h2 id="explanations">x</h2>{explained(**wishes)}</section></main></body></html>'
        found[name].write_text(head + body, encoding="utf-8")
    return found


@pytest.mark.extended
@pytest.mark.browser
@pytest.mark.parametrize(
    ("name", "width", "scheme"), [("words", 390, "light"), ("words", 1280, "dark"), ("halves", 390, "dark")]
)
def test_axe_finds_nothing_in_the_section(
    browser: Any, pages: dict[str, Path], name: str, width: int, scheme: str
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page = context.new_page()
    page.goto(pages[name].as_uri())
    section = '[aria-labelledby="explanations"]'
    assert page.locator(section).count() == 1
    assert page.evaluate("document.documentElement.scrollWidth") == width
    found = axe.Axe().run(page, context=section, options={"runOnly": AXE}).response
    context.close()
    assert len(found["passes"]) > 5
    assert [(v["id"], v["nodes"][0]["html"][:200], v["nodes"][0]["failureSummary"]) for v in found["violations"]] == []
