"""Batch ensembles (Wen et al. 2020): members that share every weight but two vectors a layer, run in one pass.

The weight of member t is W · r_t s_tᵀ, so its output is s_t · (W (r_t · x)): the members are folded into the batch. The
usual start, r and s of random signs, is for networks with a random start. Ours is 1 + N(0, sigma), so that a
converted network keeps its pretrained weights, and each member begins near it.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from scanwise.errors import RecipeError
from scanwise.models.network import Network
from scanwise.recipe import Members


class BatchEnsembleLayer(nn.Module):
    """Convolution or linear layer shared by all members, with vectors of each member around it.

    Args:
        base: the layer with its weights; its bias becomes one per member.
        members: T.

    Attributes:
        into: (T, channels in) factors of the input.
        out: (T, channels out) factors of the output.
    """

    def __init__(self, base: nn.Conv2d | nn.Linear, members: int) -> None:
        super().__init__()
        like = base.weight
        if isinstance(base, nn.Conv2d):
            ins, outs = base.in_channels, base.out_channels
        else:
            ins, outs = base.in_features, base.out_features
        self.axis = 1 if isinstance(base, nn.Conv2d) else -1
        self.base = base
        self.into = nn.Parameter(like.new_ones(members, ins))
        self.out = nn.Parameter(like.new_ones(members, outs))
        bias = base.bias
        base.bias = None
        self.bias = None if bias is None else nn.Parameter(bias.detach().repeat(members, 1))

    def forward(self, values: Tensor) -> Tensor:
        """Rows of T members, one member after the other."""
        shared: Tensor = self.base((self._apart(values) * self._factors(self.into, values)).flatten(0, 1))
        answer = self._apart(shared)
        answer = answer * self._factors(self.out, answer[0])
        if self.bias is not None:
            answer = answer + self._factors(self.bias, answer[0])
        return answer.flatten(0, 1)

    def _apart(self, values: Tensor) -> Tensor:
        """(T, N, …) of rows of T members."""
        return values.reshape(len(self.into), -1, *values.shape[1:])

    def _factors(self, vectors: Tensor, values: Tensor) -> Tensor:
        """Vectors (T, channels), one for all rows of a member, to multiply values (T, N, …) with."""
        shape = [1] * values.ndim
        shape[self.axis] = vectors.shape[1]
        return vectors.reshape(len(vectors), *shape)


def to_batch_ensemble(network: Network, section: Members) -> None:
    """Turn a network into a batch ensemble, in place and with its weights; random numbers are torch's own.

    Raises:
        RecipeError: if it has no layer to convert.
    """
    layers = _convertible(network.body)
    if not layers:
        raise RecipeError("This network has no convolution or linear layer; members.kind batch_ensemble needs one.")
    chosen = layers if section.layers == "all" else layers[-section.layers :]
    for name in chosen:
        parent, _, child = name.rpartition(".")
        base = network.body.get_submodule(name)
        setattr(network.body.get_submodule(parent), child, BatchEnsembleLayer(base, section.number))  # type: ignore[arg-type]
    network.members = section.number
    last = network.classifier.removeprefix("body.")
    network.folds_late = all(name == last or name.startswith(("head.", "attention.")) for name in chosen)
    _start(network, section)


def is_batch_ensemble(state: Mapping[str, Tensor]) -> bool:
    """True if weights are those of a batch ensemble, with fast weights.

    >>> is_batch_ensemble({"fc.base.weight": torch.ones(2, 3), "fc.into": torch.ones(4, 3)}), is_batch_ensemble({"fc.weight": torch.ones(2, 3)})
    (True, False)
    """
    return any(name.endswith(".base.weight") and name.replace("base.weight", "into") in state for name in state)


def draw_fast_weights(network: nn.Module, sigma: float) -> None:
    """Draw every fast weight from 1 + N(0, sigma); with 0 each member equals the converted network."""
    with torch.no_grad():
        for vectors in _vectors(network):
            vectors.copy_(1 + sigma * torch.randn_like(vectors))


def _start(network: Network, section: Members) -> None:
    if section.start == "normal":
        return draw_fast_weights(network, section.sigma)
    with torch.no_grad():
        for vectors in _vectors(network):
            vectors.copy_(torch.randint_like(vectors, 2) * 2 - 1)
    return None


def _vectors(network: nn.Module) -> Iterator[nn.Parameter]:
    for module in network.modules():
        if isinstance(module, BatchEnsembleLayer):
            yield from (module.into, module.out)


def _convertible(body: nn.Module) -> list[str]:
    """Names of the layers that can have fast weights, from input to output."""
    return [name for name, module in body.named_modules() if isinstance(module, nn.Conv2d) or _is_linear(module)]


def _is_linear(module: nn.Module) -> bool:
    """True for a plain linear layer: an ordinal one does more, and torch's own attention reads the weights of its last
    layer without calling it."""
    odd = nn.modules.linear.NonDynamicallyQuantizableLinear
    return type(module).forward is nn.Linear.forward and not isinstance(module, odd)
