"""Images a second of every shipped recipe in training, over those of its bare step; beside a notebook's loop and timm.

    OMP_NUM_THREADS=1 python benchmarks/recipes.py [RECIPE …] [--rounds 3] [--batches 3] [--batch 8] [--fused] [--busy]
        [--data FOLDER] [--timm train.py]

Every stage of a recipe is trained by `training.train` with its own network (random weights), size, augmentation, loss and
optimiser on random pixels in the store. After each epoch the bare step, zero_grad, changes, forward, loss, backward, clip,
optimiser as torch makes it unasked, runs as often on one batch of tensors in memory: bytes of images, or of a stage on kept
features, their 16 bits. So both meet the same load of the machine; the figure is the median of the rounds' ratios. Training
itself has the fused optimiser on a CPU: `--fused` gives it to the bare step as well. The bar is 0.95; exit code 1 where one
is missed. `--batch` caps the batch, for machines that have not the memory or the patience.

With `--data`, a folder `{train,test}/CLASS/*.jpg` (default $SCANWISE_SHARED/data/alzheimer), each recipe that reads images
alone also meets the usual notebook: PIL decodes and torchvision changes every scan in every epoch, one by one, and a frozen
backbone is computed every time. `backbone` meets timm too, at the same model, size, batch and augmentation (zoom, flip):
its own train script where `--timm` names that file (it is in timm's repository, not in its wheel), else timm's own loader and
transforms with a bare step.
"""

import argparse
import logging
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms

from scanwise import recipe as recipes
from scanwise.cohort import store as stores
from scanwise.cohort.store import Store
from scanwise.models import Network, build_network
from scanwise.recipe import Recipe, TrainingStage
from scanwise.run import Fit
from scanwise.training import train_network
from scanwise.training.augment import augment_batch
from scanwise.training.losses import LOSSES
from scanwise.training.mixing import mix_batch
from scanwise.training.module import channels_first
from scanwise.training.schedules import build_optimizer
from scanwise.training.stages import apply_freezing, find_network_parts, parameter_groups, stages_of

SHARED = Path(os.environ.get("SCANWISE_SHARED") or Path(__file__).parents[2] / "shared")
CLASSES = 4
BAR = 0.95
ZOOM_AND_FLIP = ["train.augment={scale: 0.1, probability: 1, flip: true}"]  # what timm's transforms and ours both know


@dataclass(frozen=True)
class Case:
    """One stage of a recipe, to be timed."""

    name: str
    made: Recipe
    stage: TrainingStage

    @property
    def cached(self) -> bool:
        return self.stage.is_cached


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", default=list(recipes.shipped_recipes()))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, default=3, help="of an epoch, at least")
    parser.add_argument(
        "--seconds", type=float, default=3, help="that an epoch of the bare step lasts, at 60 batches at most"
    )
    parser.add_argument("--batch", type=int, default=10**6, help="the most scans in a batch")
    parser.add_argument("--data", type=Path, default=SHARED / "data" / "alzheimer")
    parser.add_argument("--timm", type=Path, help="timm's train.py")
    parser.add_argument("--busy", action="store_true", help="count CPU time, where others use the machine too")
    parser.add_argument("--fused", action="store_true", help="give the bare step the fused optimiser that training has")
    options = parser.parse_args()
    Bare.fused = options.fused or None
    if options.busy:
        time.perf_counter = time.process_time  # of the training's own clock as well
    logging.getLogger("lightning").setLevel(logging.ERROR)
    load = os.getloadavg()[0]
    clock = "CPU time" if options.busy else "wall time"
    print(f"{torch.get_num_threads()} thread(s) of {os.cpu_count()} cores, load {load:.1f} at the start, {clock}\n")
    missed = False
    for name in options.recipes:
        for case in cases(name, options.batch):
            batches = enough(case, options.batches, options.seconds)
            rates = versus_bare(case, batches, options.rounds)
            ratio = statistics.median(ours / bare for ours, bare in rates)
            missed |= ratio < BAR
            print(f"{case.name}  {case.made.data.size} px, {batches} batches of {case.made.train.batch}")
            row("training", f"{statistics.median(ours for ours, _ in rates):9.2f} images/s")
            row("bare step", f"{statistics.median(bare for _, bare in rates):9.2f} images/s")
            row("training / bare step", f"{ratio:9.3f}  {'missed' if ratio < BAR else 'met'}")
            if options.data.is_dir() and not case.made.model.reads_words:
                beside_notebook(case, options.data, options.batches, options.rounds)
            if name == "backbone" and options.data.is_dir():
                beside_timm(options.data, options.batches, options.batch, options.rounds, options.timm)
            print(flush=True)
    return int(missed)


