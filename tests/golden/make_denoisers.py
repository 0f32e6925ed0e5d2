#!/usr/bin/env python3
"""Writes denoisers.safetensors: what diffusers' DiTTransformer2DModel, and plain PyTorch written from the papers for the other diffusion
networks, compute on small inputs.

    python3 tests/golden/make_denoisers.py     # needs torch and diffusers; computed in float64, stored in float32

Weights are not stored: a parameter's values follow from its name and shape (`values`, and the same in tests/nn/test_denoisers.c). For each
case: its config.json as metadata "CASE", inputs "CASE.sample" (N,H,W,C), "CASE.timestep", "CASE.class_labels", the result "CASE.y"; and of
the cases with gradients a random "CASE.dy", and of sum(y dy) the gradients "CASE.dsample", "CASE.dtimestep" and, as two projections each,
"CASE.d.PARAMETER"."""

import json
import math
import os
import struct

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DiTTransformer2DModel

torch.manual_seed(0)
tensors, metadata = {}, {"made_by": "tests/golden/make_denoisers.py"}


def values(name, shape):
    """Hash of (name, index) in [-1, 1): weights about 1 / sqrt(fan in), other vectors small, scales of norms near 1."""
    h = 2166136261
    for c in name.encode():
        h = (h ^ c) * 16777619 % 2**32
    n = math.prod(shape)
    u = (np.arange(n, dtype=np.uint64) * 2654435769 + h) % 2**32
    for factor in (2246822507, 3266489909):
        u = (u ^ (u >> 15)) * factor % 2**32
    v = ((u ^ (u >> 16)) >> 8).astype(np.float64) * 2.0**-23 - 1
    if len(shape) > 1:
        v *= 2.0 ** -math.floor(0.5 * math.log2(math.prod(shape[1:])))
    elif name.endswith(".weight"):
        v = 1 + 0.5 * v
    elif name.endswith(".bias"):
        v *= 0.25
    return torch.from_numpy(v.reshape(shape)).float().double()


class Parameters(dict):
    """Made when first asked for."""

    def __call__(self, name, *shape):
        if name not in self:
            self[name] = values(name, shape).requires_grad_()
        assert tuple(self[name].shape) == shape, name
        return self[name]

    def linear(self, x, name, out, bias=True):
        return F.linear(x, self(name + ".weight", out, x.shape[-1]), self(name + ".bias", out) if bias else None)

    def conv(self, x, name, out, kernel, pad=None, bias=True):
        w = self(name + ".weight", out, x.shape[1], kernel, kernel)
        return F.conv2d(x, w, self(name + ".bias", out) if bias else None, padding=kernel // 2 if pad is None else pad)

    def norm(self, x, name, groups, eps):
        c = x.shape[1]
        return F.group_norm(x, groups, self(name + ".weight", c), self(name + ".bias", c), eps)

    def attend(self, q, k, v, heads):
        """(B,N,C)"""
        split = lambda x: x.unflatten(-1, (heads, -1)).transpose(1, 2)
        return F.scaled_dot_product_attention(split(q), split(k), split(v)).transpose(1, 2).flatten(2)


def projections(name, gradient):
    """A parameter's gradient as two numbers: products with other hashed vectors."""
    return torch.stack([(gradient.flatten() * values(f"{name}/{i}", (gradient.numel(),))).sum() for i in range(2)])


def sinusoid(t, width, shift, cosine_first=False):
    half = width // 2
    w = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float64) / (half - shift)).float().double()
    both = [torch.sin(t[:, None] * w), torch.cos(t[:, None] * w)]
    return torch.cat(both[::-1] if cosine_first else both, 1)


def fourier(t, w):
    angle = 2 * math.pi * t[:, None] * w
    return torch.cat([angle.sin(), angle.cos()], 1)


