"""How far fast weights may stand apart before members of a pretrained network stop naming its classes.

    python benchmarks/batch_ensemble.py WEIGHTS PHOTOS [--name mobilenetv2_100] [--scans 128] [--side 160] [--top 0.125]

For each range of layers: the largest sigma with which each of four members gives the base's class to at least 95 % of
the photos, before any training; how much those members differ; and what the next sigmas up would do.
"""

import argparse
import copy
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from scanwise.models import Network, build_network
from scanwise.models.batch_ensemble import to_batch_ensemble
from scanwise.models.diversity import Diversity, member_agreement
from scanwise.recipe import Members, Model

SIGMAS = (
    *(0.5, 0.35, 0.25, 0.18, 0.125, 0.09, 0.0625, 0.045, 0.03, 0.02),
    *(0.014, 0.01, 0.007, 0.005, 0.0035, 0.0025, 0.0018),
)
ENOUGH = 0.95  # of the photos that each member must give the base's class
CLASSES = tuple(map(str, range(1000)))  # of ImageNet, in the order of the file, whose classifier is to be kept


def measure(network: Network, images: Tensor, layers: int, sigma: float, seed: int) -> tuple[float, Diversity]:
    """Lowest agreement of any of four members with the base, and their diversity; `layers` 0 stands for all."""
    section = Members(kind="batch_ensemble", count=4, sigma=sigma, layers=layers or "all")
    trial = copy.deepcopy(network)
    torch.manual_seed(seed)
    to_batch_ensemble(trial, section)
    with torch.inference_mode():
        base = network.eval()(images).softmax(1).numpy()
        probs = trial.eval().forward_members(images).softmax(2).numpy()
    return float(member_agreement(probs, base).min()), Diversity.of(probs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--name", default="mobilenetv2_100")
    parser.add_argument("--scans", type=int, default=128)
    parser.add_argument("--side", type=int, default=160)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--top", type=float, default=0.125, help="the largest sigma to try")
    wanted = parser.parse_args()
    files = sorted(wanted.photos.glob("*.jpg"))
    chosen = np.random.default_rng(0).permutation(len(files))[: wanted.scans]
    pixels = [np.asarray(Image.open(files[i]).convert("RGB").resize((wanted.side, wanted.side))) for i in chosen]
    images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)
    section = Model(name=wanted.name, weights=str(wanted.weights), options={"pad_type": "same"}, class_order=CLASSES)
    network = build_network(section, len(CLASSES), 3, classes=CLASSES)
    for layers in (0, 10, 1):
        for seed in range(wanted.seeds):
            for sigma in (sigma for sigma in SIGMAS if sigma <= wanted.top):
                agreement, diversity = measure(network, images, layers, sigma, seed)
                print(
                    f"last {layers or 'all':>3} layers, seed {seed}, sigma {sigma:<6} agreement {agreement:.3f}, "
                    f"{diversity}",
                    flush=True,
                )
                if agreement >= ENOUGH:
                    break


if __name__ == "__main__":
    main()
