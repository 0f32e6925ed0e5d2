#!/usr/bin/env python3
"""Writes unet_2d.safetensors and unet_condition.safetensors: what diffusers' UNet2DModel and UNet2DConditionModel compute.

    python3 tests/golden/make_unet.py        # needs torch and diffusers 0.42

For each case: its config.json ("CASE.config" in the file's metadata), the names and shapes of its parameters ("CASE.names"), its inputs
("CASE.sample", "CASE.timestep", "CASE.class_labels", ...), the result "CASE.y", and for some a random "CASE.dy" and the gradients of
sum(y dy) to all parameters ("CASE.d.NAME") and to the sample. Weights are not stored: both sides make them from the parameter's name
(`weight` here, fill_weights in tests/nn/test_unet.c). Computed in float64, stored in float32; pictures are stored N,H,W,C.

With an argument "count" it prints the parameter counts that the test holds for networks of published sizes."""

import json
import os
import struct
import sys

import numpy as np
import torch
from diffusers import UNet2DConditionModel, UNet2DModel

torch.manual_seed(0)
MASK = (1 << 64) - 1


def uniform(name, count):
    """count numbers in [-1,1): SplitMix64 from the FNV-1a hash of the name."""
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = ((h ^ byte) * 0x100000001B3) & MASK
    with np.errstate(over="ignore"):
        z = np.uint64(h) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1


def weight(name, shape):
    u = uniform(name, int(np.prod(shape)))
    if len(shape) > 1:
        u = u * 1.5 / np.sqrt(np.prod(shape[1:]))
    else:
        u = 1 + 0.2 * u if name.endswith("weight") else 0.2 * u
    return torch.from_numpy(u.astype(np.float32).astype(np.float64).reshape(shape))


def normal(*shape):
    return torch.randn(*shape, dtype=torch.float64).float().double()


def nhwc(x):
    return x.permute(0, 2, 3, 1)


