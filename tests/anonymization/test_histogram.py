import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from skimage import exposure
from torchvision.transforms.functional import gaussian_blur

from anonymization.methods.histogram import RealisticHM, match_histograms, soft_masks
from tests.anonymization import realistic_reference as reference
from tests.anonymization.generators import StandIn, draw_crops

levels = st.one_of(st.integers(0, 255), st.sampled_from([0, 1, 254, 255]))
byte_images = array_shapes(min_dims=4, max_dims=4, max_side=9).flatmap(
    lambda shape: st.tuples(*[arrays(np.uint8, shape, elements=levels, fill=levels)] * 2)
)


def truth(images, references):
    pairs = zip(images, references, strict=True)
    matched = [exposure.match_histograms(image, reference, channel_axis=0) for image, reference in pairs]
    return np.stack(matched)


def check(images, references):
    matched = match_histograms(torch.from_numpy(images), torch.from_numpy(references))
    expected = truth(images, references)
    assert matched.numpy().dtype == expected.dtype
    np.testing.assert_array_equal(matched.numpy(), expected)


@given(byte_images)
@example((np.zeros((1, 1, 2, 2), np.uint8), np.full((1, 1, 2, 2), 255, np.uint8)))
@settings(deadline=None, max_examples=150)
def test_match_is_scikit_image_s(images):
    check(*images)


@pytest.mark.parametrize("seed", range(20))
def test_match_of_crops_is_scikit_image_s(seed):
    """Among them images of few levels, dark, bright and of one colour."""
    rng = np.random.default_rng(seed)
    images, references = (
        rng.binomial(rng.integers(0, 256, (3, 3, 1, 1)), rng.random((3, 3, 1, 1)), (3, 3, 96, 64)).astype(np.uint8)
        for _ in range(2)
    )
    check(images, references)


@given(byte_images)
@settings(deadline=None)
def test_an_image_matches_itself(images):
    image = torch.from_numpy(images[0])
    assert torch.equal(match_histograms(image, image), image)


def test_soft_masks_are_blurred_and_reach_one():
    bodies = draw_crops(3, (96, 64)).bodies
    blurred = torch.stack([gaussian_blur(body.double(), [19, 19], [10, 10]) for body in bodies])
    expected = blurred / blurred.flatten(1).amax(1).view(-1, 1, 1, 1)
    torch.testing.assert_close(soft_masks(bodies), expected.float(), atol=1e-6, rtol=0)
    assert (soft_masks(torch.zeros_like(bodies)) == 0).all()


class OneByOne:
    """A generator that draws a person the same way in any company, to the last bit.

    In a batch convolutions may round otherwise, and a level of one pixel moves quantiles, thus whole levels of others.
    """

    def __init__(self, generator):
        self.generator, self.crop, self.name = generator, generator.crop, generator.name

    def to(self, device):
        return self

    def __call__(self, context):
        return torch.cat([self.generator(context[i : i + 1]) for i in range(len(context))])


@pytest.mark.parametrize("size", [(40, 24), (288, 160)])
def test_realistic_hm_is_that_of_one_person_after_the_other(size):
    generator, crops = OneByOne(StandIn(size)), draw_crops(4, size)
    difference = (RealisticHM(generator)(crops).int() - reference.realistic_hm(generator, crops).int()).abs()
    # Blended in float32 and in float64: a level and a half is rounded up by one, down by the other.
    assert difference.max() <= 1 and (difference > 0).float().mean() < 1e-4


def test_realistic_hm_has_the_person_s_colours():
    """In the middle of a body the matched crop is all there is: a person of one colour becomes one of that colour."""
    size = (96, 64)
    crops = draw_crops(3, size)
    red = torch.tensor([200, 40, 10], dtype=torch.uint8).view(3, 1, 1)
    crops.images[:] = red
    results = RealisticHM(StandIn(size))(crops)
    assert (results == red).all(1, keepdim=True)[soft_masks(crops.bodies) > 0.999].all()
