"""Attribution by pixel: integrated gradients and occlusion (by Captum), and pooled gradients.

The baseline of a scan is the scan without its small structures: each pixel is replaced by the median around it. Against
black, the usual choice, bright tissue would count and dark tissue (a ventricle in MRI) could not.
"""

from itertools import count
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from scanwise.explanation.query import ExplanationQuery, log_odds

STEPS = 4
"""Steps of `pooled_gradients` from the plain scan to the scan; six find a planted truth little better."""
WINDOW = 4.5
"""Sides of the median's window that fit into a scan."""
WORKED = 64
"""Side at which the median is taken; the result is coarse anyway."""
NEAR, SOFT = 4 / 64, 0.7 / 64
"""Sigma of the gradients' pool, and of the finished map, in sides of the scan."""
PATCHES = 12
"""Strides of the occluding patch that fit into a side; the patch is two strides wide."""
TOGETHER = 64
"""Scans with one patch replaced in one forward pass."""


def without_small_structures(images: Tensor) -> Tensor:
    """(N, C, H, W) scans without structures smaller than about a tenth of their side."""
    side = min(WORKED, *images.shape[2:])
    small = torch.nn.functional.adaptive_avg_pool2d(images.float(), side).cpu().numpy()
    window = max(3, int(side / WINDOW))
    calm = torch.from_numpy(ndimage.median_filter(small, size=(1, 1, window, window), mode="nearest"))
    if small.shape[2:] == images.shape[2:]:
        return calm.to(images.device)
    return torch.nn.functional.interpolate(calm, size=images.shape[2:], mode="bilinear").to(images.device)


def integrated_gradients(query: ExplanationQuery, steps: int = 16) -> Tensor:
    """(N, K, H, W): how much each pixel's departure from the plain scan moves the log-odds, up or down.

    Sundararajan et al. 2017, by Captum.
    """
    base = without_small_structures(query.images)
    return _each(query, lambda target: (_path(query, base, target, steps) * (query.images - base)).abs().sum(1))


def pooled_gradients(query: ExplanationQuery, steps: int = STEPS) -> Tensor:
    """(N, K, H, W): the difference between scan and plain scan, weighted by the pooled gradient of the log-odds.

    A network reads a structure at a few of its pixels, and gradients are as sparse; their root mean square along the path
    (so that gradients of changing sign do not cancel) is pooled over a small
    neighbourhood before it meets the difference, so that the structure is shown and not its rim alone. It counts squared:
    a difference with a small gradient is suppressed.
    """
    base = without_small_structures(query.images)
    beyond = (query.images - base).abs().sum(1)
    maps = []
    for looked in _looked(query, base, steps):
        near = _blurred(looked.sum(1), NEAR)
        level = near.mean((1, 2), keepdim=True).clamp(min=torch.finfo(near.dtype).tiny)  # or squares would underflow
        maps.append(_blurred(near * (near / level) * beyond, SOFT))
    return torch.stack(maps, dim=1)


def occlusion(query: ExplanationQuery) -> Tensor:
    """(N, K, H, W): how much the log-odds fall when a patch is replaced by the plain scan (Zeiler & Fergus 2014, by Captum)."""
    from captum.attr import Occlusion

    base = without_small_structures(query.images)
    channels, height, width = query.images.shape[1:]
    stride = max(1, height // PATCHES), max(1, width // PATCHES)
    window = (channels, min(2 * stride[0], height), min(2 * stride[1], width))
    together = max(1, TOGETHER // len(query.images))
    logits_seen: list[Tensor] = []  # of every changed scan in order; the changes are the same for the next target

    def one(target: Tensor) -> Tensor:
        turns = count()

        def fall(images: Tensor) -> Tensor:
            turn = next(turns)
            if turn == len(logits_seen):
                logits_seen.append(query.logits(images))
            return log_odds(logits_seen[turn], target)

        with torch.no_grad():
            fallen = Occlusion(fall).attribute(
                query.images,
                sliding_window_shapes=window,
                strides=(channels, *stride),
                baselines=base,
                perturbations_per_eval=together,
            )
        mean: Tensor = fallen.mean(1)
        return torch.relu(mean)

    return _each(query, one)


def _path(query: ExplanationQuery, base: Tensor, target: Tensor, steps: int) -> Tensor:
    """(N, C, H, W): the mean gradient of the log-odds between the plain scan and the scan."""
    from captum.attr import IntegratedGradients

    def score(images: Tensor) -> Tensor:
        return query.scale * query.odds(images, target)

    method = IntegratedGradients(score, multiply_by_inputs=False)
    # A step at a time: all of them together would need the memory of as many batches.
    together = len(query.images)
    mean: Tensor = method.attribute(query.images, baselines=base, n_steps=steps, internal_batch_size=together)
    return mean.detach().float() / query.scale


def _looked(query: ExplanationQuery, base: Tensor, steps: int) -> list[Tensor]:
    """(N, C, H, W) for each target: the root mean square of the gradient of the log-odds, in the middle of each step on the
    way; one forward pass a step serves all targets."""
    targets = query.targets.unbind(1)
    squares = [torch.zeros_like(base, dtype=torch.float32) for _ in targets]
    for step in range(steps):
        images = (base + (step + 0.5) / steps * (query.images - base)).detach().requires_grad_()
        with torch.enable_grad():
            logits = query.logits(images)
            for k, target in enumerate(targets):
                score = (query.scale * log_odds(logits, target)).sum()
                (gradient,) = torch.autograd.grad(score, images, retain_graph=k < len(targets) - 1)
                squares[k] += (gradient.detach().float() / query.scale).square()
    return [(sums / steps).sqrt() for sums in squares]


def _each(query: ExplanationQuery, for_target: Any) -> Tensor:
    """(N, K, H, W) from a method that answers for one target a scan."""
    return torch.stack([for_target(query.targets[:, k]) for k in range(query.targets.shape[1])], dim=1)


def _blurred(maps: Tensor, sigma: float) -> Tensor:
    """(N, H, W), blurred by so many sides."""
    side = maps.shape[1]
    soft = ndimage.gaussian_filter(maps.detach().cpu().numpy(), (0, sigma * side, sigma * side))
    return torch.from_numpy(np.asarray(soft, dtype=np.float32)).to(maps.device)
