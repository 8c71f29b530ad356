import pytest
import torch
import torch.nn.functional as F

from anonymization.methods.base import Crops
from configs.generator import GeneratorConfig
from errors import UserError
from lightning_modules.appearance import AppearanceEncoder, divergence
from lightning_modules.discriminator import Discriminator, augment
from lightning_modules.features import DetectorFeatures
from lightning_modules.generator import GeneratorModule, _View

CROP = (32, 32)


def build(**options):
    torch.manual_seed(0)
    small = {"channels": [8, 16], "discriminator_channels": [8, 16], "latent": 4, "style": 8, "centers": 4}
    return GeneratorModule(GeneratorConfig(region="face", steps=2, **(small | options)), CROP, seed=0)


def crops(people=4, seed=0):
    random = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (people, 3, *CROP), generator=random, dtype=torch.uint8)
    masks = torch.zeros(people, 1, *CROP, dtype=torch.bool)
    masks[..., 8:24, 8:24] = True
    return Crops(images, masks, masks, torch.zeros(people, 17, 3), torch.arange(people))


def test_divergence_is_that_of_torch():
    mean, log_variance = torch.randn(5, 3), torch.randn(5, 3)
    posterior = torch.distributions.Normal(mean, (log_variance / 2).exp())
    expected = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(divergence(mean, log_variance), expected)


def test_appearance_is_of_the_person_alone():
    encoder, people = AppearanceEncoder(2, 4), _View.of(crops(), build().generator)
    elsewhere = torch.where(people.masks, people.pictures, torch.randn_like(people.pictures))
    for a, b in zip(encoder(people.pictures, people.masks), encoder(elsewhere, people.masks), strict=True):
        assert torch.equal(a, b)


def test_penalty_is_the_squared_gradient_of_the_score():
    module = build(r1=2.0, r1_every=3)
    view = _View.of(crops(), module.generator)
    _, penalty = module._discriminator_loss(view, with_penalty=True)
    pictures = view.pictures.clone().requires_grad_(True)
    for_each = []
    scores = module.discriminator(pictures, view.inputs)
    for score in scores:
        (gradient,) = torch.autograd.grad(score, pictures, retain_graph=True)
        for_each.append(gradient)
    # The minibatch statistic ties the people together, so the gradient is that of the sum of scores.
    total = torch.stack(for_each).sum(0).square().sum() / len(scores)
    torch.testing.assert_close(penalty, 2.0 / 2 * 3 * total)


def test_path_length_penalty_is_the_spread_of_the_gradients_lengths():
    module = build(path_length=2.0, path_length_every=3)
    view = _View.of(crops(6), module.generator)
    torch.manual_seed(1)
    penalty = module._path_length_penalty(view)
    torch.manual_seed(1)
    half = view.half()
    w = module.generator.mapping(torch.randn(3, 4)).detach()
    noise = torch.randn(half.pictures.shape) / half.pictures[0, 0].numel() ** 0.5
    lengths = []
    for person in range(3):
        one = _View(half.pictures[[person]], half.masks[[person]], half.inputs[[person]])
        jacobian = torch.autograd.functional.jacobian(lambda x, one=one: module._fake(one, x), w[[person]])
        lengths.append((jacobian[0, ..., 0, :] * noise[person][..., None]).sum((0, 1, 2)).norm())
    lengths = torch.stack(lengths)
    expected = 2.0 * 3 * (lengths - 0.01 * lengths.mean()).square().mean()
    torch.testing.assert_close(penalty, expected)


def test_surroundings_are_never_generated():
    module = build()
    view = _View.of(crops(), module.generator)
    fake = module._fake(view, torch.randn(4, 8))
    outside = ~view.masks.expand_as(fake)
    assert torch.equal(fake[outside], view.pictures[outside]) and not torch.equal(fake, view.pictures)


def test_pictures_and_conditions_are_augmented_alike():
    """A condition that is the picture averaged stays that, but for the cells at the border of what is shown."""
    torch.manual_seed(0)
    pictures = torch.rand(16, 3, 32, 32) + 1
    conditions = F.avg_pool2d(pictures, 2)
    moved, condition = augment(pictures, conditions, 2)
    torch.testing.assert_close(F.avg_pool2d(moved, 2), condition)
    assert not torch.equal(moved, pictures) and (moved == 0).any()
    shown = moved[moved > 0]
    assert torch.isin(shown, pictures).all()  # moved and cut, nothing else


def test_discriminator_notices_people_all_alike():
    torch.manual_seed(0)
    discriminator = Discriminator(1, 2, (8, 16), (8, 8))
    condition = torch.zeros(8, 1, 8, 8)
    one = torch.rand(1, 3, 16, 16)
    alike = discriminator(one.expand(8, -1, -1, -1), condition)
    among_others = discriminator(torch.cat([one, torch.rand(7, 3, 16, 16)]), condition)
    assert torch.allclose(alike, alike[:1]) and not torch.allclose(alike[0], among_others[0])


def test_finished_generator_has_latents_of_its_own_as_centers():
    module = build()
    generator = module.finished()
    w = generator.mapping(torch.randn(20_000, 4, generator=torch.Generator().manual_seed(0)))
    distances = torch.cdist(w, generator.centers)
    assert (distances.amin(0) < 1e-2).all() and len(generator.centers.unique(dim=0)) == 4
    # Clusters: people are nearer to the nearest center than to a latent taken at random.
    assert distances.amin(1).mean() < 0.8 * torch.cdist(w, w[:4]).mean()
    assert torch.equal(build().finished().centers, generator.centers)


def test_features_tell_pictures_apart_and_need_their_weights():
    features = DetectorFeatures("weights/streetscenes.pt")
    pictures = torch.rand(3, 3, 64, 32)
    assert features(pictures).shape == (3, features.num_features)
    assert not torch.allclose(features(pictures)[0], features(pictures)[1])
    state = torch.load("weights/streetscenes.pt", weights_only=True)
    own = features.backbone.state_dict()
    assert own and all(torch.equal(value, state[f"backbone.{key}"].to(value.dtype)) for key, value in own.items())
    with pytest.raises(UserError, match=r"generator\.features"):
        DetectorFeatures("weights/none.pt")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": [8] * 5}, r"generator\.channels: 5 levels at stride 4 need a crop of multiples of 64"),
        ({"discriminator_channels": [8, 12]}, r"generator\.discriminator_channels: .*multiple of 8"),
        ({"output_stride": 3}, r"generator\.output_stride: 3 does not divide"),
    ],
)
def test_impossible_sizes_are_named(options, message):
    with pytest.raises(UserError, match=message):
        build(**options)
