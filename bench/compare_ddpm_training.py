"""Trains the same diffusion model in elbo and in PyTorch + diffusers, and compares what comes out.

    python3 bench/compare_ddpm_training.py exact     # ddpm-cifar10, the same initial weights and the same (x, t, noise), dropout 0
    python3 bench/compare_ddpm_training.py means     # ddpm-small with dropout, 3 seeds x 100 steps, each from its own initial weights

exact: the loss of every step within 1e-3 relative; the weights after the last within 1 % of the way that they went (the norm of the
difference over the norm of the change), and no single weight off by more than half of the longest way that Adam can go, the keys' biases
aside: their gradient is zero but for rounding (attention does not change when one number is added to all its scores), which Adam scales up.
With --control PyTorch trains once more on one thread, which splits its sums otherwise: how far apart two correct programs drift.

means: the means of the loss over the last 40 steps differ by no more than two standard errors. Times, noise and data are the same on both
sides; initial weights and dropout are each program's own, so that a difference in their laws would show. A run is one observation: its
40 losses have its initial weights in common, so the error comes from the spread between runs. More --seeds, a sharper test.

Exits with 1 when a bound is passed.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
import philox
from torch_ddpm import CIFAR, SMALL

CASES = {
    "exact": dict(recipe="ddpm-cifar10", config=CIFAR, data="shapes:size=32,train=1000,valid=1,test=1", channels=3, batch=16, rate=2e-4, steps=50),
    "means": dict(recipe="ddpm-small", config=SMALL, data="digits", channels=1, batch=64, rate=1e-4, steps=100),
}
LOSS_TOLERANCE, WEIGHT_TOLERANCE, LAST, DROPOUT = 1e-3, 1e-2, 40, 0.1


def read_data(args, case, folder):
    """All training examples in their own order, (N,32,32,C), 0..1."""
    path = os.path.join(folder, "x.npy")
    size = [] if ":" in case["data"] else ["size=32"]
    subprocess.run([args.elbo, "data", case["data"], *size, "--split", "train", "-n", "1000000", "--out", path], check=True,
                   stdout=subprocess.DEVNULL)
    shown = np.load(path)  # elbo data shows examples in a random order
    x = np.empty_like(shown)
    x[philox.permutation(0, philox.stream_of("read"), len(shown))] = shown
    return x


def start_elbo(args, case, seed, out, keys):
    command = [args.elbo, "train", f"bench/{case['recipe']}", "--out", out, "--seed", str(seed), "--threads", str(args.threads),
               f"data.path={case['data']}", f"train.steps={args.steps}", f"train.batch_size={case['batch']}", "train.log_every=1", "train.checkpoint_every=0", "train.ema=0", *keys]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    with open(os.path.join(out, "metrics.jsonl")) as lines:
        return np.array([line["loss"] for line in map(json.loads, lines) if "loss" in line])


def draws(case, seed, x):
    """What elbo draws for the step's samples: x (B,C,H,W) in -1..1, t (B), noise like x."""
    import torch
    samples = case["samples"]
    noise = philox.normals(seed, "epsilon", samples, (32, 32, case["channels"]))
    t = philox.training_times(seed, samples, 1000)
    clean = 2 * x[case["order"][samples]] - 1
    return [torch.from_numpy(np.ascontiguousarray(v)) for v in (clean.transpose(0, 3, 1, 2), t, noise.transpose(0, 3, 1, 2))]


def share_dropout(network, case, seed):
    """Gives every dropout of the network the masks that elbo draws: functions of (seed, name of the layer, sample, element)."""
    import torch

    class SharedDropout(torch.nn.Module):
        def __init__(self, name, probability):
            super().__init__()
            self.name, self.probability = f"denoiser.{name}", probability

        def forward(self, h):
            u = philox.uniforms(seed, self.name, case["samples"], (*h.shape[2:], h.shape[1]))
            return h * torch.from_numpy((u >= self.probability).transpose(0, 3, 1, 2) / (1 - self.probability)).to(h.dtype)

    found = [(name, m) for name, m in network.named_modules() if isinstance(m, torch.nn.Dropout) and "resnets" in name]
    for name, m in found:
        network.set_submodule(name, SharedDropout(name, m.p))


def train_torch(case, network, seed, x, steps, say):
    import torch
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    alpha_bar = torch.cumprod(1 - beta, 0)
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=case["rate"], weight_decay=0)
    losses = []
    for step in range(steps):
        case["samples"] = np.arange(step * case["batch"], (step + 1) * case["batch"])
        clean, t, noise = draws(case, seed, x)
        a = alpha_bar[t].view(-1, 1, 1, 1)
        noisy = a.sqrt().float() * clean + (1 - a).sqrt().float() * noise
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.mse_loss(network(noisy, t).sample, noise)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        print(f"{say}: step {step + 1}/{steps}, loss {losses[-1]:.6f}", file=sys.stderr, flush=True)
    return np.array(losses)


