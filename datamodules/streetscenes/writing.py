"""Writes a whole set once: in parallel, and all or nothing."""

import json
import tempfile
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from errors import UserError
from processes import cores

LAYOUTS = ("cityscapes", "coco", "bdd100k")  # each a module of this package with write_scene and write_split
MANIFEST = "streetscenes.json"
DRAWING = 1  # raised whenever the same arguments draw other pictures


def write(
    layout: str,
    output: str | Path,
    train: int = 400,
    val: int = 100,
    seed: int = 0,
    size: tuple[int, int] = (160, 320),
    people: bool = True,
    workers: int | None = None,
) -> Path:
    """Draw StreetScenes into ``output`` unless the same set is there already.

    The folder appears under its name only when it is complete. What is drawn does not depend on ``workers``.

    Args:
        layout: ``cityscapes``, ``coco`` or ``bdd100k``.
        output: folder to create; its parents are created too.
        train: number of training images.
        val: number of validation images.
        seed: another seed is another set.
        size: height and width in pixels, of 32 or more.
        people: draw people and riders; without, the same streets are empty of them.
        workers: processes that draw; 0 draws in this one, None uses every core.

    Returns:
        ``output``.

    Raises:
        UserError: an argument is out of range, or ``output`` holds something else.
    """
    output = Path(output).resolve()  # what a link names is replaced, not the link
    size = (int(size[0]), int(size[1]))
    _check(layout, train, val, seed, size)
    arguments = {
        "drawing": DRAWING,
        "layout": layout,
        "train": train,
        "val": val,
        "seed": seed,
        "size": list(size),
        "people": people,
    }
    if _complete(output, arguments):
        return output
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        temporary_folder = tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent)
    except OSError as error:
        raise UserError(f"{output} cannot be written: {error.strerror or error}") from None
    with temporary_folder as temporary:
        fresh = Path(temporary) / output.name
        fresh.mkdir()
        draw = partial(_draw_one, layout, fresh, partial(_scene, seed=seed, size=size, people=people))
        _write_splits(layout, fresh, {"train": train, "val": val}, draw, cores() if workers is None else workers)
        (fresh / MANIFEST).write_text(json.dumps(arguments, indent=2) + "\n")
        try:
            fresh.replace(output)
        except OSError as error:
            # Another process may have finished the same set meanwhile.
            if not _complete(output, arguments):
                raise UserError(f"{output} cannot be written: {error.strerror or error}") from None
    return output


def _check(layout: str, train: int, val: int, seed: int, size: tuple[int, int]) -> None:
    if layout not in LAYOUTS:
        raise UserError(f"layout: {layout!r} is unknown; choose one of {', '.join(LAYOUTS)}")
    for key, value, least in (("train", train, 1), ("val", val, 0), ("seed", seed, 0)):
        if value < least:
            raise UserError(f"{key}: {value} is too small; it must be {least} or more")
    if min(size) < 32:
        raise UserError(f"size: {size[0]}x{size[1]} is too small; height and width must be 32 or more")


def _complete(output: Path, arguments: dict[str, Any]) -> bool:
    """Whether ``output`` holds this very set; raises ValueError if it holds anything else."""
    if not output.exists():
        return False
    manifest = output / MANIFEST
    if not manifest.is_file():
        if output.is_dir() and not any(output.iterdir()):
            return False
        raise UserError(f"{output}: holds something that is not StreetScenes; name a new or empty folder")
    from datamodules.files import read_json  # with NumPy, which a look at --help does not need

    there = read_json(manifest, f"it says what {output} holds")
    if not isinstance(there, dict):
        raise UserError(f"{manifest}: is not of StreetScenes; name another folder")
    for key, wanted in arguments.items():
        if there.get(key) != wanted:
            raise UserError(f"{manifest}: {key} is {there.get(key)}, not {wanted}; name another folder")
    return True


def _write_splits(layout: str, root: Path, counts: dict[str, int], draw: partial, workers: int) -> None:
    from datamodules.pool import process_map  # with torch, which a look at --help does not need

    jobs = [(split, index) for split, count in counts.items() for index in range(count)]
    records: dict[str, list[dict[str, Any]]] = {split: [] for split in counts}
    drawn = process_map(draw, jobs, workers if workers > 1 else 0, "drawing StreetScenes")
    for (split, _), record in zip(jobs, drawn, strict=True):
        records[split].append(record)
    writer = import_module(f".{layout}", __package__)
    for split, found in records.items():
        writer.write_split(root, split, found)


def _scene(split: str, index: int, **how: Any) -> Any:
    from .scene import draw_scene  # with numpy and OpenCV, which a look at --help does not need

    return draw_scene(split=split, index=index, **how)


def _draw_one(layout: str, root: Path, scene: partial, job: tuple[str, int]) -> dict[str, Any]:
    """Draw and write one scene; returns the writer's record of it."""
    writer = import_module(f".{layout}", __package__)
    return writer.write_scene(root, *job, scene(*job))
