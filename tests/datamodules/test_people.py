from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from anonymization.engine import CROPS
from configs import DataConfig, GeneratorExperiment
from configs.generator import GeneratorConfig
from datamodules.geometry import Geometry
from datamodules.people import People, PeopleDataModule, PeopleDataset, collate
from datamodules.record import Record, decode
from errors import UserError


def experiment(root, region="body", layout="cityscapes", **generator):
    data = DataConfig(name="streets", layout=layout, root=str(root), batch_size=2, num_workers=0)
    data.index_dir = str(root / ".." / "index")
    data.geometry = [{"HorizontalFlip": {"p": 0.5}}]
    options = {"steps": 1, "held_out": 0.2} | generator
    return GeneratorExperiment(name="g", seed=3, data=data, generator=GeneratorConfig(region=region, **options))


def build(*arguments, **options):
    datamodule = PeopleDataModule(experiment(*arguments, **options))
    datamodule.setup("fit")
    return datamodule


@pytest.mark.parametrize("region", ["body", "face"])
@pytest.mark.parametrize(
    ("folder", "layout"), [("cityscapes", "cityscapes"), ("coco", "coco_keypoints"), ("bdd100k", "bdd100k")]
)
def test_every_layout_gives_its_people(streetscenes, folder, layout, region):
    datamodule = build(streetscenes[folder], region, layout)
    dataset = datamodule.train_dataloader().dataset
    crops = [dataset[i] for i in range(len(dataset))]
    assert len(crops) == len(datamodule.train) > 0
    kept = [one for one in crops if one is not None]
    assert len(kept) >= len(crops) // 2
    for one in kept:
        assert one.images.shape == (1, 3, *CROPS[region]) and one.images.dtype == torch.uint8
        assert one.masks.any() and not (one.bodies & ~one.masks).any()
    if region == "body":
        assert any(one.keypoints.any() for one in kept)


def test_people_are_those_of_the_records(streetscenes):
    people = build(streetscenes["cityscapes"]).train
    bodies = [(record, id_, mask) for record in people.records for id_, mask in record.bodies]
    expected = [(record.image_id, id_) for record, id_, mask in bodies if decode([mask], record.size).any()]
    assert [(one.image_id, one.bodies[0][0]) for one in people] == expected
    assert all(set(one.keypoints) <= {one.bodies[0][0]} and not one.faces for one in people)


def test_small_people_are_left_out(streetscenes):
    everyone = build(streetscenes["cityscapes"]).train
    heights = []
    for one in everyone:
        rows = np.flatnonzero(decode([one.bodies[0][1]], one.size)[0].any(1))
        heights.append(rows[-1] - rows[0] + 1)
    limit = int(np.median(heights))
    large = build(streetscenes["cityscapes"], smallest=limit).train
    assert len(large) == sum(height >= limit for height in heights) < len(everyone)


def test_held_out_images_are_not_learnt_from(streetscenes):
    datamodule = build(streetscenes["cityscapes"], held_out=0.5)
    train, val = ({one.image_id for one in people} for people in (datamodule.train, datamodule.val))
    assert train and val and not train & val


def test_same_seed_and_epoch_give_the_same_batches(streetscenes):
    def batch():
        loader = build(streetscenes["cityscapes"]).train_dataloader()
        loader.sampler.set_epoch(2)
        return next(iter(loader))

    first, second = batch(), batch()
    assert all(torch.equal(getattr(first, name), getattr(second, name)) for name in vars(first))


def test_mirrored_people_keep_their_own_sides(streetscenes):
    """A mirror swaps the sides: whose left shoulder is on the right of the picture has it there in the mirror too."""
    dataset = build(streetscenes["cityscapes"]).train_dataloader().dataset
    spans = []
    for index in range(len(dataset)):
        crops = filter(None, (dataset[epoch * len(dataset) + index] for epoch in range(12)))
        views = {one.images.numpy().tobytes(): one.keypoints[0] for one in crops}
        if len(views) == 2 and all(joints[[5, 6], 2].all() for joints in views.values()):
            spans.append([(joints[5, 0] - joints[6, 0]).item() for joints in views.values()])
    spans = np.array([span for span in spans if min(map(abs, span)) > 10])  # crop pixels, of 160
    assert len(spans) and (np.sign(spans[:, 0]) == np.sign(spans[:, 1])).all()


def test_refined_faces_are_the_large_ones_alone(streetscenes):
    datamodule = build(streetscenes["cityscapes"], "face_refined")
    dataset = datamodule.train_dataloader().dataset
    assert all(dataset[i] is None for i in range(len(dataset)))  # none of these tiny faces is cut at 128 pixels
    with pytest.raises(UserError, match=r"generator\.smallest: none of 2 people is large enough"):
        collate([None, None])


def test_large_faces_are_cut_anew(tmp_path):
    """A face large enough for it comes in a crop of 256 pixels, with its box in the middle; a small one does not."""
    Image.fromarray(np.zeros((600, 800, 3), np.uint8)).save(tmp_path / "image.png")
    faces = [(0, [200.0, 150.0, 300.0, 270.0]), (1, [500.0, 300.0, 530.0, 340.0])]
    record = Record("image", tmp_path / "image.png", (600, 800), [], faces=faces)
    people = People([record], "face", 0)
    large, small = (PeopleDataset(people, "face_refined", Geometry([]), seed=0)[i] for i in range(2))
    assert small is None and large.images.shape == (1, 3, 256, 256)
    rows, columns = (large.masks[0, 0].any(axis).nonzero() for axis in (1, 0))
    # The crop is 168 pixels of the image: 1.4 times the longer side.
    assert abs(len(rows) - 120 * 256 / 168) <= 2 and abs(len(columns) - 100 * 256 / 168) <= 2
    assert abs(rows.float().mean() - 127.5) <= 2 and abs(columns.float().mean() - 127.5) <= 2


def test_mistakes_are_named(streetscenes):
    with pytest.raises(UserError, match=r"generator\.region: unknown 'boddy', did you mean 'body'"):
        PeopleDataModule(experiment(streetscenes["cityscapes"], "boddy"))
    with pytest.raises(UserError, match=r"has no body of 5000 pixels or more"):
        build(streetscenes["cityscapes"], smallest=5000)
    with pytest.raises(UserError, match=r"generator\.held_out"):
        build(streetscenes["cityscapes"], held_out=0.0)
    module = PeopleDataModule(experiment(streetscenes["cityscapes"], "body"))
    module.experiment.data.batch_size, module.trainer = 10**4, SimpleNamespace(world_size=2)
    with pytest.raises(UserError, match=r"data\.batch_size: there are \d+ people to learn from, for 20000 a step"):
        module.setup("fit")


def test_a_run_does_not_go_on_with_other_people(streetscenes):
    module = build(streetscenes["cityscapes"])
    state = module.state_dict()
    module.load_state_dict(state)
    path = str(streetscenes["cityscapes"] / "gtFine" / "train")
    with pytest.raises(UserError, match=f"{path}: has changed since this run began"):
        module.load_state_dict({"fingerprints": state["fingerprints"] | {path: "other"}})
