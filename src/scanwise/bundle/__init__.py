"""The bundle of a run: one folder, hashed, that loads without pickle and predicts. Every prediction is made here.

bundle/  bundle.json           classes, calibrators, prediction sets, abstention threshold, kinds of scans taught, origin
         recipe.yaml           the recipe of the run
         model.safetensors     the weights
         novelty.safetensors   the novelty detector, for scans unlike training; of honest fits
         vocabulary.json       the tokenizer; of networks that read text
         SHA256SUMS            the hash of each of these
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from scanwise.bundle.answers import BundlePredictions
from scanwise.bundle.contents import GRAPH, NOVELTY, RECIPE, bundle_folder, read_contents, verify_files
from scanwise.bundle.engines import Engine, Tokens
from scanwise.bundle.folder import write_bundle
from scanwise.bundle.given_scans import GivenScans
from scanwise.bundle.inputs import LOCAL, FileReader, read_small_pixels
from scanwise.bundle.joint_prediction import NetworkOutputs, predict_requests
from scanwise.bundle.mapping import AskedScans, ScanMapper, ShardMap, map_in_memory
from scanwise.bundle.onnx_engine import OnnxEngine
from scanwise.bundle.parts import load_bundle_network, load_vocabulary, naming_damage
from scanwise.bundle.predictors import (
    HASHED,
    PIXELS,
    Hashed,
    Predictor,
    abstention_from_dict,
    abstention_to_dict,
    build_predictors,
    cdr_by_class,
    hashed_content,
    load_predictors,
    predict_scans_and_subjects,
    scan_hashes,
    subject_hashes,
)
from scanwise.cohort.anatomical_order import recovered_positions, scan_positions
from scanwise.cohort.covariates import network_tokens, settled_covariates
from scanwise.cohort.decoding.pixels import Source
from scanwise.cohort.decoding.readers import decode_on_one_core
from scanwise.errors import DataError, RunError
from scanwise.migrations import BUNDLE_BEFORE_NOVELTY
from scanwise.novelty import NoveltyDetector, appearance_features
from scanwise.phrases import none_readable
from scanwise.recipe import Recipe, load_recipe
from scanwise.records import FloatArray, IntArray, Logits, StrArray, Unit

if TYPE_CHECKING:
    from scanwise.models import Network
    from scanwise.models.vocabulary import Vocabulary

__all__ = [
    "HASHED",
    "PIXELS",
    "Bundle",
    "BundlePredictions",
    "GivenScans",
    "Hashed",
    "NetworkOutputs",
    "Predictor",
    "abstention_from_dict",
    "abstention_to_dict",
    "cdr_by_class",
    "hashed_content",
    "load",
    "load_predictors",
    "predict_scans_and_subjects",
    "scan_hashes",
    "subject_hashes",
    "write_bundle",
]

log = logging.getLogger("scanwise")


@dataclass(frozen=True, slots=True)
class Bundle:
    """A trained classifier with everything it needs to predict.

    Attributes:
        recipe: of the run.
        classes: C names, in order.
        predictors: by unit.
        about: the contents of bundle.json.
        trained: the network, on the CPU and in evaluation mode; None of an exported model.
        vocabulary: of a network that reads text, else None.
        exported: the engine of an exported model, else None.
    """

    recipe: Recipe
    classes: tuple[str, ...]
    predictors: dict[Unit, Predictor]
    about: dict[str, Any]
    trained: "Network | None" = field(repr=False)
    vocabulary: "Vocabulary | None" = field(default=None, repr=False)
    exported: OnnxEngine | None = field(default=None, repr=False)

    @property
    def network(self) -> "Network":
        """The network in torch.

        Raises:
            RunError: if the model is an exported one.
        """
        if self.trained is None:
            raise RunError("An exported model answers, and no more. Give the run that it was exported from.")
        return self.trained

    def engine(self, device: str = "cpu") -> Engine:
        """Whatever runs the network.

        Raises:
            RunError: if an exported model is asked to run elsewhere than on the CPU.
        """
        if self.exported is not None:
            if device != "cpu":
                raise RunError(
                    f"An exported model runs on the CPU, and not on {device}. Give the run, or --device cpu."
                )
            return self.exported
        from scanwise.prediction import TorchEngine

        return TorchEngine(self.network, device=device)

    def use_one_core(self) -> None:
        """Run on one core from now on, because others of this machine run beside it."""
        decode_on_one_core()
        if self.exported is not None:
            self.exported.cores = 1
            return
        import torch

        torch.set_num_threads(1)

    def verdict(self, method: str, layer: str = "") -> list[str] | None:
        """Reasons why a method of explanation failed its checks; empty where it passed, None where it was not checked.

        Args:
            method: of `explanation.METHODS`, or `words`.
            layer: of class activation maps, "" for the default.
        """
        entry = self.about.get("explained", {}).get(method)
        return None if entry is None or entry["layer"] != layer else list(entry["reasons"])

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open a bundle after checking every hash.

        Raises:
            RunError: if a file is missing, foreign, or differs from what was written, or its parts do not fit each other.
        """
        digests = verify_files(folder)
        with naming_damage(folder):
            about = read_contents(folder)
            if about["format"] == BUNDLE_BEFORE_NOVELTY:
                log.warning("%s was made by an older scanwise: it does not flag scans unlike training.", folder)
            elif about["novelty"] and NOVELTY not in digests:
                raise RunError(
                    f"SHA256SUMS of the bundle {folder} does not list {NOVELTY}. Copy the whole folder again."
                )
            recipe, classes = load_recipe(folder / RECIPE), tuple(about["classes"])
            vocabulary = load_vocabulary(folder, recipe, digests)
            network = exported = None
            if GRAPH in digests:
                exported = OnnxEngine.open(folder / GRAPH, about["graph"])
            else:
                network = load_bundle_network(folder, recipe, len(classes), vocabulary)
            detector = NoveltyDetector.load(folder / NOVELTY) if about.get("novelty") else None
            ratings = cdr_by_class(recipe, classes)
            predictors = build_predictors(
                about["calibrators"], about["sets"], about.get("abstention", {}), detector, ratings
            )
            opened = cls(recipe, classes, predictors, about, network, vocabulary, exported)
            opened._try_once()
        return opened

    def _try_once(self) -> None:
        """Predict a blank scan: parts that do not belong together show here, not among a user's scans."""
        data = self.recipe.data
        pixels = np.zeros((1, data.size, data.size, data.channels), np.uint8)
        tokens: Tokens | None = None if self.vocabulary is None else self.vocabulary(["a"])
        if self.exported is not None and self.vocabulary is None:
            tokens = network_tokens(self.recipe, np.array(["blank"]), np.full(1, np.nan), {})
        logits, features, attention = self.engine().run(pixels, tokens)
        blank = Logits(
            logits, np.full(1, -1), np.array(["blank"]), np.array(["blank"]), self.classes, features=features,
            attention=attention, appearance=appearance_features(pixels),
        )  # fmt: skip
        predict_scans_and_subjects(self.predictors, blank, ["blank"])

    def predict(
        self,
        scans: Sequence[str | Source] | str | Source,
        subjects: Sequence[str] | None = None,
        groups: dict[str, StrArray] | None = None,
        *,
        words: Sequence[str] | None = None,
        names: StrArray | None = None,
        device: str = "cpu",
        progress: bool = False,
        files: FileReader = LOCAL,
        shards: ShardMap = map_in_memory,
    ) -> BundlePredictions:
        """Predict image files.

        Args:
            scans: paths or URLs of files or their contents, or one; of a file with many slices all that the recipe uses, or one by `file#slice`.
            subjects: the subject of each path, to pool by; "" where none is known, and then the scan is answered alone.
            groups: columns to carry along.
            words: the text beside each path, for a network that reads it; "" where there is none.
            names: of the files in the predictions; default: the paths, or the labels of contents.
            device: where the network runs.
            progress: show a bar.
            files: decodes them.
            shards: asks the network, a shard at a time.

        Raises:
            DataError: if no file can be read.
        """
        given = GivenScans.of(scans, subjects, groups, words=words, names=names)
        outputs = self.outputs_of(given, device=device, progress=progress, files=files, shards=shards)
        return self.predict_outputs([outputs])[0]

    def outputs_of(
        self,
        given: GivenScans,
        *,
        device: str = "cpu",
        progress: bool = False,
        files: FileReader = LOCAL,
        shards: ShardMap = map_in_memory,
    ) -> NetworkOutputs:
        """Network outputs for what is given; options and errors as in `predict`."""
        scans = self._expand(given, files)
        if self.vocabulary is None:
            tokens = self.tokens_of_people(scans.sources, scans.names, scans.subjects, scans.groups, files)
        else:
            tokens = self._tokens(scans)
        mapped = shards(AskedScans(scans.sources, scans.names, tokens), self.mapper(device, files), progress)
        quarantine = [(scans.names[row], reason) for row, reason in mapped.quarantine]
        if not len(mapped.kept):
            reasons = "; ".join(f"{path}: {reason}" for path, reason in quarantine[:3])
            raise DataError(f"{none_readable(len(given.sources))} ({reasons}).")
        scans = scans.take(mapped.kept.tolist())
        if quarantine and tokens is not None and self.recipe.model.is_ridge:  # places count the scans that can be read
            again = self.outputs_of(scans, device=device, progress=progress, files=files, shards=shards)
            return replace(again, quarantine=tuple(quarantine))
        logits = Logits(
            logits=mapped.logits,
            labels=np.full(len(scans.sources), -1),
            scans=np.array(scans.names, dtype=np.str_),
            subjects=np.array(scans.subjects or [""] * len(scans.sources), dtype=np.str_),
            classes=self.classes,
            groups=scans.groups,
            attention=mapped.attention,
        )
        return NetworkOutputs(logits, mapped.hashes, mapped.novelty, tuple(quarantine))

    def predict_outputs(self, outputs: Sequence[NetworkOutputs]) -> list[BundlePredictions]:
        """Answers to several requests, each as `predict` gives it."""
        return predict_requests(self.predictors, outputs)

    def tokens_of_people(
        self,
        paths: Sequence[Source],
        names: Sequence[str],
        subjects: Sequence[str] | None,
        groups: Mapping[str, StrArray],
        files: FileReader = LOCAL,
    ) -> IntArray | FloatArray | None:
        """(N, …) numbers of `network_tokens`; None where each scan is asked alone and nothing is known of its person.

        Args:
            paths: of the scans, whose pixels are read where nothing else tells their order.
            names: of the scans.
            subjects: of the scans, or None.
            groups: columns of the scans, such as the position and covariates.
            files: decodes them.
        """
        covariates, model = settled_covariates(self.recipe), self.recipe.model
        reads = model.is_ridge or model.covariates > 0
        if reads and (absent := [name for name in covariates if name not in groups]):
            log.warning("No column says %s: the average of training people stands in.", " and ".join(absent))
        if not reads or (subjects is None and not covariates and self.exported is None):
            return None
        if subjects is None:
            alone = np.array([f"{index}" for index in range(len(names))])
            return network_tokens(self.recipe, alone, np.full(len(names), np.nan), groups)
        positions = scan_positions(np.array(names, dtype=np.str_), groups)
        positions[np.array(subjects) == ""] = np.nan  # each of these is a person of its own, without an order
        people = np.array([name or f"\0{row}" for row, name in enumerate(subjects)], dtype=np.str_)
        if model.is_ridge and model.ridge.slabs > 1:
            read = partial(read_small_pixels, paths, self.recipe.data, files)
            positions = recovered_positions(people, positions, read)
        return network_tokens(self.recipe, people, positions, groups)

    def _tokens(self, scans: GivenScans) -> IntArray | None:
        """(N, L) tokens of the words beside scans; None for a network that reads no text."""
        if self.vocabulary is None:
            return None
        words = scans.words
        if words is None or not any(str(text).strip() for text in words):
            refusal = "A network of text alone cannot predict" if self.recipe.model.name == "text" else ""
            if refusal:
                raise DataError(f"{refusal} without text. Give a manifest with a column text.")
            log.warning("No text is given: predictions rest on the images alone. A manifest can have a column text.")
            words = [""] * len(scans.sources)
        from scanwise.models.vocabulary import titles_as_read

        return self.vocabulary(titles_as_read(words, self.recipe.model.text, self.classes))

    def _expand(self, given: GivenScans, files: FileReader) -> GivenScans:
        """The scans that files hold."""
        scans = [
            (row, *scan)
            for row, source in enumerate(given.sources)
            for scan in files.scans_of(source, self.recipe.data)
        ]
        of_files = given.take([row for row, _, _ in scans])
        names = [name + end for name, (_, _, end) in zip(of_files.names, scans, strict=True)]
        return replace(of_files, sources=[scan for _, scan, _ in scans], names=names)

    def mapper(self, device: str = "cpu", files: FileReader = LOCAL) -> ScanMapper:
        """The first half of a prediction: from scans to logits."""
        shapes, batch = self.about.get("forward"), 0
        if shapes is None:  # a bundle before format 3 answers as it did
            from scanwise.prediction import prediction_batch_size

            batch = prediction_batch_size(self.recipe)
        return ScanMapper(
            engine=self.engine(device),
            device=device,
            shape=None if shapes is None else int(shapes["cpu" if device == "cpu" else "accelerator"]),
            batch=batch,
            recipe=self.recipe,
            classes=self.classes,
            hashed=self.about.get(HASHED, "file"),
            detector=self.predictors["scan"].detector,
            files=files,
        )


def load(path: str | Path) -> Bundle:
    """Open the bundle of a run folder, or a bundle folder itself.

    Raises:
        RunError: if there is none, or it was altered.
    """
    return Bundle.open(bundle_folder(Path(path)))
