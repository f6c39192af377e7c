"""Start and end of a server: its socket, its model, and its last answers before it stops."""

import hashlib
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path

from scanwise import bundle
from scanwise.bundle.contents import ABOUT
from scanwise.bundle.golden import verify_golden_cases
from scanwise.errors import DataError, RunError
from scanwise.run import layout
from scanwise.serving.settings import ServerLimits, is_loopback, read_token

LOCAL = ("127.0.0.1", "localhost", "::1")


def serve_model(
    path: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token_file: Path | None = None,
    limits: ServerLimits | None = None,
    threads: int = 0,
    started: Callable[[str], None] = print,
) -> None:
    """Answer requests until SIGTERM or SIGINT; requests that were accepted are answered first.

    Args:
        path: an exported model, a run or a bundle.
        host: an address; any but this machine's own needs a token.
        port: 0 for any that is free.
        token_file: holds the token.
        limits: on requests.
        threads: requests answered at once; 0 for the number of cores.
        started: is given the address when the port is open.

    Raises:
        DataError: if the host is reached from elsewhere and there is no token, or the port is in use.
        RunError: if the packages of the server are not installed.
    """
    try:
        import uvicorn

        from scanwise.serving.application import ServedModel, build_application
    except ImportError as error:
        raise RunError("The server needs more packages: pip install 'scanwise[serve]'.") from error
    if not is_loopback(host) and token_file is None:
        raise DataError(
            f"{host} is reached from other machines. Give --token-file, a file with a token that they send."
        )
    token = "" if token_file is None else read_token(token_file)
    opened = _open_socket(host, port)
    try:
        loaded = bundle.load(path)
        cores = threads or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
        _one_core(loaded)
        hosts = tuple(dict.fromkeys((*LOCAL, host.lower())))
        served = ServedModel(
            loaded, _digest(path), _check_of(loaded, path), limits or ServerLimits(), hosts, token, cores
        )
        config = uvicorn.Config(
            build_application(served), log_config=None, access_log=False, server_header=False, proxy_headers=False,
            timeout_keep_alive=5, timeout_graceful_shutdown=int(served.limits.answer_seconds) + 1, h11_max_incomplete_event_size=16384,
            backlog=128, lifespan="on",
        )  # fmt: skip
        shown = f"[{host}]" if ":" in host else host
        logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
        started(f"http://{shown}:{opened.getsockname()[1]}")
        uvicorn.Server(config).run(sockets=[opened])
    finally:
        opened.close()


def _open_socket(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind((host, port))
        opened.listen(128)
    except OSError as error:
        opened.close()
        raise DataError(
            f"Cannot listen at {host}:{port}: {error.strerror}. Choose another --port, or end the program that uses it."
        ) from error
    return opened


def _one_core(loaded: bundle.Bundle) -> None:
    """One core a request: requests are answered beside each other."""
    if loaded.exported is not None:
        loaded.exported.cores = 1
        return
    import torch

    torch.set_num_threads(1)


def _folder(path: Path) -> Path:
    return path if (path / ABOUT).is_file() else path / layout.BUNDLE


def _digest(path: Path) -> str:
    return hashlib.sha256((_folder(path) / layout.CHECKSUMS).read_bytes()).hexdigest()


def _check_of(loaded: bundle.Bundle, path: Path) -> Callable[[], object]:
    """Golden cases of an exported model; a run was asked about a blank scan when it was opened."""
    if loaded.exported is None:
        return lambda: None
    return lambda: verify_golden_cases(_folder(path), loaded)
