"""Which part of a network learns in a stage of its training, and at which rate.

The backbone is what feature maps come from, the head is the rest: found by asking the gradient, not by names, so that
it holds for every network with `forward_features` and `forward_head`.
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
"""What `forward_features` gives: a feature map, or one of each backbone."""


@dataclass(frozen=True, slots=True)
class NetworkParts:
    """A network taken apart.

    Attributes:
        depths: each parameter's name, and how many blocks down from the head it lies: 0 is the head itself, 1 the
            uppermost block of a backbone.
        walked: names of the modules that compute feature maps.
    """

    depths: dict[str, int]
    walked: frozenset[str]

    @property
    def blocks(self) -> int:
        """How many blocks the (deepest) backbone has."""
        return max(self.depths.values(), default=0)

    def fingerprint(self, network: Network) -> str:
        """Hash of all weights and buffers that feature maps depend on."""
        told = hashlib.sha256()
        for name, tensor in network.state_dict().items():
            own = name in ("mean", "std") or name.rpartition(".")[0] in self.walked
            if own or self.depths.get(name, 0):
                told.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
        return told.hexdigest()


@dataclass(frozen=True, slots=True)
class StageRun:
    """A stage as it runs.

    Attributes:
        section: what the recipe says of it.
        index: its place among the stages.
        first: how many epochs were trained before it.
        parts: of the network; None where everything learns at one rate.
    """

    section: TrainingStage
    index: int = 0
    first: int = 0
    parts: NetworkParts | None = None


def stages_of(train: Train) -> tuple[TrainingStage, ...]:
    """The stages of a recipe; without any, one in which everything learns, or none where nothing shall."""
    return train.stages or ((TrainingStage(epochs=train.epochs),) if train.epochs else ())


def find_network_parts(network: Network, channels: int, size: int) -> NetworkParts:
    """Tell backbone from head, and the backbone's blocks from each other, with one scan of zeros.

    A network that makes its feature maps of nothing that learns, as one of words alone, is head throughout.

    Args:
        network: left as it was, with all its parameters set to learn.
        channels: of the scans.
        size: their side in pixels.
    """
    network.requires_grad_(True)
    names, parameters = zip(*network.named_parameters(), strict=True)
    walked, maps = _walk(network, torch.zeros(1, channels, size, size, device=network.mean.device))
    learnt = [part.float().sum() for part in tensors_of(maps) if part.requires_grad]
    gradients = torch.autograd.grad(learnt, parameters, allow_unused=True) if learnt else ()
    backbone = [name for name, found in zip(names, gradients, strict=False) if found is not None]
    depths = dict.fromkeys(names, 0)
    for blocks in _backbones(network, backbone):
        for depth, block in enumerate(reversed(blocks), 1):
            depths.update(dict.fromkeys(block, depth))
    return NetworkParts(depths, walked)


def apply_freezing(network: Network, parts: NetworkParts, stage: TrainingStage) -> None:
    """Freeze what the stage holds still, and set the mode of each module: training, or evaluation where it is held.

    Batch norm that is held neither learns nor counts; dropout that is held lets everything through.

    Raises:
        RecipeError: if fewer blocks are there than shall learn.
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
        # Of its own, not of its children, which may belong to a block that learns.
        modules[name].training = stage.top > 0 and _learns(modules, name)


def parameter_groups(
    network: Network, parts: NetworkParts | None, stage: TrainingStage, lr: float
) -> list[nn.Parameter] | list[dict[str, Any]]:
    """What an optimiser is to move: all that learns, or with discriminative rates a group a block, the head first."""
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
    """Feature maps as a tuple, one or several."""
    return (maps,) if isinstance(maps, Tensor) else tuple(maps)


def _walk(network: Network, scan: Tensor) -> tuple[frozenset[str], Maps]:
    """The feature maps of a scan, and which modules they come from."""
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
    """The blocks of each backbone, lowest first, as lists of parameter names."""
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
    if left:  # no timm model: what has one number in its path is one block
        named: dict[str, list[str]] = {}
        for name in left:
            named.setdefault(re.sub(r"(\.\d+)\..*", r"\1", name), []).append(name)
        yield list(named.values())


def _learns(modules: dict[str, nn.Module], name: str) -> bool:
    """Whether a module, or for one without parameters the nearest module around it, has some that learn."""
    while not (own := list(modules[name].parameters())):
        name = name.rpartition(".")[0]
    return any(parameter.requires_grad for parameter in own)
