"""Write the pages of the manual that tables hold: docs/options.md from the recipe's schema, docs/metrics.md from the metrics.

    .venv/bin/python tools/manual.py

`make docs` does it; `tests/test_manual.py` compares the pages with the tables.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from scanwise.metrics import CLASS_METRICS, METRICS, OTHER_METRICS, MetricSpec
from scanwise.recipe import Recipe
from scanwise.recipe.options import FLAGS, MOST_NUMBER, NUMBERS, RATES, SIZES, WORDS

DOCS = Path(__file__).parents[1] / "docs"
KINDS = {"integer": "whole number", "number": "number", "string": "text", "boolean": "`true` or `false`"}
Schema = Mapping[str, Any]

OPTIONS = """\
# Recipe options

Every key that a recipe may hold and `--set KEY=VALUE` may change, with its values, its default and its meaning. This page is written from the schema
(`scanwise recipes schema`, which editors read too); `scanwise recipes show NAME` prints a whole recipe. An unknown key or a value out of its bounds is refused
before anything is read, all mistakes at once.

    scanwise fit backbone --data DATA --plan --set train.epochs=5 --set "data.covariates=[age, sex]"
"""
NETWORK = """\
## Options of a timm network

What `model.options` may hold; a network takes those that its timm class has.

| values | names |
|---|---|
"""
METRICS_PAGE = """\
# Metrics

Every figure of `metrics.json`, the tables and the report. Each has an interval over people (scans of one person are one draw), and is given by scan and by
subject. *Up* means that higher is better. This page is written from the tables of `scanwise.metrics`.

- **Intervals** come from whole people, class by class: for shares and means from exact limits put together, for AUROC from where each case lies among the others, for
  log loss from draws of people; the calibration error has the interval that chance leaves it.
