"""A stranger's module: what it is given, and what is said of one that does not do."""

import pytest
import torch
from torch import Tensor, nn

from anonymization.generators import torchscript
from anonymization.generators.base import Context, Generator
from errors import UserError

CROP = (24, 16)


class Shows(nn.Module):
    """Returns what it was given: red the image's, green masks less half the bodies, blue keypoints and seed."""

    def forward(self, images: Tensor, masks: Tensor, bodies: Tensor, keypoints: Tensor, seeds: Tensor) -> Tensor:
        height, width = images.shape[2], images.shape[3]
        person = keypoints[:, 3, 0] / width * keypoints[:, 3, 2] + 0.01 * (seeds % 7)
        blue = person[:, None, None, None].expand(-1, 1, height, width)
        return torch.cat([images[:, :1], masks - bodies / 2, blue], dim=1)


class Paints(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(5, 3, 3, padding=1)

    def forward(self, images: Tensor, masks: Tensor, bodies: Tensor, keypoints: Tensor, seeds: Tensor) -> Tensor:
        return self.conv(torch.cat([images, masks, bodies], dim=1)) * 3


class OneAtATime(nn.Module):
    def forward(self, images: Tensor, masks: Tensor, bodies: Tensor, keypoints: Tensor, seeds: Tensor) -> Tensor:
        return images.reshape(1, 3, 24, 16)


class Cropped(nn.Module):
    def forward(self, images: Tensor, masks: Tensor, bodies: Tensor, keypoints: Tensor, seeds: Tensor) -> Tensor:
        return images[:, :, 1:]


class Double(nn.Module):
    def forward(self, images: Tensor, masks: Tensor, bodies: Tensor, keypoints: Tensor, seeds: Tensor) -> Tensor:
        return images.double()


class Several(nn.Module):
    def forward(
        self, images: Tensor, masks: Tensor, bodies: Tensor, keypoints: Tensor, seeds: Tensor
    ) -> tuple[Tensor, Tensor]:
        return images, masks


class Picky(nn.Module):
    """Raises what TorchScript makes of a Python exception, which is no RuntimeError."""

    def forward(self, images: Tensor, masks: Tensor, bodies: Tensor, keypoints: Tensor, seeds: Tensor):
        assert images.shape[2] == 256, "crops of 256 rows only"
        return images


class Random(nn.Module):
    def forward(self, images: Tensor, masks: Tensor, bodies: Tensor, keypoints: Tensor, seeds: Tensor) -> Tensor:
        return torch.rand_like(images)


class ImageAndMask(nn.Module):
    def forward(self, images: Tensor, masks: Tensor) -> Tensor:
        return images * masks


def saved(module, path):
    torch.jit.script(module).save(str(path))
    return path


def context(people):
    generator = torch.Generator().manual_seed(people)
    masks = torch.rand(people, 1, *CROP, generator=generator) > 0.5
    return Context(
        (torch.rand(people, 3, *CROP, generator=generator) * 2 - 1).masked_fill(masks, 0),
        masks,
        masks & (torch.rand(people, 1, *CROP, generator=generator) > 0.5),
        torch.rand(people, 17, 3, generator=generator).round() * 10,
        torch.randint(2**62, (people,), generator=generator),
    )


def test_what_it_is_given(tmp_path):
    generator: Generator = torchscript.load(saved(Shows(), tmp_path / "shows.pt"), CROP)
    given = context(5)
    red, green, blue = generator(given).unbind(1)
    assert torch.equal(red, given.images[:, 0])
    assert torch.equal(green, (given.masks.float() - given.bodies.float() / 2)[:, 0])
    points = given.keypoints[:, 3]
    expected = points[:, 0] / CROP[1] * points[:, 2] + 0.01 * (given.seeds % 7)
    assert torch.allclose(blue[:, 0, 0], expected.clamp(-1, 1))
    assert torch.equal(generator(given[2:4])[0], generator(given)[2])


def test_result_is_within_range_and_needs_no_gradient(tmp_path):
    module = Paints()
    generator = torchscript.load(saved(module, tmp_path / "paints.pt"), CROP)
    result = generator(context(2))
    assert result.abs().max() == 1 and not result.requires_grad
    assert generator.crop == CROP and generator.to(torch.device("cpu")) is generator


def test_callers_autocast_does_not_matter(tmp_path):
    generator = torchscript.load(saved(Paints(), tmp_path / "paints.pt"), CROP)
    expected = generator(context(2))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(generator(context(2)), expected)


def test_traced_module_takes_any_number_of_people(tmp_path):
    one = context(1)
    inputs = (one.images, one.masks.float(), one.bodies.float(), one.keypoints, one.seeds)
    module = Paints().requires_grad_(False)
    torch.jit.trace(module, inputs).save(str(tmp_path / "traced.pt"))
    many = context(7)
    expected = module(many.images, many.masks.float(), many.bodies.float(), many.keypoints, many.seeds).clamp(-1, 1)
    assert torch.allclose(torchscript.load(tmp_path / "traced.pt", CROP)(many), expected, atol=1e-6)


def test_name_tells_weights_apart(tmp_path):
    names = {torchscript.load(saved(Paints(), tmp_path / "paints.pt"), CROP).name for _ in range(2)}
    assert len(names) == 2
    assert all(name.startswith("torchscript:paints.pt@") and len(name.partition("@")[2]) == 12 for name in names)


@pytest.mark.parametrize(
    "module, problem",
    [
        (Cropped(), r"returns torch.float32 \[3, 3, 23, 16\]: expected torch.float32 \[3, 3, 24, 16\]"),
        (Double(), r"returns torch.float64 \[3, 3, 24, 16\]"),
        (Several(), "returns a tuple"),
        (OneAtATime(), "fails on 3 crops of 24 × 16 pixels: .*forward"),
        (ImageAndMask(), "fails on 3 crops .*expected forward"),
        (Random(), "gives other people each time"),
        (Picky(), "fails on 3 crops .*crops of 256 rows only"),
    ],
)
def test_module_that_does_not_do(tmp_path, module, problem):
    path = saved(module, tmp_path / "module.pt")
    with pytest.raises(UserError, match=problem):
        torchscript.load(path, CROP)


def test_trial_draws_nothing_from_the_global_generator(tmp_path):
    path = saved(Random(), tmp_path / "random.pt")
    state = torch.random.get_rng_state()
    with pytest.raises(UserError):
        torchscript.load(path, CROP)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_files_that_are_no_modules(tmp_path):
    with pytest.raises(UserError, match=r"nothing\.pt does not exist"):
        torchscript.load(tmp_path / "nothing.pt", CROP)
    (tmp_path / "text.pt").write_text("weights")
    torch.save(Paints().state_dict(), tmp_path / "state.pt")
    (tmp_path / "half.pt").write_bytes(saved(Paints(), tmp_path / "whole.pt").read_bytes()[:2000])
    for name in ("text.pt", "state.pt", "half.pt"):
        with pytest.raises(UserError, match=f"{name} is no TorchScript module"):
            torchscript.load(tmp_path / name, CROP)
