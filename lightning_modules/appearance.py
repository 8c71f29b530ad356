"""What a drawn person looks like, as a latent: the generator's training reconstructs people from it."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS = (16, 32, 64, 96)  # of each level


class AppearanceEncoder(nn.Module):
    """The posterior of z given a person: the encoder of a conditional variational autoencoder (Zhu et al. 2017).

    Only training uses it: it looks at the pixels that a generator never sees.

    Args:
        unshuffle: Pixels per side of the picture that are one pixel of the network's input.
        latent: Length of z.
    """

    def __init__(self, unshuffle: int, latent: int) -> None:
        super().__init__()
        self.unshuffle = unshuffle
        widths = [4 * unshuffle**2, *CHANNELS]
        self.convolutions = nn.ModuleList(nn.Conv2d(n, m, 3, stride=2, padding=1) for n, m in pairwise(widths))
        self.posterior = nn.Linear(2 * CHANNELS[-1], 2 * latent)
        for convolution in self.convolutions:
            nn.init.kaiming_normal_(convolution.weight, 0.2)

    def forward(self, pictures: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance of z, [N, latent] each.

        Args:
            pictures: float32 [N, 3, H, W] in [-1, 1].
            masks: bool [N, 1, H, W], True on the person.
        """
        x = F.pixel_unshuffle(torch.cat([pictures * masks, masks.float()], dim=1), self.unshuffle)
        for convolution in self.convolutions:
            x = F.leaky_relu(convolution(x), 0.2)
        mean, log_variance = self.posterior(torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1)).float().chunk(2, dim=1)
        return mean, log_variance.clamp(-8, 4)


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the posterior from the standard normal distribution, in nats: [N]."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
