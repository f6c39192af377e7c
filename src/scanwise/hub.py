"""A run as a model of the Hugging Face hub: its card and its bundle, and the way back by name.

    README.md   the model card
    bundle/     what predicts, hashed

Nothing else leaves the run folder. `hf://OWNER/NAME` is such a model; `hf://OWNER/NAME@REVISION` one state of it.
"""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scanwise.bundle import Bundle
from scanwise.cohort.store import cache_folder
from scanwise.errors import RunError, StorageError
from scanwise.run import RunFolder, layout, writing

SCHEME = "hf://"
CARD = "README.md"
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]*")


def write_hub_folder(run: RunFolder, folder: Path, *, license_id: str = "") -> Path:
    """Write what the hub would take into a new folder.

    Args:
        run: a finished run.
        folder: to write; it must not hold anything else.
        license_id: identifier of the licence, such as apache-2.0; the card asks for it where it is missing.

    Raises:
        RunError: if the run is not finished, its bundle is damaged, the licence is no identifier, or the folder is taken.
    """
    from huggingface_hub import ModelCard

    card, bundle = run.path / layout.MODEL_CARD, run.bundle
    if not card.is_file():
        raise RunError(f"{run.path} has no model card. Finish the run first, or write it again with `scanwise report`.")
    if license_id and not _LICENCE.fullmatch(license_id):
        raise RunError(f"{license_id[:80]!r} is no identifier of a licence; give one such as apache-2.0, mit or other.")
    if folder.is_dir() and not (folder / layout.BUNDLE).is_dir() and any(folder.iterdir()):
        raise RunError(f"{folder} holds other files. Choose another folder.")
    Bundle.open(bundle)
    model_card = ModelCard(card.read_text(encoding="utf-8"))
    if license_id:
        model_card.data["license"] = license_id
    with writing(folder) as temporary:
        temporary.mkdir()
        (temporary / CARD).write_text(str(model_card), encoding="utf-8")
        shutil.copytree(bundle, temporary / layout.BUNDLE)
    return folder


def send_to_hub(folder: Path, name: str, *, private: bool = True) -> str:
    """Send what `write_hub_folder` wrote to the hub, with the token of the user's login or HF_TOKEN.

    Args:
        folder: to send, whole; it replaces what the model held.
        name: OWNER/NAME.
        private: whether a new model is seen by its owner alone.

    Returns:
        the name for `scanwise.load`, with the revision.

    Raises:
        RunError: for a name that can be none.
        StorageError: if the hub cannot be reached, or refuses.
    """
    _require_name(name)
    with _explaining(name):
        hub = _hub()
        hub.create_repo(name, private=private, exist_ok=True)
        commit = hub.upload_folder(
            repo_id=name, folder_path=folder, commit_message="scanwise publish", delete_patterns=["bundle/*"]
        )
    return f"{SCHEME}{name}@{commit.oid}"


def fetch_from_hub(url: str) -> Path:
    """The folder of the bundle of `hf://OWNER/NAME[@REVISION]`, kept in the cache.

    Raises:
        RunError: if there is no such model, or it holds no bundle.
        StorageError: if the hub cannot be reached, or refuses.
    """
    from huggingface_hub import snapshot_download

    name, _, revision = url.removeprefix(SCHEME).partition("@")
    _require_name(name)
    with _explaining(name):
        commit = str(_hub().model_info(name, revision=revision or None).sha)
        folder = cache_folder() / "hub" / name / commit
        snapshot_download(
            name, revision=commit, local_dir=folder, allow_patterns=[f"{layout.BUNDLE}/*"], endpoint=_endpoint()
        )
    if not (folder / layout.BUNDLE).is_dir():
        raise RunError(f"{SCHEME}{name} holds no bundle of scanwise. Name a model that `scanwise publish` sent.")
    return folder / layout.BUNDLE


def _require_name(name: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(name)
        whole = name.count("/") == 1
    except HFValidationError:
        whole = False
    if not whole:
        raise RunError(f"{name[:80]!r} is no name of a model on the hub; give OWNER/NAME.")


def _hub() -> Any:
    from huggingface_hub import HfApi

    return HfApi(endpoint=_endpoint(), library_name="scanwise")


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT")


@contextmanager
def _explaining(name: str) -> Iterator[None]:
    """Errors of the hub as one sentence with what to do."""
    from huggingface_hub.errors import (
        HfHubHTTPError,
        LocalTokenNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    try:
        yield
    except RepositoryNotFoundError as error:
        raise RunError(
            f"There is no model {name} on the hub, or this login may not see it. Check the name, or run `hf auth login`."
        ) from error
    except (OfflineModeIsEnabled, LocalTokenNotFoundError) as error:
        raise StorageError(f"The hub was not asked for {name}: {str(error).splitlines()[0]}") from error
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "")
        advice = "Run `hf auth login`, or set HF_TOKEN." if status in (401, 403) else "Try again later."
        raise StorageError(f"The hub refused {name} with status {status}. {advice}") from error
    except OSError as error:
        raise StorageError(
            f"The hub cannot be reached for {name}: {type(error).__name__}. Check the connection."
        ) from error
    except Exception as error:  # the HTTP library's own, whichever it is
        if not type(error).__module__.startswith(("http", "requests", "urllib3")):
            raise
        raise StorageError(
            f"The hub cannot be reached for {name}: {type(error).__name__}. Check the connection."
        ) from error
