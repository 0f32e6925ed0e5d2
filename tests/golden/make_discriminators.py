#!/usr/bin/env python3
"""Writes discriminators.safetensors: what PyTorch computes for the adversaries of src/nn/discriminator.h and the penalties of gan_loss.h.

    python3 tests/golden/make_discriminators.py        # needs torch; any 2.x gives the same numbers to float32

For each case: parameters ("CASE.weight.conv.0.weight", ..., "CASE.weight.conv.0.u" before the step of the power iteration), a batch "CASE.x"
(N,H,W,C in 0..1), "CASE.logits", the last features "CASE.feature", the squared gradient of the mean verdict "CASE.square" (N), the
vectors afterwards "CASE.after.conv.0.u", and the gradients of sum(square) + sum(dy logits) with the given "CASE.dy" to every parameter,
"CASE.grad.conv.0.weight". The singular vectors count as constants, as in torch.nn.utils.spectral_norm. Float64, stored in float32."""

import os

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file

torch.manual_seed(3)
tensors = {}


def rounded(x):
    return x.float().double()


def unit(v):
    return v / v.norm()


def normed(name, weight, vectors, after):
    """weight / sigma after one step of the power iteration [Miyato18 algorithm 1]"""
    matrix = weight.detach().flatten(1)
    u = unit(vectors[name + ".u"])
    v = unit(u @ matrix)
    u = unit(v @ matrix.T)
    after[name + ".u"] = u
    return weight / (u @ (weight.flatten(1) @ v.T)).sum()


def case(name, kind, height, width, inside, channels, hidden=(), groups=0, spectral=False):
    shapes, norms = {}, {}
    c = inside
    for i, out in enumerate(channels):
        shapes[f"conv.{i}"] = (out, c, 4, 4)
        if i and groups:
            norms[f"norm.{i}"] = out
        c = out
    strides = [1 if kind == "patch" and i == len(channels) - 1 else 2 for i in range(len(channels))]
    if kind == "patch":
        shapes["out"] = (1, c, 4, 4)
    else:
        h, w = height, width
        for stride in strides:
            h, w = (h + 2 - 4) // stride + 1, (w + 2 - 4) // stride + 1
        c = c * h * w if channels else inside * height * width
        for i, out in enumerate(hidden):
            shapes[f"fc.{i}"] = (out, c)
            c = out
        shapes["out"] = (1, c)
    p, vectors, after = {}, {}, {}
    for layer, shape in shapes.items():
        fan_in = int(np.prod(shape[1:]))
        p[layer + ".weight"] = rounded(1.5 * torch.randn(*shape, dtype=torch.float64) / fan_in**0.5).requires_grad_()
        p[layer + ".bias"] = rounded(0.1 * torch.randn(shape[0], dtype=torch.float64)).requires_grad_()
        if spectral:
            vectors[layer + ".u"] = rounded(torch.randn(1, shape[0], dtype=torch.float64))
    for layer, out in norms.items():
        p[layer + ".weight"] = rounded(1 + 0.2 * torch.randn(out, dtype=torch.float64)).requires_grad_()
        p[layer + ".bias"] = rounded(0.2 * torch.randn(out, dtype=torch.float64)).requires_grad_()
    weight = {layer: normed(layer, p[layer + ".weight"], vectors, after) if spectral else p[layer + ".weight"] for layer in shapes}

    x = rounded(torch.rand(3, inside, height, width, dtype=torch.float64)).requires_grad_()
    h = x if kind == "mlp" else 2 * x - 1
    for i in range(len(channels)):
        h = F.conv2d(h, weight[f"conv.{i}"], p[f"conv.{i}.bias"], stride=strides[i], padding=1)
        if f"norm.{i}" in norms:
            h = F.group_norm(h, groups, p[f"norm.{i}.weight"], p[f"norm.{i}.bias"])
        h = F.leaky_relu(h, 0.2)
    feature = h
    if kind == "patch":
        logits = F.conv2d(h, weight["out"], p["out.bias"], padding=1)
        verdict = logits.mean(dim=(1, 2, 3))
    else:
        h = h.permute(0, 2, 3, 1).flatten(1)  # pictures lie as N,H,W,C
        for i in range(len(hidden)):
            h = feature = F.leaky_relu(h @ weight[f"fc.{i}"].T + p[f"fc.{i}.bias"], 0.2)
        logits = verdict = (h @ weight["out"].T + p["out.bias"])[:, 0]
    slope = torch.autograd.grad(verdict.sum(), x, create_graph=True)[0]
    square = (slope**2).sum(dim=(1, 2, 3))
    dy = rounded(torch.randn_like(logits))
    names = list(p)
    grads = torch.autograd.grad(square.sum() + (dy * logits).sum(), [p[n] for n in names])

    def put(key, value):
        value = value.detach()
        if value.dim() == 4 and ".weight." not in key and ".grad." not in key:
            value = value.permute(0, 2, 3, 1)
        tensors[f"{name}.{key}"] = np.ascontiguousarray(value.numpy(), dtype=np.float32)

    for n, value in {**p, **vectors}.items():
        tensors[f"{name}.weight.{n}"] = np.ascontiguousarray(value.detach().numpy(), dtype=np.float32)
    for n, value in after.items():
        put("after." + n, value)
    for n, value in zip(names, grads):
        tensors[f"{name}.grad.{n}"] = np.ascontiguousarray(value.numpy(), dtype=np.float32)
    for key, value in {"x": x, "logits": logits, "feature": feature, "square": square, "dy": dy}.items():
        put(key, value)


case("conv", "conv", 12, 10, 2, (4, 6), hidden=(5,))
case("normed", "conv", 12, 12, 1, (4, 6), groups=2)
case("patch", "patch", 12, 14, 3, (4, 6, 8))
case("spectral", "conv", 9, 9, 2, (4, 6), spectral=True)
case("spectral_patch", "patch", 12, 12, 1, (4, 6), spectral=True)
case("mlp", "mlp", 1, 1, 7, (), hidden=(9, 8))

save_file(tensors, os.path.join(os.path.dirname(os.path.abspath(__file__)), "discriminators.safetensors"))