def cases(name: str, most: int) -> list[Case]:
    """The stages of a recipe, each alone, that differ in what they cost."""
    made = recipes.load_recipe(name, ["model.weights=none", "rivals.names=[majority]"])
    found = []
    for index, stage in enumerate(stages_of(made.train)):
        kept = min(stage.views, 1)
        told = (
            f"{name}, stage {index + 1} ({'features' if stage.is_cached else 'pixels'})" if made.train.stages else name
        )
        found.append(Case(told, smaller(made, most), stage.model_copy(update={"views": kept, "schedule": None})))
    return found


def smaller(made: Recipe, most: int) -> Recipe:
    section = made.train.model_dump() | {"batch": min(made.train.batch, most), "patience": 0, "checkpoint_every": 0}
    return Recipe.model_validate(made.model_dump() | {"train": section})


def lasting(case: Case, epochs: int) -> Recipe:
    """The recipe of a case, whose one stage has that many epochs."""
    section = case.made.train.model_dump() | {"epochs": epochs}
    if case.made.train.stages:
        section["stages"] = [case.stage.model_dump() | {"epochs": epochs}]
    return Recipe.model_validate(case.made.model_dump() | {"train": section})


def enough(case: Case, least: int, seconds: float) -> int:
    """Batches of an epoch long enough that what begins and ends it is as small as in a real one."""
    bare = Bare(case, *blank(case.made, case.made.train.batch))
    bare(1)
    spent = case.made.train.batch / bare(1)
    return max(least, min(60, int(seconds / spent)))


def versus_bare(case: Case, batches: int, rounds: int) -> list[tuple[float, float]]:
    """(training, bare step) images a second, a pair a round; the first epoch warms up."""
    data, batch = case.made.data, case.made.train.batch
    count = batches * batch
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (count + 8, data.size, data.size, data.channels), np.uint8)
    labels = np.arange(len(pixels)) % CLASSES
    names = np.array([f"{row:05d}" for row in range(len(pixels))])
    tokens = random.integers(4, 60, (len(pixels), case.made.model.text.length)) if case.made.model.reads_words else None
    store = Store(pixels, np.arange(len(pixels)), names, names)
    bare = Bare(case, pixels[:batch], labels[:batch], None if tokens is None else tokens[:batch])
    with tempfile.TemporaryDirectory() as folder:
        place, rates = Fit(Path(folder), "honest", 0), []

        def measure() -> None:
            rates.append((last_rate(place), bare(batches)))

        sides = {"train": np.arange(count), "validation": np.arange(count, len(pixels))}
        made = lasting(case, rounds + 1)
        train_network(network_of(made), made, store, labels, sides, place, tokens=tokens, device="cpu", after=measure)
    return rates[1:]


def network_of(made: Recipe) -> Network:
    torch.manual_seed(0)
    return build_network(made.model, CLASSES, made.data.channels, pretrained=False)


def last_rate(place: Fit) -> float:
    names, *_, last = (line.split(",") for line in place.history.read_text().splitlines())
    return float(dict(zip(names, last, strict=True))["images_per_second"])


