"""Columns of a cohort: which name single things and make no groups, which hold numbers, and which of these are ages."""

import re

import numpy as np

from scanwise.records.types import FloatArray, StrArray

_SINGLE = frozenset((
    "studyuid", "seriesuid", "studyid", "seriesid", "sopinstance", "instance", "instancenumber", "slice",
    "slicenumber", "position", "imageposition", "slicelocation", "accession", "accessionnumber", "scanid", "imageid", "fileid",
    "filename", "uid", "uuid", "guid", "hash", "sha256", "md5", "index", "row", "rowid", "rownumber", "patientid", "patient",
    "participant", "participantid", "subject", "subjectid", "mrn",
))  # fmt: skip
"""Names of columns, without signs and in lower case, whose values name one study, series, slice, file or person."""
# `study` may be a name of several hospitals' study, and `series` a kind of image: these are known by their values.
_UID = re.compile(
    r"\d+(\.\d+){3,}|(study|series|subject)-[0-9a-f]{16}|[0-9a-f]{32,64}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    re.I,
)
_CODES = frozenset((
    "site", "centre", "center", "clinic", "hospital", "institution", "station", "scanner", "machine", "device", "model", "code",
    "ward", "batch", "fold", "unit", "group", "grade", "stage", "class", "cluster", "sex", "gender",
))  # fmt: skip
_FEW = 8
"""Whole numbers of so many values may be codes."""
_OLDEST = 130
_KINDS = 50


def is_identifier(name: str, values: StrArray) -> bool:
    """Whether a column names single studies, series, slices, files or persons, by its name or by its values.

    >>> is_identifier("StudyInstanceUID", np.array(["1.2.3"])), is_identifier("site", np.array(["north"]))
    (True, False)
    """
    bare = "".join(words_of(name))
    if bare in _SINGLE or bare.endswith(("instanceuid", "seriesuid", "studyuid")):
        return True
    given = [value for value in np.unique(values).tolist() if value]
    return bool(given) and all(_UID.fullmatch(value) for value in given)


def numbers_in(values: StrArray) -> FloatArray | None:
    """(N,) the numbers of a column, NaN where it is blank; None where a value is no number.

    A comma may be the decimal point, and ages may stand as in DICOM (`065Y`, `018M`), in years.

    >>> numbers_in(np.array(["70,5", "065Y", ""])), numbers_in(np.array(["old"]))
    (array([70.5, 65. ,  nan]), None)
    """
    names, codes = np.unique(values, return_inverse=True)
    numbers = [_number(name.strip()) for name in names.tolist()]
    if any(number is None for number in numbers):
        return None
    return np.array(numbers, dtype=np.float64)[codes.reshape(values.shape)]


def is_age(name: str, numbers: FloatArray) -> bool:
    """Whether a column holds ages in years.

    >>> is_age("PatientAge", np.array([70.0])), is_age("age_months", np.array([70.0])), is_age("stage", np.array([2.0]))
    (True, False, False)
    """
    words = set(words_of(name))
    given = numbers[np.isfinite(numbers)]
    return bool(
        words & {"age", "ages", "alter", "edad"}
        and not words & {"day", "days", "week", "weeks", "month", "months", "gestational"}
        and len(given)
        and given.min() >= 0
        and given.max() <= _OLDEST
    )


def are_codes(name: str, numbers: FloatArray) -> bool:
    """Whether numbers stand for kinds, such as sites, and not for amounts.

    >>> are_codes("site", np.arange(15.0)), are_codes("mmse", np.arange(15.0)), are_codes("tesla", np.array([1.5, 3.0]))
    (True, False, True)
    """
    given = np.unique(numbers[np.isfinite(numbers)])
    return bool(len(given) <= _FEW or (set(words_of(name)) & _CODES and (given == np.rint(given)).all()))


def kinds_in(name: str, values: StrArray) -> list[str]:
    """The values of a column that says what kind each row is of; none of names, of amounts, or of more than a few.

    >>> kinds_in("modality", np.array(["CT", "", "MR", "CT"])), kinds_in("mmse", np.arange(20.0).astype(str))
    (['CT', 'MR'], [])
    """
    numbers = numbers_in(values)
    if is_identifier(name, values) or (numbers is not None and not are_codes(name, numbers)):
        return []
    kinds = [value for value in np.unique(values).tolist() if value.strip()]
    return kinds if len(kinds) <= _KINDS else []


def words_of(name: str) -> list[str]:
    """The words of a column's name, in lower case.

    >>> words_of("PatientAge"), words_of("age_at-scan 2"), words_of("StudyInstanceUID")
    (['patient', 'age'], ['age', 'at', 'scan', '2'], ['study', 'instance', 'uid'])
    """
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_A-Za-z]+", name)]


def _number(text: str) -> float | None:
    if not text:
        return float("nan")
    age = re.fullmatch(r"(\d{1,3})([DWMY])", text)
    if age:
        return int(age[1]) / {"D": 365.25, "W": 52.18, "M": 12, "Y": 1}[age[2]]
    try:
        number = float(re.sub(r"^([+-]?\d+),(\d+)$", r"\1.\2", text))
    except ValueError:
        return None
    return number if np.isfinite(number) and "_" not in text else None
