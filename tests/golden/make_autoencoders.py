#!/usr/bin/env python3
"""Writes autoencoders.safetensors and autoencoders/: what diffusers' AutoencoderKL, VQModel and AutoencoderTiny compute.

    python3 tests/golden/make_autoencoders.py        # needs torch and diffusers 0.42

autoencoders.safetensors is as make_unet.py tells: "CASE.config" and "CASE.names" in the metadata, weights from the names of parameters,
computed in float64, stored in float32, N,H,W,C. A case has pictures "x" with what the encoder makes of them ("mean" and "logvar", or
"latents"), codes "z" and their "sample". With gradients: "dmean", "dlogvar" and "dsample" are random weights, "d.NAME" and "d.x", "d.z" the
gradients of the weighted sum; of a VQModel of the weighted sum of decode(encode(x)) plus its commitment loss, which is "loss", and "index" is
the row of the table at each place.

autoencoders/ has folders as diffusers saves them ("kl", "vq", "tiny", "pipeline/vae"), and pairs of .pth files in the layout of the public
tiny autoencoders ("pair", "pair_pooled"); autoencoders/expected.safetensors what they compute in float32, N,H,W,C."""

import os
import shutil

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, VQModel
from make_unet import File, nhwc, normal, weight
from safetensors.torch import save_file

here = os.path.dirname(os.path.abspath(__file__))
torch.manual_seed(0)
torch.set_num_threads(1)


def kl(**more):
    return {"block_out_channels": (8, 16), "down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2,
            "norm_num_groups": 4, "latent_channels": 2, "sample_size": 8, **more}


class Cases(File):
    def __init__(self):
        super().__init__()
        self.metadata["made_by"] = "tests/golden/make_autoencoders.py"

    def autoencoder(self, name, cls, config, size=(8, 8), code=(4, 4), gradient=False):
        model = cls(**config).double().eval()
        for key, value in model.state_dict().items():
            value.copy_(weight(key, tuple(value.shape)))
        channels = model.config.get("vq_embed_dim") or model.config.latent_channels
        x = normal(2, model.config.in_channels, *size).requires_grad_(gradient)
        z = normal(2, channels, *code).requires_grad_(gradient)
        self.put(f"{name}.x", nhwc(x))
        self.put(f"{name}.z", nhwc(z))
        y = model.decode(z).sample
        self.put(f"{name}.sample", nhwc(y))
        if cls is AutoencoderKL:
            posterior = model.encode(x).latent_dist
            self.put(f"{name}.mean", nhwc(posterior.mean))
            self.put(f"{name}.logvar", nhwc(posterior.logvar))
        else:
            latents = model.encode(x).latents
            self.put(f"{name}.latents", nhwc(latents))
        total = None
        if gradient and cls is VQModel:
            codes, loss, (_, _, index) = model.quantize(latents)
            distance = torch.cdist(latents.permute(0, 2, 3, 1).reshape(-1, channels), model.quantize.embedding.weight).sort(1).values
            assert (distance[:, 1] - distance[:, 0]).min() > 1e-3, "a place is too near the border between two rows"
            y = model.decoder(model.post_quant_conv(codes))
            dy = normal(*y.shape)
            self.put(f"{name}.dsample", nhwc(dy))
            self.put(f"{name}.loss", loss)
            self.put(f"{name}.index", index.double())
            total = (y * dy).sum() + loss
            z = None
        elif gradient:
            weights = {"sample": (y, normal(*y.shape))}
            if cls is AutoencoderKL:
                weights["mean"] = (posterior.mean, normal(*posterior.mean.shape))
                weights["logvar"] = (posterior.logvar, normal(*posterior.mean.shape))
            else:
                weights["latents"] = (latents, normal(*latents.shape))
            total = sum((value * d).sum() for value, d in weights.values())
            for key, (_, d) in weights.items():
                self.put(f"{name}.d{key}", nhwc(d))
        if gradient:
            total.backward()
            self.put(f"{name}.d.x", nhwc(x.grad))
            if z is not None:
                self.put(f"{name}.d.z", nhwc(z.grad))
            for key, value in model.named_parameters():
                self.put(f"{name}.d.{key}", value.grad)
        self.metadata[f"{name}.config"] = model.to_json_string()
        self.metadata[f"{name}.names"] = "".join(f"{key} {'x'.join(map(str, value.shape))}\n" for key, value in sorted(model.state_dict().items()))
        print(f"{name}: {sum(p.numel() for p in model.parameters())} parameters, |sample| up to {y.abs().max().item():.3g}")


f = Cases()
f.autoencoder("kl", AutoencoderKL, kl(block_out_channels=(4, 8), norm_num_groups=2), gradient=True)
f.autoencoder("kl_three", AutoencoderKL, kl(block_out_channels=(4, 4, 8), norm_num_groups=2, layers_per_block=2, down_block_types=("DownEncoderBlock2D",) * 3,
              up_block_types=("UpDecoderBlock2D",) * 3, in_channels=1, out_channels=2, act_fn="gelu", sample_size=(12, 8)), size=(12, 9), code=(3, 2))
f.autoencoder("kl_attention", AutoencoderKL, kl(down_block_types=("AttnDownEncoderBlock2D", "DownEncoderBlock2D"), mid_block_add_attention=False,
              up_block_types=("UpDecoderBlock2D", "AttnUpDecoderBlock2D"), act_fn="mish", shift_factor=0.1, latents_mean=(0.5, -1.0), latents_std=(2.0, 3.0)))
