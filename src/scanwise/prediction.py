"""Network and scans in, Logits out."""

from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np
import torch
from tqdm import tqdm

from scanwise.cohort.readers import Pixels
from scanwise.models import Network
from scanwise.records import FloatArray, IntArray


class Readable(Protocol):
    """Anything that gives pixels for indices, as a Store does."""

    def read(self, indices: IntArray) -> Pixels: ...


def predict(
    network: Network, scans: Readable, rows: IntArray, *, batch: int = 64, device: str = "cpu", progress: bool = False
) -> tuple[FloatArray, FloatArray]:
    """Run a network over some scans of a store.

    Returns:
        logits (N, 1, C) and penultimate features (N, D), both float32.
    """
    starts = range(0, len(rows), batch)
    batches = (
        scans.read(rows[start : start + batch])
        for start in tqdm(starts, "predicting", disable=not progress, leave=False, delay=0.5)
    )
    return predict_batches(network, batches, device=device)


def predict_batches(
    network: Network, batches: Iterable[Pixels], *, device: str = "cpu"
) -> tuple[FloatArray, FloatArray]:
    """The same over batches (n, H, W, C) of pixels; the network is put in evaluation mode and left there.

    No batch at all gives arrays of no rows.
    """
    network.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    pairs = list(_forward(network, batches, device))
    if not pairs:
        return np.empty((0, 1, 0), np.float32), np.empty((0, 0), np.float32)
    logits = np.concatenate([pair[0] for pair in pairs])
    return logits[:, None, :], np.concatenate([pair[1] for pair in pairs])


@torch.inference_mode()
def _forward(network: Network, batches: Iterable[Pixels], device: str) -> Iterator[tuple[FloatArray, FloatArray]]:
    for pixels in batches:
        images = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2)
        maps = network.forward_features(images)
        features = network.forward_head(maps, pre_logits=True)
        yield network.forward_head(maps).float().cpu().numpy(), features.float().cpu().numpy()
