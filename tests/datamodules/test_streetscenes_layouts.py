"""The files of each layout, against the tools that others read them with."""

import json
import re

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from datamodules.streetscenes import LAYOUTS, bdd100k, cityscapes, coco, write
from datamodules.streetscenes.poses import KEYPOINTS
from datamodules.streetscenes.scene import Scene, SceneObject, draw_scene

SIZE, TRAIN, VAL = (96, 192), 8, 2


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    root = tmp_path_factory.mktemp("layouts")
    return {layout: write(layout, root / layout, TRAIN, VAL, 0, SIZE, workers=0) for layout in LAYOUTS}


@pytest.fixture(scope="module")
def drawn():
    return [draw_scene(0, "train", index, SIZE) for index in range(TRAIN)]


# --- Cityscapes -------------------------------------------------------------------------------------------


def test_label_images_equal_cityscapesscripts(roots):
    from cityscapesscripts.helpers.annotation import Annotation
    from cityscapesscripts.preparation.json2instanceImg import createInstanceImage
    from cityscapesscripts.preparation.json2labelImg import createLabelImage

    files = sorted(roots["cityscapes"].glob("gtFine/*/*/*_polygons.json"))
    assert len(files) == TRAIN + VAL
    for file in files:
        annotation = Annotation()
        annotation.fromJsonFile(str(file))
        stem = str(file).removesuffix("_polygons.json")
        instances, labels = Image.open(f"{stem}_instanceIds.png"), Image.open(f"{stem}_labelIds.png")
        np.testing.assert_array_equal(np.array(instances), np.array(createInstanceImage(annotation, "ids")))
        np.testing.assert_array_equal(np.array(labels), np.array(createLabelImage(annotation, "ids")))
        assert (np.array(instances).dtype, np.array(labels).dtype) == (np.uint16, np.uint8)


def test_cityscapes_names_pair_images_with_ground_truth(roots):
    root = roots["cityscapes"]
    images = {p.name.removesuffix("_leftImg8bit.png") for p in root.glob("leftImg8bit/train/*/*.png")}
    truths = {p.name.removesuffix("_gtFine_polygons.json") for p in root.glob("gtFine/train/*/*.json")}
    assert images == truths == {cityscapes.image_id("train", i) for i in range(TRAIN)}
    assert all(p.name.startswith(p.parent.name + "_") for p in root.glob("leftImg8bit/*/*/*.png"))


def test_cityscapes_faces_and_keypoints(roots, drawn):
    root = roots["cityscapes"]
    faces = json.loads((root / "face_boxes_train.json").read_text())
    keypoints = json.loads((root / "annotated_keypoints_train.json").read_text())
    assert set(json.loads((root / "face_boxes_val.json").read_text())) == {
        cityscapes.image_id("val", i) for i in range(VAL)
    }
    seen = 0
    for index, scene in enumerate(drawn):
        name = cityscapes.image_id("train", index)
        people = [o for o in scene.objects if o.label in ("person", "persongroup")]
        assert len(keypoints[name]) == len(people)
        expected = np.array([o.face for o in people if o.face], float).reshape(-1, 4)
        np.testing.assert_allclose(np.array(faces[name], float).reshape(-1, 5)[:, :4], expected, atol=0.006)
        seen += len(expected)
        for person, joints in zip(reversed(people), keypoints[name], strict=True):
            wanted = np.zeros((17, 3)) if person.keypoints is None else person.keypoints
            np.testing.assert_allclose(np.array(joints)[:, :2], wanted[:, :2], atol=0.006)
            np.testing.assert_array_equal(np.array(joints)[:, 2], wanted[:, 2] / 2)
    assert seen > 3


def test_a_crowd_is_labelled_without_instance_number():
    """As cityscapesscripts labels ``persongroup``: class and instance image both hold the class."""
    square = np.array([[0, 0], [3, 0], [3, 3], [0, 3]], np.int32)
    objects = [SceneObject(label, square) for label in ("persongroup", "person", "person")]
    owners = np.array([[0, 1, 2]], np.int32)
    labels, instances = cityscapes._label_images(Scene(np.zeros((1, 3, 3), np.uint8), objects, owners))
    assert labels.tolist() == [[24, 24, 24]]
    assert instances.tolist() == [[24, 24000, 24001]]


# --- COCO -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def instances(roots):
    return COCO(roots["coco"] / "annotations" / "instances_train2017.json")


