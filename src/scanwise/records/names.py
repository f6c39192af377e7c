"""Names that people write: of classes and of persons. One thing has one spelling, and two things keep two.

Letters are brought to composed Unicode (NFC), so that a name looks and compares the same whichever system wrote it. Signs,
digits and the vowel marks of a script are never dropped: they may be all in which two names differ.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scanwise.errors import DataError

NO_VALUE = frozenset(
    (
        "", "nan", "-nan", "na", "n/a", "n.a.", "n / a", "#n/a", "#n/a n/a", "#na", "<na>", "nat", "null", "(null)", "1.#ind", "1.#qnan",
        "-1.#ind", "-1.#qnan", "#value!", "#ref!", "#null!", "#name?", "#div/0!", "#num!", "#nv", "#wert!", "#bezug!", "#valeur!", "#réf!",
        "#nom?", "#¡valor!", "#¡ref!", "#valor!",
    )
)  # fmt: skip
"""Cells that programs write where nothing is known, in lower case. `None` is a value that people use."""
NO_PERSON = NO_VALUE | {
    "none", "nil", "unknown", "unk", "missing", "undefined", "unspecified", "not available", "not known", "no id", "no name", "tbd",
    "anonymous", "anonymous^", "anonymized", "anonymised", "anon", "anonymous patient", "-", "--", "---", "?", "??", "???", "—", "–",
    "unbekannt", "nicht bekannt", "keine angabe", "k.a", "anonym", "anonymisiert", "inconnu", "inconnue", "anonyme",
    "desconocido", "desconocida", "sin datos", "s/d", "n/d", "anonimo", "anónimo", "anônimo", "desconhecido", "desconhecida",
    "sconosciuto", "sconosciuta", "ignoto", "onbekend", "anoniem", "okänd", "ukendt", "ukjent", "tuntematon", "nieznany", "nieznana",
    "neznámý", "bilinmiyor", "неизвестно", "неизвестен", "неизвестный", "нет данных", "н/д", "άγνωστο", "不明", "未知", "無名", "匿名", "미상",
    "غير معروف", "לא ידוע",
}  # fmt: skip
"""Texts that stand for no person where a subject is expected, in lower case, without brackets around them or a final point."""
_UNSEEN = re.compile("[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")
"""Characters that are not seen and that no script needs; those that join letters are not among them."""


def compose(text: str) -> str:
    """The text in composed Unicode (NFC), where a letter and its accent are one character, without what cannot be seen.

    >>> compose("De\\u0301mence") == "D\\u00e9mence", compose("tumor\\u200b")
    (True, 'tumor')
    """
    return text if text.isascii() else unicodedata.normalize("NFC", _UNSEEN.sub("", text))


def label_key(label: str) -> str:
    """The part of a label in which two spellings of one class agree: all but case, blanks and underscores.

    A blank between digits stays, because 1 5 is not 15.

    >>> label_key("Very Mild_Demented"), label_key("HER2 ++"), label_key("grade 1.5"), label_key("stage 1_2")
    ('verymilddemented', 'her2++', 'grade1.5', 'stage1 2')
    """
    bare = re.sub(r"(?<=\d)[\s_]+(?=\d)", " ", compose(label).lower().strip())
    return compose(re.sub(r"(?<!\d)[\s_]+|[\s_]+(?!\d)", "", bare)) or bare


def has_value(text: str) -> bool:
    """Whether a cell says something.

    >>> has_value("north"), has_value("NaN"), has_value("#N/A")
    (True, False, False)
    """
    return text.strip().lower() not in NO_VALUE


def names_person(text: str) -> bool:
    """Whether a text can be the name or number of a person.

    >>> names_person("007"), names_person("None"), names_person("(unknown)"), names_person("k.A.")
    (True, False, False, False)
    """
    bare = text.strip().lower()
    return bare not in NO_PERSON and bare.strip("()[]<>{}.*# ") not in NO_PERSON


def clean_values(values: Iterable[str]) -> list[str]:
    """Values of a column in composed Unicode; "" where a cell says nothing.

    >>> clean_values(["north", "NaN", ""])
    ['north', '', '']
    """
    return [compose(value) if has_value(value) else "" for value in values]


def clean_subjects(subjects: Iterable[str]) -> list[str]:
    """Subjects in composed Unicode, "" where no person is named; whole numbers are written as such where all are.

    A program that met a gap in a column of numbers writes `5.0` for `5`.

    >>> clean_subjects(["5.0", "12", "nan"]), clean_subjects(["5.0", "5a"])
    (['5', '12', ''], ['5.0', '5a'])
    """
    names = [compose(name.strip()) if names_person(name) else "" for name in subjects]
    if all(re.fullmatch(r"[+-]?\d+(?:\.0*)?|", name, re.ASCII) for name in names):
        names = [name.partition(".")[0] for name in names]
    return names


def text_of_values(values: NDArray[Any]) -> list[str]:
    """Values of an array (N,) as text; whole floats are written as integers, NaN as "", bytes are UTF-8.

    Raises:
        DataError: if a number is too large for its type to tell it from the next one, or bytes are no text.

    >>> text_of_values(np.array([5.0, 0.5, np.nan])), text_of_values(np.array([5])), text_of_values(np.array(["a"]))
    (['5', '0.5', ''], ['5'], ['a'])
    """
    if values.dtype.kind == "S":
        try:
            return [str(value) for value in np.char.decode(values, "utf-8").tolist()]
        except UnicodeDecodeError as error:
            raise DataError(f"names must be UTF-8: {error}.") from error
    if values.dtype.kind != "f":
        return [str(value) for value in values.astype(str).tolist()]
    exact = 2.0 ** (np.finfo(values.dtype).nmant + 1)
    if (np.abs(values[np.isfinite(values)]) > exact).any():
        raise DataError(
            f"names are numbers beyond {exact:.0f}, which {values.dtype} cannot tell apart; save them as text."
        )
    return ["" if value != value else f"{value:.0f}" if value.is_integer() else str(value) for value in values.tolist()]


def lookalike_subjects(subjects: Iterable[str]) -> list[tuple[str, ...]]:
    """Groups of subjects whose names differ only in case, leading zeros or a final `.0`.

    >>> lookalike_subjects(["p01", "P1", "p2", "7", "007"])
    [('007', '7'), ('P1', 'p01')]
    """
    alike: dict[str, set[str]] = defaultdict(set)
    for name in set(subjects) - {""}:
        alike[subject_key(name)].add(name)
    return sorted(tuple(sorted(names)) for names in alike.values() if len(names) > 1)


def subject_key(name: str) -> str:
    """The part of a subject's name in which spellings of one person agree: all but case, leading zeros and a final `.0`.

    >>> subject_key("Sub-007"), subject_key("12.0"), subject_key("0")
    ('sub-7', '12', '0')
    """
    bare = re.sub(r"^([+-]?\d+)\.0*$", r"\1", compose(name).strip().lower())
    return re.sub(r"(?<!\d)0+(?=\d)", "", bare)


def describe_lookalikes(subjects: Iterable[str], *, show: bool = True) -> str:
    """A warning about subjects that may be one person under several spellings; "" where there are none.

    Args:
        subjects: their names.
        show: the first of them; not where names are hidden.
    """
    groups = lookalike_subjects(subjects)
    if not groups:
        return ""
    count = sum(len(names) for names in groups)
    shown = f" (such as {' and '.join(map(repr, groups[0][:2]))})" if show else ""
    return (
        f"{count} subjects differ from another only in case, leading zeros or a final .0{shown}, and count as different "
        "people. If they are the same, write them alike, or they may stand on two sides of the split."
    )
