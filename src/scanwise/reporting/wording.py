"""Numbers and terms as a clinician reads them: rounded by how many people stand behind them, each term explained once."""

import math
import re
import unicodedata
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

from scanwise.records import Metric

SPACE = "\u00a0"  # keeps a number and its unit on one line
MINUS = "\u2212"
MANY = 100  # from this many cases on, a percentage has a decimal
FEW = 30  # below this many subjects an interval is too wide to trust its ends


@dataclass(frozen=True, slots=True)
class Term:
    """What a figure is called, how it is written, and what it means."""

    title: str
    percent: bool
    meaning: str


TERMS = {
    "accuracy": Term("Accuracy", True, "the share of cases that were called right"),
    "balanced_accuracy": Term(
        "Balanced accuracy", True, "the share called right within each class, averaged, so a rare class counts as much"
    ),
    "macro_f1": Term(
        "Macro F1", True, "per class, the balance of missing cases and raising false alarms; then averaged over classes"
    ),
    "weighted_f1": Term("Weighted F1", True, "F1 of each class, averaged by how many cases the class has"),
    "auroc": Term(
        "AUROC",
        False,
        "how well the score ranks a case above a case of another class: 0.5 is tossing a coin, 1 is perfect",
    ),
    "average_precision": Term("Average precision", False, "the area under precision against sensitivity; 1 is perfect"),
    "sensitivity_at_90": Term(
        "Sensitivity at 90\u00a0% specificity",
        True,
        "the share of cases caught by the cut that leaves 90 in 100 of the others alone; that cut was found on these cases",
    ),
    "macro_precision": Term(
        "Mean precision", True, "of those called a class, the share that truly is, averaged over classes"
    ),
    "weighted_precision": Term("Weighted precision", True, "the same, each class as heavy as its cases"),
    "macro_specificity": Term(
        "Mean specificity",
        True,
        "of those truly of other classes, the share not called this one, averaged over classes",
    ),
    "weighted_specificity": Term("Weighted specificity", True, "the same, each class as heavy as its cases"),
    "matthews": Term("Matthews correlation", False, "agreement beyond chance: 0 is chance, 1 is perfect"),
    "quadratic_kappa": Term(
        "Weighted kappa",
        False,
        "agreement beyond chance, where being off by two stages counts four times as much as by one",
    ),
    "kappa": Term("Cohen’s kappa", False, "agreement beyond chance, every mistake alike; 1 is perfect"),
    "stage_error": Term("Stage error", False, "how many stages the answer is off, on average; 0 is perfect"),
    "cdr_error": Term(
        "Error of the expected CDR",
        False,
        "how far the expected Clinical Dementia Rating is from that of the true class, on average",
    ),
    "accuracy gap": Term(
        "Accuracy, less that of the others", True, "the group’s accuracy less that of all other groups"
    ),
    "positive_predictive_value": Term(
        "Positive predictive value", True, "of those called the class, the share that is"
    ),
    "negative_predictive_value": Term(
        "Negative predictive value", True, "of those not called it, the share that is not"
    ),
    "sensitivity": Term("Sensitivity", True, "of those truly of the class, the share that was called so"),
    "nll": Term("Log loss", False, "punishes confident mistakes; lower is better"),
    "brier": Term("Brier score", False, "squared gap between probabilities and what was true; lower is better"),
    "ece": Term(
        "Calibration error (ECE)",
        True,
        "the average gap between how sure the model says it is and how often it is right",
    ),
    "coverage": Term("Coverage", True, "the share of cases whose prediction set holds the true class"),
    "mean_set_size": Term("Mean set size", False, "how many classes a prediction set names on average"),
    "ood_flag_share": Term("Flagged", True, "the share of cases taken for scans of another kind"),
    "answered_share": Term("Answered", True, "the share of subjects that the classifier is sure enough about"),
    "selective_error": Term("Error among the answered", True, "how often an answer that is given is wrong"),
    "aurc": Term("Mean error (AURC)", True, "the error among the answered, averaged over every number answered"),
    "excess_aurc": Term(
        "Excess over the best order (E-AURC)", True, "what it loses to a doubt that puts every right answer first"
    ),
    "precision": Term("Precision", True, "of those called this class, the share that truly is"),
    "recall": Term("Sensitivity", True, "of those truly of this class, the share that was called so"),
    "specificity": Term("Specificity", True, "of those truly of another class, the share that was not called this one"),
    "f1": Term("F1", True, "the balance of precision and sensitivity"),
}

MODELS = {
    "network": ("This network", "the model that this run trained"),
    "majority": ("Most common class", "always answers the most common class, without looking at the scan"),
    "nearest_neighbour": (
        "Look-alike",
        "answers the class of the most similar training scan, pixel by pixel (nearest neighbour)",
    ),
    "pca_logistic": (
        "Simple statistics",
        "logistic regression on a few principal components of a tiny copy of the scan (PCA)",
    ),
    "frozen_features": (
        "Generic features",
        "logistic regression on features of a network that was never trained on scans",
    ),
    "words": ("Words of the text", "logistic regression on the words beside the scan, without the scan (tf-idf)"),
}

