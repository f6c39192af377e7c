"""One bar and one time left for a whole job, from the first scan that is read to the report.

A job opens with reading, of which nobody knows how long it takes, and then says what is to do: `plan`. From there the time
left is what was measured, such as the first epochs, and for the rest what is usual. The bar never goes back. Where nobody
looks (no terminal), all is counted and nothing is drawn.
"""

import logging
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import wraps
from textwrap import fill
from typing import ParamSpec, TypeVar

from scanwise.phrases import PlainLines, printable
from scanwise.run import spell_time

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")

SECONDS_A_UNIT = {
    "prediction": 0.004,
    "rivals": 0.002,
    "evaluation": 0.001,
    "explanation": 0.4,
    "report": 5.0,
    "evidence": 0.015,
    "checks": 0.005,
}
"""Usual seconds of a unit of work, by kind of step; how long training takes is not known before some of it was done."""
TITLES = {"reading": "reading", "rivals": "baselines", "explanation": "heatmaps", "evidence": "comparing scans"}
PREDICTION_OF_TRAINING = 1 / 3
"""Seconds to predict a scan, of those to train on it."""
SURE = 5.0
"""Seconds of training after which its speed counts as measured."""
DELAY, REDRAW = 0.5, 0.1
WIDTH, BAR = 79, 24


@dataclass(slots=True)
class _Part:
    """A part of a job that has steps of its own, such as the fit of one candidate."""

    started: float = field(default_factory=lambda: time.monotonic())
    units: dict[str, float] | None = None
    """Work of the steps to come; None before it is known."""
    pace: dict[str, float] = field(default_factory=dict)
    """Measured seconds a unit, by kind of step."""
    step: str = ""
    step_started: float = 0.0
    first: float | None = None
    done: float = 0.0
    """Share of the step at its first report and now."""

    def begin(self, step: str) -> None:
        self.step, self.step_started, self.first, self.done = step, time.monotonic(), None, 0.0


class JobProgress:
    """The state of a job and its bar.

    Args:
        shown: draw the bar on standard error.
        opening: share of the bar for what comes before the plan.
        parts: how many parts with a plan of their own follow each other.
    """

    def __init__(self, shown: bool, opening: float, parts: int) -> None:
        self.opening, self.parts, self.number = opening, parts, -1
        self.share = 0.0
        self.words = ""
        self.span = (0.0, 1.0)
        self._shown, self._drawn_at, self._drawn = shown, time.monotonic() + DELAY - REDRAW, False
        self.begin_part()

    def begin_part(self) -> None:
        self.number = min(self.number + 1, self.parts - 1)
        self.part = _Part()

    def seconds_left(self) -> float | None:
        """Seconds until the end; None where they are not known."""
        inner = self._left_of_part()
        if inner is None:
            return None
        whole = time.monotonic() - self.part.started + inner
        return inner + (self.parts - self.number - 1) * whole

    def refresh(self) -> None:
        """Move the bar, never back, and draw it if it is time."""
        if not self._shown or time.monotonic() - self._drawn_at < REDRAW:
            return
        inner = self._left_of_part()
        if inner is not None:
            spent = time.monotonic() - self.part.started
            self.reach(spent / max(spent + inner, 1e-9))
        self._drawn_at, self._drawn = time.monotonic(), True
        width = _columns()
        sys.stderr.write("\r" + self._line()[:width].ljust(width))
        sys.stderr.flush()

    def reach(self, share: float) -> None:
        """Move the bar to a share of this part."""
        self.share = max(self.share, (self.number + min(share, 1.0)) / self.parts)

    def clear(self) -> None:
        if self._drawn:
            self._drawn = False
            sys.stderr.write("\r" + " " * _columns() + "\r")
            sys.stderr.flush()

    def measure(self) -> None:
        """Keep the seconds a unit of the step that runs; a step that an earlier session did takes no time and tells nothing."""
        part = self.part
        spent, units = time.monotonic() - part.step_started, (part.units or {}).get(part.step, 0.0)
        share = part.done - part.first if part.first is not None else float(spent > DELAY)
        if units > 0 and share > 0:
            part.pace[_kind(part.step)] = spent / (units * share)

    def _left_of_part(self) -> float | None:
        part = self.part
        if part.units is None:
            return None
        rest = [self._left_of(step, units) for step, units in part.units.items()]
        sure = [seconds for seconds in rest if seconds is not None]
        return sum(sure) if len(sure) == len(rest) else None

    def _left_of(self, step: str, units: float) -> float | None:
        part, kind = self.part, _kind(step)
        spent = time.monotonic() - part.step_started if step == part.step else 0.0
        if spent and part.first is not None:
            new = part.done - part.first
            if new > 0 and (spent > SURE or kind in part.pace):
                return spent * (1 - part.done) / new
        pace = part.pace.get(kind)
        if pace is None and kind == "prediction" and "training" in part.pace:
            pace = PREDICTION_OF_TRAINING * part.pace["training"]
        if pace is None and units:
            pace = SECONDS_A_UNIT.get(kind)
        if units and pace is None:
            return None
        whole = units * (pace or 0.0)
        return max(whole - spent, spent / 10)

    def _line(self) -> str:
        left = self.seconds_left()
        full = int(BAR * self.share)
        kind = _kind(self.part.step)
        words = ", ".join(dict.fromkeys(filter(None, (TITLES.get(kind, kind), self.words))))
        time_left = "" if left is None else f"{spell_time(left)} left"
        return printable(f"{100 * self.share:3.0f} % [{'#' * full}{'.' * (BAR - full)}] {time_left:12}  {words}")


