"""The command line in a process of its own, without paying for the imports each time.

One parent imports what commands need (torch takes seconds), and forks a child for each command. The child has its own arguments,
environment, folder and streams, and ends as `python -m scanwise` would. Run as a script, this file is that parent.
"""

import atexit
import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import stand_in_figures

WARM = (
    "scanwise.cli", "scanwise.pipeline.commands", "scanwise.training.trainer", "scanwise.reporting.report", "scanwise.bundle",
    "scanwise.auditing.copies", "scanwise.cohort.decoding.readers", "timm", "lightning",
)  # fmt: skip

_parent: "subprocess.Popen[str] | None" = None


def run_forked(*args: object, env: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    """`python -m scanwise ARGS…`, as a user's shell starts it, with `env` over the environment of the tests."""
    global _parent
    if _parent is None or _parent.poll() is not None:
        _parent = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        atexit.register(_parent.kill)
    assert _parent.stdin is not None
    assert _parent.stdout is not None
    command = [*map(str, args)]
    with tempfile.TemporaryDirectory() as folder:
        request = {"args": command, "env": dict(os.environ) | dict(env or {}), "cwd": str(Path.cwd()), "folder": folder}
        _parent.stdin.write(json.dumps(request) + "\n")
        _parent.stdin.flush()
        code = int(_parent.stdout.readline())
        out, err = ((Path(folder) / name).read_text(encoding="utf-8") for name in ("out", "err"))
    return subprocess.CompletedProcess(["scanwise", *command], code, out, err)


def _become(request: dict[str, Any]) -> None:
    """In the child: take the streams, the environment and the arguments of the request."""
    for name, stream in (("out", 1), ("err", 2)):
        file = os.open(Path(request["folder"]) / name, os.O_CREAT | os.O_WRONLY, 0o600)
        os.dup2(file, stream)
        os.close(file)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.argv = ["scanwise", *request["args"]]
    if death := os.environ.get("TESTS_DEATH"):
        sys.path.insert(0, str(Path(__file__).parent / "faults"))
        from dying import plant

        plant(death)


def _run() -> int:
    """The command's exit code; whatever gets out of it ends as Python ends."""
    from scanwise.cli import main

    try:
        main()
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else int(done.code is not None)
    except Exception:  # noqa: BLE001 - the child stands in for the interpreter, which prints what nobody caught
        traceback.print_exc()
        return 1
    return 0


def serve() -> None:
    """Fork a child for each line of standard input, and answer with its exit code."""
    from importlib import import_module

    for name in WARM:
        import_module(name)
    stand_in_figures.stand_in()
    for line in sys.stdin:
        child = os.fork()
        if not child:
            _become(json.loads(line))
            code = _run()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        _, status = os.waitpid(child, 0)
        sys.__stdout__.write(f"{os.waitstatus_to_exitcode(status)}\n")  # type: ignore[union-attr]
        sys.__stdout__.flush()  # type: ignore[union-attr]


if __name__ == "__main__":
    serve()
