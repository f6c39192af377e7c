"""A column says by its name what it holds, in the languages of many hospitals."""

import numpy as np
import pytest

from scanwise.records import columns


@pytest.mark.parametrize(
    "name",
    [
        "Nachname", "Geburtsdatum", "Vor- und Nachname", "Date de naissance", "Prénom", "Fecha de nacimiento", "Apellidos", "Codice fiscale",
        "患者氏名", "出生日期", "환자 이름", "ФИО", "Дата рождения", "Imię", "achternaam", "lastname", "PatientBirthDate",
    ],
)  # fmt: skip
def test_columns_of_names_and_birthdays(name: str) -> None:
    assert columns.names_persons(name)


@pytest.mark.parametrize(
    "name",
    ["PatientAge", "Alter", "Geschlecht", "Diagnose", "site", "sexe", "性別", "диагноз", "scanner", "hôpital", "mmse"],
)
def test_columns_of_groups(name: str) -> None:
    assert not columns.names_persons(name)


@pytest.mark.parametrize("name", ["âge", "Età", "年齢", "Возраст", "leeftijd", "AlterBeiScan", "Age at scan"])
def test_ages(name: str) -> None:
    assert columns.is_age(name, np.array([60.0, 71.0]))


def test_a_few_ages_are_amounts_and_no_kinds_of_people() -> None:
    """Where few ages were seen in training, one between them is nothing new."""
    ages = np.array(["61", "70", "", "61"])
    assert columns.kinds_in("PatientAge", ages) == []
    assert columns.kinds_in("field strength", np.array(["1.5", "3", "3"])) == ["1.5", "3"]
    assert columns.are_amounts("PatientAge", columns.numbers_in(ages))


def test_words_of_any_alphabet() -> None:
    assert columns.words_of("GrößeÜberAlles_2") == ["größe", "über", "alles", "2"]
    assert columns.words_of("ДатаРождения") == ["дата", "рождения"]
    assert columns.words_of("MRIScanID") == ["mri", "scan", "id"]
