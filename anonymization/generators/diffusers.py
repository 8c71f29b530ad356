"""A generator from an inpainting pipeline of Hugging Face's diffusers: Stable Diffusion and its like.

As in LDFA (Klemp et al. 2023, arXiv:2302.08931) people are inpainted without the network having been trained on the
dataset; its code draws faces with no prompt and guidance 1. Unlike there, the pipeline never sees the person: what it
is given is grey inside the region. So it also starts from noised *grey* where strength is below 1.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anonymization.generators import fingerprint
from anonymization.generators.base import Context
from anonymization.options import Diffusers
from errors import UserError

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

KEY = "generators.diffusers"
SAFE = (0, 38)  # the first version that does not run Python files of a pipeline's folder without being told to
INSTALL = "pip install 'diffusers>=0.38' 'transformers>=5' accelerate"


class Inpainter:
    """Calls an inpainting pipeline on enlarged crops; the noise is each person's own, and the same on every device.

    A pipeline with a safety checker returns black for what the checker takes offence at, and black is then what the
    person is replaced by.

    Args:
        pipeline: Takes prompt, image, mask_image, height, width, strength, num_inference_steps, guidance_scale,
            generator and output_type.
        crop: Height and width of the crops.
        options: How it draws.
        name: See `Generator`.

    Raises:
        UserError: An option is out of range; or the pipeline does not say which size it was trained on, nor do options.
    """

    def __init__(self, pipeline: "DiffusionPipeline", crop: tuple[int, int], options: Diffusers, name: str) -> None:
        _check(options)
        self.pipeline = pipeline
        self.crop = crop
        self.options = options
        self.name = name
        # What the pixels of a latent share, and twice that for transformers that take latents in patches of 2 × 2.
        multiple = 2 * getattr(pipeline, "vae_scale_factor", 8)
        self.size = working_size(crop, options.size or _native_size(pipeline), multiple)
        pipeline.set_progress_bar_config(disable=True)

    def to(self, device: torch.device) -> Self:
        """See `Generator`."""
        self.pipeline.to(device)
        return self

    @torch.no_grad()
    def __call__(self, context: Context) -> Tensor:
        """See `Generator`."""
        images, masks = enlarge(context.images, context.masks, self.size)
        drawn = self.pipeline(
            prompt=[self.options.prompt or ""] * len(context),
            image=(images + 1) / 2,
            mask_image=masks.float(),
            height=self.size[0],
            width=self.size[1],
            strength=self.options.strength,
            num_inference_steps=self.options.steps,
            guidance_scale=self.options.guidance,
            generator=[torch.Generator().manual_seed(seed) for seed in context.seeds.tolist()],
            output_type="pt",
        ).images
        drawn = drawn.to(images) * 2 - 1
        return F.interpolate(drawn, self.crop, mode="bicubic", antialias=True).clamp(-1, 1)


def load(source: str, crop: tuple[int, int], options: Diffusers) -> Inpainter:
    """Load a pipeline, from safetensors alone: nothing is unpickled, and none of the pipeline's own code is run.

    Args:
        source: The folder of a pipeline, or its name on the Hugging Face hub, from where it is downloaded once.
        crop: Height and width of the crops it is for.
        options: How it draws.

    Raises:
        UserError: A package is missing; the pipeline is, or cannot inpaint; or an option is out of range.
    """
    _check(options)
    if Path(source).is_absolute() and not Path(source).is_dir():
        raise UserError(f"folder {source} does not exist")
    try:
        from diffusers import AutoPipelineForInpainting, __version__

        if tuple(int(number) for number in __version__.split(".")[:2]) < SAFE:
            raise UserError(f"diffusers {__version__} is too old to load pipelines safely: {INSTALL}")
        pipeline = AutoPipelineForInpainting.from_pretrained(source, use_safetensors=True)
    except ImportError as error:
        raise UserError(f"diffusers:{source} needs {error.name or 'more packages'}: {INSTALL}") from None
    except UserError:
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"diffusers:{source}: cannot be loaded, for inpainting, from safetensors: {reason}") from None
    modules = {name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)}
    weights = {f"{part}.{name}": value for part in modules for name, value in modules[part].state_dict().items()}
    scheduler = getattr(pipeline, "scheduler", None)
    digest = fingerprint(weights, repr(options), f"{type(scheduler).__name__} {getattr(scheduler, 'config', None)}")
    return Inpainter(pipeline, crop, options, f"diffusers:{source}@{digest}")


def working_size(crop: tuple[int, int], short: int, multiple: int) -> tuple[int, int]:
    """The height and width at which crops are drawn: of their shape, as nearly as multiples allow; never smaller.

    Args:
        crop: Height and width of the crops.
        short: Least length of the shorter side.
        multiple: Of which both are multiples.
    """
    short = max(short, min(crop))
    height, width = (math.ceil(side * short / (min(crop) * multiple)) * multiple for side in crop)
    return height, width


def enlarge(images: Tensor, masks: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Enlarge contexts without a rim: no known pixel takes anything of the grey inside the masks.

    Args:
        images: float32 [P, 3, h, w], 0 where ``masks``.
        masks: bool [P, 1, h, w].
        size: Height and width to enlarge to.

    Returns:
        Images and masks of that size, of the same kind.
    """
    larger = F.interpolate(masks.float(), size, mode="nearest-exact") > 0.5
    known = F.interpolate((~masks).float(), size, mode="bilinear")
    images = F.interpolate(images, size, mode="bilinear") / known.clamp(min=1e-3)
    return images.masked_fill(larger, 0).clamp(-1, 1), larger


def _check(options: Diffusers) -> None:
    if not 0 < options.strength <= 1:
        raise UserError(f"{KEY}.strength: {options.strength} is not above 0 and at most 1")
    if int(options.steps * options.strength) < 1:
        raise UserError(f"{KEY}.steps: {options.steps} × strength {options.strength} is less than one step")
    if not options.guidance >= 0:
        raise UserError(f"{KEY}.guidance: {options.guidance} is less than 0")
    if options.size is not None and options.size < 1:
        raise UserError(f"{KEY}.size: {options.size} is less than 1")


def _native_size(pipeline: "DiffusionPipeline") -> int:
    """The side in pixels of the images that a pipeline was trained on."""
    unet = getattr(pipeline, "unet", None)
    side = unet.config.sample_size if unet is not None else getattr(pipeline, "default_sample_size", None)
    if not isinstance(side, int):
        name = type(pipeline).__name__
        raise UserError(f"{KEY}.size: is missing; {name} does not say which size of image it was trained on")
    return side * pipeline.vae_scale_factor