def numbers_of(network):
    return {name: p.detach().double().numpy().copy() for name, p in network.named_parameters()}


def distance(a, b, start):
    """|a - b| / |b - start| over all weights but the keys' biases, and the largest single difference."""
    names = [n for n in start if not n.endswith("to_k.bias")]
    square = lambda u, v: sum(((u[n] - v[n]) ** 2).sum() for n in names)
    return (square(a, b) / square(b, start)) ** 0.5, max(np.abs(a[n] - b[n]).max() for n in names)


def compare_exact(args, case, folder):
    import torch
    from diffusers import UNet2DModel
    from safetensors.numpy import load_file
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    x = read_data(args, case, folder)
    case["order"] = philox.training_order(args.seed, len(x), args.steps * case["batch"])
    network, init, run = UNet2DModel(**case["config"], dropout=args.dropout), os.path.join(folder, "init"), os.path.join(folder, "run")
    network.save_pretrained(init)
    start = numbers_of(network)
    ours = start_elbo(args, case, args.seed, run, [f"train.init={init}", f"model.unet.dropout={args.dropout}"])
    share_dropout(network, case, args.seed)
    theirs = train_torch(case, network, args.seed, x, args.steps, "torch")
    after = load_file(os.path.join(run, "checkpoints", f"step-{args.steps}", "unet", "diffusion_pytorch_model.safetensors"))
    after = {name: v.astype(np.float64) for name, v in after.items()}
    relative = np.abs(ours - theirs) / theirs
    way, largest = distance(after, numbers_of(network), start)
    longest = case["rate"] * args.steps
    result = {"steps": args.steps, "batch": case["batch"], "elbo_loss": [ours[0], ours[-1]], "torch_loss": [theirs[0], theirs[-1]], "loss_difference": relative.max(),
              "at_step": int(relative.argmax()) + 1, "weights_difference": way, "largest": largest}
    ok = relative.max() <= LOSS_TOLERANCE and way <= WEIGHT_TOLERANCE and largest <= 0.5 * longest
    if args.control:
        torch.set_num_threads(1)
        again = UNet2DModel.from_pretrained(init)
        share_dropout(again, case, args.seed)
        control = train_torch(case, again, args.seed, x, args.steps, "torch, one thread")
        result["control_loss_difference"] = (np.abs(control - theirs) / theirs).max()
        result["control_weights_difference"], result["control_largest"] = distance(numbers_of(again), numbers_of(network), start)
    return result, ok


def compare_means(args, case, folder):
    import torch
    from diffusers import UNet2DModel
    torch.set_num_threads(args.threads)
    x = read_data(args, case, folder)
    ours, theirs = [], []
    for seed in range(args.seed, args.seed + args.seeds):
        case["order"] = philox.training_order(seed, len(x), args.steps * case["batch"])
        ours.append(start_elbo(args, case, seed, os.path.join(folder, f"run-{seed}"), [f"model.unet.dropout={DROPOUT}"]))
        torch.manual_seed(seed)
        theirs.append(train_torch(case, UNet2DModel(**case["config"], dropout=DROPOUT), seed, x, args.steps, f"torch, seed {seed}"))
    ours, theirs = np.array(ours), np.array(theirs)
    a, b = ours[:, -LAST:].mean(1), theirs[:, -LAST:].mean(1)  # (seeds)
    error = np.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
    difference = a.mean() - b.mean()
    result = {"steps": args.steps, "batch": case["batch"], "elbo_means": a.tolist(), "torch_means": b.tolist(), "difference": difference, "standard_error": error,
              "first_losses": [ours[:, 0].tolist(), theirs[:, 0].tolist()]}
    return result, bool(abs(difference) <= 2 * error)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=list(CASES))
    parser.add_argument("--elbo", default="build/elbo")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--steps", type=int, help="instead of 50 and 100")
    parser.add_argument("--batch", type=int, help="instead of the recipe's 16 and 64, to try it quickly")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=3, help="means: runs of each program")
    parser.add_argument("--small", action="store_true", help="exact: ddpm-small in place of ddpm-cifar10")
    parser.add_argument("--dropout", type=float, default=0, help="exact: with this probability, and elbo's masks in both programs")
    parser.add_argument("--control", action="store_true", help="exact: also PyTorch with one thread, to see how far two correct programs drift")
    args = parser.parse_args()
    case = CASES["means" if args.small else args.case]
    args.steps, case["batch"] = args.steps or case["steps"], args.batch or case["batch"]
    with tempfile.TemporaryDirectory() as folder:
        result, ok = (compare_exact if args.case == "exact" else compare_means)(args, case, folder)
    print(json.dumps({"case": args.case, "within_bounds": bool(ok), **result}, default=float, indent=2))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
