"""Single 3x3 convolutions, elbo beside ncnn: the same shape, threads and float32, alternately in one run.

Shapes are C->K@H for H x H maps. A line has ncnn's forward rate, and of elbo the rate of each direction with its ratio to that. Both rates are
of the direct algorithm's FLOPs at the shortest time. ncnn computes a batch image by image, as it has no batches; its weights, like elbo's of
the forward direction, are transformed once. "!" marks a ratio below the mark of --marks. Without ncnn, elbo alone is measured.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

SHAPES = ["128->128@32", "256->256@16", "256->256@8", "320->320@64", "640->640@32", "512->512@64", "256->256@256", "64->64@16", "32->32@32"]
DIRECTIONS = ["forward", "backward_data", "backward_weights"]


def parse_shape(text):
    channels, size = text.split("@")
    c, k = channels.split("->")
    return int(c), int(k), int(size)


class Ncnn:
    """One layer of ncnn, timed."""

    def __init__(self, ncnn, np, c, k, h, threads):
        self.ncnn = ncnn
        graph = f"7767517\n2 2\nInput in 0 1 in 0={h} 1={h} 2={c}\nConvolution conv 1 1 in out 0={k} 1=3 4=1 5=1 6={c * k * 9}\n"
        random = np.random.default_rng(0)
        weights = random.uniform(-1, 1, c * k * 9).astype(np.float32) / (3 * c**0.5)
        self.net = ncnn.Net()
        option = self.net.opt
        option.num_threads = threads
        option.use_winograd_convolution = True
        for name in dir(option):  # no smaller floats, whatever the version calls them
            if name.startswith(("use_fp16", "use_bf16")):
                setattr(option, name, False)
        with tempfile.TemporaryDirectory() as folder:
            with open(folder + "/m.param", "w") as file:
                file.write(graph)
            with open(folder + "/m.bin", "wb") as file:  # a tag that says float32, weights, bias
                file.write(b"\0\0\0\0" + weights.tobytes() + np.zeros(k, np.float32).tobytes())
            if self.net.load_param(folder + "/m.param") or self.net.load_model(folder + "/m.bin"):
                sys.exit("ncnn did not load the layer")
        self.x = ncnn.Mat(random.uniform(-1, 1, (c, h, h)).astype(np.float32))

    def once(self):
        extractor = self.net.create_extractor()
        extractor.input("in", self.x)
        began = time.perf_counter()
        extractor.extract("out")
        return time.perf_counter() - began

    def shortest(self, seconds, batch):
        for _ in range(3):
            self.once()
        best, until = float("inf"), time.perf_counter() + seconds
        while time.perf_counter() < until:
            best = min(best, sum(self.once() for _ in range(batch)))
        return best


def elbo_rates(args, c, k, h, batch):
    """{direction: (GFLOP/s, kernel, error)}"""
    command = [args.elbo, "bench", "--json", "--threads", str(args.threads), "--seconds", str(args.seconds), "--steps", "3", "--op"]
    command += [f"conv2d:n={batch},h={h},c={c},k={k},dir={direction}" for direction in DIRECTIONS]
    if args.isa:
        command += ["--isa", args.isa]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr.strip().splitlines()[-1]}")
    return {d: (op["gflops"], op["kernel"], op["max_error"]) for d, op in zip(DIRECTIONS, json.loads(done.stdout)["ops"])}


def measure(args, ncnn, np, shape, batch):
    c, k, h = parse_shape(shape)
    layer = Ncnn(ncnn, np, c, k, h, args.threads) if ncnn else None
    peer, best = 0.0, {}
    for _ in range(args.rounds):
        if layer:
            peer = max(peer, 18e-9 * batch * c * k * h * h / layer.shortest(args.seconds, batch))
        for direction, rate in elbo_rates(args, c, k, h, batch).items():
            best[direction] = max(best.get(direction, rate), rate)
    return {"shape": shape, "batch": batch, "ncnn": peer, **{d: {"gflops": g, "kernel": n, "max_error": e} for d, (g, n, e) in best.items()}}


def print_row(row, marks):
    text = f"{row['shape']:>14} {row['batch']:>5} {row['ncnn']:>7.0f}" if row["ncnn"] else f"{row['shape']:>14} {row['batch']:>5} {'-':>7}"
    for direction, mark in zip(DIRECTIONS, marks):
        rate = row[direction]["gflops"]
        ratio = rate / row["ncnn"] if row["ncnn"] else 0
        text += f"  {rate:>6.0f} {ratio:>5.2f}{'!' if row['ncnn'] and ratio < mark else ' '}" if row["ncnn"] else f"  {rate:>6.0f}       "
    text += "  " + ", ".join(dict.fromkeys(row[d]["kernel"] for d in DIRECTIONS))
    print(f"{text}  {max(row[d]['max_error'] for d in DIRECTIONS):.1e}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="*", default=SHAPES, help="default: " + ", ".join(SHAPES))
    parser.add_argument("--elbo", default="build/elbo")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--batches", default="1,16")
    parser.add_argument("--seconds", type=float, default=0.5, help="of each layer, direction and round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--isa", help="v2, v3 or v4 for elbo; ncnn takes what the processor has")
    parser.add_argument("--marks", default="1.2,1.1,0.95", help="ratios to reach: forward, backward data, backward weights")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    try:
        import ncnn
        import numpy as np
        print(f"ncnn {ncnn.__version__}, {args.threads} threads, float32", file=sys.stderr)
    except ImportError:
        ncnn = np = None
        print("no ncnn here (bench/requirements.txt); measuring elbo alone", file=sys.stderr)
    marks = [float(mark) for mark in args.marks.split(",")]
    if not args.json:
        print(f"{'3x3 layer':>14} {'batch':>5} {'ncnn':>7}  {'forward':>13}  {'backward data':>13}  {'weights':>13}  kernels, largest error")
    rows = []
    for shape in args.shapes:
        for batch in map(int, args.batches.split(",")):
            rows.append(measure(args, ncnn, np, shape, batch))
            if not args.json:
                print_row(rows[-1], marks)
    if args.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
