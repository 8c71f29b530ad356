"""Generators: what realistic methods draw people with, from what a config says. See docs/generators.md.

Nothing heavy is imported before a generator is loaded.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from anonymization.options import Diffusers
from errors import UserError, nearest

if TYPE_CHECKING:
    from torch import Tensor

    from anonymization.generators.base import Generator

OWN = ".safetensors"  # how the files of the project's own network end
KINDS = ("torchscript", "deep_privacy2", "diffusers")


def load_generator(key: str, spec: str, crop: tuple[int, int], diffusers: Diffusers | None = None) -> "Generator":
    """Load what a config names, on the CPU.

    Args:
        key: The config key, for messages: "generators.body".
        spec: Its value: "FILE.safetensors", "torchscript:PATH", "deep_privacy2:CONFIG" or "diffusers:NAME_OR_FOLDER".
        crop: Height and width of the crops that the generator must work on.
        diffusers: How "diffusers:" draws; None for the defaults.

    Raises:
        UserError: It names no generator; a package or file is missing or is not what it should
            be; or the generator is for other crops.
    """
    try:
        generator = _load(spec, crop, diffusers or Diffusers())
    except UserError as error:
        raise UserError(f"{key}: {error}") from None
    if tuple(generator.crop) != tuple(crop):
        theirs, ours = (f"{height} × {width}" for height, width in (generator.crop, crop))
        raise UserError(f"{key}: {spec} is for crops of {theirs} pixels (height × width): these are of {ours}")
    return generator


def fingerprint(weights: Mapping[str, "Tensor"], *more: str) -> str:
    """Twelve hexadecimal digits that tell weights, and whatever else decides on the result, from any other."""
    import torch

    digest = hashlib.sha256("\n".join(more).encode())
    for name, value in sorted(weights.items()):
        digest.update(f"\n{name} {value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:12]


def _load(spec: str, crop: tuple[int, int], options: Diffusers) -> "Generator":
    kind, _, source = spec.partition(":")
    if kind in KINDS and not source:
        raise UserError(f"'{spec}' does not say which: give it as {kind}:{'NAME' if kind == 'diffusers' else 'PATH'}")
    if kind == "torchscript":
        from anonymization.generators import torchscript

        return torchscript.load(Path(source), crop)
    if kind == "deep_privacy2":
        from anonymization.generators import deep_privacy2

        return deep_privacy2.load(Path(source))
    if kind == "diffusers":
        from anonymization.generators import diffusers

        return diffusers.load(source, crop, options)
    if spec.endswith(OWN):
        from anonymization.generators.unet import UNetGenerator

        return UNetGenerator.load(Path(spec))
    raise UserError(f"unknown generator '{spec}'{nearest(kind, (*KINDS, f'FILE{OWN}'))}")
