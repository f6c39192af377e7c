"""The process of a model that ends is noticed, said, and started again."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from scanwise.errors import RunError
from scanwise.serving import supervision
from scanwise.serving.problems import Problem
from scanwise.serving.supervision import Fault, SupervisedModel

MODEL = """
import os, sys, time
from pathlib import Path
from scanwise.serving.messages import answer_questions
def answer(header, contents):
    print("libraries may print")
    kind = header["kind"]
    if kind == "open":
        if header["path"].endswith("gone"): return {"refusal": "there is no model", "error": "RunError"}, []
        if header["path"].endswith("broken"): os._exit(3)
        return {"about": {"digest": "abc", "process": os.getpid(), "folder": os.environ["TMPDIR"]}}, []
    if kind == "check" and Path(header_path).joinpath("wrong").exists(): return {"problem": 422, "detail": "another answer"}, []
    if kind == "fault": raise KeyError("Mustermann")
    if kind == "stay": time.sleep(60)
    return {"echo": header["kind"]}, [content[::-1] for content in contents]
header_path = os.environ["OF_THE_TEST"]
answer_questions(answer, int(sys.argv[1]))
"""


@pytest.fixture
def supervised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run a test with a model whose process is a script."""
    (tmp_path / "model_of_the_test.py").write_text(MODEL, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("OF_THE_TEST", str(tmp_path))
    monkeypatch.setattr(supervision, "_MODULE", "model_of_the_test")

    def run(test: Callable[[SupervisedModel], Awaitable[None]], name: str = "model", started: bool = True) -> None:
        async def whole() -> None:
            model = SupervisedModel(tmp_path / name, 2**30, 2, tmp_path)
            try:
                if started:
                    await model.start()
                    await until(lambda: model.ready or (tmp_path / "wrong").exists())
                await test(model)
            finally:
                await model.close()

        asyncio.run(whole())

    return run


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.01)


def test_questions_get_their_answers(supervised: Callable[..., Any], tmp_path: Path) -> None:
    async def test(model: SupervisedModel) -> None:
        sent = [bytes([number]) * 300_000 for number in range(8)]
        answers = await asyncio.gather(*(model.ask({"kind": "echo"}, [content, b"ab"]) for content in sent))
        assert answers == [({"echo": "echo"}, [content, b"ba"]) for content in sent]
        assert model.about["folder"] == str(tmp_path)
        with pytest.raises(Fault, match=r"^KeyError, \S+model_of_the_test\.py:\d+$"):
            await model.ask({"kind": "fault"})

    supervised(test)


def test_a_process_that_is_killed_is_started_again(supervised: Callable[..., Any]) -> None:
    async def test(model: SupervisedModel) -> None:
        before = model.about["process"]
        under_way = asyncio.ensure_future(model.ask({"kind": "stay"}))
        await asyncio.sleep(0.05)
        os.kill(before, signal.SIGKILL)
        with pytest.raises(Problem) as caught:
            await under_way
        assert caught.value.status == 503
        await until(lambda: not model.ready)
        await until(lambda: model.ready)
        assert model.about["process"] != before
        assert model.restarts == 1
        assert (await model.ask({"kind": "echo"}))[0] == {"echo": "echo"}

    supervised(test)


@pytest.mark.extended
def test_a_process_that_ends_again_and_again_is_tried_again(
    supervised: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "LONGEST", 0.2)

    async def test(model: SupervisedModel) -> None:
        model._question["path"] += "broken"
        os.kill(model.about["process"], signal.SIGKILL)
        await until(lambda: model.restarts >= 3)
        assert not model.ready
        model._question["path"] = str(tmp_path)
        await until(lambda: model.ready)

    supervised(test)


def test_a_model_that_answers_otherwise_is_not_ready(
    supervised: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "wrong").touch()

    async def test(model: SupervisedModel) -> None:
        await until(lambda: "golden cases" in caplog.text)
        assert not model.ready

    supervised(test)


@pytest.mark.extended
@pytest.mark.parametrize(("name", "expected"), [("gone", "there is no model"), ("broken", "ended before it had")])
def test_a_model_that_cannot_be_opened_is_said(supervised: Callable[..., Any], name: str, expected: str) -> None:
    async def test(model: SupervisedModel) -> None:
        with pytest.raises(RunError, match=expected):
            await model.start()

    supervised(test, name, started=False)
