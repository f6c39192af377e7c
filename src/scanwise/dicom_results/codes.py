"""Codes of a result: those of a terminology where `codes.yaml` gives them, else those of a private scheme.

scheme:                                  # of your own codes; without it the private scheme of scanwise
  {designator: 99HOSPITAL, uid: 1.2.3, name: Codes of our hospital, responsible: Our hospital}
procedure: {code: "77477000", scheme: SCT, meaning: Computed tomography}
classes:
  stroke: {code: "230690007", scheme: SCT, meaning: Cerebrovascular accident}
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from scanwise.dicom_results.sources import derive_uid, is_uid
from scanwise.errors import DataError, did_you_mean
from scanwise.untrusted import MOST_YAML, parse_yaml, read_text

PRIVATE = "99SCANWISE"
_SHORT, _LONG = 16, 64  # letters of a code and of its meaning (PS3.5, SH and LO)
_LINE = r"[^\\\x00-\x1f\x7f]+"

Meaning = Annotated[str, Field(min_length=1, max_length=_LONG, pattern=rf"^{_LINE}$")]


class CodedTerm(BaseModel):
    """One code of a terminology."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: Annotated[str, Field(min_length=1, max_length=_SHORT, pattern=rf"^{_LINE}$")]
    scheme: Annotated[str, Field(pattern=r"^[A-Z0-9_-]{1,16}$")]
    meaning: Meaning


class CodingScheme(BaseModel):
    """Identification of a coding scheme (PS3.3, C.12.1.1: Coding Scheme Identification Sequence)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    designator: Annotated[str, Field(pattern=r"^99[A-Z0-9_]{1,14}$")]
    uid: str
    name: Annotated[str, Field(min_length=1, max_length=1024)]
    responsible: Annotated[str, Field(min_length=1, max_length=1024)]

    @field_validator("uid")
    @classmethod
    def _is_uid(cls, value: str) -> str:
        if not is_uid(value):
            raise ValueError("this is no UID")
        return value


class CodesFile(BaseModel):
    """The contents of `codes.yaml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scheme: CodingScheme | None = None
    procedure: CodedTerm | None = None
    classes: dict[str, CodedTerm] = {}


OWN_SCHEME = CodingScheme(
    designator=PRIVATE, uid=derive_uid("coding scheme"), name="Scanwise result terms", responsible="Scanwise"
)
PROCEDURE = CodedTerm(code="363679005", scheme="SCT", meaning="Imaging")
YES = CodedTerm(code="373066001", scheme="SCT", meaning="Yes")
NO = CodedTerm(code="373067005", scheme="SCT", meaning="No")


def _own(number: int, meaning: str) -> CodedTerm:
    return CodedTerm(code=f"SW-{number:03d}", scheme=PRIVATE, meaning=meaning)


DECISION = _own(1, "Decision of the classifier")
REVIEW = _own(2, "Review by a person")
ANSWERED = _own(3, "Answer given")
REASONS = _own(4, "Reasons for review")
MOST_PROBABLE = _own(5, "Most probable class")
IN_SET = _own(6, "Class in the prediction set")
NO_CLASS = _own(7, "No class")
NO_SET = _own(8, "No prediction set")
UNLIKE_TRAINING = _own(9, "Unlike training")
NOVELTY_SCORE = _own(10, "Out-of-distribution score")
GUARANTEE_TERM = _own(11, "Coverage guarantee")
USE = _own(12, "Intended use")
MODEL_DIGEST = _own(13, "Digest of the model")
DEPLOYED_MODEL = _own(14, "Classifier result")


@dataclass(frozen=True, slots=True)
class CodeBook:
    """Codes of one model.

    Attributes:
        classes: by name.
        probabilities: the concept "probability of this class", by name of the class.
        procedure: that is reported on.
        schemes: private ones that are used.
    """

    classes: dict[str, CodedTerm]
    probabilities: dict[str, CodedTerm]
    procedure: CodedTerm
    schemes: tuple[CodingScheme, ...]

    @classmethod
    def for_classes(cls, classes: Sequence[str], given: CodesFile | None = None) -> Self:
        """Codes of these classes: the given ones, and private ones for all others.

        Raises:
            DataError: if codes are given for a class that the model has not, or in a private scheme that is not described.
        """
        codes = given or CodesFile()
        if unknown := [name for name in codes.classes if name not in classes]:
            raise DataError(
                f"The codes name a class {unknown[0]!r}, which the model has not; its classes are {', '.join(classes)}."
                f"{did_you_mean(unknown[0], classes)}"
            )
        schemes = (OWN_SCHEME,) if codes.scheme is None else (OWN_SCHEME, codes.scheme)
        described = {scheme.designator for scheme in schemes}
        used = [*codes.classes.values(), *([codes.procedure] if codes.procedure else [])]
        if stray := [term.scheme for term in used if term.scheme.startswith("99") and term.scheme not in described]:
            raise DataError(f"The codes use the private scheme {stray[0]}; describe it under `scheme`, with its UID.")
        return cls(
            {name: codes.classes.get(name) or _private(name, "C") for name in classes},
            {name: _private(name, "P", "Probability of ") for name in classes},
            codes.procedure or PROCEDURE,
            schemes,
        )

    @property
    def seed(self) -> str:
        """Text that is the same for the same codes."""
        terms = [self.procedure, *self.classes.values()]
        return " ".join(f"{term.scheme}:{term.code}:{term.meaning}" for term in terms)


def read_codes(file: Path) -> CodesFile:
    """The contents of a file of codes.

    Raises:
        DataError: naming the entry that is wrong.
    """
    try:
        content = parse_yaml(read_text(file, MOST_YAML, "codes"))
    except OSError as error:
        raise DataError(f"The codes {file} cannot be read: {error.strerror}.") from error
    except DataError as error:
        raise DataError(f"The codes {file} cannot be read: {error}.") from error
    try:
        return CodesFile.model_validate(content or {})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        raise DataError(f"{file}: {key}: {first['msg']}. Each code is {{code: …, scheme: …, meaning: …}}.") from error


def _private(name: str, kind: str, lead: str = "") -> CodedTerm:
    """A private code that stands for this name of a class, in whatever model."""
    clean = " ".join("".join(letter if letter.isprintable() and letter != "\\" else " " for letter in name).split())
    meaning = f"{lead}{clean or 'class'}"
    meaning = meaning if len(meaning) <= _LONG else meaning[: _LONG - 1] + "…"
    number = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:10].upper()
    return CodedTerm(code=f"SW-{kind}-{number}", scheme=PRIVATE, meaning=meaning)
