#!/usr/bin/env python3
"""Writes layers.safetensors: what PyTorch computes for every layer of include/elbo/ops.h, forward and gradients.

    python3 tests/golden/make_layers.py        # needs torch; any 2.x gives the same numbers to float32

For each case: its inputs ("CASE.x", "CASE.weight", ...), the result "CASE.y", a random "CASE.dy", and the gradients of sum(y dy) to the
float inputs ("CASE.dx", ...). Computed in float64, stored in float32 (int32 for indices). Pictures are stored N,H,W,C. tests/ops/test_golden.c
builds the same cases and compares."""

import json
import os
import struct

import numpy as np
import torch
import torch.nn.functional as F

torch.manual_seed(0)
tensors = {}


def normal(*shape, scale=1.0):
    # rounded to float32 first: both sides then start from the same numbers
    return (scale * torch.randn(*shape, dtype=torch.float64)).float().double()


def case(name, fn, **inputs):
    leaves = {}
    for key, value in inputs.items():
        leaves[key] = value.clone().requires_grad_() if value.is_floating_point() else value
    y = fn(*leaves.values())
    dy = normal(*y.shape)
    wanted = [key for key, value in leaves.items() if value.is_floating_point()]
    grads = torch.autograd.grad((y * dy).sum(), [leaves[key] for key in wanted], allow_unused=True)
    store = {**leaves, "y": y, "dy": dy}
    store.update({"d" + key: grad for key, grad in zip(wanted, grads) if grad is not None})
    for key, value in store.items():
        array = value.detach().numpy()
        tensors[f"{name}.{key}"] = np.ascontiguousarray(array, dtype=np.int32 if array.dtype.kind == "i" else np.float32)


def nchw(x):
    return x.permute(0, 3, 1, 2)


def nhwc(x):
    return x.permute(0, 2, 3, 1)


# --- element-wise ---
away = normal(3, 11)
away += 0.1 * torch.sign(away)  # from kinks
positive = (normal(3, 11).abs() + 0.1).float().double()
for name, fn in {
    "neg": torch.neg, "abs": torch.abs, "exp": torch.exp, "expm1": torch.expm1, "square": torch.square, "sin": torch.sin, "cos": torch.cos,
    "tanh": torch.tanh, "sigmoid": torch.sigmoid, "softplus": F.softplus, "relu": F.relu, "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "gelu": F.gelu, "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"), "silu": F.silu, "erf": torch.erf,
    "clamp": lambda x: x.clamp(-0.5, 0.75), "scale": lambda x: 1.5 * x - 0.25, "reciprocal": torch.reciprocal,
}.items():
    case(name, fn, x=away)
for name, fn in {"log": torch.log, "log1p": torch.log1p, "sqrt": torch.sqrt, "rsqrt": torch.rsqrt}.items():
    case(name, fn, x=positive)
for name, fn in {"add": torch.add, "sub": torch.sub, "mul": torch.mul, "maximum": torch.maximum, "minimum": torch.minimum}.items():
    case(name, lambda a, b, fn=fn: fn(a, b), a=normal(2, 3, 5), b=normal(3, 1))
case("div", lambda a, b: a / b, a=normal(2, 3, 5), b=positive[0, :5])
case("where", lambda c, a, b: torch.where(c > 0.5, a, b), c=(normal(2, 5) > 0).double(), a=normal(2, 5), b=normal(5))

# --- shape and reductions ---
case("transpose", lambda x: x.permute(2, 0, 3, 1), x=normal(2, 3, 4, 5))
case("concat", lambda a, b: torch.cat([a, b], 2), a=normal(2, 3, 4), b=normal(2, 3, 2))
case("slice", lambda x: x[:, 1:4], x=normal(3, 6, 2))
case("pad", lambda x: F.pad(x, (0, 0, 2, 1)), x=normal(2, 3, 4))
case("broadcast_to", lambda x: x.expand(2, 3, 4), x=normal(3, 1))
case("sum", lambda x: x.sum((0, 2)), x=normal(3, 4, 5))
case("mean", lambda x: x.mean(1, keepdim=True), x=normal(3, 4, 5))
case("max", lambda x: x.amax(2), x=normal(3, 4, 5))
case("logsumexp", lambda x: torch.logsumexp(x, 1), x=normal(3, 7, 2, scale=3))

