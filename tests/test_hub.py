"""A run goes to the hub and comes back by its name; nothing but card and bundle leaves."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

import scanwise
from hub_stand_in import TOKEN, Hub, running_hub
from scanwise.errors import RunError, StorageError
from scanwise.hub import fetch_from_hub, send_to_hub, write_hub_folder
from tiny import Command, Whole


@pytest.fixture
def command(request: pytest.FixtureRequest) -> Command:
    """The command line; its fixture has the package's name."""
    run: Command = request.getfixturevalue("scanwise")
    return run


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("SCANWISE_CACHE", str(tmp_path / "cache"))
    with running_hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def test_a_folder_for_the_hub_holds_a_valid_card_and_the_bundle_alone(whole: Whole, tmp_path: Path) -> None:
    folder = write_hub_folder(whole.run, tmp_path / "model", license_id="apache-2.0")
    files = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    bundle = {f"bundle/{file.name}" for file in whole.run.bundle.iterdir()}
    assert files == {"README.md", *bundle}
    card = ModelCard.load(folder / "README.md")
    assert card.data.license == "apache-2.0"
    assert card.data.library_name == "scanwise"
    assert scanwise.load(folder).classes == scanwise.load(whole.run.path).classes
    assert write_hub_folder(whole.run, tmp_path / "model", license_id="mit") == folder  # written anew


def test_a_model_is_sent_and_loaded_back_by_its_name(whole: Whole, hub: Hub, tmp_path: Path, command: Command) -> None:
    done = command("publish", whole.run.path, "--to", "hub", "--name", "clinic/brains", "--license", "mit")
    assert done.code == 0, done.err
    assert hub.private["clinic/brains"]
    assert set(hub.models["clinic/brains"]["main"]) == {
        "README.md", *(f"bundle/{file.name}" for file in whole.run.bundle.iterdir()),
    }  # fmt: skip
    files = [whole.data.parent / row["path"] for row in whole.table()[:3]]
    answer = scanwise.predict("hf://clinic/brains", files)
    own = scanwise.predict(whole.run.path, files)
    assert answer.scans.to_dict("records") == own.scans.to_dict("records")


def test_a_revision_stays_what_it_was(whole: Whole, hub: Hub, tmp_path: Path) -> None:
    folder = write_hub_folder(whole.run, tmp_path / "model")
    first = send_to_hub(folder, "clinic/brains")
    another = {"README.md": b"another"}
    hub.models["clinic/brains"] |= {"main": another, "1" * 40: another}
    assert scanwise.load(first).classes == scanwise.load(whole.run.path).classes
    with pytest.raises(RunError, match="holds no bundle of scanwise"):
        fetch_from_hub("hf://clinic/brains")


def test_an_altered_model_is_refused(whole: Whole, hub: Hub, tmp_path: Path) -> None:
    send_to_hub(write_hub_folder(whole.run, tmp_path / "model"), "clinic/brains")
    (revision,) = (oid for oid in hub.models["clinic/brains"] if oid != "main")
    hub.models["clinic/brains"][revision]["bundle/recipe.yaml"] += b"\n"
    with pytest.raises(RunError, match=r"recipe\.yaml"):
        scanwise.load("hf://clinic/brains")


def test_what_the_hub_refuses_is_one_sentence(
    whole: Whole, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_hub_folder(whole.run, tmp_path / "model")
    with pytest.raises(RunError, match="no model clinic/none on the hub"):
        scanwise.load("hf://clinic/none")
    monkeypatch.setenv("HF_TOKEN", "another")
    with pytest.raises(StorageError, match=r"status 401\. Run `hf auth login`"):
        send_to_hub(folder, "clinic/brains")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(StorageError, match="cannot be reached"):
        scanwise.load("hf://clinic/brains")


@pytest.mark.parametrize("name", ["brains", "a/b/c", "../x", "a b/c", ""])
def test_a_name_that_can_be_none_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="give OWNER/NAME"):
        send_to_hub(tmp_path, name)


def test_what_cannot_be_published_is_refused(whole: Whole, tmp_path: Path, command: Command) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(RunError, match="holds other files"):
        write_hub_folder(whole.run, tmp_path / "full")
    with pytest.raises(RunError, match="no identifier of a licence"):
        write_hub_folder(whole.run, tmp_path / "model", license_id="my licence\nx: y")
    done = command("publish", whole.run.path, "--to", "hub")
    assert done.code == 2
    assert "--name OWNER/NAME" in done.err
    assert not (tmp_path / "model").exists()
