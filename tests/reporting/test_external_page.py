"""The page of an external validation: a figure that the most common class alone would reach is told as such."""

from dataclasses import replace

import numpy as np
import pytest
from test_confusion import predictions_of

from scanwise.records import Metric
from scanwise.reporting.external_page import describe_majority


@pytest.mark.parametrize(("low", "told"), [(0.84, True), (0.85, True), (0.88, False)])
def test_an_accuracy_that_the_most_common_class_reaches_is_told(low: float, told: bool) -> None:
    """85.4 % accuracy of 754 scans stood large on a page: 85.3 % had pneumonia, and the AUROC was 0.54."""
    predictions = replace(predictions_of(0, count=100), labels=np.repeat([0, 1, 2], [5, 85, 10]))
    text = describe_majority(predictions, Metric("accuracy", 0.9, low, 0.95, "subject", 100))
    assert bool(text) == told
    assert not told or "Always naming “b”, the most common class here, would reach 85" in text
