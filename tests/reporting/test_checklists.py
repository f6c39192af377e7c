"""Checklists: every item once, supported by files that are there, and red where nothing supports it."""

import shutil
from collections.abc import Callable
from pathlib import Path

from scanwise.reporting import checklists, checksums
from scanwise.reporting.run_data import RunData
from scanwise.run import RunFolder, sha256_of

Make = Callable[..., RunFolder]


def test_every_item_is_there_once() -> None:
    assert [item.number for item in checklists.CLAIM] == [str(number) for number in range(1, 45)]
    numbers = [item.number for item in checklists.TRIPOD]
    assert len(numbers) == len(set(numbers)) == 52
    assert {number.rstrip("abcdefg") for number in numbers} == {str(number) for number in range(1, 28)}


def test_what_is_supported_names_files_and_their_hashes(make_run: Make) -> None:
    run = make_run()
    contents = RunData.of(run)
    for items in checklists.LISTS.values():
        filled = checklists.fill_checklist(contents, items)
        assert all(item.text for item in filled)
        for item in filled:
            assert bool(item.evidence) == item.supported
            for name, digest in item.evidence:
                assert digest == sha256_of(run.path / name)
        assert 10 < sum(item.supported for item in filled) < len(filled)


def test_ethics_and_funding_are_never_claimed(make_run: Make) -> None:
    contents = RunData.of(make_run())
    found = {item.number: item for item in checklists.fill_checklist(contents, checklists.TRIPOD)}
    assert not any(found[number].supported for number in ("8a", "17", "18a", "18b", "19"))
    assert "authors must add it" in found["17"].text


def test_a_file_that_is_gone_supports_nothing(make_run: Make, tmp_path: Path) -> None:
    shutil.copytree(make_run().path, tmp_path / "run")
    run = RunFolder.open(tmp_path / "run")
    (run.tables / "failures.csv").unlink()
    found = {item.number: item for item in checklists.fill_checklist(RunData.of(run), checklists.CLAIM)}
    assert not found["39"].supported
    assert found["33"].text.endswith("--data OTHER`.")


def test_unknown_people_support_no_claim_of_disjoint_people(make_run: Make) -> None:
    found = {
        item.number: item for item in checklists.fill_checklist(RunData.of(make_run(known=False)), checklists.CLAIM)
    }
    assert not found["20"].supported


def test_the_page_is_written_the_same_again(make_run: Make, tmp_path: Path) -> None:
    shutil.copytree(make_run().path, tmp_path / "run")
    run = RunFolder.open(tmp_path / "run")
    checksums.write_checksums(run)
    checklists.write_checklists(run, RunData.of(run))
    first = (run.path / checklists.CHECKLISTS_FILE).read_bytes()
    checklists.write_checklists(run, RunData.of(run))
    assert (run.path / checklists.CHECKLISTS_FILE).read_bytes() == first
    assert b"CLAIM 2024" in first
    assert b"missing" in first
