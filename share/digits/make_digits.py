#!/usr/bin/env python3
"""Makes the files of this folder from the four MNIST files: a random draw, fixed by its seed, of 10,000 training and 2,000 test images.

    python3 make_digits.py FOLDER-WITH-MNIST [OUT]
"""
import gzip
import os
import random
import struct
import sys

SEED = 20240


def read(folder, name):
    for ending, opener in ((".gz", gzip.open), ("", open)):
        path = os.path.join(folder, name + ending)
        if os.path.exists(path):
            with opener(path, "rb") as f:
                return f.read()
    sys.exit(f"{folder}: no {name} or {name}.gz")


def write(folder, name, data):
    with open(os.path.join(folder, name + ".gz"), "wb") as raw:
        with gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=9, mtime=0) as f:
            f.write(data)


def main():
    source = sys.argv[1]
    out = sys.argv[2] if len(sys.argv) > 2 else os.path.dirname(os.path.abspath(__file__))
    rng = random.Random(SEED)
    for part, total, count in (("train", 60000, 10000), ("t10k", 10000, 2000)):
        images, labels = read(source, part + "-images-idx3-ubyte"), read(source, part + "-labels-idx1-ubyte")
        magic, n, height, width = struct.unpack(">IIII", images[:16])
        assert (magic, n, height, width) == (2051, total, 28, 28) and len(images) == 16 + n * 784
        assert struct.unpack(">II", labels[:8]) == (2049, total) and len(labels) == 8 + n
        chosen = rng.sample(range(total), count)
        write(out, part + "-images-idx3-ubyte",
              struct.pack(">IIII", 2051, count, 28, 28) + b"".join(images[16 + 784 * i:16 + 784 * (i + 1)] for i in chosen))
        write(out, part + "-labels-idx1-ubyte", struct.pack(">II", 2049, count) + bytes(labels[8 + i] for i in chosen))


main()
