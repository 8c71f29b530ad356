"""A folder of pictures with the caller's own faces and bodies."""

import json

import numpy as np
import pytest
from PIL import Image

from datamodules.folder import FolderRecords, detected_faces, given_bodies, given_faces
from datamodules.record import decode
from datamodules.regions import record_regions
from errors import UserError


@pytest.fixture
def folder(tmp_path):
    """Three pictures of 40 × 30 pixels, one turned by its Exif orientation, and a file that is no picture."""
    root = tmp_path / "pictures"
    (root / "deep").mkdir(parents=True)
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8))
    for name, orientation in (("a.png", 1), ("b.png", 3), ("deep/c.png", 6)):
        exif = Image.Exif()
        exif[0x0112] = orientation
        picture.save(root / name, exif=exif)
    (root / "notes.txt").write_text("no picture")
    return root


def by_name(records):
    return {path.relative_to(records.root).as_posix(): i for i, path in enumerate(records.paths)}


def test_every_file_is_there_and_upright(folder):
    records = FolderRecords(folder, detected_faces(lambda image: np.zeros((0, 5), np.float32)))
    places = by_name(records)
    assert list(places) == ["a.png", "b.png", "deep/c.png", "notes.txt"]
    plain = np.asarray(Image.open(folder / "a.png"))
    for name, turns in (("a.png", 0), ("b.png", 2), ("deep/c.png", -1)):
        record = records[places[name]]
        np.testing.assert_array_equal(record.read_image(), np.rot90(plain, turns))
        assert record.image_id == name and record.size == record.read_image().shape[:2]
    with pytest.raises(UserError, match=r"notes\.txt: picture cannot be decoded"):
        records[places["notes.txt"]]


def test_detected_faces(folder):
    def detect(image):
        return np.array([[1, 2, 9, 12, 0.9], [20, 5, 30, 20, 0.4]], np.float32)

    records = FolderRecords(folder, detected_faces(detect))
    assert records[0].faces == [(0, [1, 2, 9, 12]), (1, [20, 5, 30, 20])]
    assert len(record_regions(records[0], "face", 0)) == 2


def test_given_faces(folder, tmp_path):
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps({"a.png": [[1, 2, 9, 12]], "deep/c.png": []}))
    records = FolderRecords(folder, given_faces(path, folder))
    places = by_name(records)
    assert records[places["a.png"]].faces == [(0, [1, 2, 9, 12])]
    assert records[places["deep/c.png"]].faces == []
    with pytest.raises(UserError, match=r"has no entry for 'b\.png'"):
        records[places["b.png"]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"x.png": []}', "'x.png', which .* does not have"),
        ('{"a.png": [[1, 2, 3]]}', "is not of the form"),
        ('{"a.png": 3}', "is not of the form"),
        ("[]", "is not of the form"),
        ("{", "cannot be read as JSON"),
    ],
)
def test_wrong_boxes_are_refused(folder, tmp_path, content, message):
    path = tmp_path / "boxes.json"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        given_faces(path, folder)


def test_given_bodies(folder):
    masks = folder / "masks"  # inside, and yet no pictures
    (masks / "deep").mkdir(parents=True)
    numbers = np.zeros((30, 40), np.uint16)
    numbers[3:20, 5:12], numbers[10:25, 20:30] = 1, 300
    Image.fromarray(numbers).save(masks / "a.png")
    Image.fromarray(numbers.astype(np.uint8)).save(masks / "deep" / "c.png")
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(masks / "b.png")
    records = FolderRecords(folder, given_bodies(masks, folder), [masks])
    places = by_name(records)
    assert not any(name.startswith("masks") for name in places)
    record = records[places["a.png"]]
    assert [id_ for id_, _ in record.bodies] == [1, 300]
    decoded = decode([mask for _, mask in record.bodies], record.size)
    np.testing.assert_array_equal(decoded.astype(bool), [numbers == 1, numbers == 300])
    with pytest.raises(UserError, match=r"c\.png: has \(30, 40\) pixels, its picture \(40, 30\)"):
        records[places["deep/c.png"]]
    with pytest.raises(UserError, match="has colours"):
        records[places["b.png"]]
    with pytest.raises(UserError, match="does not exist"):
        given_bodies(folder / "none", folder)
    (folder / "a").write_bytes((folder / "a.png").read_bytes())
    records = FolderRecords(folder, given_bodies(masks, folder), [masks])
    with pytest.raises(UserError, match=r"^a: is not named as a picture"):  # or it would take the other's mask
        records[by_name(records)["a"]]
