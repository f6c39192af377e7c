"""Changed copies of real scans: how many of each kind the audit finds, and how many scans it calls copies that are none.

    python benchmarks/copies.py --data ../shared/data --copier ../shared/tools/augment_copies.py --set stroke,chest

Of each set some scans are drawn that are no copies of each other (whole series where slices have neighbours). Copies of a few of
them are made in fifteen ways and laid on another side; `find_copies` then sees all at once. A copy is found where it is paired with its
origin. A false alarm is a scan that is paired with another one of other pixels, or a copy with a scan that is not its origin; pairs of
neighbouring slices are counted by themselves. Thresholds are constants of `audit.copy_search` or learnt by it from these scans: nothing
is chosen here.
"""

import argparse
import csv
import importlib.util
import io
import random
import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps
from scipy import ndimage

from scanwise import registration
from scanwise.auditing.copy_search import find_copies
from scanwise.cohort.decoding import readers

Picture = Image.Image
Change = Callable[[Picture, random.Random], Picture]
MIXED = 60
"""Copies changed in several ways at once, of each strength; of every other kind there are half as many."""
DEVELOPED = 0.35
"""Share of the persons, series or pictures of a set on which thresholds were chosen; the others are scored."""


def saved(scan: Picture, quality: int) -> Picture:
    """The scan after a JPEG of this quality."""
    file = io.BytesIO()
    scan.save(file, "JPEG", quality=quality)
    return Image.open(file).copy()


def by_channel(scan: Picture, change: Callable[[NDArray[np.uint8]], NDArray[np.float64]]) -> Picture:
    """The scan with each channel changed."""
    parts = [np.clip(np.rint(change(np.asarray(part))), 0, 255).astype(np.uint8) for part in scan.split()]
    return Image.merge(scan.mode, [Image.fromarray(part) for part in parts])


