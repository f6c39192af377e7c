"""What a heatmap costs, whether it finds a planted truth, and how long the checks take.

    python benchmarks/explain.py cost     [--batch 16 --rounds 5]     Grad-CAM in forward passes; in an environment that has
                                                                      pytorch-grad-cam, beside it (it needs OpenCV: give it one
                                                                      of its own)
    python benchmarks/explain.py truth    [--network small --seed 11]     pointing game and AUPRC on the ventricles-only phantom,
                                                                      a recipe's network at 64 pixels (alexnet-gray 32)
    python benchmarks/explain.py checks   [--scans 200]               every check that needs no other training, on alexnet-gray

Times are the median of CPU time over interleaved rounds, on one thread unless OMP_NUM_THREADS says otherwise.
"""

import argparse
import importlib.util
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from scanwise import recipe
from scanwise.cohort import phantom
from scanwise.explanation import HeatmapExplainer, sanity, uncalibrated_probs
from scanwise.explanation.sanity import CheckedMaps
from scanwise.models import Network, build_network
from scanwise.models.vocabulary import Vocabulary


def cost(batch: int, rounds: int) -> None:
    """ResNet18 at 224: one forward pass, our Grad-CAM, Captum's, and pytorch-grad-cam's."""
    torch.manual_seed(0)
    network = build_network(recipe.Model(name="resnet18"), 4, 3).eval()
    images = torch.randint(0, 256, (batch, 3, 224, 224)).float()
    targets = torch.zeros(batch, 1, dtype=torch.int64)
    explainer = HeatmapExplainer.of(network, images[:1], method="grad_cam")
    jobs: dict[str, Callable[[], Any]] = {
        "forward": lambda: _forward(network, images),
        "scanwise": lambda: explainer(images, targets),
        "captum": _captum(network, images),
    }
    if importlib.util.find_spec("pytorch_grad_cam"):
        jobs["pytorch-grad-cam"] = _peer(network, images)
    spent: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(rounds + 1):
        for name, job in jobs.items():
            begun = time.process_time()
            job()
            if turn:  # the first round warms up
                spent[name].append(time.process_time() - begun)
    base = statistics.median(spent["forward"])
    for name, times in spent.items():
        ratios = [mine / other for mine, other in zip(times, spent["forward"], strict=True)]
        print(
            f"{name:18s} {statistics.median(times):.3f} s a batch of {batch}, {statistics.median(ratios):.3f} forward passes, "
            f"{batch / statistics.median(times):.1f} maps a CPU second"
        )
    print(f"forward pass {base:.3f} s")


@torch.no_grad()
def _forward(network: Network, images: torch.Tensor) -> None:
    network(images)


def _captum(network: Network, images: torch.Tensor) -> Callable[[], Any]:
    from captum.attr import LayerGradCam

    layer = LayerGradCam(network, network.get_submodule("body.layer4"))
    return lambda: layer.attribute(images, target=0, relu_attributions=True)


def _peer(network: Network, images: torch.Tensor) -> Callable[[], Any]:
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    cam = GradCAM(model=network, target_layers=[network.get_submodule("body.layer4")])
    wanted = [ClassifierOutputTarget(0)] * len(images)
    return lambda: cam(input_tensor=images, targets=wanted)


@dataclass(frozen=True)
class Kind:
    """A recipe's network at a size that two cores train in minutes.

    Attributes:
        model: its section of the recipe.
        epochs: of training.
        rate: of learning, where it is highest.
        side: pixels. channels: of the scans.
        weights: file of pretrained weights in `$SCANWISE_SHARED/weights`; none where the recipe's are not there.
    """

    model: dict[str, Any]
    epochs: int = 20
    rate: float = 5e-4
    side: int = 64
    channels: int = 3
    weights: str = ""


