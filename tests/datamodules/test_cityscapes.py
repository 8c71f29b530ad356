"""The Cityscapes reader against cityscapesscripts."""

import json

import numpy as np
import pytest
from cityscapesscripts.helpers.annotation import Annotation
from cityscapesscripts.helpers.labels import labels, name2label
from cityscapesscripts.preparation.json2instanceImg import createInstanceImage
from faster_coco_eval.core import mask as mask_api
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from configs import load_config
from datamodules.cityscapes import BACKGROUND, CLASSES, IGNORED, UNDRAWN, WITH_INSTANCES, read_record
from datamodules.keypoints import cityscapes_people, read_keypoints
from datamodules.layouts import LAYOUTS
from datamodules.record import decode
from datamodules.runs import Runs
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
        ({"label": "cars", "polygon": [[0, 0], [5, 5], [0, 5]]}, "unknown label 'cars', did you mean 'car'"),
        ({"label": "car", "polygon": [[0, 0]]}, "a car of 1 points cannot be drawn"),
        ({"label": "car", "polygon": [[0, 0], [5], [0, 5]]}, "no numbers"),
        ({"label": "car"}, "has no 'polygon'"),
        ({"polygon": [[0, 0], [5, 5], [0, 5]]}, "has no 'label'"),
        ("car", "string"),
    ],
)
def test_bad_object_is_named(tmp_path, item, message):
    fine = {"label": "car", "polygon": [[0, 0], [5, 5], [0, 5]]}
    with pytest.raises(UserError, match=rf"town_000000_000019_gtFine_polygons\.json: object 1: .*{message}"):
        read_record(write(tmp_path, [fine, item]), [])


def test_later_objects_lie_on_top(tmp_path):
    square = [[10, 10], [20, 10], [20, 20], [10, 20]]
    objects = [{"label": label, "polygon": square} for label in ("car", "person", "road")]
    assert read_record(write(tmp_path, objects), []).instances == []
    (person,) = read_record(write(tmp_path, objects[:2]), []).instances
    assert (CLASSES[person.label - 1], person.area) == ("person", 121)


@settings(deadline=None)
@given(hnp.arrays(np.int32, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.integers(0, 3)))
def test_any_mask_is_made_of_runs(values):
    runs = Runs(values)
    for chosen in ([0], [1], [0, 2], [1, 2, 3], [0, 1, 2, 3], []):
        expected = mask_api.encode(np.asfortranarray(np.isin(values, chosen), np.uint8))
        assert runs.mask(np.isin(runs.values, chosen)) == expected


def datamodule(root, *overrides):
    base = [f"data.root={root}", f"data.index_dir={root.parent / 'index'}"]
    return LAYOUTS["cityscapes"](load_config("configs/cityscapes.yaml", [*base, *overrides]))


def test_faces(tmp_path):
    root = tmp_path / "data"
    write(root, [{"label": "person", "polygon": [[10, 10], [30, 10], [30, 40], [10, 40]]}])
    module = datamodule(root)
    own, other = root / "face_boxes_train.json", tmp_path / "detected.json"
    with pytest.raises(UserError, match=r"face_boxes_train\.json does not exist"):
        module.read("train", "face")
    for id_ in ("town_000000_000019", "town_000000_000019_leftImg8bit.png"):
        own.write_text(json.dumps({id_: [[12.2, 11, 20, 19.5, 0.9]]}))
        assert module.read("train", "face")[0].faces == [(0, [12.2, 11.0, 20.0, 19.5])]
    other.write_text('{"town_000000_000019": [[1, 2, 3, 4]]}')
    assert datamodule(root, f"faces.file={other}").read("train", "face")[0].faces == [(0, [1, 2, 3, 4])]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"town_000000_000019": 3}', "image town_000000_000019: "),
        ('{"town_000000_000019": [[1, 2, 3]]}', "image town_000000_000019: "),
        ('{"town_000000_000019": [[9, 2, 3, 4]]}', "image town_000000_000019: .* is no box"),
        ('{"town_000000_000019": ["1234"]}', "image town_000000_000019: 1234 are no numbers"),
        (
            '{"town_000000_000019": [[1, 2, 3, 4]], "town_000000_000019_leftImg8bit.png": []}',
            "image town_000000_000019_leftImg8bit.png: is there twice",
        ),
        ("[]", "not of the form"),
        ('{"ulm_000000_000019": []}', "none of its images is in"),
        ('{"town_000000_000019": [[1, 2', "cannot be read as JSON"),
    ],
)
def test_bad_face_boxes_are_named(tmp_path, content, message):
    write(tmp_path / "data", [])
    (tmp_path / "data" / "face_boxes_train.json").write_text(content)
    with pytest.raises(UserError, match=rf"face_boxes_train\.json: {message}"):
        datamodule(tmp_path / "data").read("train", "face")


def test_keypoints_belong_to_their_person(tmp_path):
    """The file's order is detectron2's: from the last object to the first, groups counted, hidden ones not."""

    def square(x):
        return [[x, 10], [x + 8, 10], [x + 8, 20], [x, 20]]

    labels = [("person", 1), ("car", 50), ("person", 50), ("persongroup", 20), ("person", 30), ("car", 40)]
    labels += [("person", 1), ("rider", 40)]
    record = read_record(write(tmp_path, [{"label": label, "polygon": square(x)} for label, x in labels]), [])
    people = cityscapes_people(record, 1)
    assert people == [6, 4, 3, 2], "the first is hidden by the last"
    rows = [
        [[x + 4.0, 12.0, score]] * 17
        for (_, x), score in zip((labels[i] for i in people), (1, 0.3, 0.29, 0), strict=True)
    ]
    path = tmp_path / "keypoints.json"
    for entry in (rows, {"keypoints": rows}):
        path.write_text(json.dumps({record.image_id: entry, "ulm_000000_000019": []}))
        keypoints = read_keypoints(path, [record.image_id])[record.image_id].of(people)
        for instance in record.instances:
            if instance.label == 1:
                x, y, _ = keypoints[instance.id][0]
                assert instance.box[0] <= x < instance.box[2] and instance.box[1] <= y < instance.box[3]
        assert [keypoints[id_][0, 2] for id_ in people] == [1, 1, 0, 0]
    path.write_text(json.dumps({record.image_id: rows[:3]}))
    with pytest.raises(UserError, match="image town_000000_000019: keypoints of 3 people, the image has 4"):
        read_keypoints(path, [record.image_id])[record.image_id].of(people)
