"""Images a second of `training.train`, over those of the bare step, and beside a notebook's loop.

    OMP_NUM_THREADS=1 python benchmarks/training_throughput.py [--rounds 4] [--data FOLDER]

The bare step is zero_grad, forward, cross-entropy, backward and optimiser step on one batch that lies in memory: the same
network, batch and optimiser, but as torch makes it unasked, where training has the fused one on a CPU. Against it stand whole training epochs (the store's read, the order, Lightning, history);
validation and checkpoints have lines of their own. Each side in turn, round after round in one process, so that another
program's load meets all alike; the figure is the median of the rounds' ratios. `--data` is a folder
`{train,test}/CLASS/*.jpg` (default $SCANWISE_SHARED/data/alzheimer): the notebook's loop is torchvision's ImageFolder and
DataLoader, which decode and change each JPEG in each epoch.

Bars: 0.90 for alexnet-gray at 32, batch 128, and 0.97 for resnet18 at 128, batch 32. Exit code 1 where one is missed.
"""

import argparse
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms

from scanwise import recipe as recipes
from scanwise.cohort import store as stores
from scanwise.cohort.store import Store
from scanwise.models import build_network
from scanwise.run import Fit
from scanwise.training import train_network
from scanwise.training.augment import augment_batch
from scanwise.training.module import channels_first
from scanwise.training.schedules import build_optimizer

