"""Matching of faces and people against decoded masks and a plain loop."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from anonymization.matching import MIN_IOU, face_person_iou, match_faces


def encode(masks):
    return [coco_mask.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in masks]


def slow_iou(boxes, masks):
    iou = np.zeros((len(boxes), len(masks)))
    for i, (x0, y0, x1, y1) in enumerate(boxes):
        region = np.zeros(masks[0].shape, bool)
        region[max(0, int(y0)) : max(0, int(y1)), max(0, int(x0)) : max(0, int(x1))] = True
        for j, mask in enumerate(masks):
            union = (region | mask).sum()
            iou[i, j] = (region & mask).sum() / union if union else 0
    return iou


def slow_match(iou, scores):
    """Take the best pair that is left, again and again."""
    allowed = iou > MIN_IOU
    choices = allowed.sum(0)
    pairs = []
    while allowed.any():
        keys = {(f, p): (-iou[f, p], -scores[f], choices[p], f, p) for f, p in np.argwhere(allowed).tolist()}
        face, person = min(keys, key=keys.get)
        pairs.append((face, person))
        allowed[face] = False
        allowed[:, person] = False
    return pairs


@st.composite
def scenes(draw):
    height, width = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    density = draw(st.sampled_from([0, 0.05, 0.5, 1]))
    masks = rng.random((draw(st.integers(1, 5)), height, width)) < density
    corners = rng.uniform(-4, 28, (draw(st.integers(0, 6)), 2, 2))
    corners[1:].sort(axis=1)  # one may be inside out: it covers nothing
    # Few values, so that there are ties.
    scores = rng.choice([0.25, 0.5, 1], len(corners))
    if draw(st.booleans()):
        corners = corners.round()
    return corners.reshape(-1, 4), scores, masks


@settings(max_examples=300, deadline=None)
@given(scenes())
def test_equals_the_slow_version(scene):
    boxes, scores, masks = scene
    expected = slow_iou(boxes, masks)
    people = encode(masks)
    np.testing.assert_allclose(face_person_iou(boxes, people), expected, rtol=1e-12)
    faces = np.column_stack([boxes, scores])
    assert match_faces(faces, people) == slow_match(expected, scores)


def test_overlap_must_exceed_the_threshold():
    person = np.zeros((40, 40), bool)
    person[:10, :10] = True
    for width, matched in ((1, []), (2, [(0, 0)])):
        box = [[0.0, 0, width, 1, 0.9]]  # 1 and 2 of 100 pixels
        assert match_faces(np.array(box), encode([person])) == matched


def test_a_small_person_behind_takes_the_face():
    """As in the authors' matching: IoU prefers the smaller mask, whoever's face it is."""
    front, behind = np.zeros((2, 50, 50), bool)
    front[10:50, 10:40] = True
    behind[10:22, 18:30] = True
    face = np.array([[15.0, 10, 27, 22, 0.9]])
    assert match_faces(face, encode([front, behind])) == [(0, 1)]


def test_ties_go_to_the_better_score_then_to_the_person_with_fewer_choices():
    left, right = np.zeros((2, 20, 40), bool)
    left[:, :20] = True
    right[:, 20:] = True
    between = [15.0, 0, 25, 10]
    assert match_faces(np.array([[*between, 0.5], [*between, 0.9]]), encode([left, right])) == [(1, 0), (0, 1)]
    on_left = [0.0, 15, 4, 20, 0.9]
    assert match_faces(np.array([[*between, 0.9], on_left]), encode([left, right])) == [(0, 1), (1, 0)]


@pytest.mark.parametrize(("faces", "people"), [(0, 2), (2, 0), (0, 0)])
def test_nobody_to_match(faces, people):
    assert match_faces(np.ones((faces, 5)), encode(np.ones((people, 4, 4), bool))) == []
