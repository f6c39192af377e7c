"""Duplicates and augmented copies: what scanwise finds beside imagededup and cleanvision, on the same folders in one run.

    python benchmarks/audit.py --data ../shared/data                                    # scanwise alone
    python benchmarks/audit.py --data ../shared/data --python ~/peers/bin/python        # and the others

Peers are never dependencies of scanwise. Install them in an environment outside the repository, `pip install imagededup
cleanvision`, and name its Python; each tool runs in a process of its own, so that its imports count in its time. Two folders
are made: real head scans of whole people on the training side, and on the test side copies of some of them (the same pixels
under another name, saved again or resized, and turned, mirrored, zoomed, shifted and brightened); and product photos of which
some are there twice. Recall is the share of copies that are told to be one with their origin or another copy of it; precision
is the share of told pairs that are one. Among the photos only equal pixels count as true: a photo saved twice counts against
precision, and so does another colour of one shoe.
"""

import argparse
import csv
import hashlib
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from itertools import combinations
from pathlib import Path

from PIL import Image, ImageEnhance, ImageOps

Pairs = set[tuple[str, str]]
Told = dict[str, Pairs]
KINDS = ("exact", "near", "augmented")
SHARES = (0.2, 0.2, 0.6)
"""Of the copies, how many are of each kind."""
HASHES = ("PHash", "DHash", "WHash", "AHash")
SUFFIXES = (".jpg", ".png")


def augmented(scan: Image.Image, dice: random.Random) -> Image.Image:
    """Mirrored or not, turned by up to 15 degrees, zoomed and shifted by a tenth, brighter or darker by a fifth."""
    scan = ImageOps.mirror(scan) if dice.random() < 0.5 else scan
    scan = scan.rotate(dice.uniform(-15, 15), Image.Resampling.BILINEAR)
    zoom, (width, height) = dice.uniform(0.9, 1.1), scan.size
    left = width / 2 * (1 - 1 / zoom) + dice.uniform(-0.05, 0.05) * width
    top = height / 2 * (1 - 1 / zoom) + dice.uniform(-0.05, 0.05) * height
    box = (left, top, left + width / zoom, top + height / zoom)
    scan = scan.transform(scan.size, Image.Transform.EXTENT, box, Image.Resampling.BILINEAR)
    return ImageEnhance.Brightness(scan).enhance(dice.uniform(0.8, 1.2))


