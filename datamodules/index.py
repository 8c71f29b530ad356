"""Records in a file: a dataset is read off its annotations once, and only looked up at later starts.

An index lies in ``data.index_dir``, never in the dataset. It holds the records as pickles one after the other, then a
table of where each one lies, then its key. Pickles can run code when they are read, so they are read from that folder
only, where nobody but this module writes.
"""

import hashlib
import os
import pickle
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datamodules.pool import process_map
from datamodules.record import Record
from errors import UserError
from processes import cores

FEW = 500  # records that are made before other processes have started
KEY_SIZE = hashlib.sha256().digest_size


class Plan(NamedTuple):
    """How the records of a split are made.

    Attributes:
        classes: names of labels 1..K.
        read_record: makes a record of a job's items; a function that other processes can import.
        jobs: the arguments of ``read_record`` for each image, in the order of the records.
    """

    classes: tuple[str, ...]
    read_record: Callable[..., Record]
    jobs: list[tuple[Any, ...]]


class _File:
    """A file that several processes read at once, each at its own place.

    Not mapped into memory: what is read of a mapping counts as the memory of every process that reads it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self.descriptor)

    def read(self, start: int, end: int) -> bytes:
        return os.pread(self.descriptor, end - start, start)

    def __reduce__(self) -> tuple[Any, ...]:
        return _File, (self.path,)


@dataclass(frozen=True, eq=False)
class RecordIndex(Sequence[Record]):
    """Records in a file, each read when it is asked for. Its size in memory is 18 bytes a record.

    Attributes:
        classes: names of labels 1..K.
        spans: int64 [N, 2], the first byte of each record's pickle and the one after its last.
        trainable: bool [N], whether the image has anything to learn from.
        suspect: bool [N], whether something was wrong with the image file when the index was built.
    """

    _file: _File
    classes: tuple[str, ...]
    spans: np.ndarray
    trainable: np.ndarray
    suspect: np.ndarray

    def __len__(self) -> int:
        return len(self.spans)

    def __getitem__(self, place: int) -> Record:
        return pickle.loads(self._file.read(*self.spans[place].tolist()))

    def select(self, keep: np.ndarray) -> "RecordIndex":
        """Return the records where ``keep``, bool [N], is true."""
        return replace(self, spans=self.spans[keep], trainable=self.trainable[keep], suspect=self.suspect[keep])


def read_index(
    folder: Path,
    name: tuple[str, ...],
    sources: list[Path],
    plan: Callable[[], Plan],
    is_trainable: Callable[[Record], bool],
) -> RecordIndex:
    """Open the index of a split; build it where there is none, or one of other files.

    Any number of processes may do so at once: an index appears whole or not at all.

    Args:
        folder: where indexes lie.
        name: tells indexes of the same sources apart.
        sources: files, and folders with all files below them, that the records are made of. A change in the path,
            size or modification time of any file makes a new index, and so does a change in this package.
        plan: says how to build it.
        is_trainable: whether an image has anything to learn from; a function that other processes can import.

    Raises:
        UserError: where the folder cannot be written, two images have the same id, or from the plan's functions.
    """
    title = "-".join(name[:3])
    path = folder / f"{title}-{hashlib.sha256(repr((name, sources)).encode()).hexdigest()[:16]}.index"
    key = _key(sources)
    index = _load(path, key)
    return _build(path, key, plan(), is_trainable) if index is None else index


def _key(sources: list[Path]) -> bytes:
    digest = hashlib.sha256()
    for module in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(module.read_bytes())
    for source in sources:
        for line in _stamps(source):
            digest.update(line.encode(errors="surrogateescape"))
    return digest.digest()


def _stamps(path: Path | os.DirEntry) -> Iterator[str]:
    """A line for a file, or for every file below a folder; a look into the folder costs less than asking by name."""
    try:
        if path.is_dir():
            with os.scandir(path) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    yield from _stamps(entry)
        else:
            status = path.stat()
            yield f"{os.fspath(path)}\0{status.st_size}\0{status.st_mtime_ns}\n"
    except OSError as error:
        yield f"{os.fspath(path)}\0{error.errno}\n"


def _load(path: Path, key: bytes) -> RecordIndex | None:
    try:
        file = _File(path)
    except OSError:
        return None
    end = os.fstat(file.descriptor).st_size - KEY_SIZE
    # The key is written last: a file that was cut off ends in something else.
    if end < 8 or file.read(end, end + KEY_SIZE) != key:
        return None
    table = int.from_bytes(file.read(end - 8, end), "little")
    return RecordIndex(file, *pickle.loads(file.read(table, end - 8)))


def _build(path: Path, key: bytes, plan: Plan, is_trainable: Callable[[Record], bool]) -> RecordIndex:
    pack = partial(_pack, plan.read_record, is_trainable)
    if len(plan.jobs) <= FEW:
        packed = map(pack, plan.jobs)
    else:
        packed = process_map(pack, plan.jobs, cores(), f"indexing {path.stem.rpartition('-')[0]}")
    paths: dict[str, Path] = {}
    ids: dict[Path, str] = {}
    ends, flags = [0], []
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            try:
                for image_id, image, content, *image_flags in packed:
                    if paths.setdefault(image_id, image) is not image:
                        raise UserError(f"{image}: its image id {image_id} is that of {paths[image_id]} too")
                    if ids.setdefault(image, image_id) is not image_id:  # else each would show the other's people
                        raise UserError(f"{image}: is annotated as two images, {ids[image]} and {image_id}")
                    file.write(content)
                    ends.append(ends[-1] + len(content))
                    flags.append(image_flags)
                spans = np.stack([ends[:-1], ends[1:]], axis=1).astype(np.int64)
                trainable, suspect = np.array(flags, bool).reshape(-1, 2).T.copy()
                file.write(pickle.dumps((plan.classes, spans, trainable, suspect)))
                file.write(ends[-1].to_bytes(8, "little") + key)
                file.close()
                Path(file.name).replace(path)
            finally:
                Path(file.name).unlink(missing_ok=True)
        return RecordIndex(_File(path), plan.classes, spans, trainable, suspect)
    except OSError as error:
        raise UserError(f"data.index_dir: {path.parent} cannot be written: {error}") from None


def _pack(
    read_record: Callable[..., Record], is_trainable: Callable[[Record], bool], job: tuple[Any, ...]
) -> tuple[str, Path, bytes, bool, bool]:
    record = read_record(*job)
    content = pickle.dumps(record, pickle.HIGHEST_PROTOCOL)
    return record.image_id, record.path, content, bool(is_trainable(record)), record.image_problem() is not None
