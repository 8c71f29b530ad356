"""A person's pose as a picture: the limbs between its keypoints, drawn as lines."""

import torch
from torch import Tensor

# Joints by their place among COCO's 17 keypoints; two more are made of them.
NOSE, LEFT_EYE, RIGHT_EYE, LEFT_EAR, RIGHT_EAR = range(5)
LEFT_SHOULDER, RIGHT_SHOULDER, LEFT_ELBOW, RIGHT_ELBOW, LEFT_WRIST, RIGHT_WRIST = range(5, 11)
LEFT_HIP, RIGHT_HIP, LEFT_KNEE, RIGHT_KNEE, LEFT_ANKLE, RIGHT_ANKLE = range(11, 17)
NECK, PELVIS = 17, 18  # between the shoulders, between the hips

# The six groups of TriaGAN's joint map (Hukkelås & Lindseth 2023): a channel each.
LIMBS: dict[str, tuple[tuple[int, int], ...]] = {
    "head": (
        (NOSE, LEFT_EYE),
        (NOSE, RIGHT_EYE),
        (LEFT_EYE, RIGHT_EYE),
        (LEFT_EYE, LEFT_EAR),
        (RIGHT_EYE, RIGHT_EAR),
        (NECK, NOSE),
    ),
    "left arm": ((LEFT_SHOULDER, LEFT_ELBOW), (LEFT_ELBOW, LEFT_WRIST)),
    "right arm": ((RIGHT_SHOULDER, RIGHT_ELBOW), (RIGHT_ELBOW, RIGHT_WRIST)),
    "trunk": (
        (LEFT_SHOULDER, RIGHT_SHOULDER),
        (LEFT_SHOULDER, LEFT_HIP),
        (RIGHT_SHOULDER, RIGHT_HIP),
        (LEFT_HIP, RIGHT_HIP),
        (NECK, PELVIS),
    ),
    "left leg": ((LEFT_HIP, LEFT_KNEE), (LEFT_KNEE, LEFT_ANKLE)),
    "right leg": ((RIGHT_HIP, RIGHT_KNEE), (RIGHT_KNEE, RIGHT_ANKLE)),
}


def draw_limbs(keypoints: Tensor, crop: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Draw the limbs whose both joints are known, as lines that fade to nothing within 1.5 pixels.

    Args:
        keypoints: float32 [P, 17, 3]: x and y in crop pixels, and 1 where the keypoint is known, else 0.
        crop: Height and width of the crop.
        size: Height and width of the picture.

    Returns:
        float32 [P, 6, height, width] in [0, 1]: a channel for each group of ``LIMBS``.
    """
    height, width = size
    device = keypoints.device
    middles = keypoints[:, [[LEFT_SHOULDER, RIGHT_SHOULDER], [LEFT_HIP, RIGHT_HIP]]]
    middles = torch.cat([middles[..., :2].mean(2), middles[..., 2:].amin(2)], dim=-1)
    joints = torch.cat([keypoints, middles], dim=1)
    scale = torch.tensor([width / crop[1], height / crop[0]], device=device)
    places, known = joints[..., :2] * scale, joints[..., 2] > 0

    y, x = torch.meshgrid(torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij")
    pixels = torch.stack([x, y], dim=-1).view(-1, 2) + 0.5
    channels = []
    for limbs in LIMBS.values():
        start, stop = (torch.tensor(ends, device=device) for ends in zip(*limbs, strict=True))
        a, b = places[:, start, None], places[:, stop, None]  # [P, limbs, 1, 2]
        along = ((pixels - a) * (b - a)).sum(-1) / (b - a).square().sum(-1).clamp(min=1e-6)
        nearest = torch.lerp(a, b, along.clamp(0, 1)[..., None])
        distance = (pixels - nearest).norm(dim=-1)  # [P, limbs, pixels]
        drawn = (1.5 - distance).clamp(0, 1) * (known[:, start] & known[:, stop])[..., None]
        channels.append(drawn.amax(dim=1).view(-1, height, width))
    return torch.stack(channels, dim=1)
