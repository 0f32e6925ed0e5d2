#!/usr/bin/env python3
"""Writes tests/golden/layouts/: tiny UNets of diffusers under the names of other code, and under diffusers' own.

stable.ckpt: a Stable Diffusion checkpoint ("state_dict", "model.diffusion_model.", a stray first_stage_model tensor). Its names are those that
diffusers' convert_ldm_unet_checkpoint turns into UNet2DConditionModel's.
guided.pth: guided diffusion, class-conditional, with residual blocks for resampling and two attention heads, whose qkv rows go head by head;
guided_kind.pth: the same with the rows by kind. That the rows are what guided diffusion computes with is checked here.
ddpm.pth: the PyTorch port of DDPM. deprecated.bin: diffusers before 0.12.
NAME.safetensors: the same weights under diffusers' names. shards/: stable.safetensors in diffusers' shards.
Run with a Python that has torch and diffusers:  python tests/golden/make_layouts.py
"""
import math
import pathlib

import safetensors.torch
import torch
from diffusers import UNet2DConditionModel, UNet2DModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

HERE = pathlib.Path(__file__).with_name("layouts")
RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0", "conv2": "out_layers.3",
          "conv_shortcut": "skip_connection"}
TOP = {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2", "class_embedding": "label_emb",
       "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2"}


def randomise(model):
    g = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=g).half().float())
    return model


def half(state):
    return {k: v.half().contiguous() for k, v in state.items()}


def to_blocks(name, layers, attention_below):
    """The name in the input_blocks layout of one of diffusers'."""
    stem, kind = name.rsplit(".", 1)
    if stem in TOP:
        return f"{TOP[stem]}.{kind}"
    parts = stem.split(".")
    if parts[0] == "mid_block":
        place = {"resnets.0": "0", "attentions.0": "1", "resnets.1": "2"}[".".join(parts[1:3])]
        return f"middle_block.{place}.{RESNET.get(parts[3], '.'.join(parts[3:]))}.{kind}"
    level, what, index, rest = int(parts[1]), parts[2], int(parts[3]), ".".join(parts[4:])
    if parts[0] == "down_blocks":
        block = 1 + level * (layers + 1) + (layers if what == "downsamplers" else index)
        place = 1 if what == "attentions" else 0
        rest = "op" if what == "downsamplers" and rest == "conv" else rest
    else:
        block = level * (layers + 1) + (layers if what == "upsamplers" else index)
        place = {"resnets": 0, "attentions": 1}.get(what, 2 if attention_below(level) else 1)
    if what != "attentions":
        rest = RESNET.get(rest, rest)
    return f"{'input' if parts[0] == 'down_blocks' else 'output'}_blocks.{block}.{place}.{rest}.{kind}"


def stable():
    model = randomise(UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(4, 8), layers_per_block=2, norm_num_groups=2,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), cross_attention_dim=4, attention_head_dim=2))
    state = half(model.state_dict())
    names = {to_blocks(name, 2, lambda level: level > 0): name for name in state}
    labels = {"model.diffusion_model." + old: torch.tensor([i]) for i, old in enumerate(names)}
    converted = convert_ldm_unet_checkpoint(labels, dict(model.config))
    assert {new: list(names)[int(v)] for new, v in converted.items()} == {new: old for old, new in names.items()}
    original = {"model.diffusion_model." + old: state[new] for old, new in names.items()}
    original["first_stage_model.encoder.conv_in.bias"] = torch.zeros(2)
    torch.save({"global_step": 7, "state_dict": original}, HERE / "stable.ckpt")
    safetensors.torch.save_file(state, HERE / "stable.safetensors")
    model.half().save_pretrained(HERE / "shards", max_shard_size="20KB")


def check_rows(attention, weight, bias, heads):
    """guided diffusion's QKVAttentionLegacy on rows in its order gives what diffusers' layer gives."""
    c = weight.shape[1]
    x = torch.randn(2, c, 5, generator=torch.Generator().manual_seed(1))
    qkv = torch.nn.functional.conv1d(x, weight[:, :, None], bias)
    depth = c // heads
    q, k, v = qkv.reshape(2 * heads, 3 * depth, 5).split(depth, dim=1)
    scale = 1 / math.sqrt(math.sqrt(depth))
    mixed = torch.einsum("bts,bcs->bct", torch.softmax(torch.einsum("bct,bcs->bts", q * scale, k * scale), -1), v).reshape(2, c, 5)
    tokens = x.transpose(1, 2)
    a, b, d = (layer(tokens).reshape(2, 5, heads, depth).transpose(1, 2) for layer in (attention.to_q, attention.to_k, attention.to_v))
    other = torch.nn.functional.scaled_dot_product_attention(a, b, d).transpose(1, 2).reshape(2, 5, c).transpose(1, 2)
    assert torch.allclose(mixed, other, atol=1e-4), (mixed - other).abs().max()


