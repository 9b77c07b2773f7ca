"""Train the demo model from scratch: autoencoder, then UNet and text encoder, then the decoder.

    python -m worker.demo.train OUT [--seed 0] [--threads 1]

Each stage takes a fixed number of steps and leaves its result in OUT, where a later call goes on
with it; the checkpoint itself is OUT/checkpoint.
"""

from __future__ import annotations

import argparse
import copy
import logging
import math
import random
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from worker.demo import parts
from worker.demo.muon import optimisers
from worker.demo.scenes import Scene, caption, draw, random_scene
from worker.quiet import quieten

log = logging.getLogger("worker.demo.train")

NOISE = 0.1
"""Deviation of the noise that the encoder's distribution has on latents, which have 1."""

MOST_NOISE = 0.3
"""The most noise on latents that the decoder learns to ignore: what a denoiser makes is inexact."""

DECODER_NOISE = 0.2
"""The same while the decoder is trained alone: less, so that corners get sharp."""

OUTLINE_WEIGHT = 6.0
"""How many times more than flat paint the tip of a star counts, at most, in that training."""

NEIGHBOURHOOD = 7
"""Pixels across, over which a pixel's surroundings are averaged to see how it stands out."""

SAVE_EVERY = 100
"""Steps of the UNet between two checkpoints."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long each stage takes.

    Attributes:
        autoencoder_steps: Of ``picture_batch`` fresh pictures.
        pool: Scenes whose latents the UNet learns from.
        unet_steps: Of ``latent_batch`` latents.
        decoder_steps: Of ``picture_batch`` fresh pictures.
    """

    autoencoder_steps: int = 1600
    pool: int = 16_000
    unet_steps: int = 3800
    decoder_steps: int = 1500
    picture_batch: int = 16
    latent_batch: int = 64