def emit(name, config, fn, sample, timestep, labels=None, gradients=False):
    """fn(sample NCHW, timestep, labels) -> (result, parameters)"""
    metadata[name] = json.dumps(config)
    x = sample.permute(0, 3, 1, 2).contiguous().requires_grad_()
    t = timestep.clone().requires_grad_()
    y, p = fn(x, t, labels)
    store = {"sample": sample, "timestep": timestep, "y": y.permute(0, 2, 3, 1)}
    if labels is not None:
        store["class_labels"] = labels
    if gradients:
        dy = normal(*y.shape)
        names = sorted(p)
        grads = torch.autograd.grad((y * dy).sum(), [x, t, *(p[n] for n in names)], allow_unused=True)
        store["dy"] = dy.permute(0, 2, 3, 1)
        store["dsample"] = grads[0].permute(0, 2, 3, 1)
        if grads[1] is not None:
            store["dtimestep"] = grads[1]
        store.update({"d." + n: projections(n, g) for n, g in zip(names, grads[2:]) if g is not None})
    for key, value in store.items():
        array = value.detach().numpy()
        tensors[f"{name}.{key}"] = np.ascontiguousarray(array, dtype=np.int32 if array.dtype.kind == "i" else np.float32)


def normal(*shape, scale=1.0):
    return (scale * torch.randn(*shape, dtype=torch.float64)).float().double()


# --- DiT ---
def dit(name, side=8, labels=(1, 3), gradients=False, legacy=False, **keys):
    config = {"num_attention_heads": 2, "attention_head_dim": 6, "num_layers": 2, "in_channels": 3, "sample_size": 8, "num_embeds_ada_norm": 3,
              **keys}
    model = DiTTransformer2DModel(**config)
    model.load_state_dict({n: values(n, tuple(p.shape)).float() for n, p in model.named_parameters()})
    model.double().eval()
    written = {k: v for k, v in model.config.items() if k != "_use_default_values"}
    if legacy:  # as the published models have it
        written.update(_class_name="Transformer2DModel", cross_attention_dim=None, num_vector_embeds=None, only_cross_attention=False,
                       use_linear_projection=False)
    else:
        written.update(_class_name="DiTTransformer2DModel", _diffusers_version="0.42.1")
    emit(name, written, lambda x, t, c: (model(x, t, c).sample, dict(model.named_parameters())),
         normal(2, side, side, config["in_channels"]), torch.tensor([3.0, 120.0], dtype=torch.float64), torch.tensor(labels), gradients)


dit("dit_plain", gradients=True, num_layers=1)
dit("dit_variance", out_channels=6, legacy=True)
dit("dit_geglu", activation_fn="geglu", attention_bias=False, num_layers=1)
dit("dit_geglu_approximate", activation_fn="geglu-approximate", norm_elementwise_affine=True, norm_eps=1e-3, num_layers=1)
dit("dit_swiglu", activation_fn="swiglu", patch_size=4, upcast_attention=True, num_layers=1)
dit("dit_gelu", activation_fn="gelu", patch_size=1, sample_size=4, side=4, dropout=0.3, num_layers=1)
dit("dit_linear_silu", activation_fn="linear-silu", side=12, num_layers=1)  # another size than it was made for
dit("dit_no_class", num_embeds_ada_norm=0, labels=(0, 0), num_layers=1)


# --- Karras' UNets [Karras22 appendix F.2, Song21 appendix H, Dhariwal21 section 3] ---
def filtered(x, taps, up):
    f = torch.tensor(taps, dtype=torch.float64)
    f = torch.outer(f, f) / f.sum() ** 2
    pad, c = (len(taps) - 1) // 2, x.shape[1]
    if up:
        return F.conv_transpose2d(x, 4 * f.expand(c, 1, -1, -1), stride=2, padding=pad, groups=c)
    return F.conv2d(x, f.expand(c, 1, -1, -1), stride=2, padding=pad, groups=c)


