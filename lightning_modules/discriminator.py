"""The critic of the generator's training, and what it is shown: differentiable augmentation."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STATISTICS = 1  # channels of the minibatch standard deviation (Karras et al. 2018)
GROUP = 4  # people that it is taken over


class Discriminator(nn.Module):
    """Tells drawn people from generated ones, given the mask and pose that both were made for.

    Args:
        conditions: Channels of the condition.
        unshuffle: Pixels per side of the picture that are one pixel of the network's input.
        channels: Of each level, from the finest.
        size: Height and width of the condition.
    """

    def __init__(self, conditions: int, unshuffle: int, channels: tuple[int, ...], size: tuple[int, int]) -> None:
        super().__init__()
        self.unshuffle = unshuffle
        self.stem = nn.Conv2d(3 * unshuffle**2 + conditions, channels[0], 3, padding=1)
        self.levels = nn.ModuleList(_Down(n, m) for n, m in pairwise(channels))
        smallest = [n // 2 ** len(self.levels) for n in size]
        last = channels[-1]
        self.last = nn.Conv2d(last + STATISTICS, last, 3, padding=1)
        self.hidden = nn.Linear(last * smallest[0] * smallest[1], last)
        self.score = nn.Linear(last, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, 0.2)  # torch's own would leave nothing of the picture at the end
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        with torch.no_grad():
            self.score.weight *= 0.1  # undecided at first, or the first gradients would be enormous

    def forward(self, pictures: Tensor, conditions: Tensor) -> Tensor:
        """Score pictures: [N].

        Args:
            pictures: float32 [N, 3, H, W] in [-1, 1].
            conditions: float32 [N, C, H / unshuffle, W / unshuffle].
        """
        x = torch.cat([F.pixel_unshuffle(pictures, self.unshuffle), conditions], dim=1)
        x = F.leaky_relu(self.stem(x), 0.2)
        for level in self.levels:
            x = level(x)
        x = F.leaky_relu(self.last(torch.cat([x, _spread(x)], dim=1)), 0.2)
        return self.score(F.leaky_relu(self.hidden(x.flatten(1)), 0.2))[:, 0]


class _Down(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, inputs, 3, padding=1)
        self.second = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.avg_pool2d(F.leaky_relu(self.first(x), 0.2), 2)
        y = F.leaky_relu(self.second(y), 0.2)
        return (y + self.shortcut(F.avg_pool2d(x, 2))) * 0.5**0.5


def _spread(x: Tensor) -> Tensor:
    """How much the members of a group differ, a constant [N, 1, H, W]: people all alike betray a generator."""
    group = GROUP if len(x) % GROUP == 0 else len(x)
    grouped = x.view(group, -1, *x.shape[1:])
    deviation = (grouped.var(dim=0, unbiased=False) + 1e-8).sqrt().mean(dim=(1, 2, 3))
    return deviation.repeat(group)[:, None, None, None].expand(-1, 1, *x.shape[2:])


def augment(pictures: Tensor, conditions: Tensor, unshuffle: int) -> tuple[Tensor, Tensor]:
    """Shift and cut out pictures and their conditions alike (differentiable augmentation, Zhao et al. 2020).

    Mirroring is left to the data, whose limbs have sides. Colours are left alone: the generator has to learn them.
    """
    height, width = conditions.shape[2:]
    count, device = len(pictures), pictures.device
    reach = torch.tensor([height // 8, width // 8], device=device)
    shift = ((torch.rand(count, 2, device=device) * 2 - 1) * reach).round().long()
    corner = (torch.rand(count, 2, device=device) * torch.tensor([height, width], device=device)).long()
    rows, columns = torch.arange(height, device=device), torch.arange(width, device=device)
    cut = ((rows - corner[:, :1]).abs() < height // 4)[:, :, None] & ((columns - corner[:, 1:]).abs() < width // 4)[
        :, None
    ]
    results = []
    for x, factor in ((pictures, unshuffle), (conditions, 1)):
        y = torch.arange(x.shape[2], device=device) - factor * shift[:, :1]
        z = torch.arange(x.shape[3], device=device) - factor * shift[:, 1:]
        inside = ((y >= 0) & (y < x.shape[2]))[:, None, :, None] & ((z >= 0) & (z < x.shape[3]))[:, None, None, :]
        index = torch.arange(count, device=device)[:, None, None]
        moved = x.permute(0, 2, 3, 1)[
            index, y.clamp(0, x.shape[2] - 1)[:, :, None], z.clamp(0, x.shape[3] - 1)[:, None]
        ]
        kept = ~cut.repeat_interleave(factor, 1).repeat_interleave(factor, 2)[:, None]
        results.append(moved.permute(0, 3, 1, 2) * inside * kept)
    return results[0], results[1]
