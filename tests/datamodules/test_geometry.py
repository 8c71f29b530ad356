"""Geometry moves image, masks and points alike."""

import numpy as np
import pytest

from datamodules.geometry import EXACT, Geometry
from errors import UserError

TRANSFORMS = [
    {"HorizontalFlip": {"p": 0.5}},
    {"Affine": {"scale": [0.7, 1.3], "rotate": [-20, 20], "translate_percent": [-0.1, 0.1]}},
    {"RandomCrop": {"height": 60, "width": 80}},
    {"RandomScale": {"scale_limit": [-0.3, 0.3]}},
]


def scene(rng, height=90, width=120):
    """A picture of bright discs on black, their masks and their centres."""
    image = np.zeros((height, width, 3), np.uint8)
    centres = rng.uniform([20, 20], [width - 20, height - 20], (3, 2))
    y, x = np.mgrid[:height, :width] + 0.5
    masks = np.stack([(np.hypot(x - cx, y - cy) < 6).astype(np.uint8) for cx, cy in centres])
    for mask, colour in zip(masks, (80, 160, 240), strict=True):
        image[mask > 0] = colour
    return image, masks, centres


@pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda t: next(iter(t)))
def test_discs_stay_where_their_masks_and_centres_are(transform):
    geometry = Geometry([transform])
    rng = np.random.default_rng(0)
    compared = 0
    for seed in range(20):
        image, masks, centres = scene(rng)
        moved, moved_masks, moved_centres, _ = geometry(seed, image, masks, centres)
        assert moved_masks.shape == (3, *moved.shape[:2])
        for mask, (cx, cy), original in zip(moved_masks, moved_centres, masks, strict=True):
            inside = 9 < cx < mask.shape[1] - 9 and 9 < cy < mask.shape[0] - 9
            overlapping = (masks.sum(0)[original > 0] > 1).any()
            if not inside or overlapping:
                continue
            y, x = np.nonzero(mask)
            assert np.hypot(x.mean() + 0.5 - cx, y.mean() + 0.5 - cy) < 1
            assert np.median(moved[mask > 0]) in (80, 160, 240)
            compared += 1
    assert compared > 15


def test_mirror_is_recognised_and_exact():
    image, masks, centres = scene(np.random.default_rng(1))
    moved, moved_masks, moved_centres, mirrored = Geometry([{"HorizontalFlip": {"p": 1}}])(0, image, masks, centres)
    assert mirrored
    np.testing.assert_array_equal(moved, image[:, ::-1])
    np.testing.assert_array_equal(moved_masks, masks[:, :, ::-1])
    np.testing.assert_allclose(moved_centres, [120, 0] + centres * [-1, 1], atol=1e-4)
    turn = [{"Rotate": {"limit": [170, 170], "p": 1}}]
    assert not Geometry(turn)(0, image, masks, centres)[3]


def test_seed_decides():
    image, masks, centres = scene(np.random.default_rng(2))
    first, second = Geometry(TRANSFORMS), Geometry(TRANSFORMS)
    for seed in range(5):
        a, b = first(seed, image, masks, centres), second(seed, image, masks, centres)
        np.testing.assert_array_equal(a[0], b[0])
        first(seed + 100, image, masks, centres)  # a draw between does not matter
    drawn = {first(seed, image, masks, centres)[0].tobytes() for seed in range(8)}
    assert len(drawn) == 8


MIXING = [
    {"Affine": {"scale": 0.4, "fill": 90, "p": 1}},
    {"Affine": {"scale": [0.3, 2], "rotate": [-90, 90], "shear": [-20, 20], "p": 1}},
    {"LongestMaxSize": {"max_size": 40}},
    {"LongestMaxSize": {"max_size": 40, "area_for_downscale": "image"}},
    {"Perspective": {"scale": [0.1, 0.3], "p": 1}},
    {"RandomResizedCrop": {"size": [50, 70]}},
    {"RandomScale": {"scale_limit": [-0.7, 1], "p": 1}},
    {"Resize": {"height": 31, "width": 47}},
    {"Resize": {"height": 200, "width": 300, "interpolation": 3}},
    {"Rotate": {"limit": 60, "p": 1}},
    {"SafeRotate": {"limit": 60, "p": 1}},
    {"SmallestMaxSize": {"max_size": 33}},
]