def edm(p, k, x, t, labels):
    song = k["model_type"] == "SongUNet"
    taps = k.get("resample_filter", [1, 1])
    eps, rescale = (1e-6, math.sqrt(0.5)) if song else (1e-5, 1)
    encoder, decoder = k.get("encoder_type", "standard"), k.get("decoder_type", "standard")
    n, mult = k["model_channels"], k["channel_mult"]
    groups = lambda c: min(32, c // 4)

    def resampled(h, way):
        return h if way is None else filtered(h, taps, way == "up")

    def block(h, name, out, way=None, attention=False):
        cin = h.shape[1]
        y = p.conv(resampled(F.silu(p.norm(h, name + ".norm0", groups(cin), eps)), way), name + ".conv0", out, 3)
        e = p.linear(emb, name + ".affine", out if song else 2 * out)[:, :, None, None]
        if song:
            y = F.silu(p.norm(y + e, name + ".norm1", groups(out), eps))
        else:
            scale, shift = e.chunk(2, 1)
            y = F.silu(p.norm(y, name + ".norm1", groups(out), eps) * (scale + 1) + shift)
        y = p.conv(y, name + ".conv1", out, 3)
        h = resampled(h, way)
        if cin != out or (song and way):
            h = p.conv(h, name + ".skip", out, 1)
        h = (h + y) * rescale
        heads = 1 if song else out // 64
        if attention and heads:
            y = p.conv(p.norm(h, name + ".norm2", groups(out), eps), name + ".qkv", 3 * out, 1)
            # an output channel is (head, channel, one of q, k, v)
            q, key, v = y.flatten(2).transpose(1, 2).unflatten(-1, (heads, out // heads, 3)).flatten(2, 3).unbind(-1)
            y = p.attend(q, key, v, heads).transpose(1, 2).unflatten(2, h.shape[2:])
            h = (h + p.conv(y, name + ".proj", out, 1)) * rescale
        return h

    width = n * k.get("channel_mult_noise", 1)
    if k.get("embedding_type", "positional") == "fourier":
        emb = fourier(t, p("map_noise.freqs", width // 2))
    else:
        emb = sinusoid(t, width, 1 if song else 0, cosine_first=not song)
    if song:
        if k["label_dim"]:
            emb = emb + p.linear(labels * math.sqrt(k["label_dim"]), "map_label", width)
        emb = F.silu(p.linear(F.silu(p.linear(emb, "map_layer0", 4 * n)), "map_layer1", 4 * n))
    else:
        emb = p.linear(F.silu(p.linear(emb, "map_layer0", 4 * n)), "map_layer1", 4 * n)
        if k["label_dim"]:
            emb = emb + p.linear(labels, "map_label", 4 * n, bias=False)
        emb = F.silu(emb)

    skips, picture, h = [], x, x
    for level, m in enumerate(mult):
        side = k["img_resolution"] >> level
        at = f"enc.{side}x{side}_"
        if level == 0:
            h = p.conv(h, at + "conv", n if song else n * m, 3)
        else:
            h = block(h, at + "down", h.shape[1], "down")
            if encoder == "skip":
                picture = filtered(picture, taps, False)
                h = h + p.conv(picture, at + "aux_skip", h.shape[1], 1)
            if encoder == "residual":
                w = p(at + "aux_residual.weight", h.shape[1], picture.shape[1], 3, 3)
                extra = (len(taps) - 1) // 2
                y = F.conv2d(picture, w, padding=1 + extra)
                f = torch.tensor(taps, dtype=torch.float64)
                f = (torch.outer(f, f) / f.sum() ** 2).expand(y.shape[1], 1, -1, -1)
                y = F.conv2d(y, f, stride=2, groups=y.shape[1]) + p(at + "aux_residual.bias", h.shape[1])[:, None, None]
                h = picture = (h + y) / math.sqrt(2)
        skips.append(h)
        for i in range(k["num_blocks"]):
            h = block(h, f"{at}block{i}", n * m, attention=side in k["attn_resolutions"])
            skips.append(h)
    picture = None
    for level in reversed(range(len(mult))):
        side = k["img_resolution"] >> level
        at = f"dec.{side}x{side}_"
        if level == len(mult) - 1:
            h = block(block(h, at + "in0", h.shape[1], attention=True), at + "in1", h.shape[1])
        else:
            h = block(h, at + "up", h.shape[1], "up")
        for i in range(k["num_blocks"] + 1):
            here = side in k["attn_resolutions"] and (not song or i == k["num_blocks"])
            h = block(torch.cat([h, skips.pop()], 1), f"{at}block{i}", n * mult[level], attention=here)
        if song and (decoder == "skip" or level == 0):
            y = p.conv(F.silu(p.norm(h, at + "aux_norm", groups(h.shape[1]), 1e-6)), at + "aux_conv", k["out_channels"], 3)
            picture = y if picture is None else y + filtered(picture, taps, True)
    if song:
        return picture
    return p.conv(F.silu(p.norm(h, "out_norm", groups(h.shape[1]), eps)), "out_conv", k["out_channels"], 3)


def edm_case(name, one_hot=False, gradients=False, **keys):
    config = {"model_type": "SongUNet", "img_resolution": 8, "in_channels": 2, "out_channels": 2, "label_dim": 0, "model_channels": 8,
              "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [4], **keys}
    labels, given = None, None
    if config["label_dim"]:  # the second example has no class
        labels = torch.zeros(2, config["label_dim"], dtype=torch.float64)
        labels[0, 1] = 1
        given = labels if one_hot else torch.tensor([1, config["label_dim"]])

    def fn(x, t, _):
        p = Parameters()
        y = edm(p, config, x, t, labels)
        return y, p

    emit(name, {"_class_name": "EDMUNet", **config}, fn, normal(2, 8, 8, config["in_channels"]),
         torch.tensor([-0.75, 0.4], dtype=torch.float64), given, gradients)


edm_case("edm_ddpmpp", gradients=True, attn_resolutions=[8, 4])
edm_case("edm_ncsnpp", embedding_type="fourier", channel_mult_noise=2, encoder_type="residual", resample_filter=[1, 3, 3, 1], label_dim=3)
edm_case("edm_skips", encoder_type="skip", decoder_type="skip", resample_filter=[1, 3, 3, 1], channel_mult=[1, 1, 2], label_dim=3,
         one_hot=True, in_channels=3, out_channels=1)
edm_case("edm_residual_box", encoder_type="residual", decoder_type="skip", channel_mult=[2, 1], num_blocks=2, attn_resolutions=[])
edm_case("edm_adm", model_type="DhariwalUNet", model_channels=32, channel_mult=[1, 4], attn_resolutions=[8, 4], label_dim=3, out_channels=4)
edm_case("edm_adm_small", model_type="DhariwalUNet", channel_mult=[2, 3], num_blocks=2, label_dim=2, one_hot=True, gradients=True)


# --- VDM's UNet [Kingma21 appendix B] ---
def vdm(p, k, x, t, labels):
    n, g, eps = k["channels"], k["norm_num_groups"], k["norm_eps"]
    heads = n // k["attention_head_dim"] if k["attention_head_dim"] else 1
    t = (k["logsnr_max"] - t) / (k["logsnr_max"] - k["logsnr_min"])
    e = p.linear(F.silu(p.linear(sinusoid(1000 * t, n, 1), "time_embedding.linear_1", 4 * n)), "time_embedding.linear_2", 4 * n)
    if labels is not None:
        e = e + p("class_embedding.weight", k["num_class_embeds"] + 1, 4 * n)[labels]

    def resnet(h, name):
        y = p.conv(F.silu(p.norm(h, name + ".norm1", g, eps)), name + ".conv1", n, 3)
        y = y + p.linear(F.silu(e), name + ".time_emb_proj", n)[:, :, None, None]
        y = p.conv(F.silu(p.norm(y, name + ".norm2", g, eps)), name + ".conv2", n, 3)
        return y + (h if h.shape[1] == n else p.conv(h, name + ".conv_shortcut", n, 1))

    def attention(h, name):
        y = p.norm(h, name + ".group_norm", g, eps).flatten(2).transpose(1, 2)
        y = p.attend(*(p.linear(y, f"{name}.to_{c}", n) for c in "qkv"), heads)
        return h + p.linear(y, name + ".to_out.0", n).transpose(1, 2).unflatten(2, h.shape[2:])

    def layer(h, name):
        h = resnet(h, name + ".resnets.0")
        return attention(h, name + ".attentions.0") if k["attention"] else h

    w = math.pi * 2.0 ** torch.tensor(k["fourier"], dtype=torch.float64)
    angle = (x[:, :, None] * w[:, None, None]).flatten(1, 2)
    h = p.conv(torch.cat([x, angle.sin(), angle.cos()], 1), "conv_in", n, 3)
    skips = [h]
    for i in range(k["layers"]):
        h = layer(h, f"down_blocks.{i}")
        skips.append(h)
    h = resnet(attention(resnet(h, "mid_block.resnets.0"), "mid_block.attentions.0"), "mid_block.resnets.1")
    for i in range(k["layers"] + 1):
        h = layer(torch.cat([h, skips.pop()], 1), f"up_blocks.{i}")
    y = p.conv(F.silu(p.norm(h, "conv_norm_out", g, eps)), "conv_out", k["out_channels"], 3)
    return y + x[:, : k["out_channels"]] if k["add_input"] else y


def vdm_case(name, labels=None, scale=1.0, gradients=False, **keys):
    config = {"in_channels": 2, "out_channels": 2, "channels": 8, "layers": 2, "dropout": 0.1, "attention": False, "attention_head_dim": 0,
              "fourier": [7, 8], "norm_num_groups": 4, "norm_eps": 1e-6, "num_class_embeds": 0, "logsnr_min": -5, "logsnr_max": 13.5,
              "add_input": True, **keys}

    def fn(x, t, c):
        p = Parameters()
        y = vdm(p, config, x, t, c)
        return y, p

    emit(name, {"_class_name": "VDMUNet", **config}, fn, normal(2, 4, 6, config["in_channels"], scale=scale),
         torch.tensor([13.0, 11.25], dtype=torch.float64), None if labels is None else torch.tensor(labels), gradients)


vdm_case("vdm_plain", fourier=[0, 1], gradients=True)
vdm_case("vdm_fine", scale=1 / 16)
vdm_case("vdm_attention", attention=True, attention_head_dim=4, fourier=[], num_class_embeds=3, labels=[2, 3], layers=1, norm_eps=1e-3)
vdm_case("vdm_channels", in_channels=3, out_channels=1, fourier=[2], norm_num_groups=8, logsnr_min=-10, layers=1)
vdm_case("vdm_no_base", out_channels=4, add_input=False, fourier=[1], layers=1)


# --- vectors ---
def mlp(p, k, x, t, labels):
    n, g = k["width"], k["norm_num_groups"]
    norm = lambda h, name: p.norm(h, name, g, 1e-5) if g else h
    t = t * k["time_scale"]
    e = fourier(t, p("time_proj.weight", k["time_width"] // 2)) if k["time_embedding"] == "fourier" else sinusoid(t, k["time_width"], 1)
    e = p.linear(F.silu(p.linear(e, "time_embedding.linear_1", 4 * n)), "time_embedding.linear_2", 4 * n)
    if k["num_class_embeds"]:
        e = e + p("class_embedding.weight", k["num_class_embeds"] + 1, 4 * n)[labels]
    if k["condition_dim"]:
        e = e + p.linear(labels, "class_embedding", 4 * n)
    h = p.linear(x[:, :, 0, 0], "proj_in", n)[:, :, None, None]
    for i in range(k["layers"]):
        at = f"blocks.{i}"
        y = p.conv(F.silu(norm(h, at + ".norm1")), at + ".conv1", n, 1) + p.linear(F.silu(e), at + ".time_emb_proj", n)[:, :, None, None]
        h = h + p.conv(F.silu(norm(y, at + ".norm2")), at + ".conv2", n, 1)
    return p.linear(F.silu(norm(h, "norm_out"))[:, :, 0, 0], "proj_out", k["out_channels"])[:, :, None, None]


def mlp_case(name, labels=None, gradients=False, **keys):
    config = {"in_channels": 2, "out_channels": 2, "width": 16, "layers": 2, "dropout": 0, "norm_num_groups": 0, "time_embedding": "sinusoidal",
              "time_width": 8, "time_scale": 1, "fourier_scale": 16, "num_class_embeds": 0, "condition_dim": 0, **keys}

    def fn(x, t, c):
        p = Parameters()
        y = mlp(p, config, x, t, c)
        return y, p

    emit(name, {"_class_name": "MLPDenoiser", **config}, fn, normal(3, 1, 1, config["in_channels"]),
         torch.tensor([0.25, -3, 7.5], dtype=torch.float64), labels, gradients)


mlp_case("mlp_plain", gradients=True)
mlp_case("mlp_class", num_class_embeds=3, labels=torch.tensor([0, 3, 2]), time_embedding="fourier", norm_num_groups=4, out_channels=4)
mlp_case("mlp_vector", condition_dim=5, labels=normal(3, 5), time_scale=0.25, layers=1)

# --- the file ---
header, offset = {"__metadata__": metadata}, 0
for name in sorted(tensors):
    size = tensors[name].nbytes
    header[name] = {"dtype": "I32" if tensors[name].dtype == np.int32 else "F32", "shape": list(tensors[name].shape),
                    "data_offsets": [offset, offset + size]}
    offset += size
text = json.dumps(header, separators=(",", ":")).encode()
text += b" " * (-len(text) % 8)
path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "denoisers.safetensors")
with open(path, "wb") as file:
    file.write(struct.pack("<Q", len(text)) + text + b"".join(tensors[name].tobytes() for name in sorted(tensors)))
print(f"{path}: {len(tensors)} tensors, {os.path.getsize(path)} bytes")
