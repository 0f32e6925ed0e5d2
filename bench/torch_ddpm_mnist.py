"""The peer of recipe ddpm-mnist: PyTorch + diffusers on the same network, data, batch, steps, learning rates and average; run once.

    python3 bench/torch_ddpm_mnist.py --data MNIST --out peer [--device cuda]
    for s in 0 1 2; do elbo eval peer/samples-$s.npy --data MNIST --metrics fid --features CLASSIFIER; done

Reads recipes/ddpm-mnist.yaml itself, so that the two cannot come apart; what this script does not know of it is refused. MNIST is the folder
of its four IDX files, .gz or not; the pictures held out are those that elbo holds out. float32 throughout, TF32 off. Writes a diffusers pipeline
of the averaged weights (peer/pipeline, which elbo opens too) and, for each seed, --samples pictures drawn with the recipe's sampler, as
uint8 (n,28,28,1).
"""
import argparse
import gzip
import json
import math
import os
import struct
import time

import numpy as np
import philox
import torch
import yaml
from diffusers import DDPMPipeline, DDPMScheduler, DPMSolverMultistepScheduler, UNet2DModel

BETAS = {"cosine": "squaredcos_cap_v2", "linear": "linear"}
TRAIN = dict(steps=3000, batch_size=128, optimizer="adamw", learning_rate=1e-3, schedule="constant", warmup_steps=0, clip_norm=0, ema=0.999)
FREE = {"checkpoint_every", "log_every", "keep", "seed", "preview_every", "validate_every"}  # of no weight in what is learned


def known(section, where, **values):
    """The section's values over defaults; anything else in it is refused."""
    for key, value in (section or {}).items():
        if key not in values:
            raise SystemExit(f"{where}.{key}: not known here")
        kind = type(values[key])
        values[key] = float(value) if kind in (int, float) and isinstance(value, str) else value
    return values


def read_recipe(path):
    with open(path) as file:
        recipe = yaml.safe_load(file)
    model = known(recipe["model"], "model", preset="ddpm", network="unet", unet={}, process={}, prediction="epsilon", variance="fixed_small")
    process = known(model["process"], "model.process", type="discrete", steps=1000, betas="linear")
    objective = known(recipe.get("objective"), "objective", weighting="simple", time="uniform")
    sample = known(recipe.get("sample"), "sample", solver={}, batch_size=64)
    solver = known(sample["solver"], "sample.solver", sampler="ddim", steps=50)
    data = known(recipe["data"], "data", path="", holdout=0)
    train = known({k: v for k, v in recipe["train"].items() if k not in FREE}, "train", **TRAIN)
    wanted = [(model["prediction"], "epsilon"), (process["type"], "discrete"), (objective["weighting"], "simple"), (objective["time"], "uniform"),
              (train["optimizer"], "adamw")]
    for have, want in wanted:
        if have != want:
            raise SystemExit(f"{path}: {have}: this script does {want} alone")
    return model["unet"], process, solver, int(data["holdout"]), train


def read_idx(folder, name):
    path = os.path.join(folder, name)
    opener = open
    if not os.path.exists(path):
        path, opener = path + ".gz", gzip.open
    with opener(path, "rb") as file:
        magic, n, height, width = struct.unpack(">IIII", file.read(16))
        if magic != 0x803:
            raise SystemExit(f"{path}: not an IDX file of pictures")
        return np.frombuffer(file.read(n * height * width), np.uint8).reshape(n, 1, height, width)


def training_pictures(folder, holdout, device):
    pictures = read_idx(folder, "train-images-idx3-ubyte")
    order = philox.permutation(0, philox.stream_of("holdout"), len(pictures))[holdout:] if holdout else slice(None)
    return torch.from_numpy(pictures[order].copy()).to(device)


def learning_rate(train, step):
    peak, warmup, steps = train["learning_rate"], int(train["warmup_steps"]), int(train["steps"])
    if step < warmup:
        return peak * (step + 1) / warmup
    t = (step - warmup) / max(steps - warmup, 1)
    return peak * {"constant": 1, "linear": 1 - t, "cosine": 0.5 * (1 + math.cos(math.pi * t))}[train["schedule"]]


