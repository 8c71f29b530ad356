"""The schema of an experiment that trains a generator."""

from dataclasses import dataclass, field

from omegaconf import MISSING


@dataclass
class GeneratorConfig:
    """A generator of people (see `anonymization.generators.unet`), and how it is trained."""

    region: str = MISSING  # body, face, or face_refined: faces cut at 256 × 256 pixels
    smallest: int = 0  # height in pixels of the smallest people, or faces, that are learnt from
    held_out: float = 0.03  # share of the training images that are kept for val/fid

    stride: int = 4  # crop pixels per side that are one pixel of the network's input
    output_stride: int = 2  # crop pixels per side that one generated pixel covers
    channels: list[int] = field(default_factory=lambda: [24, 48, 96, 128])  # of each level, from the finest
    blocks: int = 1  # residual blocks per level, down and up each
    latent: int = 64  # length of z
    style: int = 128  # length of w
    mapping: int = 2  # layers from z to w
    pose: bool = True  # limbs are among the inputs
    centers: int = 256  # clusters of w: how many looks people can have (the paper's authors: 512)
    discriminator_channels: list[int] = field(default_factory=lambda: [16, 32, 64, 128])

    steps: int = MISSING  # length of training
    lr: float = 1e-3  # of Adam, for generator and discriminator
    reconstruction: float = (
        10.0  # weight of reconstructing people from their appearance; 0 with divergence 0: a plain GAN
    )
    divergence: float = 0.04  # weight of what the latent may keep of a person
    r1: float = 1.0  # weight of the gradient penalty
    r1_every: int = 16  # steps
    path_length: float = 0.0  # weight of path length regularisation; 0: none
    path_length_every: int = 8  # steps
    augment: bool = False  # what the discriminator sees is shifted and cut out
    ema: float = 0.995  # decay per step of the weights' moving average
    features: str = "weights/streetscenes.pt"  # of the small detector in whose features val/fid is measured
    samples: int = 4  # latents shown in the picture
