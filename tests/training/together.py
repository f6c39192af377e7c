"""Train the toy in several processes at once; `test_processes.py` runs this as a program.

    python together.py FOLDER two|three

Torch is loaded once, and the program forks: two processes train one case after the other in FOLDER/two, or three of them
a brief one in FOLDER/three.
"""

import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import torch
import toy

from scanwise.recipe import Recipe

# Layer norm instead of batch norm: what a scan becomes does not depend on those beside it.
PLAIN = {"name": "test_vit", "options": {"img_size": 16, "patch_size": 4}}
LEARNT = {"epochs": 3, "batch": 16, "optimizer": {"name": "sgd", "lr": 0.02}, "schedule": {}}
STAGES = [{"epochs": 2, "freeze": "backbone", "lr": 1e-2, "views": 2}, {"epochs": 1, "freeze": "backbone", "views": 0}]

CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": (PLAIN, LEARNT | {"class_weights": False, "label_smoothing": 0.05}),
    "weighed": (PLAIN, LEARNT | {"class_weights": True, "accumulate": 2, "sampling": "classes", "ema": 0.9}),
    "focal": (PLAIN, LEARNT | {"loss": "focal", "class_weights": True, "sampling": "classes_and_subjects"}),
    "ordinal": (PLAIN | {"ordinal": True}, LEARNT | {"loss": "corn", "label_smoothing": 0.0}),
    "resumed": (PLAIN, LEARNT | {"sampling": "subjects", "accumulate": 2}),
    "brief": (PLAIN, LEARNT | {"class_weights": True, "epochs": 1}),
    "mixed": (PLAIN, LEARNT | {"mixup": 0.4, "cutmix": 0.4}),
    "cached": ({"name": "small"}, LEARNT | {"stages": STAGES, "epochs": 3}),
    "smote": ({"name": "small"}, LEARNT | {"stages": STAGES[:1], "epochs": 2, "sampling": "smote"}),
    "normed": ({"name": "small"}, LEARNT | {"checkpoint_every": 2, "patience": 2}),
}
ROWS = {"train": toy.ROWS["train"][:34], "validation": toy.ROWS["validation"][:29]}  # no batch, no side goes round
SUBJECTS = toy.np.array([f"s{row // 4}" for row in range(len(toy.LABELS))])
LABELS = toy.np.where(toy.np.arange(len(toy.LABELS)) % 5 == 4, 0, toy.LABELS)  # unlike shares of the classes


def train(folder: Path, case: str, **changed: Any) -> None:
    model, section = CASES[case]
    section = section | changed
    made = Recipe.model_validate(
        {"name": "toy", "seed": 3, "data": {"size": toy.SIDE}, "model": model} | {"train": toy.TRAIN | section}
    )
    toy.training.train_network(
        toy.network(made), made, toy.store(), LABELS, ROWS, toy.place(folder / case), subjects=SUBJECTS, device="cpu"
    )


def fork(rank: int, size: int, port: int, folder: Path, cases: list[str]) -> int:
    """Start one of the processes, with the environment that torchrun gives; returns its id."""
    pid = os.fork()
    if pid:
        return pid
    about = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in about.items()})
    try:
        torch.set_num_threads(1)
        for case in cases:
            if case == "resumed":
                train(folder, case, epochs=1)
                toy.place(folder / case).model.unlink(missing_ok=True)
            train(folder, case)
        os._exit(0)
    finally:
        os._exit(3)


def run(folder: Path, size: int, cases: list[str]) -> bool:
    """Whether all processes came through; when one does not, the others are ended."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    left = {fork(rank, size, port, folder, cases) for rank in range(size)}
    well = True
    while left:
        pid, status = os.wait()
        left.discard(pid)
        if status and well:
            well = False
            for other in left:
                os.kill(other, signal.SIGKILL)
    return well


if __name__ == "__main__":
    place, many = Path(sys.argv[1]), sys.argv[2]
    long = [case for case in CASES if case != "brief"]
    sys.exit(not (run(place / many, 2, long) if many == "two" else run(place / many, 3, ["brief"])))
