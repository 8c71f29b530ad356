"""Data that several tests read."""

from pathlib import Path

import pytest
from hypothesis import settings

# On a busy machine a slow example is no failure.
settings.register_profile("anonbench", deadline=None)
settings.load_profile("anonbench")

# Real photographs with COCO's annotations; they lie beside the repository, not in it.
COCO_SAMPLE = Path(__file__).parents[2] / "shared" / "data" / "coco_sample"


@pytest.fixture(scope="session")
def coco_sample():
    if not COCO_SAMPLE.is_dir():
        pytest.skip("no COCO sample beside the repository")
    return COCO_SAMPLE


@pytest.fixture(scope="session")
def streetscenes(tmp_path_factory):
    """A few small StreetScenes in each layout: layout -> folder."""
    from datamodules.streetscenes import write

    root = tmp_path_factory.mktemp("streetscenes")
    layouts = ("cityscapes", "coco", "bdd100k")
    return {layout: write(layout, root / layout, train=6, val=3, size=(64, 128), workers=0) for layout in layouts}
