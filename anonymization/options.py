"""What a config says of generators: plain data, which commands read before anything heavy is imported."""

from dataclasses import dataclass, field


@dataclass
class Diffusers:
    """How generators named ``diffusers:`` draw: by default without prompt and guidance, as LDFA (Klemp et al. 2023)."""

    prompt: str | None = None  # what to draw, of everybody; null: not said
    strength: float = 1.0  # share of noise in what drawing starts from, above 0; the rest is the region's grey
    steps: int = 50  # of denoising
    guidance: float = 1.0  # how closely the prompt is followed; 1: as the network does by itself, at half the cost
    size: int | None = None  # pixels of the crop's shorter side as it is drawn; null: what the pipeline was trained on


@dataclass
class Generators:
    """What realistic conditions draw people with: each a generator as docs/generators.md names them, null for none."""

    body: str | None = None  # of ``body/`` conditions, 288 × 160
    face: str | None = None  # of ``face/`` conditions, 128 × 128
    face_refined: str | None = None  # of large faces under ``face/realistic_refined``, 256 × 256
    chunk: int = 32  # people generated at once, at most
    diffusers: Diffusers = field(default_factory=Diffusers)
