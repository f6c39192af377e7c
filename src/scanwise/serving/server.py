"""Start and end of a server: its socket, its model, and its last answers before it stops."""

import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from scanwise.errors import DataError, RunError
from scanwise.serving.settings import ServerLimits, is_loopback, read_token

_ENDING = tuple(
    number for name in ("SIGINT", "SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)) is not None
)


def serve_model(
    path: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token_file: Path | None = None,
    limits: ServerLimits | None = None,
    threads: int = 0,
    started: Callable[[str], None] = print,
) -> int:
    """Answer requests until SIGTERM or SIGINT; requests that were accepted are answered first.

    Args:
        path: an exported model, a run or a bundle.
        host: an address; any but this machine's own needs a token.
        port: 0 for any that is free.
        token_file: holds the token.
        limits: on requests.
        threads: requests answered at once; 0 for the number of cores.
        started: is given the address when the port is open.

    Returns:
        number of jobs that had no answer yet.

    Raises:
        ScanwiseError: if the model cannot be opened.
        DataError: if the host is reached from elsewhere and there is no token, or the port is in use.
        RunError: if the packages of the server are not installed.
    """
    try:
        import uvicorn

        from scanwise.serving.application import build_application
        from scanwise.serving.connections import open_socket, server_config
        from scanwise.serving.guard import names_of
        from scanwise.serving.service import Service
        from scanwise.serving.supervision import SupervisedModel
    except ImportError as error:
        raise RunError("The server needs more packages: pip install 'scanwise[serve]'.") from error
    if not is_loopback(host) and token_file is None:
        raise DataError(
            f"{host} is reached from other machines. Give --token-file, a file with a token that they send."
        )

    class Server(uvicorn.Server):
        """A server that a signal ends as any other end: what was accepted is answered."""

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            """Until the end of the block signals ask for the end."""
            before = {number: signal.signal(number, self.handle_exit) for number in _ENDING}
            try:
                yield
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)

    token = "" if token_file is None else read_token(token_file)
    limits = limits or ServerLimits()
    with open_socket(host, port) as opened, tempfile.TemporaryDirectory(prefix="scanwise-serve-") as folder:
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{opened.getsockname()[1]}"
        model = SupervisedModel(
            path, limits.decoding_memory, 1 + (threads or _cores()), Path(folder)
        )  # one more for jobs
        service = Service(model, limits, names_of(host), token, lambda: started(address), folder=Path(folder))
        try:
            Server(server_config(build_application(service), limits.answer_seconds)).run(sockets=[opened])
        except SystemExit:  # uvicorn's word for a model that cannot be opened
            if service.refusal is None:
                raise
        if service.refusal is not None:
            raise service.refusal
    return service.lost


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
