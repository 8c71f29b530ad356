"""The project's own generator: a style-based U-Net that inpaints a person from its surroundings, mask and pose.

In the line of DeepPrivacy2 and TriaGAN (Hukkelås & Lindseth 2023): a mapping network z -> w with cluster centres
(multi-modal truncation, Mokady et al. 2022), and a U-Net whose decoder is modulated by w. Here the encoder is not, so
that a search for w (see `anonymization.methods.latent_optimization`) goes through the decoder alone.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from anonymization.generators.base import Context
from anonymization.generators.pose import LIMBS, draw_limbs
from errors import UserError
from outputs import replacing


@dataclass(frozen=True)
class Architecture:
    """Width and depth of the network.

    Attributes:
        crop: Height and width of the crops it works on, in pixels.
        stride: Crop pixels per side that are averaged into one pixel of the network's input; 1 for full detail.
        output_stride: Crop pixels per side that one generated pixel covers; divides ``stride``.
        channels: Of each level of the U-Net, from the finest; a level has half the height and width of the one before.
        blocks: Residual blocks per level, of the encoder and of the decoder each.
        latent: Length of z.
        style: Length of w.
        mapping: Layers of the mapping network.
        pose: Whether the person's limbs are among the inputs.
    """

    crop: tuple[int, int]
    stride: int = 4
    output_stride: int = 2
    channels: tuple[int, ...] = (24, 48, 64, 96)
    blocks: int = 1
    latent: int = 64
    style: int = 128
    mapping: int = 2
    pose: bool = True

    @property
    def inputs(self) -> int:
        """Channels of the network's input."""
        return 3 + 2 + (len(LIMBS) if self.pose else 0)


class Mapping(nn.Module):
    """Maps z to w: float32 [N, latent] to [N, style]."""

    def __init__(self, latent: int, style: int, layers: int) -> None:
        super().__init__()
        widths = [latent, *[style] * layers]
        self.layers = nn.ModuleList(nn.Linear(n, m) for n, m in pairwise(widths))
        for layer in self.layers:
            nn.init.kaiming_normal_(layer.weight, 0.2)
            nn.init.zeros_(layer.bias)

    def forward(self, z: Tensor) -> Tensor:
        """Map normalised z."""
        x = z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-8)
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
        return x


class Block(nn.Module):
    """Two convolutions beside a shortcut, each after a normalisation; modulated by w where ``style`` is given."""

    def __init__(self, inputs: int, outputs: int, style: int | None = None) -> None:
        super().__init__()
        self.norms = nn.ModuleList(_norm(n, affine=style is None) for n in (inputs, outputs))
        self.convolutions = nn.ModuleList(nn.Conv2d(n, outputs, 3, padding=1) for n in (inputs, outputs))
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        if style is not None:
            self.affine = nn.ModuleList(nn.Linear(style, 2 * n) for n in (inputs, outputs))

    def forward(self, x: Tensor, w: Tensor | None = None) -> Tensor:
        """Transform [N, inputs, H, W] to [N, outputs, H, W]."""
        y = x
        for place, (norm, convolution) in enumerate(zip(self.norms, self.convolutions, strict=True)):
            y = norm(y)
            if w is not None:
                scale, shift = self.affine[place](w)[:, :, None, None].chunk(2, dim=1)
                y = torch.addcmul(shift, y, 1 + scale)
            y = convolution(F.leaky_relu(y, 0.2))
        return (self.shortcut(x) + y) * 0.5**0.5


