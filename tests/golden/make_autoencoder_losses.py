#!/usr/bin/env python3
"""Writes autoencoder_losses.safetensors: what diffusers' VectorQuantizer makes of codes, with and without legacy.

    python3 tests/golden/make_autoencoder_losses.py        # needs torch and diffusers 0.42

In float64, stored in float32, N,H,W,C. "z" are codes, "table" the rows, "dcodes" random weights of the quantised codes; of "legacy" and
"paper" (legacy=False): "KIND.loss", and "KIND.d.z" and "KIND.d.table", the gradients of loss + sum(codes dcodes). "index", "perplexity"."""

import os

import torch
from diffusers.models.autoencoders.vae import VectorQuantizer
from safetensors.torch import save_file

here = os.path.dirname(os.path.abspath(__file__))
torch.manual_seed(0)
torch.set_num_threads(1)
ROWS, WIDTH = 7, 3

z = torch.randn(2, WIDTH, 4, 5, dtype=torch.float64)
table = torch.randn(ROWS, WIDTH, dtype=torch.float64)
dcodes = torch.randn(2, WIDTH, 4, 5, dtype=torch.float64)


def nhwc(t):
    return t.permute(0, 2, 3, 1)


out = {"z": nhwc(z), "table": table, "dcodes": nhwc(dcodes)}
for kind, legacy in (("legacy", True), ("paper", False)):
    quantizer = VectorQuantizer(ROWS, WIDTH, beta=0.25, remap=None, sane_index_shape=False, legacy=legacy).double()
    quantizer.embedding.weight.data.copy_(table)
    x = z.clone().requires_grad_(True)
    codes, loss, (_, _, index) = quantizer(x)
    (loss + (codes * dcodes).sum()).backward()
    out[f"{kind}.loss"] = loss
    out[f"{kind}.d.z"] = nhwc(x.grad)
    out[f"{kind}.d.table"] = quantizer.embedding.weight.grad
shares = torch.bincount(index, minlength=ROWS).double() / index.numel()
out["index"] = index
out["perplexity"] = torch.exp(-torch.special.xlogy(shares, shares).sum())
save_file({k: v.detach().float().contiguous() for k, v in out.items()}, os.path.join(here, "autoencoder_losses.safetensors"))
