"""Where vehicles lose that nobody can take for people: on images where people are near them, or everywhere.

Of the study's runs without the class person.

`python -m docs.occlusion > docs/study/occlusion.md`, once the scenes are drawn: `make study-copies`.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import numpy as np
from cityscapesscripts.helpers.labels import name2label
from PIL import Image
from scipy.ndimage import binary_dilation

from docs.fill_readme import README
from metrics.matches import Matches, read_matches
from reporting.comparison import compare
from reporting.results import Run, collect
from reporting.tables import as_markdown

VEHICLES = ("car", "truck", "bus", "train")
STUDY = README.parent / "docs" / "study" / "streetscenes_no_person"
LABELS = README.parent / "data" / "streetscenes_study" / "gtFine" / "val"


def share_near_people(image: str) -> float:
    """Give the share of an image's vehicles that come within two pixels of a person; 0 without a vehicle.

    Args:
        image: its id, e.g. ``birkenfurt_000044_000019``.
    """
    objects = np.array(Image.open(LABELS / image.split("_")[0] / f"{image}_gtFine_instanceIds.png"))
    near = binary_dilation(objects // 1000 == name2label["person"].id, iterations=2)
    labels = [name2label[name].id for name in VEHICLES]
    vehicles = [near[objects == o].any() for o in np.unique(objects) if o // 1000 in labels]
    return float(np.mean(vehicles)) if vehicles else 0.0


def tables() -> Iterator[str]:
    """Give a table each for the images of which few vehicles are near people, more are, and most are."""
    runs, _ = collect([STUDY])
    shares = np.array([share_near_people(image) for image in _masks(runs[0]).images])
    few, most = shares <= 1 / 3, shares >= 2 / 3
    between = "more than a third and less than two thirds"
    for words, chosen in (("at most a third", few), (between, ~(few | most)), ("at least two thirds", most)):
        (comparison,) = compare([_on(run, chosen) for run in runs])
        _, _, table = as_markdown(comparison).partition("\n\n")  # without its title
        yield f"Mask AP on the {chosen.sum()} of {len(shares)} images where {words} of the vehicles are near people:"
        yield table.strip()


def _on(run: Run, chosen: np.ndarray) -> Run:
    names = ["segm/AP", *(f"segm/AP_{name}" for name in VEHICLES)]
    values = {name: float(ap[0]) for name, ap in _masks(run).average_precision(chosen[None], names).items()}
    values["segm/AP_vehicles"] = fmean(values[f"segm/AP_{name}"] for name in VEHICLES)
    # Another path, for beside its own are the matches on all images, and the interval would be over these.
    return replace(run, path=Path("some images"), metrics={f"val/{name}": value for name, value in values.items()})


def _masks(run: Run) -> Matches:
    return next(m for m in read_matches(run.path.with_name("matches.npz")) if m.iou_type == "segm")


if __name__ == "__main__":
    print(
        "# Vehicles behind people",
        "The runs without the class person. AP is the mean over all seven classes, AP vehicles over "
        f"{', '.join(VEHICLES[:-1])} and {VEHICLES[-1]}. Made by `python -m docs.occlusion`.",
        *tables(),
        sep="\n\n",
    )
