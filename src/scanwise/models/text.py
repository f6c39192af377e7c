"""Words beside a scan: a small Transformer of our own, or any Hugging Face encoder; and the network of words alone."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scanwise.errors import DataError, RecipeError, WeightsError
from scanwise.models.attention import TransformerBlock
from scanwise.recipe import TextSection

MOST_LAYERS, MOST_SETTING = 256, 10_000_000
_NO_SETTINGS = ("auto_map", "attn_implementation", "quantization_config", "trust_remote_code")


class SmallTextEncoder(nn.Module):
    """A pre-norm Transformer (Vaswani et al. 2017) over word pieces, with learnt positions.

    Args:
        section: section of the recipe; the table of pieces has its number of rows, whatever the vocabulary uses.
    """

    pad = 0

    def __init__(self, section: TextSection) -> None:
        super().__init__()
        self.width, self.length = section.width, section.length
        self.pieces = nn.Embedding(section.words, section.width, padding_idx=self.pad)
        self.places = nn.Parameter(0.02 * torch.randn(section.length, section.width))
        self.blocks = nn.ModuleList(TransformerBlock(section.width, section.heads) for _ in range(section.layers))
        self.norm = nn.LayerNorm(section.width)

    def forward(self, tokens: Tensor, keep: Tensor) -> Tensor:
        """(N, L) tokens to (N, L, width); `keep` (N, L) is True for real tokens, at least one per row."""
        values = self.pieces(tokens) + self.places[: tokens.shape[1]]
        for block in self.blocks:
            values = block(values, keep)
        normal: Tensor = self.norm(values)
        return normal


class HuggingFaceEncoder(nn.Module):
    """An encoder of the `transformers` package.

    Args:
        encoder: its model; half precision becomes float32.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        config: Any = encoder.config
        self.encoder = encoder.float()  # as all else is: transformers takes the precision of the folder
        self.width, self.pad = int(config.hidden_size), int(config.pad_token_id or 0)

    def forward(self, tokens: Tensor, keep: Tensor) -> Tensor:
        """(N, L) tokens to (N, L, width)."""
        values: Tensor = self.encoder(input_ids=tokens, attention_mask=keep.long()).last_hidden_state
        return values


class TextEncoder(nn.Module):
    """Encoder with a learnt value for missing words.

    Args:
        encoder: encoder with `width` and `pad`, called with tokens and their mask.
    """

    def __init__(self, encoder: SmallTextEncoder | HuggingFaceEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.width, self.pad = encoder.width, encoder.pad
        self.nothing = nn.Parameter(0.02 * torch.randn(encoder.width))

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(N, L) tokens to values (N, 1 + L, width) and their mask (N, 1 + L).

        The first value is learnt and never masked, so that a title without words has one too.
        """
        there = tokens != self.pad
        readable = there.clone()
        readable[:, 0] = True  # a row without any key would be NaN
        values = self.encoder(tokens, readable)
        first = self.nothing.to(values.dtype).expand(tokens.shape[0], 1, -1)
        return torch.cat([first, values], dim=1), torch.cat([torch.ones_like(there[:, :1]), there], dim=1)


class TextNetwork(nn.Module):
    """Network of the words alone, against which the contribution of an image is measured.

    Args:
        words: the encoder.
        head: head from `dense_head`.
    """

    takes_tokens = True

    def __init__(self, words: TextEncoder, head: nn.Sequential) -> None:
        super().__init__()
        self.words = words
        self.head = head
        self.classifier = f"head.{len(head) - 1}"

    def forward_features(self, images: Tensor) -> Tensor:
        """(N, 1) zeros."""
        return images.new_zeros(images.shape[0], 1)

    def forward_head(self, features: Tensor | None, pre_logits: bool = False, tokens: Tensor | None = None) -> Tensor:
        if tokens is None:
            raise DataError("This network reads words alone: give tokens.")
        hidden: Tensor = self.head[:-1](masked_mean(*self.words(tokens)))
        return hidden if pre_logits else self.head[-1](hidden)


def masked_mean(values: Tensor, keep: Tensor) -> Tensor:
    """(N, width) mean of the values (N, L, width) in the mask, at least one per row."""
    weights = keep.to(values.dtype)[:, :, None]
    return (values * weights).sum(1) / weights.sum(1)


def build_text_encoder(
    section: TextSection, weights: str, pretrained: bool, config: Mapping[str, Any] | None
) -> TextEncoder:
    """Build the text encoder of a recipe.

    Args:
        section: section of the recipe.
        weights: `none`, `hub`, or the file that the whole network comes from.
        pretrained: False where a checkpoint follows.
        config: configuration of a Hugging Face encoder, from a vocabulary; None to ask the folder or the hub.

    Raises:
        RecipeError: if the encoder cannot be loaded, or a name on the hub comes without model.weights hub.
        WeightsError: if its weights cannot be read.
    """
    if section.encoder == "small":
        return TextEncoder(SmallTextEncoder(section))
    settings = read_encoder_config(section.encoder) if config is None else dict(config)
    with explain_missing_encoder(section.encoder):
        from transformers import AutoConfig, AutoModel

        if pretrained and weights in ("none", "hub"):
            return TextEncoder(HuggingFaceEncoder(_pretrained(section.encoder, weights, AutoModel)))
        config = AutoConfig.for_model(settings.pop("model_type"), **_network_settings(settings))
        return TextEncoder(HuggingFaceEncoder(AutoModel.from_config(config, trust_remote_code=False)))


def _network_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of an encoder that are about the network, and none that names code or is beyond all measure.

    Raises:
        ValueError: if a number is larger than that of any encoder.
    """
    kept = {name: value for name, value in settings.items() if not name.startswith("_") and name not in _NO_SETTINGS}
    for name, value in kept.items():
        most = MOST_LAYERS if "layers" in name else MOST_SETTING
        if isinstance(value, int) and abs(value) > most:
            raise ValueError(f"{name} is larger than {most:,}")
    return kept


def read_encoder_config(name: str) -> dict[str, Any]:
    """Configuration of a Hugging Face encoder, from its folder or the hub."""
    with explain_missing_encoder(name):
        from transformers import AutoConfig

        config: dict[str, Any] = AutoConfig.from_pretrained(
            name, local_files_only=Path(name).is_dir(), trust_remote_code=False
        ).to_diff_dict()
    return config


@contextmanager
def explain_missing_encoder(name: str) -> Iterator[None]:
    """Turn errors about a missing `transformers` or encoder into advice."""
    try:
        yield
    except ImportError as error:
        raise RecipeError(
            f"The encoder {name!r} needs the transformers package: pip install 'scanwise[text]'. "
            "Or set model.text.encoder to small."
        ) from error
    except (OSError, ValueError) as error:
        raise RecipeError(
            f"The encoder {name!r} cannot be loaded, neither from a local folder nor from the hub ({type(error).__name__}). "
            "Give a folder with config.json, tokenizer.json and model.safetensors, or set model.text.encoder to small."
        ) from error


def _pretrained(name: str, weights: str, models: Any) -> nn.Module:
    local = Path(name).is_dir()
    if not local and weights != "hub":
        raise RecipeError(f"{name!r} is not a local folder; to fetch it set model.weights to hub.")
    if local and not any(Path(name).glob("*.safetensors")):
        raise WeightsError(f"The folder {name} holds no safetensors, and weights in pickles are not read.")
    # No code of the folder runs, and no pickle is read.
    encoder: nn.Module = models.from_pretrained(
        name, local_files_only=local, use_safetensors=True, trust_remote_code=False
    )
    return encoder
