"""Sheets and pictures of the same images under several conditions."""

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch
from faster_coco_eval.core import mask as mask_api
from matplotlib.colors import to_rgb
from PIL import Image

from anonymization.conditions import CONDITIONS
from anonymization.engine import cut
from anonymization.regions import body_regions
from configs import load_config
from datamodules.layouts import build_datamodule
from errors import UserError
from reporting import examples
from reporting.examples import example_pairs, in_words, write_sheet

FILES = ["data.streetscenes=null", "data.num_workers=0"]


@pytest.fixture
def config(streetscenes, tmp_path):
    places = [f"data.root={streetscenes['cityscapes']}", f"data.index_dir={tmp_path}/index"]
    return load_config("configs/quickstart.yaml", [*FILES, *places])


@pytest.fixture
def sheet(config, tmp_path, monkeypatch):
    """Draw a sheet and look at what is on it: its pictures, row by row, and its texts."""

    def draw(*arguments, config=config, **options):
        figures = []
        monkeypatch.setattr(examples, "save_figure", lambda figure, path: figures.append(figure))
        write_sheet(config, *arguments, tmp_path / "sheet.png", **options)
        (figure,) = figures
        return [axes.images[0].get_array() for axes in figure.axes], [text.get_text() for text in figure.texts], figure

    return draw


def is_grey(picture):
    return (abs(picture.astype(int) - 128) <= 1).all(-1)


@pytest.fixture
def file_of(streetscenes):
    def read(image_id):
        (file,) = streetscenes["cityscapes"].rglob(f"leftImg8bit/train/*/{image_id}_leftImg8bit.png")
        return np.asarray(Image.open(file).convert("RGB"))

    return read


def test_rows_are_images_and_columns_conditions(sheet, file_of):
    pictures, texts, _ = sheet(["original", "body/mask_out"], 2, 0)
    assert len(pictures) == 4
    assert texts[:4] == ["original", "as recorded", "body/mask_out", "bodies masked out"]
    for row, image_id in enumerate(texts[4:6]):
        original, masked = pictures[2 * row : 2 * row + 2]
        assert (original == file_of(image_id)).all()
        changed = (masked != original).any(-1)
        assert changed.any() and is_grey(masked)[changed].all()


def test_originals_are_shown_only_where_they_are_named(sheet, file_of):
    pictures, texts, _ = sheet(["body/mask_out"], 3, 0, people=True, outline=True)
    for image_id, whole, person in zip(texts[2:5], pictures[::2], pictures[1::2], strict=True):
        assert (whole != file_of(image_id)).any()
        assert is_grey(person).mean() > 0.1


def test_people_are_enlarged_beside_the_whole(sheet):
    """They are the crops that methods see: of bodies, where one of the conditions is about bodies."""
    pictures, _, figure = sheet(["original", "face/blur", "body/mask_out"], 2, 0, people=True)
    assert [picture.shape for picture in pictures] == [(64, 128, 3), (288, 160, 3)] * 6
    for whole, crop in zip(figure.axes[::2], figure.axes[1::2], strict=True):
        one, other = whole.get_position(), crop.get_position()
        assert other.x0 > one.x1 and (other.y0, other.y1) == pytest.approx((one.y0, one.y1))
    faces = sheet(["face/mask_out"], 1, 0, people=True)[0]
    assert faces[1].shape == (128, 128, 3)


def test_the_largest_person_is_enlarged(sheet, config):
    datamodule = build_datamodule(replace(config, condition="body/blur"))
    datamodule.setup("fit")
    records = {record.image_id: record for record in datamodule.train}
    pictures, texts, _ = sheet(["original", "body/blur"], 4, 0, people=True)
    for image_id, crop in zip(texts[4:8], pictures[1::4], strict=True):
        record = records[image_id]
        largest = max((mask_api.decode(mask) for _, mask in record.bodies), key=np.sum)
        image = torch.tensor(record.read_image()).permute(2, 0, 1)
        expected = cut([image], body_regions([largest], record.size, [0])).images[0]
        assert (crop == expected.permute(1, 2, 0).numpy()).all()


