"""What an anonymized copy was made of, kept while it is made so that a killed run goes on where it was.

A finished copy has a ``manifest.json``. Until then a journal beside it has a line for each image, written before the
image takes its name: an image is finished when its file has the hash in its line. Several processes, on as many
machines that see the folder, have a share of the images and a journal each; the one that ends last makes the manifest
of all journals.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from datamodules.files import read_json
from errors import UserError

MANIFEST = "manifest.json"
JOURNAL = "manifest.jsonl"  # of a process that is alone; of several: manifest.1-of-3.jsonl, ...
JOURNALS = "manifest.*jsonl"
PARTIAL = ".partial"  # where files are before they take their names

Entry = dict[str, Any]  # of an image: regions, dropped, source_sha256, sha256


class Manifest:
    """The manifest of a copy in the making; picklable.

    Args:
        folder: of the copy.
        made: what decides the copy's content: condition, seed, source, versions, ...
        share: which of the shares is this process's, from 0, and how many there are.
    """

    def __init__(self, folder: Path, made: dict[str, Any], share: tuple[int, int] = (0, 1)) -> None:
        self.folder = folder
        self.made = made
        self.share, self.shares = share
        self.journal = JOURNAL if self.shares == 1 else f"manifest.{self.share + 1}-of-{self.shares}.jsonl"

    @contextmanager
    def claimed(self) -> Iterator[dict[str, Entry]]:
        """Make the folder this copy's, and the share no other process's, and take up what a former run has done.

        Yields:
            The entries of the former run's images, by name. An image may not be there, or not as its entry says.

        Raises:
            UserError: the folder holds something else or another copy, is in use, or cannot be written.
        """
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            there = {path.name for path in self.folder.iterdir()} - {PARTIAL}
            if there and not any(fnmatch(name, JOURNALS) or name == MANIFEST for name in there):
                raise UserError(f"output: {self.folder} holds something else than a copy; name a new or empty folder")
            with self.alone():
                entries = self._take_up()
                if not (self.folder / self.journal).exists():
                    self.write(self.journal, json.dumps(self.made).encode())
                lock = self._lock(self.folder / self.journal)
                self._append({"begun": True})
        try:
            yield entries
        finally:
            os.close(lock)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep the other shares' processes waiting, for what concerns all of the copy."""
        path = self.folder / PARTIAL / "lock"
        while True:
            path.parent.mkdir(exist_ok=True)
            try:
                lock = os.open(path, os.O_RDWR | os.O_CREAT)
            except FileNotFoundError:  # removed in between, by the process before this one
                if not self.folder.is_dir():
                    raise
                continue
            with suppress(OSError):  # a file system without locks: there two runs are the caller's to keep apart
                fcntl.flock(lock, fcntl.LOCK_EX)
            if path.exists() and os.path.samestat(os.fstat(lock), path.stat()):
                break
            os.close(lock)  # the process before this one has finished the copy, and removed the file
        try:
            yield
        finally:
            os.close(lock)

    def _lock(self, journal: Path) -> int:
        lock = os.open(journal, os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise UserError(f"output: another process is writing {self.folder}") from None
        except OSError:
            pass  # as above
        return lock

    def _take_up(self) -> dict[str, Entry]:
        finished = self.folder / MANIFEST
        entries = {}
        if finished.exists():
            content = read_manifest(finished)
            self._check_same(finished, content)
            entries |= content["images"]
        for journal in sorted(self.folder.glob(JOURNALS)):
            if journal.name == self.journal or not self._is_of_this_run(journal):
                os.close(self._lock(journal))  # a run with another number of shares has to be at rest too
            made, images, _ = _read(journal)
            self._check_same(journal, made)
            entries |= images
        return entries

    def _is_of_this_run(self, journal: Path) -> bool:
        return journal.name == self.journal or (self.shares > 1 and journal.name.endswith(f"-of-{self.shares}.jsonl"))

    def _check_same(self, path: Path, there: dict[str, Any]) -> None:
        if difference := first_difference(self.made, there):
            key, theirs, ours = difference
            raise UserError(f"output: {path} says {key} {theirs}, this is {ours}; name another folder")

    def has(self, name: str, entry: Entry) -> bool:
        """Whether the image is there, and is the one that its entry is of."""
        return has_digest(self.folder / name, entry["sha256"])

    def add(self, name: str, entry: Entry, data: bytes) -> None:
        """Write an image, all or nothing, after its line in the journal."""
        with writing(self.folder):
            self._append({"name": name, **entry})
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        self.write(name, data)

    def _append(self, content: dict[str, Any]) -> None:
        # The line begins with its end of line, so that it stands alone even after one that was cut off.
        line = f"\n{json.dumps(content)}".encode()
        journal = os.open(self.folder / self.journal, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(journal, line)
        finally:
            os.close(journal)

    def write(self, name: str, data: bytes) -> None:
        """Write a file, all or nothing."""
        temporary = self.folder / PARTIAL / f"{self.share}-{os.getpid()}"
        with writing(self.folder):
            try:
                with temporary.open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())  # or a power cut could leave the name on an empty file
                temporary.replace(self.folder / name)
            finally:
                temporary.unlink(missing_ok=True)

    def end_share(self, images: dict[str, Entry], failures: dict[str, str]) -> None:
        """Write down that the share is done: its images, and why the others are not in the copy."""
        entries = ({"name": name, **entry} for name, entry in images.items())
        lines = map(json.dumps, (self.made, *entries, {"failures": failures}))
        self.write(self.journal, "\n".join(lines).encode())

    def gather(self, names: Collection[str]) -> tuple[dict[str, Entry], dict[str, str]] | None:
        """Put together what the shares have done; None where one is not done. Call it `alone`.

        Args:
            names: of all images.

        Returns:
            The entries of the images that are there, and why the others are not, by name.
        """
        if not (self.folder / self.journal).exists():  # another share has gathered all while this one waited
            return None
        images, failures = {}, {}
        if (self.folder / MANIFEST).exists():
            images |= read_manifest(self.folder / MANIFEST)["images"]
        for journal in sorted(self.folder.glob(JOURNALS), key=self._is_of_this_run):
            _, entries, failed = _read(journal)
            if failed is not None:
                images = {name: entry for name, entry in (images | entries).items() if name not in failed}
                failures = {name: why for name, why in (failures | failed).items() if name not in images}
            elif self._is_of_this_run(journal):
                return None
        images = {name: images[name] for name in names if name in images}
        return None if set(names) - images.keys() - failures.keys() else (images, failures)

    def finish(self, counts: dict[str, int], images: dict[str, Entry]) -> None:
        """Write ``manifest.json``, with a line for each image, and remove the journals. Call it `alone`."""
        head = json.dumps(self.made | counts, indent=2).removesuffix("\n}")
        lines = ",\n".join(f"    {json.dumps(name)}: {json.dumps(images[name])}" for name in sorted(images))
        self.write(MANIFEST, f'{head},\n  "images": {{\n{lines}\n  }}\n}}\n'.encode())
        with writing(self.folder):
            for journal in self.folder.glob(JOURNALS):
                journal.unlink()
            shutil.rmtree(self.folder / PARTIAL)


def read_manifest(path: Path) -> dict[str, Any]:
    """Read the manifest of a finished copy.

    Raises:
        UserError: it is missing, or none.
    """
    content = read_json(path, "only a copy that anonymize.py has finished has it")
    if not isinstance(content, dict) or not isinstance(content.get("images"), dict):
        raise UserError(f"{path}: is none of anonymize.py; name another folder, or remove this one")
    return content


def first_difference(wanted: dict[str, Any], there: dict[str, Any]) -> tuple[str, Any, Any] | None:
    """Find what a manifest says otherwise than wanted: the key, what it says, and what it should; None if nothing."""
    for key, value in wanted.items():
        other = there.get(key)
        if isinstance(value, dict) and isinstance(other, dict):
            if inner := first_difference(value | dict.fromkeys(other.keys() - value.keys()), other):
                return f"{key} of {inner[0]}", *inner[1:]
        elif other != value:
            return key, other, value
    return None


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def has_digest(path: Path, digest: str) -> bool:
    """Whether the file is there, and has that SHA-256."""
    return path.is_file() and sha256(path) == digest


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn an `OSError` into a `UserError` that says that ``folder`` cannot be written."""
    try:
        yield
    except OSError as error:
        raise UserError(f"output: {folder} cannot be written: {error.strerror or error}") from None


def _read(journal: Path) -> tuple[dict[str, Any], dict[str, Entry], dict[str, str] | None]:
    """What the copy is made of, the entries of a journal's images, and, where the share is done, its failures."""
    first, *lines = journal.read_text().split("\n")
    entries, failures = {}, None
    for line in lines:
        try:
            content = json.loads(line)
        except ValueError:
            continue  # cut off
        if "name" in content:
            entries[content.pop("name")] = content
        else:
            failures = content.get("failures")  # none where the share was begun once more
    return json.loads(first), entries, failures
