import numpy as np
import pytest
import torch

from anonymization import composite
from anonymization.conditions import Condition
from anonymization.engine import Anonymizer
from anonymization.methods import METHODS
from anonymization.regions import face_regions

CPU = torch.device("cpu")
each_map = pytest.mark.parametrize(
    ("region", "crop", "method"),
    [(r, c, m) for r, c in (("body", 288), ("body", 160), ("face", 128)) for m in ("blur", "pixelate")],
)


@each_map
def test_maps_keep_plain_colours_and_are_exact(region, crop, method):
    table = composite._table(METHODS[method], crop, region, CPU)
    for length in (1, 2, 5, 33, 64, composite.LARGEST):
        assert (table[length, :length, :length].sum(1) == 1).all()
        assert not table[length, length:].any() and not table[length, :, length:].any()
    weights = table * 2**16
    assert torch.equal(weights, weights.round())
    # Products of a byte with two weights, and their sums, must fit into the 53 bits of double precision.
    assert 255 * weights.abs().sum(2).max() ** 2 < 2**53


def test_a_plain_image_stays_as_it_is():
    image = torch.full((3, 90, 70), 201, dtype=torch.uint8)
    regions = face_regions([[20, 20, 40, 50]], (90, 70), [0])
    for method in ("blur", "pixelate"):
        assert torch.equal(Anonymizer(Condition("face", method))([image], regions)[0], image)


def test_products_of_many_people_are_made_in_parts(monkeypatch):
    faces = [[x, y, x + 9, y + 12] for x in range(5, 180, 20) for y in range(5, 180, 25)]
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 200, 200), dtype=np.uint8))
    regions, anonymizer = face_regions(faces, (200, 200), range(len(faces))), Anonymizer(Condition("face", "blur"))
    whole = anonymizer([image], regions)[0]
    monkeypatch.setattr(composite, "_VALUES", 5 * 3 * 32**2)
    assert torch.equal(anonymizer([image], regions)[0], whole)
