"""Which words spoke, which regions of the image, and the share of each: what `text` and `fusion` read."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from scanwise.errors import DataError, RecipeError
from scanwise.explanation.layers import lent, places
from scanwise.models.fusion import Fusion
from scanwise.records import FloatArray, IntArray

if TYPE_CHECKING:
    from scanwise.models import Network


@dataclass(frozen=True, slots=True)
class Spoken:
    """What each part of a title and of an image gave, about one class a scan.

    Attributes:
        fall: (N, L) by how much the log-odds of the class fall when the token is taken out; 0 where there is none.
        looked: (N, L) how much the image looks at each token, rows that sum to at most one; None for words alone.
        regions: (N, h, w) how much the words look at each place of the image; None for words alone.
        shares: (N, 2) of what the head sees, from the image and from the words; None for words alone.
        targets: (N,) the class.
    """

    fall: FloatArray
    looked: FloatArray | None
    regions: FloatArray | None
    shares: FloatArray | None
    targets: IntArray


def spoken(
    network: "Network",
    scans: Any,
    tokens: IntArray,
    *,
    targets: IntArray | None = None,
    batch: int = 16,
    device: str = "cpu",
) -> Spoken:
    """What words and regions give.

    Args:
        network: `text` or `fusion`.
        scans: (N, H, W, C) uint8; None for `text`.
        tokens: (N, L).
        targets: (N,) the class of each scan; None for the predicted one.

    Raises:
        RecipeError: if the network reads no words.
    """
    if not network.takes_text:
        raise RecipeError("This network reads no words; explain it with heatmaps.")
    fuses = isinstance(network.body, Fusion)
    if fuses and scans is None:
        raise DataError("A network of image and words is explained with both: give the scans.")
    parts: list[tuple[Any, ...]] = []
    network.to(device)
    with lent(network), torch.no_grad():
        for start in range(0, len(tokens), batch):
            here = slice(start, start + batch)
            words = torch.from_numpy(np.asarray(tokens[here], np.int64)).to(device)
            images = torch.from_numpy(np.asarray(scans[here])).to(device).permute(0, 3, 1, 2) if fuses else None
            parts.append(_batch(network, images, words, None if targets is None else targets[here]))
    columns = [None if column[0] is None else np.concatenate(column) for column in zip(*parts, strict=True)]
    return Spoken(*columns)  # type: ignore[arg-type]


def _batch(network: "Network", images: Tensor | None, words: Tensor, targets: IntArray | None) -> tuple[Any, ...]:
    features = None if images is None else network.forward_features(images)
    logits = network.forward_head(features, tokens=words)
    asked = logits.argmax(1) if targets is None else torch.from_numpy(np.asarray(targets, np.int64)).to(words.device)
    pad = int(_words_of(network).pad)
    whole = _odds(logits, asked)
    fall = torch.zeros(words.shape, device=words.device)
    for place in range(words.shape[1]):
        there = words[:, place] != pad
        if there.any():
            less = words.clone()
            less[:, place] = pad
            without = _odds(network.forward_head(features, tokens=less), asked)
            fall[:, place] = torch.where(there, whole - without, 0)
    told = [fall.cpu().numpy(), None, None, None, asked.cpu().numpy()]
    body = network.body
    if isinstance(body, Fusion) and features is not None and images is not None:
        told[1:4] = _fused(network, body, features, images, words)
    return tuple(told)


def _fused(network: "Network", body: Fusion, features: Tensor, images: Tensor, words: Tensor) -> list[Any]:
    """What image and words look at in each other, and the share of each; of a batch ensemble the mean of its members."""
    count, members = len(words), network.members
    tokens = words.repeat(members, 1)
    maps = features.repeat(members, *[1] * (features.ndim - 1)) if network.folds_late else features
    image_looks, words_look = body.attention_maps(maps, tokens)
    said = (tokens != int(body.words.pad)).float()
    looked = image_looks[:, 1:, 1:].mean(1)
    seen = (words_look[:, 1:, 1:] * said[:, :, None]).sum(1) / said.sum(1, keepdim=True).clamp(min=1)
    height, width = _sides(network, images, words, seen.shape[1])
    both = [looked, seen, body.shares(maps, tokens)]
    mean = [one.reshape(members, count, -1).mean(0).float().cpu().numpy() for one in both]
    return [mean[0], mean[1].reshape(count, height, width), mean[2]]


def _sides(network: "Network", images: Tensor, words: Tensor, count: int) -> tuple[int, int]:
    """Rows and columns of the map that the words look at."""
    for place in reversed(places(network, images[:1], words[:1])):
        if place.height * place.width == count:
            return place.height, place.width
    side = round(count**0.5)
    return (side, side) if side * side == count else (1, count)


def _words_of(network: "Network") -> Any:
    return network.body.words


def _odds(logits: Tensor, target: Tensor) -> Tensor:
    own = logits.gather(1, target[:, None])
    return own[:, 0] - logits.scatter(1, target[:, None], -torch.inf).logsumexp(1)
