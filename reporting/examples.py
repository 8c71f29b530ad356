"""The same training images under several conditions, side by side."""

from dataclasses import replace
from pathlib import Path

import matplotlib
import torch
from matplotlib.figure import Figure
from torch import Tensor

from anonymization.conditions import parse_condition
from anonymization.engine import Anonymizer, cut
from anonymization.regions import Regions
from configs import Config
from datamodules.base import DetectionDataset
from datamodules.geometry import Geometry
from datamodules.layouts import build_datamodule
from errors import UserError

WIDTH = 3.2  # inches of one picture
DPI = 100


def side_by_side(config: Config, conditions: list[str], count: int, output: Path) -> None:
    """Draw a sheet: a row an image, a column a condition.

    The images are drawn by the config's seed from those with at least one person; they are not augmented.

    Args:
        config: names the dataset and the seed.
        conditions: names, e.g. ``["original", "body/blur"]``.
        count: how many images.
        output: PNG file.
    """
    columns = [_dataset(config, condition) for condition in conditions]
    chosen = _peopled([dataset for dataset, _ in columns], config.seed)[:count]
    views = [[_anonymized(*column, index)[0] for column in columns] for index in chosen]
    _write(views, conditions, WIDTH, output)


def people_side_by_side(config: Config, conditions: list[str], count: int, output: Path) -> None:
    """Draw a sheet: a row a person, cut from its image as methods see it, and a column a condition.

    The images are drawn by the config's seed; of each its largest person is shown. All conditions are of one region,
    or ``original``.

    Args:
        config: names the dataset and the seed.
        conditions: names, e.g. ``["original", "body/blur"]``.
        count: how many people.
        output: PNG file.

    Raises:
        UserError: the conditions are of several regions, or of none.
    """
    regions = {parse_condition(condition).region for condition in conditions} - {"none"}
    if len(regions) != 1:
        raise UserError(f"--people: {' '.join(conditions)}: give conditions of one region, body or face")
    columns = [_dataset(config, condition) for condition in conditions]
    views = []
    for index in _peopled([dataset for dataset, _ in columns], config.seed):
        images, regions = zip(*(_anonymized(*column, index) for column in columns), strict=True)
        people = next(region for region in regions if region is not None)
        if len(people):  # not so if all are too small
            views.append([cut([image], people).images[-1] for image in images])  # the last one is the largest
        if len(views) == count:
            break
    _write(views, conditions, WIDTH / 2, output)


def _peopled(datasets: list[DetectionDataset], seed: int) -> list[int]:
    """The images with anybody to anonymize under any of the conditions, in an order of the seed."""
    records = zip(*(dataset.records for dataset in datasets), strict=True)
    peopled = [i for i, views in enumerate(records) if any(r.bodies or r.faces for r in views)]
    return [peopled[i] for i in torch.randperm(len(peopled), generator=torch.Generator().manual_seed(seed))]


def _anonymized(dataset: DetectionDataset, anonymizer: Anonymizer, index: int) -> tuple[Tensor, Regions | None]:
    image, _, regions = dataset[index]
    return anonymizer([image], regions)[0] if regions is not None else image, regions


def _write(views: list[list[Tensor]], titles: list[str], width: float, output: Path) -> None:
    """Write rows of pictures, uint8 [3, H, W], each ``width`` inches wide, under their columns' titles."""
    tallest = max(image.shape[1] / image.shape[2] for row in views for image in row)
    figure = Figure((width * len(titles), width * tallest * len(views) + 0.3), dpi=DPI, layout="tight")
    axes = figure.subplots(len(views), len(titles), squeeze=False)
    for row, images in enumerate(views):
        for column, image in enumerate(images):
            axes[row, column].imshow(image.permute(1, 2, 0).numpy())
            axes[row, column].set_axis_off()
    for column, title in enumerate(titles):
        axes[0, column].set_title(title, fontsize=9)
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = output.with_name(f".{output.name}")
    with matplotlib.rc_context({"savefig.pad_inches": 0.05}):
        figure.savefig(temporary, format="png")
    temporary.replace(output)


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
