#!/usr/bin/env python3
"""The peer of recipe ddpm-mnist: the same network, data, batches, schedule, averages and steps in PyTorch + diffusers.

    python bench/torch_ddpm_mnist.py --mnist DIR --out DIR [--device cuda|cpu] [--steps 5000]

Writes DIR/pipeline (diffusers' layout, averaged weights) and DIR/log.json. Both models are then judged by one sampler, from the same noise:

    elbo eval RUN --data MNIST --metrics fid --features CLASSIFIER
    elbo eval DIR/pipeline --data MNIST --metrics fid --features CLASSIFIER --sampler dpmpp_2m --steps 25 sample.clip=static

float32 without TF32."""

import argparse
import gzip
import json
import math
import os
import time

import numpy as np
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

HOLDOUT = 5000


def read_idx(path):
    with gzip.open(path) as file:
        data = file.read()
    rows, height, width = (int.from_bytes(data[4 + 4 * i:8 + 4 * i], "big") for i in range(3))
    return np.frombuffer(data, np.uint8, offset=16).reshape(rows, 1, height, width)


def rate_at(step, steps, peak=2e-3, warmup=200):
    """elbo's cosine schedule with warm-up (src/train/train_config.c)."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return 0.5 * peak * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def train(arguments, device):
    torch.manual_seed(arguments.seed)
    unet = UNet2DModel(sample_size=28, in_channels=1, out_channels=1, block_out_channels=(16, 32, 64), layers_per_block=1,
                       down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
                       up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"), attention_head_dim=32, norm_num_groups=8).to(device)
    average = {name: value.detach().clone() for name, value in unet.state_dict().items()}
    scheduler = DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2")
    pictures = read_idx(os.path.join(arguments.mnist, "train-images-idx3-ubyte.gz"))
    order = np.random.default_rng(arguments.seed).permutation(len(pictures))[HOLDOUT:]
    x = torch.from_numpy(pictures[order]).to(device).float().div(127.5).sub(1)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=arguments.weight_decay)
    losses, start, place = [], time.time(), len(x)
    for step in range(arguments.steps):
        if place + 64 > len(x):
            shuffled, place = torch.randperm(len(x), device=device), 0
        batch, place = x[shuffled[place:place + 64]], place + 64
        noise = torch.randn_like(batch)
        t = torch.randint(0, 1000, (64,), device=device)
        loss = (unet(scheduler.add_noise(batch, noise, t), t).sample - noise).square().mean()
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, arguments.steps)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        decay = min(0.999, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, value in unet.state_dict().items():
                average[name].lerp_(value, 1 - decay)
        if step % 100 == 99:
            losses.append(loss.item())
            print(f"step {step + 1}/{arguments.steps} loss {loss.item():.4f} {time.time() - start:.0f} s", flush=True)
    unet.load_state_dict(average)
    return unet, losses, time.time() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weight-decay", type=float, default=0.0)
    arguments = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    os.makedirs(arguments.out, exist_ok=True)
    unet, losses, seconds = train(arguments, arguments.device)
    unet.eval()
    DDPMPipeline(unet, DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2")).save_pretrained(
        os.path.join(arguments.out, "pipeline"))
    with open(os.path.join(arguments.out, "log.json"), "w") as file:
        json.dump({"steps": arguments.steps, "losses": losses, "seconds": seconds, "torch": torch.__version__, "device": arguments.device}, file)


if __name__ == "__main__":
    main()
