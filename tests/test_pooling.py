"""A person's pooled answer is one number, whatever the order of the scans."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from scanwise.pooling import POOLINGS, attention_weights, pool_by_subject
from scanwise.records import FloatArray, Logits

SCANS = 12
VALUES = arrays(np.float64, (SCANS, 2, 3), elements=st.floats(-20, 20))


@given(values=VALUES, seed=st.integers(0, 2**20), attends=st.booleans(), how=st.sampled_from(sorted(POOLINGS)))
def test_the_order_of_scans_changes_no_digit(values: FloatArray, seed: int, attends: bool, how: str) -> None:
    random = np.random.default_rng(seed)
    subjects = np.array([f"p{number}" for number in random.integers(0, 3, SCANS)])
    scans = Logits(
        values, np.zeros(SCANS, dtype=np.int64), np.arange(SCANS).astype(str), subjects, ("a", "b", "c"),
        features=values[:, 0], attention=values[:, :, 0] if attends else None,
    )  # fmt: skip
    turn = random.permutation(SCANS)
    columns = {name: getattr(scans, name)[turn] for name in ("logits", "labels", "scans", "subjects", "features")}
    attention = None if scans.attention is None else scans.attention[turn]
    one, other = pool_by_subject(scans, how), pool_by_subject(replace(scans, attention=attention, **columns), how)
    place = [other.subjects.tolist().index(name) for name in one.subjects.tolist()]
    assert one.logits.tolist() == other.logits[place].tolist()
    assert one.features.tolist() == other.features[place].tolist()  # type: ignore[union-attr]


def test_weights_of_nobody_are_none() -> None:
    assert attention_weights(np.empty((0, 2)), np.empty(0, dtype=np.int64)).shape == (0, 2)