def test_coco_masks_are_the_visible_pixels(instances, drawn):
    for index, scene in enumerate(drawn):
        masks = [scene.visible(i) for i, o in enumerate(scene.objects) if o.countable]
        annotations = instances.imgToAnns[coco.FIRST_ID["train"] + index]
        assert len(annotations) == len(masks)
        for annotation, mask in zip(annotations, masks, strict=True):
            read = instances.annToMask(annotation) > 0
            # Holes, such as the sky seen through a wheel behind a pole, cannot be told in polygons.
            assert np.count_nonzero(read & mask) / np.count_nonzero(read | mask) > 0.9
            assert annotation["area"] == np.count_nonzero(mask)
            assert tuple(annotation["bbox"]) == cv2.boundingRect(mask.astype(np.uint8))


def test_coco_keypoints(roots, instances):
    people = COCO(roots["coco"] / "annotations" / "person_keypoints_train2017.json")
    assert people.loadCats([1])[0]["keypoints"] == list(KEYPOINTS)
    assert people.getAnnIds() == instances.getAnnIds(catIds=[1])
    labelled = 0
    for annotation in people.loadAnns(people.getAnnIds()):
        joints = np.array(annotation["keypoints"]).reshape(17, 3)
        assert annotation["num_keypoints"] == np.count_nonzero(joints[:, 2])
        assert (joints[joints[:, 2] == 0] == 0).all()
        near = cv2.dilate(people.annToMask(annotation), np.ones((5, 5), np.uint8))
        for x, y, _ in joints[joints[:, 2] == 2]:
            assert near[int(y), int(x)]
            labelled += 1
    assert labelled > 50


def test_coco_has_its_80_categories(instances):
    categories = instances.loadCats(instances.getCatIds())
    assert len(categories) == 80
    assert [c["id"] for c in categories] == sorted(c["id"] for c in categories)
    assert {c["name"]: c["id"] for c in categories}["toothbrush"] == 90


def test_coco_faces_point_at_their_people(roots):
    people = COCO(roots["coco"] / "annotations" / "person_keypoints_train2017.json")
    faces = json.loads((roots["coco"] / "boxes_train2017.json").read_text())
    assert set(faces) == {str(i) for i in people.getImgIds()}
    assert any(each["boxes"] for each in faces.values())
    for image, each in faces.items():
        labelled = [a for a in people.imgToAnns[int(image)] if a["num_keypoints"] > 0]
        for (x0, y0, x1, y1), index in zip(each["boxes"], each["keypoint_indices"], strict=True):
            x, y, w, h = labelled[index]["bbox"]
            assert x <= x0 < x1 <= x + w
            assert y <= y0 < y1 <= y + h


def test_coco_image_ids_are_unique_over_the_splits(roots, instances):
    val = COCO(roots["coco"] / "annotations" / "instances_val2017.json")
    assert not set(val.imgs) & set(instances.imgs)
    for split, data in (("train", instances), ("val", val)):
        for image in data.imgs.values():
            with Image.open(roots["coco"] / f"{split}2017" / image["file_name"]) as picture:
                assert picture.size == (image["width"], image["height"])


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_run_lengths_decode_to_the_mask(mask):
    compressed = coco_mask.frPyObjects(coco._run_lengths(mask), *mask.shape)
    np.testing.assert_array_equal(coco_mask.decode(compressed) > 0, mask)


# --- BDD100K ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bdd(roots):
    """The training split: COCO's annotations, polygons by image name, and the ids of the scenes' images."""
    root = roots["bdd100k"]
    annotations = COCO(root / "jsons" / "ins_seg_train_cocofmt.json")
    frames = json.loads((root / "labels" / "ins_seg" / "polygons" / "ins_seg_train.json").read_text())
    ids = {image["file_name"].removesuffix(".jpg"): id_ for id_, image in annotations.imgs.items()}
    return annotations, {frame["name"]: frame["labels"] for frame in frames}, ids


def bitmask(root, stem):
    pixels = np.array(Image.open(root / "labels" / "ins_seg" / "bitmasks" / "train" / f"{stem}.png")).astype(int)
    assert pixels.shape == (*SIZE, 4)
    return pixels[..., 0], pixels[..., 1], pixels[..., 2] * 256 + pixels[..., 3]


def test_bdd100k_names_are_like_the_real_ones(roots, bdd):
    stems = {bdd100k.image_id("train", index) for index in range(TRAIN)}
    assert len(stems) == TRAIN and all(re.fullmatch("[0-9a-f]{8}-[0-9a-f]{8}", stem) for stem in stems)
    assert stems == {p.stem for p in (roots["bdd100k"] / "images" / "10k" / "train").glob("*.jpg")}
    assert stems == {p.stem for p in (roots["bdd100k"] / "labels" / "ins_seg" / "bitmasks" / "train").glob("*.png")}
    assert list(bdd[2]) == sorted(stems) and list(bdd[2].values()) == list(range(1, TRAIN + 1))