- **A class without test people** is left out of means over classes and named.
- **Under a leaky protocol** only the figures marked *leaky too* are given, stamped *leaked*.
- `train.monitor` takes [these](options.md#train) on validation scans. Yours: [add a metric](extending/metric.md).
"""
NOTES = {
    "leaky_protocol": "leaky too",
    "needs_order": "ordered classes",
    "needs_calibration": "judges probabilities",
    "placements": "interval by placements",
}


def options_page() -> str:
    """The page of all recipe keys."""
    schema = Recipe.model_json_schema()
    return "\n".join([OPTIONS, *_section(schema, schema["$defs"], ""), NETWORK + "\n".join(_network_options()), ""])


def option_rows(section: Schema, sections: Schema, lead: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Key, values, default and meaning of each key of a section and of those below it."""
    for name, key in section["properties"].items():
        below = _below(key, sections)
        if below is None or key.get("type") in ("array", "object") or "anyOf" in key:
            yield (
                lead + name,
                _values(key),
                _default(key, name in section.get("required", ())),
                key.get("description", ""),
            )
        if below is not None:
            yield from option_rows(below, sections, _lead(lead + name, key))


def metrics_page() -> str:
    """The page of all figures."""
    parts = {
        "Over all classes": METRICS,
        "Of one class": CLASS_METRICS,
        "From sets, thresholds, flags and groups": OTHER_METRICS,
    }
    lines = [METRICS_PAGE]
    for title, table in parts.items():
        lines += [f"## {title}", "", "| name | figure | meaning | values | better | |", "|---|---|---|---|---|---|"]
        lines += [
            f"| `{spec.name}` | {spec.title} | {spec.meaning} | {_bounds(spec)} | {_better(spec)} | {_notes(spec)} |"
            for spec in table.values()
        ]
        lines.append("")
    return "\n".join(lines)


def _section(section: Schema, sections: Schema, lead: str) -> Iterator[str]:
    """Heading, description and table of a section, then of those below it."""
    yield f"## {lead.removesuffix('.') or 'The recipe'}\n"
    yield f"{_cell(section['description'])}\n"
    keys = {name: (key, _below(key, sections)) for name, key in section["properties"].items()}
    rows = [
        f"| `{lead}{name}` | {_values(key)} | {_default(key, name in section.get('required', ()))} | {_cell(key.get('description', ''))} |"
        for name, (key, below) in keys.items()
        if below is None or "description" in key
    ]
    if rows:
        yield "\n".join(["| key | values | default | meaning |", "|---|---|---|---|", *rows, ""])
    for name, (key, below) in keys.items():
        if below is not None:
            yield from _section(below, sections, _lead(lead + name, key))


def _below(key: Schema, sections: Schema) -> Schema | None:
    """The section that a key holds, one of which it is a list or a mapping, or none."""
    additional = key.get("additionalProperties", {})
    inner = [key, key.get("items", {}), additional if isinstance(additional, Mapping) else {}, *key.get("anyOf", ())]
    found = next((part["$ref"] for part in inner if "$ref" in part), None)
    return None if found is None else sections[found.rpartition("/")[2]]


def _lead(name: str, key: Schema) -> str:
    return f"{name}{'[]' if key.get('type') == 'array' else '.NAME' if key.get('type') == 'object' else ''}."


def _values(key: Schema) -> str:
    """The values that a key takes, in words.

    >>> _values({"type": "integer", "minimum": 1}), _values({"enum": ["a", "b"], "type": "string"})
    ('whole number, from 1', '`a`, `b`')
    >>> _values({"type": "array", "items": {"type": "number", "exclusiveMinimum": 0}})
    'list of: number, above 0'
    """
    if "anyOf" in key:
        return " or ".join(_values(part) for part in key["anyOf"] if part.get("type") != "null")
    if "$ref" in key:
        return "a section, below"
    if "enum" in key or "const" in key:
        return ", ".join(f"`{value}`" for value in key.get("enum", [key.get("const")]))
    if key["type"] == "array":
        pair = key.get("prefixItems")
        return f"[{'; '.join(map(_values, pair))}]" if pair else f"list of: {_values(key['items'])}"
    if key["type"] == "object":
        return "names and values" if "propertyNames" in key else "`name: value` lines"
    return ", ".join([KINDS[key["type"]], *_limits(key)])


def _limits(key: Schema) -> Iterator[str]:
    words = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
    limits = [f"{word} {key[name]:,}" for name, word in words.items() if name in key and key[name] < 10**9]
    if limits:
        yield " ".join(limits)


def _default(key: Schema, required: bool) -> str:
    """The default of a key, as YAML would have it."""
    value = key.get("default")
    if required:
        return "none: give it"
    if value is None or value in ("", [], {}):
        return "–"
    return f"`{_yaml(value)}`" if len(_yaml(value)) < 40 else "all of them"


def _yaml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_yaml, value))}]"
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _network_options() -> Iterator[str]:
    sizes: dict[int, list[str]] = {}
    for name, most in SIZES.items():
        sizes.setdefault(most, []).append(name)
    yield from (f"| whole number, from 1 to {most:,} | {_named(names)} |" for most, names in sorted(sizes.items()))
    yield f"| number, from 0 to below 1 | {_named(RATES)} |"
    yield f"| number, from 0 to {MOST_NUMBER} | {_named(NUMBERS)} |"
    yield f"| `true` or `false` | {_named(FLAGS)} |"
    yield f"| a name of timm's | {_named(WORDS)} |"


def _named(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _bounds(spec: MetricSpec) -> str:
    low, high = spec.bounds
    if not np.isfinite(low):
        return "any"
    percent = 100 if spec.percent and spec.largest is None else 1
    unit = " %" if percent == 100 else ""
    return f"{low * percent:g} to {high * percent:g}{unit}" if np.isfinite(high) else f"from {low:g}"


def _better(spec: MetricSpec) -> str:
    return "" if not np.isfinite(spec.bounds[0]) else "up" if spec.higher_is_better else "down"


def _notes(spec: MetricSpec) -> str:
    return ", ".join(words for field, words in NOTES.items() if getattr(spec, field))


PAGES = {"options.md": options_page, "metrics.md": metrics_page}
"""Pages that are written, by their name in docs/."""

if __name__ == "__main__":
    for page, write in PAGES.items():
        (DOCS / page).write_text(write(), encoding="utf-8")
