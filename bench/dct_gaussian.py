"""The baseline that `vae-cifar10` is held against: a Gaussian with a diagonal covariance in a DCT basis.

    elbo data CIFAR --split train -n 50000 --uint8 --out train.npy && elbo data CIFAR --split test -n 10000 --uint8 --out test.npy
    python3 bench/dct_gaussian.py train.npy test.npy

Pixels are dequantised uniformly, v + u with u in [0,1), so that the density bounds the probability of the 256 levels from below
[Theis16]. Three orthonormal colour axes (grey, red - green, red + green - 2 blue), on each an orthonormal 32x32 DCT; every coefficient has
the mean and variance that it has over the training files. Prints bits/dim of the test files and its standard error over pictures.
"""
import argparse

import numpy as np


def dct_matrix(n):
    k, i = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    d = np.sqrt(2 / n) * np.cos(np.pi * (2 * i + 1) * k / (2 * n))
    d[0] /= np.sqrt(2)
    return d.astype(np.float32)


def coefficients(path, seed, batch=1000):
    """Batches of (B,3,H,W) coefficients of v + u, all transforms orthonormal: densities keep their values."""
    x = np.load(path, mmap_mode="r")
    if x.ndim != 4 or x.shape[3] != 3 or x.dtype != np.uint8:
        raise SystemExit(f"{path}: {x.dtype} {x.shape}; expected uint8 (N,H,W,3), as `elbo data --uint8` writes it")
    colour = np.array([[1, 1, 1], [1, -1, 0], [1, 1, -2]], np.float32)
    colour /= np.linalg.norm(colour, axis=1, keepdims=True)
    rows, columns = dct_matrix(x.shape[1]), dct_matrix(x.shape[2])
    random = np.random.default_rng(seed)
    for at in range(0, len(x), batch):
        v = x[at:at + batch].astype(np.float32)
        v += random.random(v.shape, np.float32)
        c = np.einsum("kc,bhwc->bkhw", colour, v, optimize=True)
        yield rows @ c @ columns.T


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train")
    parser.add_argument("test")
    parser.add_argument("--seed", type=int, default=0, help="of the dequantisation")
    args = parser.parse_args()
    n, total, squares = 0, 0, 0
    for c in coefficients(args.train, args.seed):
        n, total, squares = n + len(c), total + c.sum(0, dtype=np.float64), squares + np.square(c, dtype=np.float64).sum(0)
    mean = total / n
    variance = squares / n - mean ** 2
    bits = []
    for c in coefficients(args.test, args.seed + 1):
        nats = 0.5 * ((c - mean) ** 2 / variance + np.log(2 * np.pi * variance))
        bits.append(nats.reshape(len(c), -1).mean(1) / np.log(2))
    bits = np.concatenate(bits)
    error = bits.std(ddof=1) / np.sqrt(len(bits))
    print(f"{bits.mean():.4f} +- {error:.4f} bits/dim, {len(bits)} pictures, fitted to {n}")


if __name__ == "__main__":
    main()
