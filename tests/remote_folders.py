"""Folders behind URLs: in memory, and on a web server of this machine."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec


@contextmanager
def in_memory(folder: Path, name: str) -> Iterator[str]:
    """The URL of a copy of a folder in memory."""
    memory = fsspec.filesystem("memory")
    for file in folder.rglob("*"):
        if file.is_file():
            memory.pipe(f"/{name}/{file.relative_to(folder).as_posix()}", file.read_bytes())
    yield f"memory://{name}"
    memory.rm(f"/{name}", recursive=True)


class QuietHandler(SimpleHTTPRequestHandler):
    """A web server of files that logs nothing."""

    def log_message(self, *words: Any) -> None:
        pass


class UnlistedHandler(QuietHandler):
    """One that lists no folder."""

    def list_directory(self, path: Any) -> None:
        self.send_error(403)


@contextmanager
def on_web_server(folder: Path, handler: Callable[..., SimpleHTTPRequestHandler] = QuietHandler) -> Iterator[str]:
    """The URL of a folder on a web server."""
    with web_server(partial(handler, directory=str(folder))) as url:
        yield url


@contextmanager
def web_server(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[str]:
    """The URL of a web server, without a slash at its end."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
