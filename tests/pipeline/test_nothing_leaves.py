"""A name that is planted everywhere, and secrets in addresses: no byte of run, cache, log and bundle has them."""

import base64
import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import fsspec
import pyarrow.parquet as pq
import pytest
from PIL import Image

from remote_folders import QuietHandler, on_web_server
from tiny import Command, Said, picture, write_csv

PERSON = "Hummelbrand"
OTHERS = ("Quibblewort", "Thistledown", "Larkspur", "Zenobia", "Oleander", "Fennimore", "Wickham", "Yarrow")
RECIPE = """\
name: hummelbrand-fit
title: Scans of Hummelbrand and others
description: What HUMMELBRAND asked for, token=acegbdfh.
results_name: hummelbrand
classes: {well: [well], ill: [ill, ill since Hummelbrand]}
stages: {ill: {title: Ill as Hummelbrand, description: "like hummelbrand's"}}
data: {size: 32}
split: {protocols: [honest]}
model: {name: text, text: {width: 16, layers: 1, heads: 1, words: 200, length: 8}}
train: {epochs: 1, batch: 32, tracking: {uri: "https://someone:hunter2secret@tracker.example/x?token=t0ken12345"}}
evaluation: {draws: 100}
rivals: {names: [majority, words]}
explain: {scans: 2}
"""
SIGNED = ("hunter3secret", "s1gned98765", "s1gned43210")
SECRETS = ("hunter2secret", "t0ken12345", "acegbdfh")  # no ramp: a gradient of gray values would read like one


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A manifest below a folder of that name, with it in folders, files, headers, columns, labels and texts."""
    monkeypatch.setenv("SCANWISE_KEY", "a key of the tests")
    monkeypatch.setenv("SCANWISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / f"ward of {PERSON}"
    rows = []
    for kind, label in enumerate(("well", "ill")):
        for index, name in enumerate((PERSON, *OTHERS)):
            for number in range(2):
                file = folder / label / f"{name} {kind}" / f"{name.lower()}_{number}.tif"
                file.parent.mkdir(parents=True, exist_ok=True)
                about = {270: f"scan of {name}", 315: name}  # description and artist
                picture(kind, 1000 * kind + 10 * index + number).save(file, tiffinfo=about)
                rows.append(
                    {
                        "path": str(file.relative_to(folder)),
                        "label": f"ill since {name}" if (label, name) == ("ill", PERSON) else label,
                        "subject": f"{name}, Otto ({kind})",
                        "text": f"{'clear' if kind else 'dim'} brain of {name}, seen by Dr {name.upper()}",
                        "surname": name,
                        "note": f"asked by {name}" if number else "routine",
                        "link": f"https://pacs.example/{name}?token=t0ken12345",
                        "site": "north" if index % 2 else "south",
                    }
                )
    (folder / "well" / f"{PERSON} 0" / f"{PERSON}_cut.tif").write_bytes(file.read_bytes()[:300])
    rows.append({**rows[0], "path": f"well/{PERSON} 0/{PERSON}_cut.tif"})
    (tmp_path / "mine.yaml").write_text(RECIPE, encoding="utf-8")
    return write_csv(folder / f"{PERSON}.csv", rows)


def every_byte(folder: Path) -> Iterator[tuple[str, bytes]]:
    """All that a folder says: names, ends of links, and content, with what is packed in it unpacked."""
    for file in sorted(folder.rglob("*")):
        name = str(file.relative_to(folder))
        yield f"the name {name}", name.encode()
        if file.is_symlink():
            yield f"the link {name}", str(file.readlink()).encode()
        elif file.is_file():
            for content in unpacked(file.read_bytes()):
                yield name, content


def unpacked(content: bytes) -> Iterator[bytes]:
    yield content
    if content[:4] == b"PK\3\4":
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            for inner in packed.namelist():
                yield inner.encode()
                yield from unpacked(packed.read(inner))
    if content[:4] == b"PAR1":
        table = pq.read_table(io.BytesIO(content))
        yield repr((table.schema.metadata, table.to_pydict())).encode()
    if content[:6] == b"\x93NUMPY":
        yield content.replace(b"\0", b"")  # text of four bytes a letter
    if content[:2] == b"\x1f\x8b":
        yield from unpacked(gzip.decompress(content))
    if content[:4] == b"\x89PNG":
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            yield repr(image.info).encode()
    if content[:2] in (b"\x78\x9c", b"\x78\x01", b"\x78\xda"):
        yield zlib.decompress(content)
    for data in re.findall(rb"base64,([A-Za-z0-9+/=]+)", content):
        yield from unpacked(base64.b64decode(data))


def traces(words: tuple[str, ...], folders: list[Path], said: list[Said]) -> set[str]:
    texts = [("what was said", (answer.out + answer.err).encode()) for answer in said]
    texts += [pair for folder in folders for pair in every_byte(folder)]
    patterns = {word: re.compile(re.escape(word.encode()), re.IGNORECASE) for word in words}
    return {f"{word} in {place}" for place, content in texts for word in words if patterns[word].search(content)}


def test_the_search_finds_what_is_packed(planted: Path, tmp_path: Path) -> None:
    import numpy as np

    folder = tmp_path / "look"
    folder.mkdir()
    np.savez_compressed(folder / "a.npz", names=np.array([PERSON]))
    (folder / "b.html").write_text(f"base64,{base64.b64encode(gzip.compress(PERSON.encode())).decode()}")
    (folder / "c").symlink_to(PERSON)
    found = traces((PERSON,), [folder, planted.parent], [])
    assert {f"{PERSON} in a.npz", f"{PERSON} in b.html", f"{PERSON} in the link c"} <= found
    assert any(".tif" in trace for trace in found)  # in the headers


@pytest.mark.extended
def test_a_planted_name_is_in_no_byte(planted: Path, tmp_path: Path, scanwise: Command) -> None:
    run, outs = tmp_path / "run", ("audit", "external", "nested")
    fit = ("fit", tmp_path / "mine.yaml", "--data", planted, "--out", run, "--threads", 1, "--pseudonymise")
    said = [
        scanwise(*fit),
        scanwise(*fit, "--resume"),
        scanwise("report", run),
        scanwise("audit", planted, "--out", tmp_path / "audit", "--fix", tmp_path / "audit" / "fixed.csv", "--pseudonymise"),
        scanwise("cohort", planted, "--out", tmp_path / "audit" / "table.xlsx", "--pseudonymise"),
        scanwise("predict", run, "--manifest", planted, "--out", tmp_path / "external" / "p.csv", "--format", "csv", "--pseudonymise"),
        scanwise("predict", run, "--manifest", planted, "--pseudonymise"),
        scanwise("register", run, "--name", "one", "--registry", tmp_path / "external" / "registry"),
    ]  # fmt: skip
    assert {answer.code for answer in said} <= {0, 1}, [answer.err for answer in said if answer.code > 1]
    folders = [run, tmp_path / "cache", *(tmp_path / name for name in outs)]
    assert traces((PERSON, *OTHERS, *SECRETS, "a key of the tests"), folders, said) == set()
    assert "north" in (run / "tables" / "predictions.csv").read_text(encoding="utf-8")  # what names no person stays
    assert "clear brain of" in repr(pq.read_table(run / "cohort.parquet")["text"].to_pylist())


@pytest.mark.extended
def test_secrets_of_addresses_are_in_no_byte(planted: Path, tmp_path: Path, scanwise: Command) -> None:
    """Without pseudonyms too: in the recipe, a column, settings and errors."""
    run = tmp_path / "run"
    settings = ("--set", "train.tracking.uri=mysql://root:hunter2secret@db.example/x?password=t0ken12345")
    fit = ("fit", tmp_path / "mine.yaml", "--data", planted, "--out", run, "--threads", 1, *settings)
    said = [
        scanwise(*fit),
        scanwise(*fit, "--resume"),
        scanwise(
            "fit", "demo", "--data", "nowhere://key:hunter2secret@place/x?token=t0ken12345", "--out", tmp_path / "a"
        ),
        scanwise("fit", "demo", "--data", planted, "--out", "nowhere://key:hunter2secret@place/x?token=t0ken12345"),
        scanwise("predict", "nowhere://key:hunter2secret@place/x?token=t0ken12345", planted),
        scanwise("register", run, "--name", "one", "--registry", "ftp://key:hunter2secret@place/x?token=t0ken12345"),
    ]
    assert [answer.code for answer in said] == [0, 0, 2, 2, 2, 2], [answer.err for answer in said]
    assert traces(SECRETS, [run, tmp_path / "cache"], said) == set()
    assert PERSON in (run / "provenance.json").read_text(encoding="utf-8")  # nobody asked to hide it


class SignedHandler(QuietHandler):
    """A server that gives nothing without a password, and tables and folders only with a signature."""

    given: list[str]

    def do_HEAD(self) -> None:  # noqa: N802 - of http.server
        if self.is_allowed():
            super().do_HEAD()

    def do_GET(self) -> None:  # noqa: N802 - of http.server
        if self.is_allowed():
            self.given.append(self.path)
            super().do_GET()

    def is_allowed(self) -> bool:
        path, _, query = self.path.partition("?")
        signed = "sig=s1gned" in query or not path.endswith((".csv", "/"))
        refusal = HTTPStatus.FORBIDDEN if "Authorization" in self.headers else HTTPStatus.UNAUTHORIZED
        if not signed or refusal is HTTPStatus.UNAUTHORIZED:
            self.send_error(refusal)
            return False
        return True


@pytest.mark.extended
def test_secrets_of_signed_addresses_are_in_no_byte(
    planted: Path, demo_model: Path, tmp_path: Path, scanwise: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that read scans at an address take one that is signed; another signature means the same data."""
    pytest.importorskip("aiohttp")
    fsspec.filesystem("http").clear_instance_cache()
    monkeypatch.setattr(SignedHandler, "given", [], raising=False)
    run, outs = tmp_path / "run", tmp_path / "outs"
    with on_web_server(planted.parent, SignedHandler) as server:
        place = server.replace("://", "://someone:hunter3secret@")
        table, again, lost, folder = (
            f"{place}/{name}" for name in (
                f"{PERSON}.csv?sig=s1gned98765&expires=1", f"{PERSON}.csv?sig=s1gned43210&expires=2", "no.csv?sig=s1gned98765",
                "?sig=s1gned98765",
            )
        )  # fmt: skip
        scan = f"{place}/well/{OTHERS[0]}%200/{OTHERS[0].lower()}_0.tif?sig=s1gned98765"
        copied = [
            scanwise("fit", tmp_path / "mine.yaml", "--data", table, "--out", run, "--threads", 1),
            scanwise("fit", tmp_path / "mine.yaml", "--data", again, "--out", run, "--threads", 1, "--resume"),
            scanwise("audit", again, "--out", outs / "audit", "--fix", outs / "fixed.csv"),
            scanwise("cohort", table, "--out", outs / "cohort.csv"),
            scanwise("evaluate", run, "--data", again, "--out", outs / "external"),
        ]
        fetched = [path for path in SignedHandler.given if path.endswith(".tif")]
        read = [
            scanwise("audit", folder, "--out", outs / "folder"),
            scanwise("predict", run, "--manifest", table, "--out", outs / "answer.csv", "--shard", 7),
            scanwise("predict", run, "--manifest", again, "--plan"),
            scanwise("predict", demo_model, folder, "--format", "json"),
            scanwise("predict", demo_model, scan, "--format", "json"),
            scanwise("explain", demo_model, scan, "--out", outs / "maps"),
        ]
        refused = [
            scanwise("predict", demo_model, lost),
            scanwise("audit", lost, "--out", outs / "lost"),
            scanwise("fit", "demo", "--data", lost, "--out", tmp_path / "none"),
            scanwise("predict", demo_model, scan.replace(".tif", ".png")),
        ]
    assert [answer.code for answer in copied] == [0, 0, 0, 0, 1], [answer.err for answer in copied]
    assert [answer.code for answer in read] == [3, 0, 0, 0, 0, 0], [answer.err for answer in read]
    assert [answer.code for answer in refused] == [2] * 4, [answer.err for answer in refused]
    assert traces(SIGNED, [run, outs, tmp_path / "cache"], [*copied, *read, *refused]) == set()
    assert len(fetched) == len(set(fetched)) == 37  # once, whatever the signature
