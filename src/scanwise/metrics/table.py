"""All metrics, one row each; a new metric is a new row here and a test."""

from functools import partial

import numpy as np

from scanwise.metrics.binned import calibration_error_from_bins, calibration_rows
from scanwise.metrics.ranks import weighted_auroc, weighted_average_precision, weighted_sensitivity_at
from scanwise.metrics.spec import UNBOUNDED, ConfusionMetric, MetricSpec, RankMetric
from scanwise.metrics.sums import (
    AdditiveMetric,
    accuracy_from_confusion,
    brier_distances,
    f1_from_confusion,
    kappa_from_confusion,
    matthews_from_confusion,
    mean_of_defined,
    metric_of_classes,
    metric_of_confusion,
    metric_of_rows,
    negative_log_likelihoods,
    precision_from_confusion,
    recall_from_confusion,
    specificity_from_confusion,
    stage_error_from_confusion,
    weighted_f1_from_confusion,
)

_OVERALL = (
    MetricSpec(
        name="accuracy",
        title="Accuracy",
        meaning="the share of cases that were classified correctly",
        function=metric_of_confusion(accuracy_from_confusion),
        percent=True,
        leaky_protocol=True,
    ),
    MetricSpec(  # sklearn.metrics.balanced_accuracy_score
        name="balanced_accuracy",
        title="Balanced accuracy",
        meaning="the share classified correctly within each class, averaged, so a rare class counts as much",
        function=metric_of_confusion(lambda matrix: mean_of_defined(recall_from_confusion(matrix))),
        percent=True,
        leaky_protocol=True,
    ),
    # A class that is predicted but absent is no further zero in the mean (scikit-learn's default counts it; give
    # `labels=np.unique(y_true)` there for the same number). Its predictions cost the present classes their recall.
    MetricSpec(
        name="macro_f1",
        title="Macro F1",
        meaning="per class, the balance of missed cases and false alarms; then averaged over classes",
        function=metric_of_confusion(lambda matrix: mean_of_defined(f1_from_confusion(matrix))),
        percent=True,
        leaky_protocol=True,
    ),
    MetricSpec(
        name="weighted_f1",
        title="Weighted F1",
        meaning="F1 of each class, averaged by how many cases the class has",
        function=metric_of_confusion(weighted_f1_from_confusion),
        percent=True,
        leaky_protocol=True,
    ),
    MetricSpec(  # of class 1 for two classes, else the mean of one-vs-rest over the classes present; ties count half
        name="auroc",
        title="AUROC",
        meaning="how well the score ranks a case above a case of another class: 0.5 is chance, 1 is perfect",
        function=RankMetric(weighted_auroc),
        placements=True,
        leaky_protocol=True,
    ),
    MetricSpec(
        name="macro_precision",
        title="Mean precision",
        meaning="of those predicted as a class, the share that truly is, averaged over classes",
        function=metric_of_classes(precision_from_confusion, weighted=False),
        percent=True,
        compared=False,
        leaky_protocol=True,
    ),
    MetricSpec(
        name="weighted_precision",
        title="Weighted precision",
        meaning="the same, each class weighted by its cases",
        function=metric_of_classes(precision_from_confusion, weighted=True),
        percent=True,
        compared=False,
        leaky_protocol=True,
    ),
    MetricSpec(
        name="macro_specificity",
        title="Mean specificity",
        meaning="of those truly of other classes, the share not predicted as this one, averaged over classes",
        function=metric_of_classes(specificity_from_confusion, weighted=False),
        percent=True,
        compared=False,
        leaky_protocol=True,
    ),
    MetricSpec(
        name="weighted_specificity",
        title="Weighted specificity",
        meaning="the same, each class weighted by its cases",
        function=metric_of_classes(specificity_from_confusion, weighted=True),
        percent=True,
        compared=False,
        leaky_protocol=True,
    ),
    MetricSpec(
        name="average_precision",
        title="Average precision",
        meaning="the area under precision against sensitivity; 1 is perfect",
        function=RankMetric(weighted_average_precision),
    ),
    # The threshold comes from these very rows, so it is slightly optimistic; `evaluation.operating` carries one over.
    MetricSpec(
        name="sensitivity_at_90",
        title="Sensitivity at 90\u00a0% specificity",
        meaning="the share of cases detected at the threshold that classifies 90 in 100 of the others correctly; that "
        "threshold was chosen on these cases",
        function=RankMetric(partial(weighted_sensitivity_at, specificity=0.9)),
        percent=True,
    ),
    MetricSpec(
        name="matthews",
        title="Matthews correlation",
        meaning="agreement beyond chance: 0 is chance, 1 is perfect",
        function=metric_of_confusion(matthews_from_confusion),
        bounds=(-1.0, 1.0),
    ),
    MetricSpec(
        name="kappa",
        title="Cohen’s kappa",
        meaning="agreement beyond chance, every error alike; 1 is perfect",
        function=metric_of_confusion(kappa_from_confusion),
        bounds=(-1.0, 1.0),
    ),
    MetricSpec(
        name="quadratic_kappa",
        title="Weighted kappa",
        meaning="agreement beyond chance, where an error of two stages counts four times as much as one of one stage",
        function=metric_of_confusion(partial(kappa_from_confusion, power=2)),
        bounds=(-1.0, 1.0),
        needs_order=True,
    ),
    MetricSpec(
        name="stage_error",
        title="Stage error",
        meaning="how many stages the prediction is off, on average; 0 is perfect",
        function=metric_of_confusion(stage_error_from_confusion),
        bounds=(0.0, np.inf),
        higher_is_better=False,
        needs_order=True,
    ),
    MetricSpec(
        name="nll",
        title="Log loss",
        meaning="punishes confident errors; lower is better",
        function=metric_of_rows(negative_log_likelihoods),
        bounds=(0.0, np.inf),
        higher_is_better=False,
        needs_calibration=True,
    ),
    MetricSpec(
        name="brier",
        title="Brier score",
        meaning="squared difference between probabilities and truth: of two classes that of one (0 to 1), of more the sum "
        "over classes (0 to 2); lower is better",
        function=metric_of_rows(brier_distances),
        largest=lambda num_classes: 1.0 if num_classes == 2 else 2.0,
        bounds=(0.0, np.inf),
        higher_is_better=False,
        needs_calibration=True,
    ),
    MetricSpec(
        name="ece",
        title="Calibration error (ECE)",
        meaning="the average gap between the model's confidence and how often it is right",
        function=AdditiveMetric(calibration_rows, lambda sums: calibration_error_from_bins(sums[..., 1:])),
        higher_is_better=False,
        percent=True,
        needs_calibration=True,
    ),
)

