"""Realistic conditions: which generator draws whom, and when it is loaded."""

import pickle
from dataclasses import fields

import numpy as np
import pytest
import torch

from anonymization.conditions import CONDITIONS, parse_condition
from anonymization.engine import CROPS, Anonymizer, anonymize
from anonymization.methods.realistic import Realistic
from anonymization.options import Diffusers, Generators
from anonymization.regions import Regions, body_regions, face_regions
from errors import UserError
from tests.anonymization.generators import Returning, StandIn
from tests.anonymization.scenes import draw

REALISTIC = [name for name in CONDITIONS if "realistic" in name]
NAMED = Generators(body="b", face="f", face_refined="r", chunk=3)
SIZE = (600, 700)
SMALL, LARGE = [20, 30, 60, 80], [200, 100, 400, 350]  # face boxes


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr("anonymization.methods.latent_optimization.STEPS", 3)


@pytest.fixture
def loads(monkeypatch):
    """Every generator is a stand-in; the arguments with which they were loaded."""
    calls = []

    def load(key, spec, crop, diffusers):
        calls.append((key, spec, crop, diffusers))
        generator = StandIn(crop)
        generator.name = f"stand-in {spec}"
        return generator

    monkeypatch.setattr("anonymization.engine.load_generator", load)
    return calls


def grey(monkeypatch, **levels):
    """Each generator returns its own level, -1 to 1."""

    def load(key, spec, crop, diffusers):
        return Returning(torch.full((1, 3, *crop), levels[key.removeprefix("generators.")]))

    monkeypatch.setattr("anonymization.engine.load_generator", load)


def regions_of(scene, region):
    if region == "body":
        return body_regions(scene.masks, scene.size, range(len(scene.masks)))
    return face_regions(scene.faces, scene.size, range(len(scene.faces)))


def replaced(region, size):
    """The pixels that are replaced: bool [H, W]."""
    black = torch.zeros(3, *size, dtype=torch.uint8)
    return Anonymizer(parse_condition(f"{region.region}/mask_out"))([black], region)[0][0] > 0


@pytest.mark.parametrize("name", REALISTIC)
def test_people_are_drawn_and_nothing_else_changes(loads, name):
    condition, scene = parse_condition(name), draw(9)
    regions = regions_of(scene, condition.region)
    (result,) = Anonymizer(condition, NAMED)([scene.image], regions)
    inside = replaced(regions, scene.size)
    assert torch.equal(result[:, ~inside], scene.image[:, ~inside])
    assert (result != scene.image).any(0)[inside].float().mean() > 0.8
    # one call of the method would do the same, but for those that are refined
    if name.endswith("/realistic"):
        method = Realistic(StandIn(CROPS[condition.region]), 3)
        expected = anonymize([scene.image], regions, method, hidden=True)[0]
        assert torch.equal(result, expected)


def test_generators_are_loaded_once_when_they_are_needed(loads):
    anonymizer = Anonymizer(parse_condition("face/realistic_refined"), NAMED)
    assert loads == []
    assert anonymizer.load() == {"face": "stand-in f", "face_refined": "stand-in r"}
    anonymizer([torch.zeros(3, *SIZE, dtype=torch.uint8)], face_regions([SMALL], SIZE, [0]))
    assert loads == [
        ("generators.face", "f", (128, 128), Diffusers()),
        ("generators.face_refined", "r", (256, 256), Diffusers()),
    ]
    assert Anonymizer(parse_condition("body/blur"), NAMED).load() == {}


def test_what_is_pickled_is_not_the_generator(loads):
    anonymizer = Anonymizer(parse_condition("body/realistic"), NAMED)
    before = pickle.dumps(anonymizer)
    anonymizer.load()
    assert pickle.dumps(anonymizer) == before
    again = pickle.loads(before)
    assert again.load() == {"body": "stand-in b"} and len(loads) == 2


