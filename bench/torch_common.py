"""What the comparisons share: peers in processes of their own, rounds that alternate with elbo, one table.

Every PyTorch variant (eager, compiled, or compiled with frozen weights; contiguous or channels-last), and for calls of a network OpenVINO
(float32, latency hint), lives in a process of its own, so that its memory and the time to its first step are its own too. Rounds alternate:
elbo, then each variant. The best variant's median step counts for PyTorch; the ratio is against the better of PyTorch and OpenVINO. Networks
of gigabytes are measured one variant at a time (Workload.apart): elbo before each.
"""
import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

FLAT = ["eager", "compiled"]
PICTURES = ["eager", "eager-last", "compiled", "compiled-last"]
FORWARD = PICTURES + ["frozen", "frozen-last", "openvino"]


@dataclasses.dataclass
class Workload:
    """A recipe of recipes/bench, and what PyTorch is given to do the same."""
    batch: int
    params: int
    data: str  # as elbo knows it; "": none
    target: float  # the best peer's time / elbo's, at least
    variants: list
    min_steps: int = 5  # timed ones a round, at the least
    examples: int = 5000
    apart: bool = False  # one variant at a time: they do not fit into memory together
    elbo_params: int = 0  # where elbo has only what is called; 0: params


# What keeps PyTorch and its libraries to AVX2 on a processor that has more; inductor is told in prepare().
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "DNNL_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}


def process_age():
    """Seconds since this process began."""
    with open("/proc/self/stat") as file:
        start = int(file.read().rsplit(")", 1)[1].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - start / os.sysconf("SC_CLK_TCK")


def peak_rss():
    import resource
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def check_params(model, params):
    if sum(p.numel() for p in model.parameters()) != params:
        sys.exit("not the stated number of parameters")


def prepare(model, variant, params=None):
    """The model as the variant wants it, and what to call for a forward pass."""
    import torch
    if params:
        check_params(model, params)
    if variant.endswith("-last"):
        model = model.to(memory_format=torch.channels_last)
    if os.environ.get("ATEN_CPU_CAPABILITY") == "avx2":
        import torch._inductor.config
        torch._inductor.config.cpp.simdlen = 256
    if variant.startswith("frozen"):
        import torch._inductor.config
        torch._inductor.config.freezing = True
    return model, model if variant.startswith("eager") else torch.compile(model)


def calling(network, method="forward"):
    """A module that gives the tensor `sample` of what the network's method makes."""
    import torch

    class Call(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, *inputs):
            return getattr(self.network, method)(*inputs).sample

    return Call().eval()


def openvino_call(model, inputs):
    """A function that runs the model on float32 tensors by OpenVINO; the model gives one tensor."""
    import openvino
    import torch
    converted = openvino.convert_model(model.eval(), example_input=tuple(inputs))
    compiled = openvino.compile_model(converted, "CPU", {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32",
                                                         "INFERENCE_NUM_THREADS": torch.get_num_threads()})
    request, arrays = compiled.create_infer_request(), [x.numpy() for x in inputs]
    return lambda: float(request.infer(arrays, share_inputs=True)[0].flat[0])


def images_of(data, variant):
    """(N,C,H,W), 0..1, of a file that elbo wrote as (N,H,W,C)."""
    import numpy
    import torch
    images = torch.from_numpy(numpy.load(data)).permute(0, 3, 1, 2)
    return images.contiguous(memory_format=torch.channels_last if variant.endswith("-last") else torch.contiguous_format)


def serve(step, min_steps):
    """Says when the first step is done, then times steps for as long as each line on standard input asks."""
    step()
    print(json.dumps({"first_step_s": process_age()}), flush=True)
    for line in sys.stdin:
        times, end = [], time.monotonic() + float(line)
        while time.monotonic() < end or len(times) < min_steps:
            began = time.perf_counter()
            step()
            times.append(1e3 * (time.perf_counter() - began))
        print(json.dumps({"ms": times, "rss": peak_rss()}), flush=True)


def start_worker(script, name, variant, args, data):
    """None when it fails."""
    command = [sys.executable, script, "--worker", variant, "--data", data, "--threads", str(args.threads), name]
    limits = {**os.environ, **AVX2} if args.avx2 else None
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=limits)
    line = worker.stdout.readline()
    if line:
        return {"process": worker, "ms": [], **json.loads(line)}
    print(f"{name}: {variant} failed; left out", file=sys.stderr)
    return None


