#!/bin/sh
# Diffusion from the command line: train, resume, sample, score, describe, apply, report; and what diffusers says of a run.
. "$(dirname "$0")/lib.sh"
cd "$work" || exit 1
unet='network: unet, unet: {block_out_channels: [8, 8], layers_per_block: 1, down_block_types: [DownBlock2D, DownBlock2D],
  up_block_types: [UpBlock2D, UpBlock2D], norm_num_groups: 4, attention_head_dim: 4}'
cat >tiny.yaml <<END
model: {preset: ddpm, $unet, process: {steps: 20}}
data: {path: "$ELBO_SOURCE/share/digits", limit: 200, holdout: 20, size: 8}
train: {steps: 8, batch_size: 8, learning_rate: 1e-3, ema: [0.9, 0.2], checkpoint_every: 4, preview_every: 4, keep: 2, log_every: 2, seed: 3}
sample: {sampler: ddim, steps: 4, batch_size: 8}
END

expect 0 "$ELBO" train tiny.yaml --dry-run --json
says '"params": 1'
says '"planned_bytes": [1-9]'
expect 0 "$ELBO" train tiny.yaml --out run
is_file run/checkpoints/step-8/unet/diffusion_pytorch_model.safetensors
is_file run/checkpoints/step-8/scheduler/scheduler_config.json
is_file run/samples/step-4.png
grep -q '"valid"' run/metrics.jsonl || note_failure "metrics.jsonl has no held-out score"

# Stopped in the middle by its own steps, prolonged: the same bytes.
expect 0 "$ELBO" train tiny.yaml --out again train.steps=8
for file in unet/diffusion_pytorch_model.safetensors model_index.json training/state.safetensors; do
  same "run/checkpoints/step-8/$file" "again/checkpoints/step-8/$file"
done
rm -r again/checkpoints/step-8
expect 0 "$ELBO" train tiny.yaml --out again --resume
same run/checkpoints/step-8/training/state.safetensors again/checkpoints/step-8/training/state.safetensors
same run/checkpoints/step-8/unet/diffusion_pytorch_model.safetensors again/checkpoints/step-8/unet/diffusion_pytorch_model.safetensors

expect 1 "$ELBO" train tiny.yaml --out again --resume --steps 9 train.ema=0.9
complains 'train.ema'

# Several averages: each by its decay, the first unless told otherwise.
expect 0 "$ELBO" info run
says 'ema  *\[0.9, 0.2\]'
for which in 0.9 0.2 raw; do
  expect 0 "$ELBO" sample run -n 2 --ema $which --out $which.npy --json
  says '"weights": "'
done
expect 0 "$ELBO" sample run -n 2 --out first.npy
same first.npy 0.9.npy
cmp -s first.npy 0.2.npy && note_failure "the second average is the first"
cmp -s raw.npy 0.2.npy && note_failure "the second average is the raw weights"
expect 0 "$ELBO" eval run --ema 0.2 --metrics bpd --limit 8 --json
says '"weights": "ema 0.2"'
expect 2 "$ELBO" sample run -n 2 --ema 0.7 --out bad.npy
complains 'no average of decay 0.7.*0.9, 0.2'

# Samples
expect 0 "$ELBO" sample run -n 9 --out grid.png
is_file grid.png
expect 0 "$ELBO" sample run -n 3 --seed 5 --out x.npy --json
says '"network_calls": 4, "loop_seconds": [0-9.e-]*, "network_seconds": [0-9.e-]*,'
expect 0 "$ELBO" sample run -n 5 --seed 5 --steps 4 --out y.npy
expect 0 "$ELBO" info x.npy
says '\[3, 8, 8, 1\]'
tail -c 768 x.npy >x.raw # 3 x 64 floats
tail -c 1280 y.npy | head -c 768 >y.raw
same x.raw y.raw
expect 0 "$ELBO" sample run -n 2 --sampler dpmpp_2m --steps 3 --out z.npy --json
says '"network_calls": 3'
expect 0 "$ELBO" sample run --noise x.npy --out from-noise.npy
says '3 samples'
expect 2 "$ELBO" sample run -n 2 --noise x.npy --out bad.npy
complains 'noise'
{ head -c 128 x.npy; head -c 384 x.npy | tail -c 256; printf '\000\000\300\177'; tail -c 508 x.npy; } >nan.npy # row 1 begins with a NaN
expect 2 "$ELBO" sample run --noise nan.npy --out bad.npy
complains 'noise: number 0 of row 1 is nan'
expect 2 "$ELBO" sample run -n 2 --steps 21 --out bad.npy
complains 'steps'
expect 2 "$ELBO" sample run -n 2 --steps 0 --out bad.npy
complains 'steps 0'
expect 2 "$ELBO" sample run -n 2 --sampler flow_euler --out bad.npy
complains 'flow_euler'
expect 2 "$ELBO" sample run -n 2 --guidance 2 --out bad.npy
complains 'guided'
is_absent bad.npy

