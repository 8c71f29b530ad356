"""How many images a core decodes each second, by library, beside Pillow.

    python -m benchmarks.decoding

The images have the sizes and formats of the real datasets; what they show is drawn (StreetScenes, enlarged), with noise
like a camera's, so that the files are about as large as the real ones (their sizes are printed). All libraries decode
the same files from the page cache to RGB, uint8, in turn, on one thread; rates are medians over the rounds.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torchvision.io import ImageReadMode, decode_image

from datamodules.streetscenes import write
from outputs import write_atomically

try:
    import simplejpeg  # libjpeg-turbo; no dependency of the project
except ImportError:
    simplejpeg = None

# Height, width, file type and camera noise (standard deviation of 255) of a training image.
DATASETS = {
    "Cityscapes": (1024, 2048, "png", 3.0),
    "COCO": (480, 640, "jpg", 6.0),
    "BDD100K": (720, 1280, "jpg", 3.0),
}
IMAGES = 8


def pillow(path: Path) -> np.ndarray:
    with Image.open(path) as file:
        return np.asarray(file.convert("RGB"))


def opencv(path: Path) -> np.ndarray:
    return cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def torchvision(path: Path) -> np.ndarray:
    return decode_image(str(path), ImageReadMode.RGB).permute(1, 2, 0).numpy()


def turbojpeg(path: Path) -> np.ndarray:
    return simplejpeg.decode_jpeg(path.read_bytes(), "RGB")


def draw(folder: Path, dataset: str) -> list[Path]:
    """Write images as large as a dataset's."""
    height, width, kind, noise = DATASETS[dataset]
    root = write("cityscapes", folder / dataset, train=IMAGES, val=1, size=(height // 2, width // 2), workers=0)
    rng = np.random.default_rng(0)
    files = []
    for path in sorted((root / "leftImg8bit" / "train").rglob("*.png")):
        with Image.open(path) as drawn:
            image = np.asarray(drawn.convert("RGB").resize((width, height)), np.float32)
        image = (image + rng.normal(0, noise, image.shape)).clip(0, 255).astype(np.uint8)
        files.append(folder / f"{dataset}-{path.stem}.{kind}")
        Image.fromarray(image).save(files[-1], **({"quality": 92} if kind == "jpg" else {}))
    return files


def rates(files: list[Path], rounds: int) -> dict[str, float]:
    """Images a second of each library that can read the files."""
    readers: dict[str, Callable[[Path], np.ndarray]] = {"Pillow": pillow, "OpenCV": opencv, "torchvision": torchvision}
    if simplejpeg and files[0].suffix == ".jpg":
        readers["simplejpeg"] = turbojpeg
    seconds: dict[str, list[float]] = {name: [] for name in readers}
    for file in files:
        expected = pillow(file).astype(int)
        for name, read in readers.items():
            assert np.abs(read(file) - expected).mean() < 1, name  # libjpegs differ by rounding
    for _ in range(rounds):
        for name, read in readers.items():
            start = time.perf_counter()
            for file in files:
                read(file)
            seconds[name].append((time.perf_counter() - start) / len(files))
    return {name: 1 / statistics.median(times) for name, times in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=Path, help="JSON file for the numbers")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    table, rows = Table("images", "library", box=None), {}
    for column in ("images/s", "ratio"):
        table.add_column(column, justify="right")
    with tempfile.TemporaryDirectory() as folder:
        for dataset, (height, width, kind, _) in DATASETS.items():
            files = draw(Path(folder), dataset)
            megabytes = statistics.mean(file.stat().st_size for file in files) / 1e6
            rows[dataset] = rates(files, arguments.rounds)
            for name, rate in rows[dataset].items():
                label = f"{dataset}: {height} × {width} {kind}, {megabytes:.2f} MB" if name == "Pillow" else ""
                table.add_row(label, name, f"{rate:.1f}", f"{rate / rows[dataset]['Pillow']:.2f}")
    Console().print(table)
    if arguments.output:
        write_atomically(arguments.output, json.dumps({"images_per_second": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
