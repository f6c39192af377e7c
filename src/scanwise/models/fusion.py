"""Image and words together: attention in both directions, then a gate between the two; either may be missing."""

from typing import cast

import torch
from torch import Tensor, nn

from scanwise.models.attention import ScaledDotProductAttention, sequence
from scanwise.models.network import Body
from scanwise.models.text import TextEncoder, masked_mean


class FusionNetwork(nn.Module):
    """Cross-modal multi-head attention in both directions, then a gate between the two.

    The gate is that of the gated multimodal unit (Arevalo et al. 2017): for each feature, the shares of image and words.

    Args:
        image: a backbone without classifier.
        words: the encoder of text.
        width: of the attention.
        heads: of the attention.
        missing: share of training scans that lose their image, and the same share their words.
        head: head from `dense_head`.
    """

    takes_tokens = True

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
        """The backbone's feature map; the words enter in the head."""
        return cast(Body, self.image).forward_features(images)

    def forward_head(self, features: Tensor | None, pre_logits: bool = False, tokens: Tensor | None = None) -> Tensor:
        """The feature map, the tokens (N, L), or both, to (N, classes) or (N, D); None for a missing part."""
        image, words = self._gated(features, tokens)
        hidden: Tensor = self.head[:-1](image + words)
        return hidden if pre_logits else self.head[-1](hidden)

    def shares(self, features: Tensor | None, tokens: Tensor | None) -> Tensor:
        """(N, 2): shares of image and words in the input of the head, by norm; rows sum to one."""
        norms = torch.stack([part.norm(dim=1) for part in self._gated(features, tokens)], dim=1)
        return norms / norms.sum(1, keepdim=True)

    def attention_maps(self, features: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Attention of image to words (N, 1 + P, 1 + L) and of words to image (N, 1 + L, 1 + P), mean over heads.

        The first of each stands for a missing image or for missing words.
        """
        (image, image_mask), (words, word_mask) = self._both(features, tokens)
        return (
            self.image_looks.attention_map(image, words, word_mask).mean(1),
            self.words_look.attention_map(words, image, image_mask).mean(1),
        )

    def _gated(self, features: Tensor | None, tokens: Tensor | None) -> tuple[Tensor, Tensor]:
        """(N, width) from the image and (N, width) from the words, after the gate."""
        (image, image_mask), (words, word_mask) = self._both(features, tokens)
        image_values = self.image_norm(image + self.image_looks(image, words, word_mask))
        word_values = self.words_norm(words + self.words_look(words, image, image_mask))
        image_mean, word_mean = masked_mean(image_values, image_mask), masked_mean(word_values, word_mask)
        gate = torch.sigmoid(self.gate(torch.cat([image_mean, word_mean], dim=1)))
        # A missing part has no weight; if both are missing, the words' learnt stand-in is used.
        has_image, has_words = image_mask[:, 1:].any(1, keepdim=True), word_mask[:, 1:].any(1, keepdim=True)
        gate = torch.where(has_image, torch.where(has_words, gate, 1.0), 0.0)
        return gate * image_mean, (1 - gate) * word_mean

    def _both(self, features: Tensor | None, tokens: Tensor | None) -> tuple[tuple[Tensor, Tensor], ...]:
        """Values and masks of the image and of the words, each with its stand-in first."""
        if tokens is None:
            tokens = torch.full(
                (0 if features is None else len(features), 1), self.words.pad, device=self.no_image.device
            )
        words, word_mask = self.words(tokens)
        regions = (
            words.new_zeros(words.shape[0], 0, self.channels) if features is None else sequence(features, self.channels)
        )
        stand_in = self.no_image.expand(words.shape[0], 1, -1)
        image = torch.cat([stand_in, self.from_image(regions)], dim=1)
        image_mask = torch.ones(image.shape[:2], dtype=torch.bool, device=image.device)
        if self.training and self.missing:
            image_mask, word_mask = self._drop_parts(image_mask, word_mask)
        return (image, image_mask), (self.from_words(words), word_mask)

    def _drop_parts(self, image_mask: Tensor, word_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Remove the image from some rows and the words from others, among rows with both."""
        chance = torch.rand(len(image_mask), 1, device=image_mask.device)
        chance = torch.where(
            image_mask[:, 1:].any(1, keepdim=True) & word_mask[:, 1:].any(1, keepdim=True), chance, 1.0
        )
        first_only = torch.zeros_like(image_mask), torch.zeros_like(word_mask)
        for part in first_only:
            part[:, 0] = True
        image_gone, words_gone = chance < self.missing, (chance >= self.missing) & (chance < 2 * self.missing)
        return torch.where(image_gone, first_only[0], image_mask), torch.where(words_gone, first_only[1], word_mask)
