"""What docs/study/occlusion.md is made with."""

import numpy as np
import pytest
from PIL import Image

from docs import occlusion
from reporting.results import collect

PERSON, RIDER, CAR, BUS = (1000 * label for label in (24, 25, 26, 28))


@pytest.mark.parametrize(
    ("objects", "share"),
    [
        ({}, 0),
        ({CAR: (5, 10), BUS: (30, 40)}, 0),
        ({CAR: (5, 10), BUS: (30, 40), PERSON: (11, 14)}, 1 / 2),
        ({CAR: (5, 10), BUS: (30, 40), PERSON: (12, 14)}, 0),
        ({CAR: (5, 10), BUS: (30, 40), RIDER: (11, 14)}, 0),
        ({CAR: (5, 10), CAR + 1: (30, 40), CAR + 2: (42, 45), PERSON: (20, 29), PERSON + 1: (40, 42)}, 2 / 3),
    ],
    ids=["empty", "nobody", "a pixel between", "two between", "a rider", "two cars of three"],
)
def test_share_near_people(objects, share, tmp_path, monkeypatch):
    pixels = np.full((20, 50), 7, np.uint16)
    for number, (left, right) in objects.items():
        pixels[5:15, left:right] = number
    (tmp_path / "town").mkdir()
    Image.fromarray(pixels).save(tmp_path / "town" / "town_0_0_gtFine_instanceIds.png")
    monkeypatch.setattr(occlusion, "LABELS", tmp_path)
    assert occlusion.share_near_people("town_0_0") == share


def test_on_all_images_ap_is_that_of_the_results():
    runs, _ = collect([occlusion.STUDY])
    some = occlusion._on(runs[0], np.ones(300, bool))
    vehicles = np.mean([runs[0].metrics[f"val/segm/AP_{name}"] for name in ("car", "truck", "bus", "train")])
    expected = runs[0].metrics | {"val/segm/AP_vehicles": vehicles}
    assert some.metrics == pytest.approx({name: expected[name] for name in some.metrics})
    assert "val/segm/AP_vehicles" in some.metrics
