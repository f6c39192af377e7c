"""Prediction: logits and features of a network for scans."""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from scanwise.cohort.decoding.pixels import Pixels
from scanwise.models import Network
from scanwise.models.dropout import DropoutSampler
from scanwise.recipe import Recipe
from scanwise.records import FloatArray, IntArray

MAX_BATCH = 64
"""Largest batch size in prediction."""

# Pixels (n, H, W, C); or pixels and tokens (n, L), of which one may be missing.
PredictionBatch = Pixels | tuple[Pixels | None, IntArray | FloatArray | None]


class PixelSource(Protocol):
    """Anything that reads pixels by index, such as a Store."""

    def read(self, indices: IntArray) -> Pixels: ...


def prediction_batch_size(recipe: Recipe) -> int:
    """Batch size in prediction: never more than in training, so that a low `train.batch` saves memory here too.

    >>> prediction_batch_size(Recipe(name="a", train={"batch": 4})), prediction_batch_size(Recipe(name="a", train={"batch": 128}))
    (4, 64)
    """
    scans = recipe.model.bag if recipe.model.by_subject else 1
    return min(MAX_BATCH, recipe.train.batch * scans)


def predict_scans(
    network: Network,
    scans: PixelSource | None,
    rows: IntArray,
    *,
    tokens: IntArray | FloatArray | None = None,
    draws: int | None = None,
    seed: int = 0,
    batch: int = MAX_BATCH,
    device: str = "cpu",
    progress: bool = False,
) -> tuple[FloatArray, FloatArray]:
    """Run a network over some scans of a store.

    Args:
        network: put into evaluation mode and left there.
        scans: the store; None for a network of words without images.
        rows: indices of the scans.
        tokens: (M, L) of all scans of the store, for a network that reads words; None for no words.
        draws: T draws of dropout, 0 for none (default: the number in the network's recipe).
        seed: seed of the draws. With it a scan has the same draws in any batch and on any device.
        batch: batch size.
        device: device for the network.
        progress: show a bar.

    Returns:
        logits (N, T, C), T the draws or members, and penultimate features (N, D), both float32.
    """
    starts = range(0, len(rows), batch)

    def batches() -> Iterator[PredictionBatch]:
        for start in tqdm(starts, "predicting", disable=not progress, leave=False, delay=0.5):
            here = rows[start : start + batch]
            yield (None if scans is None else scans.read(here), None if tokens is None else tokens[here])

    return predict_batches(network, batches(), draws=draws, seed=seed, device=device)


def predict_batches(
    network: Network,
    batches: Iterable[PredictionBatch],
    *,
    draws: int | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> tuple[FloatArray, FloatArray]:
    """Run a network over batches of pixels, or of (pixels, tokens).

    Without any batch the arrays have no rows.
    """
    network.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    drawing = DropoutSampler(network, count) if (count := network.draws if draws is None else draws) else None
    pairs = list(_forward(network, batches, drawing, seed, device))
    if not pairs:
        return np.empty((0, 1, 0), np.float32), np.empty((0, 0), np.float32)
    return np.concatenate([pair[0] for pair in pairs]), np.concatenate([pair[1] for pair in pairs])


def attention_scores(network: Network, features: FloatArray) -> FloatArray | None:
    """(N, T) attention of a network to scans with these features, before the softmax over those of a person; None without.

    Args:
        network: as `predict_batches` left it.
        features: (N, D) that `predict_batches` gave.
    """
    with torch.inference_mode():
        scores = network.score_scans(torch.from_numpy(features).to(network.mean.device))
    return None if scores is None else scores.float().cpu().numpy()


@torch.inference_mode()
def _forward(
    network: Network, batches: Iterable[PredictionBatch], drawing: DropoutSampler | None, seed: int, device: str
) -> Iterator[tuple[FloatArray, FloatArray]]:
    trunk = network.forward_features if drawing is None else drawing.forward_features
    for batch in batches:
        pixels, words = batch if isinstance(batch, tuple) else (batch, None)
        images = None if pixels is None else torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2)
        tokens = None if words is None else torch.from_numpy(np.asarray(words)).to(device)
        maps = None if images is None else trunk(images)
        features = network.forward_head(maps, pre_logits=True, tokens=tokens)
        if drawing is None:
            logits = network.head_members(maps, tokens)
        else:
            logits = drawing(images, maps, tokens, _keys(words if pixels is None else pixels, seed).to(device))
        yield logits.float().cpu().numpy(), features.float().cpu().numpy()


def _keys(scans: Pixels | IntArray | FloatArray | None, seed: int) -> Tensor:
    """(N,) int64 keys of each scan's draws, from its content and the seed."""
    start = seed.to_bytes(8, "big", signed=True)
    rows: Pixels | IntArray | FloatArray | list[Pixels] = [] if scans is None else scans
    digests = [hashlib.blake2b(start + np.ascontiguousarray(row).tobytes(), digest_size=8).digest() for row in rows]
    return torch.from_numpy(np.frombuffer(b"".join(digests), dtype="<i8").copy())
