"""What a heatmap costs, whether it finds a planted truth, and how long the checks take.

    python benchmarks/explain.py cost     [--batch 16 --rounds 5]     Grad-CAM in forward passes; in an environment that has
                                                                      pytorch-grad-cam, beside it (it needs OpenCV: give it one
                                                                      of its own)
    python benchmarks/explain.py truth    [--network small --epochs 24]   pointing game and AUPRC on the ventricles-only phantom
    python benchmarks/explain.py checks   [--scans 200]               every check that needs no other training, on alexnet-gray

Times are the median of CPU time over interleaved rounds, on one thread unless OMP_NUM_THREADS says otherwise.
"""

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image

from scanwise import recipe
from scanwise.cohort import phantom
from scanwise.explanation import Explainer, chances, sanity
from scanwise.explanation.sanity import Subject
from scanwise.models import Network, build


def cost(batch: int, rounds: int) -> None:
    """ResNet18 at 224: one forward pass, our Grad-CAM, Captum's, and pytorch-grad-cam's."""
    torch.manual_seed(0)
    network = build(recipe.Model(name="resnet18"), 4, 3).eval()
    images = torch.randint(0, 256, (batch, 3, 224, 224)).float()
    targets = torch.zeros(batch, 1, dtype=torch.int64)
    explainer = Explainer.of(network, images[:1], method="grad_cam")
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


def truth(name: str, epochs: int, people: int, method: str) -> None:
    """A recipe's network, trained on the ventricles-only phantom at its size, against what was planted."""
    known = {"small": ("small", 64, {}), "alexnet-gray": ("alexnet", 32, {"dropout": 0.2})}
    kind, side, extra = known[name]
    made = phantom.Phantom(subjects=people, slices=4, size=96, stages=("a", "b", "c"), signal="ventricles", seed=3)
    persons = phantom.people(made)
    drawn = [phantom.draw(made, person) for person in persons]
    head = np.concatenate([one.head for one in drawn])
    mask = np.concatenate([one.masks for one in drawn])
    largest = ((mask & head).sum((1, 2)) / head.sum((1, 2))).max()
    scans = _sized(np.concatenate([one.pixels for one in drawn]), side)[..., None]
    planted = _sized(mask.astype(np.uint8) * 255, side) > 127
    labels = np.repeat([person.label for person in persons], made.slices)
    cut = made.slices * (people * 5 // 7)
    network = _train(build(recipe.Model(name=kind, **extra), 3, 1), scans[:cut], labels[:cut], epochs)
    test = np.arange(cut, len(scans))[::2]
    right = (chances(network, scans[test]).argmax(axis=1) == labels[test]).mean()
    found = sanity.truth(Subject.of(network, scans[test], method=method), planted[test])
    print(
        f"{name}, {epochs} epochs, {side} pixels, mask at most {100 * largest:.1f} % of the head, accuracy {right:.3f}"
    )
    print(f"{method}: {found.message} {'reached' if found.passed else 'NOT reached'}")


def _sized(images: Any, side: int) -> Any:
    return np.stack(
        [np.asarray(Image.fromarray(one).resize((side, side), Image.Resampling.BILINEAR)) for one in images]
    )


def _train(network: Network, scans: Any, labels: Any, epochs: int, batch: int = 64) -> Network:
    """AdamW with one cycle, shifts, turns, zoom and mirror images."""
    torch.manual_seed(0)
    images, wanted = torch.from_numpy(scans).permute(0, 3, 1, 2), torch.from_numpy(labels)
    top = 5e-4 if sum(weight.numel() for weight in network.parameters()) > 1e6 else 4e-3
    optimizer = torch.optim.AdamW(network.parameters(), lr=top, weight_decay=1e-2)
    steps = epochs * (len(images) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, top, total_steps=steps, pct_start=0.1)
    for _ in range(epochs):
        network.train()
        order = torch.randperm(len(images))
        for start in range(0, len(images) - batch + 1, batch):
            rows = order[start : start + batch]
            loss = torch.nn.functional.cross_entropy(network(_moved(images[rows].float())), wanted[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


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
    made = recipe.load("alexnet-gray")
    network = build(made.model, 4, made.data.channels).eval()
    scans = np.random.default_rng(0).integers(0, 256, (count, made.data.size, made.data.size, 1), dtype=np.uint8)
    masks = np.ones(scans.shape[:3], dtype=np.bool_)
    wall, cpu = time.perf_counter(), time.process_time()
    sanity.check(network, scans, masks=masks, progress=True)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{count} scans, {torch.get_num_threads()} threads: {wall:.1f} s on the clock, {cpu:.1f} s of CPU")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["cost", "truth", "checks"])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--network", default="small", choices=["small", "alexnet-gray"])
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--people", type=int, default=420)
    parser.add_argument("--method", default="auto")
    parser.add_argument("--scans", type=int, default=200)
    given = parser.parse_args()
    if given.what == "cost":
        cost(given.batch, given.rounds)
    elif given.what == "truth":
        truth(given.network, given.epochs, given.people, given.method)
    else:
        checks(given.scans)


if __name__ == "__main__":
    main()
