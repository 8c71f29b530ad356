"""The audit, with a detector whose faces are known: red rectangles."""

import json
import shutil
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

import audit
from anonymize import FolderJob, anonymize_folder
from errors import UserError
from reporting.audit import write_audit


def red_rectangles(image):
    """Each connected red part is a face; the larger, the surer."""
    red = (image == (255, 0, 0)).all(-1).astype(np.uint8)
    _, _, parts, _ = cv2.connectedComponentsWithStats(red)
    boxes = [[x, y, x + w, y + h, min(1, area / 400)] for x, y, w, h, area in parts[1:].tolist()]
    return np.array(sorted(boxes, key=lambda box: -box[4]), np.float32).reshape(-1, 5)


FACES = {"a.png": [[10, 10, 20, 24], [40, 10, 55, 30]], "deep/b.png": [[5, 5, 15, 15]], "c.png": []}
SETTINGS = {"name": "red", "score": 0.0}


@pytest.fixture
def copy(tmp_path):
    """A masked copy of red faces of which the second was left out of the boxes, and one picture is nobody's."""
    root, boxes = tmp_path / "in", tmp_path / "boxes.json"
    (root / "deep").mkdir(parents=True)
    for name, faces in FACES.items():
        image = np.full((60, 80, 3), (30, 90, 200), np.uint8)
        for x0, y0, x1, y1 in faces:
            image[y0:y1, x0:x1] = 255, 0, 0
        Image.fromarray(image).save(root / name)
    boxes.write_text(json.dumps({name: faces[:1] for name, faces in FACES.items()}))
    job = FolderJob(str(tmp_path / "out"), workers=0, input=str(root), condition="face/mask_out", boxes=str(boxes))
    assert anonymize_folder(job)
    return tmp_path / "out"


def test_faces_are_counted_before_and_after(copy):
    report = write_audit(copy, red_rectangles, SETTINGS, workers=0)
    assert json.loads((copy / "audit.json").read_text()) == report
    assert (report["before"], report["after"]) == ({"inside": 2, "elsewhere": 1}, {"inside": 0, "elsewhere": 1})
    assert report["per_image"]["a.png"] == {
        "before": {"inside": 1, "elsewhere": 1},
        "after": {"inside": 0, "elsewhere": 1},
        "found": [{"box": [40, 10, 55, 30], "score": 0.75, "inside": False}],
    }
    assert report["per_image"]["deep/b.png"]["after"] == {"inside": 0, "elsewhere": 0}
    assert (report["detector"], report["condition"], report["images"]) == (SETTINGS, "face/mask_out", 3)


def test_a_face_still_found_in_a_region_counts_as_inside(copy):
    def everywhere(image):
        return np.array([[12, 12, 18, 22, 0.9], [0, 0, 12, 12, 0.8]], np.float32)  # of the second the centre is outside

    report = write_audit(copy, everywhere, SETTINGS, workers=0)
    assert report["per_image"]["a.png"]["after"] == {"inside": 1, "elsewhere": 1}
    assert report["per_image"]["c.png"]["after"] == {"inside": 0, "elsewhere": 2}


def test_an_audit_is_the_same_every_time(copy):
    write_audit(copy, red_rectangles, SETTINGS, workers=0)
    first = [(copy / name).read_bytes() for name in ("audit.json", "audit.png")]
    write_audit(copy, red_rectangles, SETTINGS, workers=2)
    assert [(copy / name).read_bytes() for name in ("audit.json", "audit.png")] == first


def colours(path):
    with Image.open(path) as image:
        return {colour for _, colour in image.convert("RGB").getcolors(2**24)}


def test_the_sheet_shows_what_is_left_and_no_original(copy):
    def at_the_first(image):  # whether or not there still is a face
        return np.array([[10, 10, 20, 24, 0.9]], np.float32)

    write_audit(copy, at_the_first, SETTINGS, workers=0)
    sheet = np.asarray(Image.open(copy / "audit.png").convert("RGB"))
    outline = (255, 0, 0)  # of the detection; a face would fill many times as much
    assert 0 < (sheet == outline).all(-1).mean() < 0.02
    assert (30, 90, 200) in colours(copy / "audit.png")
    assert {p.relative_to(copy).as_posix() for p in copy.rglob("*.*")} == {
        *FACES,
        "manifest.json",
        "audit.json",
        "audit.png",
    }


def test_a_sheet_without_faces(copy):
    report = write_audit(copy, lambda image: np.zeros((0, 5), np.float32), SETTINGS, workers=0)
    assert report["after"] == {"inside": 0, "elsewhere": 0} and (copy / "audit.png").stat().st_size


def test_what_is_audited_is_what_was_made(copy):
    source = copy.parent / "in/a.png"
    for path in (copy / "c.png", source):
        content = path.read_bytes()
        shutil.copy(copy / "deep/b.png", path)
        with pytest.raises(UserError, match=rf"{path.name}: is missing, or not what"):
            write_audit(copy, red_rectangles, SETTINGS, workers=0)
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"manifest\.json does not exist"):
        write_audit(copy.parent / "in", red_rectangles, SETTINGS, workers=0)
    with pytest.raises(UserError, match=r"manifest\.json: cannot be read as JSON: .*Not a directory"):
        write_audit(copy / "c.png", red_rectangles, SETTINGS, workers=0)


@pytest.mark.parametrize("content", ["[]", "{}", '{"images": []}'])
def test_another_programs_manifest_is_refused(copy, content):
    (copy / "manifest.json").write_text(content)
    with pytest.raises(UserError, match=r"manifest\.json: is none of anonymize\.py"):
        write_audit(copy, red_rectangles, SETTINGS, workers=0)


def test_an_image_is_not_overwritten(copy):
    path = copy / "manifest.json"
    content = json.loads(path.read_text())
    content["images"]["audit.png"] = content["images"].pop("c.png")
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"audit\.png: is an image of the copy, and would be overwritten"):
        write_audit(copy, red_rectangles, SETTINGS, workers=0)


def test_the_command(copy, monkeypatch, capsys):
    asked = []

    def detector(*settings):
        asked.append(settings)
        return red_rectangles

    monkeypatch.setattr("anonymization.detectors.face_detector", detector)
    monkeypatch.setattr(sys, "argv", ["audit.py", str(copy), "--score", "0.9", "--workers", "0"])
    with pytest.raises(SystemExit) as end:
        audit.main()
    printed = capsys.readouterr().out
    assert end.value.code == 0 and asked == [("centerface", 0.9, "cpu")]
    assert "faces found before: 2 in boxes of regions, 1 elsewhere" in printed
    assert "faces found after: 0 in boxes of regions, 1 elsewhere" in printed and str(copy / "audit.png") in printed


def test_a_detector_that_is_not_there(copy, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["audit.py", str(copy), "--detector", "nobody"])
    with pytest.raises(SystemExit) as end:
        audit.main()
    assert end.value.code == 2 and capsys.readouterr().err.count("\n") == 1
