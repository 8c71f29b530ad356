"""The Cityscapes reader against cityscapesscripts."""

import json

import numpy as np
import pytest
from cityscapesscripts.helpers.annotation import Annotation
from cityscapesscripts.helpers.labels import labels, name2label
from cityscapesscripts.preparation.json2instanceImg import createInstanceImage
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from configs import load_config
from datamodules.cityscapes import BACKGROUND, CLASSES, IGNORED, UNDRAWN, WITH_INSTANCES, draw_objects, read_record
from datamodules.layouts import LAYOUTS
from datamodules.record import decode
from errors import UserError

SIZE = (48, 64)
POINTS = st.tuples(st.integers(-5, 70), st.integers(-5, 55)).map(list)
OBJECT = st.fixed_dictionaries(
    {
        "label": st.sampled_from(
            [
                *CLASSES,
                "persongroup",
                "cargroup",
                "ridergroup",
                "caravan",
                "caravangroup",
                "polegroup",
                "static",
                "road",
                "license plate",
            ]
        ),
        "polygon": st.lists(POINTS, min_size=2, max_size=8),
    },
    optional={"deleted": st.sampled_from([0, 1])},
)


def write(root, objects, size=SIZE, stem="town_000000_000019"):
    images, polygons = root / "leftImg8bit" / "train" / "town", root / "gtFine" / "train" / "town"
    images.mkdir(parents=True, exist_ok=True)
    polygons.mkdir(parents=True, exist_ok=True)
    image = images / f"{stem}_leftImg8bit.png"
    Image.new("RGB", size[::-1]).save(image)
    content = {"imgHeight": size[0], "imgWidth": size[1], "objects": objects}
    (polygons / f"{stem}_gtFine_polygons.json").write_text(json.dumps(content))
    return image


def test_labels_are_cityscapes():
    assert {label.name for label in labels} == {*CLASSES, *BACKGROUND, *IGNORED, UNDRAWN}
    assert {label.name for label in labels if label.ignoreInEval} == {*IGNORED, UNDRAWN}
    assert {label.name for label in labels if label.hasInstances} == {*WITH_INSTANCES}
    ids = [name2label[name].id for name in CLASSES]
    assert ids == sorted(ids)
    assert {label.name for label in labels if label.hasInstances and not label.ignoreInEval} == set(CLASSES)


@settings(max_examples=150, deadline=None)
@given(st.lists(OBJECT, max_size=8))
def test_masks_are_those_of_instance_ids(tmp_path_factory, objects):
    root = tmp_path_factory.mktemp("cityscapes")
    record = read_record(write(root, objects), [])
    annotation = Annotation()
    annotation.fromJsonFile(root / "gtFine" / "train" / "town" / "town_000000_000019_gtFine_polygons.json")
    expected = np.array(createInstanceImage(annotation, "ids"))
    singles = [i for i in record.instances if not i.crowd]
    drawn = np.zeros(SIZE, int)
    for instance in singles:
        mask = decode([instance.mask], SIZE)[0] > 0
        (value,) = set(expected[mask])
        assert value // 1000 == name2label[CLASSES[instance.label - 1]].id
        y, x = np.nonzero(mask)
        assert instance.box == (x.min(), y.min(), x.max() + 1, y.max() + 1)
        assert instance.area == mask.sum()
        drawn[mask] = value
    evaluated = np.isin(expected // 1000, [name2label[name].id for name in CLASSES])
    np.testing.assert_array_equal(drawn, np.where(evaluated, expected, 0))
    void = np.isin(expected, [label.id for label in labels if label.ignoreInEval])
    np.testing.assert_array_equal(decode([record.void], SIZE)[0] > 0, void)
    for crowd in record.instances:
        if crowd.crowd:
            assert set(expected[decode([crowd.mask], SIZE)[0] > 0]) == {name2label[CLASSES[crowd.label - 1]].id}
    persons = [i for i in singles if CLASSES[i.label - 1] == "person"]
    assert [id_ for id_, _ in record.bodies] == [i.id for i in persons]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"label": "unicorn", "polygon": [[0, 0], [5, 5], [0, 5]]}, "object 0: label 'unicorn'"),
        ({"label": "car", "polygon": [[0, 0]]}, r"object 0 \(car\): a polygon of 1 points"),
        ({"label": "car"}, "polygon"),
        ({"polygon": [[0, 0], [5, 5], [0, 5]]}, "label"),
    ],
)
def test_bad_object_is_named(tmp_path, item, message):
    with pytest.raises(UserError, match=rf"town_000000_000019_gtFine_polygons\.json: .*{message}"):
        read_record(write(tmp_path, [item]), [])


def test_later_objects_lie_on_top():
    square = [[10, 10], [20, 10], [20, 20], [10, 20]]
    canvas = draw_objects([{"label": "car", "polygon": square}, {"label": "road", "polygon": square}], SIZE)
    assert (canvas[10:21, 10:21] == 2).all() and (canvas > 0).sum() == 121


def test_faces_and_missing_files(tmp_path):
    write(tmp_path, [{"label": "person", "polygon": [[10, 10], [30, 10], [30, 40], [10, 40]]}])
    config = load_config("configs/cityscapes.yaml", [f"data.root={tmp_path}", "condition=face/blur"])
    module = LAYOUTS["cityscapes"](config)
    with pytest.raises(UserError, match=r"face_boxes_train\.json does not exist"):
        module.read("train", "face")
    (tmp_path / "face_boxes_train.json").write_text('{"town_000000_000019": [[12.2, 11, 20, 19.5, 0.9]]}')
    assert module.read("train", "face")[0].faces == [(0, [12.2, 11.0, 20.0, 19.5])]
    (tmp_path / "face_boxes_train.json").write_text('{"town_000000_000019": 3}')
    with pytest.raises(UserError, match=r"face_boxes_train\.json: not of the form"):
        module.read("train", "face")
    with pytest.raises(UserError, match=r"no image matches .*/leftImg8bit/val"):
        module.read("val", "none")
    (tmp_path / "gtFine/train/town/town_000000_000019_gtFine_polygons.json").unlink()
    with pytest.raises(UserError, match=r"polygons\.json does not exist; it annotates"):
        module.read("train", "none")
