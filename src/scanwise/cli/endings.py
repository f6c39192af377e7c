"""The end of a command: one line that says why, and an exit code.

0 success   1 something leaks   2 bad input, or no room   3 not judged   70 a fault of scanwise
130 SIGINT (Ctrl-C)   141 the reader of its output has gone   143 SIGTERM, and SIGHUP alike
"""

import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import click

from scanwise.cli.printing import say
from scanwise.errors import ScanwiseError, describe_os_error
from scanwise.redaction import without_secrets
from scanwise.run import processes

FAULT = 70
GONE = 141
KEPT = "What was finished is kept. Run the same command again; a fit goes on with --resume."
SIGNALS = tuple(number for name in ("SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)) is not None)


class StopRequest(BaseException):
    """A request of the system to end; blocks on the way out clean up, as on Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def stoppable() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into a `StopRequest` while the block runs; one that the caller ignores stays ignored."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:  # as `nohup` has it
                signal.signal(number, _stop)
    except ValueError:  # not in the main thread: signals are somebody else's
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def telling_if_stopped(kept: str) -> Iterator[None]:
    """Let a command that is stopped within the block say what is kept, in a sentence of its own."""
    try:
        yield
    except (StopRequest, KeyboardInterrupt) as stop:
        stop.add_note(kept)
        raise


def _stop(number: int, _: FrameType | None) -> NoReturn:
    for other in SIGNALS:  # a second one may not break off what cleans up
        signal.signal(other, signal.SIG_IGN)
    raise StopRequest(number)


def end(error: BaseException) -> NoReturn:
    """Say why a command ends, and end it with the exit code of that."""
    error = _stop_behind(error) or error
    match error:
        case SystemExit():
            raise error
        case ScanwiseError():
            _fail(str(error), error.exit_code)
        case click.exceptions.Exit():
            sys.exit(error.exit_code)
        case StopRequest() | KeyboardInterrupt() if processes() > 1:  # the one that started them all speaks
            sys.exit(128 + (signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM))
        case StopRequest():
            _fail(f"Ended by {signal.Signals(error.number).name}. {_kept(error)}", 128 + signal.SIGTERM)
        case KeyboardInterrupt() | click.Abort():
            _fail(f"Interrupted. {_kept(error)}", 128 + signal.SIGINT)
        case click.ClickException():
            _fail(_usage(error), error.exit_code)
        case BrokenPipeError():  # the reader, such as `head`, has seen enough
            sys.stdout = None
            sys.exit(GONE)
        case MemoryError() | RuntimeError() if _is_for_memory(error):
            _fail(
                "Out of memory. Close other programs, or use a machine with more; a fit needs less with a lower data.size "
                "or train.batch, and on a GPU --device cpu may have more.",
                2,
            )
        case RuntimeError() if "can't start new thread" in str(error):
            _fail("The system gives no more threads. Raise the limit of processes (ulimit -u), or lower --threads.", 2)
        case OSError() if reason := describe_os_error(error):
            where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
            _fail(f"{where}{reason} What was written before is whole.", 2)
        case _:
            _fail(
                f"{_one_line(error)} This is a fault of scanwise: please report it, with {_keep_traceback(error)}.",
                FAULT,
            )


def _kept(stop: BaseException) -> str:
    """Say what a command that was stopped has kept: in its own words, or in those of most."""
    return " ".join(getattr(stop, "__notes__", ())) or KEPT


def _stop_behind(error: BaseException | None) -> StopRequest | KeyboardInterrupt | None:
    """The signal that `error` came of: what it breaks off, such as a file that torch is writing, may fail on the way out."""
    while error is not None:
        if isinstance(error, StopRequest | KeyboardInterrupt):
            return error
        error = error.__cause__ or error.__context__
    return None


def _fail(message: str, code: int) -> NoReturn:
    say(without_secrets(message), lead="error: ", fg="red", bold=True, err=True)
    sys.exit(code)


def _is_for_memory(error: BaseException) -> bool:
    """Whether there was no memory, on a GPU or here; torch, which has errors of its own, may not be imported."""
    named = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
    return named or isinstance(error, MemoryError)


def _usage(error: click.ClickException) -> str:
    """The mistake in a command line, and where its options are explained."""
    context = getattr(error, "ctx", None)
    return error.format_message() + (f" See `{context.command_path} --help`." if context else "")


def _one_line(error: BaseException, most: int = 200) -> str:
    words = " ".join(str(error).split())
    return f"Unforeseen {type(error).__name__}: {words[:most]}{'…' * (len(words) > most)}".rstrip(" :.") + "."


def _keep_traceback(error: BaseException) -> str:
    """Write the traceback into a file of its own that its owner alone can read; in words, where it is."""
    text = without_secrets("".join(traceback.format_exception(error)))
    try:
        number, name = tempfile.mkstemp(prefix="scanwise-", suffix=".txt")
        with os.fdopen(number, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError:
        say(text, err=True)
        return "the traceback above"
    return f"the traceback in {name}"
