"""Nothing that is loaded is run, and no annotation names a file outside its dataset."""

import ast
import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from pytorch_lightning import Trainer
from pytorch_lightning.demos.boring_classes import BoringModel
from torchvision.models import get_model_weights

from anonymization.boxes import BODY_CROP
from anonymization.detectors import face_detector
from anonymization.generators import load_generator
from configs import ModelConfig, load_config
from datamodules.folder import given_faces
from datamodules.layouts import LAYOUTS
from errors import UserError
from lightning_modules.mishaps import CheckpointIO
from lightning_modules.models import build_model, load_weights, read_state

ROOT = Path(__file__).parent.parent


class Evil:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.fixture(params=["pickle", "old", "zip", "state"])
def evil(request, tmp_path):
    """A function that writes a malicious file, and nothing may have happened at the end."""
    trace = tmp_path / "trace"
    thing = Evil(trace)

    def write(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if request.param == "pickle":
            path.write_bytes(pickle.dumps(thing))
        else:
            content = {"state_dict": {"model.a": torch.zeros(1), "b": thing}} if request.param == "state" else thing
            torch.save(content, path, _use_new_zipfile_serialization=request.param != "old")
        return path

    yield write
    assert not trace.exists()
    pickle.loads(pickle.dumps(thing))
    assert trace.exists(), "the test itself would not see it"


def refused(load, *parts):
    with pytest.raises(UserError) as caught:
        load()
    message = str(caught.value)
    assert "\n" not in message and all(str(part) in message for part in parts), message


def test_weights(evil, tmp_path):
    path = evil(tmp_path / "weights.pth")
    config = ModelConfig(name="maskrcnn_small", weights=str(path))
    refused(lambda: load_weights(build_model(config, 3), config, ("a", "b")), "model.weights", path, "cannot be loaded")
    refused(lambda: read_state(path, "--checkpoint"), "--checkpoint", path)


@pytest.mark.parametrize("weights", ["imagenet", "COCO_V1"])
def test_published_weights_that_lie_in_the_hubs_folder(evil, tmp_path, monkeypatch, weights):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    name = "maskrcnn_resnet50_fpn"
    url = "resnet50-0676ba61.pth" if weights == "imagenet" else get_model_weights(name)[weights].url
    path = evil(tmp_path / "checkpoints" / Path(url).name)
    config = ModelConfig(name=name, weights=weights)
    refused(lambda: load_weights(build_model(config, 3), config, ("a", "b")), "model.weights", path)


def test_a_run_does_not_go_on_from_it(evil, tmp_path):
    path = evil(tmp_path / "checkpoints" / "last.ckpt")
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "max_steps": 1}
    trainer = Trainer(accelerator="cpu", plugins=[CheckpointIO()], default_root_dir=tmp_path, **quiet)
    refused(lambda: trainer.fit(BoringModel(), ckpt_path=path), path, "cannot be read as a checkpoint")


@pytest.mark.parametrize("spec", ["{}/generator.safetensors", "torchscript:{}/generator.pt"])
def test_generators(evil, tmp_path, spec):
    spec = spec.format(tmp_path)
    path = evil(Path(spec.rpartition(":")[2]))
    refused(lambda: load_generator("generators.body", spec, BODY_CROP), "generators.body", path)


def test_detectors(evil, tmp_path):
    path = evil(tmp_path / "detector.jit")
    image = torch.zeros(8, 8, 3, dtype=torch.uint8).numpy()
    refused(lambda: face_detector(f"torchscript:{path}", 0.3)(image), path)


@pytest.fixture
def dataset(streetscenes, tmp_path):
    def read(layout, condition="original"):
        root = tmp_path / "data"
        if not root.exists():
            shutil.copytree(streetscenes[layout.partition("_")[0]], root)
        overrides = [f"data.root={root}", f"data.index_dir={tmp_path / 'index'}", f"condition={condition}"]
        return LAYOUTS[layout](load_config(f"configs/{layout}.yaml", overrides))

    return read


FILES = [
    ("cityscapes", "gtFine/train/*/*_polygons.json"),
    ("cityscapes", "face_boxes_train.json"),
    ("cityscapes", "leftImg8bit/train/*/*.png"),
    ("coco_instances", "annotations/instances_train2017.json"),
    ("coco_instances", "train2017/*.jpg"),
    ("bdd100k", "jsons/ins_seg_train_cocofmt.json"),
]


@pytest.mark.parametrize(("layout", "pattern"), FILES)
def test_files_of_datasets(evil, dataset, layout, pattern):
    module = dataset(layout, "face/blur")
    path = evil(sorted(module.root.glob(pattern))[0])
    refused(lambda: module.setup("fit"), path)