def copied(file: Path, place: Path, kind: str, dice: random.Random) -> None:
    """One copy of a scan."""
    if kind == "exact":
        shutil.copy(file, place)
        return
    with Image.open(file) as opened:
        scan = opened.convert("L")
    if kind == "augmented":
        augmented(scan, dice).save(place, quality=dice.randint(70, 95))
    elif dice.random() < 0.5:
        scan.save(place, quality=dice.randint(50, 80))
    else:
        scan.resize((scan.width // 2, scan.height // 2), Image.Resampling.BILINEAR).save(place, quality=95)


def head_scans(
    data: Path, folder: Path, originals: int, copies: int, dice: random.Random
) -> dict[str, tuple[str, str]]:
    """Make the folder; of every file its origin and its kind."""
    with (data / "alzheimer-truth.csv").open(encoding="utf-8") as opened:
        rows = sorted(csv.DictReader(opened), key=lambda row: row["path"])
    people = sorted({row["subject"] for row in rows})
    dice.shuffle(people)
    taken = set(people[: max(1, originals * len(people) // len(rows))])
    truth: dict[str, tuple[str, str]] = {}
    for row in rows:
        if row["subject"] in taken:
            place = folder / "train" / row["label"] / f"{len(truth):05d}.jpg"
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(data / "alzheimer" / row["path"], place)
            name = place.relative_to(folder).as_posix()
            truth[name] = (name, "")
    for kind, share in zip(KINDS, SHARES, strict=True):
        for _ in range(round(share * copies)):
            origin = dice.choice([name for name, about in truth.items() if not about[1]])
            place = folder / "test" / origin.split("/")[1] / f"{dice.getrandbits(60):015x}.jpg"
            place.parent.mkdir(parents=True, exist_ok=True)
            copied(folder / origin, place, kind, dice)
            truth[place.relative_to(folder).as_posix()] = (origin, kind)
    return truth


def photos(data: Path, folder: Path, count: int, dice: random.Random) -> dict[str, tuple[str, str]]:
    """All photos that are there twice by their pixels, and others until there are `count`."""
    groups: dict[str, list[Path]] = defaultdict(list)
    for file in sorted((data / "fashion" / "images").glob("*.jpg")):
        with Image.open(file) as opened:
            groups[hashlib.sha256(opened.convert("RGB").tobytes()).hexdigest()].append(file)
    twice = [files for files in groups.values() if len(files) > 1]
    once = [files for files in groups.values() if len(files) == 1]
    dice.shuffle(once)
    truth: dict[str, tuple[str, str]] = {}
    for files in twice + once[: max(0, count - sum(map(len, twice)))]:
        for index, file in enumerate(files):
            (folder / "photos").mkdir(parents=True, exist_ok=True)
            shutil.copy(file, folder / "photos" / file.name)
            truth[f"photos/{file.name}"] = (f"photos/{files[0].name}", "exact" if index else "")
    return truth


def by_scanwise(folder: Path) -> Told:
    """Exact, near and augmented, as `scanwise audit` finds them."""
    import numpy as np

    from scanwise import cohort, registration
    from scanwise.auditing import copy_search, duplicates
    from scanwise.auditing.evidence import Evidence
    from scanwise.pipeline.stages.audit import LOOK

    intake = cohort.read_cohort(str(folder), LOOK, bare=True)
    known = intake.cohort
    pixels = intake.store.read(np.arange(len(known)))[..., 0]
    thumbnails = registration.reduce_to_thumbnails(pixels)
    evidence = Evidence(known, thumbnails, registration.descriptors(thumbnails))
    same = duplicates.exact_duplicates(known)
    exact = {pair for rows in same for pair in combinations(known.path[rows].tolist(), 2)}
    near = {tuple(known.path[rows].tolist()) for rows in duplicates.near_duplicates(evidence, same)}
    turned = {tuple(known.path[rows].tolist()) for rows in copy_search.find_copies(pixels, known.given).rows}
    return {"scanwise": exact | near | turned, "scanwise, pixel equality alone": exact}


def by_imagededup(folder: Path, name: str) -> Told:
    """One of its hashes, or its network, at their default thresholds."""
    from imagededup import methods

    method = getattr(methods, name)(verbose=False)
    extra = {"num_sim_workers": 0} if name == "CNN" else {"num_dist_workers": 0}
    found = method.find_duplicates(image_dir=folder, recursive=True, num_enc_workers=0, **extra)
    return {f"imagededup {name}": {(one, other) for one, others in found.items() for other in others}}


def by_cleanvision(folder: Path) -> Told:
    """Its exact and near duplicates, at its default thresholds."""
    from cleanvision import Imagelab

    lab = Imagelab(data_path=str(folder), verbose=False)
    lab.find_issues({"exact_duplicates": {}, "near_duplicates": {}}, n_jobs=1, verbose=False)
    told: Pairs = set()
    for kind in ("exact_duplicates", "near_duplicates"):
        for files in lab.info[kind].get("sets", []):
            told |= set(combinations([Path(file).relative_to(folder).as_posix() for file in files], 2))
    return {"cleanvision": told}


def child(tool: str, folder: Path) -> None:
    """What one tool tells of a folder, as JSON on the last line; the process is its own, so its time is all of it."""
    begun = time.perf_counter()
    kind, _, name = tool.partition(" ")
    told = {"scanwise": by_scanwise, "imagededup": lambda f: by_imagededup(f, name), "cleanvision": by_cleanvision}[
        kind
    ](folder)
    cpu = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    pairs = {name: sorted(found) for name, found in told.items()}
    print(json.dumps({"told": pairs, "wall": time.perf_counter() - begun, "cpu": cpu}))


def asked(python: str, tool: str, folder: Path) -> dict | str:
    """The answer of a tool, or in a line why there is none."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "SCANWISE_CACHE": cache}  # nobody profits from an earlier run
        command = [python, __file__, "--child", tool, str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["no message"])[-1]
    return json.loads(done.stdout.strip().splitlines()[-1])


def judged(told: Pairs, truth: dict[str, tuple[str, str]]) -> tuple[dict[str, float], float, int]:
    """Recall of each kind of copy, precision, and how many pairs were told."""
    pairs = {tuple(sorted(pair)) for pair in told if pair[0] != pair[1]}
    right = {pair for pair in pairs if truth[pair[0]][0] == truth[pair[1]][0]}
    found = {name for pair in right for name in pair}
    copies = {kind: [name for name, about in truth.items() if about[1] == kind] for kind in KINDS}
    recall = {kind: len(found & set(names)) / len(names) for kind, names in copies.items() if names}
    return recall, len(right) / len(pairs) if pairs else float("nan"), len(pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the folder of alzheimer/, alzheimer-truth.csv and fashion/")
    parser.add_argument("--python", default="", help="of an environment that has the peers")
    parser.add_argument("--originals", type=int, default=1000)
    parser.add_argument("--copies", type=int, default=500)
    parser.add_argument("--photos", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", nargs=2, metavar=("TOOL", "FOLDER"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        return child(given.child[0], Path(given.child[1]))
    tools = [("scanwise", sys.executable)]
    if given.python:
        peers = [*(f"imagededup {name}" for name in (*HASHES, "CNN")), "cleanvision"]
        tools += [(tool, given.python) for tool in peers]
    with tempfile.TemporaryDirectory() as place:
        dice = random.Random(given.seed)  # noqa: S311 - nothing secret
        folders = {
            "head scans": head_scans(given.data, Path(place, "heads"), given.originals, given.copies, dice),
            "photos": photos(given.data, Path(place, "photos"), given.photos, dice),
        }
        for (title, truth), folder in zip(folders.items(), ("heads", "photos"), strict=True):
            copies = sum(bool(kind) for _, kind in truth.values())
            print(f"\n{title}: {len(truth):,} files, of which {copies:,} are copies")
            print(f"{'':32}{'exact':>8}{'near':>8}{'augm.':>8}{'precision':>11}{'pairs':>9}{'wall s':>8}{'CPU s':>8}")
            for tool, python in tools:
                answer = asked(python, tool, Path(place, folder))
                if isinstance(answer, str):
                    print(f"{tool:32}no answer: {answer}")
                    continue
                for name, told in answer["told"].items():
                    recall, precision, count = judged({tuple(pair) for pair in told}, truth)
                    shares = "".join(f"{recall[kind]:8.1%}" if kind in recall else f"{'':8}" for kind in KINDS)
                    spent = f"{answer['wall']:8.1f}{answer['cpu']:8.1f}" if name == tool else ""
                    print(f"{name:32}{shares}{precision:11.1%}{count:9,}{spent}", flush=True)
    return None


if __name__ == "__main__":
    main()