def equalised(scan: Picture, dice: random.Random, limit: float = 3.0, tiles: int = 8) -> Picture:
    """Contrast-limited adaptive histogram equalisation."""
    del dice

    def change(image: NDArray[np.uint8]) -> NDArray[np.float64]:
        high, wide = (-(-size // tiles) for size in image.shape)
        padded = np.pad(image, ((0, high * tiles - image.shape[0]), (0, wide * tiles - image.shape[1])), mode="reflect")
        blocks = padded.reshape(tiles, high, tiles, wide).swapaxes(1, 2).reshape(tiles * tiles, -1)
        counts = np.stack([np.bincount(block, minlength=256) for block in blocks]).astype(np.float64)
        most = limit * blocks.shape[1] / 256
        counts = np.minimum(counts, most) + np.maximum(counts - most, 0).sum(axis=1, keepdims=True) / 256
        maps = (np.cumsum(counts, axis=1) * 255 / blocks.shape[1]).reshape(tiles, tiles, 256)
        y, x = ((np.arange(size) + 0.5) / step - 0.5 for size, step in zip(image.shape, (high, wide), strict=True))
        rows, columns = (np.clip(np.floor(at).astype(int), 0, tiles - 1) for at in (y, x))
        down, right = np.clip(y - rows, 0, 1)[:, None], np.clip(x - columns, 0, 1)[None]
        below, beside = np.minimum(rows + 1, tiles - 1), np.minimum(columns + 1, tiles - 1)

        def mapped(row: NDArray[np.int64], column: NDArray[np.int64]) -> NDArray[np.float64]:
            return np.asarray(maps[row[:, None], column[None], image])

        upper = (1 - right) * mapped(rows, columns) + right * mapped(rows, beside)
        lower = (1 - right) * mapped(below, columns) + right * mapped(below, beside)
        return np.asarray((1 - down) * upper + down * lower)

    return by_channel(scan, change)


def cropped(scan: Picture, dice: random.Random) -> Picture:
    width, height = scan.size
    keep = dice.uniform(0.75, 0.9)
    w, h = int(width * keep), int(height * keep)
    x, y = dice.randint(0, width - w), dice.randint(0, height - h)
    return scan.crop((x, y, x + w, y + h)).resize(scan.size, Image.Resampling.BILINEAR)


def shifted(scan: Picture, dice: random.Random) -> Picture:
    x, y = (dice.uniform(-0.1, 0.1) * size for size in scan.size)
    return scan.transform(scan.size, Image.Transform.AFFINE, (1, 0, x, 0, 1, y), Image.Resampling.BILINEAR)


def turned(scan: Picture, dice: random.Random) -> Picture:
    """Turned a little, without a black surround."""
    angle = dice.choice([-1, 1]) * dice.uniform(3, 12)
    return by_channel(
        scan, lambda part: ndimage.rotate(part.astype(float), angle, reshape=False, order=1, mode="reflect")
    )


def elastic(scan: Picture, dice: random.Random) -> Picture:
    width, height = scan.size
    fields = np.random.default_rng(dice.randint(0, 10**9)).standard_normal((2, height, width))
    smooth = ndimage.gaussian_filter(fields, (0, max(scan.size) / 14, max(scan.size) / 14))
    smooth *= 0.012 * max(scan.size) / smooth.std(axis=(1, 2), keepdims=True)
    points = np.mgrid[:height, :width] + smooth
    return by_channel(scan, lambda part: ndimage.map_coordinates(part.astype(float), points, order=1, mode="nearest"))


def blurred(scan: Picture, dice: random.Random) -> Picture:
    return scan.filter(ImageFilter.GaussianBlur(max(scan.size) / 224 * dice.uniform(1, 2)))


def noisy(scan: Picture, dice: random.Random) -> Picture:
    drawn, strength = np.random.default_rng(dice.randint(0, 10**9)), dice.uniform(8, 16)
    return by_channel(scan, lambda part: part + drawn.normal(0, strength, part.shape))


def recoloured(scan: Picture, dice: random.Random) -> Picture:
    gamma = dice.choice([dice.uniform(0.6, 0.8), dice.uniform(1.25, 1.6)])
    return scan.point([round(255 * (value / 255) ** gamma) for value in range(256)] * len(scan.getbands()))


def turned_upright(scan: Picture, dice: random.Random) -> Picture:
    return scan.transpose(
        dice.choice([Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270])
    )


def masked(scan: Picture, dice: random.Random) -> Picture:
    """The scan with a black square."""
    side = int(0.25 * min(scan.size))
    scan = scan.copy()
    scan.paste(
        0, (x := dice.randint(0, scan.width - side), y := dice.randint(0, scan.height - side), x + side, y + side)
    )
    return scan


def bent(scan: Picture, dice: random.Random) -> Picture:
    """Mirrored or not, turned, zoomed, sheared, shifted, of another gamma, and saved: another copier."""
    scan = ImageOps.mirror(scan) if dice.random() < 0.5 else scan
    turn, zoom, shear = np.radians(dice.uniform(-18, 18)), dice.uniform(0.87, 1.15), dice.uniform(-0.05, 0.05)
    linear = np.array([[np.cos(turn), -np.sin(turn) + shear], [np.sin(turn), np.cos(turn)]]) / zoom
    middle = np.array(scan.size) / 2
    shift = middle - linear @ (middle + np.array([dice.uniform(-0.06, 0.06) for _ in range(2)]) * scan.size)
    data = (*linear[0], shift[0], *linear[1], shift[1])
    scan = scan.transform(scan.size, Image.Transform.AFFINE, data, Image.Resampling.BICUBIC)
    return saved(recoloured(scan, dice), dice.randint(50, 95))


SINGLE: dict[str, Change] = {
    "clahe": equalised, "crop": cropped, "shift": shifted, "turn": turned, "elastic": elastic, "blur": blurred,
    "noise": noisy, "gamma": recoloured, "mirror": lambda scan, dice: ImageOps.mirror(scan), "upright": turned_upright,
    "masked": masked, "saved": lambda scan, dice: saved(scan, dice.randint(30, 60)),
}  # fmt: skip


def kinds(copier: Path) -> dict[str, Change]:
    """Name and maker of each kind of copy; `copier` holds the function that mixes several at a strength."""
    spec = importlib.util.spec_from_file_location("copier", copier)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{copier} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {
        "strength 1": lambda scan, dice: saved(module.copy_of(scan, dice, 1.0), dice.randint(70, 95)),
        "strength 2": lambda scan, dice: saved(module.copy_of(scan, dice, 2.0), dice.randint(40, 90)),
        "bent": bent,
        **SINGLE,
    }


def files_of(data: Path, name: str, part: str, count: int, dice: random.Random) -> tuple[list[Path], list[str]]:
    """Files drawn from a part of a set, and the person or series of each where slices have neighbours, else no names; in order."""
    files = sorted(file for file in (data / name).rglob("*") if file.suffix in (".jpg", ".png", ".jpeg"))
    place = {file: (file.name, 0) for file in files}
    if name == "alzheimer":
        with (data / "alzheimer-truth.csv").open(encoding="utf-8") as table:
            order = {row["path"]: (row["subject"], int(row["slice"])) for row in csv.DictReader(table)}
        place = {file: order[file.relative_to(data / name).as_posix()] for file in files}
    elif name == "stroke":
        numbers = {file: [int(number) for number in re.findall(r"\d+", file.name)] for file in files}
        place = {file: (f"{file.parent.name}{numbers[file][0]}", numbers[file][1]) for file in files}
    people = sorted({person for person, _ in place.values()})
    random.Random(0).shuffle(people)  # noqa: S311 - nothing secret
    first = round(DEVELOPED * len(people))
    people = people[:first] if part == "develop" else people[first:]
    dice.shuffle(people)
    chosen: list[Path] = []
    by_person: dict[str, list[Path]] = {}
    for file in files:
        by_person.setdefault(place[file][0], []).append(file)
    for person in people:
        if len(chosen) >= count:
            break
        chosen += sorted(by_person[person], key=lambda file: place[file][1])
    return chosen, [place[file][0] for file in chosen] if name in ("alzheimer", "stroke") else []


def look(scan: Picture) -> NDArray[np.uint8]:
    return readers.resize(np.asarray(scan.convert("L"))[:, :, None], registration.DETAIL)[:, :, 0]


def measure(data: Path, copier: Path, name: str, part: str, count: int, seed: int) -> None:
    """Print the shares found and the false alarms of one set."""
    dice = random.Random(seed)  # noqa: S311 - nothing secret
    files, series = files_of(data, name, part, count, dice)
    scans = [Image.open(file).convert("RGB" if name == "fashion" else "L") for file in files]
    made: list[tuple[str, int, Picture]] = []
    for kind, change in kinds(copier).items():
        rows = [dice.randrange(len(files)) for _ in range(MIXED // (1 if kind in ("strength 1", "strength 2") else 2))]
        made += [(kind, row, change(scans[row], dice)) for row in rows]
    pixels = np.stack([*map(look, scans), *(look(copy) for _, _, copy in made)])
    sides = np.array(["train"] * len(files) + ["test"] * len(made))
    wall, cpu = time.perf_counter(), time.process_time()
    found = find_copies(pixels, sides, seed=seed)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    origin = np.array([*range(len(files)), *(row for _, row, _ in made)])
    equal = {row: image.tobytes() for row, image in enumerate(pixels)}
    right, own, neighbours = set(), set(), 0
    wrong = []
    for pair, (a, b) in enumerate(found.rows.tolist()):
        if origin[a] == origin[b] or equal[a] == equal[b] or equal[origin[a]] == equal[origin[b]]:
            right |= {a, b} if min(a, b) < len(files) else set()
        elif max(a, b) < len(files) and series and series[a] == series[b]:
            neighbours += 1
        elif max(a, b) < len(files):
            own |= {a, b}
            wrong.append((round(float(found.similarity[pair]), 3), round(float(found.displacement[pair]), 3), a, b))
        else:
            wrong.append((round(float(found.similarity[pair]), 3), round(float(found.displacement[pair]), 3), a, b))
    strays = {max(pair[2:]) for pair in wrong if max(pair[2:]) >= len(files)}
    print(f"\n{name}: {len(files):,} scans, {len(made):,} copies; {wall:.0f} s, {cpu:.0f} s CPU")
    print(
        f"  scans called copies of others {len(own):,} ({len(own) / len(files):.2%})"
        + (
            f"; pairs of slices of one series {neighbours:,} ({neighbours / len(files):.2%} of slices)"
            if series
            else ""
        )
        + f"; copies paired with a scan that is not their origin {len(strays):,} of {len(made):,}"
    )
    shares = {}
    for number, (kind, _, _) in enumerate(made):
        shares.setdefault(kind, []).append(len(files) + number in right)
    print("  " + "  ".join(f"{kind} {np.mean(hits):.0%}" for kind, hits in shares.items()))
    print("  said: " + "  ".join(f"{kind} {hits}/{total}" for kind, (hits, total) in found.recall.items()), flush=True)
    for likeness, displacement, a, b in sorted(wrong, reverse=True)[:12]:
        print(
            "   ",
            likeness,
            displacement,
            *(
                files[origin[row]].name + ("" if row < len(files) else " " + made[row - len(files)][0])
                for row in (a, b)
            ),
        )


def main() -> None:
    """Print the table for each set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--copier", type=Path, required=True)
    parser.add_argument("--set", default="stroke,chest,pneumonia28,fashion,alzheimer")
    parser.add_argument("--part", choices=["develop", "score"], default="score")
    parser.add_argument("--scans", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=31)
    given = parser.parse_args()
    for name in given.set.split(","):
        measure(given.data, given.copier, name, given.part, given.scans, given.seed)


if __name__ == "__main__":
    main()
