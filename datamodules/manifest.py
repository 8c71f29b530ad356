"""What an anonymized copy was made of, kept while it is made so that a killed run goes on where it was.

A finished copy has a ``manifest.json``. Until then a journal beside it has a line for each image, written before the
image takes its name: an image is finished when its file has the hash in its line.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from datamodules.files import read_json
from errors import UserError

MANIFEST = "manifest.json"
JOURNAL = "manifest.jsonl"
PARTIAL = ".partial"  # where files are before they take their names

Entry = dict[str, Any]  # of an image: regions, dropped, source_sha256, sha256


class Manifest:
    """The manifest of a copy in the making; picklable.

    Args:
        folder: of the copy.
        made: what decides the copy's content: condition, seed, source, versions, ...
    """

    def __init__(self, folder: Path, made: dict[str, Any]) -> None:
        self.folder = folder
        self.made = made

    @contextmanager
    def claimed(self) -> Iterator[dict[str, Entry]]:
        """Make the folder this copy's and no other process's, and take up what a former run has done.

        Yields:
            The entries of the former run's images, by name. An image may not be there, or not as its entry says.

        Raises:
            UserError: the folder holds something else or another copy, is in use, or cannot be written.
        """
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise UserError(f"output: another process is writing {self.folder}") from None
        except OSError:
            pass  # a file system without locks, as some of clusters are: there two runs are the caller's to keep apart
        try:
            with writing(self.folder):
                entries = self._take_up()
            yield entries
        finally:
            os.close(lock)

    def _take_up(self) -> dict[str, Entry]:
        finished, journal = self.folder / MANIFEST, self.folder / JOURNAL
        entries = {}
        if finished.exists():
            content = read_json(finished, "it says what the copy was made of")
            self._check_same(finished, content)
            entries |= content["images"]
        if journal.exists():
            first, *lines = journal.read_text().split("\n")
            self._check_same(journal, json.loads(first))
            entries |= dict(_entries(lines))
        if not finished.exists() and not journal.exists() and {p.name for p in self.folder.iterdir()} - {PARTIAL}:
            raise UserError(f"output: {self.folder} holds something else than a copy; name a new or empty folder")
        shutil.rmtree(self.folder / PARTIAL, ignore_errors=True)
        (self.folder / PARTIAL).mkdir()
        if not journal.exists():
            self.write(JOURNAL, json.dumps(self.made).encode())
        return entries

    def _check_same(self, path: Path, there: dict[str, Any]) -> None:
        for key, value in self.made.items():
            if there.get(key) != value:
                raise UserError(f"output: {path} says {key} {there.get(key)}, this is {value}; name another folder")

    def has(self, name: str, entry: Entry) -> bool:
        """Whether the image is there, and is the one that its entry is of."""
        path = self.folder / name
        return path.is_file() and sha256(path) == entry["sha256"]

    def add(self, name: str, entry: Entry, data: bytes) -> None:
        """Write an image, all or nothing, after its line in the journal."""
        # The line begins with its end of line, so that it stands alone even after one that was cut off.
        line = f"\n{json.dumps({'name': name, **entry})}".encode()
        with writing(self.folder):
            journal = os.open(self.folder / JOURNAL, os.O_WRONLY | os.O_APPEND)
            try:
                os.write(journal, line)
            finally:
                os.close(journal)
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        self.write(name, data)

    def write(self, name: str, data: bytes) -> None:
        """Write a file, all or nothing."""
        temporary = self.folder / PARTIAL / str(os.getpid())
        with writing(self.folder):
            try:
                with temporary.open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())  # or a power cut could leave the name on an empty file
                temporary.replace(self.folder / name)
            finally:
                temporary.unlink(missing_ok=True)

    def finish(self, counts: dict[str, int], images: dict[str, Entry]) -> None:
        """Write ``manifest.json``, with a line for each image, and remove the journal."""
        head = json.dumps(self.made | counts, indent=2).removesuffix("\n}")
        lines = ",\n".join(f"    {json.dumps(name)}: {json.dumps(images[name])}" for name in sorted(images))
        self.write(MANIFEST, f'{head},\n  "images": {{\n{lines}\n  }}\n}}\n'.encode())
        with writing(self.folder):
            (self.folder / JOURNAL).unlink()
            (self.folder / PARTIAL).rmdir()


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn an `OSError` into a `UserError` that says that ``folder`` cannot be written."""
    try:
        yield
    except OSError as error:
        raise UserError(f"output: {folder} cannot be written: {error.strerror or error}") from None


def _entries(lines: list[str]) -> Iterator[tuple[str, Entry]]:
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # cut off
        yield entry.pop("name"), entry
