"""One bar for a whole job: it never goes back nor wraps, its time left is what was measured, and nobody need look."""

import io
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanwise import progress_bar
from scanwise.progress_bar import (
    LinesAboveBar,
    measure_step,
    plan_work,
    report_share,
    running_job,
    span_of_step,
    time_left,
    track,
    with_one_bar,
    work_step,
)


class Screen(io.StringIO):
    """A terminal, and the clock that the bar reads."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0

    @property
    def drawn(self) -> list[str]:
        return [line for line in re.split(r"[\r\n]", self.getvalue()) if "%" in line]

    @property
    def percents(self) -> list[int]:
        return [int(line.partition("%")[0]) for line in self.drawn]


@contextmanager
def looking() -> Iterator[Screen]:
    with pytest.MonkeyPatch.context() as patch:
        screen = Screen()
        patch.setattr(sys, "stderr", screen)
        patch.setattr(progress_bar.time, "monotonic", lambda: screen.now)
        yield screen


def train(screen: Screen, epochs: int, seconds: float, name: str = "training honest 0") -> list[str]:
    """A step of training; the time left after each epoch."""
    left = []
    with work_step(name):
        for epoch in range(epochs):
            for batch in range(4):
                report_share((epoch + batch / 4) / epochs, f"epoch {epoch + 1}/{epochs}")
                screen.now += seconds / 4
            report_share((epoch + 1) / epochs, f"epoch {epoch + 1}/{epochs}")
            measure_step()
            left.append(time_left())
    return left


def test_the_time_left_is_of_the_whole_job_and_known_after_the_first_epoch() -> None:
    with looking() as screen, running_job(shown=True):
        with work_step("reading"):
            screen.now += 30
        assert not time_left()
        plan_work({"training honest 0": 1000, "training honest 1": 1000, "report": 4})
        assert not time_left()
        left = train(screen, epochs=10, seconds=60)
        assert left[0] == "19 min left"  # 9 + 10 epochs of a minute, and 20 s of reports
        assert left[-1] == "10 min left"
        train(screen, 10, 30, "training honest 1")
        assert time_left() == "20 s left"
        with work_step("report"):
            screen.now += 20
    assert screen.percents == sorted(screen.percents)
    assert max(screen.percents) >= 95


def test_a_fit_that_goes_on_does_not_count_the_epochs_of_before() -> None:
    with looking() as screen, running_job(shown=False):
        plan_work({"training honest 0": 1000})
        with work_step("training honest 0"):
            report_share(0.8, "epoch 9/10")
            screen.now += 60
            report_share(0.9, "epoch 9/10")
            measure_step()
            assert time_left() == "60 s left"


def test_a_step_of_an_earlier_session_says_nothing_of_the_speed() -> None:
    with looking() as screen, running_job(shown=False):
        plan_work({"training honest 0": 1000, "training honest 1": 1000})
        with work_step("training honest 0"):
            screen.now += 0.01
        assert not time_left()


def test_members_are_spans_of_their_step() -> None:
    with looking() as screen, running_job(shown=False):
        plan_work({"training honest 0": 1000})
        with work_step("training honest 0"), span_of_step(0, 4):
            report_share(0.0, "epoch 1/2")
            screen.now += 60
            report_share(0.5, "epoch 1/2")
            measure_step()
            assert time_left() == "7 min left"  # an epoch of eight is done


def test_candidates_are_parts_of_one_bar() -> None:
    with looking() as screen, running_job(shown=True, parts=2):
        with running_job(shown=True):
            plan_work({"training honest 0": 100})
            assert train(screen, epochs=2, seconds=60)[0] == "3 min left"
        with running_job(shown=True):
            plan_work({"training honest 0": 100})
            assert train(screen, epochs=2, seconds=60)[0] == "60 s left"
    assert screen.percents == sorted(screen.percents)


@given(
    seconds=st.lists(st.floats(1, 1e5), min_size=4, max_size=4),
    epochs=st.integers(1, 5),
    parts=st.integers(1, 3),
    words=st.text("epoch 1/9\x1b\n", max_size=200),
)
def test_the_bar_never_goes_back_nor_leaves_its_line(seconds: list[float], epochs: int, parts: int, words: str) -> None:
    with looking() as screen, running_job(shown=True, parts=parts):
        for _ in range(parts):
            with running_job(shown=True):
                for _ in track(range(3), words, 3, shown=True):
                    screen.now += seconds[0]
                plan_work({"training a 0": 100, "prediction a 0": 10, "report": 1})
                train(screen, epochs, seconds[1], "training a 0")
                for step, spent in (("prediction a 0", seconds[2]), ("report", seconds[3])):
                    with work_step(step):
                        for _ in track(range(2), words, 2, shown=True):
                            screen.now += spent
    assert screen.drawn
    assert screen.percents == sorted(screen.percents)
    assert all(len(line) <= 79 and line.isprintable() for line in screen.drawn)


def test_where_nobody_looks_nothing_is_drawn() -> None:
    with looking() as screen, running_job(shown=False):
        plan_work({"training honest 0": 100})
        train(screen, 3, 10)
        list(track(range(5), "reading", 5, shown=False))
    assert not screen.getvalue()


def test_messages_stand_above_the_bar() -> None:
    with looking() as screen, running_job(shown=True):
        handler = LinesAboveBar()
        plan_work({"training honest 0": 100})
        train(screen, 2, 10)
        handler.emit(logging.LogRecord("scanwise", logging.INFO, "", 1, "resuming after epoch 2", (), None))
    lines = screen.getvalue().split("\n")
    assert lines[0].rpartition("\r")[2] == "resuming after epoch 2"
    assert not lines[-1].rpartition("\r")[2]  # the bar is gone at the end


def test_a_loop_without_a_job_has_a_bar_of_its_own() -> None:
    with looking() as screen:
        for _ in track(iter(range(4)), "predicting", 4, shown=True):
            screen.now += 1
    assert screen.percents == [25, 50, 75, 100]
    assert "predicting 4/4" in screen.drawn[-1]


def test_a_command_that_reads_and_computes_has_one_bar() -> None:
    @with_one_bar
    def judge(count: int, *, progress: bool = False) -> int:
        for words in ("decoding scans", "predicting"):
            for _ in track(range(count), words, count, progress):
                screen.now += 1
        return count

    with looking() as screen:
        assert judge(4, progress=True) == 4
        assert screen.percents == sorted(screen.percents)
        assert len(screen.percents) == 8
        assert screen.getvalue().endswith("\r")
        before = screen.getvalue()
        judge(4)
        assert screen.getvalue() == before
