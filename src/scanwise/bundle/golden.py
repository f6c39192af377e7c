"""Golden cases of an exported model: synthetic scans and the answers to them, to be repeated where it will run.

The scans are drawn, so that an exported folder holds no picture of a person.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from scanwise.bundle.contents import GOLDEN
from scanwise.bundle.parity import LARGEST
from scanwise.cohort.phantom import Phantom, draw_brain, people
from scanwise.errors import RunError
from scanwise.run import read_json, write_json

if TYPE_CHECKING:
    from scanwise.bundle import Bundle

CASES, A_PERSON = 12, 3
_WORDS = ("", "a", "scan of the head", "red coat")


def write_golden_cases(folder: Path, model: "Bundle") -> None:
    """Draw the scans into the folder of an exported model, and write its answers to them."""
    drawing = Phantom(subjects=CASES // A_PERSON * 3, slices=A_PERSON, size=max(64, model.recipe.data.size), seed=11)
    names = [f"golden-{row:02d}.png" for row in range(CASES)]
    subjects: list[str] = []
    for number, person in enumerate(people(drawing)[: CASES // A_PERSON]):
        brain = draw_brain(drawing, person)
        for index in range(A_PERSON):
            Image.fromarray(brain.pixels[index]).save(folder / names[len(subjects)])
            subjects.append(f"person {number + 1}")
    words = [_WORDS[row % len(_WORDS)] for row in range(CASES)] if model.recipe.model.reads_words else None
    cases = {"scans": names, "subjects": subjects, "words": words}
    write_json({**cases, "answer": _answer(folder, model, cases)}, folder / GOLDEN)


def verify_golden_cases(folder: Path, model: "Bundle") -> str:
    """Ask an exported model about its golden cases again.

    Returns:
        what agrees, in one line.

    Raises:
        RunError: if a class, a set or a flag is another, or a probability differs by more than 1e-4.
    """
    import json

    cases = read_json(folder / GOLDEN)
    answer = _answer(folder, model, cases)
    if answer == cases["answer"]:
        return f"All {len(cases['scans'])} golden cases have the same answer, to the last byte."
    expected, given = json.loads(cases["answer"]), json.loads(answer)
    pairs = [pair for unit in ("scans", "subjects") for pair in zip(expected[unit], given[unit], strict=True)]
    changed = sorted({name for first, other in pairs for name in first if _differs(name, first[name], other[name])})
    if changed:
        raise RunError(
            f"This machine answers the golden cases of {folder} otherwise than the one that exported it ({', '.join(changed)}). Do "
            "not use the model here: see that ONNX Runtime computes in float32 on the CPU, and that its version is that of parity.json."
        )
    largest = max(abs(first[name] - other[name]) for first, other in pairs for name in first if name.startswith("p_"))
    return (
        f"All {len(cases['scans'])} golden cases have the same class, set and flags; the largest difference of a probability is "
        f"{largest:.1e}."
    )


def _differs(name: str, first: Any, other: Any) -> bool:
    if isinstance(first, float) and isinstance(other, float):
        return name.startswith("p_") and abs(first - other) > LARGEST
    return bool(first != other)


def _answer(folder: Path, model: "Bundle", cases: dict[str, Any]) -> str:
    import numpy as np

    paths = [folder / name for name in cases["scans"]]
    names = np.array(cases["scans"], dtype=np.str_)
    return model.predict(paths, cases["subjects"], words=cases["words"], names=names).to_json()
