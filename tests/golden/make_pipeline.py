#!/usr/bin/env python3
"""Makes tests/golden/pipelines/ with torch and diffusers: whole pipelines as diffusers saves them (tiny, random weights), and in
pipelines.safetensors unit-variance noise and what diffusers' loop makes of it, both (n,C,H,W): the state that it ends with, of pipelines
with an autoencoder the pictures, in -1..1.

    make_pipeline.py tests/golden
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from diffusers import (AutoencoderKL, DDIMPipeline, DDIMScheduler, DDPMPipeline, DiTPipeline, DiTTransformer2DModel,
                       DPMSolverMultistepScheduler, LDMPipeline, UNet2DModel, VQModel)
from diffusers.utils.torch_utils import randn_tensor
from safetensors.torch import save_file

out = Path(sys.argv[1])
folder = out / "pipelines"
shutil.rmtree(folder, ignore_errors=True)
torch.manual_seed(0)
torch.set_num_threads(1)
tensors = {}


def lively(model):
    """Weights that matter: no zero gates, none so large that ten steps explode."""
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return model.eval()


@torch.no_grad()
def loop(scheduler, call, x, steps):
    """What the pipelines do between noise and picture."""
    scheduler.set_timesteps(steps)
    x = x * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        x = scheduler.step(call(scheduler.scale_model_input(x, t), t), t, x).prev_sample
    return x


def record(name, noise, x):
    tensors[f"{name}.noise"], tensors[f"{name}.x"] = noise.contiguous().clone(), x.contiguous().clone()


# Without a condition, DDIM.
unet = lively(UNet2DModel(sample_size=8, in_channels=1, out_channels=1, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
                          down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
                          attention_head_dim=8))
scheduler = DDIMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", timestep_spacing="trailing", clip_sample=True)
DDIMPipeline(unet, scheduler).save_pretrained(folder / "ddim")
noise = torch.randn(3, 1, 8, 8)
record("ddim", noise, loop(scheduler, lambda x, t: unet(x, t).sample, noise, 10))

# A class for each, DPM-Solver++; no pipeline of diffusers passes the class on, so its files are those of one that does not.
unet = lively(UNet2DModel(sample_size=8, in_channels=2, out_channels=2, block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4,
                          down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"), add_attention=False,
                          num_class_embeds=3))
scheduler = DPMSolverMultistepScheduler(use_karras_sigmas=True, beta_schedule="scaled_linear")
DDPMPipeline(unet, scheduler).save_pretrained(folder / "classes")
noise = torch.randn(3, 2, 8, 8)
label = torch.tensor([0, 1, 2])
record("classes", noise, loop(scheduler, lambda x, t: unet(x, t, class_labels=label).sample, noise, 8))

# DiT with a learned variance that DDIM has no use for, guided by 2.5.
dit = lively(DiTTransformer2DModel(sample_size=8, in_channels=2, out_channels=4, num_layers=1, num_attention_heads=2, attention_head_dim=4,
                                   patch_size=2, num_embeds_ada_norm=5))
vae = AutoencoderKL(block_out_channels=(4,), latent_channels=2, norm_num_groups=2, sample_size=8)
scheduler = DDIMScheduler(clip_sample=False)
DiTPipeline(dit, vae, scheduler).save_pretrained(folder / "dit")


def guided(x, t):
    time = t.expand(x.shape[0])
    strong, weak = (dit(x, timestep=time, class_labels=c).sample[:, :2] for c in (label, torch.full((3,), 5)))
    return weak + 2.5 * (strong - weak)


noise = torch.randn(3, 2, 8, 8)
with torch.no_grad():
    record("dit", noise, vae.decode(loop(scheduler, guided, noise, 6) / vae.config.scaling_factor).sample.clamp(-1, 1))


# Latent diffusion by the pipelines' own calls: class-conditional over a KL autoencoder that halves, and over a VQModel, of which codes are
# quantised before they are decoded.
def call(name, pipeline, channels, **arguments):
    pipeline.set_progress_bar_config(disable=True)
    pictures = pipeline(generator=torch.Generator().manual_seed(7), output_type="np", **arguments).images
    noise = randn_tensor((3, channels, 8, 8), generator=torch.Generator().manual_seed(7))
    record(name, noise, torch.from_numpy(pictures).permute(0, 3, 1, 2) * 2 - 1)


dit = lively(DiTTransformer2DModel(sample_size=8, in_channels=2, out_channels=2, num_layers=1, num_attention_heads=2, attention_head_dim=4,
                                   patch_size=2, num_embeds_ada_norm=3))
vae = lively(AutoencoderKL(block_out_channels=(4, 4), latent_channels=2, norm_num_groups=2, sample_size=16, scaling_factor=0.7,
                           down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2))
pipeline = DiTPipeline(dit, vae, DDIMScheduler(clip_sample=False))
pipeline.save_pretrained(folder / "latent")
call("latent", pipeline, 2, class_labels=[0, 1, 2], guidance_scale=1.0, num_inference_steps=6)

unet = lively(UNet2DModel(sample_size=8, in_channels=2, out_channels=2, block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4,
                          down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"), add_attention=False))
vq = lively(VQModel(block_out_channels=(4, 4), latent_channels=2, norm_num_groups=2, sample_size=16, num_vq_embeddings=16,
                    scaling_factor=1.3, down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2))
with torch.no_grad():
    vq.quantize.embedding.weight.normal_()
pipeline = LDMPipeline(vq, unet, DDIMScheduler(clip_sample=False))
pipeline.save_pretrained(folder / "ldm")
call("ldm", pipeline, 2, batch_size=3, num_inference_steps=6)

save_file(tensors, out / "pipelines.safetensors", metadata={"made_by": "tests/golden/make_pipeline.py"})
for index in folder.glob("*/model_index.json"):  # the version of the day says nothing
    print(index, json.loads(index.read_text())["_class_name"])
