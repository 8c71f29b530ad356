"""The COCO reader against pycocotools and the annotations themselves."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

from configs import load_config
from datamodules.layouts import LAYOUTS
from datamodules.record import decode
from errors import UserError


@pytest.fixture
def datamodule(tmp_path_factory):
    index = tmp_path_factory.mktemp("index")

    def make(root, layout="coco_instances", condition="original", **data):
        overrides = [f"data.root={root}", f"condition={condition}", "data.num_workers=0", f"data.index_dir={index}"]
        overrides += [f"data.{key}={value}" for key, value in data.items()]
        return LAYOUTS[layout](load_config(f"configs/{layout}.yaml", overrides))

    return make


@pytest.fixture
def folder(tmp_path):
    """Six kinds of image file, with a person, a crowd, an empty image and a box without area."""
    images = tmp_path / "train2017"
    images.mkdir()
    (tmp_path / "annotations").mkdir()
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (40, 60, 3), np.uint8)
    rgb = Image.fromarray(pixels)
    rotated = Image.Exif()
    rotated[0x0112] = 6  # turn by 90 degrees to see it upright
    rgb.save(images / "rgb.png")
    rgb.convert("L").save(images / "grey.jpg")
    rgb.convert("CMYK").save(images / "cmyk.jpg")
    rgb.convert("P").save(images / "palette.png")
    rgb.save(images / "exif_ignored.jpg", exif=rotated)  # annotated as stored
    rgb.save(images / "exif_applied.jpg", exif=rotated)  # annotated as seen
    names = sorted(p.name for p in images.iterdir())
    infos = []
    for id_, name in enumerate(names, start=1):
        width, height = (40, 60) if name == "exif_applied.jpg" else (60, 40)
        infos.append({"id": id_, "file_name": name, "width": width, "height": height})
    square = [[10.0, 10.0, 30.0, 10.0, 30.0, 35.0, 10.0, 35.0]]
    keypoints = [0] * 51
    keypoints[:6] = [20, 12, 2, 21, 11, 1]

    def person(id_, image, **more):
        base = {"segmentation": square, "area": 500.0, "bbox": [10, 10, 20, 25], "iscrowd": 0, "category_id": 1}
        base |= {"keypoints": keypoints, "num_keypoints": 2}
        return base | {"id": id_, "image_id": image} | more

    crowd = {"counts": [0, 600, 1800], "size": [60, 40]}
    annotations = [person(100 + i, i) for i in range(1, 6)]
    annotations += [
        person(200, 2, iscrowd=1, segmentation=crowd, bbox=[0, 0, 10, 60], keypoints=[0] * 51, num_keypoints=0),
        person(201, 2, bbox=[5, 5, 0, 4], area=0.0, keypoints=[0] * 51, num_keypoints=0),
        person(202, 1, category_id=18, keypoints=[0] * 51, num_keypoints=0),
    ]
    categories = [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}]
    content = {"images": infos, "annotations": annotations, "categories": categories}

    def write(content=content):
        for task in ("instances", "person_keypoints"):
            for split in ("train", "val"):
                (tmp_path / "annotations" / f"{task}_{split}2017.json").write_text(json.dumps(content))
        return tmp_path

    (tmp_path / "val2017").symlink_to(images)
    write.content = content
    return write


def test_sample_equals_pycocotools(datamodule, coco_sample):
    coco = COCO(coco_sample / "annotations" / "instances_train2017.json")
    records = datamodule(coco_sample).read("train", "none")
    assert len(records) == 50
    names = [c["name"] for c in coco.loadCats(sorted(coco.getCatIds()))]
    for record in records:
        annotations = coco.loadAnns(coco.getAnnIds(int(record.image_id)))
        assert [i.id for i in record.instances] == [a["id"] for a in annotations]
        for instance, annotation in zip(record.instances, annotations, strict=True):
            x, y, w, h = annotation["bbox"]
            assert instance.box == (x, y, x + w, y + h)
            assert names[instance.label - 1] == coco.loadCats(annotation["category_id"])[0]["name"]
            assert (instance.area, instance.crowd) == (annotation["area"], bool(annotation["iscrowd"]))
            np.testing.assert_array_equal(decode([instance.mask], record.size)[0], coco.annToMask(annotation))


def test_sample_people_are_those_with_keypoints(datamodule, coco_sample):
    coco = COCO(coco_sample / "annotations" / "person_keypoints_train2017.json")
    expected = {a["id"] for a in coco.anns.values() if a["num_keypoints"] > 0}
    for layout in ("coco_instances", "coco_keypoints"):
        records = datamodule(coco_sample, layout).read("train", "body")
        assert {id_ for r in records for id_, _ in r.bodies} == expected


def test_every_kind_of_image_file(datamodule, folder):
    records = datamodule(folder()).read("train", "none")
    assert "exif_applied.jpg" in {record.path.name for record in records} and len(records) > 4
    for record in records:
        assert record.image_problem() is None
        image = record.read_image()
        assert image.shape == (*record.size, 3) and image.dtype == np.uint8
        with Image.open(record.path) as file:
            stored = np.asarray(file.convert("RGB"))
        if record.path.name == "exif_applied.jpg":
            stored = np.rot90(stored, -1)
        np.testing.assert_array_equal(image, stored)


def test_training_target_is_torchvisions(datamodule, folder):
    module = datamodule(folder(), geometry=[])
    module.setup("fit")
    assert [r.path.name for r in module.train] == [
        "cmyk.jpg",
        "exif_applied.jpg",
        "exif_ignored.jpg",
        "grey.jpg",
        "palette.png",
    ], "the image without annotations is not trained on"
    batches = {t["image_id"]: t for batch in module.train_dataloader() for t in batch.targets}
    first, second = batches["1"], batches["2"]
    assert first["labels"].tolist() == [1, 2] and module.classes == ("person", "dog")
    assert second["labels"].tolist() == [1], "neither the crowd nor the box without area"
    assert second["boxes"].tolist() == [[10, 10, 30, 35]]
    assert first["masks"].shape == (2, 40, 60) and first["masks"].dtype == torch.uint8
    assert "keypoints" not in first


def test_validation_target_has_everything(datamodule, folder):
    module = datamodule(folder(), "coco_keypoints", condition="body/blur", geometry=[])
    module.setup("fit")
    targets = [t for batch in module.val_dataloader() for t in batch.targets]
    assert all(batch.regions is None for batch in module.val_dataloader())
    assert len(targets) == 6
    second = next(t for t in targets if t["image_id"] == "2")
    assert second["iscrowd"].tolist() == [False, True, False]
    assert second["keypoints"].shape == (3, 17, 3)
    assert "masks" not in second


def test_keypoint_training_needs_a_keypoint(datamodule, folder):
    module = datamodule(folder(), "coco_keypoints", geometry=[])
    content = folder.content | {"annotations": [a for a in folder.content["annotations"] if a["id"] != 101]}
    module = datamodule(folder(content), "coco_keypoints", geometry=[])
    module.setup("fit")
    assert "1" not in {r.image_id for r in module.train}


def test_faces_belong_to_their_person(datamodule, folder):
    root = folder()
    (root / "boxes_train2017.json").write_text(
        json.dumps({"1": {"boxes": [[15, 10, 20, 16]], "keypoint_indices": [0]}})
    )
    record = datamodule(root).read("train", "face")[0]
    assert record.faces == [(101, [15.0, 10.0, 20.0, 16.0])]
    (root / "boxes_train2017.json").write_text(
        json.dumps({"1": {"boxes": [[15, 10, 20, 16]], "keypoint_indices": [1]}})
    )
    with pytest.raises(UserError, match=r"boxes_train2017\.json: image 1"):
        datamodule(root).read("train", "face")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"1": {"boxes": [[15, 10, 20, 16]] * 2, "keypoint_indices": [0, 0]}}, "image 1: id 101 is there twice"),
        ({"1": {"boxes": [], "keypoint_indices": []}, "01": {"boxes": [], "keypoint_indices": []}}, "image 01: is"),
    ],
)
def test_a_face_belongs_to_one_person_of_one_image(datamodule, folder, content, message):
    root = folder()
    (root / "boxes_train2017.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=rf"boxes_train2017\.json: {message}"):
        datamodule(root).read("train", "face")


def test_face_condition_without_boxes_fails(datamodule, folder):
    module = datamodule(folder(), condition="face/blur")
    with pytest.raises(UserError, match=r"boxes_train2017\.json does not exist"):
        module.setup("fit")


@pytest.mark.parametrize("damage", ["missing", "truncated", "size", "garbage"])
def test_bad_image_stops_or_is_skipped(datamodule, folder, damage):
    root = folder()
    path = root / "train2017" / "grey.jpg"
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-200])
    elif damage == "size":
        Image.new("RGB", (30, 30)).save(path)
    else:
        path.write_bytes(b"\xff\xd8 not a picture")
    with pytest.raises(UserError, match=r"train2017/grey\.jpg"):
        datamodule(root).setup("fit")
    module = datamodule(root, skip_bad_images="true")
    with pytest.warns(UserWarning, match=r"grey\.jpg"):
        module.setup("fit")
    assert len(module.train) == 4 and len(module.val) == 5


def test_missing_parts_are_named(datamodule, folder, tmp_path):
    with pytest.raises(UserError, match=r"data\.root: folder .*nowhere does not exist"):
        datamodule(tmp_path / "nowhere").setup("fit")
    root = folder()
    (root / "annotations" / "instances_val2017.json").write_text('{"images": [')
    with pytest.raises(UserError, match=r"instances_val2017\.json: cannot be read as JSON"):
        datamodule(root).setup("fit")
    (root / "annotations" / "instances_val2017.json").unlink()
    with pytest.raises(UserError, match=r"instances_val2017\.json does not exist"):
        datamodule(root).setup("fit")


def test_people_numbered_in_a_file_of_their_own(datamodule, coco_sample, tmp_path):
    """An annotation that has a person's id, but is another object, lends the person no mask."""
    shutil.copytree(coco_sample, tmp_path / "root")
    path = tmp_path / "root/annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    ids = [annotation["id"] for annotation in content["annotations"]]
    for annotation, id_ in zip(content["annotations"], reversed(ids), strict=True):
        annotation["id"] = id_
    path.write_text(json.dumps(content))
    regions = []
    for root in (coco_sample, tmp_path / "root"):
        module = datamodule(root, condition="body/mask_out", val_split="train")
        module.setup("fit")
        dataset = module.train_dataloader().dataset
        regions.append([dataset[i][2] for i in range(len(dataset))])
    shared = 0
    for ours, theirs in zip(*regions, strict=True):
        shared += len(ours)
        assert torch.equal(ours.paste_boxes, theirs.paste_boxes) and torch.equal(ours.masks, theirs.masks)
    assert shared > 50


def test_people_of_images_that_are_not_there_would_stay_in_sight(datamodule, coco_sample, tmp_path):
    shutil.copytree(coco_sample, tmp_path / "root")
    path = tmp_path / "root/annotations/person_keypoints_train2017.json"
    content = json.loads(path.read_text())
    first, second = content["images"][:2]
    person = next(a for a in content["annotations"] if any(a["keypoints"][2::3]))

    def refused(change, message):
        path.write_text(json.dumps(content | change))
        datamodule(tmp_path / "root").read("train", "none")
        with pytest.raises(UserError, match=message):
            datamodule(tmp_path / "root", condition="body/blur").read("train", "body")

    refused(
        {"images": content["images"][1:]}, rf"images: {first['id']} is None, but {first['file_name']} in instances_"
    )
    swapped = [first | {"file_name": second["file_name"]}, second | {"file_name": first["file_name"]}]
    refused({"images": [*swapped, *content["images"][2:]]}, rf"images: {first['id']} is {second['file_name']}, but ")
    stray = person | {"id": 1, "image_id": str(person["image_id"])}
    refused(
        {"annotations": [*content["annotations"], stray]}, rf"a person's image_id '{person['image_id']}' is none of"
    )
