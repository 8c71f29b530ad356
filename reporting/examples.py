"""The same training images under several conditions: side by side on a sheet, or as pictures of their own."""

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from anonymization.conditions import parse_condition
from anonymization.engine import Anonymizer, cut
from anonymization.regions import Regions
from configs import Config
from datamodules.base import DetectionDataset
from datamodules.geometry import Geometry
from datamodules.layouts import build_datamodule
from errors import UserError
from reporting.figures import REGIONS, save_figure

SIDE = 3.2  # inches of the longer side of an image
GAP = 0.06  # inches between pictures
TITLE, NAME, LINE = 0.38, 0.17, 0.14  # inches of a column's title, an image's name, a line of the caption
LETTERS = 15  # of the caption, an inch
DPI = 200
MOST = 90  # images on a sheet: Matplotlib draws 2^16 pixels in height
OUTLINE = "#ffe119"  # seen on clothes as on asphalt, and no condition's colour

LARGEST = 960  # pixels of the longer side of a picture for a page
QUALITY = 90  # of its JPEG

METHODS = {
    "blur": "blurred",
    "mask_out": "masked out",
    "pixelate": "pixelated",
    "realistic": "generated",
    "realistic_refined": "generated, large ones again in more detail",
    "realistic_hm": "generated, with histogram matching",
    "realistic_hm_lo": "generated, with latent optimization",
}

# What is side by side in the paper's examples.
PAPER = "Hukkelås & Lindseth (2023), figures 1-17"
PAPER_COLUMNS = {
    (dataset, *(f"{region}/{method}" for method in ("blur", "mask_out", "realistic")))
    for dataset in ("cityscapes", "bdd100k")
    for region in ("face", "body")
} | {("cityscapes", "body/realistic", "body/realistic_hm", "body/realistic_hm_lo")}


@dataclass(frozen=True)
class Example:
    """A training image as it is and under conditions, as JPEG files."""

    image_id: str
    original: bytes
    anonymized: dict[str, bytes]  # by condition


@dataclass(frozen=True)
class Scene:
    """A training image under several conditions.

    Attributes:
        image_id: the dataset's.
        images: of each condition: uint8 [3, H, W].
        regions: of each condition: what was replaced, None for ``original``.
    """

    image_id: str
    images: dict[str, Tensor]
    regions: dict[str, Regions | None]

    @property
    def people(self) -> Regions:
        """The bodies, or the faces where no condition is about bodies; from the smallest to the largest."""
        regions = [r for r in self.regions.values() if r is not None]
        return next((r for r in regions if r.region == "body"), regions[0])


def in_words(condition: str) -> str:
    """Say what is done to people, e.g. ``"faces blurred"``.

    Raises:
        UserError: there is no such condition.
    """
    parsed = parse_condition(condition)
    return "as recorded" if parsed.region == "none" else f"{REGIONS[parsed.region]} {METHODS[parsed.method]}"


def write_sheet(
    config: Config,
    conditions: list[str],
    count: int,
    seed: int,
    output: Path,
    *,
    outline: bool = False,
    people: bool = False,
) -> None:
    """Draw a sheet: a row an image, a column a condition, and below what is shown, in words.

    The images are drawn at random from those with anybody to anonymize; they are not augmented. Originals are shown
    only where ``original`` is among the conditions.

    Args:
        config: names the dataset, the generators, and the seed of the people drawn by them.
        conditions: names, e.g. ``["original", "body/blur"]``.
        count: images, at most.
        seed: chooses the images.
        output: PNG or SVG file.
        outline: draw a thin line around what was replaced (of ``original``: around the people).
        people: show the largest person of each image (where no condition is about bodies: the largest face), as methods
            see it, beside the whole.

    Raises:
        UserError: there is nobody to anonymize, the dataset is not in order, or the file cannot be written.
    """
    scenes = list(_scenes(config, conditions, count, seed))
    rows = [_row(scene, people) for scene in scenes]
    column = max(sum(wide + GAP for _, wide, _ in row[0]) for row in rows) + GAP
    width = column * len(conditions)
    caption = _caption(config.data.name, conditions, [scene.image_id for scene in scenes], seed, outline, people)
    lines = textwrap.wrap(caption, width=int(width * LETTERS))
    height = TITLE + sum(row[0][0][2] + NAME for row in rows) + LINE * (len(lines) + 1)

    figure = Figure((width, height), dpi=DPI)
    for place, condition in enumerate(conditions):
        x = (GAP + place * column) / width
        figure.text(x, 1 - 0.17 / height, condition, fontsize=9, weight="bold")
        figure.text(x, 1 - 0.31 / height, in_words(condition), fontsize=8)
    y = height - TITLE
    for scene, row in zip(scenes, rows, strict=True):
        for place, (condition, pictures) in enumerate(zip(conditions, row, strict=True)):
            x = GAP + place * column
            for number, (picture, wide, high) in enumerate(pictures):
                axes = figure.add_axes((x / width, (y - high) / height, wide / width, high / height))
                axes.imshow(picture.permute(1, 2, 0).numpy(), aspect="auto")
                axes.set_axis_off()
                x += wide + GAP
                if outline and number == 0:
                    replaced = scene.regions[condition]
                    _outline(axes, scene.people if replaced is None else replaced, picture.shape[1:])
        y -= row[0][0][2] + NAME
        figure.text(GAP / width, (y + 0.05) / height, scene.image_id, fontsize=7, color="#555555")
    figure.text(GAP / width, (y - 0.05) / height, "\n".join(lines), fontsize=8, verticalalignment="top")
    save_figure(figure, output)


