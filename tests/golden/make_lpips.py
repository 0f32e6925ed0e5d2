#!/usr/bin/env python3
"""Writes lpips.safetensors: perceptual distances of a few pictures by a VGG-16 with random weights, as LPIPS makes them [Zhang18].

    python3 tests/golden/make_lpips.py     # needs torch and numpy; seconds

The weights (14.7 million) are not stored: they are a function of (name, index), in named.py and tests/support/named_weights.c, as are the pictures.
"lpips.rgb" (2) of two pairs of coloured pictures of 32x24 with weights of the channels, "slope.rgb" (2,24,32,3) the gradient of their sum by
the second of each pair in 0..1, "alike.rgb" (2) with all channels alike, "lpips.grey" (1) of one grey pair of 20x16."""

import numpy as np
import torch
import torch.nn.functional as F
from named import uniform, write

LEVELS = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
CHANNELS = (64, 128, 256, 512, 512)


def tensor(name, shape, scale, offset=0.0):
    value = (offset + scale * uniform(name, int(np.prod(shape)))).astype(np.float32)
    return torch.from_numpy(value.astype(np.float64)).reshape(shape)


def maps(x):
    shift = torch.tensor([-0.030, -0.088, -0.188], dtype=torch.float64)[:, None, None]
    scale = torch.tensor([0.458, 0.448, 0.450], dtype=torch.float64)[:, None, None]
    h, out = (2 * x - 1 - shift) / scale, []
    for level, numbers in enumerate(LEVELS):
        h = F.max_pool2d(h, 2, 2) if level else h
        for n in numbers:
            shape = (CHANNELS[level], h.shape[1], 3, 3)
            w = tensor(f"features.{n}.weight", shape, (6 / np.prod(shape[1:])) ** 0.5)
            h = F.relu(F.conv2d(h, w, tensor(f"features.{n}.bias", shape[:1], 0.1), padding=1))
        out.append(h)
    return out


def distance(x, y, learned):
    total = 0
    for level, (a, b) in enumerate(zip(maps(x), maps(y))):
        a, b = (v / (v.square().sum(1, keepdim=True).sqrt() + 1e-10) for v in (a, b))
        lin = tensor(f"lin{level}.model.1.weight", (1, CHANNELS[level], 1, 1), 0.5, 0.5) if learned else torch.ones(1, dtype=torch.float64)
        total = total + (lin * (a - b).square()).sum(1).mean((1, 2))
    return total


def pictures(name, n, h, w, channels):
    x = torch.from_numpy((uniform(name, n * h * w * channels).astype(np.float32) / 2 + 0.5).astype(np.float64))
    return x.reshape(n, h, w, channels).permute(0, 3, 1, 2)


x, y = pictures("rgb.x", 2, 24, 32, 3), pictures("rgb.y", 2, 24, 32, 3).requires_grad_()
rgb = distance(x, y, True)
rgb.sum().backward()
with torch.no_grad():
    grey = [pictures(n, 1, 16, 20, 1).expand(-1, 3, -1, -1) for n in ("grey.x", "grey.y")]
    tensors = {"lpips.rgb": rgb, "slope.rgb": y.grad.permute(0, 2, 3, 1), "alike.rgb": distance(x, y, False), "lpips.grey": distance(*grey, True)}
print(*(f"{k} {v.abs().mean():.4g}" for k, v in tensors.items()))
write("lpips.safetensors", {key: value.detach().numpy() for key, value in tensors.items()})
