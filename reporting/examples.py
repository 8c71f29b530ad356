"""The same training images under several conditions, side by side."""

from dataclasses import replace
from pathlib import Path

import matplotlib
import torch
from matplotlib.figure import Figure

from anonymization.conditions import parse_condition
from anonymization.engine import Anonymizer
from configs import Config
from datamodules.base import DetectionDataset
from datamodules.geometry import Geometry
from datamodules.layouts import build_datamodule

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
    columns = {condition: _dataset(config, condition) for condition in conditions}
    records = [dataset.records for dataset in columns.values()]
    peopled = [i for i, views in enumerate(zip(*records, strict=True)) if any(r.bodies or r.faces for r in views)]
    order = torch.randperm(len(peopled), generator=torch.Generator().manual_seed(config.seed))
    chosen = [peopled[i] for i in order[:count]]

    height, width = columns[conditions[0]].records[chosen[0]].size
    figure = Figure((WIDTH * len(conditions), WIDTH * height / width * len(chosen) + 0.3), dpi=DPI, layout="tight")
    axes = figure.subplots(len(chosen), len(conditions), squeeze=False)
    for column, (condition, dataset) in enumerate(columns.items()):
        anonymizer = Anonymizer(parse_condition(condition))
        for row, index in enumerate(chosen):
            image, _, regions = dataset[index]
            if regions is not None:
                (image,) = anonymizer([image], regions)
            axes[row, column].imshow(image.permute(1, 2, 0).numpy())
            axes[row, column].set_axis_off()
        axes[0, column].set_title(condition, fontsize=9)
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = output.with_name(f".{output.name}")
    with matplotlib.rc_context({"savefig.pad_inches": 0.05}):
        figure.savefig(temporary, format="png")
    temporary.replace(output)


def _dataset(config: Config, condition: str) -> DetectionDataset:
    datamodule = build_datamodule(replace(config, condition=condition))
    datamodule.prepare_data()
    datamodule.setup("fit")
    return DetectionDataset(
        datamodule.train,
        with_masks=False,
        with_keypoints=False,
        geometry=Geometry([]),
        region=datamodule.condition.region,
        seed=config.seed,
        training=True,
    )
