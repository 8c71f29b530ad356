import numpy as np
import pytest
from PIL import Image

from configs import load_config
from errors import UserError
from reporting.examples import people_side_by_side, side_by_side

FILES = ["data.streetscenes=null", "data.num_workers=0"]


def config(root, tmp_path):
    places = [f"data.root={root}", f"data.index_dir={tmp_path}/index"]
    return load_config("configs/quickstart.yaml", [*FILES, *places])


@pytest.mark.parametrize("draw", [side_by_side, people_side_by_side])
def test_sheet_shows_what_a_condition_does(streetscenes, tmp_path, draw):
    """The masked-out column has grey that the original has not."""
    draw(config(streetscenes["cityscapes"], tmp_path), ["original", "body/mask_out"], 2, tmp_path / "sheet.png")
    sheet = np.asarray(Image.open(tmp_path / "sheet.png").convert("RGB")).astype(int)
    left, right = np.array_split(sheet, 2, axis=1)
    grey = [(abs(half - 128).max(-1) <= 1).mean() for half in (left, right)]
    assert grey[1] > grey[0] + 0.01


@pytest.mark.parametrize("conditions", [["original"], ["body/blur", "face/blur"]])
def test_people_are_of_one_region(streetscenes, tmp_path, conditions):
    with pytest.raises(UserError, match="give conditions of one region, body or face"):
        people_side_by_side(config(streetscenes["cityscapes"], tmp_path), conditions, 1, tmp_path / "sheet.png")
