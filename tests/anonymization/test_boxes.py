import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from anonymization.boxes import BODY_BACKGROUND, body_crop_box, face_crop_box, refined_crop_box
from tests.anonymization import reference

SIZES = st.tuples(st.integers(2, 300), st.integers(2, 300))


@st.composite
def people(draw):
    """A person's mask, filled to a share of its tight box, in an image."""
    height, width = draw(SIZES)
    x0, y0 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    x1, y1 = draw(st.integers(x0 + 1, width)), draw(st.integers(y0 + 1, height))
    mask = torch.zeros(height, width, dtype=torch.bool)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    mask[y0:y1, x0:x1] = torch.rand(y1 - y0, x1 - x0, generator=generator) < draw(st.floats(0, 1))
    # Opposite corners, so that the box is tight.
    mask[y0, x0] = mask[y1 - 1, x1 - 1] = True
    return mask, (x0, y0, x1, y1)


@given(people())
def test_body_box_is_that_of_the_authors(person):
    mask, tight = person
    assert body_crop_box(tight, int(mask.sum()), mask.shape) == reference.body_box(mask, mask.shape)


@given(people())
def test_body_box_holds_the_person_and_enough_background(person):
    mask, tight = person
    x0, y0, x1, y1 = body_crop_box(tight, int(mask.sum()), mask.shape)
    assert x0 <= tight[0] and y0 <= tight[1] and x1 >= tight[2] and y1 >= tight[3]
    assert mask.sum() <= (1 - BODY_BACKGROUND) * (x1 - x0) * (y1 - y0) + 1e-3


@st.composite
def faces(draw):
    """A face box that has a pixel in its image."""
    height, width = draw(SIZES)
    x0, y0 = draw(st.integers(-20, width - 1)), draw(st.integers(-20, height - 1))
    return (height, width), (
        x0,
        y0,
        draw(st.integers(max(x0, 0) + 1, width + 20)),
        draw(st.integers(max(y0, 0) + 1, height + 20)),
    )


@given(faces())
def test_face_box_is_that_of_the_authors(face):
    size, box = face
    assert face_crop_box(box, size) == reference.face_box(box, size)


@given(faces())
def test_face_box_is_square_and_holds_the_face(face):
    size, box = face
    x0, y0, x1, y1 = face_crop_box(box, size)
    assert x1 - x0 == y1 - y0
    assert x0 <= box[0] and y0 <= box[1] and x1 >= box[2] and y1 >= box[3]


@pytest.mark.parametrize(
    ("face", "box"),
    [
        ((10, 20, 111, 220), (-80, -20, 200, 260)),
        ((0, 0, 97, 81), (-19, -27, 115, 107)),
        ((5, 7, 130, 131), (-20, -18, 154, 156)),
        ((33, 0, 133, 99), (13, -21, 153, 119)),
        ((7, 3, 82, 78), (-8, -12, 96, 92)),
    ],
)
def test_refined_box_is_what_the_authors_code_returned(face, box):
    """Recorded from ``dp2.detection.box_utils_fdf.expand_bbox`` with ``simple_expand``."""
    assert refined_crop_box(face) == box


@given(faces())
def test_refined_box_is_square_and_holds_the_face(face):
    box = face[1]
    x0, y0, x1, y1 = refined_crop_box(box)
    assert x1 - x0 == y1 - y0
    assert x0 <= box[0] and y0 <= box[1] and x1 >= box[2] and y1 >= box[3]