def fit(args, network, average, pictures, alpha_bar, train):
    steps, batch, clip = int(train["steps"]), int(train["batch_size"]), float(train["clip_norm"])
    optimizer = torch.optim.AdamW(network.parameters(), lr=1.0, weight_decay=0, fused=args.device.startswith("cuda"))
    weights, averages = list(network.parameters()), list(average.parameters())
    began, total, counted = time.monotonic(), torch.zeros((), device=args.device), 0
    order = torch.empty(0, dtype=torch.long, device=args.device)
    for step in range(steps):
        if len(order) < batch:
            order = torch.cat([order, torch.randperm(len(pictures), device=args.device)])
        chosen, order = order[:batch], order[batch:]
        x = (pictures[chosen].float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        t = torch.randint(len(alpha_bar), (batch,), device=args.device)
        noise, a = torch.randn_like(x), alpha_bar[t].view(-1, 1, 1, 1)
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.mse_loss(network(a.sqrt() * x + (1 - a).sqrt() * noise, t).sample, noise)
        loss.backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(weights, clip)
        optimizer.param_groups[0]["lr"] = learning_rate(train, step)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(averages, weights, 1 - min(float(train["ema"]), (1 + step) / (10 + step)))
        total, counted = total + loss.detach(), counted + 1
        if (step + 1) % args.log_every == 0 or step + 1 == steps:
            last = (total / counted).item()
            print(f"step {step + 1}/{steps}  loss {last:.5f}  {time.monotonic() - began:.0f} s", flush=True)
            total, counted = torch.zeros_like(total), 0
    return last, time.monotonic() - began


def scheduler_of(process, solver):
    """What elbo writes into a directory's scheduler_config.json for this sampler."""
    common = dict(num_train_timesteps=int(process["steps"]), beta_schedule=BETAS[process["betas"]])
    if solver["sampler"] == "dpmpp_2m":
        return DPMSolverMultistepScheduler(**common, algorithm_type="dpmsolver++", solver_order=2, timestep_spacing="linspace")
    if solver["sampler"] == "ddpm":
        return DDPMScheduler(**common, clip_sample=False, variance_type="fixed_small", timestep_spacing="leading")
    raise SystemExit(f"sample.solver.sampler: {solver['sampler']}: not known here")


@torch.inference_mode()
def draw(args, network, scheduler, steps, seed, n, chunk=1000):
    generator, out = torch.Generator(args.device).manual_seed(seed), []
    for first in range(0, n, chunk):
        scheduler.set_timesteps(steps)
        shape = (min(chunk, n - first), 1, 28, 28)
        x = torch.randn(shape, generator=generator, device=args.device).contiguous(memory_format=torch.channels_last)
        for t in scheduler.timesteps:
            x = scheduler.step(network(x, t.to(args.device)).sample, t, x, generator=generator).prev_sample
        out.append(((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy())
    return np.concatenate(out)


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of MNIST's IDX files")
    parser.add_argument("--out", required=True)
    parser.add_argument("--recipe", default=os.path.join(here, "..", "recipes", "ddpm-mnist.yaml"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, help="instead of the recipe's")
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the samples")
    parser.add_argument("--seed", type=int, default=0, help="of the training")
    parser.add_argument("--log-every", type=int, default=250)
    args = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(args.seed)
    unet, process, solver, holdout, train = read_recipe(args.recipe)
    train["steps"] = args.steps or train["steps"]
    pictures = training_pictures(args.data, holdout, args.device)
    unet = {key: float(value) if isinstance(value, str) and key == "norm_eps" else value for key, value in unet.items()}
    network, average = (UNet2DModel(sample_size=28, in_channels=1, out_channels=1, **unet) for _ in range(2))
    average.load_state_dict(network.state_dict())
    network, average = (m.to(args.device, memory_format=torch.channels_last) for m in (network, average))
    parameters = sum(p.numel() for p in network.parameters())
    print(f"{len(pictures)} pictures, {parameters} parameters, {train}", flush=True)
    scheduler = scheduler_of(process, solver)
    loss, seconds = fit(args, network.train(), average, pictures, scheduler.alphas_cumprod.to(args.device), train)
    os.makedirs(args.out, exist_ok=True)
    average.eval()
    for seed in args.seeds:
        samples = draw(args, average, scheduler, int(solver["steps"]), seed, args.samples)
        np.save(os.path.join(args.out, f"samples-{seed}.npy"), samples)
        print(f"samples-{seed}.npy: {samples.shape}, mean {samples.mean():.2f}", flush=True)
    DDPMPipeline(average, scheduler).save_pretrained(os.path.join(args.out, "pipeline"))
    print(json.dumps({"parameters": parameters, "steps": int(train["steps"]), "loss": loss, "train_seconds": seconds, "device": args.device,
                      "torch": torch.__version__}))


if __name__ == "__main__":
    main()
