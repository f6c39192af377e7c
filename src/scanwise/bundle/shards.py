"""Shards of a prediction on disk, so that a killed one goes on where it was.

OUT.shards/KEY.npz    what the network said of one shard of scans: `MappedScans`

The key is made from the content of the files, what is asked beside them, the model and the device: a shard is found again whatever
the others were, and never once any of that has changed. The folder is gone when the answer is written.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from scanwise.bundle.mapping import AskedScans, MappedScans, ScanMapper, map_shards
from scanwise.cohort.decoding.pixels import RemoteScan, ScanBytes, Source, open_file
from scanwise.cohort.decoding.readers import locate_scan, may_pass
from scanwise.cohort.decoding.remote_files import version_of
from scanwise.errors import DataError, RunError
from scanwise.run import owning, save, sha256_of

ENDING = ".shards"

ShardEngine = Callable[[Sequence[AskedScans], ScanMapper, bool], Iterator[tuple[int, MappedScans]]]
"""Anything that maps shards: the number of each and its rows, in any order."""


@dataclass(frozen=True, slots=True)
class ShardFolder:
    """A folder of shards, and what maps those that are not there yet.

    Attributes:
        folder: of the shards.
        digest: of the model.
        size: scans of a shard.
        engine: maps shards.
    """

    folder: Path
    digest: str
    size: int
    engine: ShardEngine = map_shards
    _hashes: dict[Source, str] = field(default_factory=dict)

    def __call__(self, request: AskedScans, mapper: ScanMapper, progress: bool) -> MappedScans:
        """The rows of all scans, in order: from the folder, or mapped and written there."""
        shards = mapper.shards(request, self.size)
        files = self._files(shards, mapper)
        parts = dict(enumerate(map(_read, files)))
        todo = [number for number, part in parts.items() if part is None]
        for number, mapped in self.engine([shards[number] for number in todo], mapper, progress):
            save(mapped, files[todo[number]])
            parts[todo[number]] = mapped
        return MappedScans.join([part for part in parts.values() if part is not None])

    def _files(self, shards: Sequence[AskedScans], mapper: ScanMapper) -> list[Path]:
        """The file of each shard."""
        located = {locate_scan(path)[0] for shard in shards for path in shard.paths if not isinstance(path, ScanBytes)}
        new = [path for path in located if path not in self._hashes]
        with ThreadPoolExecutor() as pool:
            self._hashes.update(zip(new, pool.map(_hash_of, new), strict=True))
        return [self.folder / f"{self._key(shard, mapper)}.npz" for shard in shards]

    def _key(self, shard: AskedScans, mapper: ScanMapper) -> str:
        contents = [(*self._content(path), name) for path, name in zip(shard.paths, shard.names, strict=True)]
        tokens = shard.tokens
        beside = (
            None if tokens is None else (str(tokens.dtype), tokens.shape, hashlib.sha256(tokens.tobytes()).hexdigest())
        )
        values = [version("scanwise"), self.digest, mapper.device, mapper.shape, beside, contents]
        return hashlib.sha256(json.dumps(values).encode()).hexdigest()

    def _content(self, path: Source) -> tuple[str, int | None]:
        """Hash of a file, and which of its slices is asked about."""
        if isinstance(path, ScanBytes):
            return hashlib.sha256(path.data).hexdigest(), path.index
        file, index = locate_scan(path)
        return self._hashes[file], index


@contextmanager
def keeping_shards(
    out: Path, digest: str, size: int, *, resume: bool, engine: ShardEngine = map_shards
) -> Iterator[ShardFolder]:
    """Shards beside the file `out`; they are removed when the block, which writes it, ends well.

    Raises:
        RunError: if there are some of a prediction that did not end, and it is not to go on; or if it is running.
    """
    folder = out.with_name(out.name + ENDING)
    if folder.exists() and not (folder.is_dir() and all(_is_ours(file) for file in folder.iterdir())):
        raise RunError(f"{folder} holds files that no prediction wrote. Choose another file with --out.")
    if folder.exists() and not resume:
        raise RunError(
            f"{folder} holds the shards of a prediction that did not end. Go on with --resume, or remove the folder to "
            "begin anew."
        )
    with owning(folder):
        try:
            yield ShardFolder(folder, digest, size, engine)
        except BaseException:
            if any(folder.glob("*.npz")):  # else there is nothing to go on from
                raise
            shutil.rmtree(folder)
            raise
        shutil.rmtree(folder)


def _is_ours(file: Path) -> bool:
    return file.name.startswith(".") or file.suffix == ".npz"


def _hash_of(file: Source) -> str:
    """Hash of a file, or its version at a URL; "" where it cannot be read, which decoding will say of it."""
    with suppress(OSError):
        if isinstance(file, RemoteScan):
            if version := version_of(file.url):
                return version
            with open_file(file) as stream:
                return hashlib.sha256(stream.read()).hexdigest()
        return sha256_of(file) if isinstance(file, Path) and file.is_file() else ""
    return ""


def _read(file: Path) -> MappedScans | None:
    """A shard that was mapped before; None where it has to be mapped: it is not there, damaged, or refused a scan that may be read now."""
    try:
        mapped = MappedScans.load(file)
    except (FileNotFoundError, DataError, KeyError):
        return None
    return None if any(may_pass(reason) for _, reason in mapped.quarantine) else mapped
