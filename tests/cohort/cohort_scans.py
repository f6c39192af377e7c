"""Small scans on disk."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image


class Scans:
    """Writes small scans, each with pixels of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.count = 0

    def add(self, *paths: str, size: int = 20) -> Path:
        for path in paths:
            file = self.root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            random = np.random.default_rng(self.count)
            Image.fromarray(random.integers(0, 256, (size, size), dtype=np.uint8)).save(file, "PNG")
            self.count += 1
        return self.root

    def classes(self, names: Sequence[str] = ("NonDemented", "MildDemented"), each: int = 3, prefix: str = "") -> Path:
        for name in names:
            self.add(*(f"{prefix}{name}/s{number}.png" for number in range(each)))
        return self.root

    def manifest(self, columns: Mapping[str, Sequence[str]], name: str = "scans.csv") -> Path:
        separator = "\t" if name.endswith(".tsv") else ","
        rows = [separator.join(columns), *(separator.join(row) for row in zip(*columns.values(), strict=True))]
        self.root.mkdir(parents=True, exist_ok=True)
        file = self.root / name
        file.write_text("\n".join(rows) + "\n", encoding="utf-8")
        return file
