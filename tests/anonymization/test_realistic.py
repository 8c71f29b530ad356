from dataclasses import fields, replace

import pytest
import torch

from anonymization.generators.base import Context, LatentGenerator
from anonymization.methods.histogram import RealisticHM
from anonymization.methods.latent_optimization import RealisticHMLO
from anonymization.methods.realistic import Realistic
from errors import UserError
from tests.anonymization import realistic_reference as reference
from tests.anonymization.generators import Returning, StandIn, draw_crops

SIZE = (40, 24)
METHODS = (Realistic, RealisticHM, RealisticHMLO)
each_method = pytest.mark.parametrize("method", METHODS)


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr("anonymization.methods.latent_optimization.STEPS", 4)


def some(crops, people):
    return replace(crops, **{field.name: getattr(crops, field.name)[people] for field in fields(crops)})


def levels_apart(results, expected):
    return (results.int() - expected.int()).abs()


@pytest.mark.parametrize("size", [SIZE, (288, 160), (128, 128)])
def test_realistic_is_the_generator_s_image_inside_the_mask(size):
    generator, crops = StandIn(size), draw_crops(3, size)
    assert isinstance(generator, LatentGenerator)
    difference = levels_apart(Realistic(generator)(crops), reference.realistic(generator, crops))
    assert difference.max() <= 1 and (difference > 0).float().mean() < 1e-3


def test_grey_levels_are_rounded():
    image = torch.linspace(-1.2, 1.2, 2 * 3 * 12 * 12).view(2, 3, 12, 12)
    crops = draw_crops(2, (12, 12))
    results = Realistic(Returning(image))(crops)
    ideal = (image + 1) / 2 * 255
    error = (results - ideal.clamp(0, 255)).abs()[crops.masks.expand_as(ideal)]
    assert error.max() <= 0.5 + 1e-4


@each_method
def test_pixels_outside_the_masks_stay(method):
    crops = draw_crops(5, SIZE)
    results = method(StandIn(SIZE))(crops)
    assert results.dtype == torch.uint8
    outside = ~crops.masks.expand_as(results)
    assert (results == crops.images)[outside].all()
    assert (results != crops.images)[~outside].float().mean() > 0.9


def test_nothing_of_the_replaced_pixels_comes_through():
    """Whatever the pixels inside the masks are, the result is the same, bit for bit."""
    crops = draw_crops(5, SIZE)
    expected = Realistic(StandIn(SIZE))(crops)
    for other in (draw_crops(5, SIZE, seed=1).images, torch.zeros_like(crops.images)):
        changed = replace(crops, images=torch.where(crops.masks, other, crops.images))
        assert torch.equal(Realistic(StandIn(SIZE))(changed), expected)


@pytest.mark.parametrize("method", [RealisticHM, RealisticHMLO])
def test_nothing_but_the_histogram_of_the_replaced_pixels_comes_through(method):
    """Wherever the pixels inside a mask are, the result inside the masks is the same, bit for bit."""
    size = (96, 64)  # large enough for sums to depend on the order of what is added
    crops = draw_crops(4, size)
    images = crops.images.clone()
    for image, (mask,) in zip(images, crops.masks, strict=True):
        pixels = image[:, mask]
        image[:, mask] = pixels[:, torch.randperm(pixels.shape[1], generator=torch.Generator().manual_seed(0))]
    assert (images != crops.images).any(1, keepdim=True)[crops.masks].float().mean() > 0.9
    assert torch.equal(method(StandIn(size))(replace(crops, images=images)), method(StandIn(size))(crops))


@each_method
def test_chunks_change_nothing(method):
    crops = draw_crops(7, SIZE)
    expected = method(StandIn(SIZE))(crops)
    for chunk in (1, 3, 7):
        difference = levels_apart(method(StandIn(SIZE), chunk)(crops), expected)
        assert difference.max() <= 1 and (difference > 0).float().mean() < 1e-2


@each_method
def test_a_person_s_result_depends_on_its_seed_not_on_its_place(method):
    crops = draw_crops(6, SIZE)
    order = torch.tensor([4, 2, 0, 5])
    expected = method(StandIn(SIZE))(crops)
    difference = levels_apart(method(StandIn(SIZE))(some(crops, order)), expected[order])
    assert difference.max() <= 1 and (difference > 0).float().mean() < 1e-2
    reseeded = method(StandIn(SIZE))(replace(crops, seeds=crops.seeds + 1))
    assert (reseeded != expected)[crops.masks.expand_as(expected)].float().mean() > 0.5


@each_method
def test_nobody_is_replaced_by_nothing(method):
    assert method(StandIn(SIZE))(some(draw_crops(1, SIZE), slice(0))).shape == (0, 3, *SIZE)


@each_method
def test_a_person_without_a_pixel_is_left_as_it_is(method):
    crops = draw_crops(2, SIZE)
    none = torch.zeros_like(crops.masks)
    crops = replace(crops, masks=none, bodies=none)
    assert torch.equal(method(StandIn(SIZE))(crops), crops.images)


@each_method
@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -float("inf")])
def test_images_that_are_not_finite_are_refused(method, broken):
    class Broken(StandIn):
        def decode(self, encoded, latents):
            image = super().decode(encoded, latents)
            return image.index_fill(3, torch.tensor(SIZE[1] // 2), broken)

    with pytest.raises(RuntimeError, match="not finite"):
        method(Broken(SIZE))(draw_crops(2, SIZE))


@each_method
def test_images_of_another_shape_are_refused(method):
    class Grey(StandIn):
        def decode(self, encoded, latents):
            return super().decode(encoded, latents)[:, :1]

    with pytest.raises(RuntimeError, match=r"returned \[2, 1, 40, 24\]: expected \[2, 3, 40, 24\]"):
        method(Grey(SIZE))(draw_crops(2, SIZE))


@each_method
def test_a_generator_for_other_crops_is_named_with_both_sizes(method):
    with pytest.raises(UserError, match="128 × 128 pixels: these are of 40 × 24"):
        method(StandIn((128, 128)))(draw_crops(2, SIZE))


def test_too_many_people_for_the_memory_are_halved():
    images = torch.zeros(1, 3, *SIZE)
    generator, crops = Returning(images, largest_batch=3), draw_crops(11, SIZE)
    method = Realistic(generator, chunk=8)
    assert torch.equal(method(crops), Realistic(Returning(images))(crops))
    assert generator.batches == [8, 4, 2, 2, 2, 2, 2, 1]
    with pytest.raises(torch.cuda.OutOfMemoryError):
        Realistic(Returning(images, largest_batch=0), chunk=8)(crops)


def test_on_the_cpu_the_generator_runs_in_single_precision():
    crops = draw_crops(3, SIZE)
    expected = Realistic(StandIn(SIZE))(crops)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(Realistic(StandIn(SIZE))(crops), expected)


def test_generator_is_moved_once():
    moves = []

    class Moved(Returning):
        def to(self, device):
            moves.append(device)
            return self

    method = Realistic(Moved(torch.zeros(1, 3, *SIZE)), chunk=2)
    for _ in range(2):
        method(draw_crops(5, SIZE))
    assert moves == [torch.device("cpu")]


def test_a_generator_is_told_nothing_of_the_replaced_pixels():
    crops = draw_crops(3, SIZE)
    context = Context.of(crops)
    assert (context.images[crops.masks.expand_as(context.images)] == 0).all()
