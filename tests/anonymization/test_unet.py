import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from anonymization.generators.base import Context, LatentGenerator
from anonymization.generators.unet import Architecture, UNetGenerator
from anonymization.methods.base import Crops
from errors import UserError

SMALL = Architecture((64, 32), stride=4, output_stride=2, channels=(8, 16), latent=4, style=8)


def build(architecture=SMALL, centers=5, seed=0):
    torch.manual_seed(seed)
    generator = UNetGenerator(architecture, centers)
    generator.centers.normal_()
    return generator.eval().requires_grad_(False)


def context(people, crop=(64, 32), seed=0, pixels_seed=None):
    random = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (people, 3, *crop), generator=random, dtype=torch.uint8)
    masks = torch.rand(people, 1, *crop, generator=random) < 0.4
    bodies = masks & (torch.rand(people, 1, *crop, generator=random) < 0.8)
    keypoints = torch.rand(people, 17, 3, generator=random) * 32
    if pixels_seed is not None:
        random.manual_seed(pixels_seed)
        other = torch.randint(256, images.shape, generator=random, dtype=torch.uint8)
        images = torch.where(masks, other, images)
    return Context.of(Crops(images, masks, bodies, keypoints, torch.arange(people) * 7919))


@pytest.mark.parametrize(
    "architecture",
    [
        SMALL,
        Architecture((64, 32), stride=1, output_stride=1, channels=(8, 8, 8), blocks=2, latent=4, style=8, mapping=3),
        Architecture((32, 32), stride=2, output_stride=2, channels=(8,), latent=4, style=8, pose=False),
    ],
)
def test_every_width_and_depth_draws_crops(architecture):
    generator = build(architecture)
    people = context(3, architecture.crop)
    drawn = generator(people)
    assert isinstance(generator, LatentGenerator)
    assert drawn.shape == (3, 3, *architecture.crop) and drawn.abs().max() <= 1
    again = generator.decode(generator.encode(people), generator.latents(people.seeds))
    assert torch.equal(drawn, again)


def test_replaced_pixels_do_not_matter():
    generator = build()
    assert torch.equal(generator(context(4)), generator(context(4, pixels_seed=1)))


@pytest.mark.parametrize("field", ["masks", "bodies", "keypoints", "seeds", "images"])
def test_all_else_does_matter(field):
    generator, people = build(), context(2)
    changed = {
        "masks": people.masks.flip(2),
        "bodies": people.bodies.flip(2),
        "keypoints": people.keypoints * torch.tensor([0.5, 1, 1]),
        "seeds": people.seeds + 1,
        "images": people.images * 0.5,
    }
    other = Context(**(vars(people) | {field: changed[field]}))
    assert not torch.equal(generator(people), generator(other))


def test_a_latent_is_the_center_that_the_seed_chooses():
    generator = build(centers=3)
    latents = generator.latents(torch.tensor([0, 1, 2, 3, 2**62 + 1]))
    expected = generator.centers[[0, 1, 2, 0, (2**62 + 1) % 3]]
    assert torch.equal(latents, expected)


def test_unknown_pose_is_an_empty_picture():
    generator, people = build(), context(2)
    unknown = Context(**(vars(people) | {"keypoints": torch.zeros(2, 17, 3)}))
    assert generator(unknown).isfinite().all()
    assert not generator.inputs(unknown)[:, 5:].any() and generator.inputs(people)[:, 5:].any()


def test_saved_generator_is_the_same_up_to_half_precision(tmp_path):
    generator, people = build(), context(2)
    generator.save(tmp_path / "g.safetensors", {"made": json.dumps({"steps": 3})})
    loaded = UNetGenerator.load(tmp_path / "g.safetensors")
    torch.testing.assert_close(loaded(people), generator(people), atol=0.02, rtol=0)
    assert not any(p.requires_grad for p in loaded.parameters()) and not loaded.training
    with safe_open(tmp_path / "g.safetensors", "pt") as file:
        assert json.loads(file.metadata()["made"]) == {"steps": 3}
    assert loaded.name.startswith("g.safetensors@")
    generator.centers += 1
    generator.save(tmp_path / "g.safetensors", {})
    assert UNetGenerator.load(tmp_path / "g.safetensors").name != loaded.name


def test_files_that_are_no_generators_are_refused(tmp_path):
    path = tmp_path / "g.safetensors"
    with pytest.raises(UserError, match="does not exist"):
        UNetGenerator.load(path)
    path.write_bytes(b"no tensors")
    with pytest.raises(UserError, match=r"g\.safetensors: is no generator"):
        UNetGenerator.load(path)
    save_file({"centers": torch.zeros(1, 8)}, path, {"architecture": json.dumps({"crop": [64, 32], "chanels": [8]})})
    with pytest.raises(UserError, match="chanels"):
        UNetGenerator.load(path)
    save_file({"centers": torch.zeros(1, 8)}, path, {"architecture": json.dumps({"crop": [64, 32]})})
    with pytest.raises(UserError, match="is no generator"):
        UNetGenerator.load(path)
