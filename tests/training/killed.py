"""Train the toy in processes of their own that die by SIGKILL; `test_killed.py` runs this as a program.

    python killed.py FOLDER CASE…

Torch is loaded once and the process forks before each training, so that a death costs a second. For each list in
`DEATHS` one process after the other trains in the same folder until it kills itself at its moment, and the last goes on
to the end; in FOLDER/at random it dies by another's hand. Prints what became of each, as JSON.
"""

import itertools
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import toy

from scanwise.training import train_network
from scanwise.training.module import ClassifierModule

Moment = Callable[[], None]

PATIENT: dict[str, Any] = {"monitor": "loss", "checkpoint_every": 2}  # whose best epoch is each in turn
LONG: dict[str, Any] = {"epochs": 8, "optimizer": {"name": "sgd", "lr": 0.05}, "checkpoint_every": 5, "loss": "focal"}
STAGED: dict[str, Any] = {
    "epochs": 6,
    "stages": [
        {"epochs": 2, "freeze": "backbone", "lr": 1e-2, "views": 2},
        {"epochs": 2},
        {"epochs": 2, "freeze": "backbone", "top": 1, "layer_decay": 0.5},
    ],
    "ema": 0.9,
    "monitor": "loss",
}
IMPATIENT: dict[str, Any] = {
    "epochs": 30,
    "patience": 2,
    "optimizer": {"name": "adam", "lr": 0.05},
    "schedule": {"name": "constant"},
}


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before(owner: type, name: str, when: Callable[..., bool]) -> None:
    """Die where this method is called for the first time that `when` says so."""
    method = getattr(owner, name)

    def dying(*arguments: Any, **more: Any) -> Any:
        if when(*arguments):
            die()
        return method(*arguments, **more)

    setattr(owner, name, dying)


def step(epoch: int, batch: int) -> Moment:
    return lambda: before(
        ClassifierModule, "_loss_of_batch", lambda module, _, index: (module.epoch, index) == (epoch, batch)
    )


def validation(epoch: int) -> Moment:
    return lambda: before(ClassifierModule, "validation_step", lambda module, *_: module.epoch == epoch)


def half_written(name: str, which: int) -> Moment:
    """The n-th checkpoint of this name has half of its bytes on disk."""
    save, count = torch.save, itertools.count(1)

    def cut(value: Any, file: Any) -> None:
        save(value, file)
        if name in file.name and next(count) == which:
            file.truncate(file.tell() // 2)
            die()

    def plant() -> None:
        torch.save = cut

    return plant


def renamed(name: str, which: int, done: bool) -> Moment:
    """The n-th file of this name is about to get it, or has just got it."""
    replace, count = Path.replace, itertools.count(1)

    def dying(self: Path, target: Path) -> Path:
        here = Path(target).name == name and next(count) == which
        if here and not done:
            die()
        found = replace(self, target)
        if here:
            die()
        return found

    def plant() -> None:
        Path.replace = dying  # type: ignore[method-assign,assignment]

    return plant


# One death after the other, each in a process that goes on where the one before died.
DEATHS: dict[str, list[Moment]] = {
    "among batches": [
        step(0, 0),
        step(0, 3),
        validation(0),
        step(2, 2),
        step(2, 2),  # twice at one place
        step(3, 0),  # between two epochs
        validation(4),
    ],
    "among files": [
        half_written("best.ckpt", 1),
        renamed("best.ckpt", 1, done=True),
        half_written("last.ckpt", 1),
        renamed("last.ckpt", 1, done=False),
        renamed("last.ckpt", 1, done=True),  # the first epoch is safe, its row of history not yet written
        half_written("epoch_2.ckpt", 1),
        renamed("epoch_2.ckpt", 1, done=True),
        half_written("last.ckpt", 1),
        renamed("history.csv", 1, done=True),
        renamed("last.ckpt", 3, done=True),  # of the last epoch
        renamed("history.csv", 1, done=False),
        renamed("history.csv", 1, done=True),
        renamed("model.safetensors", 1, done=False),
    ],
}


STAGES: list[Moment] = [
    renamed("train_1.f16", 1, done=False),  # one view is kept, the other about to be
    renamed("validation_0.f16", 1, done=True),
    step(1, 2),  # in a stage on features
    renamed("last.ckpt", 1, done=True),  # of its last epoch: the next stage has not begun
    step(2, 3),
    renamed("best.ckpt", 1, done=True),  # of the new stage, while `last` is of the one before
    step(3, 0),
    renamed("last.ckpt", 2, done=False),
    step(4, 1),
]


def fork(work: Callable[[], object]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(3)
    return pid


def run(folder: Path, **section: Any) -> None:
    torch.set_num_threads(1)
    made = toy.recipe(**section)
    train_network(toy.network(made), made, toy.store(), toy.LABELS, toy.ROWS, toy.place(folder), device="cpu")


def end_of(pid: int) -> int:
    """0 for a process that ended well, -9 for one that was killed."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def die_and_go_on(folder: Path, moments: list[Moment], **section: Any) -> list[int]:
    def dying(moment: Moment) -> None:
        moment()
        run(folder, **section)

    ends = [end_of(fork(partial(dying, moment))) for moment in moments]
    return [*ends, end_of(fork(partial(run, folder, **section)))]


def die_at_random(folder: Path, **section: Any) -> list[int]:
    """Killed from outside until one comes through: at times of no plan, or as soon as a file is being written."""
    draws, ends = random.Random(0), [-9]  # noqa: S311
    while ends[-1] != 0:
        pid, longest = fork(partial(run, folder, **section)), 0.1 * 1.3 ** len(ends)
        until = time.monotonic() + draws.uniform(0.02, longest)
        to_file = draws.random() < 0.5
        while time.monotonic() < until or (to_file and is_alive(pid) and not list(folder.rglob("*.part"))):
            time.sleep(0.001)
        os.kill(pid, signal.SIGKILL)
        ends.append(end_of(pid))
    return ends[1:]


def is_alive(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


CASES: dict[str, Callable[[Path], list[int]]] = {
    **{name: partial(die_and_go_on, moments=moments, **PATIENT) for name, moments in DEATHS.items()},
    "at random": partial(die_at_random, **LONG),
    "impatient": partial(die_and_go_on, moments=[renamed("model.safetensors", 1, done=False)], **IMPATIENT),
    "staged": partial(die_and_go_on, moments=STAGES, **STAGED),
}


if __name__ == "__main__":
    place, names = Path(sys.argv[1]), sys.argv[2:]
    print(json.dumps({name: CASES[name](place / name) for name in names}))  # noqa: T201
