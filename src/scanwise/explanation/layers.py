"""Layers of a network with a spatial map, found by one forward pass; and temporary use of a network without a trace."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from scanwise.errors import RecipeError, ShapeError, did_you_mean
from scanwise.models.fusion import FusionNetwork
from scanwise.models.heads import HeadedBackbone
from scanwise.models.hybrid import HybridNetwork
from scanwise.models.network import Network
from scanwise.models.subject_ridge import SubjectRidge

LEAST = 7
"""Least places a side of a useful map; a smaller one only shows the side of the head."""


@dataclass(frozen=True, slots=True)
class MapLayer:
    """A layer whose output is a map of the scan.

    Attributes:
        name: of the module in the network.
        height, width: of the map.
        layout: position of the channels: (N, C, h, w), (N, h, w, C), or tokens (N, prefix + h · w, C).
        prefix: tokens that are no patch.
    """

    name: str
    height: int
    width: int
    layout: Literal["first", "last", "tokens"]
    prefix: int = 0

    def maps(self, values: Tensor) -> Tensor:
        """Output of the layer as (N, C, h, w)."""
        if self.layout == "first":
            return values
        if self.layout == "last":
            return values.permute(0, 3, 1, 2)
        patches = values[:, self.prefix :].transpose(1, 2)
        return patches.reshape(*patches.shape[:2], self.height, self.width)


@contextmanager
def borrowed(network: nn.Module, device: str | None = None) -> Iterator[torch.device]:
    """The network in evaluation mode and without gradients for its weights; afterwards every part is as before.

    Gradients for its inputs are on, whatever the caller has switched off. It runs on `device`; default: where it is.
    """
    before = next(network.parameters()).device
    modes = [(module, module.training) for module in network.modules()]
    wanted = [(weight, weight.requires_grad) for weight in network.parameters()]
    try:
        network.eval().to(device or before)
        for weight, _ in wanted:
            weight.requires_grad_(False)
        with torch.inference_mode(False), torch.enable_grad():
            yield next(network.parameters()).device
    finally:
        network.to(before)
        for weight, want in wanted:
            weight.requires_grad_(want)
        for module, mode in modes:
            module.training = mode


class LayerOutput:
    """Output of a watched layer."""

    def __init__(self) -> None:
        self.values: Tensor | None = None

    @property
    def there(self) -> Tensor:
        if self.values is None:
            raise ShapeError("The layer was not reached when the network ran; choose another layer.")
        return self.values


@contextmanager
def layer_output(network: nn.Module, layer: MapLayer) -> Iterator[LayerOutput]:
    """Catch the output of a layer; gradients, where on, begin there, and all layers before run without.

    The output is a leaf: `torch.autograd.grad(value, caught.there)` stops at it.
    """
    caught = LayerOutput()

    def catch(_: nn.Module, __: Any, values: Tensor) -> Tensor:
        caught.values = values.detach().requires_grad_(torch.is_grad_enabled())
        return caught.values.clone()  # later layers may write into their input

    handle = network.get_submodule(layer.name).register_forward_hook(catch)
    try:
        yield caught
    finally:
        handle.remove()


def trunk_of(network: Network) -> str:
    """The name of the part that turns the scan into a map; empty for a network that takes no scan."""
    if isinstance(network.body, HybridNetwork):
        return "body.convolution"
    if isinstance(network.body, FusionNetwork):
        return "body.image"
    if isinstance(network.body, HeadedBackbone | SubjectRidge):
        return "body.backbone"
    if network.body_takes_tokens:
        return ""
    return "body"


def map_layers(network: Network, image: Tensor, tokens: Tensor | None = None) -> tuple[MapLayer, ...]:
    """Every layer of the trunk with a map larger than one place, in the order in which they finish.

    Args:
        network: any but an ensemble of whole networks.
        image: (1, C, H, W).
        tokens: (1, L), for a network that takes text.

    Raises:
        ShapeError: if the network cannot take such a scan.
    """
    trunk = trunk_of(network)
    if not trunk:
        return ()
    layers: dict[str, MapLayer] = {}
    grid, prefix = patch_grid(network.get_submodule(trunk))
    handles = []

    def note(name: str) -> Any:
        def hook(_: nn.Module, __: Any, values: Any) -> None:
            layer = _map_layer(name, values, grid, prefix)
            if layer is not None:
                layers.pop(name, None)
                layers[name] = layer

        return hook

    for name, module in network.get_submodule(trunk).named_modules():
        handles.append(module.register_forward_hook(note(f"{trunk}.{name}" if name else trunk)))
    try:
        with borrowed(network), torch.no_grad():
            network(image, tokens) if network.takes_tokens else network(image)
    except RuntimeError as error:
        shape = " × ".join(map(str, image.shape[1:]))
        raise ShapeError(
            f"The network cannot take scans of {shape} (channels, height, width): {str(error).splitlines()[0]}. Give them "
            "as it was trained: with the size and channels of the recipe's data section."
        ) from error
    except AssertionError as error:  # timm raises this for a wrong image size
        raise ShapeError(
            f"The network cannot take scans of this size: {error}. Give them as it was trained."
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    return tuple(layers.values())


def layer_by_name(layers: Sequence[MapLayer], name: str) -> MapLayer:
    """The layer of this name, with or without `body.`.

    Raises:
        RecipeError: if there is none, with the nearest name.
    """
    by_name = {layer.name: layer for layer in layers}
    for spelled in (name, f"body.{name}"):
        if spelled in by_name:
            return by_name[spelled]
    last = [layer.name for layer in last_layers(layers)]
    raise RecipeError(
        f"The network has no layer {name!r} with a map.{did_you_mean(name, by_name)} The last ones of each size: "
        f"{', '.join(last)}."
    )


def last_layers(layers: Sequence[MapLayer]) -> list[MapLayer]:
    """The last layer of each size, from the finest map to the coarsest."""
    last = {(layer.height, layer.width): layer for layer in layers if layer.layout != "tokens" or _is_norm(layer)}
    return sorted(last.values(), key=lambda layer: -layer.height * layer.width)


def finest_last(layers: Sequence[MapLayer], least: int = LEAST) -> MapLayer | None:
    """The last layer whose map has at least so many places a side; the finest one where all are smaller."""
    enough = [layer for layer in last_layers(layers) if min(layer.height, layer.width) >= least]
    return enough[-1] if enough else next(iter(last_layers(layers)), None)


def patch_grid(trunk: nn.Module) -> tuple[tuple[int, int] | None, int]:
    """Rows and columns of a transformer's patches (None for other networks), and how many tokens are no patch."""
    embed = getattr(trunk, "patch_embed", None)
    grid = getattr(embed, "grid_size", None)
    if grid is None or not hasattr(trunk, "blocks"):
        return None, 0
    return (int(grid[0]), int(grid[1])), int(getattr(trunk, "num_prefix_tokens", 0))


def _map_layer(name: str, values: Any, grid: tuple[int, int] | None, prefix: int) -> MapLayer | None:
    if not isinstance(values, Tensor):
        return None
    if grid is not None:  # its maps are its tokens
        if values.ndim == 3 and values.shape[1] == prefix + grid[0] * grid[1]:
            return MapLayer(name, *grid, "tokens", prefix)
        return None
    if values.ndim != 4:
        return None
    _, first, middle, last = values.shape
    if middle != last and first == middle:
        return MapLayer(name, first, middle, "last") if first > 1 else None
    return MapLayer(name, middle, last, "first") if middle * last > 1 else None


def _is_norm(layer: MapLayer) -> bool:
    # After the last attention the class token alone is read: the patches' gradient is zero there.
    return layer.name.endswith(".norm1")
