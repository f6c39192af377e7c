"""Which mistakes are shown: the surest ones, one a subject."""

import numpy as np

from scanwise.pipeline.stages.failures import most_confident_errors
from scanwise.records import Predictions


def test_the_surest_mistakes_come_first_one_a_subject() -> None:
    sure = np.array([0.99, 0.7, 0.95, 0.8, 0.6, 0.9])
    labels = np.array([0, 1, 1, 1, 1, 0])
    said = Predictions(
        np.array([f"{row}.png" for row in range(6)]), np.array(list("aabbcd")), ("x", "y"),
        np.stack([sure, 1 - sure], axis=1), None, np.zeros(6), np.zeros(6, dtype=bool), labels,
    )  # fmt: skip
    assert most_confident_errors(said).tolist() == [2, 1, 4]  # rows 0 and 5 are right; row 3 is another of b
    assert most_confident_errors(said, most=1).tolist() == [2]
    assert (
        len(
            most_confident_errors(
                Predictions(
                    **{
                        f: getattr(said, f)
                        for f in ("scans", "subjects", "classes", "probs", "sets", "entropy", "abstain")
                    },
                    labels=np.zeros(6, dtype=int),
                )
            )
        )
        == 0
    )