_OF_CLASSES = (
    MetricSpec(
        name="precision",
        title="Precision",
        meaning="of those predicted as this class, the share that truly is",
        function=ConfusionMetric(precision_from_confusion),
        percent=True,
        leaky_protocol=True,
    ),
    MetricSpec(
        name="recall",
        title="Sensitivity",
        meaning="of those truly of this class, the share that was predicted so",
        function=ConfusionMetric(recall_from_confusion),
        percent=True,
        leaky_protocol=True,
    ),
    MetricSpec(
        name="f1",
        title="F1",
        meaning="the balance of precision and sensitivity",
        function=ConfusionMetric(f1_from_confusion),
        percent=True,
        leaky_protocol=True,
    ),
    MetricSpec(
        name="specificity",
        title="Specificity",
        meaning="of those truly of another class, the share that was not predicted as this one",
        function=ConfusionMetric(specificity_from_confusion),
        percent=True,
        leaky_protocol=True,
    ),
)

_OTHER = (
    MetricSpec(
        name="calibrated_ece",
        title="ECE if calibrated",
        meaning="the calibration error that a perfectly calibrated model would show on these cases, by chance alone",
        higher_is_better=False,
        percent=True,
    ),
    MetricSpec(
        name="cdr_error",
        title="Error of the expected CDR",
        meaning="how far the expected Clinical Dementia Rating is from that of the true class, on average",
        bounds=(0.0, np.inf),
        higher_is_better=False,
    ),
    MetricSpec(
        name="accuracy gap",
        title="Accuracy, less that of the others",
        meaning="the group’s accuracy less that of all other groups",
        bounds=UNBOUNDED,
        percent=True,
    ),
    MetricSpec(
        name="sensitivity",
        title="Sensitivity",
        meaning="of those truly of the class, the share that was predicted so",
        percent=True,
    ),
    MetricSpec(
        name="positive_predictive_value",
        title="Positive predictive value",
        meaning="of those predicted as the class, the share that is",
        percent=True,
    ),
    MetricSpec(
        name="negative_predictive_value",
        title="Negative predictive value",
        meaning="of those not predicted as the class, the share that is not",
        percent=True,
    ),
    MetricSpec(
        name="coverage",
        title="Coverage",
        meaning="the share of cases whose prediction set holds the true class",
        percent=True,
    ),
    MetricSpec(
        name="mean_set_size",
        title="Mean set size",
        meaning="how many classes a prediction set names on average",
        largest=float,
        bounds=(0.0, np.inf),
        higher_is_better=False,
    ),
    MetricSpec(
        name="empty_share",
        title="Empty sets",
        meaning="the share of cases whose prediction set names no class",
        higher_is_better=False,
        percent=True,
    ),
    MetricSpec(
        name="singleton_share",
        title="Sets of one class",
        meaning="the share of cases whose prediction set names exactly one class",
        percent=True,
    ),
    MetricSpec(
        name="abstain_share",
        title="Abstained",
        meaning="the share of cases that a person should review",
        higher_is_better=False,
        percent=True,
    ),
    MetricSpec(
        name="ood_flag_share",
        title="Flagged",
        meaning="the share of cases flagged as unlike training",
        percent=True,
        higher_is_better=False,
    ),
    MetricSpec(
        name="answered_share",
        title="Answered",
        meaning="the share of subjects for which the classifier does not abstain",
        percent=True,
    ),
    MetricSpec(
        name="selective_error",
        title="Error among the answered",
        meaning="how often a given answer is wrong",
        percent=True,
        higher_is_better=False,
    ),
    MetricSpec(
        name="aurc",
        title="Mean error (AURC)",
        meaning="the error among the answered, averaged over every number answered",
        percent=True,
        higher_is_better=False,
    ),
    MetricSpec(
        name="excess_aurc",
        title="Excess over the best order (E-AURC)",
        meaning="AURC less that of an uncertainty that ranks every correct answer first",
        percent=True,
        higher_is_better=False,
    ),
)