def _norm(channels: int, affine: bool = True) -> nn.GroupNorm:
    return nn.GroupNorm(max(1, channels // 8), channels, affine=affine)


class UNetGenerator(nn.Module):
    """See the module; a `LatentGenerator`.

    Args:
        architecture: Width and depth.
        centers: Cluster centres of w, where latents are truncated to.
    """

    def __init__(self, architecture: Architecture, centers: int = 1) -> None:
        super().__init__()
        self.architecture = a = architecture
        self.crop = tuple(a.crop)
        self.name = "untrained"
        self.mapping = Mapping(a.latent, a.style, a.mapping)
        self.register_buffer("centers", torch.zeros(centers, a.style))
        self.stem = nn.Conv2d(a.inputs, a.channels[0], 3, padding=1)
        widths = [a.channels[0], *a.channels]
        self.down = nn.ModuleList(_blocks(n, m, a.blocks) for n, m in pairwise(widths))
        self.middle = Block(a.channels[-1], a.channels[-1], a.style)
        reverse = [a.channels[-1], *a.channels[::-1]]
        self.skips = nn.ModuleList(nn.Conv2d(m, n, 1) for n, m in pairwise(reverse))
        self.up = nn.ModuleList(_blocks(n, m, a.blocks, a.style) for n, m in pairwise(reverse))
        self.norm = _norm(a.channels[0])
        parts = (a.stride // a.output_stride) ** 2
        self.to_rgb = nn.Conv2d(a.channels[0], 3 * parts, 3, padding=1)
        with torch.no_grad():  # the parts of a pixel begin alike, or their pattern would stay for long (ICNR)
            self.to_rgb.weight.copy_(self.to_rgb.weight[::parts].repeat_interleave(parts, dim=0))

    def latents(self, seeds: Tensor) -> Tensor:
        """See `LatentGenerator`: the cluster centre that the seed chooses."""
        return self.centers[seeds.to(self.centers.device) % len(self.centers)]

    def inputs(self, context: Context) -> Tensor:
        """Draw what the network sees: surroundings, mask, body and limbs, float32 [P, C, h / stride, w / stride]."""
        stride = self.architecture.stride
        inputs = [F.avg_pool2d(x.float(), stride) for x in (context.images, context.masks, context.bodies)]
        if self.architecture.pose:
            inputs.append(draw_limbs(context.keypoints, self.crop, tuple(n // stride for n in self.crop)))
        return torch.cat(inputs, dim=1)

    def encode(self, context: Context) -> tuple[Tensor, ...]:
        """See `LatentGenerator`: the features of each level, from the finest."""
        return self.encode_inputs(self.inputs(context))

    def encode_inputs(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """What `encode` does with its `inputs`."""
        x = self.stem(inputs)
        features = []
        for level, blocks in enumerate(self.down):
            x = F.avg_pool2d(x, 2) if level else x
            for block in blocks:
                x = block(x)
            features.append(x)
        return tuple(features)

    def synthesize(self, encoded: tuple[Tensor, ...], w: Tensor) -> Tensor:
        """Generate at the network's own resolution: float32 [N, 3, h / output_stride, w / output_stride]."""
        x = self.middle(encoded[-1], w)
        for level, (skip, blocks) in enumerate(zip(self.skips, self.up, strict=True)):
            x = F.interpolate(x, scale_factor=2.0) if level else x
            x = (x + skip(encoded[-1 - level])) * 0.5**0.5
            for block in blocks:
                x = block(x, w)
        x = self.to_rgb(F.leaky_relu(self.norm(x), 0.2))
        return torch.tanh(F.pixel_shuffle(x, self.architecture.stride // self.architecture.output_stride))

    def decode(self, encoded: tuple[Tensor, ...], latents: Tensor) -> Tensor:
        """See `LatentGenerator`."""
        # Bilinear interpolation is several times as slow on channels that are last in memory.
        return F.interpolate(self.synthesize(encoded, latents).contiguous(), self.crop, mode="bilinear")

    def forward(self, context: Context) -> Tensor:
        """See `Generator`."""
        return self.decode(self.encode(context), self.latents(context.seeds))

    def save(self, path: Path, about: dict[str, str]) -> None:
        """Write weights in half precision, and how they were made, as safetensors that `load` reads."""
        tensors = {name: value.half().contiguous() for name, value in self.state_dict().items()}
        metadata = {**about, "architecture": json.dumps(asdict(self.architecture))}
        with replacing(path) as temporary:
            save_file(tensors, temporary, metadata)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a generator that `save` wrote; its weights are fixed.

        Raises:
            UserError: the file is missing or none of these.
        """
        try:
            with safe_open(path, framework="pt") as file:
                content = json.loads((file.metadata() or {})["architecture"])
                weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
            weights.pop("mean", None)  # of w, which nothing read: older files have it
            architecture = Architecture(**{k: tuple(v) if isinstance(v, list) else v for k, v in content.items()})
            generator = cls(architecture, len(weights["centers"]))
            generator.load_state_dict(weights)
        except FileNotFoundError:
            raise UserError(f"generator {path} does not exist") from None
        except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            raise UserError(f"{path}: is no generator of anonbench: {error}") from None
        with path.open("rb") as file:
            generator.name = f"{path.name}@{hashlib.file_digest(file, 'sha256').hexdigest()[:12]}"
        # Channels last in memory: forward in 0.6, forward and backward in 0.8 of the time, on a CPU.
        return generator.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def _blocks(inputs: int, outputs: int, count: int, style: int | None = None) -> nn.ModuleList:
    widths = [inputs, *[outputs] * count]
    return nn.ModuleList(Block(n, m, style) for n, m in pairwise(widths))
