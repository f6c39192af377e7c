"""A veil over what a user typed: stand-ins for the names of persons in labels, texts, columns, recipes and commands.

Paths and subjects are keyed hashes as a whole. Elsewhere words are replaced that name a person: those of subjects, of
columns that tell persons apart, and of the paths below the data, as far as they belong to few persons. That half of all
persons share, such as `axial`, names none of them.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np

from scanwise.cohort.listing import SIDE_NAMES, Listing, texts
from scanwise.cohort.pseudonyms import Pseudonyms, is_stand_in
from scanwise.recipe import Recipe
from scanwise.records import StrArray
from scanwise.records.columns import is_identifier, names_persons, numbers_in, words_of
from scanwise.records.names import compose
from scanwise.redaction import HIDDEN, values_without_secrets, without_secrets

SHORTEST = 3
"""Letters of the shortest word that is taken for a name."""
NAMING = frozenset(["patient", "participant", "person"])
"""Words in the names of columns whose values may name persons, beside those of `names_persons`."""
OWNERS = frozenset(["patient", "subject", "person", "first", "last", "family", "given", "full"])
"""Words beside which `name` and `id` are those of a person."""
PROSE = ("name", "title", "description", "results_name", "classes", "stages")
"""Keys of a recipe that hold words of its author, and names of classes."""
PLACES = ("weights", "encoder", "uri")
"""Keys of a recipe, at any depth, that hold paths and addresses."""

_LETTERS = re.compile(r"[^\W\d_]{3,}")
_HASH = re.compile(r"[a-z]+-[0-9a-f]{16}")
_WORD = re.compile(r"\w[\w.^@+-]*\w|\w")


@dataclass(frozen=True, slots=True)
class Veil:
    """Stand-ins for persons' names; without hashes it hides the secrets of URLs alone.

    Attributes:
        hashes: of names, or None where they may be shown.
        names: words that name a person, in small letters.
    """

    hashes: Pseudonyms | None = None
    names: frozenset[str] = field(default=frozenset(), repr=False)

    @classmethod
    def of(cls, listing: Listing) -> Self:
        """The veil over the persons of a listing."""
        owners = _owners(listing)
        owners_of: dict[str, set[int]] = defaultdict(set)
        for row, path in enumerate(listing.path.tolist()):
            for part in path.split("/"):
                if part.casefold() not in SIDE_NAMES and part != listing.label[row]:
                    _note(owners_of, part, int(owners[row]))
        columns = [values for name, values in listing.groups.items() if _tells_apart(name, values, owners)]
        for values in (*columns, *(() if listing.subject is None else (listing.subject,))):
            for row, value in enumerate(values.tolist()):
                if not is_stand_in(value):
                    _note(owners_of, value, int(owners[row]))
        shared = {
            label for label in set(listing.label.tolist()) if len(set(owners[listing.label == label].tolist())) > 1
        }
        common = {word for label in shared for word in _words(label)}
        most = max(1, len(set(owners.tolist())) // 2)
        return cls(
            Pseudonyms.load(), frozenset(w for w, of in owners_of.items() if len(of) <= most and w not in common)
        )

    def __call__(self, text: str) -> str:
        """The text without secrets, and with stand-ins for names."""
        text = without_secrets(text)
        if not self.names:
            return text
        return _WORD.sub(lambda word: self._word(word[0]), compose(text))

    def listing(self, listing: Listing) -> Listing:
        """The listing with stand-ins in all but its paths and subjects; columns that tell persons apart are hashed."""
        hidden = replace(
            listing,
            groups={name: self._column(values) for name, values in listing.groups.items()},
            text=None if listing.text is None else self._column(listing.text),
        )
        if self.hashes is None:
            return hidden
        owners = _owners(listing)
        apart = [name for name, values in listing.groups.items() if _tells_apart(name, values, owners)]
        return replace(
            hidden,
            label=self._column(listing.label),
            groups={
                self(name): self._hashed(listing.groups[name]) if name in apart else values
                for name, values in hidden.groups.items()
            },
            subject_source=self(listing.subject_source),
            unused=tuple((path, self(reason)) for path, reason in listing.unused),
            remarks=tuple(map(self, listing.remarks)),
            notes=tuple(map(self, listing.notes)),
        )

    def recipe(self, recipe: Recipe, *, places: bool = False) -> Recipe:
        """The recipe with stand-ins in its words; with `places` in its paths and addresses too, to be written."""
        values = recipe.model_dump(mode="json")
        hidden = {key: self._values(value) if key in PROSE else value for key, value in values.items()}
        if places:
            hidden = values_without_secrets(self._places(hidden))
        return recipe if hidden == values else Recipe.model_validate(hidden)

    def source(self, data: str) -> str:
        """The place of the data as it may be shown."""
        return (
            without_secrets(data) if self.hashes is None else f"data-{self.hashes('path', str(Path(data).absolute()))}"
        )

    def command(self, words: Sequence[str]) -> list[str]:
        """A command line as it may be shown: under pseudonyms its options alone, and settings of a recipe."""
        if self.hashes is None:
            return [without_secrets(word) for word in words]
        shown = [Path(words[0]).name, *words[1:2]]
        for before, word in pairwise(words[1:]):
            if word.startswith("--"):
                option, equals, _ = word.partition("=")
                shown.append(option + (f"={HIDDEN}" if equals else ""))
            else:
                shown.append(self(word) if before == "--set" and "/" not in word else HIDDEN)
        return shown

    def values(self, value: Any) -> Any:
        """Every text of values for JSON, their keys as they are."""
        match value:
            case str():
                return self(value)
            case Mapping():
                return {name: self.values(inner) for name, inner in value.items()}
            case list() | tuple():
                return [self.values(inner) for inner in value]
        return value

    def _values(self, value: Any) -> Any:
        """As `values`, and the keys too: names of classes."""
        if isinstance(value, Mapping):
            return {
                name if name in (*PROSE, "cdr") else self(name): self._values(inner) for name, inner in value.items()
            }
        return [self._values(inner) for inner in value] if isinstance(value, list) else self.values(value)

    def _places(self, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {
            key: self(inner) if key in PLACES and isinstance(inner, str) else self._places(inner)
            for key, inner in value.items()
        }

    def _column(self, values: StrArray) -> StrArray:
        names, codes = np.unique(values, return_inverse=True)
        return texts(map(self, names.tolist()))[codes]

    def _hashed(self, values: StrArray) -> StrArray:
        hashes = self.hashes
        if hashes is None:
            return values
        return texts(value if _HASH.fullmatch(value) else hashes("path", value) for value in values.tolist())

    def _word(self, word: str) -> str:
        """A stand-in for a word that is a name, or for the names in it."""
        if word.casefold() in self.names:
            return self._stand_in(word)
        return _LETTERS.sub(lambda part: self._stand_in(part[0]) if part[0].casefold() in self.names else part[0], word)

    def _stand_in(self, name: str) -> str:
        return "" if self.hashes is None else f"name-{self.hashes('path', name.casefold())[:8]}"


OPEN = Veil()
"""The veil of those who did not ask for one: secrets are hidden, names are not."""


def _owners(listing: Listing) -> "np.ndarray[Any, np.dtype[np.int64]]":
    """(N,) number of the person of each row; each file is one where persons are not known."""
    names = listing.path if listing.subject is None else np.where(listing.subject == "", listing.path, listing.subject)
    return np.unique(names, return_inverse=True)[1].reshape(-1)


def _tells_apart(name: str, values: StrArray, owners: "np.ndarray[Any, np.dtype[np.int64]]") -> bool:
    """Whether a column holds names: by its own name, or as each person has a value of its own that is no number."""
    words = set(words_of(name))
    if (
        names_persons(name)
        or words & NAMING
        or (words & {"name", "names", "id"} and (len(words) == 1 or words & OWNERS))
    ):
        return True
    if numbers_in(values) is not None:  # such as the place of a slice
        return False
    if is_identifier(name, values):
        return True
    pairs = {(value, owner) for value, owner in zip(values.tolist(), owners.tolist(), strict=True) if value}
    kinds, persons = len({value for value, _ in pairs}), len({owner for _, owner in pairs})
    return persons > 2 and kinds == len(pairs) and kinds > persons / 2


def _note(owners_of: dict[str, set[int]], text: str, owner: int) -> None:
    for word in _words(text):
        owners_of[word].add(owner)


def _words(text: str) -> Collection[str]:
    """Words of a text that may be names, in small letters: its parts with a letter, their letters, and long numbers."""
    parts: Iterable[str] = _WORD.findall(compose(text))
    words = {part.casefold() for part in parts if len(part) >= SHORTEST and re.search(r"[^\W\d_]|\d{4}", part)}
    return words | {letters.casefold() for letters in _LETTERS.findall(compose(text))}
