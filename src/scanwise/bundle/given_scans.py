"""Files or scans that a bundle is to predict, with what is known of each beside its pixels."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import numpy as np

from scanwise.cohort.decoding.pixels import RemoteScan, ScanBytes, Source
from scanwise.cohort.listing import source_at
from scanwise.errors import DataError
from scanwise.records import StrArray


@dataclass(frozen=True, slots=True)
class GivenScans:
    """Files or scans to predict.

    Attributes:
        sources: N of them.
        names: of each, as the predictions call it.
        subjects: of each, to pool by; "" where none is known. None where nobody is.
        groups: (N,) columns to carry along.
        words: beside each, for a network that reads them; None where there are none.
    """

    sources: Sequence[Source]
    names: Sequence[str]
    subjects: Sequence[str] | None = None
    groups: dict[str, StrArray] = field(default_factory=dict)
    words: Sequence[str] | None = None

    @classmethod
    def of(
        cls,
        scans: Sequence[str | Source] | str | Source,
        subjects: Sequence[str] | None = None,
        groups: dict[str, StrArray] | None = None,
        *,
        words: Sequence[str] | None = None,
        names: StrArray | None = None,
    ) -> Self:
        """Files as `Bundle.predict` takes them.

        Raises:
            DataError: if there are not as many subjects or texts as scans.
        """
        given = [scans] if isinstance(scans, str | Path | ScanBytes | RemoteScan) else scans
        sources = [source_at(Path(), scan) if isinstance(scan, str) else scan for scan in given]
        for values, what in ((subjects, "subjects"), (words, "texts")):
            if values is not None and len(values) != len(sources):
                raise DataError(f"{len(sources)} scans need as many {what}, not {len(values)}.")
        own_names = [source.name if isinstance(source, ScanBytes) else str(source) for source in sources]
        columns = {name: np.asarray(values) for name, values in (groups or {}).items()}
        return cls(sources, own_names if names is None else names.tolist(), subjects, columns, words)

    def take(self, rows: Sequence[int]) -> Self:
        """Only these, in this order; one may come more than once."""
        return replace(
            self,
            sources=[self.sources[row] for row in rows],
            names=[self.names[row] for row in rows],
            subjects=None if self.subjects is None else [self.subjects[row] for row in rows],
            groups={name: values[list(rows)] for name, values in self.groups.items()},
            words=None if self.words is None else [self.words[row] for row in rows],
        )
