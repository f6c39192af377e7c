"""A small network that has learnt the ventricles of a synthetic cohort, and one that learnt shuffled labels."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image

from scanwise.cohort import phantom
from scanwise.models import Network, build_network
from scanwise.recipe import Model

SIDE = 48
PHANTOM = phantom.Phantom(subjects=200, slices=2, size=96, stages=("well", "ill"), signal="ventricles", seed=5)
TRAIN = 160  # people


@dataclass(frozen=True)
class Seen:
    """Scans (N, S, S, 1), where the truth and the head are (N, S, S), and labels (N,)."""

    scans: Any
    truth: Any
    head: Any
    labels: Any

    def take(self, rows: Any) -> "Seen":
        return Seen(self.scans[rows], self.truth[rows], self.head[rows], self.labels[rows])


@cache
def cohort() -> Seen:
    people = phantom.people(PHANTOM)
    drawn = [phantom.draw_brain(PHANTOM, person) for person in people]
    scans = _small(np.concatenate([one.pixels for one in drawn]))
    truth, head = (
        _small(np.concatenate([getattr(one, name) for one in drawn]).astype(np.uint8) * 255) > 127
        for name in ("masks", "head")
    )
    labels = np.repeat([person.label for person in people], PHANTOM.slices)
    return Seen(scans[..., None], truth, head, labels)


def held_out(count: int = 40) -> Seen:
    return cohort().take(np.arange(TRAIN * PHANTOM.slices, TRAIN * PHANTOM.slices + count))


@cache
def network(shuffled: bool = False, seed: int = 0) -> Network:
    seen = cohort().take(np.arange(TRAIN * PHANTOM.slices))
    labels, epochs = seen.labels, 14
    if shuffled:  # there is nothing to learn, so there is no need to learn it long
        epochs = 6
        people = np.random.default_rng(0).permutation(labels[:: PHANTOM.slices])
        labels = np.repeat(people, PHANTOM.slices)
    torch.manual_seed(seed)
    made = build_network(Model(name="small"), 2, 1).to(memory_format=torch.channels_last)  # its pools are quicker so
    images, wanted = torch.from_numpy(seen.scans).permute(0, 3, 1, 2), torch.from_numpy(labels)
    optimizer = torch.optim.AdamW(made.parameters(), lr=4e-3, weight_decay=1e-2)
    steps = epochs * (len(images) // 32)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        rows = torch.randint(0, len(images), (32,))
        shift = torch.randint(-5, 6, (2,)).tolist()
        batch = torch.roll(images[rows], shift, (2, 3)).float()
        batch = batch.flip(3) if step % 2 else batch
        loss = torch.nn.functional.cross_entropy(made(batch), wanted[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return made.eval()


def _small(images: Any) -> Any:
    sized = [Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR) for image in images]
    return np.stack([np.asarray(image) for image in sized])