SAME = {"options": {"pad_type": "same"}}  # as the files of weights were made
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
VIT = {"img_size": 64, "patch_size": 8, "embed_dim": 96, "depth": 4, "num_heads": 3}
KINDS = {
    "small": Kind({"name": "small"}, rate=4e-3, channels=1),
    "alexnet-gray": Kind({"name": "alexnet", "dropout": 0.2}, side=32, channels=1),
    "efficientnet-uncertainty": Kind(
        {"name": "tf_efficientnet_lite0", "dropout": 0.3, "members": {"kind": "mc_dropout"}},
        24, 3e-3, weights="tf_efficientnet_lite0.pth",
    ),
    "efficientnet-members": Kind(
        {"name": "tf_efficientnet_lite0", "dropout": 0.3, "members": {"kind": "batch_ensemble", "layers": 1}},
        24, 3e-3, weights="tf_efficientnet_lite0.pth",
    ),
    "mobilenet-attention": Kind(
        {"name": "mobilenetv2_035", "attention": {"width": 64}, "hidden": [128], "dropout": 0.3, **SAME},
        12, 4e-3, weights="mobilenetv2_035.pth",
    ),
    "resnet50-two-stage": Kind({"name": "resnet14t", "hidden": [512], "dropout": 0.3, **IMAGENET}, 24),
    "stroke-hybrid": Kind(
        {
            "name": "hybrid", "hidden": [512], "dropout": 0.5,
            "hybrid": {
                "convolution": {"name": "mobilenetv2_035", **SAME},
                "transformer": {"name": "vit_tiny_patch16_224", "options": VIT},
            },
        },
        weights="mobilenetv2_035.pth",
    ),
    "fashion-fusion": Kind(
        {
            "name": "fusion", "hidden": [256], "dropout": 0.3,
            "text": {"words": 256, "length": 12, "layers": 1}, "fusion": {"image": {"name": "mobilenetv2_035", **SAME}},
        },
        weights="mobilenetv2_035.pth",
    ),
}  # fmt: skip


def truth(name: str, methods: Sequence[str], people: int, seed: int, epochs: int | None, kept: Path | None) -> None:
    """A recipe's network, trained on the ventricles-only phantom at its size, against what was planted."""
    kind = KINDS[name]
    epochs = kind.epochs if epochs is None else epochs
    pixels, mask, labels, largest = _cohort(people, seed)
    scans = np.repeat(_sized(pixels, kind.side)[..., None], kind.channels, axis=3)
    planted = _sized(mask.astype(np.uint8) * 255, kind.side) > 127
    cut = len(labels) // people * (people * 5 // 7)
    section = _section(kind)
    tokens = _titles(section, len(scans), seed) if section.reads_words else None
    torch.manual_seed(seed)
    network, begun = build_network(section, 3, kind.channels).eval(), time.process_time()
    file = None if kept is None else kept / f"{name}-{seed}-{epochs}.pth"
    if file is not None and file.exists():
        network.load_state_dict(torch.load(file))
    else:
        _train(network, scans[:cut], labels[:cut], None if tokens is None else tokens[:cut], epochs, kind.rate)
    if file is not None:
        torch.save(network.state_dict(), file)
    spent = time.process_time() - begun
    test = np.arange(cut, len(scans))[::2]
    words = {} if tokens is None else {"tokens": tokens[test]}
    right = (uncalibrated_probs(network, scans[test], **words).argmax(axis=1) == labels[test]).mean()
    print(
        f"{name}, seed {seed}, {epochs} epochs, {kind.side} pixels, mask at most {100 * largest:.1f} % of the head, "
        f"accuracy {right:.3f}, trained in {spent:.0f} s of CPU",
        flush=True,
    )
    for method in methods:
        found = sanity.check_planted_truth(CheckedMaps.of(network, scans[test], method=method, **words), planted[test])
        print(f"{method}: {found.message} {'reached' if found.passed else 'NOT reached'}", flush=True)


@cache
def _cohort(people: int, seed: int) -> tuple[Any, Any, Any, float]:
    """(N, 96, 96) scans, where their signal is, (N,) labels, and the largest share of a head that the signal takes."""
    made = phantom.Phantom(subjects=people, slices=4, size=96, stages=("a", "b", "c"), signal="ventricles", seed=seed)
    persons = phantom.people(made)
    drawn = [phantom.draw_brain(made, person) for person in persons]
    pixels, head, mask = (np.concatenate([getattr(one, part) for one in drawn]) for part in ("pixels", "head", "masks"))
    largest = float(((mask & head).sum((1, 2)) / head.sum((1, 2))).max())
    return pixels, mask, np.repeat([person.label for person in persons], made.slices), largest


def _section(kind: Kind) -> recipe.Model:
    """The section of the recipe, with its file of weights: of fusion for the image, of the hybrid for its convolution."""
    shared = Path(os.environ.get("SCANWISE_SHARED") or Path(__file__).parents[2] / "shared")
    weights = {"weights": str(shared / "weights" / kind.weights)} if kind.weights else {}
    for name, part in (("fusion", "image"), ("hybrid", "convolution")):
        if name == kind.model["name"]:
            parts = kind.model[name]
            return recipe.Model(**{**kind.model, name: {**parts, part: {**parts[part], **weights}}})
    return recipe.Model(**kind.model, **weights)


