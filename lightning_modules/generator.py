"""The training of a generator: a GAN on people cut from their surroundings."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Self

import torch
import torch.nn.functional as F
from pytorch_lightning import LightningModule
from scipy.cluster.vq import kmeans2
from torch import Tensor
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel
from torchmetrics.image.fid import FrechetInceptionDistance

from anonymization.generators.base import Context
from anonymization.generators.unet import Architecture, UNetGenerator
from anonymization.methods.base import Crops
from configs.generator import GeneratorConfig
from errors import UserError
from lightning_modules.appearance import AppearanceEncoder, divergence
from lightning_modules.discriminator import Discriminator, augment
from lightning_modules.features import DetectorFeatures

FREE_NATS = 20.0  # that a latent may keep of a person at no cost, or it would begin by keeping nothing
SAMPLES = 20_000  # latents that the cluster centres are found among


class GeneratorModule(LightningModule):
    """A style-based GAN: non-saturating loss, lazy R1, moving average of the weights.

    Beside the adversarial loss on random latents, people are reconstructed from latents of their own appearance, as in
    BicycleGAN (Zhu et al. 2017): so the latent comes to mean clothes, hair and skin within hundreds of steps, where the
    adversarial loss alone takes far more.

    Logs ``train/generator``, ``train/discriminator``, ``train/r1``, ``train/path_length``, ``train/reconstruction``
    (mean absolute error on the scale [-1, 1]), ``train/nats`` (what z keeps of a person) and, on validation,
    ``val/fid``: the Fréchet distance between drawn and generated people in the features of a small detector.

    Args:
        config: of the generator and its training.
        crop: height and width of the people's crops.
        seed: of the run.
    """

    def __init__(self, config: GeneratorConfig, crop: tuple[int, int], seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.automatic_optimization = False
        self.config = config
        _check(config, crop)
        architecture = Architecture(
            crop,
            config.stride,
            config.output_stride,
            tuple(config.channels),
            config.blocks,
            config.latent,
            config.style,
            config.mapping,
            config.pose,
        )
        self.generator = UNetGenerator(architecture)
        self.unshuffle = config.stride // config.output_stride
        size = tuple(n // config.stride for n in crop)
        self.discriminator = Discriminator(
            architecture.inputs, self.unshuffle, tuple(config.discriminator_channels), size
        )
        self.appearance = AppearanceEncoder(self.unshuffle, config.latent)
        self.average = AveragedModel(self.generator, avg_fn=partial(_average, config.ema))
        self.average.requires_grad_(False)
        self.fid = FrechetInceptionDistance(DetectorFeatures(config.features), normalize=True)
        self.register_buffer("path_mean", torch.zeros(()))

    @property
    def steps(self) -> int:
        """How many steps were trained; Lightning counts those of each optimizer."""
        return self.global_step // 2

    def configure_optimizers(self) -> tuple[list[Optimizer], list[LambdaLR]]:
        """Adam with little momentum; its rate falls linearly to 0 in the second half of training (pix2pix)."""
        drawing = [*self.generator.parameters(), *self.appearance.parameters()]
        betas = (0.5, 0.99)
        optimizers = [
            Adam(drawing, self.config.lr, betas=betas),
            Adam(self.discriminator.parameters(), self.config.lr, betas=betas),
        ]
        return optimizers, [LambdaLR(o, lambda step: min(1.0, 2 - 2 * step / self.config.steps)) for o in optimizers]

    def on_train_epoch_start(self) -> None:
        """Make an epoch's order depend on seed and epoch alone: a restart repeats it."""
        self.trainer.train_dataloader.sampler.set_epoch(self.current_epoch)

    def training_step(self, crops: Crops, batch_idx: int) -> None:
        """One step of the discriminator, one of the generator."""
        step = self.steps
        # After a restart the loader draws from torch's random numbers at another time, so a step has its own.
        torch.manual_seed(hash((self.seed, step, self.global_rank)))
        optimizer_g, optimizer_d = self.optimizers()
        view = _View.of(crops, self.generator)

        with _alone(self, optimizer_d):
            loss, penalty = self._discriminator_loss(view, with_penalty=step % self.config.r1_every == 0)
            optimizer_d.zero_grad()
            self.manual_backward(loss + penalty)
            optimizer_d.step()
        logged = {"train/discriminator": loss}
        if step % self.config.r1_every == 0:
            logged["train/r1"] = penalty

        with _alone(self, optimizer_g):
            loss, reconstruction, nats = self._generator_loss(view)
            logged |= {"train/generator": loss, "train/reconstruction": reconstruction, "train/nats": nats}
            paid = (nats - FREE_NATS).clamp(min=0)
            loss = loss + self.config.reconstruction * reconstruction + self.config.divergence * paid
            if self.config.path_length and step % self.config.path_length_every == 0:
                length = self._path_length_penalty(view)
                loss, logged["train/path_length"] = loss + length, length
            optimizer_g.zero_grad()
            self.manual_backward(loss)
            optimizer_g.step()
        self.average.update_parameters(self.generator)
        for schedule in self.lr_schedulers():
            schedule.step()
        self.log_dict({k: v.detach().float() for k, v in logged.items()}, prog_bar=True, batch_size=len(crops))

    def _sample(self, count: int) -> Tensor:
        """Draw w for ``count`` people."""
        return self.generator.mapping(torch.randn(count, self.config.latent, device=self.device))

    def _fake(self, view: "_View", w: Tensor) -> Tensor:
        return self._drawn(view, self.generator.encode_inputs(view.inputs), w)

    def _drawn(self, view: "_View", encoded: tuple[Tensor, ...], w: Tensor) -> Tensor:
        return torch.where(view.masks, self.generator.synthesize(encoded, w).float(), view.pictures)

    def _score(self, pictures: Tensor, conditions: Tensor) -> Tensor:
        if self.config.augment:
            pictures, conditions = augment(pictures, conditions, self.unshuffle)
        return self.discriminator(pictures, conditions).float()

    def _discriminator_loss(self, view: "_View", with_penalty: bool) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            fake = self._fake(view, self._sample(len(view)))
        loss = F.softplus(-self._score(view.pictures, view.inputs)).mean()
        loss = loss + F.softplus(self._score(fake, view.inputs)).mean()
        if not with_penalty:
            return loss, loss.new_zeros(())
        # R1 (Mescheder et al. 2018), lazily and as much stronger (Karras et al. 2020), in full precision.
        with torch.autocast(self.device.type, enabled=False):
            pictures = view.pictures.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(self._score(pictures, view.inputs).sum(), pictures, create_graph=True)
            return loss, self.config.r1 / 2 * self.config.r1_every * gradient.square().sum((1, 2, 3)).mean()

    def _generator_loss(self, view: "_View") -> tuple[Tensor, Tensor, Tensor]:
        """The adversarial loss, the mean absolute error of people drawn from their own appearance, and its nats."""
        encoded = self.generator.encode_inputs(view.inputs)
        fake = self._drawn(view, encoded, self._sample(len(view)))
        adversarial = F.softplus(-self._score(fake, view.inputs)).mean()
        mean, log_variance = self.appearance(view.pictures, view.masks)
        z = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        same = self._drawn(view, encoded, self.generator.mapping(z))
        error = (same - view.pictures).abs().sum() / (3 * view.masks.sum())
        return adversarial, error, divergence(mean, log_variance).mean()

    def _path_length_penalty(self, view: "_View") -> Tensor:
        """Path length regularisation (Karras et al. 2020), of half the batch."""
        half = view.half()
        with torch.autocast(self.device.type, enabled=False):
            w = self._sample(len(half))
            fake = self._fake(half, w)
            noise = torch.randn_like(fake) / (fake.shape[2] * fake.shape[3]) ** 0.5
            (gradient,) = torch.autograd.grad((fake * noise).sum(), w, create_graph=True)
            lengths = gradient.square().sum(1).sqrt()
            self.path_mean.lerp_(lengths.detach().mean(), 0.01)
            strength = self.config.path_length * self.config.path_length_every
            return strength * (lengths - self.path_mean).square().mean()

    def validation_step(self, crops: Crops, batch_idx: int) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Return drawn people, what the generator sees of them, and what it makes of them."""
        view = _View.of(crops, self.generator)
        generator = self.average.module
        random = torch.Generator().manual_seed(hash((self.seed, batch_idx)))
        encoded = generator.encode_inputs(view.inputs)
        samples = []
        for _ in range(self.config.samples if batch_idx == 0 else 1):
            z = torch.randn(len(crops), self.config.latent, generator=random).to(self.device)
            generated = generator.synthesize(encoded, generator.mapping(z)).float()
            samples.append(torch.where(view.masks, generated, view.pictures))
        self.fid.update((view.pictures + 1) / 2, real=True)
        self.fid.update((samples[0] + 1) / 2, real=False)
        return view.pictures, view.inputs[:, :3], samples

    def on_validation_epoch_end(self) -> None:
        """Log the distance."""
        value = self.fid.compute()
        self.fid.reset()
        self.print(f"step {self.steps}  val/fid {value:.4f}", flush=True)
        self.log("val/fid", value, prog_bar=True)

    def finished(self) -> UNetGenerator:
        """Return the generator of averaged weights, with the centres of clusters of its w.

        Multi-modal truncation (Mokady et al. 2022): clusters by k-means of the w of random z. The centre is the w
        nearest to the mean, not the mean itself: in so many dimensions all means are much alike, and dull.
        """
        generator: UNetGenerator = self.average.module.eval()
        random = torch.Generator().manual_seed(self.seed)
        with torch.no_grad():
            z = torch.randn(SAMPLES, self.config.latent, generator=random).to(self.device)
            w = generator.mapping(z)
            means, _ = kmeans2(w.cpu().numpy(), self.config.centers, minit="++", rng=self.seed)
            generator.centers = w[torch.cdist(torch.from_numpy(means).to(w), w).argmin(1)]
        return generator


@dataclass(frozen=True)
class _View:
    """What both networks see of a batch of crops.

    Attributes:
        pictures: float32 [N, 3, H, W] in [-1, 1], the drawn people at the resolution that is generated.
        masks: bool [N, 1, H, W], True where pictures are generated.
        inputs: float32 [N, C, h, w], see `UNetGenerator.inputs`.
    """

    pictures: Tensor
    masks: Tensor
    inputs: Tensor

    @classmethod
    def of(cls, crops: Crops, generator: UNetGenerator) -> Self:
        stride = generator.architecture.output_stride
        pictures = F.avg_pool2d(crops.images.float() / 127.5 - 1, stride)
        masks = F.avg_pool2d(crops.masks.float(), stride) > 0
        return cls(pictures, masks, generator.inputs(Context.of(crops)))

    def __len__(self) -> int:
        return len(self.pictures)

    def half(self) -> Self:
        """The first half of the people."""
        kept = max(1, len(self) // 2)
        return type(self)(self.pictures[:kept], self.masks[:kept], self.inputs[:kept])


@contextmanager
def _alone(module: LightningModule, optimizer: Optimizer) -> Iterator[None]:
    """Let gradients flow to the weights of one optimizer only."""
    module.toggle_optimizer(optimizer)
    try:
        yield
    finally:
        module.untoggle_optimizer(optimizer)


def _average(decay: float, average: Tensor, value: Tensor, count: Tensor) -> Tensor:
    """Exponential moving average that forgets faster at first, or it would keep the random start for long."""
    return torch.lerp(average, value, max(1 - decay, 9 / (10 + int(count))))


def _check(config: GeneratorConfig, crop: tuple[int, int]) -> None:
    """Refuse sizes that do not go into one another.

    Raises:
        UserError: naming the key.
    """
    levels = {"channels": config.channels, "discriminator_channels": config.discriminator_channels}
    for key, channels in levels.items():
        factor = config.stride * 2 ** (len(channels) - 1)
        if not channels or any(n % factor for n in crop):
            raise UserError(
                f"generator.{key}: {len(channels)} levels at stride {config.stride} need a crop of multiples of "
                f"{factor} pixels, not {crop[0]} × {crop[1]}"
            )
        if any(n % 8 for n in channels):
            raise UserError(f"generator.{key}: {list(channels)}: each has to be a multiple of 8")
    if config.stride % config.output_stride:
        raise UserError(f"generator.output_stride: {config.output_stride} does not divide stride {config.stride}")
