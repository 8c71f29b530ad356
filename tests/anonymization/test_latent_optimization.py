from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anonymization.generators.base import Context
from anonymization.methods import latent_optimization
from anonymization.methods.latent_optimization import (
    TERMS,
    RealisticHMLO,
    moments,
    saturation_and_value,
    target_moments,
    wasserstein,
)
from errors import UserError
from tests.anonymization import realistic_reference as reference
from tests.anonymization.generators import Returning, StandIn, draw_crops

SIZE = (40, 24)


def reachable_crops(generator, distances, seed=0):
    """People drawn by the generator itself, from latents so far from those of their seeds."""
    crops = draw_crops(len(distances), generator.crop, seed)
    context = Context.of(crops)
    offsets = torch.randn(len(crops), generator.latent, generator=torch.Generator().manual_seed(seed)).sign()
    latents = generator.latents(crops.seeds) + torch.tensor(distances)[:, None] * offsets
    with torch.no_grad():
        images = generator.decode(generator.encode(context), latents)
    return replace(crops, images=reference.pasted((images + 1) * 127.5, crops))


def test_soft_histogram_is_a_polynomial_s_up_to_the_bound_stated():
    values = np.linspace(0, 1, 10_001)
    kernel = np.exp(-0.5 * (values[:, None] - np.linspace(0, 1, 256)) ** 2)
    table = latent_optimization._cumulative_table().diff(dim=1, prepend=torch.zeros(TERMS, 1, dtype=torch.float64))
    error = np.abs(np.polynomial.chebyshev.chebvander(2 * values - 1, TERMS - 1) @ table.numpy() - kernel).max()
    assert error < 1.4e-8


@given(st.integers(0, 2**32 - 1), st.integers(1, 400), st.sampled_from([0.0, 0.05, 0.5, 1.0]))
@settings(deadline=None, max_examples=50)
def test_wasserstein_distance_is_that_of_the_histograms(seed, n, spread):
    rng = np.random.default_rng(seed)
    middles = rng.uniform(size=(2, 3, 2, 1))
    values = torch.from_numpy(np.clip(middles + spread * rng.uniform(-1, 1, (2, 3, 2, n)), 0, 1).astype(np.float32))
    distances = wasserstein(*map(moments, values))
    for distance, a, b in zip(distances, *values.double(), strict=True):
        pairs = [(reference.histogram(x), reference.histogram(y)) for x, y in zip(a, b, strict=True)]
        expected = sum((x.cumsum(0) - y.cumsum(0)).abs().sum() for x, y in pairs)
        torch.testing.assert_close(distance, expected, atol=1e-4, rtol=1e-5)


def test_moments_inside_and_outside_add_up():
    crops = draw_crops(3, SIZE)
    values = saturation_and_value(crops.images / 127.5 - 1)
    whole = moments(values, crops.masks) + moments(values, ~crops.masks)
    torch.testing.assert_close(whole, moments(values), atol=1e-6, rtol=0)


def test_saturation_and_value_are_those_of_hsv():
    images = torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    images[:, :, 0], images[:, :, 1], images[:, :, 2] = 0, 1, 0.5
    hsv = [cv2.cvtColor(image.permute(1, 2, 0).numpy(), cv2.COLOR_RGB2HSV)[..., 1:] for image in images]
    expected = torch.from_numpy(np.stack(hsv)).permute(0, 3, 1, 2).flatten(2)
    torch.testing.assert_close(saturation_and_value(images * 2 - 1), expected, atol=1e-5, rtol=0)


