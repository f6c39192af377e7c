"""Frozen and trained parts of a network in each stage, and their learning rates.

The backbone computes the feature maps, the head is the rest: found from gradients, not from names, so that it holds for
every network with `forward_features` and `forward_head`.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from scanwise.errors import RecipeError
from scanwise.models import Network
from scanwise.recipe import Train, TrainingStage

Maps = Tensor | tuple[Tensor, ...]
"""Output of `forward_features`: a feature map, or one per backbone."""


@dataclass(frozen=True, slots=True)
class NetworkParts:
    """Backbone blocks and head of a network.

    Attributes:
        depths: number of blocks between the head and each parameter, by name: 0 for the head itself, 1 for the last
            block of a backbone.
        walked: names of the modules that compute feature maps.
    """

    depths: dict[str, int]
    walked: frozenset[str]

    @property
    def blocks(self) -> int:
        """Number of blocks of the (deepest) backbone."""
        return max(self.depths.values(), default=0)

    def fingerprint(self, network: Network) -> str:
        """Hash of all weights and buffers behind the feature maps."""
        digest = hashlib.sha256()
        for name, tensor in network.state_dict().items():
            own = name in ("mean", "std") or name.rpartition(".")[0] in self.walked
            if own or self.depths.get(name, 0):
                digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class StageRun:
    """Training stage at run time.

    Attributes:
        section: its section of the recipe.
        index: its place among the stages.
        first: number of epochs before it.
        parts: of the network; None where everything learns at one rate.
    """

    section: TrainingStage
    index: int = 0
    first: int = 0
    parts: NetworkParts | None = None


def stages_of(train: Train) -> tuple[TrainingStage, ...]:
    """Stages of a recipe; by default one that trains everything, or none without epochs."""
    return train.stages or ((TrainingStage(epochs=train.epochs),) if train.epochs else ())


def find_network_parts(network: Network, channels: int, size: int) -> NetworkParts:
    """Find backbone, its blocks and head of a network with one scan of zeros.

    A network whose feature maps have no parameters, such as one of words alone, is all head.

    Args:
        network: unchanged, but all its parameters require gradients afterwards.
        channels: of the scans.
        size: their side in pixels.
    """
    network.requires_grad_(True)
    names, parameters = zip(*network.named_parameters(), strict=True)
    walked, maps = _walk(network, torch.zeros(1, channels, size, size, device=network.mean.device))
    learnt = [part.float().sum() for part in tensors_of(maps) if part.requires_grad]
    gradients = torch.autograd.grad(learnt, parameters, allow_unused=True) if learnt else ()
    backbone = [name for name, gradient in zip(names, gradients, strict=False) if gradient is not None]
    depths = dict.fromkeys(names, 0)
    for blocks in _backbones(network, backbone):
        for depth, block in enumerate(reversed(blocks), 1):
            depths.update(dict.fromkeys(block, depth))
    return NetworkParts(depths, walked)


def apply_freezing(network: Network, parts: NetworkParts, stage: TrainingStage) -> None:
    """Freeze the stage's frozen parameters, and set the mode of each module: evaluation where it is frozen.

    Frozen batch norm neither learns nor updates its statistics; frozen dropout drops nothing.

    Raises:
        RecipeError: if the backbone has fewer blocks than the stage trains.
    """
    if stage.top > parts.blocks:
        raise RecipeError(
            f"train.stages: top is {stage.top}, but the backbone has {parts.blocks} blocks; lower it, or set freeze: none."
        )
    frozen = stage.freeze == "backbone"
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(not frozen or parts.depths[name] <= stage.top)
    network.train()
    if not frozen:
        return
    modules = dict(network.named_modules())
    for name in parts.walked:
        # Its own mode, not that of its children, which may belong to a block that is trained.
        modules[name].training = stage.top > 0 and _is_trained(modules, name)


def parameter_groups(
    network: Network, parts: NetworkParts | None, stage: TrainingStage, lr: float
) -> list[nn.Parameter] | list[dict[str, Any]]:
    """Parameters for the optimiser: all that are trained, or with discriminative rates one group per block, the head first."""
    if parts is None:
        return list(network.parameters())
    learning = [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]
    if stage.layer_decay == 1:
        return [parameter for _, parameter in learning]
    groups: dict[int, list[nn.Parameter]] = {}
    for name, parameter in learning:
        groups.setdefault(parts.depths[name], []).append(parameter)
    return [{"params": groups[depth], "lr": lr * stage.layer_decay**depth} for depth in sorted(groups)]


def tensors_of(maps: Maps) -> tuple[Tensor, ...]:
    """Feature maps as a tuple of one or several."""
    return (maps,) if isinstance(maps, Tensor) else tuple(maps)


def _walk(network: Network, scan: Tensor) -> tuple[frozenset[str], Maps]:
    """Names of the modules behind the feature maps of a scan, and these maps."""
    walked: set[str] = set()
    modes = {name: module.training for name, module in network.named_modules()}
    hooks = [
        module.register_forward_hook(lambda *_, name=name: walked.add(name)) for name, module in network.named_modules()
    ]
    try:
        maps: Maps = network.eval().forward_features(scan)
    finally:
        for hook in hooks:
            hook.remove()
        for name, module in network.named_modules():
            module.training = modes[name]
    return frozenset(walked), maps


def _backbones(network: nn.Module, names: list[str]) -> Iterator[list[list[str]]]:
    """Blocks of each backbone, first block first, as lists of parameter names."""
    from timm.models import group_parameters

    left = dict.fromkeys(names)
    for prefix, module in network.named_modules():
        own = [name for name in left if name.startswith(f"{prefix}.")]
        if not own or not hasattr(module, "group_matcher"):
            continue
        groups = group_parameters(module, module.group_matcher(coarse=False))
        blocks = [[f"{prefix}.{name}" for name in group if f"{prefix}.{name}" in left] for group in groups.values()]
        yield [block for block in blocks if block]
        for name in own:
            del left[name]
    if left:  # no timm model: parameters with one number in their path are one block
        named: dict[str, list[str]] = {}
        for name in left:
            named.setdefault(re.sub(r"(\.\d+)\..*", r"\1", name), []).append(name)
        yield list(named.values())


def _is_trained(modules: dict[str, nn.Module], name: str) -> bool:
    """True if a module, or for one without parameters the nearest module around it, is trained."""
    while not (own := list(modules[name].parameters())):
        name = name.rpartition(".")[0]
    return any(parameter.requires_grad for parameter in own)
