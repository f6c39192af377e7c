"""The interface of every network: uint8 pixels of the store in, logits out, normalisation inside."""

import math
from collections.abc import Sequence
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from scanwise.errors import DataError
from scanwise.models.bags import GatedAttention
from scanwise.models.covariates import CovariateTerm


@runtime_checkable
class Body(Protocol):
    """Contract of the module inside a network: timm's two steps.

    A body that reads words has `takes_tokens = True`; `forward_head` then takes `tokens` (N, L) besides, and None for features
    or tokens that are missing.
    """

    def forward_features(self, images: Tensor) -> Tensor:
        """(N, C, H, W) normalised images to a feature map."""
        ...

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """The feature map to (N, classes) logits, or to the (N, D) input of the last layer."""
        ...


@runtime_checkable
class BackboneBody(Body, Protocol):
    """Contract of a body that takes another head: our attention and hidden layers, or that of a network with several parts.

    Attributes:
        num_features: channels of the feature map.
        head_hidden_size: D, the width of `forward_head(…, pre_logits=True)`.
    """

    num_features: int
    head_hidden_size: int


class Network(nn.Module):
    """A body with its normalisation: it takes pixels from 0 to 255.

    Args:
        body: a module with `forward_features` and `forward_head`.
        mean: to subtract from pixels in [0, 1], one value or one a channel.
        std: to divide by.
        classifier: prefix of the body's last layer, "" if it has none.
        draws: draws of dropout in prediction; 0 for none.

    Attributes:
        covariates: part of the person's covariates in the logits, or None.
        scan_attention: scores of the scans of a person from the features under the last layer, or None.
        members: T, the members of an ensemble; 1 for any other network.
        folds_late: True if the members differ in the head alone, so that one feature map serves them all.
        shares_map: True if the body itself gives the logits of all members from one map.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, body: nn.Module, mean: Sequence[float], std: Sequence[float], *, classifier: str = "", draws: int = 0
    ) -> None:
        super().__init__()
        self.body = body
        for name, values in (("mean", mean), ("std", std)):
            # On the CPU even where the rest is on the meta device, whose arithmetic takes seconds to import.
            self.register_buffer(name, 255 * torch.tensor(values, dtype=torch.float32, device="cpu").reshape(-1, 1, 1))
        self.classifier = f"body.{classifier}" if classifier else ""
        self.draws = draws
        self.scan_attention: GatedAttention | None = None
        self.covariates: CovariateTerm | None = None
        self.members = int(getattr(body, "members", 1))
        self.folds_late = self.members > 1
        self.shares_map = bool(getattr(body, "shares_map", False))

    @property
    def takes_tokens(self) -> bool:
        """True if it reads something beside a scan: words, or covariates (N, K) of the person."""
        return self.covariates is not None or self.body_takes_tokens

    @property
    def body_takes_tokens(self) -> bool:
        """True if its body reads them, such as words."""
        return bool(getattr(self.body, "takes_tokens", False))

    def forward_features(self, images: Tensor) -> Tensor:
        """(N, C, H, W) pixels from 0 to 255, of any type, to the body's feature map.

        The members of a batch ensemble that differ in their features follow each other: (T · N, …), a member at a time.
        """
        normal = (images.to(self.mean.dtype) - self.mean) / self.std
        return cast(Body, self.body).forward_features(normal if self.folds_late else self._fold(normal))

    def forward_head(self, features: Tensor | None, pre_logits: bool = False, tokens: Tensor | None = None) -> Tensor:
        """The feature map to (N, classes) logits, or to the (N, D) features under the last layer.

        Of a batch ensemble: the log of the members' mean probability, or the mean of their features.
        """
        values = self._head(features, pre_logits, tokens)
        if self.members == 1:
            return values
        values = values.reshape(self.members, -1, values.shape[1])
        if pre_logits or not self.classifier:
            return torch.mean(values, 0)
        return torch.logsumexp(values.log_softmax(2), 0) - math.log(self.members)

    def forward(self, images: Tensor | None, tokens: Tensor | None = None) -> Tensor:
        """(N, classes) logits.

        Args:
            images: (N, C, H, W); None if there are none, for a network that takes text.
            tokens: (N, L) of the words, for a network that takes text; None if there are none.
        """
        return self.forward_head(self._features(images), tokens=tokens)

    def forward_members(self, images: Tensor | None, tokens: Tensor | None = None) -> Tensor:
        """(N, T, classes) logits of every member, in one pass; one for a network that is no ensemble."""
        return self.head_members(self._features(images), tokens)

    def head_members(self, features: Tensor | None, tokens: Tensor | None = None) -> Tensor:
        """(N, T, classes) logits of every member from what `forward_features` gave."""
        values = self._head(features, False, tokens)
        return values.reshape(self.members, -1, values.shape[1]).transpose(0, 1)

    def score_scans(self, features: Tensor) -> Tensor | None:
        """(N, T) attention of each member to each scan, before the softmax over the scans of its person; None without.

        Args:
            features: (N, D) of `forward_head(…, pre_logits=True)`.
        """
        return None if self.scan_attention is None else self.scan_attention(features)[:, None]

    def _features(self, images: Tensor | None) -> Tensor | None:
        return None if images is None else self.forward_features(images)

    def _head(self, features: Tensor | None, pre_logits: bool, tokens: Tensor | None) -> Tensor:
        if self.covariates is None:
            return self._body_head(features, pre_logits, tokens)
        values = self._body_head(features, pre_logits, None)
        if pre_logits or tokens is None:
            return values
        # Members and draws follow each other, all scans of one before those of the next.
        term: Tensor = self.covariates(tokens)
        return values + term.repeat(values.shape[0] // tokens.shape[0], 1)

    def _body_head(self, features: Tensor | None, pre_logits: bool, tokens: Tensor | None) -> Tensor:
        if features is not None and self.folds_late:
            features = self._fold(features)
        if self.body_takes_tokens:
            if features is None and tokens is None:
                raise DataError("Neither images nor words were given; a network that takes both needs one of them.")
            tokens = None if tokens is None else self._fold(tokens)
            return cast(Any, self.body).forward_head(features, pre_logits=pre_logits, tokens=tokens)  # type: ignore[no-any-return]
        if features is None or tokens is not None:
            raise DataError("This network takes images alone: give images, and no words.")
        return cast(Body, self.body).forward_head(features, pre_logits=pre_logits)

    def _fold(self, values: Tensor) -> Tensor:
        return values if self.members == 1 or self.shares_map else values.repeat(self.members, *[1] * (values.ndim - 1))
