"""The generators of DeepPrivacy2 and TriaGAN (Hukkelås & Lindseth 2023), run by the authors' own package.

Of their code this imports ``dp2.infer``, ``dp2.utils`` and what a config names of ``dp2.generator``, with ``tops`` and
``sg3_torch_utils``. These need cloudpickle, easydict, resize_right, tensorboard, tqdm and validators. But ``dp2.utils``
also imports densepose, and a config file imports all that a *training* needs besides: webdataset, torch_fidelity,
timm, CLIP. Those get stand-ins where they are not installed, while a config is read: see `_stand_ins`.
"""

import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

from anonymization.generators import fingerprint, pose
from anonymization.generators.base import Context
from errors import UserError

# What a config file imports for detectors, discriminators, losses, metrics and data, none of which draws anybody.
FOR_TRAINING = ("clip", "densepose", "detectron2", "einops", "open_clip", "timm", "torch_fidelity", "webdataset")
INSTALL = "see docs/generators.md for what to install"
INPUTS = ("condition", "mask", "maskrcnn_mask", "keypoints", "joint_map")

# The lines of InsertJointMap, in its order (a later line covers an earlier one), with their value in the map.
HEAD, LEFT_ARM, RIGHT_ARM, TRUNK, LEFT_LEG, RIGHT_LEG = range(1, 7)
LINES = (
    (HEAD, pose.NOSE, pose.LEFT_EYE),
    (HEAD, pose.NOSE, pose.RIGHT_EYE),
    (HEAD, pose.NOSE, pose.NECK),
    (HEAD, pose.LEFT_EYE, pose.RIGHT_EYE),
    (HEAD, pose.LEFT_EYE, pose.LEFT_EAR),
    (HEAD, pose.RIGHT_EYE, pose.RIGHT_EAR),
    (TRUNK, pose.LEFT_SHOULDER, pose.RIGHT_SHOULDER),
    (LEFT_ARM, pose.LEFT_SHOULDER, pose.LEFT_ELBOW),
    (TRUNK, pose.LEFT_SHOULDER, pose.LEFT_HIP),
    (RIGHT_ARM, pose.RIGHT_SHOULDER, pose.RIGHT_ELBOW),
    (TRUNK, pose.RIGHT_SHOULDER, pose.RIGHT_HIP),
    (LEFT_ARM, pose.LEFT_ELBOW, pose.LEFT_WRIST),
    (RIGHT_ARM, pose.RIGHT_ELBOW, pose.RIGHT_WRIST),
    (TRUNK, pose.LEFT_HIP, pose.RIGHT_HIP),
    (LEFT_LEG, pose.LEFT_HIP, pose.LEFT_KNEE),
    (RIGHT_LEG, pose.RIGHT_HIP, pose.RIGHT_KNEE),
    (LEFT_LEG, pose.LEFT_KNEE, pose.LEFT_ANKLE),
    (RIGHT_LEG, pose.RIGHT_KNEE, pose.RIGHT_ANKLE),
    (TRUNK, pose.NECK, pose.PELVIS),
    (HEAD, pose.NECK, pose.NOSE),
)


class DeepPrivacy2:
    """Calls a generator of ``dp2.generator`` that has a style network: StyleGANUnet, TriaGAN. A `LatentGenerator`.

    Truncation is the paper's, to 0: each person gets the cluster centre that its seed chooses, where the checkpoint
    has such centres (TriaGAN), else the mean latent (the face generators: the seed changes nothing).

    Args:
        network: The generator.
        name: See `Generator`.
    """

    def __init__(self, network: nn.Module, name: str) -> None:
        self.network = network.eval().requires_grad_(False)
        self.crop = tuple(network.imsize)
        self.name = name

    def to(self, device: torch.device) -> Self:
        """See `Generator`."""
        self.network.to(device)
        return self

    def __call__(self, context: Context) -> Tensor:
        """See `Generator`."""
        return self.decode(self.encode(context), self.latents(context.seeds))

    @torch.no_grad()
    def latents(self, seeds: Tensor) -> Tensor:
        """See `LatentGenerator`."""
        style = self.network.style_net
        z = style.w_avg.new_zeros(len(seeds), self.network.z_channels)  # at truncation 0 it has no weight
        centers = getattr(style, "w_centers", None)
        if centers is None:
            return style.get_truncated(0, z=z)
        return style.multi_modal_truncate(0, w_indices=(seeds % len(centers)).tolist(), z=z)

    @torch.no_grad()
    def encode(self, context: Context) -> tuple[Tensor, ...]:
        """See `LatentGenerator`: the network's inputs, ``INPUTS``, for the latent also modulates its encoder."""
        known = (~context.masks).float()
        height, width = self.crop
        x, y, visible = context.keypoints.float().unbind(-1)
        visible = ((visible > 0) & (x >= 0) & (x <= width) & (y >= 0) & (y <= height)).float()
        keypoints = torch.stack([x / width, y / height, visible], dim=-1)
        encoded = (context.images * known, known, (~context.bodies).float(), keypoints.to(known.device))
        if not getattr(self.network, "input_joint", False):
            return encoded
        at_crop = torch.stack([x, y, visible], dim=-1).cpu().numpy()
        return *encoded, torch.from_numpy(joint_maps(at_crop, self.crop)).to(known.device)

    def decode(self, encoded: tuple[Tensor, ...], latents: Tensor) -> Tensor:
        """See `LatentGenerator`."""
        inputs = dict(zip(INPUTS, encoded, strict=False))
        # z goes unused, but TriaGAN would draw one of torch's global random numbers. img only lends the result what
        # lies outside the mask, so that the condition does: in it the person is not.
        z = latents.new_zeros(len(latents), self.network.z_channels)
        return self.network(**inputs, img=inputs["condition"], z=z, w=latents)["img"].clamp(-1, 1)


