#!/usr/bin/env python3
"""Writes tests/golden/optimizers.safetensors: parameters after each of a few steps of PyTorch's optimisers on fixed gradients.

Tensors: start (N), gradient (STEPS,N), and for every case NAME: NAME.param (STEPS,N), NAME.config (7): learning rate, beta1, beta2,
epsilon, weight decay, clip norm, kind (0 sgd, 1 adam, 2 adamw, 3 rmsprop).
Run with a Python that has torch:  python tests/golden/make_optimizers.py
"""
import json
import pathlib
import struct

import torch

STEPS, N = 6, 19
CASES = {
    # name: (kind, lr, beta1, beta2, eps, weight_decay, clip)
    "sgd_plain": (0, 0.05, 0.0, 0.0, 1e-8, 0.0, 0.0),
    "sgd_momentum_decay": (0, 0.02, 0.9, 0.0, 1e-8, 0.01, 0.0),
    "sgd_clip": (0, 0.1, 0.5, 0.0, 1e-8, 0.0, 0.7),
    "adam": (1, 1e-2, 0.9, 0.999, 1e-8, 0.0, 0.0),
    "adam_decay_clip": (1, 3e-3, 0.8, 0.99, 1e-6, 0.05, 1.0),
    "adamw": (2, 1e-2, 0.9, 0.999, 1e-8, 0.01, 0.0),
    "adamw_clip": (2, 5e-3, 0.9, 0.95, 1e-8, 0.2, 0.5),
    "rmsprop": (3, 1e-2, 0.0, 0.99, 1e-8, 0.0, 0.0),
    "rmsprop_momentum_decay": (3, 2e-3, 0.9, 0.9, 1e-5, 0.03, 0.0),
}


def make(kind, p, lr, b1, b2, eps, wd):
    if kind == 0:
        return torch.optim.SGD([p], lr=lr, momentum=b1, weight_decay=wd)
    if kind == 1:
        return torch.optim.Adam([p], lr=lr, betas=(b1, b2), eps=eps, weight_decay=wd)
    if kind == 2:
        return torch.optim.AdamW([p], lr=lr, betas=(b1, b2), eps=eps, weight_decay=wd)
    return torch.optim.RMSprop([p], lr=lr, alpha=b2, eps=eps, weight_decay=wd, momentum=b1)


def main():
    generator = torch.Generator().manual_seed(7)
    start = torch.randn(N, generator=generator)
    gradient = torch.randn(STEPS, N, generator=generator)
    gradient[:, 3] = 0  # a parameter that never gets a gradient
    gradient[2] *= 20   # a step that clipping has to bite on
    tensors = {"start": start, "gradient": gradient}
    for name, (kind, lr, b1, b2, eps, wd, clip) in CASES.items():
        p = torch.nn.Parameter(start.clone())
        optimizer = make(kind, p, lr, b1, b2, eps, wd)
        rows = []
        for step in range(STEPS):
            p.grad = gradient[step].clone()
            if clip > 0:
                torch.nn.utils.clip_grad_norm_([p], clip)
            optimizer.step()
            rows.append(p.detach().clone())
        tensors[name + ".param"] = torch.stack(rows)
        tensors[name + ".config"] = torch.tensor([lr, b1, b2, eps, wd, clip, kind])
    header, body = {}, b""
    for name in sorted(tensors):
        t = tensors[name].contiguous()
        data = t.numpy().astype("<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(t.shape), "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header, sort_keys=True).encode()
    text += b" " * (-len(text) % 8)
    path = pathlib.Path(__file__).with_name("optimizers.safetensors")
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
    print(path, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