def test_outline_goes_around_what_is_replaced(sheet):
    conditions = ["original", "face/mask_out", "body/mask_out"]
    assert not any(axes.collections for axes in sheet(conditions, 2, 0)[2].axes)
    pictures, _, figure = sheet(conditions, 2, 0, outline=True)
    points = np.stack(np.meshgrid(np.arange(128), np.arange(64)), -1).reshape(-1, 2)
    for row in (0, 3):
        lines = [[path for c in axes.collections for path in c.get_paths()] for axes in figure.axes[row : row + 3]]
        for masked, paths in zip(pictures[row + 1 : row + 3], lines[1:], strict=True):
            inside = np.any([path.contains_points(points).reshape(64, 128) for path in paths], axis=0)
            changed = (masked != pictures[row]).any(-1)
            assert changed[inside].mean() > 0.95 and inside[changed].all()
        # The people of an original are those that are replaced elsewhere.
        assert [path.vertices.tolist() for path in lines[0]] == [path.vertices.tolist() for path in lines[2]]
    assert (figure.axes[0].collections[0].get_edgecolor()[0, :3] == to_rgb(examples.OUTLINE)).all()


def test_seed_chooses_images_and_the_configs_seed_people(sheet, config):
    other = replace(config, seed=1)
    chosen = {seed: sheet(["body/blur"], 3, seed)[1] for seed in range(4)}
    assert len({tuple(texts) for texts in chosen.values()}) > 1
    assert sheet(["body/blur"], 3, 2, config=other)[1] == chosen[2]
    realistic = [sheet(["body/realistic"], 1, 0, config=c)[0][0] for c in (config, config, other)]
    assert (realistic[0] == realistic[1]).all() and (realistic[0] != realistic[2]).any()


def test_caption_says_what_is_shown(sheet, config):
    caption = " ".join(sheet(["original", "body/blur"], 2, 7, people=True, outline=True)[1][-1].split())
    assert caption.startswith("streetscenes, training images ")
    assert "(seed 7): as recorded, bodies blurred." in caption
    assert "Beside each, its largest person, enlarged. The line goes around what is replaced." in caption
    assert "Hukkelås" not in caption
    assert "its largest face, enlarged." in sheet(["face/blur"], 1, 0, people=True)[1][-1].replace("\n", " ")
    cityscapes = replace(config, data=replace(config.data, name="cityscapes"))
    caption = sheet(["face/blur", "face/mask_out", "face/realistic"], 1, 0, config=cityscapes)[1][-1]
    assert " ".join(caption.split()).endswith("Conditions as in Hukkelås & Lindseth (2023), figures 1-17.")


def test_every_condition_has_words():
    assert len({in_words(condition) for condition in CONDITIONS}) == len(CONDITIONS)


def test_pairs_are_the_images_of_the_sheet(config, sheet, file_of):
    pairs = example_pairs(config, ["body/mask_out", "body/blur"], 2, 3)
    pictures, texts, _ = sheet(["original", "body/mask_out", "body/blur"], 2, 3)
    assert [pair.image_id for pair in pairs] == texts[6:8]
    files = [file for pair in pairs for file in (pair.original, *pair.anonymized.values())]
    for file, picture in zip(files, pictures, strict=True):
        decoded = np.asarray(Image.open(BytesIO(file)))
        assert decoded.shape == picture.shape
        assert abs(decoded.astype(int) - picture).mean() < 4  # a JPEG
    assert [list(pair.anonymized) for pair in pairs] == [["body/mask_out", "body/blur"]] * 2


@pytest.mark.parametrize(
    ("conditions", "count", "message"),
    [(["original"], 1, "anonymizes nobody"), (["body/blur"], 0, "--images: 0 is not from 1 to 90")],
)
def test_mistakes_are_named(config, tmp_path, conditions, count, message):
    with pytest.raises(UserError, match=message):
        write_sheet(config, conditions, count, 0, tmp_path / "sheet.png")


def test_sheet_is_a_file_of_the_same_bytes_every_time(config, tmp_path):
    for name in ("a", "b"):
        write_sheet(config, ["body/blur"], 1, 0, tmp_path / name / "sheet.png", outline=True)
    assert (tmp_path / "a" / "sheet.png").read_bytes() == (tmp_path / "b" / "sheet.png").read_bytes()
    assert [file.name for file in (tmp_path / "a").iterdir()] == ["sheet.png"]
