"""DeepPrivacy2's generators, by stand-ins for the authors' packages that are called as theirs are."""

import importlib.util
import sys

import numpy as np
import pytest
import torch

from anonymization.generators import deep_privacy2, pose
from anonymization.generators.base import Context, LatentGenerator
from errors import UserError

BODY, FACE = (48, 32), (16, 16)
INSTALLED = {name for name in deep_privacy2.FOR_TRAINING if importlib.util.find_spec(name)}

# What dp2 imports, with its signatures; and a network whose result shows its latent, and which keeps what it was given.
PACKAGES = {
    "tops/__init__.py": "",
    "dp2/__init__.py": "",
    "dp2/utils/__init__.py": """
import runpy
from types import SimpleNamespace

from densepose.modeling.cse.utils import get_closest_vertices_mask_from_ES  # not installed: a stand-in


def load_config(config_path):
    return SimpleNamespace(checkpoint_dir="nowhere", **runpy.run_path(str(config_path)))
""",
    "dp2/infer.py": """
import tops


def build_trained_generator(cfg, map_location=None):
    return cfg.build().to(map_location)
""",
    "dp2/generator.py": """
import torch
from torch import nn


class StyleNet(nn.Module):
    def __init__(self, z_dim, w_dim, centers):
        super().__init__()
        self.z_dim = z_dim
        self.calls = []
        self.register_buffer("w_avg", torch.linspace(-0.5, 0.5, w_dim))
        if centers:
            self.register_buffer("w_centers", torch.arange(centers * w_dim).view(centers, w_dim) / 100)

    def forward(self, z):
        return z.repeat(1, len(self.w_avg))[:, : len(self.w_avg)]

    def get_truncated(self, truncation_value, condition=None, z=None, n=None, **kwargs):
        self.calls.append(("mean", truncation_value))
        n = n if n is not None else len(condition if condition is not None else z)
        z = torch.randn((n, self.z_dim)) if z is None else z
        return self.w_avg.lerp(self(z), truncation_value)

    def multi_modal_truncate(self, truncation_value, condition=None, w_indices=None, z=None, n=None, **kwargs):
        self.calls.append(("centres", truncation_value))
        z = torch.randn((len(w_indices), self.z_dim)) if z is None else z
        return self.w_centers[w_indices].lerp(self(z), truncation_value)


class Network(nn.Module):
    z_channels = 4

    def __init__(self, imsize, input_joint=False, centers=0, input_cse=False, style=True):
        super().__init__()
        self.imsize = imsize
        self.input_joint = input_joint
        self.input_cse = input_cse
        self.gain = nn.Parameter(torch.ones(1))
        self.calls = []
        if style:
            self.style_net = StyleNet(self.z_channels, 6, centers)

    def forward(self, condition, mask, maskrcnn_mask=None, img=None, z=None, w=None, update_emas=False, keypoints=None,
                s=None, joint_map=None, **kwargs):
        if z is None:
            z = torch.randn(len(condition), self.z_channels)
        self.calls.append(dict(condition=condition, mask=mask, maskrcnn_mask=maskrcnn_mask, img=img,
                               keypoints=keypoints, joint_map=joint_map, training=self.training))
        x = (w[:, :3, None, None] * self.gain).expand_as(condition)
        return dict(img=mask * img + (1 - mask) * x)
""",
}
CONFIG = """
import timm.models
from webdataset import WebDataset

from dp2.generator import Network

common = dict(model_url="https://nowhere/weights.ckpt")
loader = WebDataset()


def build():
    return Network({arguments})
"""
NETWORKS = {"body": f"{BODY}, input_joint=True, centers=5", "face": f"{list(FACE)}"}


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Writes a config of the stand-in packages, which can be imported."""

    def forget():
        for name in [n for n in sys.modules if n.partition(".")[0] in ("dp2", "tops")]:
            del sys.modules[name]

    for name, source in PACKAGES.items():
        path = tmp_path / "packages" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    monkeypatch.syspath_prepend(tmp_path / "packages")
    forget()

    def write(arguments, text=CONFIG):
        path = tmp_path / "L_im288.py"
        path.write_text(text.replace("{arguments}", arguments))
        return path

    yield write
    forget()


def context(crop, seeds):
    people = len(seeds)
    generator = torch.Generator().manual_seed(people)
    masks = torch.zeros(people, 1, *crop, dtype=torch.bool)
    masks[:, :, 4:-4, 4:-4] = True
    bodies = masks.clone()
    bodies[:, :, :6] = False
    keypoints = torch.rand(people, 17, 3, generator=generator) * torch.tensor([crop[1], crop[0], 1])
    keypoints[..., 2] = (keypoints[..., 2] > 0.3).float()
    images = torch.rand(people, 3, *crop, generator=generator) * 2 - 1
    return Context(images.masked_fill(masks, 0), masks, bodies, keypoints, torch.tensor(seeds))


def test_what_the_network_is_given(config):
    generator = deep_privacy2.load(config(NETWORKS["body"]))
    given = context(BODY, [3, 8, 11])
    given.keypoints[1, 5] = torch.tensor([-2.0, 7.0, 1.0])  # left of the crop
    given.keypoints[2, 5] = torch.tensor([8.0, 12.0, 0.9])  # known, by a score
    result = generator(given)

    (call,) = generator.network.calls  # everybody at once
    assert not call["training"]
    assert torch.equal(call["mask"], (~given.masks).float())  # 1 is known
    assert torch.equal(call["maskrcnn_mask"], (~given.bodies).float())
    assert torch.equal(call["condition"], given.images) and torch.equal(call["img"], given.images)
    assert (call["condition"].masked_select(given.masks) == 0).all()

    keypoints = call["keypoints"]
    assert torch.allclose(keypoints[..., :2] * torch.tensor([BODY[1], BODY[0]]), given.keypoints[..., :2])
    assert keypoints[1, 5, 2] == 0 and keypoints[2, 5, 2] == 1
    assert set(keypoints[..., 2].unique().tolist()) <= {0, 1}
    known = keypoints[..., 2] == 1
    assert (keypoints[known][:, :2] >= 0).all() and (keypoints[known][:, :2] <= 1).all()

    maps = call["joint_map"]
    assert maps.shape == (3, 1, *BODY) and maps.dtype == torch.uint8 and 0 < maps.max() <= 6
    assert result.shape == given.images.shape and result.dtype == torch.float32
    assert torch.equal(result.masked_fill(given.masks, 0), given.images)


def test_bodies_get_the_centre_that_the_seed_chooses(config):
    generator = deep_privacy2.load(config(NETWORKS["body"]))
    assert isinstance(generator, LatentGenerator) and generator.crop == BODY
    seeds = [0, 4, 5, 2**62 + 3]
    latents = generator.latents(torch.tensor(seeds))
    style = generator.network.style_net
    assert torch.equal(latents, style.w_centers[[seed % 5 for seed in seeds]])
    assert style.calls == [("centres", 0)]


def test_faces_get_the_mean(config):
    generator = deep_privacy2.load(config(NETWORKS["face"]))
    given = context(FACE, [1, 2])
    result = generator(given)
    style, (call,) = generator.network.style_net, generator.network.calls
    assert style.calls == [("mean", 0)] and generator.crop == FACE
    assert call["joint_map"] is None
    assert torch.equal(result[:, :, 8, 8], style.w_avg[:3].expand(2, 3))


def test_parts_are_the_whole_and_differentiable(config):
    generator = deep_privacy2.load(config(NETWORKS["body"]))
    given = context(BODY, [3, 9])
    state = torch.random.get_rng_state()
    expected = generator(given)
    assert torch.equal(torch.random.get_rng_state(), state)  # nothing drawn but from seeds

    encoded = generator.encode(given)
    assert all(len(part) == 2 for part in encoded)
    latents = generator.latents(given.seeds).requires_grad_()
    decoded = generator.decode(encoded, latents)
    assert torch.equal(decoded, expected)
    decoded[0].sum().backward()
    assert latents.grad[0].abs().sum() > 0 and latents.grad[1].abs().sum() == 0
    assert generator.network.gain.grad is None


def test_result_stays_within_range(config):
    generator = deep_privacy2.load(config(NETWORKS["body"]))
    encoded = generator.encode(context(BODY, [1]))
    assert generator.decode(encoded, torch.full((1, 6), 9.0)).max() == 1


def test_name_tells_weights_apart(config):
    generator = deep_privacy2.load(config(NETWORKS["face"]))
    other = deep_privacy2.load(config(NETWORKS["face"].replace("]", "], centers=3")))
    again = deep_privacy2.load(config(NETWORKS["face"]))
    assert generator.name == again.name != other.name
    assert generator.name.startswith("deep_privacy2:L_im288.py@")


def test_stand_ins_are_gone_afterwards(config):
    deep_privacy2.load(config(NETWORKS["face"]))
    left = {name.partition(".")[0] for name in sys.modules} & set(deep_privacy2.FOR_TRAINING)
    assert left <= INSTALLED
    assert {name for name in deep_privacy2.FOR_TRAINING if importlib.util.find_spec(name)} == INSTALLED


@pytest.mark.parametrize(
    "text, problem",
    [
        (CONFIG.replace("timm", "easierdict"), "needs easierdict: see docs/generators.md"),
        (CONFIG.replace("model_url", "model_path"), "names no model_url, and there is no checkpoint in nowhere"),
        (CONFIG.replace("return Network", "raise OSError('<urlopen error>')  #"), "cannot be read: <urlopen error>"),
        (CONFIG.replace("return Network", "assert False, 'md5 differs'  #"), "cannot be read: md5 differs"),
        (CONFIG.replace("return Network", "import pickle; raise pickle.UnpicklingError  #"), "are no file of tensors"),
        (CONFIG.replace("{arguments}", "(8, 8), style=False"), "Network needs more than is known here"),
        (CONFIG.replace("{arguments}", "(8, 8), input_cse=True"), "Network needs more than is known here"),
    ],
)
def test_configs_that_do_not_do(config, text, problem):
    path = config(NETWORKS["face"], text)
    with pytest.raises(UserError, match=problem):
        deep_privacy2.load(path)


def test_missing_config(config, tmp_path):
    with pytest.raises(UserError, match=r"nothing\.py does not exist"):
        deep_privacy2.load(tmp_path / "nothing.py")


@pytest.mark.skipif(importlib.util.find_spec("dp2") is not None, reason="dp2 is installed")
def test_missing_package(tmp_path):
    with pytest.raises(UserError, match="needs the package dp2: see docs"):
        deep_privacy2.load(tmp_path / "L_im288.py")


def joints(**places):
    keypoints = np.zeros((1, 17, 3), np.float32)
    for name, place in places.items():
        keypoints[0, getattr(pose, name.upper())] = (*place, 1)
    return keypoints


def test_joint_map_lines():
    """A line to the right and one down, each a pixel wide, both ends included, at rounded places."""
    person = joints(left_hip=(2.4, 3), left_knee=(6.6, 3), right_shoulder=(1, 6), right_elbow=(1, 9))
    expected = np.zeros((12, 10), np.uint8)
    expected[3, 2:8] = 5
    expected[6:10, 1] = 3
    np.testing.assert_array_equal(deep_privacy2.joint_maps(person, (12, 10))[0, 0], expected)


def test_joint_map_values():
    """One limb at a time has the authors' value, from 1 to 6."""
    limbs = {
        1: ("nose", "left_eye"),
        2: ("left_elbow", "left_wrist"),
        3: ("right_elbow", "right_wrist"),
        4: ("left_shoulder", "left_hip"),
        5: ("left_knee", "left_ankle"),
        6: ("right_hip", "right_knee"),
    }
    for value, (start, end) in limbs.items():
        drawn = deep_privacy2.joint_maps(joints(**{start: (2, 2), end: (7, 7)}), (10, 10))
        assert set(np.unique(drawn)) == {0, value}
    assert not deep_privacy2.joint_maps(joints(left_wrist=(2, 2), left_knee=(7, 7)), (10, 10)).any()


def test_joint_map_order():
    """The neck is between the shoulders; the head is drawn over the trunk, the arms under it."""
    shoulders = {"left_shoulder": (1, 4), "right_shoulder": (9, 4)}
    drawn = deep_privacy2.joint_maps(joints(**shoulders, nose=(5, 0), left_hip=(1, 9), right_hip=(9, 9)), (12, 12))[
        0, 0
    ]
    assert (drawn[:5, 5] == 1).all() and (drawn[5:10, 5] == 4).all()
    assert drawn[4, 1] == drawn[4, 9] == 4


def test_joint_map_without_nose():
    """From between the eyes to the neck, if both eyes are known."""
    shoulders = {"left_shoulder": (2, 8), "right_shoulder": (8, 8)}
    eyes = {"left_eye": (4, 1), "right_eye": (6, 1)}
    drawn = deep_privacy2.joint_maps(joints(**shoulders, **eyes), (12, 12))[0, 0]
    assert (drawn[1:9, 5] == 1).all()
    one_eye = deep_privacy2.joint_maps(joints(**shoulders, left_eye=(4, 1)), (12, 12))[0, 0]
    assert set(np.unique(one_eye)) == {0, 4}