def _titles(section: recipe.Model, count: int, seed: int) -> Any:
    """(N, L) tokens of titles that tell nothing of the class: who looks at them alone can but guess."""
    rng = np.random.default_rng(seed)
    planes, machines, times = (
        ("axial", "oblique", "tilted"),
        ("fast", "slow", "old", "new"),
        ("first", "second", "late"),
    )
    titles = [
        f"{rng.choice(planes)} scan of a {rng.choice(machines)} machine, {rng.choice(times)} visit"
        for _ in range(count)
    ]
    return Vocabulary.learn(titles, section.text)(titles)


def _sized(images: Any, side: int) -> Any:
    return np.stack(
        [np.asarray(Image.fromarray(one).resize((side, side), Image.Resampling.BILINEAR)) for one in images]
    )


def _train(network: Network, scans: Any, labels: Any, tokens: Any, epochs: int, rate: float, batch: int = 64) -> None:
    """AdamW with one cycle, shifts, turns, zoom and mirror images."""
    network.to(memory_format=torch.channels_last)
    images, wanted = torch.from_numpy(scans).permute(0, 3, 1, 2), torch.from_numpy(labels)
    words = None if tokens is None else torch.from_numpy(np.asarray(tokens, np.int64))
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-2)
    steps = epochs * (len(images) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    for _ in range(epochs):
        network.train()
        order = torch.randperm(len(images))
        for start in range(0, len(images) - batch + 1, batch):
            rows = order[start : start + batch]
            shown = _moved(images[rows].float())
            logits = network(shown) if words is None else network(shown, words[rows])
            loss = torch.nn.functional.cross_entropy(logits, wanted[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()


def _moved(images: torch.Tensor) -> torch.Tensor:
    count = len(images)
    turn, zoom = 0.4 * torch.rand(count) - 0.2, 1 + 0.24 * torch.rand(count) - 0.12
    mirror = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    pose = torch.zeros(count, 2, 3)
    pose[:, 0, 0], pose[:, 0, 1] = zoom * turn.cos() * mirror, -zoom * turn.sin()
    pose[:, 1, 0], pose[:, 1, 1] = zoom * turn.sin() * mirror, zoom * turn.cos()
    pose[:, :, 2] = 0.24 * torch.rand(count, 2) - 0.12
    places = torch.nn.functional.affine_grid(pose, list(images.shape), align_corners=False)
    return torch.nn.functional.grid_sample(images, places, align_corners=False)


def checks(count: int) -> None:
    """Every check that needs no retraining, of the default method on the network of alexnet-gray."""
    torch.manual_seed(0)
    made = recipe.load_recipe("alexnet-gray")
    network = build_network(made.model, 4, made.data.channels).eval()
    scans = np.random.default_rng(0).integers(0, 256, (count, made.data.size, made.data.size, 1), dtype=np.uint8)
    masks = np.ones(scans.shape[:3], dtype=np.bool_)
    wall, cpu = time.perf_counter(), time.process_time()
    sanity.check_method(network, scans, masks=masks, progress=True)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{count} scans, {torch.get_num_threads()} threads: {wall:.1f} s on the clock, {cpu:.1f} s of CPU")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["cost", "truth", "checks"])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--network", nargs="+", default=["small"], choices=list(KINDS))
    parser.add_argument("--epochs", type=int, help="of training; unsaid, those that the network is given here")
    parser.add_argument("--people", type=int, default=840, help="five sevenths of them to learn from")
    parser.add_argument(
        "--seed", type=int, default=3, help="of people and training; methods were developed on 3, 11 and 12"
    )
    parser.add_argument("--method", nargs="+", default=["auto"])
    parser.add_argument("--kept", type=Path, help="folder in which trained networks are kept, and looked for")
    parser.add_argument("--scans", type=int, default=200)
    given = parser.parse_args()
    if given.what == "cost":
        cost(given.batch, given.rounds)
    elif given.what == "truth":
        for name in given.network:
            truth(name, given.method, given.people, given.seed, given.epochs, given.kept)
    else:
        checks(given.scans)


if __name__ == "__main__":
    main()
