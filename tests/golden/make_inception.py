#!/usr/bin/env python3
"""Writes inception.safetensors: features of a few pictures by an Inception-v3 with random weights, the variant that FID uses.

    python3 tests/golden/make_inception.py     # needs torch and numpy; half a minute

The weights (24 million) are not stored: they are a function of (name, index), in named.py and tests/support/named_weights.c, as are the pictures.
"features.rgb" (2,2048) of two pictures of 40x32, "features.grey" (1,2048) of one grey picture of 28x28."""

import numpy as np
import torch
import torch.nn.functional as F
from named import uniform, write

EPS = 1e-3
used = {}


def tensor(name, shape, scale, offset=0.0):
    used[name] = shape
    value = (offset + scale * uniform(name, int(np.prod(shape)))).astype(np.float32)
    return torch.from_numpy(value.astype(np.float64)).reshape(shape)


def unit(x, name, out, kernel, stride=1, padding=0):
    kh, kw = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    shape = (out, x.shape[1], kh, kw)
    w = tensor(f"{name}.conv.weight", shape, (6 / np.prod(shape[1:])) ** 0.5)
    gamma, beta = tensor(f"{name}.bn.weight", (out,), 0.25, 1), tensor(f"{name}.bn.bias", (out,), 0.25)
    mean, var = tensor(f"{name}.bn.running_mean", (out,), 0.25), tensor(f"{name}.bn.running_var", (out,), 0.25, 1)
    return F.relu(F.batch_norm(F.conv2d(x, w, stride=stride, padding=padding), mean, var, gamma, beta, eps=EPS))


def mean_pool(x):
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def a(x, n, pooled):
    one = unit(x, f"{n}.branch1x1", 64, 1)
    five = unit(unit(x, f"{n}.branch5x5_1", 48, 1), f"{n}.branch5x5_2", 64, 5, padding=2)
    three = unit(unit(x, f"{n}.branch3x3dbl_1", 64, 1), f"{n}.branch3x3dbl_2", 96, 3, padding=1)
    three = unit(three, f"{n}.branch3x3dbl_3", 96, 3, padding=1)
    return torch.cat([one, five, three, unit(mean_pool(x), f"{n}.branch_pool", pooled, 1)], 1)


def b(x, n):
    three = unit(x, f"{n}.branch3x3", 384, 3, stride=2)
    twice = unit(unit(x, f"{n}.branch3x3dbl_1", 64, 1), f"{n}.branch3x3dbl_2", 96, 3, padding=1)
    twice = unit(twice, f"{n}.branch3x3dbl_3", 96, 3, stride=2)
    return torch.cat([three, twice, F.max_pool2d(x, 3, 2)], 1)


def c(x, n, narrow):
    one = unit(x, f"{n}.branch1x1", 192, 1)
    seven = unit(unit(x, f"{n}.branch7x7_1", narrow, 1), f"{n}.branch7x7_2", narrow, (1, 7), padding=(0, 3))
    seven = unit(seven, f"{n}.branch7x7_3", 192, (7, 1), padding=(3, 0))
    twice = unit(unit(x, f"{n}.branch7x7dbl_1", narrow, 1), f"{n}.branch7x7dbl_2", narrow, (7, 1), padding=(3, 0))
    twice = unit(twice, f"{n}.branch7x7dbl_3", narrow, (1, 7), padding=(0, 3))
    twice = unit(twice, f"{n}.branch7x7dbl_4", narrow, (7, 1), padding=(3, 0))
    twice = unit(twice, f"{n}.branch7x7dbl_5", 192, (1, 7), padding=(0, 3))
    return torch.cat([one, seven, twice, unit(mean_pool(x), f"{n}.branch_pool", 192, 1)], 1)


def d(x, n):
    three = unit(unit(x, f"{n}.branch3x3_1", 192, 1), f"{n}.branch3x3_2", 320, 3, stride=2)
    seven = unit(unit(x, f"{n}.branch7x7x3_1", 192, 1), f"{n}.branch7x7x3_2", 192, (1, 7), padding=(0, 3))
    seven = unit(seven, f"{n}.branch7x7x3_3", 192, (7, 1), padding=(3, 0))
    return torch.cat([three, unit(seven, f"{n}.branch7x7x3_4", 192, 3, stride=2), F.max_pool2d(x, 3, 2)], 1)


def e(x, n, last):
    def both(h, n2, n3):
        return torch.cat([unit(h, n2, 384, (1, 3), padding=(0, 1)), unit(h, n3, 384, (3, 1), padding=(1, 0))], 1)

    one = unit(x, f"{n}.branch1x1", 320, 1)
    three = both(unit(x, f"{n}.branch3x3_1", 384, 1), f"{n}.branch3x3_2a", f"{n}.branch3x3_2b")
    twice = unit(unit(x, f"{n}.branch3x3dbl_1", 448, 1), f"{n}.branch3x3dbl_2", 384, 3, padding=1)
    twice = both(twice, f"{n}.branch3x3dbl_3a", f"{n}.branch3x3dbl_3b")
    pool = F.max_pool2d(x, 3, 1, 1) if last else mean_pool(x)
    return torch.cat([one, three, twice, unit(pool, f"{n}.branch_pool", 192, 1)], 1)


def features(x):
    h = 2 * F.interpolate(x, (299, 299), mode="bilinear", align_corners=False) - 1
    h = unit(h, "Conv2d_1a_3x3", 32, 3, stride=2)
    h = unit(unit(h, "Conv2d_2a_3x3", 32, 3), "Conv2d_2b_3x3", 64, 3, padding=1)
    h = unit(unit(F.max_pool2d(h, 3, 2), "Conv2d_3b_1x1", 80, 1), "Conv2d_4a_3x3", 192, 3)
    h = F.max_pool2d(h, 3, 2)
    h = a(a(a(h, "Mixed_5b", 32), "Mixed_5c", 64), "Mixed_5d", 64)
    h = b(h, "Mixed_6a")
    for n, narrow in (("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)):
        h = c(h, n, narrow)
    return e(e(d(h, "Mixed_7a"), "Mixed_7b", False), "Mixed_7c", True).mean((2, 3))


def pictures(name, n, h, w, channels):
    levels = np.floor((uniform(name, n * h * w * channels) + 1) * 128)
    return torch.from_numpy(levels / 255).reshape(n, h, w, channels).permute(0, 3, 1, 2)


with torch.no_grad():
    tensors = {"features.rgb": features(pictures("rgb", 2, 40, 32, 3)), "features.grey": features(pictures("grey", 1, 28, 28, 1).expand(-1, 3, -1, -1))}
print(len(used), "tensors,", sum(int(np.prod(s)) for s in used.values()), "numbers; features:",
      *(f"{k} {v.mean():.3f} +- {v.std():.3f}" for k, v in tensors.items()))
write("inception.safetensors", {key: value.numpy() for key, value in tensors.items()})
