#!/usr/bin/env python3
"""Writes quality.safetensors: Fréchet distance, kernel distance, precision and recall of small sets of features by NumPy.

    python3 tests/golden/make_quality.py       # needs numpy and scipy

Features are float64: "CASE.a" (n,d) and "CASE.b" (m,d). "CASE.fid" by scipy's general matrix root; "CASE.mmd" the unbiased squared
discrepancy of the whole sets under (x.y/d + 1)^3; "CASE.precision" and "CASE.recall" with three neighbours, a real."""

import json
import os
import struct

import numpy as np
from scipy import linalg

random = np.random.default_rng(0)


def frechet(a, b):
    s1, s2 = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = linalg.sqrtm(s1 @ s2)
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s1 + s2 - 2 * root.real))


def discrepancy(a, b):
    kernel = lambda x, y: (x @ y.T / x.shape[1] + 1) ** 3
    xx, yy, xy = kernel(a, a), kernel(b, b), kernel(a, b)
    n, m = len(a), len(b)
    return float((xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1)) - 2 * xy.mean())


def covered(points, balls):
    distance = lambda x, y: np.sqrt(((x[:, None] - y[None]) ** 2).sum(-1))
    radius = np.sort(distance(balls, balls), 1)[:, 3]  # the 0th is the picture itself
    return float((distance(points, balls) <= radius[None]).any(1).mean())


tensors = {}
for name, n, m, d, shift in [("small", 60, 40, 3, 0.5), ("wide", 120, 150, 24, 0.2), ("features", 200, 200, 64, 0.1)]:
    mix = random.normal(size=(d, d)) / np.sqrt(d)
    a = np.maximum(random.normal(size=(n, d)) @ mix, 0)  # as behind a rectifier
    b = np.maximum(random.normal(size=(m, d)) @ mix * 1.1 + shift, 0)
    tensors.update({f"{name}.a": a, f"{name}.b": b, f"{name}.fid": frechet(a, b), f"{name}.mmd": discrepancy(a, b),
                    f"{name}.precision": covered(b, a), f"{name}.recall": covered(a, b)})

header, blobs, offset = {}, [], 0
for key in sorted(tensors):
    value = np.ascontiguousarray(tensors[key], np.float64)
    header[key] = {"dtype": "F64", "shape": list(np.shape(tensors[key])), "data_offsets": [offset, offset + value.nbytes]}
    blobs.append(value.tobytes())
    offset += value.nbytes
text = json.dumps(header).encode()
text += b" " * (-len(text) % 64)
path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "quality.safetensors")
with open(path, "wb") as file:
    file.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))
print(path, os.path.getsize(path))
