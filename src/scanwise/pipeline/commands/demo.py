"""The demonstration: a synthetic cohort, where the truth is known, taken to a report."""

import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path

from scanwise import bundle, pipeline, pooling, risk
from scanwise.progress_bar import running_job
from scanwise.records import Logits, load_metrics
from scanwise.run import RunFolder, owning, spell_time

log = logging.getLogger("scanwise")

REST = 7
"""Seconds of all that follows, for each second of drawing: measured on one core and on two."""


@dataclass(frozen=True, slots=True)
class DemoResult:
    """The run of the demonstration, and the figures that only a planted truth can give."""

    run: RunFolder
    text: str


def run_demo(out: Path, *, seed: int = 0, device: str = "auto", threads: int = 0, progress: bool = False) -> DemoResult:
    """Make a synthetic cohort in `out`, take it to a report, and set the result beside the planted truth.

    Raises:
        RunError: if `out` holds something else, or a demonstration with another seed.
    """
    from scanwise.cohort import phantom, phantom_files

    phantom_spec = replace(phantom.DEMO, seed=seed)
    log.info(
        "drawing %d scans of %d synthetic subjects", phantom_spec.subjects * phantom_spec.slices, phantom_spec.subjects
    )
    with running_job(progress):
        started = time.monotonic()
        with owning(out):
            phantom_files.write_phantoms(out / "cohort", phantom_spec, progress=progress)
        drawing = time.monotonic() - started
        if drawing > 1:  # else they were there
            log.info("the rest takes about %s on this machine", spell_time(REST * drawing))
        folder = pipeline.fit(
            "demo",
            data=out / "cohort" / "scans",
            out=out / "run",
            subject=str(out / "cohort" / "truth.csv"),
            settings=[f"seed={seed}", "title=A small network on synthetic brains"],
            device=device,
            threads=threads,
            resume=True,  # a demonstration that is asked for again has nothing to ask
            progress=progress,
        )
    fit_dir = folder.fit("honest", 0)
    test, calibrated = (pooling.pool_by_subject(Logits.load(fit_dir.logits(side))) for side in ("test", "calibration"))
    ceiling = phantom.ceiling(phantom_spec, test.subjects.tolist())
    alpha = bundle.load_predictors(fit_dir)["subject"].sets.alpha  # type: ignore[union-attr]
    low = risk.coverage_band(len(calibrated), len(test), alpha, 0.01)
    covered = next(
        m
        for m in load_metrics(folder.metrics)
        if (m.name, m.unit, m.group, m.model) == ("coverage", "subject", "", "network")
    )
    text = (
        f"An oracle that knows the planted truth reaches {100 * ceiling:.1f} % of the {len(test)} test subjects: the ceiling.\n"
        f"Prediction sets cover {100 * covered.value:.1f} % of them; {100 * (1 - alpha):.0f} % is the guarantee, and by the exact "
        f"law 99 of 100 runs cover at least {100 * low:.1f} %."
    )
    return DemoResult(folder, text)
