"""Class activation maps: the channels of one layer, weighted for a class.

    grad_cam            channels weighted by their mean gradient (Selvaraju et al. 2017)
    grad_cam_plus_plus  by a mean over the places that raise the class (Chattopadhay et al. 2018)
    layer_cam           each place by its own positive gradient, so that early, finer layers can be read (Jiang et al. 2021)
    eigen_cam           the first principal component, whatever the class (Muhammad & Yeasin 2020)

The backward pass stops at the layer, and weights get no gradient: a map costs little more than a forward pass.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from scanwise.errors import RecipeError
from scanwise.explanation.layers import layer_output
from scanwise.explanation.query import ExplanationQuery


def grad_cam(maps: Tensor, gradients: Tensor) -> Tensor:
    """(N, h, w) from activations and gradients (N, C, h, w)."""
    weights = gradients.mean((2, 3), keepdim=True)
    return torch.relu((weights * maps).sum(1))


def grad_cam_plus_plus(maps: Tensor, gradients: Tensor) -> Tensor:
    """(N, h, w) from activations and gradients (N, C, h, w)."""
    square = gradients**2
    below = 2 * square + maps.sum((2, 3), keepdim=True) * square * gradients
    share = torch.where(below != 0, square / torch.where(below != 0, below, 1), 0)
    weights = (share * torch.relu(gradients)).sum((2, 3), keepdim=True)
    return torch.relu((weights * maps).sum(1))


def layer_cam(maps: Tensor, gradients: Tensor) -> Tensor:
    """(N, h, w) from activations and gradients (N, C, h, w)."""
    return torch.relu((torch.relu(gradients) * maps).sum(1))


def eigen_cam(maps: Tensor, _: Tensor | None = None) -> Tensor:
    """(N, h, w) from activations (N, C, h, w); the sign is that of the channels' mean."""
    flat = maps.flatten(2).transpose(1, 2)
    _, _, axes = torch.linalg.svd(flat - flat.mean(1, keepdim=True), full_matrices=False)
    shown = (flat @ axes[:, 0, :, None])[..., 0]
    alike = (shown * flat.mean(2)).sum(1, keepdim=True)
    signed = shown * torch.where(alike < 0, -1.0, 1.0)
    return torch.relu(signed).reshape(len(maps), *maps.shape[2:])


CAMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "grad_cam": grad_cam,
    "grad_cam_plus_plus": grad_cam_plus_plus,
    "layer_cam": layer_cam,
    "eigen_cam": eigen_cam,
}


def class_maps(query: ExplanationQuery, name: str) -> Tensor:
    """(N, K, h, w): the map of each scan and target, at the size of the layer.

    Raises:
        RecipeError: if there is no layer to read.
    """
    layer = query.layer
    if layer is None:
        raise RecipeError(f"{name} reads a layer with a map, and this network has none.")
    with layer_output(query.network, layer) as caught:
        logits = query.logits()
        gradients = query.gradients(logits, caught.there)
    maps = layer.maps(caught.there.detach()).float()
    class_values = [CAMS[name](maps, layer.maps(gradient)) for (gradient,) in gradients]
    return torch.stack([query.own_rows(values) for values in class_values], dim=1)
