"""Query of a method: network, scans, classes, and the member or draw to explain."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scanwise.explanation.layers import MapLayer
from scanwise.models.dropout import DropoutMasks
from scanwise.models.network import Network


@dataclass(frozen=True, slots=True)
class ExplanationQuery:
    """A batch of scans and the classes to explain.

    Attributes:
        network: inside `layers.borrowed`; no ensemble of whole networks.
        images: (N, C, H, W) float32, 0 to 255.
        targets: (N, K) classes of each scan.
        tokens: (N, L) of the words, for a network that takes text.
        layer: the one that class activation maps read; None for methods that read none.
        member: which member of a batch ensemble; None for all of them together.
        draw: which draw of dropout; None for none.
        half: the type that the network computes in under autocast; None for its own.
    """

    network: Network
    images: Tensor
    targets: Tensor
    tokens: Tensor | None = None
    layer: MapLayer | None = None
    member: int | None = None
    draw: int | None = None
    half: torch.dtype | None = None

    @property
    def scale(self) -> float:
        """The score is multiplied by it and gradients divided, so that half precision does not lose them."""
        return 1024.0 if self.half is torch.float16 else 1.0

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Context of the network's runs: the draw of dropout and the precision."""
        drawing = nullcontext() if self.draw is None else DropoutMasks(_keys(self.images), torch.tensor([self.draw]))
        mixed = nullcontext() if self.half is None else torch.autocast(self.images.device.type, self.half)
        with drawing, mixed:
            yield

    def logits(self, images: Tensor | None = None) -> Tensor:
        """(N, C) float32 of these scans, or of changed ones: several rows a scan, a change at a time."""
        images = self.images if images is None else images
        tokens = self.tokens
        if tokens is not None and len(images) != len(tokens):
            tokens = tokens.repeat(len(images) // len(tokens), 1)
        words = (tokens,) if self.network.takes_tokens else ()
        with self.computing():
            if self.member is None:
                logits: Tensor = self.network(images, *words)
            else:
                logits = self.network.forward_members(images, *words)[:, self.member]
        return logits.float()

    def odds(self, images: Tensor, target: Tensor) -> Tensor:
        """(N,) log-odds of each scan's class against all others; a constant shared by all logits cancels."""
        return log_odds(self.logits(images), target)

    def gradients(self, logits: Tensor, there: Tensor | list[Tensor]) -> list[tuple[Tensor, ...]]:
        """For each of the K targets the gradients of its logit; one forward pass serves them all."""
        wanted = [there] if isinstance(there, Tensor) else there
        gradients_by_target = []
        for k in range(self.targets.shape[1]):
            score = self.scale * logits.gather(1, self.targets[:, k, None]).sum()
            last = k == self.targets.shape[1] - 1
            raw = torch.autograd.grad(score, wanted, retain_graph=not last)
            gradients_by_target.append(tuple(gradient.float() / self.scale for gradient in raw))
        return gradients_by_target

    def own_rows(self, values: Tensor) -> Tensor:
        """(N, …) values of a layer that each member of a batch ensemble has: the mean over members, or those of one."""
        if len(values) == len(self.images):
            return values
        apart = values.reshape(self.network.members, len(self.images), *values.shape[1:])
        own: Tensor = apart.mean(0) if self.member is None else apart[self.member]
        return own


def log_odds(logits: Tensor, target: Tensor) -> Tensor:
    """(N,) log-odds of (N, C) logits for one class a scan; of changed scans, several rows a scan, a change at a time."""
    target = target.repeat(len(logits) // len(target))[:, None]
    others = logits.scatter(1, target, -torch.inf).logsumexp(1)
    return logits.gather(1, target)[:, 0] - others


def _keys(images: Tensor) -> Tensor:
    """(N,) int64 keys of each scan's draws of dropout, from its content."""
    rows = images.detach().cpu().numpy()
    digests = [hashlib.blake2b(np.ascontiguousarray(row).tobytes(), digest_size=8).digest() for row in rows]
    return torch.from_numpy(np.frombuffer(b"".join(digests), dtype="<i8").copy()).to(images.device)
