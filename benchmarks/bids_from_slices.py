"""A BIDS tree of NIfTI volumes from the slices of people, to try volumes on data that come as pictures.

    python benchmarks/bids_from_slices.py PICTURES TABLE OUT

TABLE is a CSV with columns path (below PICTURES), label, subject and slice. Each person becomes one volume, slice after slice
from the feet, and participants.tsv holds the labels.
"""

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("pictures", "table", "out"):
        parser.add_argument(name, type=Path)
    asked = parser.parse_args()
    people = defaultdict(list)
    with asked.table.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            people[row["subject"], row["label"]].append((int(row["slice"]), row["path"]))
    lines = ["participant_id\tdiagnosis"]
    for (subject, label), slices in sorted(people.items()):
        name = f"sub-{''.join(letter for letter in subject if letter.isalnum())}"
        # Voxels count from the left, the back and the feet; pictures from the right of the person and the front.
        planes = [
            np.asarray(Image.open(asked.pictures / path).convert("L"))[::-1, ::-1].T for _, path in sorted(slices)
        ]
        folder = asked.out / name / "anat"
        folder.mkdir(parents=True)
        image = nibabel.Nifti1Image(np.stack(planes, axis=2).astype(np.int16), np.diag([1.0, 1.0, 4.0, 1.0]))
        nibabel.save(image, folder / f"{name}_T1w.nii.gz")
        lines.append(f"{name}\t{label}")
    (asked.out / "participants.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (asked.out / "dataset_description.json").write_text(
        '{"Name": "slices", "BIDSVersion": "1.8.0"}\n', encoding="utf-8"
    )


if __name__ == "__main__":
    main()