f.autoencoder("kl_bare", AutoencoderKL, kl(use_quant_conv=False, use_post_quant_conv=False, act_fn="relu", force_upcast=False, scaling_factor=0.3611))
f.autoencoder("kl_one_level", AutoencoderKL, {"block_out_channels": (8,), "norm_num_groups": 8}, size=(5, 3), code=(5, 3))
f.autoencoder("vq", VQModel, kl(block_out_channels=(4, 8), norm_num_groups=2, num_vq_embeddings=7, vq_embed_dim=3), gradient=True)
f.autoencoder("vq_plain", VQModel, kl(num_vq_embeddings=40, lookup_from_codebook=True, latent_channels=3, mid_block_add_attention=False))
tiny = {"encoder_block_out_channels": (6,) * 3, "decoder_block_out_channels": (5,) * 3, "num_encoder_blocks": (1, 2, 1), "num_decoder_blocks": (2, 1, 0)}
f.autoencoder("tiny", AutoencoderTiny, tiny, code=(2, 2), gradient=True)
f.autoencoder("tiny_odd", AutoencoderTiny, {**tiny, "act_fn": "silu", "latent_channels": 3, "in_channels": 1, "out_channels": 2, "upsampling_scaling_factor": 3},
              size=(7, 9), code=(2, 3))
f.write("autoencoders.safetensors")

# --- folders and pairs of files ---

folder = os.path.join(here, "autoencoders")
shutil.rmtree(folder, ignore_errors=True)
expected = {}


def lively(model):
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model.eval()


@torch.no_grad()
def record(name, model, decode, encode, channels, code=(4, 4), size=(8, 8)):
    x, z = torch.rand(3, 3, *size) * 2 - 1, torch.randn(3, channels, *code)
    values = {"x": x, "z": z, "sample": decode(z), **encode(x)}
    for key, value in values.items():
        expected[f"{name}.{key}"] = nhwc(value).contiguous()


def moments(model):
    return lambda x: {"mean": model.encode(x).latent_dist.mean, "logvar": model.encode(x).latent_dist.logvar}


for name, model in {"kl": AutoencoderKL(**kl(block_out_channels=(4, 8))), "vq": VQModel(**kl(block_out_channels=(4, 8), latent_channels=3, num_vq_embeddings=9)),
                    "tiny": AutoencoderTiny(**tiny)}.items():
    lively(model).save_pretrained(os.path.join(folder, name))
    encode = moments(model) if name == "kl" else lambda x, model=model: {"latents": model.encode(x).latents}
    record(name, model, lambda z, model=model: model.decode(z).sample, encode, model.config.latent_channels, code=(2, 2) if name == "tiny" else (4, 4))


def conv(n_in, n_out, **kwargs):
    return torch.nn.Conv2d(n_in, n_out, 3, padding=1, **kwargs)


class Clamp(torch.nn.Module):
    def forward(self, x):
        return torch.tanh(x / 3) * 3


class Block(torch.nn.Module):
    """Three convolutions and a sum; pooled: behind a branch whose norm sees the whole map."""

    def __init__(self, n, pooled=False):
        super().__init__()
        relu = torch.nn.ReLU
        self.conv = torch.nn.Sequential(conv(n, n), relu(), conv(n, n), relu(), conv(n, n))
        self.pool = None
        if pooled:
            self.pool = torch.nn.Sequential(torch.nn.Conv2d(n, 4 * n, 1, bias=False), torch.nn.GroupNorm(4, 4 * n), relu(), torch.nn.Conv2d(4 * n, n, 1, bias=False))

    def forward(self, x):
        if self.pool is not None:
            x = x + self.pool(x)
        return (self.conv(x) + x).relu()


def pair(n, channels, pooled):
    def blocks(count, pooled=False):
        return [Block(n, pooled) for _ in range(count)]

    def down():
        return conv(n, n, stride=2, bias=False)

    def up():
        return [torch.nn.Upsample(scale_factor=2), conv(n, n, bias=False)]

    encoder = torch.nn.Sequential(conv(3, n), *blocks(1), down(), *blocks(3), down(), *blocks(3), down(), *blocks(3, pooled), conv(n, channels))
    decoder = torch.nn.Sequential(Clamp(), conv(channels, n), torch.nn.ReLU(), *blocks(3, pooled), *up(), *blocks(3), *up(), *blocks(3), *up(), *blocks(1),
                                  conv(n, 3))
    return lively(encoder), lively(decoder)


for name, pooled in ("pair", False), ("pair_pooled", True):
    encoder, decoder = pair(4, 5, pooled)
    os.makedirs(os.path.join(folder, name))
    torch.save(encoder.state_dict(), os.path.join(folder, name, "encoder.pth"))
    torch.save(decoder.state_dict(), os.path.join(folder, name, "decoder.pth"))
    # -1..1 as diffusers' class has it; the originals are for 0..1
    record(name, None, lambda z: decoder(z) * 2 - 1, lambda x: {"latents": encoder(x / 2 + 0.5)}, 5, code=(2, 1), size=(16, 8))
save_file(expected, os.path.join(folder, "expected.safetensors"))