def test_bdd100k_bitmasks_are_the_visible_pixels(roots, drawn):
    for index, scene in enumerate(drawn):
        category, attributes, number = bitmask(roots["bdd100k"], bdd100k.image_id("train", index))
        countable = [i for i, o in enumerate(scene.objects) if o.countable]
        assert sorted(set(number.ravel())) == list(range(len(countable) + 1))
        for expected, place in enumerate(countable, start=1):
            item, mask = scene.objects[place], scene.visible(place)
            np.testing.assert_array_equal(number == expected, mask)
            (name,) = set(category[mask])
            assert bdd100k.CATEGORIES[name - 1] == item.label.removesuffix("group").replace("person", "pedestrian")
            (bits,) = set(attributes[mask])
            assert bool(bits & 2) == item.group
            x0, y0, x1, y1 = *item.outline.min(0), *item.outline.max(0)
            inside = x0 > 0 and y0 > 0 and x1 < SIZE[1] - 1 and y1 < SIZE[0] - 1
            assert bool(bits & 8) != inside
        assert not category[number == 0].any() and not attributes[number == 0].any()


def test_bdd100k_polygons_drawn_in_turn_are_the_bitmask(roots, bdd):
    """And whatever a bitmask calls ignored has a category there that the toolkit's configs/ins_seg.toml ignores."""
    ignored = 0
    for stem in bdd[2]:
        category, attributes, number = bitmask(roots["bdd100k"], stem)
        for place, label in enumerate(bdd[1][f"{stem}.jpg"], start=1):
            canvas = Image.new("L", SIZE[::-1])
            (polygon,) = label["poly2d"]
            assert len(polygon["types"]) == len(polygon["vertices"]) and set(polygon["types"]) == {"L"}
            ImageDraw.Draw(canvas).polygon([tuple(v) for v in polygon["vertices"]], fill=1)
            whole, shown = np.array(canvas) > 0, number == place
            assert (shown <= whole).all()
            assert ((number[whole] == place) | (number[whole] > place) | (number[whole] == 0)).all(), "later on top"
            bits = attributes[shown][0]
            occluded = bool((whole & ~shown).any())
            assert (bool(bits & 4), bool(bits & 8), bool(bits & 2)) == (
                label["attributes"]["occluded"],
                label["attributes"]["truncated"],
                label["attributes"]["crowd"],
            )
            assert occluded == label["attributes"]["occluded"]
            mapped = {"other person": "pedestrian", "other vehicle": "car", "trailer": "truck"}
            assert bool(bits & 1) == (label["category"] in mapped)
            name = mapped.get(label["category"], label["category"])
            assert bdd100k.CATEGORIES[category[shown][0] - 1] == name
            ignored += bits & 1
    assert ignored


def test_bdd100k_json_says_what_the_bitmasks_say(roots, bdd):
    annotations, _, ids = bdd
    assert [c["name"] for c in annotations.dataset["categories"]] == list(bdd100k.CATEGORIES)
    assert annotations.dataset["type"] == "instances"
    crowds = 0
    for stem, id_ in ids.items():
        category, attributes, number = bitmask(roots["bdd100k"], stem)
        found = annotations.loadAnns(annotations.getAnnIds(id_))
        assert len(found) == number.max()
        for place, annotation in enumerate(found, start=1):
            mask = number == place
            np.testing.assert_array_equal(annotations.annToMask(annotation) > 0, mask)
            assert annotation["area"] == np.count_nonzero(mask)
            assert tuple(annotation["bbox"]) == cv2.boundingRect(mask.astype(np.uint8))
            assert annotation["category_id"] == category[mask][0]
            assert annotation["iscrowd"] == int(attributes[mask][0] & 3 > 0) and annotation["ignore"] == 0
            crowds += annotation["iscrowd"]
    assert crowds and annotations.getAnnIds() == list(range(1, len(annotations.anns) + 1))


def test_bdd100k_faces_and_keypoints_are_those_of_pedestrians(roots, bdd, drawn):
    annotations, _, ids = bdd
    faces = json.loads((roots["bdd100k"] / "face_boxes_train.json").read_text())
    keypoints = json.loads((roots["bdd100k"] / "annotated_keypoints_train.json").read_text())
    assert faces and set(faces) <= set(keypoints)
    for index, scene in enumerate(drawn):
        id_ = ids[bdd100k.image_id("train", index)]
        found = annotations.loadAnns(annotations.getAnnIds(id_))
        countable = [o for o in scene.objects if o.countable]
        pairs = zip(countable, found, strict=True)
        people = [o for o, a in pairs if a["category_id"] == 1 and not a["iscrowd"]]
        assert len(keypoints.get(str(id_), {"keypoints": []})["keypoints"]) == len(people)
        np.testing.assert_allclose(
            np.array(faces.get(str(id_), [])).reshape(-1, 4),
            np.array([o.face for o in people if o.face]).reshape(-1, 4),
            atol=0.006,
        )