def example_pairs(config: Config, conditions: list[str], count: int, seed: int) -> list[Example]:
    """Make pictures to lay one over the other: the images of `write_sheet`, scaled down where they are large.

    Args:
        config: see `write_sheet`.
        conditions: to lay over ``original``, which need not be among them.
        count: images, at most.
        seed: chooses the images.

    Raises:
        UserError: there is nobody to anonymize, or the dataset is not in order.
    """
    examples = []
    for scene in _scenes(config, ["original", *conditions], count, seed):
        pictures = {condition: _jpeg(image) for condition, image in scene.images.items()}
        examples.append(Example(scene.image_id, pictures.pop("original"), pictures))
    return examples


def _scenes(config: Config, conditions: list[str], count: int, seed: int) -> Iterator[Scene]:
    if not 1 <= count <= MOST:
        raise UserError(f"--images: {count} is not from 1 to {MOST}")
    if set(conditions) == {"original"}:
        raise UserError("--conditions: original: anonymizes nobody; name another one too, such as body/blur")
    datasets, anonymizers = zip(*(_dataset(config, condition) for condition in conditions), strict=True)
    left = count
    for index in torch.randperm(len(datasets[0]), generator=torch.Generator().manual_seed(seed)).tolist():
        records = [dataset.records[index] for dataset in datasets]
        if not any(record.bodies or record.faces for record in records):
            continue
        images, regions = {}, {}
        for condition, dataset, anonymizer in zip(conditions, datasets, anonymizers, strict=True):
            image, _, regions[condition] = dataset[index]
            images[condition] = image if regions[condition] is None else anonymizer([image], regions[condition])[0]
        scene = Scene(records[0].image_id, images, regions)
        if len(scene.people):  # not so if all are too small
            yield scene
            left -= 1
        if left == 0:
            return
    if left == count:
        raise UserError(f"{config.data.root}: {' '.join(conditions)}: no training image has anybody to anonymize")


def _dataset(config: Config, condition: str) -> tuple[DetectionDataset, Anonymizer]:
    # Even where a run trains on a copy, the originals under each condition are shown.
    anonymization = replace(config.anonymization, copy=None)
    datamodule = build_datamodule(replace(config, condition=condition, anonymization=anonymization))
    datamodule.prepare_data()
    datamodule.setup("fit")
    dataset = DetectionDataset(
        datamodule.train,
        with_masks=False,
        with_keypoints=False,
        geometry=Geometry([]),
        region=datamodule.condition.region,
        seed=config.seed,
        anonymization_seed=config.anonymization_seed,
        training=True,
    )
    return dataset, datamodule.anonymizer


def _row(scene: Scene, people: bool) -> list[list[tuple[Tensor, float, float]]]:
    """The pictures of each condition, uint8 [3, H, W], with their width and height in inches."""
    _, height, width = next(iter(scene.images.values())).shape
    high = SIDE * height / max(height, width)
    row = []
    for image in scene.images.values():
        pictures = [image]
        if people:
            pictures.append(cut([image], scene.people).images[-1])  # the last one is the largest
        row.append([(p, high * p.shape[2] / p.shape[1], high) for p in pictures])
    return row


def _outline(axes: Axes, regions: Regions, size: tuple[int, int]) -> None:
    start = 0
    for x0, y0, x1, y1 in regions.paste_boxes.tolist():
        area = (x1 - x0) * (y1 - y0)
        mask = np.zeros((y1 - y0 + 2, x1 - x0 + 2), np.uint8)  # with a border, so that every line closes
        mask[1:-1, 1:-1] = regions.paste_masks[start : start + area].view(y1 - y0, x1 - x0)
        start += area
        axes.contour(np.arange(x0 - 1, x1 + 1), np.arange(y0 - 1, y1 + 1), mask, [0.5], colors=OUTLINE, linewidths=0.5)
    axes.set(xlim=(-0.5, size[1] - 0.5), ylim=(size[0] - 0.5, -0.5))


def _caption(dataset: str, conditions: list[str], image_ids: list[str], seed: int, outline: bool, people: bool) -> str:
    several = len(image_ids) > 1
    sentences = [
        f"{dataset}, training image{'s' if several else ''} {', '.join(image_ids)}, "
        f"chosen at random among those with people (seed {seed}): "
        + ", ".join(in_words(condition) for condition in conditions)
        + "."
    ]
    if people:
        largest = "person" if any(parse_condition(condition).region == "body" for condition in conditions) else "face"
        sentences.append(f"Beside {'each' if several else 'it'}, its largest {largest}, enlarged.")
    if outline:
        sentences.append("The line goes around what is replaced.")
    if (dataset, *(condition for condition in conditions if condition != "original")) in PAPER_COLUMNS:
        sentences.append(f"Conditions as in {PAPER}.")
    return " ".join(sentences)


def _jpeg(image: Tensor) -> bytes:
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    picture.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    file = BytesIO()
    picture.save(file, "JPEG", quality=QUALITY, subsampling=0)
    return file.getvalue()
