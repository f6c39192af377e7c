"""Pages and the terminal say "1 scan" and "2 scans", never "1 scans" or "2 scan"."""

import html
import re

import pytest

from tiny import Whole

NOUNS = "class|column|epoch|file|finding|fold|group|member|network|pair|row|scan|side|slice|subject"
ONE = rf"(?<![\d.,–/-])1 (?:{NOUNS.replace('class', 'classe').replace('|', 's|')}s)\b"
SEVERAL = rf"(?<![\d.,–/-])(?:[02-9]|[1-9][\d,]+) (?:{NOUNS})\b(?![-’'])"
WRONG = re.compile(f"{ONE}|{SEVERAL}")
UNREAD = re.compile(r"<(script|style)\b.*?</\1>", re.DOTALL)
PAGES = ("report.html", "audit.html", "checklists.html", "model_card.md")


def wrong_plurals(page: str) -> list[str]:
    """Each wrong plural with the words around it."""
    words = html.unescape(re.sub(r"<[^>]+>", "|", UNREAD.sub(" ", page)))
    words = re.sub("[\u00a0\u202f]", " ", words)
    return [words[max(0, match.start() - 30) : match.end() + 30] for match in WRONG.finditer(words)]


@pytest.mark.parametrize("name", PAGES)
def test_pages_of_a_run_count_in_the_right_form(whole: Whole, name: str) -> None:
    assert not wrong_plurals((whole.run.path / name).read_text(encoding="utf-8"))


def test_the_terminal_counts_in_the_right_form(whole: Whole) -> None:
    assert not wrong_plurals(whole.said.out + whole.said.err)


@pytest.mark.parametrize("wrong", ["1 subjects", "2 scans in 1 pairs", "1&nbsp;classes", "12 scan", "1,200 file"])
def test_a_wrong_plural_is_seen(wrong: str) -> None:
    assert wrong_plurals(f"<p>There are {wrong}.</p>")


@pytest.mark.parametrize("right", ["1 subject", "11 subjects", "a 3-class task", "5.1 scans", "10 scan-level"])
def test_a_right_plural_passes(right: str) -> None:
    assert not wrong_plurals(f"<p>{right}</p>")
