"""Time and memory of anonymizing an image, beside the authors' procedure and deface's filters.

    python -m benchmarks.anonymization --output anonymization.json

Every contender runs in a process of its own, over the same drawn scenes, each of which it sees for the first time:
people of 30 to 500 pixels' height. Times are medians per image, with the part spent on the regions, which data-loader
workers make; ratios are to anonbench; memory is the growth of the process's peak. The reference works person by
person on full-size masks, as Hukkelås & Lindseth 2023 do. deface gets the boxes of the faces, and a copy of the image
to change; where anonbench resizes a face to blur it by its own size, deface filters the image's pixels.
"""

import argparse
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from anonymization.conditions import parse_condition
from anonymization.engine import Anonymizer
from anonymization.regions import Regions, body_regions, face_regions
from benchmarks.peak import peak_memory
from outputs import write_atomically
from tests.anonymization import reference

try:
    from deface.deface import draw_det
except ImportError:
    draw_det = None

SIZES = (((480, 640), 3), ((1024, 2048), 5), ((1024, 2048), 20), ((1024, 2048), 60))  # COCO has 2.7 people per image
CONDITIONS = ("body/blur", "body/mask_out", "face/blur", "face/mask_out")


class Scene(NamedTuple):
    image: torch.Tensor  # uint8 [3, H, W]
    frame: np.ndarray  # the same as deface reads it, uint8 [H, W, 3]
    masks: np.ndarray  # bool [N, H, W]
    faces: np.ndarray  # float [N, 4]


# What makes the regions of a scene (or nothing), and what anonymizes the scene with them.
Contender = tuple[Callable[[Scene], Regions | None], Callable[[Scene, Regions | None], object]]


def draw(index: int, size: tuple[int, int], people: int) -> Scene:
    """People as ellipses with a head, their heights log-uniform, anywhere in an image of noise."""
    rng = np.random.default_rng(index)
    masks, faces = np.zeros((people, *size), np.uint8), np.empty((people, 4))
    for mask, face in zip(masks, faces, strict=True):
        h = np.exp(rng.uniform(np.log(30), np.log(min(500, size[0]))))
        w, head = h * rng.uniform(0.3, 0.5), h / 8
        x, y = rng.uniform(w / 2, size[1] - w / 2), rng.uniform(h / 2, size[0] - h / 2)
        for middle, width, height in ((y + head / 2, w, h - head), (y - h / 2 + head / 2, 0.8 * head, head)):
            cv2.ellipse(mask, (round(x), round(middle)), (round(width / 2), round(height / 2)), 0, 0, 360, 1, -1)
        face[:] = x - 0.4 * head, y - h / 2, x + 0.4 * head, y - h / 2 + head
    frame = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    image = torch.from_numpy(np.ascontiguousarray(frame.transpose(2, 0, 1)))
    return Scene(image, frame, masks.view(bool), faces)


def anonbench(region: str, method: str) -> Contender:
    anonymizer = Anonymizer(parse_condition(f"{region}/{method}"))

    def regions(scene: Scene) -> Regions:
        size, seeds = scene.frame.shape[:2], range(len(scene.faces))
        return body_regions(scene.masks, size, seeds) if region == "body" else face_regions(scene.faces, size, seeds)

    return regions, lambda scene, regions: anonymizer([scene.image], regions)


def procedure(region: str, method: str) -> Contender:
    function = {"blur": reference.blur, "mask_out": reference.mask_out}[method]

    def anonymize(scene: Scene, _: None) -> torch.Tensor:
        if region == "body":
            return reference.anonymize_bodies(scene.image, torch.from_numpy(scene.masks), function)
        return reference.anonymize_faces(scene.image, scene.faces, function)

    return lambda scene: None, anonymize


def deface(method: str, ellipse: bool) -> Contender:
    replacewith = {"blur": "blur", "mask_out": "solid"}[method]

    def anonymize(scene: Scene, _: None) -> np.ndarray:
        frame = scene.frame.copy()
        for index, (x0, y0, x1, y1) in enumerate(scene.faces.round().astype(int).tolist()):
            draw_det(frame, 1.0, index, x0, y0, x1, y1, replacewith=replacewith, ellipse=ellipse)
        return frame

    return lambda scene: None, anonymize


def contenders(condition: str) -> dict[str, Callable[[], Contender]]:
    region, method = condition.split("/")
    found = {"anonbench": partial(anonbench, region, method), "reference": partial(procedure, region, method)}
    if region == "face" and draw_det is not None:
        found["deface, boxes"] = partial(deface, method, ellipse=False)
        if method == "blur":
            found["deface, ellipses"] = partial(deface, method, ellipse=True)
    return found


def measure(
    condition: str, name: str, size: tuple[int, int], people: int, images: int, threads: int
) -> dict[str, float]:
    """Median milliseconds per image and growth of the peak memory (MB) of one contender."""
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    regions, anonymize = contenders(condition)[name]()
    small = draw(0, (64, 64), 1)
    anonymize(small, regions(small))

    memory, times = 0.0, []
    # As many other scenes first, so that what anonbench keeps from image to image is there.
    for index in range(2 * images if name == "anonbench" else images):
        scene = draw(index, size, people)
        before, start = peak_memory(), time.perf_counter()
        given = regions(scene)
        middle = time.perf_counter()
        anonymize(scene, given)
        times.append((middle - start, time.perf_counter() - start))
        memory += peak_memory() - before
    regions_ms, total_ms = (1000 * statistics.median(column) for column in zip(*times[-images:], strict=True))
    return {"regions_ms": regions_ms, "total_ms": total_ms, "peak_mb": memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20, help="timed per contender; of the reference 3")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, help="JSON file for the numbers")
    arguments = parser.parse_args()

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["anonymization.engine", "tests.anonymization.reference"])
    table = Table("image, people", "condition", "", box=None)
    for column in ("images/s", "ms", "in regions", "ratio", "MB"):
        table.add_column(column, justify="right")
    rows = []
    for condition, (size, people) in product(CONDITIONS, SIZES):
        ours = 0.0
        for name in contenders(condition):
            images = min(arguments.images, 3) if name == "reference" else arguments.images
            with context.Pool(1) as pool:
                row = pool.apply(measure, (condition, name, size, people, images, arguments.threads))
            ours = ours or row["total_ms"]
            row |= {"size": size, "people": people, "condition": condition, "name": name}
            row["ratio"] = row["total_ms"] / ours
            rows.append(row)
            first = (f"{size[0]} × {size[1]}, {people}", condition) if name == "anonbench" else ("", "")
            numbers = 1000 / row["total_ms"], row["total_ms"], row["regions_ms"], row["ratio"], row["peak_mb"]
            digits = 1, 1, 1, 2, 0
            table.add_row(*first, name, *(f"{n:.{d}f}" for n, d in zip(numbers, digits, strict=True)))
    console = Console(width=100)
    console.print(table)
    if draw_det is None:
        console.print("deface is not installed: its filters were not measured.")
    if arguments.output:
        write_atomically(arguments.output, json.dumps({"threads": arguments.threads, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
