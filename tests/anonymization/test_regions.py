import pickle

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms.functional import InterpolationMode, resize

from anonymization.regions import Regions, body_regions, face_regions, person_seed, refined_regions
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


@pytest.mark.parametrize("seed", range(30))
def test_bodies_are_the_authors_masks_before_dilation_and_thin_parts_that_it_does_not_reach(seed):
    scene = draw(seed, largest=900)
    regions = both_kinds(scene)[0]
    assert (regions.bodies <= regions.masks).all()
    for box, body, person in zip(regions.crop_boxes.tolist(), regions.bodies, regions.seeds.tolist(), strict=True):
        cut = reference.cut(torch.from_numpy(scene.masks[person]), box)
        authors = resize(cut[None].float(), [288, 160], InterpolationMode.NEAREST)[0] > 0.5
        assert (authors <= body).all()
        distance = cv2.distanceTransform((~authors).byte().numpy(), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        assert (distance[(body & ~authors).numpy()] > 4).all()


def test_thin_parts_are_in_bodies_too():
    mask = np.zeros((900, 500), bool)
    mask[100:800, 200:300] = mask[300, 300:450] = mask[100:800, 450] = True
    regions = body_regions([mask], mask.shape, [0])
    assert (regions.bodies <= regions.masks).all()
    seen = pasted(Regions(**{**vars(regions), "masks": regions.bodies}), mask.shape)[0]
    assert seen[300, 300:450].mean() > 0.9


def test_bodies_of_faces_are_their_masks():
    regions = both_kinds(draw(9))[1]
    assert regions.bodies is regions.masks and Regions.cat([regions, regions]).bodies.shape[0] == 2 * len(regions)


@given(st.integers(0, 10**6))
def test_keypoints_lie_at_the_same_shares_of_the_box_and_of_the_crop(seed):
    scene, rng = draw(seed, largest=250), np.random.default_rng(seed)
    for people, make in ((scene.masks, body_regions), (scene.faces, face_regions)):
        keypoints = rng.uniform(-20, 300, (len(people), 17, 3)).astype(np.float32)
        keypoints[..., 2] = rng.integers(0, 3, keypoints.shape[:2])
        given = [None if rng.random() < 0.2 else k for k in keypoints]
        regions = make(people, scene.size, range(len(people)), given)
        assert regions.keypoints.shape == (len(regions), 17, 3) and regions.keypoints.dtype == torch.float32
        crop = regions.masks.shape[1:]
        for person, box, moved in zip(regions.seeds, regions.crop_boxes.tolist(), regions.keypoints, strict=True):
            for k in range(17):
                if given[person] is None or given[person][k, 2] == 0:
                    assert moved[k].tolist() == [0, 0, 0]
                    continue
                assert moved[k, 2] == 1
                for axis in (0, 1):
                    share = (given[person][k, axis] - box[axis]) / (box[axis + 2] - box[axis])
                    assert moved[k, axis] / crop[1 - axis] == pytest.approx(share, rel=1e-4, abs=1e-4)


def test_keypoints_do_not_change_what_is_replaced():
    scene = draw(9)
    known = [np.ones((17, 3), np.float32)] * len(scene.masks)
    for without, make, people in zip(
        both_kinds(scene), (body_regions, face_regions), (scene.masks, scene.faces), strict=True
    ):
        regions = make(people, scene.size, range(len(people)), known)
        assert torch.equal(regions.paste_masks, without.paste_masks) and torch.equal(regions.masks, without.masks)
        assert not without.keypoints.any() and regions.keypoints[..., 2].all()


def test_large_faces_are_refined_in_their_order():
    images = [((500, 600), [[30, 40, 120, 160], [5, 5, 40, 50], [400, 300, 590, 490]]), ((60, 60), [[1, 1, 30, 30]])]
    images.append(((300, 200), [[-40, 100, 90, 260], [50, 50, 125, 125], [50, 50, 126, 126]]))
    regions, keypoints = [], np.random.default_rng(0).uniform(0, 300, (7, 17, 3)).astype(np.float32)
    keypoints[:, ::5, 2] = 0
    for number, (size, faces) in enumerate(images):
        seeds = [10 * number + face for face in range(len(faces))]
        regions.append(face_regions(faces, size, seeds, keypoints[: len(faces)]))
    batch = Regions.cat(regions)
    refined = refined_regions(batch, [size for size, _ in images])
    # 75 pixels are grown by 2 · 26 to less than 128, and 76 by as much to just that.
    assert refined.seeds.tolist() == [0, 2, 22, 20]
    assert refined.image_index.tolist() == [0, 0, 2, 2]
    assert refined.masks.shape == (4, 256, 256) and refined.region == "face"
    sides = refined.crop_boxes[:, 2:] - refined.crop_boxes[:, :2]
    assert sides.tolist() == [[168, 168], [266, 266], [106, 106], [224, 224]]

    before = {int(seed): i for i, seed in enumerate(batch.seeds)}
    for i, seed in enumerate(refined.seeds.tolist()):
        size, old = images[seed // 10][0], before[seed]
        one, other = (Regions(**{**vars(r), **rows(r, n)}) for r, n in ((refined, i), (batch, old)))
        assert (pasted(one, size) >= pasted(other, size)).all()
        # Back in the image, the keypoints are where they were given.
        in_image = refined.keypoints[i, :, :2] * sides[i] / 256 + refined.crop_boxes[i, :2]
        known = keypoints[seed % 10, :, 2] > 0
        np.testing.assert_allclose(in_image[known], keypoints[seed % 10, known, :2], atol=1e-3)
        assert (refined.keypoints[i, :, 2].numpy() == known).all()


def rows(regions, i):
    return {name: getattr(regions, name)[i : i + 1] for name in ("crop_boxes", "masks")}


def test_where_no_face_is_large_nothing_is_refined():
    regions = face_regions([[1, 1, 30, 30]], (60, 60), [0])
    assert len(refined_regions(regions, [(60, 60)])) == 0


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
    for name in ("seeds", "crop_boxes", "paste_boxes", "masks", "bodies", "keypoints", "paste_masks"):
        assert torch.equal(getattr(batch, name), torch.cat([getattr(image, name) for image in images]))
    with pytest.raises(ValueError, match=r"body.*face"):
        Regions.cat(both_kinds(draw(9)))
    with pytest.raises(ValueError, match="expected regions of one kind"):
        Regions.cat([])


def test_only_masks_follow_to_a_device():
    for regions in both_kinds(draw(9)):
        moved = regions.to("meta", non_blocking=True)
        on_device = {name for name, value in vars(moved).items() if isinstance(value, torch.Tensor) and value.is_meta}
        assert on_device == {"masks", "paste_masks"} | ({"packed_bodies"} if regions.region == "body" else set())
        assert moved.bodies.is_meta


@pytest.mark.skipif(not torch.cuda.is_available(), reason="page-locked memory needs a GPU")
def test_masks_are_pinned():
    for regions in both_kinds(draw(9)):
        pinned = regions.pin_memory()
        assert pinned.masks.is_pinned() and pinned.paste_masks.is_pinned()
        assert pinned.packed_bodies is None or pinned.packed_bodies.is_pinned()


def test_regions_survive_the_way_from_a_worker():
    for regions in both_kinds(draw(9)):
        arrived = pickle.loads(pickle.dumps(regions))
        assert torch.equal(arrived.masks, regions.masks) and torch.equal(arrived.bodies, regions.bodies)


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
