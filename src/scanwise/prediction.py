"""Prediction: logits and features of a network for scans."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from scanwise.cohort.decoding.pixels import Pixels
from scanwise.models import Network
from scanwise.models.dropout import DropoutSampler
from scanwise.progress_bar import track
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
        for start in track(starts, "predicting", len(starts), progress):
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
    engine = TorchEngine(network, draws=draws, seed=seed, device=device)
    pairs = [engine.run(*(batch if isinstance(batch, tuple) else (batch, None))) for batch in batches]
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


class TorchEngine:
    """A network as torch runs it.

    Args:
        network: put into evaluation mode and left there.
        draws: T draws of dropout, 0 for none (default: the number in the network's recipe).
        seed: seed of the draws.
        device: device for the network.
    """

    def __init__(self, network: Network, *, draws: int | None = None, seed: int = 0, device: str = "cpu") -> None:
        self.network = network.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        count = network.draws if draws is None else draws
        self._sampler = DropoutSampler(network, count) if count else None
        self._seed, self._device = seed, device

    @torch.inference_mode()
    def run(
        self, pixels: Pixels | None, tokens: IntArray | FloatArray | None
    ) -> tuple[FloatArray, FloatArray, FloatArray | None]:
        """Logits (N, T, C), features (N, D) and attention (N, T) or None, float32, of pixels (N, H, W, C), tokens (N, L) or both."""
        images = None if pixels is None else torch.from_numpy(pixels).to(self._device).permute(0, 3, 1, 2)
        words = None if tokens is None else torch.from_numpy(np.asarray(tokens)).to(self._device)
        trunk = self.network.forward_features if self._sampler is None else self._sampler.forward_features
        maps = None if images is None else trunk(images)
        features = self.network.forward_head(maps, pre_logits=True, tokens=words)
        if self._sampler is None:
            logits = self.network.head_members(maps, words)
        else:
            keys = _keys(tokens if pixels is None else pixels, self._seed).to(self._device)
            logits = self._sampler(images, maps, words, keys)
        scores = self.network.score_scans(features)
        attention = None if scores is None else scores.float().cpu().numpy()
        return logits.float().cpu().numpy(), features.float().cpu().numpy(), attention

    @property
    def cores(self) -> int:
        """Number of batches that can be run at once."""
        return torch.get_num_threads() if self._device == "cpu" else 1

    @contextmanager
    def one_core_each(self) -> Iterator[Callable[[], None]]:
        """Run every batch on one core, so that sums have one order whatever the number of threads.

        Yields:
            what each thread that runs batches calls first.
        """
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield partial(torch.set_num_threads, 1)
        finally:
            torch.set_num_threads(before)


def _keys(scans: Pixels | IntArray | FloatArray | None, seed: int) -> Tensor:
    """(N,) int64 keys of each scan's draws, from its content and the seed."""
    start = seed.to_bytes(8, "big", signed=True)
    rows: Pixels | IntArray | FloatArray | list[Pixels] = [] if scans is None else scans
    digests = [hashlib.blake2b(start + np.ascontiguousarray(row).tobytes(), digest_size=8).digest() for row in rows]
    return torch.from_numpy(np.frombuffer(b"".join(digests), dtype="<i8").copy())