@pytest.mark.parametrize(
    "transforms",
    [[t] for t in MIXING] + [TRANSFORMS, [{"RandomScale": {"scale_limit": [0.3, 1]}}, *TRANSFORMS[:2]]],
    ids=str,
)
def test_wherever_something_of_a_person_comes_to_is_reached(transforms):
    """Thin parts and single pixels of people: where others in their place change the image, it has some of them."""
    geometry, rng = Geometry(transforms), np.random.default_rng(0)
    assert not geometry.is_exact
    changed = missed = 0
    for seed in range(15):
        mask = (rng.random((90, 120)) < 0.02).astype(np.uint8)
        mask[20:70, rng.integers(10, 110)] = 1
        image = rng.integers(0, 256, (90, 120, 3), np.uint8)
        others = np.where(mask[..., None], 255 - image, image)
        moved, (nearest,), *_ = geometry(seed, image, mask[None], np.zeros((0, 2)))
        differs = (moved != geometry(seed, others, mask[None], np.zeros((0, 2)))[0]).any(-1)
        reached, nowhere = geometry.reached(seed, iter([mask, np.zeros_like(mask)]))
        assert reached.shape == nearest.shape and not nowhere.any()
        assert not (differs & ~reached.astype(bool)).any()
        changed += differs.sum()
        missed += (differs & (nearest == 0)).sum()
    assert changed > 0 and missed > 0, "the masks for training miss some"


@pytest.mark.parametrize("name", sorted(EXACT))
def test_others_move_whole_pixels(name):
    size = {"height": 60, "width": 80} if "Crop" in name and name != "Crop" else {}
    size |= {"min_height": 150, "min_width": 150} if name == "PadIfNeeded" else {}
    size |= {"x_max": 50, "y_max": 50} if name == "Crop" else {"padding": 7} if name == "Pad" else {}
    geometry = Geometry([{name: {**size, "p": 1}}])
    mask = (np.random.default_rng(0).random((90, 120)) < 0.3).astype(np.uint8)
    image = np.repeat(mask[..., None] * np.uint8(255), 3, axis=2)
    for seed in range(5):
        moved, (moved_mask,), *_ = geometry(seed, image, mask[None], np.zeros((0, 2)))
        assert geometry.is_exact and moved_mask.any()
        np.testing.assert_array_equal(moved[..., 0] > 0, moved_mask > 0)


@pytest.mark.parametrize(
    "crop",
    [
        {"RandomCrop": {"height": 60, "width": 80}},
        {"CenterCrop": {"height": 60, "width": 80}},
        {"Crop": {"x_min": 20, "y_min": 0, "x_max": 80, "y_max": 60}},
    ],
    ids=lambda transform: next(iter(transform)),
)
def test_an_image_that_is_smaller_than_a_crop_is_named_before_training(crop):
    Geometry([crop]).check([(60, 80), (300, 90)])
    with pytest.raises(UserError, match="with an image of 40 × 90"):
        Geometry([crop]).check([(60, 80), (40, 90), (300, 90)])
    Geometry([{"PadIfNeeded": {"min_height": 60, "min_width": 80}}, crop]).check([(40, 90)])
    Geometry([{"RandomResizedCrop": {"size": [60, 80]}}]).check([(40, 90)])  # enlarges


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        ({"ColorJitter": {}}, "'ColorJitter' is no geometric transform"),
        ({"HorizontalFlipp": {}}, "did you mean 'HorizontalFlip'"),
        ({"HorizontalFlip": {"prob": 1}}, "HorizontalFlip: .*prob"),
        ({"RandomCrop": {"height": "tall", "width": 3}}, "RandomCrop"),
        ({}, "not of the form"),
        ({"HorizontalFlip": 0.5}, "not of the form"),
        ({"Affine": {"translate_px": 3, "border_mode": 3}}, "Affine: border_mode 3 repeats parts of the image"),
        ({"Resize": {"height": 9, "width": 9, "interpolation": 2}}, "Resize: interpolation 2 has negative weights"),
        ({"Rotate": {"border_mode": 4}}, "Rotate: border_mode 4 repeats parts of the image"),
    ],
)
def test_what_would_change_colours_or_show_people_twice_is_refused(transform, message):
    with pytest.raises(UserError, match=message):
        Geometry([transform])