class Average:
    """Exponential moving average of modules' weights, quick to start."""

    def __init__(self, modules: Iterable[nn.Module], decay: float) -> None:
        self.pairs = [(copy.deepcopy(module), module) for module in modules]
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self) -> None:
        self.updates += 1
        decay = min(self.decay, self.updates / (self.updates + 10))
        for average, module in self.pairs:
            pairs = zip(average.parameters(), module.parameters(), strict=True)
            for kept, parameter in pairs:
                kept.lerp_(parameter, 1 - decay)

    @property
    def modules(self) -> list[Any]:
        return [average for average, _ in self.pairs]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    plan = Plan()
    for name in ("autoencoder_steps", "pool", "unet_steps", "decoder_steps"):
        parser.add_argument(
            "--" + name.replace("_", "-"), type=int, default=getattr(plan, name), metavar="N"
        )
    options = parser.parse_args(arguments)
    quieten()
    logging.basicConfig(level="INFO", stream=sys.stdout, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    plan = Plan(
        autoencoder_steps=options.autoencoder_steps,
        pool=options.pool,
        unet_steps=options.unet_steps,
        decoder_steps=options.decoder_steps,
    )
    train(options.out, plan, seed=options.seed)


def train(out: Path, plan: Plan, *, seed: int) -> Path:
    """Run every stage that ``out`` does not hold yet, and save the checkpoint there."""
    out.mkdir(parents=True, exist_ok=True)
    vae = staged(out / "autoencoder.pt", seed, lambda: train_autoencoder(plan, seed))
    tokens = parts.tokenizer()

    def keep(modules: list[Any]) -> None:
        text, denoiser = modules
        torch.save(modules, out / "unet-so-far.pt")
        # A fresh tokenizer: one that was used is saved with what it was called with.
        pipeline = parts.assemble(
            tokens=parts.tokenizer(),
            text=text,
            denoiser=denoiser,
            vae=vae,
            sampler=parts.scheduler(),
        )
        parts.write(copy.deepcopy(pipeline).to(torch.float16), out / "checkpoint")

    modules = staged(
        out / "unet.pt", seed + 1, lambda: train_unet(plan, vae, tokens, seed + 1, keep)
    )
    vae = staged(out / "decoder.pt", seed + 2, lambda: train_decoder(plan, vae, seed + 2))
    keep(modules)
    return out / "checkpoint"


def staged(path: Path, seed: int, run: Any) -> Any:
    """What an earlier call left at ``path``, else what ``run`` gives."""
    if path.is_file():
        return torch.load(path, weights_only=False)
    torch.manual_seed(seed)
    result = run()
    torch.save(result, path)
    return result


def pictures(scenes: Iterable[Scene]) -> Tensor:
    """Scenes drawn: (scenes, 3, 64, 64), levels from -1 to 1."""
    array = np.stack([np.asarray(draw(scene)) for scene in scenes])
    return torch.from_numpy(array).permute(0, 3, 1, 2).float() / 127.5 - 1


def fresh(seed: int, batch: int) -> Iterator[Tensor]:
    """Batches of pictures without end."""
    dice = random.Random(seed)
    while True:
        yield pictures(random_scene(dice) for _ in range(batch))


def likeness_loss(drawn: Tensor, wanted: Tensor) -> Tensor:
    """L1, L1 of the differences between neighbours (outlines), and squares."""
    loss: Tensor = functional.l1_loss(drawn, wanted) + 0.5 * edge_loss(drawn, wanted)
    return loss + 0.5 * functional.mse_loss(drawn, wanted)


def outline_loss(drawn: Tensor, wanted: Tensor) -> Tensor:
    """The same, with pixels weighted by how much they differ from what is around them.

    Thin tips and narrow notches are few pixels, and where the decoder is unsure of their place an
    unweighted L1 is least without them: stars became blobs.
    """
    around = functional.avg_pool2d(
        wanted, NEIGHBOURHOOD, 1, NEIGHBOURHOOD // 2, count_include_pad=False
    )
    contrast = (wanted.amax((2, 3)) - wanted.amin((2, 3))).amax(1)[:, None, None, None]
    weight = 1 + OUTLINE_WEIGHT * (wanted - around).abs().amax(1, keepdim=True) / contrast
    weight = weight / weight.mean()
    off = (drawn - wanted).abs() + 0.5 * (drawn - wanted).square()
    loss: Tensor = (weight * off).mean() + 0.5 * edge_loss(drawn, wanted)
    return loss


def edge_loss(drawn: Tensor, wanted: Tensor) -> Tensor:
    """L1 of the differences between neighbours, along both axes."""
    rows, columns = (
        functional.l1_loss(drawn.diff(dim=axis), wanted.diff(dim=axis)) for axis in (2, 3)
    )
    return rows + columns


def paced(
    groups: list[torch.optim.Optimizer], steps: int
) -> list[torch.optim.lr_scheduler.LambdaLR]:
    """Warm up over 20 steps, then fall to nothing along a cosine."""

    def rate(step: int) -> float:
        return min(1.0, (step + 1) / 20) * (0.5 + 0.5 * math.cos(math.pi * step / steps))

    return [torch.optim.lr_scheduler.LambdaLR(optimiser, rate) for optimiser in groups]


class Stage:
    """The steps that every stage shares: learn from a loss, average, and say how it goes."""

    def __init__(
        self,
        name: str,
        modules: list[Any],
        *,
        steps: int,
        muon_rate: float,
        adam_rate: float,
        decay: float,
    ) -> None:
        self.name, self.steps = name, steps
        self.optimisers = optimisers(modules, muon_rate=muon_rate, adam_rate=adam_rate)
        self.paces = paced(self.optimisers, steps)
        self.average = Average(modules, decay)
        self.losses: list[float] = []
        self.started = time.monotonic()

    def learn(self, loss: Tensor) -> None:
        loss.backward()  # type: ignore[no-untyped-call]
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        for pace in self.paces:
            pace.step()
        self.average.update()
        self.losses.append(loss.item())
        done = len(self.losses)
        if done % 20 == 0:
            mean = sum(self.losses[-20:]) / 20
            seconds = time.monotonic() - self.started
            log.info("%s %d/%d loss %.4f %.0f s", self.name, done, self.steps, mean, seconds)


def train_autoencoder(plan: Plan, seed: int) -> Any:
    """An autoencoder whose latents have mean 0 and deviation 1 in every channel."""
    vae = parts.autoencoder().to(memory_format=torch.channels_last)
    stage = Stage(
        "autoencoder",
        [vae],
        steps=plan.autoencoder_steps,
        muon_rate=0.02,
        adam_rate=3e-3,
        decay=0.99,
    )
    batches = fresh(seed, plan.picture_batch)
    for _ in range(plan.autoencoder_steps):
        batch = next(batches).contiguous(memory_format=torch.channels_last)
        latents = vae.encode(batch).latent_dist.mean
        # A given noise, not a learned one: under a KL loss half the channels died early.
        deviation = latents.detach().std((0, 2, 3), keepdim=True)
        amount = MOST_NOISE * torch.rand(len(latents), 1, 1, 1) * deviation
        drawn = vae.decode(latents + amount * torch.randn_like(latents)).sample
        stage.learn(likeness_loss(drawn, batch) + 1e-4 * latents.square().mean())
    vae = stage.average.modules[0]
    normalise_latents(vae, next(fresh(seed + 1, 256)))
    log.info("autoencoder PSNR %.2f dB", psnr(vae, next(fresh(seed + 2, 64))))
    return vae


@torch.no_grad()
def normalise_latents(vae: Any, sample: Tensor) -> None:
    """Fold the latents' mean and deviation into the convolutions around them."""
    latents = vae.encode(sample).latent_dist.mean
    mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    before, after = vae.quant_conv, vae.post_quant_conv
    # quant_conv gives 4 means, then 4 logarithms of variances.
    before.weight[:4] /= deviation[:, None, None, None]
    before.bias[:4] = (before.bias[:4] - mean) / deviation
    before.weight[4:] = 0
    before.bias[4:] = 2 * math.log(NOISE)
    after.bias += after.weight[:, :, 0, 0] @ mean
    after.weight *= deviation[None, :, None, None]


@torch.no_grad()
def psnr(vae: Any, sample: Tensor) -> float:
    drawn = vae.decode(vae.encode(sample).latent_dist.mean).sample.clamp(-1, 1)
    return -10 * math.log10(functional.mse_loss(drawn / 2, sample / 2).item())


@torch.no_grad()
def encoded(vae: Any, scenes: list[Scene]) -> Tensor:
    """Latents (scenes, 4, 8, 8)."""
    rows = [
        vae.encode(pictures(scenes[start : start + 64])).latent_dist.mean
        for start in range(0, len(scenes), 64)
    ]
    return torch.cat(rows)


def tokenised(tokens: Any, captions: list[str]) -> Tensor:
    """Token numbers (captions, 77), padded as the pipeline pads them."""
    ids: Tensor = tokens(
        captions, padding="max_length", truncation=True, return_tensors="pt"
    ).input_ids
    return ids


def train_unet(plan: Plan, vae: Any, tokens: Any, seed: int, keep: Any) -> list[Any]:
    """A text encoder and a UNet that predict velocities from captions."""
    text = parts.text_encoder(tokens).train()
    denoiser = parts.unet().to(memory_format=torch.channels_last)
    dice = random.Random(seed)
    scenes = [random_scene(dice) for _ in range(plan.pool)]
    latents = encoded(vae, scenes)
    log.info("pool of %d latents", len(latents))
    kept = parts.scheduler().alphas_cumprod
    stage = Stage(
        "unet",
        [text, denoiser],
        steps=plan.unet_steps,
        muon_rate=0.015,
        adam_rate=2e-3,
        decay=0.998,
    )
    for step in range(plan.unet_steps):
        chosen = [dice.randrange(plan.pool) for _ in range(plan.latent_batch)]
        captions = ["" if dice.random() < 0.12 else caption(scenes[k], dice) for k in chosen]
        ids = tokenised(tokens, captions)
        clean = latents[chosen]
        noise = torch.randn_like(clean)
        # Spread evenly over the batch: less chance in the loss.
        places = (torch.rand(()) + torch.arange(len(clean)) / len(clean)) % 1
        times = (places * len(kept)).long()
        signal = kept[times].sqrt()[:, None, None, None]
        blur = (1 - kept[times]).sqrt()[:, None, None, None]
        predicted = denoiser(
            signal * clean + blur * noise, times, text(ids).last_hidden_state
        ).sample
        stage.learn(functional.mse_loss(predicted, signal * noise - blur * clean))
        if (step + 1) % SAVE_EVERY == 0:
            keep(stage.average.modules)
    return stage.average.modules


def train_decoder(plan: Plan, vae: Any, seed: int) -> Any:
    """The decoder alone, from latents with some noise: it learns to draw clean outlines anyway."""
    vae = copy.deepcopy(vae).to(memory_format=torch.channels_last).requires_grad_(False)
    decoder = nn.ModuleDict({"post": vae.post_quant_conv, "decoder": vae.decoder})
    decoder.requires_grad_(True)
    stage = Stage(
        "decoder",
        [decoder],
        steps=plan.decoder_steps,
        muon_rate=0.012,
        adam_rate=2e-3,
        decay=0.99,
    )
    batches = fresh(seed, plan.picture_batch)
    for _ in range(plan.decoder_steps):
        batch = next(batches).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            latents = vae.encode(batch).latent_dist.mean
            amount = DECODER_NOISE * torch.rand(len(latents), 1, 1, 1)
            latents = latents + amount * torch.randn_like(latents)
        stage.learn(outline_loss(vae.decode(latents).sample, batch))
    best = stage.average.modules[0]
    vae.post_quant_conv, vae.decoder = best["post"], best["decoder"]
    log.info("decoder PSNR %.2f dB", psnr(vae, next(fresh(seed + 2, 64))))
    return vae


if __name__ == "__main__":
    main()
