"""People per second of the realistic methods, beside the authors' way.

    python -m benchmarks.generators --output generators.json

Everybody is a pedestrian of StreetScenes, cut as in training. The methods run on as many people at once as --chunk
says, and on one person at a time; the authors' way (Hukkelås & Lindseth 2023) is one person at a time with the whole
generator in every step, gradients of all its weights, histograms of 256 exponentials per pixel, and scikit-image.
It does the first few of the people only. All share a process and a generator; times are medians of rounds in which
each has its turn, ratios are to the batch. Memory is what one run adds to the peak of a process of its own that has
read the generator and has the crops.
"""

import argparse
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from anonymization.boxes import BODY_CROP
from anonymization.engine import anonymize
from anonymization.generators import load_generator
from anonymization.generators.base import Generator, LatentGenerator
from anonymization.methods.base import Crops
from anonymization.methods.histogram import RealisticHM
from anonymization.methods.latent_optimization import RealisticHMLO
from anonymization.methods.realistic import Realistic
from anonymization.options import Generators
from anonymization.regions import Regions, body_regions
from benchmarks.peak import peak_memory
from datamodules.streetscenes.scene import draw_scene
from outputs import write_atomically
from tests.anonymization import realistic_reference as reference
from tests.anonymization.generators import StandIn

# Ours, and the authors' way.
METHODS = {
    "realistic": (Realistic, reference.realistic),
    "realistic_hm": (RealisticHM, reference.realistic_hm),
    "realistic_hm_lo": (RealisticHMLO, reference.realistic_hm_lo),
}
AUTHORS = "the authors' way"
SCENE_SIZE = (512, 1024)


def draw_people(people: int, device: torch.device) -> Crops:
    """The crops of the first pedestrians of StreetScenes, each cut from the image as it was drawn."""
    parts: list[Crops] = []

    def collect(crops: Crops) -> Tensor:
        parts.append(crops)
        return crops.images

    for index in count():
        scene = draw_scene(0, "train", index, SCENE_SIZE)
        persons = [i for i, item in enumerate(scene.objects) if item.label == "person"]
        masks = (scene.owners == i for i in persons)
        seeds, poses = [1000 * index + i for i in persons], [scene.objects[i].keypoints for i in persons]
        regions: Regions = body_regions(masks, SCENE_SIZE, seeds, poses)
        anonymize([torch.from_numpy(np.ascontiguousarray(scene.image.transpose(2, 0, 1)))], regions, collect)
        if sum(map(len, parts)) >= people:
            break
    columns = {f.name: torch.cat([getattr(part, f.name) for part in parts])[:people] for f in fields(Crops)}
    return Crops(**{name: column if name == "seeds" else column.to(device) for name, column in columns.items()})


def load(spec: str) -> Generator:
    """What ``spec`` names; "stand-in" is the tests' untrained network, wide enough to take a generator's time."""
    if spec == "stand-in":
        return StandIn(BODY_CROP, width=24, depth=4).requires_grad_(False)
    return load_generator("--generator", spec, BODY_CROP)


def seconds(function: Callable[[Crops], object], crops: Crops) -> float:
    """Seconds a person."""
    start = time.perf_counter()
    function(crops)
    if crops.images.is_cuda:
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / len(crops)


def contenders(method: str, generator: Generator, chunk: int) -> dict[str, Callable[[Crops], object]]:
    """What anonymizes crops by ``method``; the last is the authors' way."""
    ours, authors = METHODS[method]
    return {
        f"{chunk} at once": ours(generator, chunk),
        "one at a time": ours(generator, 1),
        AUTHORS: partial(authors, generator),
    }


def people_of(name: str, crops: Crops, few: int) -> Crops:
    """Those that a contender anonymizes."""
    return Crops(*(getattr(crops, field.name)[:few] for field in fields(Crops))) if name == AUTHORS else crops


def peak_growth(spec: str, method: str, name: str, crops: Crops, chunk: int, threads: int) -> float:
    """Megabytes that one run of a contender adds to the peak of this process, on the CPU."""
    torch.set_num_threads(threads)
    contender = contenders(method, load(spec), chunk)[name]
    before = peak_memory()
    contender(crops)
    return peak_memory() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", default="weights/streetscenes_body.safetensors", help="or stand-in")
    parser.add_argument("--people", type=int, default=32)
    parser.add_argument("--authors-people", type=int, default=2, help="of them, for the authors' way")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--chunk", type=int, default=Generators.chunk, help="people at once")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--output", type=Path, help="JSON file for the numbers")
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    generator = load(arguments.generator).to(arguments.device)
    crops = draw_people(arguments.people, arguments.device)
    few = people_of(AUTHORS, crops, arguments.authors_people)
    # A process that this one starts by itself would begin with this one's peak.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.generators"])

    table = Table("method", "", box=None)
    for column in ("people/s", "ms a person", "ratio", "MB"):
        table.add_column(column, justify="right")
    rows = []
    for method in METHODS:
        if method == "realistic_hm_lo" and not isinstance(generator, LatentGenerator):
            continue
        functions = contenders(method, generator, arguments.chunk)
        times: dict[str, list[float]] = {name: [] for name in functions}
        Realistic(generator)(few)  # warm-up
        for _ in range(arguments.rounds):
            for name, function in functions.items():
                times[name].append(seconds(function, people_of(name, crops, arguments.authors_people)))
        medians = {name: statistics.median(values) for name, values in times.items()}
        batch = next(iter(medians.values()))
        for name, value in medians.items():
            own = people_of(name, crops, arguments.authors_people).to(torch.device("cpu"))
            with context.Pool(1) as pool:
                task = arguments.generator, method, name, own, arguments.chunk, arguments.threads
                peak = pool.apply(peak_growth, task)
            row = {"method": method, "name": name, "ms": 1000 * value, "ratio": value / batch, "peak_mb": peak}
            rows.append(row)
            first = method if value is batch else ""
            table.add_row(first, name, f"{1 / value:.2f}", f"{row['ms']:.1f}", f"{row['ratio']:.2f}", f"{peak:.0f}")
    console = Console(width=100)
    console.print(table)
    about = {"generator": generator.name, "device": str(arguments.device), "threads": arguments.threads}
    if isinstance(generator, LatentGenerator):
        for key, people in (("images_per_person", crops), ("images_per_person_authors", few)):
            about[key] = RealisticHMLO(generator).search(people)[1].double().mean().item()
        console.print(
            f"realistic_hm_lo generates {about['images_per_person']:.1f} images a person; "
            f"{about['images_per_person_authors']:.1f} of those whom the authors' way does."
        )
    if arguments.output:
        write_atomically(arguments.output, json.dumps({**about, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