def run_elbo(name, workload, args):
    out = subprocess.run([args.elbo, "bench", name, "--json", "--threads", str(args.threads), "--seconds", str(args.seconds),
                          "--steps", str(workload.min_steps), *(["--isa", "v3"] if args.avx2 else [])], check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(out)


def run_worker(worker, args):
    worker["process"].stdin.write(f"{args.seconds}\n")
    worker["process"].stdin.flush()
    answer = json.loads(worker["process"].stdout.readline())
    worker["ms"] += answer["ms"]
    worker["rss"] = answer["rss"]


def end_worker(worker):
    worker["process"].stdin.close()
    worker["process"].wait()


def measure(script, name, workload, args, data):
    """The runs of elbo, and each variant that works."""
    ours, workers = [], {}
    wanted = args.variants.split(",") if args.variants else workload.variants
    for variant in [v for v in workload.variants if v in wanted and (v != "openvino" or not args.avx2)]:  # one after the other: the time to the first step is measured alone
        if workload.apart:
            ours.append(run_elbo(name, workload, args))
        worker = start_worker(script, name, variant, args, data)
        if not worker:
            continue
        workers[variant] = worker
        if workload.apart:
            run_worker(worker, args)
            end_worker(worker)
    if not workers:
        sys.exit(f"{name}: every peer failed")
    if not workload.apart:
        for _ in range(args.rounds):
            ours.append(run_elbo(name, workload, args))
            for worker in workers.values():
                run_worker(worker, args)
        for worker in workers.values():
            end_worker(worker)
    return ours, workers


def compare(script, name, workload, args, folder):
    data = os.path.join(folder, name + ".npy")
    if workload.data:
        subprocess.run([args.elbo, "data", *workload.data.split(), "-n", str(workload.examples), "--out", data], check=True, stdout=subprocess.DEVNULL)
    ours, workers = measure(script, name, workload, args, data)
    medians = {variant: statistics.median(worker["ms"]) for variant, worker in workers.items()}
    torch_medians = {variant: ms for variant, ms in medians.items() if variant != "openvino"} or medians
    best = min(torch_medians, key=torch_medians.get)
    mine = statistics.median(run["step_ms"]["median"] for run in ours)
    peak, flops = max(run["peak_gflops"] for run in ours), ours[0]["flops_per_step"]
    for key, value in ("params", workload.elbo_params or workload.params), ("batch_size", workload.batch):
        if ours[0][key] != value:
            print(f"{name}: elbo's {key} is {ours[0][key]}, expected {value}", file=sys.stderr)
    row = {
        "workload": name, "batch": workload.batch, "elbo_ms": mine, "torch_ms": medians[best], "variant": best,
        "ratio": min(medians.values()) / mine, "target": workload.target,
        "elbo_share": flops / mine * 1e-6 / peak, "torch_share": flops / medians[best] * 1e-6 / peak, "peak_gflops": peak, "flops": flops,
        "elbo_rss": max(run["peak_rss_bytes"] for run in ours), "torch_rss": workers[best]["rss"],
        "elbo_first": min(run["first_step_s"] for run in ours), "torch_first": workers[best]["first_step_s"], "all": medians,
        "load": os.getloadavg()[0],
    }
    if "openvino" in workers:
        row.update(openvino_ms=medians["openvino"], openvino_rss=workers["openvino"]["rss"], openvino_first=workers["openvino"]["first_step_s"])
    return row


def print_table(rows, args):
    print(f"\n{args.threads} threads, FMA peak {max(r['peak_gflops'] for r in rows):.0f} GFLOP/s, float32; medians, rounds alternate; "
          f"load {max(r['load'] for r in rows):.1f}")
    print(f"{'':24} {'':>5} {'step ms':>9} {'':>9} {'':>9} {'':>6} {'':>6} {'share of peak':>13} {'resident MiB':>23} {'first step s':>23}")
    print(f"{'workload':24} {'batch':>5} {'elbo':>9} {'torch':>9} {'openvino':>9} {'ratio':>6} {'target':>6} {'elbo':>6} {'torch':>6} "
          f"{'elbo':>7} {'torch':>7} {'openv.':>7} {'elbo':>7} {'torch':>7} {'openv.':>7}  torch's variant")
    for r in rows:
        other = {key: r.get(f"openvino_{key}") for key in ("ms", "rss", "first")}
        print(f"{r['workload']:24} {r['batch']:5} {r['elbo_ms']:9.2f} {r['torch_ms']:9.2f} {other['ms'] or 0:9.2f} {r['ratio']:6.2f}{' ' if r['ratio'] >= r['target'] else '!'}{r['target']:5.2f} "
              f"{100 * r['elbo_share']:4.0f} % {100 * r['torch_share']:4.0f} % {r['elbo_rss'] / 2**20:7.0f} {r['torch_rss'] / 2**20:7.0f} "
              f"{(other['rss'] or 0) / 2**20:7.0f} {r['elbo_first']:7.2f} {r['torch_first']:7.2f} {other['first'] or 0:7.2f}  {r['variant']}")


def main(script, description, workloads, step_of):
    """step_of(name, workload, variant, data): in the worker, the function that does one step and waits for its end."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", default=list(workloads), help=", ".join(workloads))
    parser.add_argument("--elbo", default="build/elbo")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seconds", type=float, default=4, help="of timed steps a round and program")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--variants", help="some of the peers alone, where the others are known to lose: compiled,openvino")
    parser.add_argument("--avx2", action="store_true", help="keep both sides to AVX2 (not OpenVINO, which is left out)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--data", help=argparse.SUPPRESS)
    args = parser.parse_args()
    for name in args.workloads:
        if name not in workloads:
            parser.error(f"no workload '{name}': {', '.join(workloads)}")
    if args.worker:
        import torch
        torch.set_num_threads(args.threads)
        torch.manual_seed(0)
        workload = workloads[args.workloads[0]]
        serve(step_of(args.workloads[0], workload, args.worker, args.data), workload.min_steps)
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = [compare(script, name, workloads[name], args, folder) for name in args.workloads]
    if args.json:
        print(json.dumps(rows))
    else:
        print_table(rows, args)
