import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from anonymization.generators.pose import LIMBS, draw_limbs


def slow(keypoints, crop, size):
    """Every pixel, every limb: the distance of the pixel's centre to the nearest point of a fine walk along it."""
    joints = keypoints.tolist()
    for a, b in ((5, 6), (11, 12)):
        (ax, ay, av), (bx, by, bv) = joints[a], joints[b]
        joints.append([(ax + bx) / 2, (ay + by) / 2, min(av, bv)])
    picture = torch.zeros(len(LIMBS), *size)
    for channel, limbs in enumerate(LIMBS.values()):
        for a, b in limbs:
            (ax, ay, av), (bx, by, bv) = joints[a], joints[b]
            if not (av and bv):
                continue
            walk = [
                ((ax + (bx - ax) * t / 200) * size[1] / crop[1], (ay + (by - ay) * t / 200) * size[0] / crop[0])
                for t in range(201)
            ]
            for y in range(size[0]):
                for x in range(size[1]):
                    distance = min(math.hypot(x + 0.5 - p, y + 0.5 - q) for p, q in walk)
                    value = min(1.0, max(0.0, 1.5 - distance))
                    picture[channel, y, x] = max(picture[channel, y, x].item(), value)
    return picture


@pytest.mark.parametrize("seed", range(3))
def test_limbs_are_where_their_joints_are(seed):
    generator = torch.Generator().manual_seed(seed)
    keypoints = torch.rand(1, 17, 3, generator=generator) * torch.tensor([40.0, 72.0, 1.0])
    keypoints[..., 2] = (keypoints[..., 2] > 0.3).float()
    drawn = draw_limbs(keypoints, (72, 40), (18, 10))
    torch.testing.assert_close(drawn[0], slow(keypoints[0], (72, 40), (18, 10)), atol=0.05, rtol=0)


def test_nothing_is_drawn_of_unknown_joints():
    assert not draw_limbs(torch.zeros(2, 17, 3), (288, 160), (72, 40)).any()
    one = torch.zeros(1, 17, 3)
    one[0, 5] = torch.tensor([80.0, 100.0, 1.0])  # a shoulder alone is no limb
    assert not draw_limbs(one, (288, 160), (72, 40)).any()


@given(st.integers(0, 2**31), st.floats(-500, 500))
def test_joints_far_outside_do_no_harm(seed, shift):
    keypoints = torch.rand(2, 17, 3, generator=torch.Generator().manual_seed(seed)) * 100 + shift
    keypoints[..., 2] = 1
    drawn = draw_limbs(keypoints, (128, 128), (32, 32))
    assert drawn.shape == (2, 6, 32, 32) and drawn.isfinite().all() and drawn.min() >= 0 and drawn.max() <= 1


def test_people_do_not_touch_each_other():
    keypoints = torch.rand(5, 17, 3, generator=torch.Generator().manual_seed(0)) * 100
    together = draw_limbs(keypoints, (128, 128), (32, 32))
    alone = torch.cat([draw_limbs(person[None], (128, 128), (32, 32)) for person in keypoints])
    assert torch.equal(together, alone)
