"""What make_inception.py and make_lpips.py share: weights and pictures that are functions of (name, index), as tests/support/named_weights.c
makes them too, and the writing of a small safetensors file."""

import json
import os
import struct

import numpy as np


def uniform(name, count):
    """count numbers in [-1, 1): 32-bit FNV-1a of the name, and the finaliser of MurmurHash3 of hash + 0x9E3779B9 (index + 1)."""
    h = 2166136261
    for c in name.encode():
        h = ((h ^ c) * 16777619) & 0xFFFFFFFF
    with np.errstate(over="ignore"):
        x = np.uint32(h) + np.uint32(0x9E3779B9) * (np.arange(count, dtype=np.uint32) + np.uint32(1))
        x ^= x >> np.uint32(16)
        x *= np.uint32(0x85EBCA6B)
        x ^= x >> np.uint32(13)
        x *= np.uint32(0xC2B2AE35)
        x ^= x >> np.uint32(16)
    return (x >> np.uint32(8)).astype(np.float64) / 2**23 - 1


def write(file_name, tensors):
    """float32 arrays by name, beside this script."""
    header, blobs, offset = {}, [], 0
    for key in sorted(tensors):
        value = np.ascontiguousarray(tensors[key], np.float32)
        header[key] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [offset, offset + value.nbytes]}
        blobs.append(value.tobytes())
        offset += value.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 64)
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), file_name)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))
    print(path, os.path.getsize(path))
