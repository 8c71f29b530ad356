"""An anonymized copy of a set of images: every file anonymized and written by itself, in any number of processes."""

import csv
import hashlib
import io
import platform
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from fnmatch import fnmatch
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
import PIL
import torch

from anonymization.engine import Anonymizer
from anonymization.regions import Regions
from datamodules.manifest import JOURNALS, MANIFEST, PARTIAL, Entry, Manifest, has_digest, sha256, writing
from datamodules.originals import Original
from datamodules.pictures import encode, encode_unchanged
from datamodules.pool import process_map
from datamodules.record import Record
from datamodules.regions import record_regions
from errors import UserError

FAILURES = "failures.csv"
GROUP = 8  # images at once where a generator draws the people: it is faster on many than on few

Outcome = tuple[str, Entry | None, str]  # an image's name; its entry, or None and why it is not in the copy


@dataclass
class Result:
    """What became of the images: their entries in the manifest, and why the others are not in the copy, by name.

    It is about all images where the copy is finished, else about those of a share.
    """

    images: dict[str, Entry] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    finished: bool = False

    @property
    def regions(self) -> int:
        """How many people's regions were anonymized."""
        return sum(len(entry["regions"]) for entry in self.images.values())

    @property
    def dropped(self) -> int:
        """How many people were left as they are because they are too small."""
        return sum(entry["dropped"] for entry in self.images.values())


def make_copy(
    original: Original,
    output: Path,
    anonymizer: Anonymizer,
    seed: int,
    device: str,
    workers: int,
    strict: bool,
    share: tuple[int, int] = (0, 1),
) -> Result:
    """Make a copy, or go on with it; list the images that fail in ``failures.csv``.

    Args:
        original: what is copied.
        output: folder of the copy.
        anonymizer: what happens to the people.
        seed: what their replacements are drawn from.
        device: that the anonymization runs on.
        workers: processes; 0 works in this one.
        strict: stop at the first failure, without a manifest.
        share: which of the shares of the images is made here, from 0, and how many there are. The copy is finished by
            whoever ends last.

    Raises:
        UserError: ``output`` overlaps with the original, holds something else, or cannot be written; or a generator
            cannot be loaded.
    """
    _check_apart(output, [original.root, *(original.root / name for name in (*original.linked, *original.names[:1]))])
    for name in original.names:
        if Path(name).parts[0] == PARTIAL or name in (MANIFEST, FAILURES) or fnmatch(name, JOURNALS):
            raise UserError(f"{original.root / name}: has a name that a copy keeps for itself; rename or remove it")
    made = {
        "condition": str(anonymizer.condition),
        "seed": seed,
        **({"generators": names} if (names := anonymizer.load()) else {}),
        "source": str(original.root.resolve()),
        **original.about,
        "linked": list(original.linked),
        "copied": list(original.copied),
        "device": device,
        "versions": {
            "python": platform.python_version(),
            **{module.__name__: str(module.__version__) for module in (cv2, np, PIL, torch)},
        },
    }
    manifest = Manifest(output, made, share)
    result = Result(failures=dict(original.problems))
    number, count = share
    names = original.names[number::count]
    with manifest.claimed() as former:
        with manifest.alone():
            for name in original.linked:
                _link(original.root / name, output / name)
            for name in original.copied:
                _copy(original.root / name, output / name, output / PARTIAL / "copy")
            with writing(output):
                (output / FAILURES).unlink(missing_ok=True)

        def is_done(name: str) -> bool:
            entry, source = former.get(name), original.root / name
            return bool(entry) and has_digest(source, entry["source_sha256"]) and manifest.has(name, entry)

        with ThreadPoolExecutor() as pool:
            there = list(pool.map(is_done, names))
        todo = [number + count * i for i, done in enumerate(there) if not done]
        result.images = {name: former[name] for name, done in zip(names, there, strict=True) if done}
        if result.images:
            print(f"{len(result.images)} of {len(names)} images are there from a former run")

        if todo and not (strict and result.failures):
            _run(Copier(original, manifest, anonymizer, seed, device), todo, workers, strict, result)
        if strict and result.failures:
            manifest.write(FAILURES, _table(result.failures))
            return result
        manifest.end_share(result.images, result.failures)
        with manifest.alone():
            if (gathered := manifest.gather(original.names)) is None:
                return result
            result = Result(*gathered, finished=True)
            if result.failures:
                manifest.write(FAILURES, _table(result.failures))
            counts = {"regions": result.regions, "dropped": result.dropped, "failures": len(result.failures)}
            manifest.finish(counts, result.images)
    return result


