"""Inpainting pipelines: what they are given, by a stand-in; and a real one of random weights, if diffusers is there."""

import json
import shutil
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from anonymization.generators.base import Context
from anonymization.generators.diffusers import Inpainter, enlarge, load, working_size
from anonymization.methods.base import Crops
from anonymization.options import Diffusers
from errors import UserError

CROP = (36, 20)


class Pipeline:
    """Keeps what it is called with and returns a colour for each person, of its own random numbers."""

    vae_scale_factor = 8

    def __init__(self, sample_size=4):
        self.unet = SimpleNamespace(config=SimpleNamespace(sample_size=sample_size))
        self.calls = []

    def set_progress_bar_config(self, disable):
        assert disable

    def to(self, device):
        self.device = device

    def __call__(self, **inputs):
        self.calls.append(inputs)
        colours = torch.stack([torch.rand(3, generator=generator) for generator in inputs["generator"]])
        images = colours[:, :, None, None].expand(-1, -1, inputs["height"], inputs["width"])
        return SimpleNamespace(images=images)


def crops(people, crop=CROP):
    generator = torch.Generator().manual_seed(people)
    masks = torch.zeros(people, 1, *crop, dtype=torch.bool)
    masks[:, :, crop[0] // 4 : -crop[0] // 4, crop[1] // 4 : -crop[1] // 4] = True
    images = torch.randint(256, (people, 3, *crop), dtype=torch.uint8, generator=generator)
    return Crops(images, masks, masks, torch.zeros(people, 17, 3), torch.arange(people) * 3 + 2**62)


def test_what_the_pipeline_is_given():
    pipeline = Pipeline()
    options = Diffusers(prompt="a person", strength=0.5, steps=7, guidance=3.5)
    given = Context.of(crops(3))
    result = Inpainter(pipeline, CROP, options, "name")(given)

    (call,) = pipeline.calls  # everybody at once
    assert call["prompt"] == ["a person"] * 3
    assert (call["strength"], call["num_inference_steps"], call["guidance_scale"]) == (0.5, 7, 3.5)
    size = (call["height"], call["width"])
    assert size == (64, 32)
    image, mask = call["image"], call["mask_image"]
    assert image.shape == (3, 3, *size) and mask.shape == (3, 1, *size) and mask.dtype == torch.float32
    assert image.min() >= 0 and image.max() <= 1
    assert set(mask.unique().tolist()) == {0, 1} and mask.mean().item() == pytest.approx(
        given.masks.float().mean().item(), abs=0.03
    )
    assert (image.masked_select(mask == 1) == 0.5).all()  # grey: not the person

    # Noise of each person's seed, drawn on the CPU; the result in [-1, 1], at the crop's size.
    colours = torch.stack([torch.rand(3, generator=torch.Generator().manual_seed(s)) for s in given.seeds.tolist()])
    assert all(generator.device.type == "cpu" for generator in call["generator"])
    assert result.shape == (3, 3, *CROP)
    assert torch.allclose(result, (colours * 2 - 1)[:, :, None, None].expand_as(result), atol=1e-5)


def test_no_prompt_is_the_empty_one_and_to_moves_the_pipeline():
    pipeline = Pipeline()
    generator = Inpainter(pipeline, CROP, Diffusers(), "name")
    assert generator.to(torch.device("cpu")) is generator and pipeline.device == torch.device("cpu")
    generator(Context.of(crops(1)))
    assert pipeline.calls[0]["prompt"] == [""]


@pytest.mark.parametrize(
    "crop, short, multiple, expected",
    [
        ((288, 160), 512, 16, (928, 512)),
        ((288, 160), 512, 8, (928, 512)),
        ((128, 128), 512, 16, (512, 512)),
        ((256, 256), 1024, 32, (1024, 1024)),
        ((128, 128), 64, 16, (128, 128)),  # never smaller
        ((288, 160), 250, 16, (464, 256)),
    ],
)
def test_working_size(crop, short, multiple, expected):
    assert working_size(crop, short, multiple) == expected


def test_known_pixels_take_nothing_of_the_grey():
    masks = torch.zeros(1, 1, *CROP, dtype=torch.bool)
    masks[:, :, 5:20, 3:12] = True
    masks[:, :, 25, ::2] = True  # single pixels too
    images = torch.full((1, 3, *CROP), 0.8).masked_fill(masks, 0)
    larger, larger_masks = enlarge(images, masks, (128, 64))
    assert (larger.masked_select(larger_masks) == 0).all()
    assert torch.allclose(larger.masked_select(~larger_masks), torch.tensor(0.8), atol=1e-5)


def test_options_out_of_range():
    for options, problem in [
        (Diffusers(strength=0.0), r"generators\.diffusers\.strength: 0\.0 is not above 0"),
        (Diffusers(strength=1.5), r"generators\.diffusers\.strength: 1\.5"),
        (Diffusers(steps=0), r"generators\.diffusers\.steps: 0"),
        (Diffusers(steps=3, strength=0.3), r"generators\.diffusers\.steps: 3 × strength 0\.3 is less than one step"),
        (Diffusers(guidance=-1.0), r"generators\.diffusers\.guidance: -1\.0"),
        (Diffusers(guidance=float("nan")), r"generators\.diffusers\.guidance: nan"),
        (Diffusers(size=0), r"generators\.diffusers\.size: 0"),
    ]:
        with pytest.raises(UserError, match=problem):
            load("anything", CROP, options)


def test_pipeline_that_does_not_tell_its_size():
    with pytest.raises(UserError, match=r"generators\.diffusers\.size: is missing; Pipeline does not say"):
        Inpainter(Pipeline(sample_size=None), CROP, Diffusers(), "name")
    assert Inpainter(Pipeline(sample_size=None), CROP, Diffusers(size=100), "name").size == (192, 112)


def test_missing_or_old_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(UserError, match="diffusers:some/model needs diffusers: pip install"):
        load("some/model", CROP, Diffusers())
    old = SimpleNamespace(__version__="0.37.1", AutoPipelineForInpainting=None)
    monkeypatch.setitem(sys.modules, "diffusers", old)
    with pytest.raises(UserError, match=r"diffusers 0\.37\.1 is too old to load pipelines safely: pip install"):
        load("some/model", CROP, Diffusers())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A Stable Diffusion inpainting pipeline of random weights, two thousandths of the real one's size."""
    diffusers = pytest.importorskip("diffusers")
    transformers = pytest.importorskip("transformers")
    path = tmp_path_factory.mktemp("diffusers")
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    vocabulary = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    (path / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(vocabulary)}))
    (path / "merges.txt").write_text("#version: 0.2\n")
    text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipeline = diffusers.StableDiffusionInpaintPipeline(
            vae=diffusers.AutoencoderKL(
                block_out_channels=(8, 8),
                down_block_types=("DownEncoderBlock2D",) * 2,
                up_block_types=("UpDecoderBlock2D",) * 2,
                norm_num_groups=4,
            ),
            text_encoder=transformers.CLIPTextModel(
                transformers.CLIPTextConfig(vocab_size=len(vocabulary), max_position_embeddings=16, **text, **ends)
            ),
            tokenizer=transformers.CLIPTokenizer(
                str(path / "vocab.json"), str(path / "merges.txt"), model_max_length=16
            ),
            unet=diffusers.UNet2DConditionModel(
                sample_size=16,
                in_channels=9,
                out_channels=4,
                block_out_channels=(8, 16),
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
                layers_per_block=1,
                cross_attention_dim=16,
                attention_head_dim=4,
                norm_num_groups=4,
            ),
            scheduler=diffusers.EulerAncestralDiscreteScheduler(steps_offset=1),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    pipeline.save_pretrained(path / "pipeline")
    return path / "pipeline"


@pytest.mark.parametrize("options", [Diffusers(steps=2), Diffusers("a person", strength=0.5, steps=4, guidance=4.0)])
def test_real_pipeline(folder, options):
    generator = load(str(folder), CROP, options)
    assert generator.size == (60, 32) and generator.crop == CROP
    people = crops(3)
    state = torch.random.get_rng_state()
    result = generator(Context.of(people))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert result.shape == people.images.shape and result.dtype == torch.float32
    assert result.isfinite().all() and result.abs().max() <= 1

    # A person is its seed's, whoever is beside it, and another's is another.
    alone = generator(Context.of(people)[1:2])
    assert torch.allclose(alone[0], result[1], atol=1e-3)
    otherwise = Context.of(replace(people, seeds=people.seeds + 1))
    assert (generator(otherwise) - result).abs().mean() > 0.02

    # Nothing of the person comes through.
    other = replace(people, images=people.images.masked_fill(people.masks, 200))
    assert torch.equal(generator(Context.of(other)), result)


def test_real_pipelines_names(folder):
    names = [load(str(folder), CROP, options).name for options in (Diffusers(), Diffusers(), Diffusers(steps=3))]
    assert names[0] == names[1] != names[2]
    assert names[0].startswith(f"diffusers:{folder}@")


def test_real_folders_that_do_not_do(folder, tmp_path):
    with pytest.raises(UserError, match=r"folder .*nothing does not exist"):
        load(str(tmp_path / "nothing"), CROP, Diffusers())
    with pytest.raises(UserError, match=r"cannot be loaded, for inpainting, from safetensors: .*model_index\.json"):
        load(str(tmp_path), CROP, Diffusers())

    shutil.copytree(folder, tmp_path / "pickled")
    weights = tmp_path / "pickled" / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(UserError, match=r"cannot be loaded, .*diffusion_pytorch_model\.safetensors"):
        load(str(tmp_path / "pickled"), CROP, Diffusers())

    shutil.copytree(folder, tmp_path / "program")
    index = tmp_path / "program" / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "unet": ["own_network", "Network"]}))
    (index.parent / "unet" / "own_network.py").write_text("raise SystemExit('was run')")
    with pytest.raises(UserError, match="custom code"):
        load(str(index.parent), CROP, Diffusers())