# Conditions made of the pictures, and points: previews of what they lead to, likelihoods under them.
for condition in '{type: lowres, factor: 2}' '{type: masked}'; do
  rm -rf told
  expect 0 "$ELBO" train tiny.yaml --out told train.steps=2 train.preview_every=2 "model.condition=$condition"
  is_file told/samples/step-2.png
  expect 0 "$ELBO" eval told --metrics ode_bpd --limit 2 --tolerance 1e-2 --json
  says '"ode_bpd"'
done
expect 0 "$ELBO" train ddpm-2d --data rings --out plane train.steps=2 train.batch_size=16 train.preview_every=2 sample.steps=3
is_file plane/samples/step-2.png
expect 0 "$ELBO" info plane/samples/step-2.png
says '194, 387, 1'


# A folder by a built-in set's name does not stand in its way, now or when the run goes on; ./NAME is the folder.
mkdir rings
expect 0 "$ELBO" train ddpm-2d --data rings --out around train.steps=2 train.batch_size=16 train.checkpoint_every=1
grep -q '^  path: rings$' around/recipe.yaml || note_failure "a folder named rings was taken for the data"
expect 0 "$ELBO" eval around --metrics ode_nll --limit 4 --tolerance 1e-2
expect 1 "$ELBO" train ddpm-2d --data ./rings --out folder train.steps=2
complains 'rings'
rmdir rings

# What it is worth, what it is
expect 0 "$ELBO" eval run --metrics bpd_parts --limit 8 --json
for name in bpd bpd_prior bpd_diffusion bpd_decoder bpd_per_step nll_bound; do says "\"$name\""; done
expect 0 "$ELBO" eval run --metrics bpd,ode_bpd --limit 4 --samples 2
says 'ode_bpd'
says 'uniform dequantisation'
expect 2 "$ELBO" eval run --metrics ode_nll,density_mass --limit 4
complains 'density_mass'
expect 0 "$ELBO" info run
says 'UNet2DModel'
says 'process  *discrete'
says 'prediction  *epsilon'
expect 0 "$ELBO" info run/checkpoints/step-8/unet
says 'UNet2DModel'
printf '\223NUMPY\001\000\166\000%-117s\n' "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }" >t.npy
printf '\000\000\040\101' >>t.npy # 10
expect 0 "$ELBO" apply run/checkpoints/step-8/unet --in sample=x.npy timestep=t.npy --out sample=out.npy
is_file out.npy
expect 1 "$ELBO" reconstruct run --out bad.npy
complains 'no encoder'
expect 0 "$ELBO" report run --out page.html
is_file page.html
for part in 'What it invents' 'data:image/png' 'log-SNR' 'bpd' 'Recipe' 'Machine'; do
  grep -q "$part" page.html || note_failure "the report lacks '$part'"
done
grep -q 'latent dimension\|latent numbers' page.html && note_failure "the report speaks of latents"

# Points in the plane: density, samples and data
cat >points.yaml <<END
model: {preset: ddpm, network: mlp, mlp: {width: 8, layers: 1, time_width: 8}, process: {type: edm}, prediction: edm, sigma_data: 1.4}
objective: {time: lognormal}
data: {path: rings}
train: {steps: 5, batch_size: 64, checkpoint_every: 5, log_every: 1}
sample: {sampler: heun, steps: 5}
END
expect 0 "$ELBO" train points.yaml --out points
expect 0 "$ELBO" eval points --metrics ode_nll --limit 20
says 'exact trace'
expect 0 "$ELBO" report points --out points.html
grep -q 'What it has learned' points.html && grep -q 'data:image/png' points.html || note_failure "no picture of the density"