SHARED = Path(os.environ.get("SCANWISE_SHARED") or Path(__file__).parents[2] / "shared")
CASES = {  # batches of an epoch, bar, and the recipe
    "alexnet-gray@32, batch 128": (3, 0.90, recipes.load_recipe("alexnet-gray")),
    "resnet18@128, batch 32": (
        4,
        0.97,
        recipes.load_recipe(
            "alexnet-gray", ["data.size=128", "model.name=resnet18", "model.dropout=0", "train.batch=32"]
        ),
    ),
}
CLASSES = 4
NOTEBOOK_BATCHES = 3
Rates = dict[str, list[float]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--data", type=Path, default=SHARED / "data" / "alzheimer")
    options = parser.parse_args()
    logging.getLogger("lightning").setLevel(logging.ERROR)
    load = os.getloadavg()[0]
    print(f"{torch.get_num_threads()} thread(s) of {os.cpu_count()} cores, load {load:.1f} at the start\n")
    missed = False
    for name, (batches, bar, made) in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            missed |= compare(name, batches, bar, made, options.rounds, Path(folder))
    if options.data.is_dir():
        notebook(options.data, max(2, options.rounds // 2))
    else:
        print(f"No scans at {options.data}: the notebook's loop is left out.")
    return int(missed)


def compare(name: str, batches: int, bar: float, made: recipes.Recipe, rounds: int, folder: Path) -> bool:
    """One network: bare step, bare step with augmentation, and training; True where the bar is missed."""
    count, batch, size = batches * made.train.batch, made.train.batch, made.data.size
    draws = np.random.default_rng(0)
    pixels = np.memmap(folder / "pixels.u8", np.uint8, "w+", shape=(count + 2 * batch, size, size, 1))
    pixels[:] = draws.integers(0, 256, pixels.shape, np.uint8)
    names = np.arange(len(pixels)).astype(str)
    store, labels = Store(pixels, np.arange(len(pixels)), names, names), draws.integers(0, CLASSES, len(pixels))
    plain = changed(made, augment={"shift": 0, "scale": 0, "rotate": 0})
    sides: dict[str, Callable[[int], float]] = {
        "bare step": Bare(plain, store, labels),
        "bare step, augmented": Bare(made, store, labels),
    }
    rows = {"train": np.arange(count), "validation": np.arange(count, len(pixels))}
    trained = sides["training"] = Training(made, store, labels, rows, folder)
    rates: Rates = {side: [] for side in sides}
    for turn in range(rounds + 1):
        for side, work in sides.items():
            rate = work(batches)
            if turn:  # the first warms up
                rates[side].append(rate)
    print(f"{name} ({rounds} rounds of {batches} batches)")
    for side, found in rates.items():
        row(side, f"{statistics.median(found):8.1f} images/s")
    ratio = paired(rates["training"], rates["bare step, augmented"])
    row("training / bare step, both augmented", f"{ratio:8.3f}  bar {bar:.2f}  {'missed' if ratio < bar else 'met'}")
    row("training augmented / bare step not", f"{paired(rates['training'], rates['bare step']):8.3f}")
    row("validation, a scan", f"{1e3 * statistics.median(trained.validation) / (2 * batch):8.2f} ms")
    row("checkpoints, an epoch", f"{1e3 * statistics.median(trained.checkpoint):8.1f} ms")
    row("reading a scan from the store", f"{1e3 * reading(store, batch):8.4f} ms")
    print()
    return ratio < bar


class Bare:
    """The step alone, on one batch in memory."""

    def __init__(self, made: recipes.Recipe, store: Store, labels: np.ndarray) -> None:
        batch = np.arange(made.train.batch)
        self.section = made.train
        self.network = build_network(made.model, CLASSES, 1).to(memory_format=torch.channels_last).train()
        told = made.train.optimizer
        self.optimizer = build_optimizer(told, self.network.parameters(), told.lr)
        self.images, self.labels = torch.from_numpy(store.read(batch)), torch.from_numpy(labels[batch])
        self.generator = torch.Generator()

    def __call__(self, batches: int) -> float:
        begun = time.perf_counter()
        for _ in range(batches):
            self.optimizer.zero_grad()
            images = augment_batch(channels_first(self.images), self.section.augment, self.generator)
            cross_entropy(self.network(images), self.labels).backward()
            self.optimizer.step()
        return batches * len(self.labels) / (time.perf_counter() - begun)


class Training:
    """One more epoch of `training.train`, resumed from its checkpoint: nothing of that is in the epoch's time."""

    def __init__(
        self, made: recipes.Recipe, store: Store, labels: np.ndarray, rows: dict[str, np.ndarray], folder: Path
    ) -> None:
        self.made, self.store, self.labels, self.rows = made, store, labels, rows
        self.place, self.epochs = Fit(folder, "honest", 0), 0
        self.validation: list[float] = []
        self.checkpoint: list[float] = []

    def __call__(self, _: int) -> float:
        self.epochs += 1
        made = changed(self.made, epochs=self.epochs, patience=0, checkpoint_every=0)
        network = build_network(made.model, CLASSES, 1)
        outcome = train_network(network, made, self.store, self.labels, self.rows, self.place, device="cpu")
        names, *_, last = (line.split(",") for line in self.place.history.read_text().splitlines())
        row = dict(zip(names, map(float, last), strict=True))
        self.validation.append(row["validation_seconds"])
        self.checkpoint.append(outcome.checkpoint_seconds)
        return row["images_per_second"]


def notebook(data: Path, rounds: int) -> None:
    """The loop of the usual notebook on real JPEGs, and ours on the same files, with alexnet-gray."""
    made = recipes.load_recipe("alexnet-gray")
    section, size = made.train, made.data.size
    change = transforms.Compose(
        [
            transforms.Grayscale(),
            transforms.Resize((size, size)),
            transforms.RandomAffine(section.augment.rotate, (section.augment.shift,) * 2, (0.9, 1.1)),
            transforms.ToTensor(),
            transforms.Normalize(0.5, 0.5),
        ]
    )
    folder = datasets.ImageFolder(data / "train", change)
    chosen = np.random.default_rng(0).permutation(len(folder))[: NOTEBOOK_BATCHES * section.batch]
    paths = np.array([str(Path(folder.samples[i][0]).relative_to(data)) for i in chosen])
    labels = np.array([folder.samples[i][1] for i in chosen])
    with tempfile.TemporaryDirectory() as cache:
        os.environ["SCANWISE_CACHE"] = cache
        begun = time.perf_counter()
        store, _ = stores.build_store(data, paths, made.data)
        decoding = (time.perf_counter() - begun) / len(paths)
        rows = {"train": np.arange(len(labels)), "validation": np.arange(2)}
        ours = Training(made, store, labels, rows, Path(cache) / "fit")
        sides: dict[str, Callable[[int], float]] = {
            "notebook, num_workers=0": Notebook(made, Subset(folder, chosen.tolist()), 0),
            "notebook, num_workers=2": Notebook(made, Subset(folder, chosen.tolist()), 2),
            "scanwise": ours,
        }
        rates: Rates = {side: [] for side in sides}
        for turn in range(rounds + 1):
            for side, work in sides.items():
                rate = work(NOTEBOOK_BATCHES)
                if turn:
                    rates[side].append(rate)
    print(f"alexnet-gray@32 on {len(paths)} JPEGs of {data.name} ({rounds} rounds of an epoch)")
    for side, found in rates.items():
        row(side, f"{statistics.median(found):8.1f} images/s")
    for workers in (0, 2):
        ratio = paired(rates["scanwise"], rates[f"notebook, num_workers={workers}"])
        row(f"scanwise / notebook, num_workers={workers}", f"{ratio:8.2f}")
    row("decoding a scan into the store, once", f"{1e3 * decoding:8.2f} ms")


class Notebook:
    """Decode, change, normalise, one scan after the other, each epoch anew."""

    def __init__(self, made: recipes.Recipe, scans: "Subset[tuple[torch.Tensor, int]]", workers: int) -> None:
        self.loader = DataLoader(scans, made.train.batch, shuffle=True, num_workers=workers)
        self.body = build_network(made.model, CLASSES, 1).body.train()
        told = made.train.optimizer
        self.optimizer = build_optimizer(told, self.body.parameters(), told.lr)

    def __call__(self, _: int) -> float:
        begun, count = time.perf_counter(), 0
        for images, labels in self.loader:
            self.optimizer.zero_grad()
            loss = cross_entropy(self.body(images), labels)
            loss.backward()
            self.optimizer.step()
            loss.item()
            count += len(labels)
        return count / (time.perf_counter() - begun)


def changed(made: recipes.Recipe, **section: object) -> recipes.Recipe:
    """A recipe with another train section."""
    return recipes.Recipe.model_validate(made.model_dump() | {"train": made.train.model_dump() | section})


def reading(store: Store, batch: int, times: int = 50) -> float:
    """Seconds that one scan of a random batch takes."""
    draws = np.random.default_rng(1)
    begun = time.perf_counter()
    for _ in range(times):
        store.read(draws.integers(0, len(store), batch))
    return (time.perf_counter() - begun) / (times * batch)


def paired(ours: list[float], theirs: list[float]) -> float:
    """The median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def row(what: str, value: str) -> None:
    print(f"  {what:<40}{value}")


if __name__ == "__main__":
    sys.exit(main())