class Bare:
    """The step alone, on one batch in memory."""

    fused: bool | None = None

    def __init__(self, case: Case, pixels: np.ndarray, labels: np.ndarray, tokens: np.ndarray | None) -> None:
        self.case, self.section, made = case, case.made.train, case.made
        self.network = network_of(made).to(memory_format=torch.channels_last).train()
        parts = None
        if made.train.stages:
            parts = find_network_parts(self.network, made.data.channels, made.data.size)
            apply_freezing(self.network, parts, case.stage)
        told = self.section.optimizer
        groups = parameter_groups(self.network, parts, case.stage, told.lr)
        self.optimizer = build_optimizer(told, groups, told.lr, self.fused)
        self.images, self.labels = torch.from_numpy(pixels), torch.from_numpy(labels)
        self.tokens = None if tokens is None else torch.from_numpy(tokens)
        self.weights = torch.ones(CLASSES) if self.section.class_weights else None
        self.generator = torch.Generator()
        with torch.no_grad():
            self.maps = self.network.forward_features(channels_first(self.images)).half() if case.cached else None

    def __call__(self, batches: int) -> float:
        begun = time.perf_counter()
        for _ in range(batches):
            self.step()
        return batches * len(self.labels) / (time.perf_counter() - begun)

    def step(self) -> None:
        section = self.section
        self.optimizer.zero_grad()
        logits, others, share = self.answer()
        loss = self.loss(logits, self.labels)
        if share < 1:
            loss = share * loss + (1 - share) * self.loss(logits, others)
        loss.backward()
        if section.clip:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), section.clip)
        self.optimizer.step()

    def answer(self) -> tuple[Tensor, Tensor, float]:
        words = () if self.tokens is None else (self.tokens,)
        if self.maps is not None:
            return self.network.forward_head(self.maps.float(), tokens=self.tokens), self.labels, 1.0
        images = augment_batch(channels_first(self.images), self.section.augment, self.generator)
        if not (self.section.mixup or self.section.cutmix):
            return self.network(images, *words), self.labels, 1.0
        mixed = mix_batch(images, self.labels, self.section, self.generator)
        return self.network(mixed.images, *words), mixed.others, mixed.share

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return LOSSES[self.section.loss].function(logits, labels, self.weights, self.section.label_smoothing)


def beside_notebook(case: Case, data: Path, batches: int, rounds: int) -> None:
    """Epochs on real JPEGs, ours and the notebook's in turn; the first ones warm up."""
    made, count = case.made, batches * case.made.train.batch
    size, section = made.data.size, made.train.augment
    change = transforms.Compose(
        [
            transforms.Grayscale(made.data.channels),
            transforms.Resize((size, size)),
            transforms.RandomAffine(section.rotate, (section.shift,) * 2, (1 - section.scale, 1 + section.scale)),
            transforms.RandomHorizontalFlip(0.5 * section.flip),
            transforms.ToTensor(),
            transforms.Normalize(0.5, 0.5),
        ]
    )
    folder = datasets.ImageFolder(data / "train", change)
    chosen = np.random.default_rng(0).permutation(len(folder))[:count].tolist()
    loader = DataLoader(Subset(folder, chosen), made.train.batch, shuffle=True)
    bare = Bare(case, *blank(made))
    samples = [folder.samples[index] for index in chosen]
    tell("notebook's loop", on_files(case, data, samples, rounds, lambda: epoch_of(loader, bare)))


def tell(what: str, rates: list[tuple[float, float]]) -> None:
    row(what, f"{statistics.median(theirs for _, theirs in rates):9.2f} images/s")
    row(f"training / {what}", f"{statistics.median(ours / theirs for ours, theirs in rates):9.2f}")


