"""Networks of every kind, small and untrained, and scans to look at: what the tests of this room share."""

from typing import Any

import numpy as np
import torch

from scanwise.models import Network, build_network
from scanwise.recipe import Model

VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2}
KINDS: dict[str, dict[str, Any]] = {
    "small": {"name": "small"},
    "alexnet": {"name": "alexnet", "dropout": 0.5},
    "resnet": {"name": "resnet10t"},
    "vit": {"name": "vit_tiny_patch16_224", "options": VIT},
    "mean_vit": {"name": "vit_tiny_patch16_224", "options": {**VIT, "global_pool": "avg", "class_token": False}},
    "attention": {"name": "small", "attention": {"width": 16, "heads": 2}},
    "hybrid": {
        "name": "hybrid",
        "hybrid": {
            "convolution": {"name": "resnet10t"},
            "transformer": {"name": "vit_tiny_patch16_224", "options": VIT},
        },
    },
    "members": {"name": "small", "members": {"kind": "batch_ensemble", "count": 3, "sigma": 0.2, "layers": "all"}},
    "late_members": {"name": "small", "members": {"kind": "batch_ensemble", "count": 3, "sigma": 0.2, "layers": 1}},
    "deep": {"name": "small", "members": {"kind": "deep_ensemble", "count": 2}},
    "draws": {"name": "small", "dropout": 0.5, "members": {"kind": "mc_dropout", "count": 4}},
}


def make(kind: str, classes: int = 3, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    network = build_network(Model(**KINDS[kind]), classes, 1)
    with torch.no_grad():  # an untrained head hardly tells classes apart
        for name, weight in network.named_parameters():
            if "head" in name and weight.ndim == 2:
                weight.mul_(4)
    return network.eval()


def scans(count: int = 5, side: int = 32, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 1), dtype=np.uint8)


def tensors(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