# --- products ---
case("linear", F.linear, input=normal(5, 13), weight=normal(7, 13), bias=normal(7))
case("linear_tokens", F.linear, input=normal(2, 3, 6), weight=normal(9, 6))
for ta in (0, 1):
    for tb in (0, 1):
        a, b = normal(*((2, 5, 3) if ta else (2, 3, 5))), normal(*((2, 4, 5) if tb else (2, 5, 4)))
        case(f"matmul_{ta}{tb}", lambda a, b, ta=ta, tb=tb: (a.mT if ta else a) @ (b.mT if tb else b), a=a, b=b)


def conv(stride=1, padding=0, dilation=1, groups=1):
    return lambda x, weight, bias=None: nhwc(F.conv2d(nchw(x), weight, bias, stride, padding, dilation, groups))


def conv_t(stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    return lambda x, weight, bias=None: nhwc(F.conv_transpose2d(nchw(x), weight, bias, stride, padding, output_padding, groups, dilation))


case("conv2d_3x3", conv(padding=1), x=normal(2, 5, 6, 3), weight=normal(8, 3, 3, 3), bias=normal(8))
case("conv2d_4x4_s2", conv(2, 1), x=normal(2, 8, 6, 4), weight=normal(5, 4, 4, 4), bias=normal(5))
case("conv2d_1x1", conv(), x=normal(2, 3, 4, 5), weight=normal(6, 5, 1, 1))
case("conv2d_groups", conv((2, 1), (1, 2), (1, 2), 2), x=normal(1, 7, 8, 6), weight=normal(4, 3, 3, 3), bias=normal(4))
case("conv2d_depthwise", conv(padding=1, groups=6), x=normal(2, 4, 5, 6), weight=normal(6, 1, 3, 3), bias=normal(6))
case("conv_transpose2d_4x4_s2", conv_t(2, 1), x=normal(2, 3, 4, 5), weight=normal(5, 4, 4, 4), bias=normal(4))
case("conv_transpose2d_odd", conv_t((2, 3), (1, 0), (1, 2), 2), x=normal(1, 3, 3, 4), weight=normal(4, 3, 3, 3))

# --- normalisation ---
case("group_norm", lambda x, weight, bias: nhwc(F.group_norm(nchw(x), 3, weight, bias, 1e-5)), x=normal(2, 3, 4, 6), weight=normal(6),
     bias=normal(6))
case("group_norm_silu", lambda x, weight, bias: nhwc(F.silu(F.group_norm(nchw(x), 4, weight, bias, 1e-6))), x=normal(3, 3, 2, 20),
     weight=normal(20), bias=normal(20))
case("layer_norm", lambda x, weight, bias: F.layer_norm(x, (19,), weight, bias, 1e-5), x=normal(2, 3, 19), weight=normal(19), bias=normal(19))
case("batch_norm_train", lambda x, weight, bias: nhwc(F.batch_norm(nchw(x), None, None, weight, bias, True, 0.1, 1e-5)), x=normal(3, 2, 3, 7),
     weight=normal(7), bias=normal(7))
case("batch_norm_eval", lambda x, weight, bias, mean, var: nhwc(F.batch_norm(nchw(x), mean.detach(), var.detach(), weight, bias, False, 0.1, 1e-5)),
     x=normal(2, 2, 3, 7), weight=normal(7), bias=normal(7), mean=normal(7), var=positive[0, :7])

# --- attention ---
case("softmax", lambda x: F.softmax(x, -1), x=normal(4, 19, scale=2))


def attention(heads, causal=False, scale=None):
    def fn(q, k, v, bias=None):
        split = lambda x: x.unflatten(-1, (heads, -1)).transpose(1, 2)
        if causal:  # aligned at the end: query i sees keys 0 .. i + Nk - Nq
            bias = torch.zeros(q.shape[1], k.shape[1], dtype=q.dtype).masked_fill(
                torch.ones(q.shape[1], k.shape[1]).tril(k.shape[1] - q.shape[1]) == 0, float("-inf"))
        y = F.scaled_dot_product_attention(split(q), split(k), split(v), attn_mask=bias, scale=scale)
        return y.transpose(1, 2).flatten(2)

    return fn


case("attention", attention(2), q=normal(2, 7, 10), k=normal(2, 7, 10), v=normal(2, 7, 10))
case("attention_cross", attention(3, scale=0.3), q=normal(1, 5, 12), k=normal(1, 23, 12), v=normal(1, 23, 12))
case("attention_bias", attention(2), q=normal(2, 5, 8), k=normal(2, 9, 8), v=normal(2, 9, 8), bias=normal(2, 5, 9))
case("attention_causal", attention(1, True), q=normal(1, 6, 5), k=normal(1, 8, 5), v=normal(1, 8, 5))

# --- resampling ---
case("avg_pool2d", lambda x: nhwc(F.avg_pool2d(nchw(x), (2, 3))), x=normal(2, 4, 6, 5))
case("upsample_nearest", lambda x: nhwc(F.interpolate(nchw(x), scale_factor=(2, 3), mode="nearest")), x=normal(2, 3, 2, 5))
for name, size in {"resize_bilinear_up": (7, 8), "resize_bilinear_down": (2, 3), "resize_bilinear_mixed": (9, 2)}.items():
    case(name, lambda x, size=size: nhwc(F.interpolate(nchw(x), size, mode="bilinear", align_corners=False)), x=normal(2, 4, 5, 3))

# --- look-up ---
case("embedding", F.embedding, input=torch.tensor([[1, 4, 1], [0, 1, 4]]), weight=normal(6, 5))

# --- losses, as models write them in plain operations: one value per example ---
case("squared_error", lambda x, t: F.mse_loss(x, t, reduction="none").sum(1), x=normal(4, 9), t=normal(4, 9))
case("bernoulli", lambda x, t: F.binary_cross_entropy_with_logits(x, t, reduction="none").sum(1), x=normal(4, 9, scale=3),
     t=(normal(4, 9) > 0).double())
case("categorical", lambda x, t: -(F.log_softmax(x, 1) * t).sum(1), x=normal(4, 9, scale=2), t=F.softmax(normal(4, 9), 1).float().double())
case("gaussian", lambda x, mu, logvar: -torch.distributions.Normal(mu, (0.5 * logvar).exp()).log_prob(x).sum(1), x=normal(4, 9), mu=normal(4, 9),
     logvar=normal(4, 9))
case("gaussian_kl", lambda mu, logvar: torch.distributions.kl_divergence(
    torch.distributions.Normal(mu, (0.5 * logvar).exp()), torch.distributions.Normal(torch.zeros_like(mu), torch.ones_like(mu))).sum(1),
     mu=normal(4, 9), logvar=normal(4, 9))

# --- the file ---
header, offset = {"__metadata__": {"made_by": "tests/golden/make_layers.py"}}, 0
for name in sorted(tensors):
    size = tensors[name].nbytes
    header[name] = {"dtype": "I32" if tensors[name].dtype == np.int32 else "F32", "shape": list(tensors[name].shape),
                    "data_offsets": [offset, offset + size]}
    offset += size
text = json.dumps(header, separators=(",", ":")).encode()
text += b" " * (-len(text) % 8)
path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "layers.safetensors")
with open(path, "wb") as file:
    file.write(struct.pack("<Q", len(text)) + text + b"".join(tensors[name].tobytes() for name in sorted(tensors)))
print(f"{path}: {len(tensors)} tensors, {os.path.getsize(path)} bytes")
