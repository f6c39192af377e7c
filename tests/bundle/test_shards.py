"""A prediction in shards: the same bytes in shards of any size, and after any death."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from forked import run_forked
from scanwise import bundle
from scanwise.bundle import shards
from scanwise.bundle.mapping import SHARD, MappedScans
from scanwise.bundle.shards import ShardFolder
from scanwise.cohort.decoding.pixels import BROKEN, LACK
from scanwise.cohort.decoding.remote_files import UNFETCHED
from scanwise.errors import DataError
from scanwise.records import ScanNovelty
from tiny import Command, write_csv
from tiny_bundles import KINDS, write_scans_of, write_tiny_bundle

BuildOnce = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="module")
def scans(build_once: BuildOnce) -> list[Path]:
    return sorted(build_once("scans-of-kinds", write_scans_of).iterdir())


def write_manifest(path: Path, scans: list[Path]) -> Path:
    """The scans, a person's four one apart from the other, with a file among them that is no scan."""
    broken = path.with_name("broken.png")
    broken.write_bytes(b"no scan")
    rows = [
        {"path": str(scan), "subject": scan.stem[:3]}
        for scan in scans[::4] + scans[1::4] + [broken] + scans[2::4] + scans[3::4]
    ]
    return write_csv(path, rows)


@pytest.mark.extended
@pytest.mark.parametrize("by", ["scan", "subject"])
def test_a_table_has_the_same_bytes_for_any_shard_and_is_that_of_the_terminal(
    by: str, demo_model: Path, scans: list[Path], tmp_path: Path, scanwise: Command
) -> None:
    table = write_manifest(tmp_path / "scans.csv", scans)
    printed = scanwise("predict", demo_model, "--manifest", table, "--format", "csv", "--by", by)
    assert printed.code == 0, printed.err
    contents, texts = set(), set()
    for size in (1, 5, 1000):
        for name, found in (("answers.parquet", contents), ("answers.csv", texts)):
            done = scanwise(
                "predict", demo_model, "--manifest", table, "--by", by, "--shard", size, "--out", tmp_path / name
            )
            assert done.code == 0, done.err
            assert "not used" in done.err
            found.add((tmp_path / name).read_bytes())
    assert len(contents) == 1
    assert texts == {printed.out.encode()}
    assert pq.read_table(tmp_path / "answers.parquet").num_rows == (6 if by == "subject" else 24)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "answers.csv",
        "answers.parquet",
        "broken.png",
        "scans.csv",
    ]


def test_help_tells_the_usual_size_of_a_shard(scanwise: Command) -> None:
    assert f"default: {SHARD:,}" in " ".join(scanwise("predict", "--help").out.split())


EVERYDAY = ("subject-ridge", "backbone, bags with attention")


@pytest.mark.parametrize(
    "kind", [kind if kind in EVERYDAY else pytest.param(kind, marks=pytest.mark.extended) for kind in KINDS]
)
def test_answers_of_every_kind_are_those_of_one_shard(
    kind: str, scans: list[Path], tmp_path: Path, build_once: BuildOnce
) -> None:
    loaded = bundle.load(build_once(f"kind-{kind}", lambda folder: write_tiny_bundle(folder, kind)))
    words = [("red coat", "hat")[row % 2] for row in range(len(scans))] if loaded.recipe.model.reads_words else None
    subjects = [path.stem[:3] for path in scans]
    whole = loaded.predict(scans, subjects, words=words)
    tmp_path.joinpath("shards").mkdir()
    parts = loaded.predict(scans, subjects, words=words, shards=ShardFolder(tmp_path / "shards", "model", 7))
    assert whole.to_json() == parts.to_json()
    assert len(list(tmp_path.joinpath("shards").iterdir())) == 4


@pytest.mark.extended
def test_a_prediction_killed_at_any_rename_goes_on_to_the_same_bytes(
    demo_model: Path, scans: list[Path], tmp_path: Path
) -> None:
    table = write_manifest(tmp_path / "scans.csv", scans)
    command = ["predict", demo_model, "--manifest", table, "--shard", 9, "--out"]
    assert run_forked(*command, tmp_path / "whole.parquet").returncode == 0
    environment = {"TESTS_DEATHS": str(tmp_path / "deaths")}
    out, deaths = tmp_path / "answers.parquet", 0
    for how in ("before", "after"):
        while (done := run_forked(*command, out, "--resume", env={"TESTS_DEATH": how, **environment})).returncode:
            assert done.returncode == -signal.SIGKILL, done.stderr
            deaths += 1
            assert deaths < 20
        assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
        out.unlink()
    assert deaths >= 6