def load(path: Path) -> DeepPrivacy2:
    """Build the generator of one of the authors' config files, with the weights that the config names.

    A config file is a Python program, which is run. Weights are read by torch.load, of tensors only.

    Args:
        path: Such as ``deep_privacy2/configs/fdh/triagan/L_im288.py``.

    Raises:
        UserError: A package, the config or the weights are missing; or its generator needs what is not known here.
    """
    for package in ("dp2", "tops"):
        if find_spec(package) is None:
            raise UserError(f"deep_privacy2 needs the package {package}: {INSTALL}")
    if not path.is_file():
        raise UserError(f"config {path} does not exist")
    try:
        with _stand_ins():
            from dp2.infer import build_trained_generator
            from dp2.utils import load_config

            config = load_config(path)
    except ImportError as error:
        raise UserError(f"{path} needs {error.name or error}: {INSTALL}") from None
    _check_weights(config, path)
    try:
        network = build_trained_generator(config, map_location=torch.device("cpu"))
    except pickle.UnpicklingError:
        raise UserError(f"the weights of {path} are no file of tensors, and nothing else is unpickled") from None
    except (OSError, AssertionError, EOFError, KeyError, RuntimeError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"the weights of {path} cannot be read: {reason}; {INSTALL}") from None
    if not hasattr(network, "style_net") or getattr(network, "input_cse", False):
        usable = "fdh/triagan/L_im288.py, fdf/stylegan_fdf128.py or fdf/stylegan.py"
        raise UserError(f"{path}: {type(network).__name__} needs more than is known here; use {usable}")
    return DeepPrivacy2(network, f"deep_privacy2:{path.name}@{fingerprint(network.state_dict())}")


def joint_maps(keypoints: np.ndarray, crop: tuple[int, int]) -> np.ndarray:
    """Draw people's limbs as the generator was trained on them, by lines a pixel wide (dp2's InsertJointMap).

    Where the nose is not known but the shoulders are, a line goes from between the eyes to the neck. The authors draw
    it from wherever unknown eyes are said to be; here both eyes must be known.

    Args:
        keypoints: float32 [P, 17, 3]: x and y in crop pixels, and above 0 where the keypoint is known.
        crop: Height and width of the crops.

    Returns:
        uint8 [P, 1, h, w]: 1 head, 2 left arm, 3 right arm, 4 trunk, 5 left leg, 6 right leg, else 0.
    """
    height, width = crop
    maps = np.zeros((len(keypoints), 1, height, width), np.uint8)
    for person, joints in enumerate(keypoints):
        joints = np.concatenate(
            [
                joints,
                _middle(joints, pose.LEFT_SHOULDER, pose.RIGHT_SHOULDER),
                _middle(joints, pose.LEFT_HIP, pose.RIGHT_HIP),
                _middle(joints, pose.LEFT_EYE, pose.RIGHT_EYE),
            ]
        )
        lines = LINES if joints[pose.NOSE, 2] > 0 else (*LINES, (HEAD, len(joints) - 1, pose.NECK))
        picture = Image.new("L", (width, height))
        draw = ImageDraw.Draw(picture)
        places = [(int(x), int(y)) for x, y in joints[:, :2].round()]
        for value, start, end in lines:
            if joints[start, 2] > 0 and joints[end, 2] > 0:
                draw.line((places[start], places[end]), fill=value, width=1)
        maps[person, 0] = picture
    return maps


def _middle(joints: np.ndarray, a: int, b: int) -> np.ndarray:
    """The joint between two, known where both are: float32 [1, 3]."""
    middle = (joints[a : a + 1] + joints[b : b + 1]) / 2
    middle[:, 2] = min(joints[a, 2], joints[b, 2])
    return middle


def _check_weights(config: Any, path: Path) -> None:
    # dp2 goes on with random weights where it finds none.
    folder = Path(config.checkpoint_dir)
    if "model_url" not in config.common and not any(folder.glob("*.ckpt")):
        raise UserError(f"{path} names no model_url, and there is no checkpoint in {folder}")


@contextmanager
def _stand_ins() -> Iterator[None]:
    """Let packages of ``FOR_TRAINING`` be imported where they are not installed."""
    finder = _StandIns()
    sys.meta_path.append(finder)  # the last that is asked, so it answers for nothing that is there
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in finder.made:
            sys.modules.pop(name, None)


class _StandIns(MetaPathFinder, Loader):
    def __init__(self) -> None:
        self.made: list[str] = []

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if fullname.partition(".")[0] in FOR_TRAINING:
            return ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        self.made.append(spec.name)
        return _StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


class _StandIn(ModuleType):
    """A module in which every name is a class that does nothing."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})
