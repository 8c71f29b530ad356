"""What a config's value of a generator key loads, and what is said of values that name none."""

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from anonymization.generators import fingerprint, load_generator
from anonymization.generators.base import Context, LatentGenerator
from anonymization.generators.unet import Architecture, UNetGenerator
from anonymization.options import Diffusers
from errors import UserError

CROP = (64, 32)
KEY = "generators.body"


class Grey(nn.Module):
    def forward(self, images: Tensor, masks: Tensor, bodies: Tensor, keypoints: Tensor, seeds: Tensor) -> Tensor:
        return images * (1 - masks)


@pytest.fixture
def own(tmp_path):
    """A file of the project's own network, untrained."""
    architecture = Architecture(crop=CROP, channels=(8, 8), latent=4, style=8)
    UNetGenerator(architecture).save(tmp_path / "own.safetensors", {})
    return tmp_path / "own.safetensors"


def draw(generator):
    mask = torch.ones(2, 1, *CROP, dtype=torch.bool)
    with torch.no_grad():
        return generator(Context(torch.zeros(2, 3, *CROP), mask, mask, torch.zeros(2, 17, 3), torch.arange(2)))


def test_own_network(own):
    generator = load_generator(KEY, str(own), CROP)
    assert isinstance(generator, LatentGenerator) and generator.crop == CROP
    assert draw(generator).shape == (2, 3, *CROP)


def test_torchscript(tmp_path):
    torch.jit.script(Grey()).save(str(tmp_path / "grey.pt"))
    generator = load_generator(KEY, f"torchscript:{tmp_path / 'grey.pt'}", CROP)
    assert generator.crop == CROP and not draw(generator).any()


def test_generator_for_other_crops(own):
    with pytest.raises(
        UserError, match=r"^generators\.body: .*own\.safetensors is for crops of 64 × 32 pixels .* 288 × 160$"
    ):
        load_generator(KEY, str(own), (288, 160))


@pytest.mark.parametrize(
    "spec, problem",
    [
        ("torchscrpt:model.pt", r"unknown generator 'torchscrpt:model\.pt', did you mean 'torchscript'\?"),
        ("deepprivacy2:L_im288.py", r"did you mean 'deep_privacy2'\?"),
        ("weights.ckpt", r"unknown generator 'weights\.ckpt'.*FILE\.safetensors"),
        ("", "unknown generator ''; choose from"),
        ("diffusers", "'diffusers' does not say which: give it as diffusers:NAME"),
        ("torchscript:", "'torchscript:' does not say which: give it as torchscript:PATH"),
        ("torchscript:nothing.pt", r"model file nothing\.pt does not exist"),
        ("nothing.safetensors", r"nothing\.safetensors does not exist"),
        ("diffusers:/nothing/here", "folder /nothing/here does not exist"),
        ("deep_privacy2:nothing.py", r"(needs the package dp2|config nothing\.py does not exist)"),
    ],
)
def test_values_that_name_nothing(spec, problem):
    with pytest.raises(UserError, match=problem) as error:
        load_generator(KEY, spec, (288, 160))
    assert str(error.value).startswith(f"{KEY}: ")


def test_options_reach_the_pipeline():
    with pytest.raises(UserError, match=r"generators\.diffusers\.strength: 2\.0"):
        load_generator(KEY, "diffusers:name", CROP, Diffusers(strength=2.0))


def test_nothing_heavy_is_imported():
    program = (
        "import sys, anonymization.generators, anonymization.options\n"
        "assert not {'torch', 'diffusers', 'transformers', 'numpy'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_fingerprint():
    weights = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(True), "c": torch.zeros(0)}
    first = fingerprint(weights)
    assert len(first) == 12 and int(first, 16) >= 0
    assert fingerprint(dict(reversed(weights.items()))) == first
    others = [
        fingerprint(weights, "more"),
        fingerprint({**weights, "a": weights["a"].T}),
        fingerprint({**weights, "a": weights["a"].to(torch.bfloat16)}),
        fingerprint({**weights, "a": weights["a"] + 1e-6}),
        fingerprint({"d" if name == "c" else name: value for name, value in weights.items()}),
    ]
    assert len({first, *others}) == 6