METRICS: dict[str, MetricSpec] = {spec.name: spec for spec in _OVERALL}
"""Metrics over all classes, computed from probabilities and labels alone, in the order of tables."""
CLASS_METRICS: dict[str, MetricSpec] = {spec.name: spec for spec in _OF_CLASSES}
"""Metrics of single classes only, in the order of tables; those of `METRICS` that rank are metrics of classes too."""
OTHER_METRICS: dict[str, MetricSpec] = {spec.name: spec for spec in _OTHER}
"""Metrics that `evaluation` and the pipeline compute from prediction sets, thresholds, flags, groups or ratings."""


def find_metric(name: str) -> MetricSpec | None:
    """The row of a metric in any of the three tables; None where there is none."""
    return METRICS.get(name) or CLASS_METRICS.get(name) or OTHER_METRICS.get(name)


def needs_order(name: str) -> bool:
    """Whether a metric is meaningful for ordered classes only; a training loss ("loss") is not one."""
    spec = find_metric(name)
    return spec is not None and spec.needs_order


def lower_is_better(name: str) -> bool:
    """Whether a metric, or a training loss ("loss"), is better the lower it is.

    >>> lower_is_better("nll"), lower_is_better("loss"), lower_is_better("auroc")
    (True, True, False)
    """
    spec = find_metric(name)
    return name == "loss" if spec is None else not spec.higher_is_better