def test_what_else_lies_in_a_dataset_is_not_opened(evil, dataset):
    """An index is read from data.index_dir alone."""
    module = dataset("cityscapes")
    module.setup("fit")
    (index, *_) = sorted(Path(module.config.index_dir).glob("*.index"))
    for folder in (".", "outputs/index", "leftImg8bit/train", "gtFine/train"):
        evil(module.root / folder / index.name)
    again = dataset("cityscapes")
    again.setup("fit")
    assert len(again.train) == len(module.train)


# --- What the project calls -------------------------------------------------------------------------------

# Of a function, the arguments without which it would unpickle.
NEEDED = {
    "torch.load": {"weights_only": True},
    "get_state_dict": {"weights_only": True},
    "load_state_dict_from_url": {"weights_only": True},
    "from_pretrained": {"use_safetensors": True},
    "np.load": {"allow_pickle": False},
}
NEVER = (
    "yaml.load",
    "yaml.load_all",
    "yaml.full_load",
    "yaml.unsafe_load",
    "eval",
    "exec",
    "marshal.loads",
    "shelve.open",
)
NEVER += (
    "pickle.load",
    "pickle.loads",
    "pickle.Unpickler",
    "joblib.load",
    "load_from_checkpoint",
    "pandas.read_pickle",
)
PICKLES = {"datamodules/index.py"}  # the project's own, in a folder where nobody else writes


def test_nothing_is_called_that_runs_what_it_loads():
    folders = ("anonymization", "configs", "datamodules", "lightning_modules", "metrics", "reporting", "benchmarks", "")
    files = [path for folder in folders for path in (ROOT / folder).glob("**/*.py" if folder else "*.py")]
    seen = set()
    for path in files:
        name = path.relative_to(ROOT).as_posix()
        for call in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)):
            function = ast.unparse(call.func)
            where = f"{name}:{call.lineno}: {function}"
            short = function.rpartition(".")[2]
            assert not {function, short} & set(NEVER) or name in PICKLES or function.endswith(".eval"), where
            given = {k.arg: getattr(k.value, "value", None) for k in call.keywords}
            for needed in {function, short} & NEEDED.keys():
                seen.add(needed)
                default = {"allow_pickle": False} if needed == "np.load" else {}
                assert (default | given) | NEEDED[needed] == default | given, where
    assert {"torch.load", "np.load", "get_state_dict", "from_pretrained"} <= seen


# --- Names of files ---------------------------------------------------------------------------------------

ESCAPES = ["../../x.png", "../x.jpg", "sub/../../x.jpg", "{outside}/x.jpg", "a\0.jpg", ".", "..", ""]


@pytest.mark.parametrize("name", ESCAPES)
@pytest.mark.parametrize(
    ("layout", "file", "condition"),
    [
        ("coco_instances", "annotations/instances_train2017.json", "original"),
        ("coco_instances", "annotations/instances_train2017.json", "body/blur"),
        ("coco_keypoints", "annotations/person_keypoints_train2017.json", "original"),
        ("bdd100k", "jsons/ins_seg_train_cocofmt.json", "body/blur"),
    ],
)
def test_annotations_name_no_file_outside_their_folder(dataset, tmp_path, layout, file, condition, name):
    module = dataset(layout, condition)
    path = module.root / file
    content = json.loads(path.read_text())
    image = content["images"][0]
    source = module.root / module.image_folder("train") / image["file_name"]
    for outside in (tmp_path / "x.png", tmp_path / "x.jpg", module.root / "x.jpg", source.parent.parent / "x.jpg"):
        shutil.copyfile(source, outside)
    (source.parent / "sub").mkdir()
    image["file_name"] = name.format(outside=tmp_path)
    path.write_text(json.dumps(content))
    for of_people in path.parent.glob("person_keypoints_train2017.json"):  # is to be about the same images
        of_people.write_text(json.dumps(json.loads(of_people.read_text()) | {"images": content["images"]}))
    refused(lambda: module.read("train", module.condition.region), path, f"image {image['id']}: file_name")


@pytest.mark.parametrize(
    "name", ["../x.png", "../pictures/a.png", "{outside}/x.png", "{outside}/pictures/a.png", "a\0"]
)
def test_boxes_name_no_picture_outside_the_folder(tmp_path, name):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for path in (folder / "a.png", tmp_path / "x.png"):
        Image.new("RGB", (8, 8)).save(path)
    boxes = tmp_path / "boxes.json"
    name = name.format(outside=tmp_path)
    boxes.write_text(json.dumps({"a.png": [], name: []}))
    refused(lambda: given_faces(boxes, folder), "boxes", boxes)
