"""Tables at URLs name scans, subjects and patients as those on the disk do."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import fsspec
import numpy as np
import pytest

import remote_folders
from remote_folders import UnlistedHandler, on_web_server
from scanwise.cohort import read_cohort
from scanwise.cohort.remote_tables import table_here
from scanwise.errors import DataError
from scanwise.recipe import Recipe
from tiny import Command, write_csv
from tiny_bundles import write_scans_of

RECIPE = Recipe.model_validate({"name": "a", "data": {"size": 16}})
BuildOnce = Callable[[str, Callable[[Path], object]], Path]


def write_tables(folder: Path) -> None:
    """Scans of four people below a folder, a manifest beside that, and tables of their subjects."""
    names = [f"scans/{path.name}" for path in write_scans_of(folder / "scans", 12)]
    people = [Path(name).name.split("_")[0] for name in names]
    site = ["a" if index % 2 else "b" for index in range(12)]
    write_csv(
        folder / "all.csv", [{"path": n, "subject": p, "site": s} for n, p, s in zip(names, people, site, strict=True)]
    )
    write_csv(folder / "few.csv", [{"path": name} for name in names[:2]])
    write_csv(
        folder / "labelled.csv",
        [{"path": n, "label": s, "subject": p} for n, p, s in zip(names, people, site, strict=True)],
    )
    write_csv(
        folder / "lost.csv", [{"path": name, "label": "ab"[i % 2]} for i, name in enumerate([*names, "scans/none.png"])]
    )
    write_csv(folder / "no_path.csv", [{"file": name} for name in names])
    write_csv(folder / "outside.csv", [{"path": "../other/a.png"}, {"path": names[0]}])
    write_csv(folder / "local.csv", [{"path": "/etc/hostname"}])


@pytest.fixture(scope="module")
def tables(build_once: BuildOnce) -> Path:
    return build_once("scans-with-tables", write_tables)


@pytest.fixture
def in_memory(tables: Path) -> Iterator[str]:
    with remote_folders.in_memory(tables, "tables") as url:
        yield url


@pytest.fixture
def served(tables: Path) -> Iterator[str]:
    pytest.importorskip("aiohttp")
    with on_web_server(tables, UnlistedHandler) as url:
        yield url


@pytest.mark.parametrize("kind", ["in_memory", pytest.param("served", marks=pytest.mark.extended)])
def test_a_manifest_at_a_url_is_predicted_as_the_one_on_the_disk(
    kind: str, tables: Path, demo_model: Path, request: pytest.FixtureRequest, scanwise: Command
) -> None:
    url = request.getfixturevalue(kind)
    command = ["predict", demo_model, "--format", "json", "--manifest"]
    here = scanwise(*command, tables / "all.csv")
    there = scanwise(*command, f"{url}/all.csv")
    assert here.code == there.code == 0, there.err
    assert '"subjects"' in here.out
    assert there.out.replace(url, str(tables)) == here.out.replace('"scans/', f'"{tables}/scans/')
    plan = scanwise("predict", demo_model, "--manifest", f"{url}/all.csv", "--plan")
    assert plan.code == 0, plan.err
    if kind == "served":
        assert scanwise(*command, f"{url}/all.csv?signature=a/b").out == there.out


def test_subjects_and_patients_may_be_tables_at_a_url(
    in_memory: str, tables: Path, demo_model: Path, scanwise: Command, tmp_path: Path
) -> None:
    memory = fsspec.filesystem("memory")
    of = write_csv(tmp_path / "of.csv", [{"path": f"{in_memory}/scans/p00_{i}.png", "subject": "x"} for i in range(3)])
    memory.pipe("/tables/of.csv", of.read_bytes())
    scans = [f"{in_memory}/scans/p00_{index}.png" for index in range(3)]
    command = ["predict", demo_model, *scans, "--format", "json", "--subject"]
    here, there = scanwise(*command, of), scanwise(*command, f"{in_memory}/of.csv")
    assert here.code == there.code == 0, there.err
    assert here.out == there.out
    assert '"subject": "x"' in here.out


@pytest.mark.extended
@pytest.mark.parametrize("kind", ["in_memory", "served"])
def test_a_labelled_manifest_at_a_url_is_audited_with_what_it_names(
    kind: str, tables: Path, request: pytest.FixtureRequest, scanwise: Command, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    url = request.getfixturevalue(kind)
    monkeypatch.setenv("SCANWISE_CACHE", str(tmp_path / "cache"))
    for name in ("labelled.csv", "lost.csv"):
        here = scanwise("audit", tables / name, "--out", tmp_path / "here")
        there = scanwise("audit", f"{url}/{name}", "--out", tmp_path / "there")
        assert here.code == there.code, there.err
        assert here.code in (0, 1, 3)
        findings = [(tmp_path / place / "findings.json").read_text() for place in ("here", "there")]
        assert findings[0] == findings[1]


@pytest.mark.extended
def test_a_bucket_is_predicted_and_audited_as_the_folder_is(
    s3: Any, tables: Path, demo_model: Path, scanwise: Command, tmp_path: Path
) -> None:
    s3.put(f"{tables}/", "bucket/tables/", recursive=True)
    url = "s3://bucket/tables"
    for options in (["scans", "--subject", r"(p\d+)_"], ["all.csv", "--manifest"]):
        name, *others = options
        out = []
        for root in (str(tables), url):
            done = scanwise("predict", demo_model, "--format", "json", *others, f"{root}/{name}")
            assert done.code == 0, done.err
            out.append(done.out.replace(f"{root}/", ""))
        assert out[0] == out[1]
    here = scanwise("audit", tables / "labelled.csv", "--out", tmp_path / "here")
    there = scanwise("audit", f"{url}/labelled.csv", "--out", tmp_path / "there")
    assert here.code == there.code, there.err
    findings = [(tmp_path / name / "findings.json").read_text() for name in ("here", "there")]
    assert findings[0] == findings[1]


@pytest.mark.parametrize(
    ("name", "refusal"),
    [
        ("none.csv", "There is no table at {url}/none.csv"),
        ("scans", "There is no manifest at {url}/scans; the name of one ends in .csv"),
        ("no_path.csv", "{url}/no_path.csv has no column 'path'"),
        ("outside.csv", "{url}/outside.csv: the path '../other/a.png' leads outside {url}."),
        ("local.csv", "{url}/local.csv: the path '/etc/hostname' leads outside {url}."),
    ],
)
def test_a_manifest_at_a_url_that_cannot_be_used_is_said(
    name: str, refusal: str, in_memory: str, demo_model: Path, scanwise: Command
) -> None:
    done = scanwise("predict", demo_model, "--manifest", f"{in_memory}/{name}")
    assert done.code == 2
    assert refusal.format(url=in_memory) in " ".join(done.refusal.split())


def test_a_table_at_a_url_that_is_not_known_or_too_large_is_said(
    in_memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match="cannot be reached"), table_here("nokind://a/b.csv"):
        pass
    monkeypatch.setattr("scanwise.cohort.table_files.MOST_BYTES", 10)
    with pytest.raises(DataError, match=r"memory://tables/all\.csv is too large"), table_here(f"{in_memory}/all.csv"):
        pass


def test_rows_at_urls_are_refused_where_they_would_be_read_several_times(
    in_memory: str, tmp_path: Path, scanwise: Command
) -> None:
    rows = [{"path": f"{in_memory}/scans/p00_{index}.png", "label": "ab"[index % 2]} for index in range(3)]
    done = scanwise("audit", write_csv(tmp_path / "a.csv", rows), "--out", tmp_path / "audit")
    assert done.code == 2
    assert "names scans at URLs" in done.refusal
    assert not (tmp_path / "audit").exists()


def write_oddly_named(folder: Path) -> None:
    """Scans whose names hold what means something in a web address, and a table of them."""
    odd = ("one?a=1&b.png", "two#2.png", "three%20.png", "four 50%.png", "five é+;=@.png", "IM#1")
    names = [f"{label}/{name}" for label in ("mild #1?", "none %41") for name in odd]
    for name, file in zip(names, write_scans_of(folder, len(names)), strict=True):
        place = folder / name
        place.parent.mkdir(exist_ok=True)
        file.rename(place)
    write_csv(folder / "odd #%.csv", [{"path": name, "label": name.partition("/")[0]} for name in names])


@pytest.mark.parametrize("named", ["", "odd #%.csv"])
def test_names_on_a_web_server_may_hold_signs_of_web_addresses(
    named: str,
    build_once: BuildOnce,
    demo_model: Path,
    scanwise: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("aiohttp")
    folder = build_once("oddly-named", write_oddly_named)
    monkeypatch.setenv("SCANWISE_CACHE", str(tmp_path / "cache"))
    with on_web_server(folder) as url:
        place = f"{url}/{quote(named)}"
        here, there = (scanwise("predict", demo_model, data, "--format", "json") for data in (folder / named, place))
        assert here.code == there.code == 0, there.err
        rows, others = (
            {path_of(row.pop("path")).lstrip("/"): row for row in json.loads(done.out)["scans"]}
            for done, path_of in (
                (here, lambda path: path.removeprefix(str(folder))),
                (there, lambda path: unquote(path.removeprefix(url))),
            )
        )
        if named:  # whether IM#1 is a file or a slice of one, a web server is not asked
            rows = {path: row for path, row in rows.items() if not path.endswith("IM#1")}
        assert others == rows
        assert len(rows) == (10 if named else 12)
        here, there = (read_cohort(data, RECIPE).cohort for data in (str(folder / named), place))
    for column in ("path", "labels", "sha256"):
        assert getattr(there, column).tolist() == getattr(here, column).tolist()
    assert there.classes == here.classes


@pytest.mark.parametrize("kind", ["in_memory", pytest.param("served", marks=pytest.mark.extended)])
def test_a_manifest_at_a_url_is_explained_as_the_one_on_the_disk(
    kind: str, tables: Path, demo_model: Path, request: pytest.FixtureRequest, scanwise: Command, tmp_path: Path
) -> None:
    url, folders = request.getfixturevalue(kind), [tmp_path / name for name in ("here", "there", "alone")]
    arguments = [["--manifest", tables / "few.csv"], ["--manifest", f"{url}/few.csv"], [f"{url}/few.csv"]]
    for named, out in zip(arguments, folders, strict=True):
        done = scanwise("explain", demo_model, *named, "--out", out)
        assert done.code == 0, done.err
    pictures, *others = ({file.name: file.read_bytes() for file in out.glob("*.png")} for out in folders)
    assert others == [pictures] * 2
    assert len(pictures) == 2
    for name in pictures:
        here, there = (out / f"{Path(name).stem}.npz" for out in folders[:2])
        with np.load(here) as arrays, np.load(there) as far:
            assert str(far["scan"]) == f"{url}/{arrays['scan']}"
            for column in ("values", "aligned", "target", "prob"):
                np.testing.assert_array_equal(arrays[column], far[column])
