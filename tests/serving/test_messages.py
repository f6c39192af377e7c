"""Questions that wait are answered together, and one that fails costs no other."""

import re
from pathlib import Path

import pytest

from scanwise.serving.messages import FAULT, HelperProcess

TOGETHER = """
import sys, time
from scanwise.serving.messages import JointHandler, answer_questions
def answer(header, contents):
    if header["kind"] == "wait": time.sleep(0.5)
    if contents == [b"bad"]: raise KeyError("Mustermann")
    return {"count": 1}, contents
def together(questions):
    if any(contents == [b"worse"] for _, contents in questions): raise ValueError("Mustermann")
    return [({"count": len(questions)}, contents) for _, contents in questions]
answer_questions(answer, 1, JointHandler(lambda question: question[0]["kind"] == "join", together))
"""


def test_questions_that_wait_are_answered_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "answers_together.py").write_text(TOGETHER, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    process = HelperProcess("answers_together", 1)
    try:
        asked = [("wait", b"-"), *(("join", bytes([number])) for number in range(5)), ("other", b"-"), ("join", b"z")]
        answers = [process.ask({"kind": kind}, [content]) for kind, content in asked]
        counts = [answer.result(20)[0]["count"] for answer in answers]
        assert counts == [1, 5, 5, 5, 5, 5, 1, 1]
        assert [answer.result()[1] for answer in answers] == [[content] for _, content in asked]
        asked = [("wait", b"-"), ("join", b"a"), ("join", b"worse"), ("join", b"bad"), ("join", b"b")]
        answers = [process.ask({"kind": kind}, [content]) for kind, content in asked]
        headers = [answer.result(20)[0] for answer in answers]
        assert headers == [{"count": 1}, {"count": 1}, {"count": 1}, {FAULT: headers[3][FAULT]}, {"count": 1}]
        assert re.fullmatch(r"KeyError, \w+/answers_together\.py:6", headers[3][FAULT])
    finally:
        process.close()
