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
_PERSONAL = frozenset((
    "surname", "lastname", "firstname", "forename", "givenname", "initials", "birth", "birthday", "birthdate", "dob", "born", "address", "street",
    "phone", "telephone", "mobile", "email", "mail", "zip", "postcode", "ssn", "insurance", "mrn", "accession",
    "nachname", "vorname", "familienname", "geburtsname", "patientenname", "patientname", "geburtsdatum", "geburtstag", "geboren", "anschrift",
    "adresse", "strasse", "straße", "plz", "telefon", "handy", "krankenkasse", "versichertennummer", "nom", "prenom", "prénom", "naissance",
    "rue", "téléphone", "courriel", "nss", "nombre", "nombres", "apellido", "apellidos", "nacimiento", "direccion", "dirección", "calle",
    "telefono", "teléfono", "correo", "dni", "curp", "nome", "cognome", "nascita", "indirizzo", "fiscale", "sobrenome", "nascimento", "endereco",
    "endereço", "telefone", "cpf", "naam", "achternaam", "voornaam", "geboortedatum", "adres", "straat", "telefoon", "bsn", "namn", "efternamn",
    "förnamn", "navn", "fornavn", "etternavn", "efternavn", "födelsedatum", "fødselsdato", "personnummer", "fødselsnummer", "cpr", "adress",
    "nimi", "sukunimi", "etunimi", "syntymäaika", "henkilötunnus", "osoite", "nazwisko", "imię", "imie", "urodzenia", "pesel", "jméno",
    "příjmení", "narození", "soyad", "soyadı", "doğum", "фамилия", "имя", "отчество", "фио", "рождения", "адрес", "телефон", "снилс",
    "όνομα", "επώνυμο", "γέννησης",
))  # fmt: skip
"""Words in the names of columns whose values name persons, numbers too, in the languages of many hospitals."""
_PERSONAL_SIGNS = re.compile("氏名|姓名|名前|生年月日|出生日期|住所|地址|電話|电话|이름|성명|생년월일|주소|전화")
"""The same in scripts that leave no blanks between words."""
_AGES = {
    "age", "ages", "alter", "edad", "âge", "età", "eta", "idade", "leeftijd", "ålder", "alder", "ikä", "wiek", "věk", "yaş", "возраст", "ηλικία",
    "年齢", "年龄", "年齡", "나이", "연령",
}  # fmt: skip
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


def names_persons(name: str) -> bool:
    """Whether a column, by its name, tells who somebody is: a name, a birthday, an address.

    >>> names_persons("Geburtsdatum"), names_persons("患者氏名"), names_persons("PatientAge")
    (True, True, False)
    """
    return bool(set(words_of(name)) & _PERSONAL or _PERSONAL_SIGNS.search(name))


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
        words & _AGES
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


def are_amounts(name: str, numbers: FloatArray | None) -> bool:
    """Whether a column holds amounts, ages among them, and no kinds; False where it holds no numbers (None).

    >>> are_amounts("age", np.array([61.0, 70.0])), are_amounts("site", np.array([1.0, 2.0])), are_amounts("sex", None)
    (True, False, False)
    """
    return numbers is not None and (is_age(name, numbers) or not are_codes(name, numbers))


def kinds_in(name: str, values: StrArray) -> list[str]:
    """The values of a column that says what kind each row is of; none of names, of amounts, or of more than a few.

    >>> kinds_in("modality", np.array(["CT", "", "MR", "CT"])), kinds_in("mmse", np.arange(20.0).astype(str))
    (['CT', 'MR'], [])
    """
    if is_identifier(name, values) or are_amounts(name, numbers_in(values)):
        return []
    kinds = [value for value in np.unique(values).tolist() if value.strip()]
    return kinds if len(kinds) <= _KINDS else []


def words_of(name: str) -> list[str]:
    """The words of a column's name, in lower case.

    >>> words_of("PatientAge"), words_of("âge_at-scan 2"), words_of("StudyInstanceUID")
    (['patient', 'age'], ['âge', 'at', 'scan', '2'], ['study', 'instance', 'uid'])
    """
    apart = [
        f" {letter}" if letter.isupper() and (before.islower() or after.islower()) else letter
        for before, letter, after in zip(f" {name}", name, f"{name[1:]} ", strict=False)
    ]
    return re.findall(r"[^\W\d_]+|\d+", "".join(apart).lower())


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