def _run(copier: "Copier", places: Sequence[int], workers: int, strict: bool, result: Result) -> None:
    size = GROUP if copier.anonymizer.condition.generators else 1
    groups = [places[i : i + size] for i in range(0, len(places), size)]
    description = f"anonymizing {size} images at a time" if size > 1 else "anonymizing"
    with closing(process_map(copier, groups, workers, description)) as group_outcomes:
        for name, entry, problem in chain.from_iterable(group_outcomes):
            if entry is not None:
                result.images[name] = entry
            else:
                result.failures[name] = problem
                if strict:
                    return


class Copier:
    """Anonymizes images into the copy; picklable."""

    def __init__(self, original: Original, manifest: Manifest, anonymizer: Anonymizer, seed: int, device: str) -> None:
        self.original, self.manifest = original, manifest
        self.anonymizer, self.seed, self.device = anonymizer, seed, device

    def __call__(self, places: Sequence[int]) -> list[Outcome]:
        """Anonymize images at once and write them.

        Raises:
            UserError: the copy cannot be written.
        """
        for place in places:
            self._clear(self.manifest.folder / self.original.names[place])
        try:
            made = self._anonymize([self.original.records[place] for place in places])
        except Exception as error:  # whatever it is, the image is not written, and the others are
            if len(places) > 1:
                return [outcome for place in places for outcome in self([place])]
            problem = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            return [(self.original.names[places[0]], None, problem)]
        outcomes: list[Outcome] = []
        for place, (data, entry) in zip(places, made, strict=True):
            self.manifest.add(self.original.names[place], entry, data)
            outcomes.append((self.original.names[place], entry, ""))
        return outcomes

    def _clear(self, target: Path) -> None:
        folder = self.manifest.folder
        if not target.parent.resolve().is_relative_to(folder.resolve()):
            raise UserError(f"output: {target.parent} is a link out of {folder}; remove it")
        with writing(folder):
            target.unlink(missing_ok=True)  # not finished, or not this copy's

    def _anonymize(self, records: Sequence[Record]) -> list[tuple[bytes, Entry]]:
        images = [record.read_image() for record in records]
        regions = [record_regions(record, self.anonymizer.condition.region, self.seed) for record in records]
        peopled = [i for i, own in enumerate(regions) if len(own)]
        results = {}
        if peopled:
            tensors = [torch.from_numpy(np.ascontiguousarray(images[i].transpose(2, 0, 1))) for i in peopled]
            batch = Regions.cat([regions[i] for i in peopled]).to(self.device)
            results = dict(zip(peopled, self.anonymizer([t.to(self.device) for t in tensors], batch), strict=True))
        made = []
        for i, (record, image, own) in enumerate(zip(records, images, regions, strict=True)):
            if i in results:
                data = encode(np.ascontiguousarray(results[i].permute(1, 2, 0).cpu().numpy()), record.path)
            else:
                data = encode_unchanged(image, record.path)
            entry = {
                "regions": own.paste_boxes.tolist(),
                "dropped": own.dropped,
                "source_sha256": sha256(record.path),
                "sha256": hashlib.sha256(data).hexdigest(),
            }
            made.append((data, entry))
        return made


def _check_apart(output: Path, sources: Sequence[Path]) -> None:
    target = output.resolve()
    for source in sources:
        resolved = source.resolve()
        if target.is_relative_to(resolved) or resolved.is_relative_to(target):
            raise UserError(f"output: {output} overlaps with the source {source}; name a folder beside it")


def _link(source: Path, target: Path) -> None:
    source = source.resolve()
    with writing(target):
        if not (target.is_symlink() and target.readlink() == source):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(source)


def _copy(source: Path, target: Path, temporary: Path) -> None:
    with writing(target):
        if not target.exists():
            shutil.rmtree(temporary, ignore_errors=True)
            (shutil.copytree if source.is_dir() else shutil.copyfile)(source, temporary)
            temporary.replace(target)


def _table(failures: dict[str, str]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "reason"])
    writer.writerows(sorted(failures.items()))
    return text.getvalue().encode(errors="surrogateescape")
