"""Contents of a bundle, as a file of others: its names, hashes and values, checked before anything is built from them."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, ValidationError, model_validator

from scanwise.errors import RunError
from scanwise.migrations import check_format
from scanwise.records import Unit
from scanwise.run import layout, read_json, require_model_folder, sha256_of, write_text
from scanwise.untrusted import quote, refuse_special

ABOUT, RECIPE, WEIGHTS = layout.BUNDLE_ABOUT, "recipe.yaml", "model.safetensors"
NOVELTY, VOCABULARY = "novelty.safetensors", "vocabulary.json"
GRAPH, DECODER, GOLDEN, PARITY = "model.onnx", "decoder.json", "golden.json", "parity.json"
NEEDED, EXPORT_NEEDED = (ABOUT, RECIPE, WEIGHTS), (ABOUT, RECIPE, GRAPH, DECODER, GOLDEN, PARITY)
FILES = (*NEEDED, NOVELTY, VOCABULARY, *EXPORT_NEEDED[2:])
"""Files that a bundle or an exported model may hold, beside their hashes and the pictures of golden cases."""
_PICTURE = re.compile(r"golden-\d\d\.png")
MOST_CLASSES = 10_000
MOST_ROWS = 1024

Name = Annotated[str, Field(max_length=1000)]
Share = Annotated[float, Field(gt=0, lt=1)]
Values = Mapping[Unit, Mapping[str, Any]]


class MethodVerdict(BaseModel):
    """Result of the checks of a method of explanation."""

    model_config = ConfigDict(frozen=True)

    layer: Name
    reasons: tuple[Annotated[str, Field(max_length=10_000)], ...]


class AbstentionTable(BaseModel):
    """The contents of `abstention.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    chosen: Mapping[str, Any]
    table: tuple[Mapping[str, Any], ...] = ()


class ForwardShapes(BaseModel):
    """Rows of every batch, by device."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cpu: Annotated[StrictInt, Field(ge=1, le=MOST_ROWS)]
    accelerator: Annotated[StrictInt, Field(ge=1, le=MOST_ROWS)]


class GraphInputs(BaseModel):
    """Inputs of an exported network beside pixels and tokens: T draws, and the shape and share of each dropout's mask."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    draws: Annotated[StrictInt, Field(ge=0, le=1000)]
    layers: tuple[tuple[tuple[Annotated[StrictInt, Field(ge=1, le=10_000_000)], ...], Share], ...]


class BundleContents(BaseModel):
    """The contents of `bundle.json`; values that a later version of the same format adds are kept."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: Name
    classes: Annotated[tuple[Name, ...], Field(min_length=2, max_length=MOST_CLASSES)]
    ordered: StrictBool
    protocol: Literal["honest", "published"]
    fold: Annotated[StrictInt, Field(ge=0, le=10_000)]
    calibrators: Values
    sets: Values
    abstention: AbstentionTable | None = None
    novelty: StrictBool = False
    groups: Mapping[Name, tuple[Name, ...]] = {}
    explained: Mapping[str, MethodVerdict] = {}
    hashed: Literal["pixels", "file"] = "file"
    forward: ForwardShapes | None = None
    graph: GraphInputs | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, values: Any) -> Any:
        return {name: value for name, value in dict(values).items() if not (name == "abstention" and value == {})}

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("two classes have one name")
        return self


def read_contents(folder: Path) -> dict[str, Any]:
    """The values of `bundle.json`.

    Raises:
        RunError: naming the value that is not as scanwise writes it.
    """
    file = folder / ABOUT
    values = read_json(file)
    if not isinstance(values, dict):
        raise RunError(f"{file} holds no bundle: expected names and values. Copy the whole folder again.")
    check_format("bundle", values.get("format"), folder)
    try:
        BundleContents.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part)[:40] for part in first["loc"]) or "its values"
        raise RunError(
            f"{file} is not as scanwise writes it: {key}: {first['msg']} (found {quote(first['input'])}). Copy the whole "
            "folder again, or make it anew with `scanwise fit … --resume`."
        ) from error
    return values


def verify_files(folder: Path) -> dict[str, str]:
    """The hash of each file of a bundle, after a comparison with its content.

    Raises:
        RunError: if a file is missing, foreign, a link, or differs from what was written.
    """
    digests = _listed(folder)
    needed = EXPORT_NEEDED if GRAPH in digests else NEEDED
    for name in (*needed, *(name for name in digests if name not in needed)):
        file = folder / name
        if file.is_symlink():
            raise RunError(f"{file} is a link; a bundle holds its files itself. Copy the whole folder again.")
        if not file.is_file():
            raise RunError(f"The bundle {folder} lacks {name}. Copy the whole folder again.")
        if digests.get(name) != sha256_of(file):
            raise RunError(
                f"{file} is not what scanwise wrote: its hash differs from SHA256SUMS. It was altered or damaged; "
                "copy the bundle again, or make it anew with `scanwise fit … --resume`."
            )
    for name in sorted(path.name for path in folder.iterdir()):
        if _belongs(name) and name not in digests:
            raise RunError(f"SHA256SUMS of the bundle {folder} does not list {name}. Copy the whole folder again.")
        if (
            not _belongs(name) and name != layout.CHECKSUMS and not name.startswith(".")
        ):  # such as .DS_Store, which nothing reads
            raise RunError(f"The bundle {folder} holds {quote(name)}, which is no file of a bundle. Remove it.")
    return digests


def digest_of_model(path: Path) -> str:
    """One hash for the bundle of a run folder, or for a bundle: that of its list of hashes."""
    return sha256_of(bundle_folder(path) / layout.CHECKSUMS)


def bundle_folder(path: Path) -> Path:
    """A bundle itself, or that of a run folder.

    Raises:
        RunError: if there is none.
    """
    require_model_folder(path)
    for folder in (path, path / layout.BUNDLE):
        if (folder / ABOUT).is_file():
            return folder
    raise RunError(
        f"{path} holds no bundle. Finish the run first: scanwise fit RECIPE --data DATA --out {path} --resume."
    )


def list_hashes(folder: Path) -> None:
    """Write the hash of every file of a bundle beside them."""
    pictures = sorted(file.name for file in folder.iterdir() if _PICTURE.fullmatch(file.name))
    names = [*(name for name in FILES if (folder / name).is_file()), *pictures]
    write_text("".join(f"{sha256_of(folder / name)}  {name}\n" for name in names), folder / layout.CHECKSUMS)


def _belongs(name: str) -> bool:
    return name in FILES or _PICTURE.fullmatch(name) is not None


def _listed(folder: Path) -> dict[str, str]:
    """Name to hash, as SHA256SUMS lists them."""
    file = folder / layout.CHECKSUMS
    try:
        refuse_special(file, "a list of hashes")
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"The bundle {folder} has no SHA256SUMS, so nothing vouches for it. Make it again.") from error
    digests = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    if unknown := [name for name in digests if not _belongs(name)]:
        raise RunError(f"{file} lists {quote(unknown[0])}, which is no file of a bundle. Copy the whole folder again.")
    return digests
