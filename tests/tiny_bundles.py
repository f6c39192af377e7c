"""Bundles of every kind of network, tiny and untrained, with all that a bundle may hold; and scans to ask them about."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scanwise.bundle import abstention_to_dict
from scanwise.bundle.engines import forward_shapes
from scanwise.calibration import Temperature
from scanwise.conformal import ConformalSets
from scanwise.migrations import FORMATS
from scanwise.models import build_network, weights
from scanwise.models.vocabulary import Vocabulary
from scanwise.novelty import NoveltyDetector, appearance_features
from scanwise.prediction import predict_batches
from scanwise.recipe import NUMBER, Recipe
from scanwise.records import Logits
from scanwise.run import write_json, write_text
from scanwise.uncertainty import Abstention
from tiny import picture

CLASSES = ("none", "mild", "severe")
SIZE = 32
TEXT = {"words": 50, "length": 5, "width": 16, "layers": 1, "heads": 2}
HALVES = {"convolution": {"name": "test_resnet"}, "transformer": {"name": "test_vit", "options": {"img_size": SIZE}}}
COVARIATES: dict[str, Any] = {"covariates": {"age": NUMBER, "sex": ("F", "M")}}
KINDS: dict[str, dict[str, Any]] = {
    "alexnet-gray": {"name": "alexnet", "dropout": 0.5},
    "demo": {"name": "small"},
    "backbone": {"name": "test_efficientnet", "dropout": 0.2},
    "backbone, bags": {"name": "small", "unit": "subject"},
    "backbone, bags with attention": {"name": "test_resnet", "unit": "subject", "pool": "attention"},
    "backbone, covariates": {"name": "small", "covariates": 2},
    "backbone, convnext": {"name": "test_convnext"},
    "backbone, transformer": {"name": "test_vit", "options": {"img_size": SIZE}},
    "efficientnet-uncertainty": {
        "name": "test_efficientnet",
        "dropout": 0.3,
        "members": {"kind": "mc_dropout", "count": 7},
    },
    "efficientnet-uncertainty, hidden": {
        "name": "small",
        "dropout": 0.3,
        "hidden": [8],
        "members": {"kind": "mc_dropout", "count": 5},
    },
    "efficientnet-uncertainty, below": {
        "name": "test_efficientnet",
        "dropout": 0.3,
        "options": {"drop_path_rate": 0.0},
        "attention": {"width": 16},
        "members": {"kind": "mc_dropout", "count": 3},
    },
    "efficientnet-uncertainty, batch ensemble": {"name": "test_resnet", "members": {"kind": "batch_ensemble"}},
    "efficientnet-uncertainty, deep ensemble": {"name": "small", "members": {"kind": "deep_ensemble", "count": 3}},
    "fashion-fusion": {
        "name": "fusion",
        "text": TEXT,
        "hidden": [8],
        "fusion": {"image": {"name": "test_resnet"}, "width": 16, "heads": 2},
    },
    "fashion-fusion, text": {"name": "text", "text": TEXT},
    "mobilenet-attention": {"name": "test_efficientnet", "attention": {"width": 16, "heads": 2}, "hidden": [12]},
    "ordinal": {"name": "small", "ordinal": True},
    "resnet50-two-stage": {"name": "test_resnet", "hidden": [24], "dropout": 0.3},
    "stroke-hybrid": {"name": "hybrid", "hybrid": HALVES, "hidden": [20]},
    "subject-attention": {"name": "test_efficientnet", "unit": "subject", "dropout": 0.3},
    "subject-ridge": {
        "name": "subject_ridge",
        "ridge": {
            "backbone": {"name": "test_resnet"},
            "blocks": 2,
            "grid": [2, 3],
            "pixels": [4, 5],
            "slabs": 2,
            "folds": 3,
        },
    },
}
"""A network of each recipe that scanwise ships, and of its variants."""


def write_scans_of(folder: Path, count: int = 24) -> list[Path]:
    """Pictures of all classes, four a person: `pNN_S.png`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"p{index // 4:02d}_{index % 4}.png" for index in range(count)]
    for index, path in enumerate(paths):
        picture(index // 4 % 3, index).save(path)
    return paths


def write_tiny_bundle(folder: Path, kind: str) -> Path:
    """A bundle of one of `KINDS`: temperature, randomised sets, abstention, a detector, and a vocabulary if it reads."""
    recipe = Recipe(
        name="tiny",
        data={"size": SIZE, "channels": 1, **(COVARIATES if "covariates" in KINDS[kind] else {})},
        model=KINDS[kind],
        train={"batch": 32, "loss": "corn" if kind == "ordinal" else "cross_entropy"},
    )
    torch.manual_seed(sum(kind.encode()))
    network = build_network(recipe.model, len(CLASSES), 1).eval()
    if network.covariates is not None:
        torch.nn.init.normal_(network.covariates.weight)
    folder.mkdir(parents=True)
    weights.save_weights(network, folder / "model.safetensors")
    write_text(recipe.to_yaml(), folder / "recipe.yaml")
    vocabulary = Vocabulary.learn(["red coat", "blue shirt", "green hat"], recipe.model.text)
    if recipe.model.reads_words:
        vocabulary.save(folder / "vocabulary.json")
    _detector(network, vocabulary if recipe.model.reads_words else None).save(folder / "novelty.safetensors")
    sets = {
        "scan": ConformalSets("raps", 0.1, 0.8, 0.01, 1, True, 40, "random scan of a new subject"),
        "subject": ConformalSets("raps", 0.1, 0.8, 0.01, 1, True, 40, "new subject"),
    }
    temperature = Temperature(0.5).to_dict()
    chosen = abstention_to_dict(Abstention(0.6, 0.1, 0.1, 40, 0.7))
    about = {
        "format": FORMATS["bundle"],
        "name": "tiny",
        "classes": CLASSES,
        "ordered": True,
        "groups": {},
        "protocol": "honest",
        "fold": 0,
        "calibrators": {"scan": temperature, "subject": temperature | {"pooling": "mean_logit"}},
        "sets": {unit: own.to_dict() for unit, own in sets.items()},
        "abstention": {"chosen": chosen, "table": [chosen]},
        "novelty": True,
        "hashed": "pixels",
        "forward": forward_shapes(recipe),
        "explained": {},
    }
    write_json(about, folder / "bundle.json")
    names = sorted(file.name for file in folder.iterdir())
    sums = "".join(f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names)
    write_text(sums, folder / "SHA256SUMS")
    return folder


def _detector(network: Any, vocabulary: Vocabulary | None) -> NoveltyDetector:
    sides = []
    for side, count in (("train", 30), ("validation", 12), ("calibration", 40)):
        images = [picture(row % 3, 5000 + 100 * len(side) + row).resize((SIZE, SIZE)) for row in range(count)]
        pixels = np.stack([np.asarray(image, np.uint8) for image in images])[..., None]
        tokens = (
            None
            if vocabulary is None
            else vocabulary([("red coat", "blue shirt", "green hat", "hat")[row % 4] for row in range(count)])
        )
        logits, features = predict_batches(network, [(pixels, tokens)])
        names = np.array([f"{side}{row}" for row in range(count)])
        appearance = appearance_features(pixels)
        sides.append(
            Logits(logits, np.zeros(count, int), names, names, CLASSES, features=features, appearance=appearance)
        )
    return NoveltyDetector.fit(*sides)