class File:
    def __init__(self):
        self.tensors, self.metadata = {}, {"made_by": "tests/golden/make_unet.py"}

    def put(self, name, value):
        array = value.detach().numpy()
        self.tensors[name] = np.ascontiguousarray(array, dtype=np.int32 if array.dtype.kind == "i" else np.float32)

    def case(self, name, cls, config, size=(8, 8), time=(3.0, 721.0), gradient=False, **inputs):
        model = cls(**config).double().eval()
        for key, value in model.state_dict().items():
            value.copy_(weight(key, tuple(value.shape)))
        if config.get("class_embed_type") == "timestep":  # diffusers makes sinusoids in float32 and forgets to cast these
            model.class_embedding.register_forward_pre_hook(lambda _, args: (args[0].double(), *args[1:]))
        sample = normal(len(time), model.config.in_channels, *size).requires_grad_(gradient)
        timestep = torch.tensor(time, dtype=torch.float64)
        if config.get("time_embedding_type") == "learned":
            timestep = timestep.long()
        self.put(f"{name}.sample", nhwc(sample))
        self.put(f"{name}.timestep", timestep.double())
        for key, value in inputs.items():
            self.put(f"{name}.{key}", value)
        call = dict(inputs)
        added = {key: call.pop(key) for key in ("text_embeds", "time_ids") if key in call}
        if added:
            call["added_cond_kwargs"] = added
        if cls is UNet2DConditionModel:
            call.setdefault("encoder_hidden_states", None)
        y = model(sample, timestep, **call).sample
        self.put(f"{name}.y", nhwc(y))
        self.metadata[f"{name}.config"] = model.to_json_string()
        self.metadata[f"{name}.names"] = "".join(f"{key} {'x'.join(map(str, value.shape))}\n" for key, value in sorted(model.state_dict().items()))
        if gradient:
            dy = normal(*y.shape)
            self.put(f"{name}.dy", nhwc(dy))
            (y * dy).sum().backward()
            self.put(f"{name}.d.sample", nhwc(sample.grad))
            for key, value in model.named_parameters():
                if value.requires_grad:
                    self.put(f"{name}.d.{key}", value.grad)
        print(f"{name}: {sum(p.numel() for p in model.parameters())} parameters, |y| up to {y.abs().max().item():.3g}")

    def write(self, file_name):
        header, offset = {"__metadata__": self.metadata}, 0
        for name in sorted(self.tensors):
            value = self.tensors[name]
            header[name] = {"dtype": "I32" if value.dtype == np.int32 else "F32", "shape": list(value.shape), "data_offsets": [offset, offset + value.nbytes]}
            offset += value.nbytes
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        path = os.path.join(os.path.dirname(os.path.abspath(__file__)), file_name)
        with open(path, "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text + b"".join(self.tensors[name].tobytes() for name in sorted(self.tensors)))
        print(f"{path}: {len(self.tensors)} tensors, {os.path.getsize(path)} bytes")


def plain(**more):
    return {"sample_size": 8, "block_out_channels": (8, 16), "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
            "up_block_types": ("AttnUpBlock2D", "UpBlock2D"), "norm_num_groups": 4, "layers_per_block": 1, "attention_head_dim": 4, **more}


def unet_2d():
    f, M = File(), UNet2DModel
    f.case("ddpm", M, plain(down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
           block_out_channels=(4, 4, 8), layers_per_block=2, norm_num_groups=2, downsample_padding=0, flip_sin_to_cos=False, freq_shift=1, norm_eps=1e-6,
           attention_head_dim=None, in_channels=1, out_channels=1), gradient=True)
    f.case("adm", M, plain(down_block_types=("ResnetDownsampleBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "ResnetUpsampleBlock2D"),
           block_out_channels=(4, 8), norm_num_groups=2, downsample_type="resnet", upsample_type="resnet", resnet_time_scale_shift="scale_shift",
           num_class_embeds=5, out_channels=6, dropout=0.3), gradient=True, class_labels=torch.tensor([4, 0]))
    f.case("adm_inner_attention", M, plain(down_block_types=("AttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "AttnUpBlock2D"),
           downsample_type="resnet", upsample_type="resnet", layers_per_block=2))
    f.case("centered", M, plain(center_input_sample=True, class_embed_type="timestep", attn_norm_num_groups=8, mid_block_scale_factor=2**0.5, act_fn="gelu",
           resnet_time_scale_shift="scale_shift"), class_labels=torch.tensor([12.0, 3.5], dtype=torch.float64))
    f.case("bare_middle", M, plain(add_attention=False, class_embed_type="identity", act_fn="mish", time_embedding_dim=12), class_labels=normal(2, 12))
    f.case("no_middle", M, plain(mid_block_type=None, time_embedding_type="fourier", act_fn="relu"), time=(0.7, 5.3))
    f.case("learned_time", M, plain(sample_size=(8, 4), time_embedding_type="learned", num_train_timesteps=20, attention_head_dim=3), size=(8, 4), time=(0, 19))
    f.case("fourier_label", M, plain(time_embedding_type="fourier", class_embed_type="timestep"), time=(0.5, 2.0),
           class_labels=torch.tensor([1.5, 3.0], dtype=torch.float64))
    f.case("score_sde", M, plain(down_block_types=("SkipDownBlock2D", "AttnSkipDownBlock2D", "SkipDownBlock2D"), block_out_channels=(32, 32, 32),
           up_block_types=("SkipUpBlock2D", "AttnSkipUpBlock2D", "SkipUpBlock2D"), time_embedding_type="fourier", attention_head_dim=8, norm_num_groups=None),
           time=(0.3, 11.0))
    f.case("score_sde_inner", M, plain(down_block_types=("SkipDownBlock2D", "DownBlock2D"), block_out_channels=(32, 32), up_block_types=("UpBlock2D", "AttnSkipUpBlock2D"),
           norm_num_groups=8), size=(4, 4))
    f.case("one_level", M, plain(down_block_types=("AttnDownBlock2D",), up_block_types=("AttnUpBlock2D",), block_out_channels=(8,)), size=(3, 5))
    f.case("old_names", M, plain(down_block_types=("UNetResDownBlock2D", "UNetResAttnDownBlock2D"), up_block_types=("UNetResAttnUpBlock2D", "UNetResUpBlock2D"),
           block_out_channels=(9, 12), norm_num_groups=3, time_embedding_dim=10))
    f.write("unet_2d.safetensors")


def latent(**more):
    return {"sample_size": 8, "block_out_channels": (8, 16), "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "norm_num_groups": 4,
            "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"), "layers_per_block": 1, "attention_head_dim": 2, "cross_attention_dim": 6, **more}


def simple(**more):
    return latent(down_block_types=("SimpleCrossAttnDownBlock2D", "ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"), block_out_channels=(8, 8, 16),
                  up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D", "SimpleCrossAttnUpBlock2D"),
                  mid_block_type="UNetMidBlock2DSimpleCrossAttn", **more)


def unet_condition():
    f, C = File(), UNet2DConditionModel
    text = lambda n=5, d=6: normal(2, n, d)
    f.case("sd1", C, latent(block_out_channels=(4, 8), norm_num_groups=2), gradient=True, encoder_hidden_states=text())
    three = {"down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"), "block_out_channels": (8, 8, 16),
             "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D")}
    f.case("sd2", C, latent(**three, use_linear_projection=True, attention_head_dim=(1, 2, 4), upcast_attention=True, only_cross_attention=(True, False, False),
           dropout=0.1), encoder_hidden_states=text())
    f.case("sdxl", C, latent(down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
           transformer_layers_per_block=(1, 2), use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=4,
           projection_class_embeddings_input_dim=19), encoder_hidden_states=text(), text_embeds=normal(2, 7), time_ids=torch.tensor([[64.0, 32, 0], [5, 7, 900]],
           dtype=torch.float64))
    f.case("nested_depths", C, latent(transformer_layers_per_block=[[2, 0], 1], reverse_transformer_layers_per_block=[1, [1, 2, 0]], layers_per_block=2,
           mid_block_type="UNetMidBlock2D"), encoder_hidden_states=text())
    f.case("deepfloyd", C, simple(encoder_hid_dim=10, addition_embed_type="text", addition_embed_type_num_heads=2, cross_attention_norm="group_norm",
           resnet_skip_time_act=True, resnet_out_scale_factor=2**0.5, mid_block_scale_factor=2**0.5, time_embedding_act_fn="gelu", act_fn="gelu",
           class_embed_type="timestep", resnet_time_scale_shift="scale_shift", only_cross_attention=(False, True, True), mid_block_only_cross_attention=True,
           attention_head_dim=(2, 4, 8), in_channels=6, out_channels=6) | {"cross_attention_dim": 32}, encoder_hidden_states=text(4, 10),
           class_labels=torch.tensor([0.0, 40.0], dtype=torch.float64))
    f.case("context_only", C, simple(only_cross_attention=True, cross_attention_norm="layer_norm") | {"cross_attention_dim": 8, "block_out_channels": (8, 8, 8)},
           encoder_hidden_states=text(3, 8))
    f.case("projection", C, latent(class_embed_type="projection", projection_class_embeddings_input_dim=5, class_embeddings_concat=True, timestep_post_act="silu",
           time_cond_proj_dim=3, conv_in_kernel=1, conv_out_kernel=5), encoder_hidden_states=text(), class_labels=normal(2, 5), timestep_cond=normal(2, 3))
    f.case("simple_projection", C, latent(class_embed_type="simple_projection", projection_class_embeddings_input_dim=5, time_embedding_type="fourier",
           attention_head_dim=3, layers_per_block=(1, 2), mid_block_type=None, time_cond_proj_dim=3, time_embedding_act_fn="silu", flip_sin_to_cos=False),
           encoder_hidden_states=text(), class_labels=normal(2, 5), time=(0.7, 0.1))
    f.case("odd_sizes", C, latent(**three), size=(7, 5), encoder_hidden_states=text())
    f.case("upscaler", C, latent(num_class_embeds=30, in_channels=7, only_cross_attention=True, freq_shift=1, center_input_sample=True),
           encoder_hidden_states=text(), class_labels=torch.tensor([20, 1]))
    f.case("unconditional", C, latent(down_block_types=("AttnDownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
           attention_head_dim=(2, 8), mid_block_type="UNetMidBlock2D", class_embed_type="identity", act_fn="mish"), class_labels=normal(2, 32))
    f.write("unet_condition.safetensors")


def counts():
    sdxl = dict(block_out_channels=(320, 640, 1280), down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"), cross_attention_dim=2048,
                up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), transformer_layers_per_block=(1, 2, 10), attention_head_dim=(5, 10, 20),
                use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816)
    adm = dict(block_out_channels=(256, 256, 512, 512, 1024, 1024), down_block_types=("ResnetDownsampleBlock2D",) * 3 + ("AttnDownBlock2D",) * 3, out_channels=6,
               up_block_types=("AttnUpBlock2D",) * 3 + ("ResnetUpsampleBlock2D",) * 3, attention_head_dim=64, downsample_type="resnet", upsample_type="resnet",
               resnet_time_scale_shift="scale_shift", num_class_embeds=1000)
    cifar = dict(block_out_channels=(128, 256, 256, 256), down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"), norm_eps=1e-6,
                 up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"), downsample_padding=0, flip_sin_to_cos=False, freq_shift=1,
                 attention_head_dim=None)
    small = dict(block_out_channels=(32, 64, 128), layers_per_block=1, down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"), norm_num_groups=8,
                 up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"), in_channels=1, out_channels=1, attention_head_dim=8)
    networks = {"sd1.5": (UNet2DConditionModel, dict(cross_attention_dim=768)), "sdxl": (UNet2DConditionModel, sdxl), "adm": (UNet2DModel, adm),
                "sd2.1": (UNet2DConditionModel, dict(cross_attention_dim=1024, attention_head_dim=(5, 10, 20, 20), use_linear_projection=True)),
                "ddpm-cifar10": (UNet2DModel, cifar), "ddpm-small": (UNet2DModel, small), "defaults": (UNet2DModel, {}), "condition": (UNet2DConditionModel, {})}
    for name, (cls, config) in networks.items():
        with torch.device("meta"):
            print(name, sum(p.numel() for p in cls(**config).parameters()))


if __name__ == "__main__":
    if sys.argv[1:] == ["count"]:
        counts()
    else:
        unet_2d()
        unet_condition()
