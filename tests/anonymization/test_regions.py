import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from anonymization.regions import Regions, body_regions, face_regions, person_seed
from anonymization.resampling import nearest_indices
from tests.anonymization import reference
from tests.anonymization.scenes import draw


def pasted(regions, size):
    """Full-size masks [P, H, W] of the pixels that are replaced, from the crops' masks."""
    full = np.zeros((len(regions), *size), bool)
    for image, (x0, y0, x1, y1), mask in zip(full, regions.crop_boxes.tolist(), regions.masks.numpy(), strict=True):
        rows, columns = (nearest_indices(n, m) for n, m in zip(mask.shape, (y1 - y0, x1 - x0), strict=True))
        of_image, of_box = reference.visible(image, (x0, y0, x1, y1))
        image[of_image] = mask[rows][:, columns][of_box]
    return full


def both_kinds(scene):
    return (
        body_regions(scene.masks, scene.size, range(len(scene.masks))),
        face_regions(scene.faces, scene.size, range(len(scene.faces))),
    )


@pytest.mark.parametrize("seed", range(30))
def test_paste_masks_are_the_masks_resized_to_their_boxes(seed):
    scene = draw(seed)
    for regions in both_kinds(scene):
        areas = (regions.paste_boxes[:, 2:] - regions.paste_boxes[:, :2]).prod(1).tolist()
        parts = regions.paste_masks.split(areas)
        full = pasted(regions, scene.size)
        for mask, (x0, y0, x1, y1), part in zip(full, regions.paste_boxes.tolist(), parts, strict=True):
            assert np.array_equal(part.view(y1 - y0, x1 - x0).numpy(), mask[y0:y1, x0:x1])
            assert part.sum() == mask.sum() > 0


@st.composite
def sparse_masks(draw):
    """Scattered single pixels: what a nearest resize misses most."""
    size = draw(st.tuples(st.integers(8, 900), st.integers(8, 900)))
    count = draw(st.integers(1, 40))
    generator = np.random.default_rng(draw(st.integers(0, 999)))
    mask = np.zeros(size, bool)
    mask[generator.integers(0, size[0], count), generator.integers(0, size[1], count)] = True
    return mask


@given(sparse_masks())
def test_every_pixel_of_a_person_is_replaced(mask):
    regions = body_regions([mask], mask.shape, [0])
    if regions.dropped:
        x0, y0, x1, y1 = reference.body_box(torch.from_numpy(mask), mask.shape)
        assert (x1 - x0) * (y1 - y0) < 64 and len(regions) == 0
    else:
        assert (pasted(regions, mask.shape)[0] >= mask).all()


@pytest.mark.parametrize("seed", range(10))
def test_body_masks_are_those_of_the_authors(seed):
    scene = draw(seed)
    regions = both_kinds(scene)[0]
    for box, mask, person in zip(regions.crop_boxes.tolist(), regions.masks, regions.seeds.tolist(), strict=True):
        assert torch.equal(mask, reference.body_mask(torch.from_numpy(scene.masks[person]), box))


def test_every_pixel_of_a_face_is_replaced_and_none_further_than_a_crop_pixel_away():
    for scene in map(draw, range(30)):
        faces, regions = scene.faces, both_kinds(scene)[1]
        limit = np.array([*scene.size[::-1], *scene.size[::-1]])
        visible = faces[regions.seeds.tolist()].clip(0, limit)
        boxes, crops = regions.paste_boxes.numpy(), regions.crop_boxes.numpy()
        crop_pixel = np.ceil((crops[:, 2:] - crops[:, :2]) / 128)
        assert (boxes[:, :2] <= visible[:, :2]).all() and (boxes[:, 2:] >= visible[:, 2:]).all()
        assert (visible[:, :2] - boxes[:, :2] < crop_pixel).all() and (boxes[:, 2:] - visible[:, 2:] < crop_pixel).all()
        assert regions.paste_masks.all()


def test_masks_may_come_one_by_one_in_any_memory_layout():
    scene = draw(9)
    seeds = range(len(scene.masks))
    expected = body_regions(scene.masks, scene.size, seeds)
    for masks in (
        (mask for mask in scene.masks),
        (np.asfortranarray(mask, np.uint8) for mask in scene.masks),
        (mask.astype(np.uint8) * 255 for mask in scene.masks),
        (np.repeat(mask, 2, axis=1)[:, ::2] for mask in scene.masks),
    ):
        regions = body_regions(masks, scene.size, seeds)
        assert torch.equal(regions.crop_boxes, expected.crop_boxes)
        assert torch.equal(regions.masks, expected.masks)
        assert torch.equal(regions.paste_masks, expected.paste_masks)


