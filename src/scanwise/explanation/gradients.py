"""What changes the answer, pixel by pixel: integrated gradients and occlusion (by Captum), and gradients pooled.

A scan is held against itself without its small structures: each pixel is replaced by the median around it. Against black,
the usual choice, all that is bright would count and all that is dark (a ventricle in MRI) could not.
"""

from itertools import count
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from scanwise.explanation.query import ExplanationQuery, log_odds

STEPS = 4
"""Halts of `pooled_gradients` on the way from the plain scan to the scan; six find a planted truth little better."""
WINDOW = 4.5
"""Sides of the median's window that fit into a scan."""
WORKED = 64
"""Side at which the median is taken; what it leaves is coarse anyway."""
NEAR, SOFT = 4 / 64, 0.7 / 64
"""Sigma of the gradients' pool, and of the finished map, in sides of the scan."""
PATCHES = 12
"""Strides of the occluding patch that fit into a side; the patch is two strides wide."""
TOGETHER = 64
"""Scans with one patch replaced that the network sees at a time."""


def without_small_structures(images: Tensor) -> Tensor:
    """(N, C, H, W) scans without structures smaller than about a tenth of their side."""
    side = min(WORKED, *images.shape[2:])
    small = torch.nn.functional.adaptive_avg_pool2d(images.float(), side).cpu().numpy()
    window = max(3, int(side / WINDOW))
    calm = torch.from_numpy(ndimage.median_filter(small, size=(1, 1, window, window), mode="nearest"))
    if small.shape[2:] == images.shape[2:]:
        return calm.to(images.device)
    return torch.nn.functional.interpolate(calm, size=images.shape[2:], mode="bilinear").to(images.device)


def integrated_gradients(asked: ExplanationQuery, steps: int = 16) -> Tensor:
    """(N, K, H, W): how much each pixel's departure from the plain scan moves the log-odds, up or down.

    Sundararajan et al. 2017, by Captum.
    """
    base = without_small_structures(asked.images)
    return _each(asked, lambda target: (_path(asked, base, target, steps) * (asked.images - base)).abs().sum(1))


def pooled_gradients(asked: ExplanationQuery, steps: int = STEPS) -> Tensor:
    """(N, K, H, W): integrated gradients in two looks: what the scan shows beyond the plain one, where the answer hangs
    on it.

    A network reads a structure at a few of its pixels, and gradients are as sparse; their root mean square along the path
    (what first speaks for the answer and then against it was looked at, and shall not cancel) is pooled over a small
    neighbourhood before it meets the difference, so that the structure is shown and not its rim alone. It counts squared:
    what stands out but is hardly looked at shall not show.
    """
    base = without_small_structures(asked.images)
    beyond = (asked.images - base).abs().sum(1)
    found = []
    for looked in _looked(asked, base, steps):
        near = _blurred(looked.sum(1), NEAR)
        level = near.mean((1, 2), keepdim=True).clamp(min=torch.finfo(near.dtype).tiny)  # or squares would underflow
        found.append(_blurred(near * (near / level) * beyond, SOFT))
    return torch.stack(found, dim=1)


def occlusion(asked: ExplanationQuery) -> Tensor:
    """(N, K, H, W): how much the log-odds fall when a patch is replaced by the plain scan (Zeiler & Fergus 2014, by Captum)."""
    from captum.attr import Occlusion

    base = without_small_structures(asked.images)
    channels, height, width = asked.images.shape[1:]
    stride = max(1, height // PATCHES), max(1, width // PATCHES)
    window = (channels, min(2 * stride[0], height), min(2 * stride[1], width))
    together = max(1, TOGETHER // len(asked.images))
    said: list[Tensor] = []  # of every change in its turn; for the next target the changes are the same

    def one(target: Tensor) -> Tensor:
        turns = count()

        def fall(images: Tensor) -> Tensor:
            turn = next(turns)
            if turn == len(said):
                said.append(asked.logits(images))
            return log_odds(said[turn], target)

        with torch.no_grad():
            fallen = Occlusion(fall).attribute(
                asked.images,
                sliding_window_shapes=window,
                strides=(channels, *stride),
                baselines=base,
                perturbations_per_eval=together,
            )
        mean: Tensor = fallen.mean(1)
        return torch.relu(mean)

    return _each(asked, one)


def _path(asked: ExplanationQuery, base: Tensor, target: Tensor, steps: int) -> Tensor:
    """(N, C, H, W): the mean gradient of the log-odds between the plain scan and the scan."""
    from captum.attr import IntegratedGradients

    def score(images: Tensor) -> Tensor:
        return asked.scale * asked.odds(images, target)

    method = IntegratedGradients(score, multiply_by_inputs=False)
    # A step at a time: all of them together would need the memory of as many batches.
    together = len(asked.images)
    mean: Tensor = method.attribute(asked.images, baselines=base, n_steps=steps, internal_batch_size=together)
    return mean.detach().float() / asked.scale


def _looked(asked: ExplanationQuery, base: Tensor, steps: int) -> list[Tensor]:
    """(N, C, H, W) for each target: the root mean square of the gradient of the log-odds, in the middle of each step on the
    way; one forward pass a step serves all targets."""
    targets = asked.targets.unbind(1)
    squares = [torch.zeros_like(base, dtype=torch.float32) for _ in targets]
    for step in range(steps):
        images = (base + (step + 0.5) / steps * (asked.images - base)).detach().requires_grad_()
        with torch.enable_grad():
            logits = asked.logits(images)
            for k, target in enumerate(targets):
                score = (asked.scale * log_odds(logits, target)).sum()
                (gradient,) = torch.autograd.grad(score, images, retain_graph=k < len(targets) - 1)
                squares[k] += (gradient.detach().float() / asked.scale).square()
    return [(sums / steps).sqrt() for sums in squares]


def _each(asked: ExplanationQuery, one: Any) -> Tensor:
    """(N, K, H, W) from a method that answers for one target a scan."""
    return torch.stack([one(asked.targets[:, k]) for k in range(asked.targets.shape[1])], dim=1)


def _blurred(maps: Tensor, sigma: float) -> Tensor:
    """(N, H, W), blurred by so many sides."""
    side = maps.shape[1]
    soft = ndimage.gaussian_filter(maps.detach().cpu().numpy(), (0, sigma * side, sigma * side))
    return torch.from_numpy(np.asarray(soft, dtype=np.float32)).to(maps.device)
