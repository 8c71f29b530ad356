"""Time and memory of reading a dataset: the first start, later starts, and what a loader's worker holds.

    python -m benchmarks.readers --files 300 --output readers.json

Draws annotation files as crowded as Cityscapes' and COCO's own, and starts on them in processes of their own:
- Cityscapes: the first start reads the polygons into an index, the later one opens it. Beside them, in one process,
  what a start without an index does with ``instanceIds.png``: decode it and compare it with each of its ids.
- COCO: the same; beside them pycocotools, which parses the JSON at every start.
- Memory: what a loader's worker has of its own and its share of what processes share (Pss_Anon: without files, of
  which the libraries' depend on who else runs), at the ends of two epochs, over an index and over a list of the same
  records.

A first start includes that of its worker processes, seconds that weigh the less the more files there are.
"""

import argparse
import json
import multiprocessing
import re
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from cityscapesscripts.helpers.annotation import Annotation
from cityscapesscripts.preparation.json2instanceImg import createInstanceImage
from faster_coco_eval.core import mask as mask_api
from PIL import Image
from pycocotools.coco import COCO
from torch.utils.data import DataLoader, Dataset

from benchmarks.peak import peak_memory
from configs import load_config
from datamodules.cityscapes import read_record
from datamodules.layouts import LAYOUTS
from datamodules.record import Record
from outputs import write_atomically

SIZE = (1024, 2048)
CITYSCAPES, COCO_IMAGES = 2975, 118_287  # images of the training splits
PLAIN = 20  # images that are read the plain way
EPOCHS = 2
RECORDS = (500, 5000)

# Of a street: label, objects, corners of each, and the middle half-axes in pixels.
STREET = [
    *(("sky", 1, 8, (1500, 900)), ("road", 1, 60, (900, 300)), ("building", 3, 80, (500, 350))),
    *(("vegetation", 4, 90, (350, 250)), ("sidewalk", 2, 40, (500, 100)), ("static", 5, 15, (50, 40))),
    *(("pole", 12, 8, (8, 150)), ("traffic sign", 6, 8, (20, 20)), ("car", 14, 40, (70, 45))),
    *(("person", 12, 35, (18, 50)), ("rider", 2, 35, (18, 50)), ("bicycle", 4, 40, (35, 35))),
    *(("persongroup", 1, 30, (80, 50)), ("ego vehicle", 1, 20, (1000, 80))),
]


def polygon(rng: np.random.Generator, corners: int, middle: tuple[float, float], size: tuple[int, int]) -> np.ndarray:
    """A star-shaped polygon in the image, float [corners, 2]."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radii = np.exp(rng.normal(0, 0.5)) * rng.uniform(0.7, 1.1, corners)
    centre = rng.uniform([0, 0.3 * size[0]], [size[1], 0.9 * size[0]])
    points = centre + np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii[:, None] * middle
    return points.clip(0, np.array(size[::-1]) - 1)


def write_cityscapes(root: Path, files: int) -> None:
    for folder in ("leftImg8bit", "gtFine"):
        for split in ("train", "val"):
            (root / folder / split / "town").mkdir(parents=True)
    picture = root / "picture.png"
    Image.new("RGB", SIZE[::-1]).save(picture)
    rng = np.random.default_rng(0)
    for number in range(files):
        objects = [
            {"label": label, "polygon": polygon(rng, corners, middle, SIZE).round().astype(int).tolist()}
            for label, count, corners, middle in STREET
            for _ in range(count)
        ]
        content = json.dumps({"imgHeight": SIZE[0], "imgWidth": SIZE[1], "objects": objects})
        for split in ("train", "val") if number == 0 else ("train",):
            stem = f"{split}/town/town_{number:06d}_000019"
            (root / "leftImg8bit" / f"{stem}_leftImg8bit.png").hardlink_to(picture)
            path = root / "gtFine" / f"{stem}_gtFine_polygons.json"
            path.write_text(content)
        if number < PLAIN:
            annotation = Annotation()
            annotation.fromJsonFile(path)
            ids = np.array(createInstanceImage(annotation, "ids"), np.uint16)
            Image.fromarray(ids).save(path.with_name(path.name.replace("polygons.json", "instanceIds.png")))


def write_coco(root: Path, images: int) -> None:
    """7.3 objects an image, of 1.1 polygons of 30 corners, as in instances_train2017.json."""
    rng = np.random.default_rng(0)
    (root / "annotations").mkdir(parents=True)
    for split, count in (("train", images), ("val", 1)):
        folder = root / f"{split}2017"
        folder.mkdir()
        picture = folder / "picture.jpg"
        Image.new("RGB", (640, 480)).save(picture)
        infos, annotations = [], []
        for id_ in range(count):
            name = f"{id_:012d}.jpg"
            (folder / name).hardlink_to(picture)
            infos.append({"id": id_, "file_name": name, "height": 480, "width": 640})
            for _ in range(rng.poisson(7.3)):
                polygons = [polygon(rng, 30, (60, 60), (480, 640)).round(2) for _ in range(1 + (rng.random() < 0.1))]
                points = np.concatenate(polygons)
                x, y, width, height = *points.min(0).tolist(), *np.ptp(points, axis=0).tolist()
                annotation = {"id": len(annotations), "image_id": id_, "category_id": int(rng.integers(1, 81))}
                annotation |= {"bbox": [x, y, width, height], "area": width * height / 2, "iscrowd": 0}
                annotations.append(annotation | {"segmentation": [p.ravel().tolist() for p in polygons]})
        categories = [{"id": id_, "name": f"class {id_}"} for id_ in range(1, 81)]
        content = {"images": infos, "annotations": annotations, "categories": categories}
        (root / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(content))


def data_module(layout: str, root: Path) -> Any:
    overrides = [f"data.root={root / layout}", f"data.index_dir={root / 'index'}"]
    return LAYOUTS[layout](load_config(f"configs/{layout}.yaml", overrides))


def start(layout: str, root: Path) -> dict[str, float]:
    """A run's start, from the data module to the list of training images."""
    module, memory, begin = data_module(layout, root), peak_memory(), time.perf_counter()
    module.setup("fit")
    return {"seconds": time.perf_counter() - begin, "images": len(module.train), "peak_mb": peak_memory() - memory}


