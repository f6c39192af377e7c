"""Vocabularies, from titles to tokens: learnt from the training titles alone, or from a Hugging Face encoder.

A vocabulary is saved as JSON in the run and in the bundle, and turns words into (N, L) integers from then on.
"""

import bisect
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from scanwise.errors import DataError, RecipeError, RunError
from scanwise.recipe import TextSection
from scanwise.records import IntArray, StrArray
from scanwise.run import write_json
from scanwise.untrusted import parse_json, quote

MOST_TOKENS = 4096
_PAD, _UNKNOWN = "[PAD]", "[UNK]"


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Vocabulary that turns titles into tokens.

    Attributes:
        tokenizer: JSON of a `tokenizers` tokenizer.
        length: L, the number of tokens that each title is cut or padded to.
        pad: token for padding; a title of padding only is missing.
        encoder: configuration of its Hugging Face encoder; None for `small`.
    """

    tokenizer: str
    length: int
    pad: int = 0
    encoder: Mapping[str, Any] | None = None

    @classmethod
    def learn(cls, titles: Iterable[str], section: TextSection) -> Self:
        """Learn word pieces from the training titles, or take those of the recipe's encoder.

        Args:
            titles: titles of the training scans, and of no others.
            section: section of the recipe.

        Raises:
            DataError: if no title has a word.
            RecipeError: if the encoder cannot be loaded.
        """
        if section.encoder != "small":
            return cls._of_encoder(section)
        from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

        texts = sorted(title for title in titles if title.strip())  # independent of the order of the scans
        if not texts:
            raise DataError(
                "No training scan has a title. Give the table of scans a column `text`, or use images alone."
            )
        # Byte-pair encoding (Sennrich et al. 2016), with a mark at the start of each word. A mark inside words, as in WordPiece,
        # would make the result depend on the order of a hash table.
        learnt = Tokenizer(models.BPE(unk_token=_UNKNOWN, fuse_unk=True))
        learnt.normalizer = normalizers.BertNormalizer(lowercase=True)
        learnt.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Metaspace(prepend_scheme="always")]
        )
        trainer = trainers.BpeTrainer(vocab_size=section.words, special_tokens=[_PAD, _UNKNOWN], show_progress=False)
        learnt.train_from_iterator(texts, trainer)
        if learnt.get_vocab_size() > section.words:
            raise RecipeError(
                f"The letters of the titles alone need {learnt.get_vocab_size()} entries, but model.text.words is "
                f"{section.words}. Raise it."
            )
        return cls(learnt.to_str(), section.length)

    @classmethod
    def _of_encoder(cls, section: TextSection) -> Self:
        from scanwise.models.text import explain_missing_encoder, read_encoder_config

        with explain_missing_encoder(section.encoder):
            from transformers import AutoTokenizer

            quick = AutoTokenizer.from_pretrained(section.encoder, trust_remote_code=False)
        config = read_encoder_config(section.encoder)
        if not getattr(quick, "backend_tokenizer", None) or quick.pad_token_id is None:
            raise RecipeError(f"The encoder {section.encoder!r} has no fast tokenizer with padding. Choose another.")
        most = int(config.get("max_position_embeddings", section.length))
        if section.length > most:
            raise RecipeError(f"{section.encoder!r} reads {most} tokens, but model.text.length is {section.length}.")
        return cls(quick.backend_tokenizer.to_str(), section.length, int(quick.pad_token_id), config)

    def __call__(self, titles: Sequence[str] | StrArray) -> IntArray:
        """(N, L) int32 tokens; a title without a word is all `pad`.

        >>> learnt = Vocabulary.learn(["a red shirt", "blue jeans"], TextSection(length=4))
        >>> learnt(["red jeans", " "]).shape, learnt([""]).tolist()
        ((2, 4), [[0, 0, 0, 0]])
        """
        from tokenizers import Tokenizer

        reader = Tokenizer.from_str(self.tokenizer)
        reader.no_padding()
        reader.enable_truncation(self.length)
        tokens = np.full((len(titles), self.length), self.pad, dtype=np.int32)
        for row, title in enumerate(titles):
            if str(title).strip():
                pieces = reader.encode(str(title)).ids
                tokens[row, : len(pieces)] = pieces
        return tokens

    def words(self, titles: Sequence[str] | StrArray) -> tuple[list[tuple[str, ...]], IntArray]:
        """Words of titles as they are written, and (N, L) the index of each token's word.

        Words are separated by blanks. -1 is for padding and for special tokens; a word without a token is beyond the length,
        and the network does not read it.

        >>> learnt = Vocabulary.learn(["a red shirt", "blue jeans"], TextSection(length=4))
        >>> learnt.words(["Red jeans", " "])[0]
        [('Red', 'jeans'), ()]
        """
        from tokenizers import Tokenizer

        reader = Tokenizer.from_str(self.tokenizer)
        reader.no_padding()
        reader.enable_truncation(self.length)
        words_of: list[tuple[str, ...]] = []
        positions = np.full((len(titles), self.length), -1, dtype=np.int32)
        for row, title in enumerate(titles):
            parts = list(re.finditer(r"\S+", str(title)))
            words_of.append(tuple(part[0] for part in parts))
            if not parts:
                continue
            ends, read = [part.end() for part in parts], reader.encode(str(title))
            for position, ((start, end), added) in enumerate(zip(read.offsets, read.special_tokens_mask, strict=True)):
                if (
                    not added and end > start
                ):  # some tokenizers count the blank before a word as part of it: so its end decides
                    positions[row, position] = bisect.bisect_left(ends, end)
        return words_of, positions

    def __len__(self) -> int:
        from tokenizers import Tokenizer

        return int(Tokenizer.from_str(self.tokenizer).get_vocab_size())

    def save(self, path: Path) -> None:
        """Write it as JSON, atomically."""
        content = {
            "length": self.length,
            "pad": self.pad,
            "encoder": self.encoder,
            "tokenizer": json.loads(self.tokenizer),
        }
        write_json(content, path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a saved vocabulary.

        Raises:
            RunError: if it is missing or damaged.
        """
        try:
            content = parse_json(path.read_text(encoding="utf-8"))
            tokenizer, encoder = json.dumps(content["tokenizer"], ensure_ascii=False), content["encoder"]
            length = min(int(content["length"]), MOST_TOKENS)
            loaded = cls(tokenizer, length, int(content["pad"]), None if encoder is None else dict(encoder))
            loaded(["a word"])
        except Exception as error:  # a damaged tokenizer raises errors of no kind
            raise RunError(
                f"The vocabulary {path} cannot be read ({quote(str(error), 200)[1:-1]}). Copy the whole folder again."
            ) from error
        return loaded


def titles_as_read(titles: Sequence[str] | StrArray, section: TextSection, classes: Sequence[str]) -> list[str]:
    """Titles as a network reads them: without the words of the class names if its recipe hides them."""
    return remove_words(titles, classes) if section.hide_classes else [str(title) for title in titles]


def remove_words(titles: Sequence[str] | StrArray, words: Iterable[str]) -> list[str]:
    """Remove words, such as those of the class names, from titles.

    Capitals and a plural s make no difference.

    >>> remove_words(["Nike Men Sports Shoes", "a shoe box"], ["Sports Shoe"])
    ['Nike Men', 'a box']
    """
    gone = {form for name in words for word in re.findall(r"\w+", name) for form in _forms(word)}
    kept = []
    for title in titles:
        left = re.sub(r"\w+", lambda word: "" if _forms(word[0]) & gone else word[0], str(title))
        kept.append(" ".join(left.split()))
    return kept


def _forms(word: str) -> set[str]:
    """A word in small letters, and the singulars that it may be the plural of."""
    small = word.lower()
    singular = {small.removesuffix(ending) for ending in ("s", "es")}
    return {small} | {form for form in singular if len(form) > 2}