def test_shards_that_were_left_are_used_unless_what_they_are_of_has_changed(
    demo_model: Path, scans: list[Path], tmp_path: Path
) -> None:
    """A shard is known by content: of the files and of the model; one that is damaged is mapped again."""
    loaded, mapped = bundle.load(demo_model), []

    def ask(paths: list[Path], digest: str = "model") -> str:
        from scanwise.bundle.mapping import map_shards

        def engine(shards, mapper, progress):  # type: ignore[no-untyped-def]
            mapped.append(len(shards))
            return map_shards(shards, mapper, progress)

        return loaded.predict(paths, shards=ShardFolder(tmp_path, digest, 8, engine)).to_json()

    whole = ask(scans)
    assert ask(scans) == whole
    ask(scans, "another model")
    first = next(file for file in tmp_path.iterdir() if file.suffix == ".npz")
    first.write_bytes(first.read_bytes()[:100])
    again = ask(scans), ask(scans, "another model")
    assert again == (whole, whole)
    assert mapped == [3, 0, 3, *mapped[3:]]
    assert sorted(mapped[3:]) == [0, 1]
    copy = tmp_path / "scan.png"
    copy.write_bytes(scans[0].read_bytes())
    before = ask([copy, *scans[1:]])
    copy.write_bytes(scans[20].read_bytes())
    os.utime(copy, (0, 0))
    assert ask([copy, *scans[1:]]) != before
    assert mapped[-2:] == [1, 1]


def test_what_may_be_readable_now_is_tried_again(tmp_path: Path) -> None:
    """After an outage or a want of memory a shard that was left is mapped anew; a file that is damaged stays refused."""
    nothing = np.empty((0, 1, 2), np.float32)
    for number, reason in enumerate(
        (LACK, BROKEN, f"cannot be opened: {UNFETCHED} (TimeoutError); try again", "the file is empty")
    ):
        file = tmp_path / f"{number}.npz"
        MappedScans(1, np.array([], np.int64), [], nothing, None, None, ((0, reason),)).save(file)
        assert (shards._read(file) is None) == (number < 3)


def test_what_was_left_is_neither_lost_nor_taken_by_chance(
    demo_model: Path, scans: list[Path], tmp_path: Path, scanwise: Command
) -> None:
    out = tmp_path / "a.csv"
    left = tmp_path / "a.csv.shards"
    left.mkdir()
    (left / "0.npz").write_bytes(b"")
    refused = scanwise("predict", demo_model, scans[0], "--out", out)
    assert (refused.code, "--resume" in refused.err, out.exists()) == (2, True, False)
    assert scanwise("predict", demo_model, scans[0], "--out", out, "--resume").code == 0
    assert not left.exists()
    left.mkdir()
    (left / "thesis.txt").write_text("mine")
    foreign = scanwise("predict", demo_model, scans[0], "--out", out, "--resume")
    assert foreign.code == 2
    assert (left / "thesis.txt").exists()
    assert scanwise("predict", demo_model, scans[0], "--resume").code == 2
    assert scanwise("predict", demo_model, scans[0], "--out", tmp_path / "b.parquet", "--format", "json").code == 2
    nothing = tmp_path / "nothing.png"
    nothing.write_bytes(b"no scan")
    assert scanwise("predict", demo_model, nothing, "--out", tmp_path / "c.csv").code == 2


def test_shards_come_back_and_join_in_order(tmp_path: Path) -> None:
    novelty = ScanNovelty(np.array([0.1, 0.2]), np.array([True, False]))
    logits = np.arange(6, dtype=np.float32).reshape(2, 1, 3)
    shard = MappedScans(3, np.array([0, 2]), ["a", "b"], logits, np.ones((2, 1)), novelty, ((1, "é: no"),))
    none = MappedScans(2, np.array([], np.int64), [], logits[:0], None, None, ((0, "x"), (1, "y")))
    read = []
    for number, some in enumerate((shard, none, shard)):
        some.save(tmp_path / f"{number}.npz")
        read.append(MappedScans.load(tmp_path / f"{number}.npz"))
    joined = MappedScans.join(read)
    assert joined.count == 8
    assert joined.kept.tolist() == [0, 2, 5, 7]
    assert joined.quarantine == ((1, "é: no"), (3, "x"), (4, "y"), (6, "é: no"))
    assert joined.hashes == ["a", "b", "a", "b"]
    assert joined.logits.tobytes() == np.concatenate([logits, logits]).tobytes()
    assert joined.novelty is not None
    assert joined.novelty.distances.tolist() == [0.1, 0.2, 0.1, 0.2]
    (tmp_path / "bad.npz").write_bytes(b"PK")
    with pytest.raises(DataError):
        MappedScans.load(tmp_path / "bad.npz")
