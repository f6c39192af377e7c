"""Image and words together: each looks at the other, a gate weighs the two, and one alone is enough."""

from typing import cast

import torch
from torch import Tensor, nn

from scanwise.models.attention import ScaledDotProductAttention, sequence
from scanwise.models.network import Body
from scanwise.models.text import TextEncoder, masked_mean


class FusionNetwork(nn.Module):
    """Cross-modal multi-head attention in both directions, then a gate between the two.

    The gate is that of the gated multimodal unit (Arevalo et al. 2017): for each feature, how much comes from the image
    and how much from the words.

    Args:
        image: a backbone without classifier.
        words: the encoder of text.
        width: of the attention.
        heads: of the attention.
        missing: share of training scans that lose their image, and as many others their words.
        head: as `heads.dense` makes it.
    """

    takes_text = True

    def __init__(
        self, image: nn.Module, words: TextEncoder, width: int, heads: int, missing: float, head: nn.Sequential
    ) -> None:
        super().__init__()
        self.image = image
        self.words = words
        self.missing = missing
        self.channels = int(image.num_features)  # type: ignore[arg-type]
        self.no_image = nn.Parameter(0.02 * torch.randn(width))
        self.from_image = nn.Linear(self.channels, width)
        self.from_words = nn.Linear(words.width, width)
        self.image_looks = ScaledDotProductAttention(width, width, width, heads, out=width)
        self.words_look = ScaledDotProductAttention(width, width, width, heads, out=width)
        self.image_norm = nn.LayerNorm(width)
        self.words_norm = nn.LayerNorm(width)
        self.gate = nn.Linear(2 * width, width)
        self.head = head
        self.classifier = f"head.{len(head) - 1}"

    def forward_features(self, images: Tensor) -> Tensor:
        """The backbone's feature map; the words come in with the head."""
        return cast(Body, self.image).forward_features(images)

    def forward_head(self, features: Tensor | None, pre_logits: bool = False, tokens: Tensor | None = None) -> Tensor:
        """The feature map, the tokens (N, L), or both, to (N, classes) or (N, D); None is what is missing."""
        image, words = self._weighed(features, tokens)
        hidden: Tensor = self.head[:-1](image + words)
        return hidden if pre_logits else self.head[-1](hidden)

    def shares(self, features: Tensor | None, tokens: Tensor | None) -> Tensor:
        """(N, 2): how much of what the head sees comes from the image and from the words, by norm; rows sum to one."""
        norms = torch.stack([part.norm(dim=1) for part in self._weighed(features, tokens)], dim=1)
        return norms / norms.sum(1, keepdim=True)

    def attention_maps(self, features: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """What each looks at, the mean over heads: image at words (N, 1 + P, 1 + L), words at image (N, 1 + L, 1 + P).

        The first of each is what stands for a missing image or for missing words.
        """
        (image, seen), (words, said) = self._both(features, tokens)
        return (
            self.image_looks.attention_map(image, words, said).mean(1),
            self.words_look.attention_map(words, image, seen).mean(1),
        )

    def _weighed(self, features: Tensor | None, tokens: Tensor | None) -> tuple[Tensor, Tensor]:
        """(N, width) from the image and (N, width) from the words, as much of each as the gate lets through."""
        (image, seen), (words, said) = self._both(features, tokens)
        looked = self.image_norm(image + self.image_looks(image, words, said))
        read = self.words_norm(words + self.words_look(words, image, seen))
        pooled, told = masked_mean(looked, seen), masked_mean(read, said)
        gate = torch.sigmoid(self.gate(torch.cat([pooled, told], dim=1)))
        # What is missing gets nothing; where both are, the words' learnt stand-in speaks.
        has_image, has_words = seen[:, 1:].any(1, keepdim=True), said[:, 1:].any(1, keepdim=True)
        gate = torch.where(has_image, torch.where(has_words, gate, 1.0), 0.0)
        return gate * pooled, (1 - gate) * told

    def _both(self, features: Tensor | None, tokens: Tensor | None) -> tuple[tuple[Tensor, Tensor], ...]:
        """Values and which to keep, of the image and of the words, each with its stand-in first."""
        if tokens is None:
            tokens = torch.full(
                (0 if features is None else len(features), 1), self.words.pad, device=self.no_image.device
            )
        words, said = self.words(tokens)
        places = (
            words.new_zeros(len(words), 0, self.channels) if features is None else sequence(features, self.channels)
        )
        stand_in = self.no_image.expand(len(words), 1, -1)
        image = torch.cat([stand_in, self.from_image(places)], dim=1)
        seen = torch.ones(image.shape[:2], dtype=torch.bool, device=image.device)
        if self.training and self.missing:
            seen, said = self._lose(seen, said)
        return (image, seen), (self.from_words(words), said)

    def _lose(self, seen: Tensor, said: Tensor) -> tuple[Tensor, Tensor]:
        """Take the image from some rows and the words from others, where a row has both."""
        chance = torch.rand(len(seen), 1, device=seen.device)
        chance = torch.where(seen[:, 1:].any(1, keepdim=True) & said[:, 1:].any(1, keepdim=True), chance, 1.0)
        first_only = torch.zeros_like(seen), torch.zeros_like(said)
        for part in first_only:
            part[:, 0] = True
        image_gone, words_gone = chance < self.missing, (chance >= self.missing) & (chance < 2 * self.missing)
        return torch.where(image_gone, first_only[0], seen), torch.where(words_gone, first_only[1], said)
