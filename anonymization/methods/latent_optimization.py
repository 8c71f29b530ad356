"""A generated person in the colours of the person: found among the generator's people."""

from functools import lru_cache

import numpy as np
import torch
from numpy.polynomial.chebyshev import chebinterpolate
from torch import Tensor

from anonymization.generators.base import Context, LatentGenerator
from anonymization.methods.base import Crops
from anonymization.methods.realistic import Realistic, checked, composite, precision
from anonymization.options import Generators
from errors import UserError

# Hukkelås & Lindseth 2023: at most so many steps of Adam at its default rates, until the distance is under this.
STEPS = 100
ENOUGH = 0.02
LEARNING_RATE, BETAS, EPSILON = 1e-3, (0.9, 0.999), 1e-8

# Their histograms are soft, of values in [0, 1]: a value v counts exp(-(v - b)² / 2) for each of these b.
BINS = 256
# As a function of v that is a polynomial of so many terms, to 2 (1/4)^n max|f⁽ⁿ⁾| / n! (interpolation at n Chebyshev
# nodes of [0, 1]) <= 2.2 / (4^n √n!) (Cramér's bound of Hermite functions) = 1.4e-8, less than float32 resolves at 1.
TERMS = 9


class RealisticHMLO(Realistic):
    """As `Realistic`, of the person whose saturations and values (HSV) are distributed like those of the original crop.

    From the latent of its seed, each person's is moved to where the sum of the two 1-Wasserstein distances is small.
    Of the pixels that are replaced the result depends on nothing but their saturations' and their values' histogram.

    Raises:
        UserError: The generator has no latent space.
    """

    generator: LatentGenerator

    def __init__(self, generator: LatentGenerator, chunk: int = Generators.chunk) -> None:
        if not isinstance(generator, LatentGenerator):
            raise UserError(f"realistic_hm_lo needs a generator with a latent space: {generator.name} has none")
        super().__init__(generator, chunk)

    def replace(self, crops: Crops) -> Tensor:
        """See `Realistic.replace`."""
        return composite(self.search(crops)[0], crops)

    @torch.no_grad()
    def search(self, crops: Crops) -> tuple[Tensor, Tensor]:
        """Find each person's image.

        The batch is of those who are still searching: the encoder runs once, and a person's search ends by itself.

        Args:
            crops: As many people as fit into memory at once, on the generator's device.

        Returns:
            The images, float32 [P, 3, h, w] in [-1, 1], and how many were generated for each person, int64 [P].
        """
        context = Context.of(crops)
        images = torch.empty_like(context.images)
        with precision(images.device):
            encoded = self.generator.encode(context)
        latents = self.generator.latents(context.seeds).float()
        masks, outside = context.masks, moments(saturation_and_value(context.images), ~context.masks)
        target = target_moments(crops.images)
        momentum, energy = torch.zeros_like(latents), torch.zeros_like(latents)
        steps = torch.empty(len(crops), dtype=torch.int64, device=images.device)
        people = torch.arange(len(crops), device=images.device)

        for step in range(1, STEPS + 1):
            latents = latents.detach().requires_grad_()
            with torch.enable_grad():
                with precision(images.device):
                    generated = self.generator.decode(encoded, latents)
                generated = checked(generated, masks)
                inside = moments(saturation_and_value(generated), masks)
                distances = wasserstein(outside + inside, target)
            ends = (distances < ENOUGH) | (step == STEPS)
            if not ends.all():
                (gradient,) = torch.autograd.grad(distances, latents, torch.ones_like(distances))
                ends |= ~gradient.any(1)  # nothing that it could still change
            images[people[ends]], steps[people[ends]] = generated.detach()[ends], step
            if ends.all():
                return images, steps

            momentum = torch.lerp(gradient, momentum, BETAS[0])
            energy = torch.lerp(gradient.square(), energy, BETAS[1])
            scale = (energy / (1 - BETAS[1] ** step)).sqrt() + EPSILON
            latents = latents - LEARNING_RATE / (1 - BETAS[0] ** step) * momentum / scale
            if ends.any():
                left = (latents, momentum, energy, masks, outside, target, people, *encoded)
                latents, momentum, energy, masks, outside, target, people, *encoded = (x[~ends] for x in left)
        raise AssertionError("the last step ends every search")


def saturation_and_value(images: Tensor) -> Tensor:
    """Saturation, (max - min) / max of the channels (0 of black), and value, max: [P, 2, h · w] in [0, 1].

    Args:
        images: RGB, float [P, 3, h, w] in [-1, 1].
    """
    images = (images.flatten(2) + 1) / 2
    largest, smallest = images.amax(1), images.amin(1)
    # Not by 0: its gradient would not be finite, even where it is not looked at.
    return torch.stack([(largest - smallest) / largest.where(largest > 0, 1), largest], dim=1)


def moments(values: Tensor, masks: Tensor | None = None) -> Tensor:
    """Sums of Chebyshev polynomials of values v: what is needed of their soft histogram.

    Args:
        values: float32 [P, 2, n] in [0, 1].
        masks: The values that count, bool [P, 1, h, w] with h · w = n; by default all.

    Returns:
        Of T_k(2 v - 1) for k < ``TERMS``, divided by n: float32 [P, 2, TERMS].
    """
    x = 2 * values - 1
    before = torch.ones_like(x) if masks is None else masks.flatten(2).expand_as(x).to(x.dtype)
    current, double = before * x, 2 * x
    sums = [before.mean(2), current.mean(2)]
    for _ in range(TERMS - 2):
        before, current = current, double * current - before
        sums.append(current.mean(2))
    return torch.stack(sums, dim=2)


def target_moments(images: Tensor) -> Tensor:
    """What `moments` are of uint8 images [P, 3, h, w], the same bits whatever the order of their pixels."""
    return moments(saturation_and_value(images / 127.5 - 1).sort().values)


def wasserstein(moments: Tensor, others: Tensor) -> Tensor:
    """1-Wasserstein distance, in bins, of the soft histograms of such moments, summed over both: float64 [P]."""
    table = _cumulative_table().to(moments.device)
    cumulative, target = (of.double() @ table for of in (moments, others))
    return (cumulative / cumulative[..., -1:] - target / target[..., -1:]).abs().sum((1, 2))


@lru_cache
def _cumulative_table() -> Tensor:
    """What a Chebyshev moment adds to the cumulative soft histogram: float64 [TERMS, BINS]."""
    bins = np.linspace(0, 1, BINS)
    coefficients = chebinterpolate(lambda x: np.exp(-(((x[:, None] + 1) / 2 - bins) ** 2) / 2), TERMS - 1)
    return torch.from_numpy(coefficients).cumsum(1)
