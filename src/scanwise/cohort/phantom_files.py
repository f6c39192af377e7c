"""Write a synthetic cohort: scans and masks as PNG, and a table of the truth."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from scanwise.cohort.phantom import Person, Phantom, draw_brain, people
from scanwise.csv_files import write_csv
from scanwise.errors import DataError
from scanwise.progress_bar import track
from scanwise.run import writing


def write_phantoms(folder: Path, phantom: Phantom, progress: bool = False) -> None:
    """Draw the cohort into `folder`, whole or not at all.

    folder/
      scans/STAGE/SUBJECT_SLICE.png    8-bit gray; give this folder to --data
      masks/STAGE/SUBJECT_SLICE.png    255 where the signal is
      truth.csv                        path (below scans/), label, subject, slice, severity, measures, the oracle's
                                       probabilities; give this file to --subject

    An earlier phantom in `folder` is replaced.

    Raises:
        DataError: if the folder holds anything else.
        StorageError: if the disk is full or cannot be written.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not (folder / "truth.csv").is_file()):
        raise DataError(
            f"{folder} holds something that is no phantom cohort and stays as it is; choose another folder."
        )
    with writing(folder) as temporary:
        for kind in ("scans", "masks"):
            for stage in phantom.stages:
                (temporary / kind / stage).mkdir(parents=True)
        persons = people(phantom)
        rows: list[dict[str, object]] = []
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            drawn = pool.map(lambda person: _write_person(temporary, phantom, person), persons)
            for some in track(drawn, "drawing subjects", len(persons), progress):
                rows += some
        write_csv(tuple(rows[0]), [tuple(row.values()) for row in rows], temporary / "truth.csv")


def _write_person(folder: Path, phantom: Phantom, person: Person) -> list[dict[str, object]]:
    from PIL import Image

    drawing = draw_brain(phantom, person)
    stage = phantom.stages[person.label]
    rows: list[dict[str, object]] = []
    for index in range(phantom.slices):
        path = f"{stage}/{person.name}_{index:02d}.png"
        Image.fromarray(drawing.pixels[index]).save(folder / "scans" / path)
        Image.fromarray(drawing.masks[index].astype(np.uint8) * 255).save(folder / "masks" / path)
        rows.append(
            {
                "path": path,
                "label": stage,
                "subject": person.name,
                "slice": index,
                "severity": round(person.severity, 6),
                **{name: round(value, 6) for name, value in person.measures.items()},
                **{f"p_{name}": round(float(p), 6) for name, p in zip(phantom.stages, person.probs, strict=True)},
            }
        )
    return rows