def test_gradient_of_saturation_is_finite_and_right():
    images = torch.rand(1, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 1.8 - 0.9
    assert torch.autograd.gradcheck(saturation_and_value, images.requires_grad_())
    for grey in (-1.0, 0.0, 1.0):
        flat = torch.full((1, 3, 2, 2), grey, requires_grad=True)
        saturation_and_value(flat).sum().backward()
        assert flat.grad.isfinite().all()


def test_target_is_the_same_in_any_order_of_the_pixels():
    images = draw_crops(4, (96, 64)).images
    expected = target_moments(images)
    torch.testing.assert_close(expected, moments(saturation_and_value(images / 127.5 - 1)), atol=1e-6, rtol=0)
    for seed in range(5):
        order = torch.randperm(96 * 64, generator=torch.Generator().manual_seed(seed))
        assert torch.equal(target_moments(images.flatten(2)[:, :, order].view_as(images)), expected)


def test_batch_is_searched_as_one_person_after_the_other():
    seed = 0
    generator = StandIn(SIZE, seed=seed)
    crops = reachable_crops(generator, [0.01, 0.0, 0.1, 0.03, 0.06, 3.0], seed)
    images, steps = RealisticHMLO(generator).search(crops)
    expected, expected_steps = reference.realistic_hm_lo(generator, crops)
    assert steps.tolist() == expected_steps.tolist()
    assert len(set(steps.tolist())) >= 3
    results = RealisticHMLO(generator)(crops)
    assert torch.equal(results, reference.pasted((images + 1) * 127.5, crops))
    difference = (results.int() - expected.int()).abs()
    assert difference.max() <= 2 and (difference > 0).float().mean() < 0.02


def test_search_brings_the_histograms_nearer(monkeypatch):
    monkeypatch.setattr(latent_optimization, "STEPS", 30)
    generator = StandIn(SIZE)
    crops = draw_crops(6, SIZE)
    target = moments(saturation_and_value(crops.images / 127.5 - 1))

    def distances(images):
        images = torch.where(crops.masks, images, Context.of(crops).images)
        return wasserstein(moments(saturation_and_value(images)), target)

    with torch.no_grad():
        before = distances(generator(Context.of(crops)))
    after = distances(RealisticHMLO(generator).search(crops)[0])
    assert (after <= before + 1e-4).all() and (after < 0.995 * before).any()


def test_search_leaves_the_generator_as_it_is(monkeypatch):
    monkeypatch.setattr(latent_optimization, "STEPS", 3)
    generator = StandIn(SIZE)
    encodings = []
    encode = generator.encode
    generator.encode = lambda context: encodings.append(len(context)) or encode(context)
    weights = {name: value.clone() for name, value in generator.state_dict().items()}
    RealisticHMLO(generator, chunk=2)(draw_crops(3, SIZE))
    assert encodings == [2, 1]
    assert all(parameter.grad is None for parameter in generator.parameters())
    assert all(torch.equal(value, weights[name]) for name, value in generator.state_dict().items())


def test_search_ends_where_nothing_changes(monkeypatch):
    """The mask is empty: no latent changes anything, and the original is what it is compared with."""
    monkeypatch.setattr(latent_optimization, "STEPS", 3)
    crops = draw_crops(3, SIZE)
    crops.masks[1] = False
    crops = replace(crops, images=torch.where(crops.masks, 255 - crops.images, crops.images))
    _, steps = RealisticHMLO(StandIn(SIZE)).search(crops)
    assert steps.tolist()[1] == 1 and max(steps.tolist()) > 1


def test_gradient_of_zero_ends_the_search():
    """An image at its limits that cannot be moved, far from the original."""

    class Black(StandIn):
        def decode(self, encoded, latents):
            return super().decode(encoded, latents) * 0 - 2

    _, steps = RealisticHMLO(Black(SIZE)).search(draw_crops(2, SIZE))
    _, expected = reference.realistic_hm_lo(Black(SIZE), draw_crops(2, SIZE))
    assert steps.tolist() == expected.tolist() == [1, 1]


def test_a_generator_without_latent_space_is_refused():
    with pytest.raises(UserError, match="realistic_hm_lo needs a generator with a latent space: returning has none"):
        RealisticHMLO(Returning(torch.zeros(1, 3, *SIZE)))
