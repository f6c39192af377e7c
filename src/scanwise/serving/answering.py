"""Answers of a model to questions of the server: what it is, whether it answers as it should, predictions, heatmaps."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scanwise import __version__, bundle
from scanwise.bundle import BundlePredictions, NetworkOutputs
from scanwise.bundle.contents import bundle_folder, digest_of_model
from scanwise.bundle.golden import verify_golden_cases
from scanwise.cohort.decoding.pixels import ScanBytes
from scanwise.cohort.listing import Listing
from scanwise.errors import DataError, ScanwiseError
from scanwise.pipeline.commands.predict_files import outputs_of_listing, predict_listings
from scanwise.serving.decoding import DecodedFiles, IsolatedDecoder
from scanwise.serving.early_map import EarlyMap
from scanwise.serving.heatmaps import UploadHeatmaps
from scanwise.serving.messages import Header, Message
from scanwise.serving.upload_listing import list_uploads

MOST_JOINED, MOST_JOINED_BYTES = 8, 4 * 2**20
"""Files of a request that is answered with others, and their bytes: of volumes, each may hold hundreds of scans."""


class ModelAnswers:
    """A model that answers.

    Args:
        path: an exported model, a run or a bundle.
        decoding_memory: bytes that decoding may take.
        at_once: requests that are answered beside each other, one core each.
    """

    def __init__(self, path: Path, decoding_memory: int, at_once: int) -> None:
        self._folder = bundle_folder(path)
        self._bundle = bundle.load(path)
        self._bundle.use_one_core()
        self._decoder = IsolatedDecoder(self._bundle.recipe.data, decoding_memory, at_once)
        self._heatmaps = UploadHeatmaps(self._bundle)
        model = self._bundle.recipe.model
        reads_more = self._bundle.vocabulary is not None or model.is_ridge or model.covariates > 0
        self._joins = self._bundle.mapper().shape is not None and not reads_more

    def answer(self, header: Header, contents: list[bytes]) -> Message:
        """Answer one question of the kind that its header says; `problem` is the status of one that cannot be answered."""
        try:
            match header["kind"]:
                case "about":
                    return {"about": self._about()}, []
                case "check":
                    self._check()
                    return {}, []
                case "predict":
                    answer, _, _ = self._predict(header, contents)
                    return _predicted(answer)
                case "explain":
                    answer, files, listing = self._predict(header, contents)
                    wanted, most = header["target"] or "", header["most_explained"]
                    explained, pictures = self._heatmaps.explain(files, listing, answer, wanted, most)
                    quarantine = [{"path": path, "reason": reason} for path, reason in answer.quarantine]
                    return {"explanations": explained, "quarantine": quarantine}, pictures
        except ScanwiseError as error:
            return _refused(error, header)
        raise ValueError("no such question")

    def may_join(self, question: Message) -> bool:
        """Whether a question may be answered with others: a few small scans, whose answers rest on their pixels alone."""
        header, contents = question
        few = len(contents) <= MOST_JOINED and sum(map(len, contents)) <= MOST_JOINED_BYTES
        return self._joins and header["kind"] == "predict" and few

    def answer_together(self, questions: list[Message]) -> list[Message]:
        """Answer questions that may join, as `answer` does each: their scans pass decoder and network as one batch."""
        uploads = [
            (_uploads(header, contents), header["most_scans"], header["most_pixels"]) for header, contents in questions
        ]
        decoded = self._decoder.decode_each(uploads)
        early = EarlyMap.of([files for files in decoded if isinstance(files, DecodedFiles)], self._bundle)
        refused: dict[int, Message] = {}
        outputs: dict[int, tuple[Listing, NetworkOutputs]] = {}
        for number, ((header, _), files) in enumerate(zip(questions, decoded, strict=True)):
            try:
                if isinstance(files, DataError):
                    raise files
                listing = list_uploads(header, files, self._bundle.recipe.data)
                shards = early.of_files(files)
                outputs[number] = (
                    listing, outputs_of_listing(self._bundle, listing, files.sources(), files=files, shards=shards)
                )  # fmt: skip
            except ScanwiseError as error:
                refused[number] = _refused(error, header)
        predicted = zip(outputs, predict_listings(self._bundle, list(outputs.values())), strict=True)
        answers = refused | {number: _predicted(answer) for number, answer in predicted}
        return [answers[number] for number in range(len(questions))]

    def close(self) -> None:
        """End the process that decodes."""
        self._decoder.close()

    def _about(self) -> dict[str, Any]:
        sets = {unit: predictor.sets for unit, predictor in self._bundle.predictors.items()}
        return {
            "name": self._bundle.recipe.name,
            "classes": list(self._bundle.classes),
            "scanwise": __version__,
            "digest": digest_of_model(self._folder),
            "guarantee": {
                unit: None
                if own is None
                else {"coverage": round(own.coverage, 6), "for": own.guarantee, "warning": own.warning}
                for unit, own in sets.items()
            },
            "reads_words": self._bundle.recipe.model.reads_words,
            "explains": self._bundle.exported is None,
        }

    def _check(self) -> None:
        """Golden cases of an exported model; a run was asked about a blank scan when it was opened."""
        self._decoder.start()
        if self._bundle.exported is not None:
            verify_golden_cases(self._folder, self._bundle)

    def _predict(self, header: Header, contents: Sequence[bytes]) -> tuple[BundlePredictions, DecodedFiles, Listing]:
        """The answer of the command line to these files."""
        files = self._decoder.decode(_uploads(header, contents), header["most_scans"], header["most_pixels"])
        listing = list_uploads(header, files, self._bundle.recipe.data)
        outputs = outputs_of_listing(self._bundle, listing, files.sources(), files=files)
        return predict_listings(self._bundle, [(listing, outputs)])[0], files, listing


def _uploads(header: Header, contents: Sequence[bytes]) -> list[ScanBytes]:
    return [ScanBytes(name, content) for name, content in zip(header["names"], contents, strict=True)]


def _predicted(answer: BundlePredictions) -> Message:
    return {"counts": _counts(answer)}, [answer.to_json().encode()]


def _refused(error: ScanwiseError, header: Header) -> Message:
    return {"problem": 422, "detail": _without_names(error, header.get("names", []))}, []


def _counts(answer: BundlePredictions) -> Mapping[str, Any]:
    """Counts of an answer, for the measures of the server."""
    scans = answer.scans
    return {
        "predicted": [scans.classes[predicted] for predicted in scans.predicted.tolist()],
        "abstained": int(scans.abstain.sum()),
        "unlike": 0 if scans.ood_flag is None else int(scans.ood_flag.sum()),
        "quarantined": len(answer.quarantine),
    }


def _without_names(error: ScanwiseError, names: Sequence[str]) -> str:
    """The message of an error with numbers in place of names."""
    message = str(error)
    for name, number in sorted(
        {(name, number) for number, name in enumerate(names, 1)}, key=lambda pair: -len(pair[0])
    ):
        message = message.replace(name, f"file {number}")
    return message