@pytest.mark.parametrize("name", REALISTIC)
def test_a_generator_that_is_not_named_is_missed_at_once(name):
    condition = parse_condition(name)
    for key in condition.generators:
        named = Generators(**{k: "x" for k in condition.generators if k != key})
        with pytest.raises(UserError, match=f"generators.{key}: is missing; {name} needs one"):
            Anonymizer(condition, named)
    with pytest.raises(UserError, match=r"generators\.chunk: 0"):
        Anonymizer(condition, Generators("x", "x", "x", chunk=0))


def test_a_generator_that_does_not_fit_the_method_is_refused_when_loaded(monkeypatch):
    grey(monkeypatch, body=0.0)
    with pytest.raises(UserError, match=r"generators\.body: .*latent space"):
        Anonymizer(parse_condition("body/realistic_hm_lo"), NAMED).load()


def test_only_large_faces_are_refined(monkeypatch):
    grey(monkeypatch, face=-1.0, face_refined=1.0)
    image = torch.full((3, *SIZE), 100, dtype=torch.uint8)
    other = [np.array(boxes, float) for boxes in ([SMALL], [])]
    boxes = [np.array([SMALL, LARGE], float), *other]
    regions = Regions.cat([face_regions(own, SIZE, range(len(own))) for own in boxes])
    results = Anonymizer(parse_condition("face/realistic_refined"), NAMED)([image] * 3, regions)
    once = Anonymizer(parse_condition("face/realistic"), NAMED)([image] * 3, regions)
    small, large = (slice(40, 70), slice(30, 50)), (slice(110, 340), slice(210, 390))  # within the edges
    levels = [set(image[:, *part].flatten().tolist()) for image in (results[0], once[0]) for part in (small, large)]
    assert levels == [{0}, {255}, {0}, {0}]
    assert torch.equal(results[1], once[1]) and not torch.equal(results[1], image)
    assert results[2] is image


def test_the_refined_face_is_drawn_among_what_was_drawn_before(monkeypatch):
    """Its surroundings are those of the first result: a neighbour who was replaced shows as replaced."""
    neighbour = [200, 360, 260, 420]
    seen = []

    class Looking(Returning):
        def __call__(self, context):
            seen.append(context.images)
            return super().__call__(context)

    def load(key, spec, crop, diffusers):
        refined = key.endswith("refined")
        return (Looking if refined else Returning)(torch.full((1, 3, *crop), 0.0 if refined else 1.0))

    monkeypatch.setattr("anonymization.engine.load_generator", load)
    boxes = np.array([LARGE, neighbour], float)
    Anonymizer(parse_condition("face/realistic_refined"), NAMED)(
        [torch.zeros(3, *SIZE, dtype=torch.uint8)], face_regions(boxes, SIZE, range(2))
    )
    (images,) = seen
    assert images.shape[-1] == 256
    assert (images > 0.99).any()  # the white neighbour; the picture is black elsewhere


@pytest.mark.parametrize("name", ["face/realistic_refined", "body/realistic"])
def test_a_person_does_not_depend_on_the_batch_but_for_rounding(loads, name):
    condition = parse_condition(name)
    scenes = [draw(seed, largest=300) for seed in range(6)]
    anonymizer = Anonymizer(condition, NAMED)
    regions = [regions_of(scene, condition.region) for scene in scenes]
    together = anonymizer([scene.image for scene in scenes], Regions.cat(regions))
    for scene, own, result in zip(scenes, regions, together, strict=True):
        (alone,) = anonymizer([scene.image], own)
        assert (alone.int() - result.int()).abs().max() <= 1


def test_the_options_are_all_of_a_kind():
    """Every generator that a condition can need is a key of the config, and has a size."""
    keys = {field.name for field in fields(Generators)} - {"chunk", "diffusers"}
    assert keys == CROPS.keys() == {key for name in CONDITIONS for key in parse_condition(name).generators}