def blank(made: Recipe, count: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    data = made.data
    tokens = np.ones((count, made.model.text.length), np.int64) if made.model.reads_words else None
    return np.zeros((count, data.size, data.size, data.channels), np.uint8), np.zeros(count, np.int64), tokens


def epoch_of(loader: Any, bare: Bare) -> float:
    """Images a second of an epoch of a plain loop, the whole network in each step."""
    begun, count = time.perf_counter(), 0
    for images, labels in loader:
        bare.optimizer.zero_grad()
        loss = bare.loss(bare.network(127.5 * (images + 1)), labels)
        loss.backward()
        bare.optimizer.step()
        loss.item()
        count += len(labels)
    return count / (time.perf_counter() - begun)


def on_files(
    case: Case, data: Path, samples: list[tuple[str, int]], rounds: int, theirs: Callable[[], float]
) -> list[tuple[float, float]]:
    """(ours, theirs) images a second of epochs on these files; that ours are decoded once is not in it."""
    paths = np.array([str(Path(path).relative_to(data)) for path, _ in samples])
    labels = np.array([label for _, label in samples])
    rates: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as cache:
        os.environ["SCANWISE_CACHE"] = cache
        store, _ = stores.build_store(data, paths, case.made.data)
        made, place = lasting(case, rounds + 1), Fit(Path(cache) / "fit", "honest", 0)
        rows = {"train": np.arange(len(labels)), "validation": np.arange(2)}

        def measure() -> None:
            rates.append((last_rate(place), theirs()))

        train_network(network_of(made), made, store, labels, rows, place, device="cpu", after=measure)
    return rates[1:]


def beside_timm(data: Path, batches: int, most: int, rounds: int, script: Path | None) -> None:
    """The recipe `backbone` with zoom and flip, by us and by timm."""
    made = smaller(recipes.load_recipe("backbone", ZOOM_AND_FLIP), most)
    case = Case("backbone", made, stages_of(made.train)[0])
    folder = datasets.ImageFolder(data / "train")
    chosen = np.random.default_rng(0).permutation(len(folder))[: batches * made.train.batch]
    samples = [folder.samples[index] for index in chosen]
    with tempfile.TemporaryDirectory() as files:
        place = linked(samples, Path(files))
        theirs = by_loader(case, place) if script is None else lambda: by_script(script, made, place)
        what = "timm's loader" if script is None else "timm's train script"
        tell(f"{what}, zoom and flip", on_files(case, data, samples, rounds, theirs))


def linked(samples: list[tuple[str, int]], folder: Path) -> Path:
    """A folder of classes with these files alone."""
    for index, (path, label) in enumerate(samples):
        place = folder / "train" / str(label) / f"{index}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(Path(path).resolve())
    return folder


def by_loader(case: Case, place: Path) -> Callable[[], float]:
    """timm's dataset, transforms and loader, in this process, before a bare step."""
    from timm.data import create_dataset, create_loader

    made = case.made
    loader = create_loader(
        create_dataset("", root=place, split="train"), (3, made.data.size, made.data.size), made.train.batch,
        is_training=True, scale=(0.8, 1.0), ratio=(1.0, 1.0), hflip=0.5, color_jitter=None, mean=(0.5,) * 3, std=(0.5,) * 3,
        num_workers=0, device=torch.device("cpu"), persistent_workers=False,
    )  # fmt: skip
    bare = Bare(case, *blank(made))
    return lambda: epoch_of(loader, bare)


def by_script(script: Path, made: Recipe, place: Path) -> float:
    """What timm's train.py says of its second epoch, the loading of images included."""
    told = [
        *(
            place,
            "--train-split",
            "train",
            "--val-split",
            "train",
            "--model",
            made.model.name,
            "--num-classes",
            CLASSES,
        ),
        *(
            "--img-size",
            made.data.size,
            "-b",
            made.train.batch,
            "--epochs",
            2,
            "--opt",
            "adamw",
            "--lr",
            3e-4,
            "--device",
            "cpu",
        ),
        *("--scale", 0.8, 1.0, "--ratio", 1.0, 1.0, "--hflip", 0.5, "--color-jitter", 0, "--workers", 0),
        *("--warmup-epochs", 0, "--log-interval", 1, "--output", place / "out"),
    ]
    done = subprocess.run([sys.executable, script, *map(str, told)], capture_output=True, text=True, check=True)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.lstrip().startswith("Train: 1 ")]
    return float(re.findall(r"\(\s*[\d.]+s?,\s*([\d.]+)/s\)", lines[-1])[0])


def row(what: str, value: str) -> None:
    print(f"  {what:<40}{value}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
