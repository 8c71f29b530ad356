"""Stand-ins for generators, small, untrained, of any crop size, and the crops to try them on."""

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from anonymization.methods.base import Crops


def draw_crops(people, size, seed=0):
    """Ellipses in noise of a random range of grey levels."""
    rng = np.random.default_rng(seed)
    low, high = np.sort(rng.integers(0, 257, (2, people, 3, 1, 1)), axis=0)
    images = rng.integers(low, np.maximum(high, low + 1), (people, 3, *size)).astype(np.uint8)
    bodies = np.zeros((people, 1, *size), np.uint8)
    for body in bodies:
        middle, axes = rng.uniform(0.4, 0.6, 2) * size[::-1], rng.uniform(0.15, 0.4, 2) * size[::-1]
        cv2.ellipse(body[0], middle.astype(int).tolist(), axes.astype(int).tolist(), 0, 0, 360, 1, -1)
    masks = [cv2.dilate(body[0], np.ones((3, 3), np.uint8))[None] for body in bodies]
    keypoints = torch.from_numpy(rng.uniform(0, 1, (people, 17, 3)).astype(np.float32)) * torch.tensor([*size[::-1], 1])
    keypoints[..., 2] = keypoints[..., 2].round()
    return Crops(
        torch.from_numpy(images),
        torch.from_numpy(np.stack(masks)).bool(),
        torch.from_numpy(bodies).bool(),
        keypoints,
        torch.from_numpy(rng.integers(0, 2**31, people)),
    )


class StandIn(nn.Module):
    """A `LatentGenerator`: a U-Net of ``depth`` levels whose decoder is modulated by the latent.

    Its people are smooth and of many colours, for its weights are large.
    """

    def __init__(self, crop, width=8, latent=8, depth=2, seed=0):
        super().__init__()
        self.crop, self.latent, self.name = crop, latent, "stand-in"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.down = nn.ModuleList(nn.Conv2d(width if i else 5, width, 3, padding=1) for i in range(depth))
            self.up = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(depth))
            self.affine = nn.ModuleList(nn.Linear(latent, 2 * width) for _ in range(depth))
            self.to_rgb = nn.Conv2d(width, 3, 3, padding=1)
        self.to_rgb.weight.data *= 8

    def latents(self, seeds):
        seeds = [torch.Generator().manual_seed(seed) for seed in seeds.tolist()]
        latents = torch.stack([torch.randn(self.latent, generator=seed) for seed in seeds])
        return latents.to(self.to_rgb.weight.device)

    def encode(self, context):
        x = torch.cat([context.images, context.masks, context.bodies], dim=1)
        features = []
        for convolution in self.down:
            x = F.avg_pool2d(F.leaky_relu(convolution(x), 0.2), 2)
            features.append(x)
        return tuple(features)

    def decode(self, encoded, latents):
        x = torch.zeros_like(encoded[-1])
        for feature, convolution, affine in zip(encoded[::-1], self.up, self.affine, strict=True):
            scale, shift = affine(latents)[:, :, None, None].chunk(2, dim=1)
            x = F.leaky_relu(convolution((x + feature) * (1 + scale) + shift), 0.2)
            x = F.interpolate(x, scale_factor=2.0)
        return torch.tanh(self.to_rgb(x))

    def forward(self, context):
        return self.decode(self.encode(context), self.latents(context.seeds))


class Returning:
    """A generator without a latent space, which returns what it is given, for any person."""

    name = "returning"

    def __init__(self, images, largest_batch=None):
        self.images, self.largest_batch, self.batches = images, largest_batch, []
        self.crop = tuple(images.shape[-2:])

    def to(self, device):
        return self

    def __call__(self, context):
        self.batches.append(len(context))
        if self.largest_batch is not None and len(context) > self.largest_batch:
            raise torch.cuda.OutOfMemoryError("no memory for so many people")
        return self.images.expand(len(context), *self.images.shape[-3:])