def pycocotools_start(layout: str, root: Path) -> dict[str, float]:
    memory, begin = peak_memory(), time.perf_counter()
    coco = COCO(root / layout / "annotations" / "instances_train2017.json")
    return {"seconds": time.perf_counter() - begin, "images": len(coco.imgs), "peak_mb": peak_memory() - memory}


def from_polygons(layout: str, root: Path) -> dict[str, float]:
    images = sorted((root / layout).glob("leftImg8bit/train/*/*.png"))[:PLAIN]
    begin = time.perf_counter()
    objects = sum(len(read_record(image, []).instances) for image in images)
    return {"seconds": time.perf_counter() - begin, "images": len(images), "objects": objects}


def from_instance_ids(layout: str, root: Path) -> dict[str, float]:
    paths = sorted((root / layout).glob("gtFine/train/*/*_instanceIds.png"))
    begin = time.perf_counter()
    objects = 0
    for path in paths:
        ids = np.asarray(Image.open(path))
        for value in np.unique(ids):
            if value >= 24:
                mask = np.asfortranarray(ids == value, np.uint8)
                objects += mask_api.area(mask_api.encode(mask)) > 0
    return {"seconds": time.perf_counter() - begin, "images": len(paths), "objects": int(objects)}


class Probe(Dataset):
    """Reads records as a loader's worker does and says what memory that worker has, in MB; 0 for all but the last."""

    def __init__(self, records: Any) -> None:
        self.records = records

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, place: int) -> float:
        record: Record = self.records[place]
        if place < len(self) - 1 or not record.image_id:
            return 0.0
        smaps = Path("/proc/self/smaps_rollup").read_text()
        return int(re.search(r"^Pss_Anon: +(\d+) kB", smaps, re.MULTILINE)[1]) / 2**10


def worker_memory(layout: str, root: Path, count: int, as_list: bool) -> list[float]:
    """Of one of two workers, at the end of each epoch."""
    records = data_module(layout, root).read("train", "none")
    records = records.select(np.arange(len(records)) < count)
    loader = DataLoader(
        Probe(list(records) if as_list else records), 100, num_workers=2, persistent_workers=True, shuffle=False
    )
    return [max(batch.max().item() for batch in loader) for _ in range(EPOCHS)]


def apart(function: Any, *arguments: Any) -> Any:
    """Call a function in a new process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def show(name: str, row: dict[str, float], first: dict[str, float], total: int) -> None:
    rate = row["seconds"] / row["images"]
    ratio = rate / (first["seconds"] / first["images"])
    memory = f"{row['peak_mb']:10.0f}" if "peak_mb" in row else f"{'':10}"
    print(f"{name:38}{1000 * rate:10.2f}{ratio:10.3f}{rate * total:14.1f}{memory}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=600, help="Cityscapes polygon files")
    parser.add_argument("--images", type=int, default=RECORDS[1], help="COCO images, at least as many as records")
    parser.add_argument("--output", type=Path, help="JSON file for the numbers")
    arguments = parser.parse_args()
    report = {"files": arguments.files, "images": arguments.images}

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        # Apart: a process starts with the peak of the one that starts it.
        apart(write_cityscapes, root / "cityscapes", arguments.files)
        apart(write_coco, root / "coco_instances", max(arguments.images, RECORDS[1]))
        groups = {
            "cityscapes": {
                "first start": start,
                "later start": start,
                "one process, polygons": from_polygons,
                "one process, instanceIds.png": from_instance_ids,
            },
            "coco_instances": {"first start": start, "later start": start, "pycocotools": pycocotools_start},
        }
        for (layout, contenders), total in zip(groups.items(), (CITYSCAPES, COCO_IMAGES), strict=True):
            print(f"\n{layout:38}{'ms/image':>10}{'ratio':>10}{f's for {total}':>14}{'peak MB':>10}")
            report[layout] = {}
            for name, function in contenders.items():
                report[layout][name] = row = apart(function, layout, root)
                show(name, row, report[layout]["first start"], total)
        print(f"\n{'memory of a worker, MB':38}{'epoch 1':>10}{'epoch 2':>10}")
        report["worker_memory"] = {}
        for as_list in (False, True):
            for count in RECORDS:
                name = f"{'list' if as_list else 'index'} of {count} records"
                row = apart(worker_memory, "coco_instances", root, count, as_list)
                report["worker_memory"][name] = row
                print(f"{name:38}{row[0]:10.1f}{row[1]:10.1f}")
    if arguments.output:
        write_atomically(arguments.output, json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
