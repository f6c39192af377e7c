"""Export of a run's model to a folder that is predicted with and served without torch, after a proof that it answers alike."""

import platform
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from scanwise import bundle
from scanwise.bundle.contents import (
    ABOUT,
    DECODER,
    GRAPH,
    NOVELTY,
    PARITY,
    RECIPE,
    VOCABULARY,
    bundle_folder,
    list_hashes,
)
from scanwise.bundle.engines import CPU_SHAPE, Engine, Inputs, Tokens, forward_shapes, run_in_shape
from scanwise.bundle.golden import verify_golden_cases, write_golden_cases
from scanwise.bundle.inputs import LOCAL, ScanReader
from scanwise.bundle.onnx_engine import OnnxEngine
from scanwise.bundle.parity import Agreement
from scanwise.cohort import layouts, remote, slice_expansion
from scanwise.cohort.decoding.pixels import Pixels
from scanwise.errors import RunError
from scanwise.migrations import FORMATS
from scanwise.novelty import appearance_features
from scanwise.progress_bar import track, with_one_bar
from scanwise.records import Cohort, Logits, Predictions, StrArray
from scanwise.run import RunFolder, layout, write_json, write_text, writing

FEWEST, MOST = 200, 256
"""Scans that both engines are asked about."""
BATCHES = (1, 2, 7, 32)


@with_one_bar
def export_model(path: Path, out: Path, *, scans: Sequence[Path] = (), progress: bool = False) -> Agreement:
    """Write the model of a run as an ONNX graph with all that it needs to predict; whole, or not at all.

    Args:
        path: a run folder or a bundle.
        out: a new folder.
        scans: to compare the graph with the network on; default: those of the run.
        progress: show bars.

    Returns:
        how the graph agreed with the network.

    Raises:
        RunError: if the model cannot be exported, or the graph answers any scan otherwise.
    """
    if out.exists():
        raise RunError(f"There is something at {out} already. Give --out a new folder.")
    try:
        from scanwise.bundle.graph import export_graph
    except ImportError as error:
        raise RunError("Exporting needs onnx and onnxscript: pip install 'scanwise[onnx]'.") from error
    loaded = bundle.load(path)
    if loaded.exported is not None:
        raise RunError(f"{path} is an exported model already. Give the run that it came from.")
    cases = _read_cases(loaded, path, scans, progress)
    some = slice(0, 2)
    graph = export_graph(loaded.network, cases.pixels[some], None if cases.tokens is None else cases.tokens[some])
    inputs = {"draws": graph.draws, "layers": [[list(layer.units), layer.share] for layer in graph.layers]}
    engine = OnnxEngine.open(graph.model, inputs)
    agreement = _compare(loaded, engine, cases)
    if not agreement.holds:
        raise RunError(
            f"The graph does not answer as the network does: {agreement}. Nothing was exported; predict with the run itself."
        )
    about = {**loaded.about, "format": FORMATS["bundle"], "graph": inputs, "explained": {}}
    about |= {"forward": forward_shapes(loaded.recipe), bundle.HASHED: loaded.about.get(bundle.HASHED, "file")}
    exported = replace(loaded, about=about, trained=None, exported=engine)
    with writing(out) as folder:
        folder.mkdir()
        (folder / GRAPH).write_bytes(graph.model)
        _copy_parts(loaded, path, folder)
        write_json(about, folder / ABOUT)
        write_json(_decoder(loaded), folder / DECODER)
        write_json(_parity(agreement, cases), folder / PARITY)
        write_golden_cases(folder, exported)
        list_hashes(folder)
    return agreement


def verify_export(folder: Path) -> str:
    """Repeat the golden cases of an exported model on this machine; what agrees, in one line.

    Raises:
        RunError: if the folder was altered, or an answer is another.
    """
    loaded = bundle.load(folder)
    if loaded.exported is None:
        raise RunError(f"{folder} is no exported model. Export it first: scanwise export {folder} --out DIR.")
    return verify_golden_cases(folder, loaded)


@dataclass(frozen=True, slots=True)
class _Cases:
    """Scans that both engines are asked about.

    Attributes:
        pixels: (N, H, W, C).
        tokens: (N, L), or None.
        subjects: (N,).
        own: number of scans that are no altered copies.
    """

    pixels: Pixels
    tokens: Tokens | None
    subjects: StrArray
    own: int


