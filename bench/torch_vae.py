"""elbo beside PyTorch on the VAE workloads of recipes/bench, alternately in one run; prints one table.

Every PyTorch variant (eager or compiled, contiguous or channels-last) lives in a process of its own, so that its memory and the time to
its first step are its own too. Rounds alternate: elbo, then each variant. The best variant's median step counts for PyTorch.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

BATCH = 128
VARIANTS = ["eager", "eager-last", "compiled", "compiled-last"]
TARGETS = {"mlp-vae": 1.3, "conv-vae-mnist": 1.6, "conv-vae-cifar": 1.3}
PARAMS = {"mlp-vae": 652824, "conv-vae-mnist": 274537, "conv-vae-cifar": 2960387}
DATA = {"mlp-vae": "digits", "conv-vae-mnist": "digits", "conv-vae-cifar": "shapes:size=32"}


def process_age():
    """Seconds since this process began."""
    with open("/proc/self/stat") as file:
        start = int(file.read().rsplit(")", 1)[1].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - start / os.sysconf("SC_CLK_TCK")


def peak_rss():
    import resource
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def build(workload):
    import torch
    from torch import nn

    class MlpVae(nn.Module):
        """784-400-z20-400-784, ReLU, Bernoulli."""

        def __init__(self):
            super().__init__()
            self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 40))
            self.decoder = nn.Sequential(nn.Linear(20, 400), nn.ReLU(), nn.Linear(400, 784))

        def forward(self, x):
            mean, logvar = self.encoder(x).chunk(2, 1)
            logits = self.decoder(mean + torch.exp(0.5 * logvar) * torch.randn_like(mean))
            recon = nn.functional.binary_cross_entropy_with_logits(logits, x.flatten(1), reduction="sum")
            return (recon + kl(mean, logvar)) / len(x)

    class ConvVae(nn.Module):
        """4x4 stride 2 convolutions with group norm (8 groups) and SiLU, their transposes back, a 3x3 at the end; squared error."""

        def __init__(self, size, channels, down, up, z):
            super().__init__()
            self.side, self.top = size >> len(down), down[-1]
            layers, last = [], channels
            for width in down:
                layers += [nn.Conv2d(last, width, 4, 2, 1), nn.GroupNorm(8, width), nn.SiLU()]
                last = width
            self.encoder = nn.Sequential(*layers)
            self.to_code = nn.Linear(self.side**2 * self.top, 2 * z)
            self.from_code = nn.Linear(z, self.side**2 * self.top)
            layers = []
            for width in up:
                layers += [nn.ConvTranspose2d(last, width, 4, 2, 1), nn.GroupNorm(8, width), nn.SiLU()]
                last = width
            self.decoder = nn.Sequential(*layers, nn.Conv2d(last, channels, 3, 1, 1))

        def forward(self, x):
            mean, logvar = self.to_code(self.encoder(x).flatten(1)).chunk(2, 1)
            z = mean + torch.exp(0.5 * logvar) * torch.randn_like(mean)
            y = self.decoder(self.from_code(z).unflatten(1, (self.top, self.side, self.side)))
            return (0.5 * ((y - x) ** 2).sum() + kl(mean, logvar)) / len(x)

    def kl(mean, logvar):
        return -0.5 * (1 + logvar - mean * mean - logvar.exp()).sum()

    if workload == "mlp-vae":
        return MlpVae()
    if workload == "conv-vae-mnist":
        return ConvVae(28, 1, [32, 64], [32, 32], 20)
    return ConvVae(32, 3, [64, 128, 256], [128, 64, 64], 128)


def work(workload, variant, data, threads):
    """One variant: says when its first step is done, then times steps for as long as each line on standard input asks."""
    import numpy
    import torch
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    images = torch.from_numpy(numpy.load(data)).permute(0, 3, 1, 2).contiguous()  # N,H,W,C in the file
    model = build(workload)
    if sum(p.numel() for p in model.parameters()) != PARAMS[workload]:
        sys.exit(f"{workload}: not the stated number of parameters")
    if variant.endswith("-last"):
        model = model.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    forward = torch.compile(model) if variant.startswith("compiled") else model

    def step():
        batch = images[torch.randint(len(images), (BATCH,))]
        optimizer.zero_grad(set_to_none=True)
        loss = forward(batch)
        loss.backward()
        optimizer.step()
        return loss

    step().item()
    print(json.dumps({"first_step_s": process_age()}), flush=True)
    for line in sys.stdin:
        times, end = [], time.monotonic() + float(line)
        while time.monotonic() < end or len(times) < 5:
            began = time.perf_counter()
            step().item()
            times.append(1e3 * (time.perf_counter() - began))
        print(json.dumps({"ms": times, "rss": peak_rss()}), flush=True)


def compare(workload, args, folder):
    data = os.path.join(folder, workload + ".npy")
    subprocess.run([args.elbo, "data", DATA[workload], "-n", "5000", "--out", data], check=True, stdout=subprocess.DEVNULL)
    workers, torch_ms, torch_info = {}, {}, {}
    variants = VARIANTS if workload != "mlp-vae" else [v for v in VARIANTS if not v.endswith("-last")]  # no images inside: one memory format
    for variant in variants:  # one after the other: the time to the first step is measured alone
        command = [sys.executable, __file__, "--worker", variant, "--data", data, "--threads", str(args.threads), workload]
        worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = worker.stdout.readline()
        if not line:
            print(f"{workload}: PyTorch {variant} failed; left out", file=sys.stderr)
            continue
        workers[variant], torch_ms[variant], torch_info[variant] = worker, [], json.loads(line)
    ours = []
    for _ in range(args.rounds):
        out = subprocess.run([args.elbo, "bench", workload, "--json", "--threads", str(args.threads), "--seconds", str(args.seconds)],
                             check=True, stdout=subprocess.PIPE, text=True).stdout
        ours.append(json.loads(out))
        for variant, worker in workers.items():
            worker.stdin.write(f"{args.seconds}\n")
            worker.stdin.flush()
            answer = json.loads(worker.stdout.readline())
            torch_ms[variant] += answer["ms"]
            torch_info[variant]["rss"] = answer["rss"]
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()
    medians = {variant: statistics.median(ms) for variant, ms in torch_ms.items()}
    best = min(medians, key=medians.get)
    mine = statistics.median(run["step_ms"]["median"] for run in ours)
    peak = max(run["peak_gflops"] for run in ours)
    flops = ours[0]["flops_per_step"]
    if ours[0]["params"] != PARAMS[workload]:
        print(f"{workload}: elbo has {ours[0]['params']} parameters, expected {PARAMS[workload]}", file=sys.stderr)
    return {
        "workload": workload, "elbo_ms": mine, "torch_ms": medians[best], "variant": best, "ratio": medians[best] / mine, "target": TARGETS[workload],
        "elbo_share": flops / mine * 1e-6 / peak, "torch_share": flops / medians[best] * 1e-6 / peak, "peak_gflops": peak, "flops": flops,
        "elbo_rss": max(run["peak_rss_bytes"] for run in ours), "torch_rss": torch_info[best]["rss"],
        "elbo_first": min(run["first_step_s"] for run in ours), "torch_first": torch_info[best]["first_step_s"], "all": medians,
    }


def print_table(rows, args):
    print(f"\n{args.threads} threads, FMA peak {max(r['peak_gflops'] for r in rows):.0f} GFLOP/s, batch {BATCH}, float32; medians, rounds alternate")
    print(f"{'workload':16} {'elbo ms':>9} {'torch ms':>9} {'ratio':>6} {'target':>6} {'share':>12} {'resident MiB':>15} {'first step s':>15}  variant")
    for r in rows:
        print(f"{r['workload']:16} {r['elbo_ms']:9.2f} {r['torch_ms']:9.2f} {r['ratio']:6.2f} {r['target']:6.1f} "
              f"{100 * r['elbo_share']:4.0f} % {100 * r['torch_share']:4.0f} % {r['elbo_rss'] / 2**20:7.0f} {r['torch_rss'] / 2**20:7.0f} "
              f"{r['elbo_first']:7.2f} {r['torch_first']:7.2f}  {r['variant']}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workloads", nargs="*", default=list(PARAMS))
    parser.add_argument("--elbo", default="build/elbo")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--data", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.workloads[0], args.worker, args.data, args.threads)
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = [compare(workload, args, folder) for workload in args.workloads]
    if args.json:
        print(json.dumps(rows))
    else:
        print_table(rows, args)


if __name__ == "__main__":
    main()