# A learned process
cat >vdm.yaml <<END
model: {preset: vdm, network: vdm, vdm: {channels: 8, layers: 1, norm_num_groups: 4}}
data: {path: "$ELBO_SOURCE/share/digits", limit: 100, holdout: 10, size: 8}
train: {steps: 3, batch_size: 8, checkpoint_every: 3, log_every: 1, seed: 3}
END
expect 0 "$ELBO" train vdm.yaml --out learned
is_file learned/checkpoints/step-3/process/diffusion_pytorch_model.safetensors
expect 0 "$ELBO" eval learned --metrics bpd_parts,schedule_variance --limit 8 --samples 3
says 'continuous time'
says 'variance_linear'
expect 0 "$ELBO" info learned
says 'learned'
says 'VDMUNet'
expect 0 "$ELBO" train vdm-mnist --data "$ELBO_SOURCE/share/digits" --dry-run

# Classes and guidance
# auto is what is taken where nothing is said.
expect 0 "$ELBO" sample run -n 2 --sampler heun --steps 4 --out plain.npy
expect 0 "$ELBO" sample run -n 2 --sampler heun --steps 4 sample.clip=auto --out auto.npy
same plain.npy auto.npy
sed 's/process: {steps: 20}/process: {steps: 20}, condition: {type: class, dropout: 0.2}/' tiny.yaml >classes.yaml
expect 0 "$ELBO" train classes.yaml --out classes --steps 4
expect 0 "$ELBO" sample classes -n 2 --class 3 --guidance 2 --out c.npy
expect 2 "$ELBO" sample classes -n 2 --class 10 --out bad.npy
complains 'class 10'

# Opens in diffusers, where a Python has it: the same noise, the same picture.
if [ -n "${PYTHON:-}" ] && "$PYTHON" -c 'import diffusers, torch' 2>/dev/null; then
  cat >open.py <<'END'
import sys
import numpy
import torch
from diffusers import DDIMScheduler, DiffusionPipeline
pipeline = DiffusionPipeline.from_pretrained(sys.argv[1])
unet, scheduler = pipeline.unet, DDIMScheduler.from_config(pipeline.scheduler.config)
x = torch.tensor(numpy.load(sys.argv[3])).permute(0, 3, 1, 2)
scheduler.set_timesteps(4)
with torch.no_grad():
    for t in scheduler.timesteps:
        x = scheduler.step(unet(x, t).sample, t, x).prev_sample
worst = float(numpy.abs(x.permute(0, 2, 3, 1).numpy() - numpy.load(sys.argv[2])).max())
told = DiffusionPipeline.from_pretrained(sys.argv[4]).unet # one call under a sequence of embeddings
x, e, y = (torch.tensor(numpy.load(sys.argv[i])) for i in (3, 5, 6))
with torch.no_grad():
    y -= told(x.permute(0, 3, 1, 2), 10, e).sample.permute(0, 2, 3, 1)
print("worst differences", worst, float(y.abs().max()))
sys.exit(not max(worst, float(y.abs().max())) <= 1e-4)
END
  "$PYTHON" -c 'import numpy
r = numpy.random.default_rng(3)
for name, n in ("every.npy", 12000), ("told.npy", 3):
    numpy.save(name, r.standard_normal((n, 2, 4)).astype("f"))'
  expect 0 "$ELBO" train tiny.yaml --out context train.steps=2 train.checkpoint_every=2 train.preview_every=2 data.condition=every.npy \
    'model.condition={type: context, tokens: 2, dim: 4}' 'model.unet={class: UNet2DConditionModel, block_out_channels: [8, 8],
    layers_per_block: 1, down_block_types: [DownBlock2D, CrossAttnDownBlock2D], up_block_types: [CrossAttnUpBlock2D, UpBlock2D],
    norm_num_groups: 4, attention_head_dim: 2, cross_attention_dim: 4}'
  is_file context/samples/step-2.png
  expect 0 "$ELBO" info context
  says 'condition_tokens  *2'
  expect 0 "$ELBO" sample context --condition told.npy --out sampled.npy
  says '3 samples'
  expect 0 "$ELBO" report context --out context.html
  expect 0 "$ELBO" apply context/checkpoints/step-2/unet --in sample=x.npy timestep=t.npy encoder_hidden_states=told.npy --out sample=y.npy
  expect 0 "$PYTHON" open.py run/checkpoints/step-8 from-noise.npy x.npy context/checkpoints/step-2 told.npy y.npy
else
  echo "skipped: a run opens in diffusers (no \$PYTHON with diffusers)"
fi
finish
