"""Heatmaps of uploads: evidence for a class over each scan, with the verdict of the checks of its method."""

import copy
import io
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from scanwise.bundle import Bundle, BundlePredictions
from scanwise.cohort.decoding.readers import DecodedScan
from scanwise.cohort.listing import Listing
from scanwise.errors import DataError, RunError, did_you_mean
from scanwise.pipeline.stages.bags import people_of_files
from scanwise.records import FloatArray, Heatmap, IntArray
from scanwise.serving.decoding import DecodedFiles

if TYPE_CHECKING:
    from scanwise.cohort.decoding.pixels import Pixels
    from scanwise.models import Network

BATCH = 8
VERDICTS = {None: "not checked", True: "passed", False: "failed"}


@dataclass(slots=True)
class UploadHeatmaps:
    """Heatmaps by a copy of the network, one request at a time: gradients change a network while they are drawn.

    Attributes:
        bundle: the model.
    """

    bundle: Bundle
    _network: "Network | None" = None
    _alone: threading.Lock = field(default_factory=threading.Lock)

    def explain(
        self, files: DecodedFiles, listing: Listing, answer: BundlePredictions, target: str, most: int
    ) -> tuple[list[dict[str, Any]], list[bytes]]:
        """Explanation of each scan, and two pictures of it: as the network sees it, and with its heatmap over it.

        Args:
            files: decoded.
            listing: of their scans.
            answer: to them.
            target: class to explain; "" for the predicted one of each scan.
            most: scans.

        Raises:
            DataError: if there are more scans, or no such class.
            RecipeError: if the network has nothing that the method needs.
            RunError: if the model is an exported one.
        """
        kept = [row for row, scan in enumerate(files.scans) if isinstance(scan, DecodedScan)]
        scans = [scan for scan in files.scans if isinstance(scan, DecodedScan)]
        if len(scans) > most:
            raise DataError(f"At most {most} scans are explained at once. Send fewer.")
        if self.bundle.trained is None:
            raise RunError("An exported model explains nothing. Serve the run that it was exported from.")
        pixels = np.stack([scan.pixels for scan in scans])
        targets = self._targets(target, answer.scans.predicted)
        maps = self._maps(pixels, targets, self._tokens(files, listing, kept))
        probs = answer.scans.probs[np.arange(len(scans)), targets]
        explained = [
            {
                "path": str(name),
                "target": self.bundle.classes[heatmap.target],
                "probability": float(prob),
                "method": heatmap.method,
                "verdict": VERDICTS[heatmap.passed],
                "reason": heatmap.reason,
            }
            for name, prob, heatmap in zip(answer.scans.scans.tolist(), probs, maps, strict=True)
        ]
        return explained, [
            picture for scan, heatmap in zip(pixels, maps, strict=True) for picture in self._drawn(scan, heatmap)
        ]

    def _targets(self, target: str, predicted: IntArray) -> IntArray:
        if not target:
            return np.asarray(predicted)
        classes = self.bundle.classes
        if target not in classes:
            raise DataError(
                f"There is no such class; choose one of {', '.join(classes)}.{did_you_mean(target, classes)}"
            )
        return np.full(len(predicted), classes.index(target))

    def _tokens(self, files: DecodedFiles, listing: Listing, kept: list[int]) -> IntArray | FloatArray | None:
        """Numbers beside the pixels of each scan that could be read."""
        recipe = self.bundle.recipe
        if self.bundle.vocabulary is not None:
            from scanwise.models.vocabulary import titles_as_read

            titles = [""] * len(kept) if listing.text is None else listing.text[kept].tolist()
            return self.bundle.vocabulary(titles_as_read(titles, recipe.model.text, self.bundle.classes))
        names = listing.path[kept].tolist()
        people = None if listing.subject is None else listing.subject[kept].tolist()
        groups = {name: values[kept] for name, values in listing.groups.items()}
        sources = [files.sources()[row] for row in kept]
        return self.bundle.tokens_of_people(sources, names, people_of_files(recipe, names, people), groups, files)

    def _maps(self, pixels: "Pixels", targets: IntArray, tokens: Any) -> Sequence[Heatmap]:
        from scanwise.explanation import explain_with_heatmaps, with_check_result
        from scanwise.explanation.sanity import method_name

        options: dict[str, Any] = {
            "method": self.bundle.recipe.explain.method,
            "layer": self.bundle.recipe.explain.layer,
        }
        with self._alone:
            if self._network is None:
                self._network = copy.deepcopy(self.bundle.network)
            maps = explain_with_heatmaps(
                self._network, pixels, targets=targets[:, None], tokens=tokens, batch=BATCH, **options
            )
        reasons = self.bundle.verdict(method_name(options), options["layer"])
        return [with_check_result(replace(heatmap), reasons) for heatmap in maps]

    def _drawn(self, scan: "Pixels", heatmap: Heatmap) -> tuple[bytes, bytes]:
        from scanwise.explanation.drawing import draw_overlay

        opacity = self.bundle.recipe.explain.opacity
        over = draw_overlay(scan, heatmap.values, opacity=opacity, passed=heatmap.passed)
        return _png(scan.squeeze(-1) if scan.shape[-1] == 1 else scan), _png(over)


def _png(pixels: "Pixels") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, "png")
    return stream.getvalue()