def _read_cases(loaded: bundle.Bundle, path: Path, scans: Sequence[Path], progress: bool) -> _Cases:
    """Decode scans of the run, or those given, and fill them up with altered copies where they are few."""
    paths, subjects, groups, words = _listed_scans(loaded, path, scans)
    reader = ScanReader(
        track(LOCAL.read(paths, loaded.recipe.data), "predicting", len(paths), progress), None, bundle.PIXELS
    )
    read = [pixels for pixels, _ in reader.batches(64)]
    if not read:
        raise RunError(
            "None of the scans of this run can be read here, and an export is compared on scans. Give some with --scans FOLDER."
        )
    kept = reader.kept
    people = subjects[kept]
    tokens: Tokens | None = None
    if loaded.vocabulary is None:
        names, own_groups = [str(paths[row]) for row in kept], {name: values[kept] for name, values in groups.items()}
        tokens = loaded.tokens_of_people([paths[row] for row in kept], names, people.tolist(), own_groups)
    else:
        from scanwise.models.vocabulary import titles_as_read

        titles = titles_as_read(words[kept], loaded.recipe.model.text, loaded.classes)
        tokens = loaded.vocabulary(titles)
    pixels = np.concatenate(read)
    own = len(pixels)
    copies = [_altered(pixels, number) for number in range(1, -(-FEWEST // own))]
    rows = np.tile(np.arange(own), 1 + len(copies))[: max(own, FEWEST)]
    return _Cases(
        np.concatenate([pixels, *copies])[: len(rows)],
        None if tokens is None else tokens[rows],
        people[rows],
        own,
    )


def _listed_scans(
    loaded: bundle.Bundle, path: Path, scans: Sequence[Path]
) -> tuple[list[Path], StrArray, dict[str, StrArray], StrArray]:
    """Paths, subjects, columns and texts of at most `MOST` scans, evenly over those that there are."""
    if scans:
        files = layouts.list_unlabelled(scans, None, "")
        listing, _ = slice_expansion.expand_slices(files, loaded.recipe.data.model_copy(update={"series": ""}))
        names, root = listing.path, listing.root
        subjects, groups, text = listing.subject, dict(listing.groups), listing.text
    elif (path / layout.COHORT).is_file():
        cohort = Cohort.load(RunFolder(path).cohort)
        names, root = cohort.path, remote.local_root(cohort.root)
        subjects, groups, text = cohort.subject, dict(cohort.groups), cohort.text
    else:
        raise RunError(f"{path} has no scans to compare the export on. Give some with --scans FOLDER.")
    rows = np.unique(np.linspace(0, len(names) - 1, min(len(names), MOST)).round().astype(np.int64))
    nothing = np.full(len(names), "")
    alone = np.arange(len(names)).astype(str)
    subjects = alone if subjects is None else np.where(subjects == "", np.char.add("scan ", alone), subjects)
    words = nothing if text is None else text
    return (
        [root / name for name in names[rows].tolist()],
        subjects[rows],
        {name: values[rows] for name, values in groups.items()},
        words[rows],
    )


def _altered(pixels: Pixels, number: int) -> Pixels:
    """Copies that are turned, mirrored and darkened, each number otherwise."""
    turned = np.rot90(pixels, number % 4, axes=(1, 2))
    mirrored = turned[:, :, ::-1] if number // 4 % 2 else turned
    return np.ascontiguousarray(mirrored - mirrored // (2 + number)) if number >= 8 else np.ascontiguousarray(mirrored)


def _compare(loaded: bundle.Bundle, engine: OnnxEngine, cases: _Cases) -> Agreement:
    reference = _answers(loaded, loaded.engine(), cases, CPU_SHAPE)
    pairs = []
    for size in BATCHES:
        pairs += list(zip(reference, _answers(loaded, engine, cases, size), strict=True))
    return Agreement.of(pairs)


def _answers(loaded: bundle.Bundle, engine: Engine, cases: _Cases, size: int) -> tuple[Predictions, Predictions]:
    def batches() -> Iterator[Inputs]:
        for start in range(0, len(cases.pixels), size):
            rows = slice(start, start + size)
            yield cases.pixels[rows], None if cases.tokens is None else cases.tokens[rows]

    parts = list(run_in_shape(engine, batches(), size))
    attention = [part[2] for part in parts if part[2] is not None]
    names = np.arange(len(cases.pixels)).astype(str)
    logits = Logits(
        logits=np.concatenate([part[0] for part in parts]),
        labels=np.full(len(names), -1),
        scans=names,
        subjects=cases.subjects,
        classes=loaded.classes,
        features=np.concatenate([part[1] for part in parts]),
        attention=np.concatenate(attention) if attention else None,
        appearance=appearance_features(cases.pixels),
    )
    return bundle.predict_scans_and_subjects(loaded.predictors, logits, names.tolist())


def _copy_parts(loaded: bundle.Bundle, path: Path, folder: Path) -> None:
    source = bundle_folder(path)
    for name in (NOVELTY, VOCABULARY):
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    write_text(loaded.recipe.to_yaml(), folder / RECIPE)


def _decoder(loaded: bundle.Bundle) -> dict[str, Any]:
    """Description of what becomes of a file before the graph sees it."""
    data = loaded.recipe.data
    return {
        "input": "pixels",
        "shape": ["scans", data.size, data.size, data.channels],
        "type": "uint8",
        "normalisation": "inside the graph",
        "settings": data.of_pixels,
        "steps": [
            "decode the file by its first bytes: DICOM (window and slope applied, 8 bits), NIfTI (turned to radiological view), or a picture",
            "upright; transparent parts black; 16 bits to 8 by the range of the picture",
            "gray if channels is 1, RGB if 3",
            "resize to size x size by area-aware bilinear resampling (Pillow), padded with black first where shape is pad",
        ],
        "hash": "draws of randomised sets come from the decoded pixels before they are resized",
    }


def _parity(agreement: Agreement, cases: _Cases) -> dict[str, Any]:
    packages = ("scanwise", "torch", "onnx", "onnxscript", "onnxruntime", "numpy")
    return {
        "scans": len(cases.pixels),
        "altered_copies": len(cases.pixels) - cases.own,
        "batches": list(BATCHES),
        **agreement.to_dict(),
        "versions": {name: version(name) for name in packages},
        "machine": f"{platform.system()} {platform.machine()}",
    }
