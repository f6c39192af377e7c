"""Questions to a process of our own, and its answers: each is a header in JSON and some contents, framed by their lengths.

The process is a module of this package that calls `answer_questions`. Several questions are under way at once, and an answer
bears the number of its question. A process that ends fails the questions that it has not answered, and no others.
"""

import contextlib
import itertools
import json
import os
import struct
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from queue import SimpleQueue
from typing import IO, Any

from scanwise.errors import place_of

Header = dict[str, Any]
Message = tuple[Header, list[bytes]]
Handler = Callable[[Header, list[bytes]], Message]
_LENGTH = struct.Struct("<Q")
MOST_TOGETHER = 16
"""Questions that are answered together, at most."""
FAULT = "fault"
"""Key of an answer to a question over which the process failed; its value is the kind and place of the error, without its words."""


class ProcessEnded(Exception):  # noqa: N818 - it is what happened to the other side
    """The process ended before it answered."""


class HelperProcess:
    """A process that answers questions until it is closed.

    Args:
        module: is run in it.
        at_once: questions that it works on beside each other.
        environment: variables beside those of this process.
        ended: is called, in a thread, when it has ended.
    """

    def __init__(
        self,
        module: str,
        at_once: int,
        environment: Mapping[str, str] | None = None,
        ended: Callable[[], object] = lambda: None,
    ) -> None:
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-P", "-m", module, str(at_once)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, env={**os.environ, **(environment or {})}, start_new_session=True,
        )  # fmt: skip  # its session is its own, or a Ctrl-C would reach it before it has answered
        self._ended = ended
        self._numbers = itertools.count()
        self._waiting: dict[int, Future[Message]] = {}
        self._lock = threading.Lock()
        self._gone = False
        self._outgoing: SimpleQueue[tuple[Header, Sequence[bytes]] | None] = SimpleQueue()
        for target in (self._write, self._read):
            threading.Thread(target=target, daemon=True).start()

    @property
    def number(self) -> int:
        """Number of the process."""
        return self._process.pid

    @property
    def gone(self) -> bool:
        """Whether it has ended."""
        return self._gone

    def ask(self, header: Header, contents: Sequence[bytes] = ()) -> Future[Message]:
        """The answer to come; `ProcessEnded` where none will."""
        answer: Future[Message] = Future()
        answer.set_running_or_notify_cancel()
        with self._lock:
            if self._gone:
                answer.set_exception(ProcessEnded())
                return answer
            number = next(self._numbers)
            self._waiting[number] = answer
        self._outgoing.put(({**header, "number": number}, contents))
        return answer

    def kill(self) -> None:
        """End it now."""
        self._process.kill()

    def close(self, patience: float = 5.0) -> None:
        """End it when it has seen that nothing more comes, or at the latest after some seconds."""
        self._outgoing.put(None)
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _write(self) -> None:
        stream = self._process.stdin
        assert stream is not None  # noqa: S101 - it is a pipe
        with contextlib.suppress(OSError):
            while (message := self._outgoing.get()) is not None:
                write_message(stream, *message)
        with contextlib.suppress(OSError):
            stream.close()

    def _read(self) -> None:
        stream = self._process.stdout
        assert stream is not None  # noqa: S101 - it is a pipe
        with contextlib.suppress(EOFError, OSError, ValueError), stream:
            while True:
                header, contents = read_message(stream)
                with self._lock:
                    answer = self._waiting.pop(header.pop("number"), None)
                if answer is not None:
                    answer.set_result((header, contents))
        self._process.kill()
        self._process.wait()
        with self._lock:
            self._gone = True
            lost, self._waiting = list(self._waiting.values()), {}
        for answer in lost:
            answer.set_exception(ProcessEnded())
        self._outgoing.put(None)
        self._ended()


def write_message(stream: IO[bytes], header: Header, contents: Sequence[bytes] = ()) -> None:
    """Write one message."""
    head = json.dumps({**header, "sizes": [len(content) for content in contents]}).encode()
    stream.write(_LENGTH.pack(len(head)) + head)
    for content in contents:
        stream.write(content)
    stream.flush()


def read_message(stream: IO[bytes]) -> Message:
    """Read one message.

    Raises:
        EOFError: if nothing more comes.
    """
    header = json.loads(_read_exactly(stream, _LENGTH.unpack(_read_exactly(stream, _LENGTH.size))[0]))
    return header, [_read_exactly(stream, size) for size in header.pop("sizes")]


def _read_exactly(stream: IO[bytes], size: int) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise EOFError
    return content


@dataclass(frozen=True, slots=True)
class JointHandler:
    """An answer to several questions at once, which costs less than to each alone.

    Attributes:
        takes: whether a question may be answered with others.
        answer: all of them, an answer each; where it fails, each is answered alone.
    """

    takes: Callable[[Message], bool]
    answer: Callable[[list[Message]], list[Message]]


class _WaitingQuestions:
    """Questions that nobody works on yet."""

    def __init__(self, at_once: int, joint: JointHandler | None) -> None:
        self._at_once, self._joint = at_once, joint
        self._questions: deque[Message] = deque()
        self._some = threading.Condition()

    def add(self, question: Message) -> None:
        """One more."""
        with self._some:
            self._questions.append(question)
            self._some.notify()

    def take(self) -> list[Message]:
        """The next one, with its share of others that may be answered with it."""
        with self._some:
            self._some.wait_for(lambda: self._questions)
            taken = [self._questions.popleft()]
            takes = (lambda _: False) if self._joint is None else self._joint.takes
            most = min(MOST_TOGETHER, 1 + len(self._questions) // self._at_once)
            while len(taken) < most and takes(taken[0]) and self._questions and takes(self._questions[0]):
                taken.append(self._questions.popleft())
            return taken


def answer_questions(answer: Handler, at_once: int, joint: JointHandler | None = None) -> None:
    """Answer what comes from standard input, some at once, until nothing more comes; then end the process.

    Nothing else is written to standard output, whatever a library prints.

    Args:
        answer: one question.
        at_once: threads that answer beside each other.
        joint: answers several that wait.
    """
    questions, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.close(silent)
    lock = threading.Lock()
    waiting = _WaitingQuestions(at_once, joint)

    def answer_some(taken: list[Message]) -> list[Message]:
        if joint is not None and len(taken) > 1:
            with contextlib.suppress(Exception):  # one of them may be at fault, and the others shall not suffer
                return joint.answer(taken)
        return [_answer_one(answer, *question) for question in taken]

    def work() -> None:
        while True:
            taken = waiting.take()
            numbers = [header.pop("number") for header, _ in taken]
            answered = zip(numbers, answer_some(taken), strict=True)
            with lock, contextlib.suppress(OSError):
                for number, (header, contents) in answered:
                    write_message(answers, {**header, "number": number}, contents)

    for _ in range(at_once):
        threading.Thread(target=work, daemon=True).start()
    with contextlib.suppress(EOFError, OSError):
        while True:
            waiting.add(read_message(questions))
    os._exit(0)  # without waiting for what nobody will read


def _answer_one(answer: Handler, header: Header, contents: list[bytes]) -> Message:
    try:
        return answer(header, contents)
    except Exception as error:  # noqa: BLE001 - the next question is another's; the words may be a user's
        return {FAULT: place_of(error)}, []
