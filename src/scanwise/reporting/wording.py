"""Numbers and terms as a clinician reads them: rounded by how many people stand behind them, each term explained once."""

import math
from decimal import ROUND_HALF_UP, Decimal

from scanwise.baselines import BASELINES
from scanwise.metrics import UNBOUNDED, MetricSpec, find_metric
from scanwise.phrases import count_of
from scanwise.records import Metric

SPACE = "\u00a0"  # keeps a number and its unit on one line
MINUS = "\u2212"
MANY = 100  # from this many cases on, a percentage has a decimal
NO_INTERVAL = "no interval: too few, or all alike"
FEW = 30  # below this many subjects an interval is too wide to trust its ends


MODELS = {
    "network": ("This network", "the model that this run trained"),
    **{name: (spec.title, spec.meaning) for name, spec in BASELINES.items()},
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


def term(name: str) -> MetricSpec:
    """Title and meaning of a metric; a name without a row is its own title."""
    title = name.replace("_", " ").capitalize()
    return find_metric(name) or MetricSpec(name=name, title=title, meaning="", bounds=UNBOUNDED)


def model_title(name: str) -> str:
    """Title of a model; an unknown name is its own title."""
    titles = {**MODELS, **PARTS}
    return titles[name][0] if name in titles else name.replace("_", " ").capitalize()


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


def format_value(metric: Metric, value: float) -> str:
    """A value of a metric as the metric is written, without its unit."""
    if term(metric.name).percent:
        return percent(value, metric.count, unit=False)
    return fixed(value, 3 if metric.count >= MANY else 2)


def value_of(metric: Metric) -> str:
    """The value alone: "72.4 %"."""
    suffix = f"{SPACE}%" if term(metric.name).percent and math.isfinite(metric.value) else ""
    return format_value(metric, metric.value) + suffix


def range_of(metric: Metric) -> str:
    """The interval alone: "65.1–79.0"; empty where there is none."""
    if not (math.isfinite(metric.low) and math.isfinite(metric.high)):
        return ""
    return between(format_value(metric, metric.low), format_value(metric, metric.high))


def between(low: str, high: str) -> str:
    """Two ends of a range; a dash between them, unless a minus sign would sit beside it."""
    return f"{low} to {high}" if MINUS in low + high else f"{low}–{high}"


def with_interval(metric: Metric) -> str:
    """The value and its interval: "72.4 % (65.1–79.0)"; or the reason why there is none."""
    if not math.isfinite(metric.value):
        return value_of(metric)
    return f"{value_of(metric)} ({range_of(metric) or NO_INTERVAL})"


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

    interval = f" ({NO_INTERVAL})"
    if math.isfinite(metric.low) and math.isfinite(metric.high):
        interval = f" ({signed(metric.low)} to {signed(metric.high)})"
    points = f"{SPACE}{'point' if abs(metric.value * 100) == 1 else 'points'}" if share else ""
    return f"{signed(metric.value)}{points}{interval}"


def counted(count: int, noun: str) -> str:
    """A count and its noun that no line break parts: "200 subjects", "1 scan", "6,400 scans"."""
    return count_of(count, noun).replace(" ", SPACE, 1)


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
