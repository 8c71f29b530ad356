"""The files of each layout, against the tools that others read them with."""

import json

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from datamodules.streetscenes import cityscapes, coco, write
from datamodules.streetscenes.poses import KEYPOINTS
from datamodules.streetscenes.scene import Scene, SceneObject, draw_scene

SIZE, TRAIN, VAL = (96, 192), 8, 2


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    root = tmp_path_factory.mktemp("layouts")
    return {layout: write(layout, root / layout, TRAIN, VAL, 0, SIZE, workers=0) for layout in ("cityscapes", "coco")}


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
    for index, scene in enumerate(drawn):
        name = cityscapes.image_id("train", index)
        people = [o for o in scene.objects if o.label in ("person", "persongroup")]
        assert len(keypoints[name]) == len(people)
        assert np.array(faces[name]).shape == (sum(bool(o.face) for o in people), 5) or not faces[name]
        for person, joints in zip(people, keypoints[name], strict=True):
            wanted = np.zeros((17, 3)) if person.keypoints is None else person.keypoints
            np.testing.assert_allclose(np.array(joints)[:, :2], wanted[:, :2], atol=0.006)
            np.testing.assert_array_equal(np.array(joints)[:, 2], wanted[:, 2] / 2)


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
