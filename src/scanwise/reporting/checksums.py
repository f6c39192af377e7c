"""Whether the files that a report is made from are still what scanwise wrote: their hashes, in `SHA256SUMS`."""

from collections.abc import Iterator
from pathlib import Path

from scanwise.errors import RunError
from scanwise.run import RunFolder, layout, sha256_of, write_text

CHECKSUMS_FILE = layout.CHECKSUMS


def write_checksums(run: RunFolder) -> Path:
    """Write the hash of every file that a report reads; `sha256sum -c SHA256SUMS` in the run folder checks them too."""
    lines = [f"{sha256_of(path)}  {path.relative_to(run.path).as_posix()}\n" for path in _files(run)]
    write_text("".join(lines), run.path / CHECKSUMS_FILE)
    return run.path / CHECKSUMS_FILE


def verify_checksums(run: RunFolder) -> bool:
    """Whether the run was sealed; a sealed one is checked.

    Raises:
        RunError: naming the files that were changed or removed since.
    """
    if not (run.path / CHECKSUMS_FILE).is_file():
        return False
    expected = read_checksums(run)
    gone = [name for name in expected if not (run.path / name).is_file()]
    if gone:
        raise RunError(
            f"{run.path / gone[0]} is missing{_more(gone)}, though the run had it. Run `scanwise fit` again with "
            "--resume; what is done is kept."
        )
    changed = [name for name, digest in expected.items() if sha256_of(run.path / name) != digest]
    if changed:
        raise RunError(
            f"{run.path / changed[0]} is not what scanwise wrote{_more(changed)}: its hash differs from {CHECKSUMS_FILE}. It was "
            "edited or damaged, and a report of it would mislead. Restore it, or run `scanwise fit` again with --resume."
        )
    return True


def read_checksums(run: RunFolder) -> dict[str, str]:
    """The hash that `SHA256SUMS` has of each file; empty where the run was not sealed."""
    path = run.path / CHECKSUMS_FILE
    if not path.is_file():
        return {}
    rows = (line.partition("  ") for line in path.read_text(encoding="utf-8").splitlines())
    return {name: digest for digest, _, name in rows}


def _files(run: RunFolder) -> Iterator[Path]:
    for pattern in layout.CHECKSUMMED:
        yield from sorted(path for path in run.path.glob(pattern) if path.is_file())


def _more(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""
