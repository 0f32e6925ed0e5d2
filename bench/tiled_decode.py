"""A 1024x1024 picture by a decoder of Stable Diffusion 1.5's shape (random weights), whole and in bands: seconds, memory resident at most, and
how far apart the two pictures are.

    python3 bench/tiled_decode.py [MIB ...]        limits of `elbo decode --memory` (default: 860); needs nothing beside Python itself

ELBO (default: build/elbo) and THREADS (default: all cores) can be set. Wanted: under 1 GiB resident.
"""
import array
import os
import random
import subprocess
import sys
import tempfile
import time

SIDE = 128  # of the code: eighths of the picture
RECIPE = """
model:
  preset: autoencoder
  network: kl
  kl:
    block_out_channels: [128, 256, 512, 512]
    layers_per_block: 2
    down_block_types: [DownEncoderBlock2D, DownEncoderBlock2D, DownEncoderBlock2D, DownEncoderBlock2D]
    up_block_types: [UpDecoderBlock2D, UpDecoderBlock2D, UpDecoderBlock2D, UpDecoderBlock2D]
data: {path: "shapes:size=64", limit: 1}
train: {steps: 1, batch_size: 1, ema: 0}
"""


def run(*command):
    """Seconds and MiB resident at most."""
    began = time.time()
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            log.seek(0)
            sys.exit(f"{' '.join(command)}:\n{log.read().decode()}")
    return time.time() - began, usage.ru_maxrss / 1024


def write_codes(path):
    draw = random.Random(0)
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': (1, {SIDE}, {SIDE}, 4), }}"
    header += " " * (-(len(header) + 11) % 64) + "\n"
    with open(path, "wb") as file:
        file.write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode())
        array.array("f", [draw.gauss(0, 1) for _ in range(SIDE * SIDE * 4)]).tofile(file)


def read_picture(path):
    with open(path, "rb") as file:
        file.seek(8)
        file.seek(int.from_bytes(file.read(2), "little"), os.SEEK_CUR)
        values = array.array("f")
        values.frombytes(file.read())
    return values


def main():
    limits = sys.argv[1:] or ["860"]
    elbo = os.path.abspath(os.environ.get("ELBO", "build/elbo"))
    if not os.access(elbo, os.X_OK):
        sys.exit(f"bench/tiled_decode.py: {elbo} is not built; run make")
    threads = os.environ.get("THREADS", str(len(os.sched_getaffinity(0))))
    with tempfile.TemporaryDirectory(prefix="elbo-tiled.") as work:
        recipe, model, codes = os.path.join(work, "recipe.yaml"), os.path.join(work, "model"), os.path.join(work, "codes.npy")
        with open(recipe, "w", encoding="utf-8") as file:
            file.write(RECIPE)
        run(elbo, "train", recipe, "--out", model, "--threads", threads)
        write_codes(codes)
        print(f"{8 * SIDE}x{8 * SIDE}, {threads} threads")
        whole = None
        for limit in [None] + limits:
            out = os.path.join(work, "picture.npy")
            seconds, mib = run(elbo, "decode", model, "--codes", codes, "--out", out, "--threads", threads, *(["--memory", limit] if limit else []))
            picture = read_picture(out)
            line = f"{'--memory ' + limit if limit else 'whole':14s} {seconds:7.1f} s {mib:7.0f} MiB resident"
            if whole:
                line += f", largest difference {max(abs(a - b) for a, b in zip(whole, picture)):.2g} of {max(abs(a) for a in whole):.3g}"
            whole = whole or picture
            print(line, flush=True)


if __name__ == "__main__":
    main()
