"""Secrets in text, hidden before it is written or shown: those in URLs, and words that say that they are secret."""

import re
from typing import Any

HIDDEN = "…"

_USER = re.compile(r"(://)(?:[^\s/@:?#'\"]*:[^\s'\"]*|[^\s/@'\"]+)@")
_QUERY = re.compile(r"(://[^\s?'\"]*\?)[^\s'\"]+")
_FRAGMENT = re.compile(r"(://[^\s#'\"]*#)[^\s'\"]*=[^\s'\"]*")
_NAMED = re.compile(
    r"(?i)\b((?:\w*[_-])?(?:password|passwd|secret|token|api[_-]?key|access[_-]?key(?:[_-]?id)?|credentials?|signature)"
    r"(?:\s?=\s?['\"]?|['\"]\s?:\s?['\"]))[^\s'\",;&]{4,}"
)
_BEARER = re.compile(r"(?i)\b(bearer |basic )[a-z0-9+/=._~-]{8,}")


def without_secrets(text: str) -> str:
    """The text without what a URL carries before an @, after a question mark or as `name=` after a #, and without tokens.

    >>> without_secrets("s3://key:sec/ret@bucket/scans?token=1 and s3://bucket/v.dcm#003")
    's3://…@bucket/scans?… and s3://bucket/v.dcm#003'
    >>> without_secrets("api_key=abcdef, Authorization: Bearer abcdefgh")
    'api_key=…, Authorization: Bearer …'
    """
    if "://" in text:
        for pattern in (_USER, _QUERY, _FRAGMENT):
            text = pattern.sub(lambda match: match[1] + HIDDEN + ("@" if match[0].endswith("@") else ""), text)
    return _BEARER.sub(rf"\1{HIDDEN}", _NAMED.sub(rf"\1{HIDDEN}", text))


def values_without_secrets(value: Any) -> Any:
    """The same of every text in lists and mappings, as JSON has them."""
    match value:
        case str():
            return without_secrets(value)
        case dict():
            return {name: values_without_secrets(inner) for name, inner in value.items()}
        case list() | tuple():
            return [values_without_secrets(inner) for inner in value]
    return value
