"""The slow, obvious realistic methods: one person at a time, as Hukkelås & Lindseth 2023 and their code work."""

import copy
import itertools

import cv2
import numpy as np
import torch
from skimage.exposure import match_histograms

from anonymization.generators.base import Context

BINS = torch.linspace(0, 1, 256)


def one_by_one(crops):
    """The crops of each person."""
    for i in range(len(crops)):
        yield type(crops)(*(getattr(crops, name)[i : i + 1] for name in crops.__dataclass_fields__))


def pasted(images, crops):
    """Grey levels, float [P, 3, h, w], rounded and put where the masks are."""
    return torch.where(crops.masks, images.clamp(0, 255).round().byte(), crops.images)


def realistic(generator, crops):
    with torch.no_grad():
        return torch.cat([pasted((generator(Context.of(one)) + 1) * 127.5, one) for one in one_by_one(crops)])


def realistic_hm(generator, crops):
    results = []
    for one in one_by_one(crops):
        generated = realistic(generator, one)
        image, original = (x[0].permute(1, 2, 0).cpu().numpy() for x in (generated, one.images))
        matched = match_histograms(image, original, channel_axis=-1).astype(np.float64)
        mask = one.bodies[0, 0].cpu().numpy().astype(np.float64)
        mask = cv2.GaussianBlur(mask, (19, 19), 10, borderType=cv2.BORDER_REFLECT_101)[..., None]
        mask = mask / mask.max() if mask.any() else mask
        blended = torch.from_numpy(mask * matched + (1 - mask) * image).to(one.images.device)
        results.append(pasted(blended.permute(2, 0, 1)[None], one))
    return torch.cat(results)


def realistic_hm_lo(generator, crops):
    """Images as bytes, and after how many generated images each was chosen.

    The whole generator runs in every step, and the gradients of all its weights are computed.
    """
    generator = copy.deepcopy(generator).requires_grad_(True)
    results, steps = [], []
    for one in one_by_one(crops):
        image, count = search(generator, one)
        results.append(pasted((image + 1) * 127.5, one))
        steps.append(count)
    return torch.cat(results), torch.tensor(steps)


def search(generator, one):
    context = Context.of(one)
    target = [histogram(x) for x in saturation_and_value(one.images.float() / 255)]
    w = generator.latents(context.seeds).detach().requires_grad_()
    adam = torch.optim.Adam([w])
    for step in itertools.count(1):
        image = torch.where(one.masks, generator.decode(generator.encode(context), w), context.images)
        fake = [histogram(x) for x in saturation_and_value(image * 0.5 + 0.5)]
        distance = sum((a.cumsum(0) - b.cumsum(0)).abs().sum() for a, b in zip(fake, target, strict=True))
        distance.backward()
        if w.grad.sum() == 0:
            return image.detach(), step
        adam.step()
        adam.zero_grad()
        if distance < 0.02 or step == 100:
            return image.detach(), step


def saturation_and_value(image):
    """As kornia's rgb_to_hsv has them."""
    value = image[0].max(0).values
    return (value - image[0].min(0).values) / (value + 1e-8), value


def histogram(values):
    """As kornia.enhance.histogram with 256 bins and a bandwidth of 1."""
    counts = torch.exp(-0.5 * (values.flatten()[:, None] - BINS.to(values.device)) ** 2).mean(0)
    return counts / (counts.sum() + 1e-10)