def guided():
    model = randomise(UNet2DModel(
        sample_size=8, in_channels=3, out_channels=6, block_out_channels=(4, 8), layers_per_block=1, norm_num_groups=2, attention_head_dim=4,
        down_block_types=("ResnetDownsampleBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "ResnetUpsampleBlock2D"),
        downsample_type="resnet", upsample_type="resnet", num_class_embeds=5, resnet_time_scale_shift="scale_shift"))
    state, heads = model.state_dict(), 2
    check = model.mid_block.attentions[0]
    for by_kind in (False, True):
        original = {}
        for name, value in state.items():
            if ".attentions." not in name:
                original[to_blocks(name, 1, lambda level: level == 0)] = value
                continue
            layer, part = name.split(".attentions.")[0], name.split(".", 4 if not name.startswith("mid") else 3)[-1]
            prefix = to_blocks(name[: -len(part)] + "norm.weight", 1, lambda level: level == 0)[: -len("norm.weight")]
            if part.startswith("group_norm"):
                original[prefix + part.replace("group_norm", "norm")] = value
            elif part.startswith("to_out.0"):
                original[prefix + part.replace("to_out.0", "proj_out")] = value[..., None] if value.dim() == 2 else value
            elif part.startswith("to_q"):
                three = [state[name.replace("to_q", w)] for w in ("to_q", "to_k", "to_v")]
                c = three[0].shape[0]
                if by_kind:
                    rows = torch.cat(three)
                else:
                    rows = torch.stack([t.reshape(heads if c == 8 else 1, -1, *t.shape[1:]) for t in three], 1).reshape(3 * c, *value.shape[1:])
                    if name == "mid_block.attentions.0.to_q.bias":
                        check_rows(check, torch.stack([w.reshape(heads, -1, c) for w in (check.to_q.weight, check.to_k.weight, check.to_v.weight)],
                                                      1).reshape(3 * c, c), rows, heads)
                original[prefix + part.replace("to_q", "qkv")] = rows[..., None] if rows.dim() == 2 else rows
        torch.save(half(original), HERE / ("guided_kind.pth" if by_kind else "guided.pth"))
    safetensors.torch.save_file(half(state), HERE / "guided.safetensors")


def ddpm():
    model = randomise(UNet2DModel(
        sample_size=8, in_channels=3, out_channels=3, block_out_channels=(4, 8), layers_per_block=1, norm_num_groups=2, attention_head_dim=None,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"), flip_sin_to_cos=False,
        freq_shift=1, downsample_padding=0))
    state, original = half(model.state_dict()), {}
    words = {"resnets": "block", "attentions": "attn", "group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "time_emb_proj": "temb_proj",
             "conv_shortcut": "nin_shortcut"}
    for name, value in state.items():
        new = name.replace("time_embedding.linear_1", "temb.dense.0").replace("time_embedding.linear_2", "temb.dense.1")
        new = new.replace("conv_norm_out", "norm_out").replace("downsamplers.0", "downsample").replace("upsamplers.0", "upsample")
        if ".attentions." in name:
            new = new.replace("to_out.0", "proj_out")
            value = value[:, :, None, None] if value.dim() == 2 else value
        new = ".".join(words.get(part, part) for part in new.split("."))
        new = new.replace("mid_block.block.0", "mid.block_1").replace("mid_block.block.1", "mid.block_2").replace("mid_block.attn.0", "mid.attn_1")
        new = new.replace("down_blocks.", "down.").replace("up_blocks.0", "up.?").replace("up_blocks.1", "up.0").replace("up.?", "up.1")
        original[new] = value
    torch.save(original, HERE / "ddpm.pth")
    safetensors.torch.save_file(state, HERE / "ddpm.safetensors")
    old = {}
    for name, value in state.items():
        for new_part, old_part in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
            name = name.replace("." + new_part + ".", "." + old_part + ".")
        old[name] = value
    torch.save(old, HERE / "deprecated.bin")


def main():
    HERE.mkdir(exist_ok=True)
    stable()
    guided()
    ddpm()
    for path in sorted(HERE.rglob("*")):
        if path.is_file():
            print(path.relative_to(HERE), path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
