"""Deep ensembles (Lakshminarayanan et al. 2017): whole networks, each trained from a seed of its own."""

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from scanwise.models.network import Network


class DeepEnsemble(Network):
    """Several networks as one, by the mean of their probabilities.

    Args:
        networks: at least two networks of one shape, none of them an ensemble.
    """

    def __init__(self, networks: Sequence[Network]) -> None:
        super().__init__(nn.ModuleList(networks), (0.0,), (1.0,))  # each network has its own normalisation
        self.members = len(networks)

    @property
    def networks(self) -> list[Network]:
        return list(cast(Any, self.body))

    @property
    def takes_tokens(self) -> bool:
        return self.networks[0].takes_tokens

    @property
    def body_takes_tokens(self) -> bool:
        return self.networks[0].body_takes_tokens

    def forward_features(self, images: Tensor) -> Any:
        """A tuple of each network's feature map."""
        return tuple(network.forward_features(images) for network in self.networks)

    def forward_head(self, features: Any, pre_logits: bool = False, tokens: Tensor | None = None) -> Tensor:
        """The log of the networks' mean probability (N, classes), or their features side by side (N, T · D)."""
        if pre_logits:
            parts = [network.forward_head(maps, True, tokens) for network, maps in self._each(features)]
            return torch.cat(parts, dim=1)
        return self.head_members(features, tokens).log_softmax(2).logsumexp(1) - math.log(self.members)

    def head_members(self, features: Any, tokens: Tensor | None = None) -> Tensor:
        return torch.stack([network.forward_head(maps, tokens=tokens) for network, maps in self._each(features)], 1)

    def score_scans(self, features: Tensor) -> Tensor | None:
        parts = features.chunk(self.members, dim=1)
        scores = [network.score_scans(part) for network, part in zip(self.networks, parts, strict=True)]
        own = [score for score in scores if score is not None]
        return torch.cat(own, dim=1) if own else None

    def _each(self, features: Any) -> list[tuple[Network, Tensor | None]]:
        return list(zip(self.networks, [None] * self.members if features is None else features, strict=True))