def test_paste_order_is_by_area_then_as_given():
    masks = np.zeros((4, 100, 100), bool)
    masks[0, 10:60, 10:40] = masks[1, 10:50, 10:30] = masks[2, 30:80, 30:60] = masks[3, 10:30, 10:50] = True
    assert body_regions(masks, (100, 100), [10, 11, 12, 13]).seeds.tolist() == [11, 13, 10, 12]
    boxes = [[10, 10, 40, 60], [10, 10, 30, 50], [30, 30, 60, 80], [10, 10, 50, 30]]
    assert face_regions(boxes, (100, 100), [10, 11, 12, 13]).seeds.tolist() == [11, 13, 10, 12]


def test_small_people_are_counted_and_empty_masks_are_not():
    masks = np.zeros((3, 100, 100), bool)
    masks[0, 50:53, 50] = masks[2, 20:60, 20:40] = True
    regions = body_regions(masks, (100, 100), [1, 2, 3])
    assert regions.seeds.tolist() == [3]
    assert regions.dropped == 1
    assert Regions.cat([regions, regions]).dropped == 2


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((10, 20), bool), r"mask 1 is bool \(10, 20\): expected bool or uint8 \(20, 10\)"),
        (np.zeros((20, 10), np.float32), "mask 1 is float32"),
    ],
)
def test_masks_of_another_shape_or_dtype_are_refused(mask, message):
    with pytest.raises(ValueError, match=message):
        body_regions([np.zeros((20, 10), bool), mask], (20, 10), [0, 1])


@pytest.mark.parametrize(
    "box",
    [
        [5, 5, 5, 9],
        [9, 5, 5, 9],
        [5, 5, float("nan"), 9],
        [5, 5, float("inf"), 9],
        [-9, 5, -1, 9],
        [20, 5, 25, 9],
        [5, 40, 9, 44],
    ],
)
def test_faces_that_cannot_be_anonymized_are_refused(box):
    with pytest.raises(ValueError, match=r"face box 1 is .*: expected x0 < x1 and y0 < y1, within 20 × 40"):
        face_regions([[1, 1, 9, 9], box], (40, 20), [0, 1])


@pytest.mark.parametrize("box", [[5.1, 7.2, 5.3, 7.4], [19.6, 39.7, 19.9, 40], [-3, -3, 0.2, 0.2], [-50, -50, 99, 99]])
def test_faces_of_less_than_a_pixel_or_more_than_the_image_are_anonymized(box):
    regions = face_regions([box], (40, 20), [0])
    x0, y0, x1, y1 = regions.paste_boxes[0].tolist()
    assert 0 <= x0 < x1 <= 20 and 0 <= y0 < y1 <= 40 and regions.masks.any() and regions.paste_masks.any()


def test_there_must_be_a_seed_for_everyone():
    with pytest.raises(ValueError, match="zip"):
        face_regions([[1, 1, 9, 9]], (40, 20), [0, 1])
    with pytest.raises(ValueError, match="zip"):
        body_regions([np.ones((40, 20), bool)], (40, 20), [])


def test_regions_of_images_are_joined_into_those_of_a_batch():
    images = [both_kinds(draw(seed))[0] for seed in (9, 2, 11)]
    batch = Regions.cat(images)
    assert len(images[1]) == 0
    assert batch.image_index.tolist() == [0] * len(images[0]) + [2] * len(images[2])
    for name in ("seeds", "crop_boxes", "paste_boxes", "masks", "paste_masks"):
        assert torch.equal(getattr(batch, name), torch.cat([getattr(image, name) for image in images]))
    with pytest.raises(ValueError, match=r"body.*face"):
        Regions.cat(both_kinds(draw(9)))
    with pytest.raises(ValueError, match="expected regions of one kind"):
        Regions.cat([])


def test_only_masks_follow_to_a_device():
    regions = both_kinds(draw(9))[0].to("meta", non_blocking=True)
    assert regions.masks.is_meta and regions.paste_masks.is_meta
    assert not any(t.is_meta for t in (regions.seeds, regions.crop_boxes, regions.paste_boxes, regions.image_index))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="page-locked memory needs a GPU")
def test_masks_are_pinned():
    regions = both_kinds(draw(9))[0].pin_memory()
    assert regions.masks.is_pinned() and regions.paste_masks.is_pinned()


def test_regions_survive_the_way_from_a_worker():
    regions = both_kinds(draw(9))[0]
    assert torch.equal(pickle.loads(pickle.dumps(regions)).masks, regions.masks)


@given(st.integers(-(2**40), 2**40), st.text(), st.integers(0, 2**40))
def test_person_seed_depends_on_all_three_and_fits_int64(seed, image_id, instance_id):
    value = person_seed(seed, image_id, instance_id)
    assert 0 <= value < 2**63
    assert value == person_seed(seed, image_id, instance_id)
    others = (seed + 1, image_id, instance_id), (seed, image_id + "a", instance_id), (seed, image_id, instance_id + 1)
    assert len({value, *(person_seed(*other) for other in others)}) == 4


def test_person_seed_never_changes():
    """A changed value would give every person of every published run another replacement."""
    assert person_seed(0, "aachen_000000_000019", 24000) == 3133407263511467628