_JOB: ContextVar[JobProgress | None] = ContextVar("job", default=None)


@contextmanager
def running_job(shown: bool, *, opening: float = 0.1, parts: int = 1) -> Iterator[None]:
    """Open a job; inside another one, its next part.

    Args:
        shown: draw its bar.
        opening: share of the bar for what comes before the plan.
        parts: how many jobs inside this one follow each other.
    """
    if (outer := _JOB.get()) is not None:
        yield
        outer.reach(1.0)
        outer.begin_part()
        return
    job = JobProgress(shown, opening, parts)
    token = _JOB.set(job)
    try:
        yield
    finally:
        job.clear()
        _JOB.reset(token)


def with_one_bar(command: Callable[P, R]) -> Callable[P, R]:
    """Let all that a command reads and computes share one bar; it is drawn where the command is called with `progress`."""

    @wraps(command)
    def run(*args: P.args, **options: P.kwargs) -> R:
        with running_job(bool(options.get("progress")), opening=1.0):
            return command(*args, **options)

    return run


def usual_seconds_of(units: Mapping[str, float]) -> float:
    """Usual seconds of steps; of those that depend on the network, training and prediction, none."""
    return sum(
        count * SECONDS_A_UNIT.get(_kind(step), 0.0) for step, count in units.items() if _kind(step) != "prediction"
    )


def plan_work(units: Mapping[str, float]) -> None:
    """Say what is to do from here: the steps with their work, in units of their kind (the first word of the name)."""
    if (job := _JOB.get()) is not None:
        job.part.units = dict(units)


@contextmanager
def work_step(name: str) -> Iterator[None]:
    """Run a step of the job, which may be inside another; without a job, nothing is counted."""
    if (job := _JOB.get()) is None:
        yield
        return
    part, outer = job.part, job.part.step
    part.begin(name)
    job.words = ""
    job.refresh()
    yield
    job.measure()
    if part.units is not None:
        part.units.pop(name, None)
    part.begin(outer)


@contextmanager
def span_of_step(index: int, count: int) -> Iterator[None]:
    """Let what is reported inside count as one of several equal spans of the step, such as a member of an ensemble."""
    if (job := _JOB.get()) is None:
        yield
        return
    job.span = (index / count, 1 / count)
    yield
    job.span = (0.0, 1.0)


def report_share(share: float, words: str) -> None:
    """Report the share of the step, or of its span, that is done, and what is being done."""
    if (job := _JOB.get()) is None:
        return
    part, (low, width) = job.part, job.span
    part.done = low + width * share
    part.first = part.done if part.first is None else part.first
    job.words = words
    job.refresh()


def report_words(words: str) -> None:
    """Report what is being done."""
    if (job := _JOB.get()) is not None:
        job.words = words
        job.refresh()


def measure_step() -> None:
    """Take the speed of the step as measured: an epoch has passed."""
    if (job := _JOB.get()) is not None:
        job.measure()
        job.refresh()


def time_left() -> str:
    """The time left of the whole job in words; nothing where it is not known."""
    job = _JOB.get()
    left = None if job is None else job.seconds_left()
    return "" if left is None else f"{spell_time(left)} left"


def track(items: Iterable[T], words: str, total: int, shown: bool) -> Iterator[T]:
    """Pass items on and count them: in the bar of the job, or where there is none in a bar of their own.

    Args:
        items: to be passed on.
        words: what is done with them.
        total: their number.
        shown: draw a bar, where there is no job.
    """
    job = _JOB.get()
    own = job is None
    bar = JobProgress(shown, 1.0, 1) if job is None else job
    start = bar.share
    try:
        for count, item in enumerate(items, 1):
            yield item
            share = count / max(total, 1)
            if own:
                bar.reach(share)
            elif bar.part.units is None:  # nobody knows how many such loops there are: each takes half of what is left
                bar.share = max(
                    bar.share, start + (bar.opening / bar.parts + bar.number / bar.parts - start) * share / 2
                )
            elif _kind(bar.part.step) == "training":
                report_share(share, words)
            bar.words = f"{words} {count:,}/{total:,}"
            bar.refresh()
    finally:
        if own:
            bar.clear()
        bar.words = ""


class LinesAboveBar(logging.StreamHandler):  # type: ignore[type-arg]
    """Messages as plain lines above the bar, which is drawn again below them; on a terminal folded between words."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(PlainLines())

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if not self.stream.isatty():
            return text
        return fill(text, _columns(), break_long_words=False, break_on_hyphens=False, subsequent_indent="  ")

    def emit(self, record: logging.LogRecord) -> None:
        job = _JOB.get()
        if job is None:
            super().emit(record)
            return
        job.clear()
        super().emit(record)
        job.refresh()


def _columns() -> int:
    """Columns of a line that no terminal wraps."""
    return min(WIDTH, shutil.get_terminal_size().columns - 1)


def _kind(step: str) -> str:
    return step.partition(" ")[0]