PARTS = {
    "network_without_words": ("This network without the text", "the same network, given the scan alone"),
    "network_without_image": ("This network without the scan", "the same network, given the text alone"),
    "network_without_class_words": (
        "This network, class words hidden",
        "the same network, the words of the class names taken out of the text",
    ),
}

SIDES = {
    "train": "Training",
    "validation": "Validation",
    "calibration": "Calibration",
    "test": "Test",
    "left out": "Left out",
}

PROTOCOLS = {"honest": "Honest", "published": "As published"}


def term(name: str) -> Term:
    """The wording of a metric; one that is not known is named as it is."""
    return TERMS.get(name) or Term(name.replace("_", " ").capitalize(), False, "")


def model_title(name: str) -> str:
    """What a model is called; one that is not known is named as it is."""
    known = {**MODELS, **PARTS}
    return known[name][0] if name in known else name.replace("_", " ").capitalize()


def fixed(value: float, decimals: int) -> str:
    """A number with so many decimals, halves rounded up, a true minus sign.

    >>> fixed(52.5, 0), fixed(-0.125, 2)
    ('53', '−0.13')
    """
    if not math.isfinite(value):
        return "–"
    rounded = Decimal(repr(float(value))).quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP)
    return f"{rounded or abs(rounded)}".replace("-", MINUS)


def percent(value: float, count: int, *, unit: bool = True) -> str:
    """A share as a percentage: one decimal where 100 cases or more stand behind it, else none.

    >>> percent(0.7237, 200), percent(0.525, 40)
    ('72.4\\xa0%', '53\\xa0%')
    """
    if not math.isfinite(value):
        return "–"
    text = fixed(float(Decimal(repr(float(value))) * 100), 1 if count >= MANY else 0)
    return f"{text}{SPACE}%" if unit else text


def number(metric: Metric, value: float) -> str:
    """A value of a metric as the metric is written, without its unit."""
    if term(metric.name).percent:
        return percent(value, metric.count, unit=False)
    return fixed(value, 3 if metric.count >= MANY else 2)


def value_of(metric: Metric) -> str:
    """The value alone: "72.4 %"."""
    suffix = f"{SPACE}%" if term(metric.name).percent and math.isfinite(metric.value) else ""
    return number(metric, metric.value) + suffix


def range_of(metric: Metric) -> str:
    """The interval alone: "65.1–79.0"; empty where there is none."""
    if not (math.isfinite(metric.low) and math.isfinite(metric.high)):
        return ""
    return between(number(metric, metric.low), number(metric, metric.high))


def between(low: str, high: str) -> str:
    """Two ends of a range; a dash between them, unless a minus sign would sit beside it."""
    return f"{low} to {high}" if MINUS in low + high else f"{low}–{high}"


def with_interval(metric: Metric) -> str:
    """The value and its interval: "72.4 % (65.1–79.0)"."""
    interval = range_of(metric)
    return value_of(metric) + (f" ({interval})" if interval else "")


def in_full(metric: Metric) -> str:
    """Value, interval and how many stand behind it: "72.4 % (65.1–79.0), 200 subjects"."""
    return f"{with_interval(metric)}, {counted(metric.count, metric.unit)}"


def lead(metric: Metric) -> str:
    """A paired difference, of shares in points: "+5.0 points (−3.1 to +13.0)", else as it is: "+0.04 (−0.01 to +0.09)"."""
    share = term(metric.name.removesuffix(" difference")).percent
    decimals = (1 if metric.count >= MANY else 0) + (0 if share else 2)
    times = 100 if share else 1

    def signed(value: float) -> str:
        text = fixed(value * times, decimals)
        return text if value <= 0 or text.strip("0.") == "" else f"+{text}"

    interval = ""
    if math.isfinite(metric.low) and math.isfinite(metric.high):
        interval = f" ({signed(metric.low)} to {signed(metric.high)})"
    points = f"{SPACE}{'point' if abs(metric.value * 100) == 1 else 'points'}" if share else ""
    return f"{signed(metric.value)}{points}{interval}"


def counted(count: int, noun: str) -> str:
    """A count and its noun: "200 subjects", "1 scan", "6,400 scans"."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{count:,}{SPACE}{noun if count == 1 else plural}"


def duration(seconds: float) -> str:
    """Seconds as people say them.

    >>> duration(3725), duration(0.34)
    ('1 h 2 min', '0.3 s')
    """
    if seconds < 60:
        return f"{fixed(seconds, 1 if seconds < 10 else 0)} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def listed(names: list[str], joint: str = "and") -> str:
    """Names as a sentence lists them: "a, b and c"."""
    return f" {joint} ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def without_secrets(text: str) -> str:
    """The text with what a URL carries before an @ or after a question mark hidden.

    >>> without_secrets("s3://key:secret@bucket/scans?token=1")
    's3://…@bucket/scans?…'
    """
    return re.sub(r"(://[^\s?]*\?)\S+", r"\1…", re.sub(r"(://)[^/@\s]+@", r"\1…@", text))


def printable(text: str) -> str:
    """The text with what no page can show (control characters, broken encodings) replaced by a mark.

    >>> printable("a\\x00b\\nc")
    'a�b c'
    """
    return "".join(
        " " if char in "\t\n\r" else "\ufffd" if unicodedata.category(char) in ("Cc", "Cs") else char for char in text
    )
