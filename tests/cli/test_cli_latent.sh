#!/bin/sh
# Latent diffusion from the command line: two stages, the run as a model, its calls; and what diffusers says of it.
. "$(dirname "$0")/lib.sh"
cd "$work" || exit 1
cat >tiny.yaml <<END
stages:
  - name: autoencoder
    model:
      preset: autoencoder
      network: kl
      kl: {in_channels: 1, out_channels: 1, latent_channels: 2, block_out_channels: [8, 8], norm_num_groups: 4,
           down_block_types: [DownEncoderBlock2D, DownEncoderBlock2D], up_block_types: [UpDecoderBlock2D, UpDecoderBlock2D]}
    objective: {reconstruction: l1, kl: 1e-3}
    data: {path: "$ELBO_SOURCE/share/digits", limit: 200, holdout: 20, size: 8}
    train: {steps: 8, batch_size: 8, learning_rate: 1e-3, ema: 0.9, log_every: 2, seed: 3}
  - name: prior
    model:
      preset: ddpm
      autoencoder: autoencoder
      network: unet
      unet: {block_out_channels: [8, 8], layers_per_block: 1, down_block_types: [DownBlock2D, DownBlock2D],
             up_block_types: [UpBlock2D, UpBlock2D], norm_num_groups: 4}
      process: {steps: 20}
    data: {path: "$ELBO_SOURCE/share/digits", limit: 200, holdout: 20, size: 8}
    train: {steps: 8, batch_size: 8, learning_rate: 1e-3, ema: 0.9, checkpoint_every: 4, preview_every: 4, log_every: 2, seed: 3}
    sample: {sampler: ddim, steps: 4, batch_size: 8}
END

expect 0 "$ELBO" train tiny.yaml --dry-run
says 'stage            2 prior'
expect 0 "$ELBO" train tiny.yaml --out run
complains 'encoding the training examples once, codes (4,4,2) of pictures (8,8,1)'
complains 'encode 200/200'
prior=run/stages/2-prior
is_file $prior/latents/train.safetensors
is_file $prior/checkpoints/step-8/unet/diffusion_pytorch_model.safetensors
is_file $prior/checkpoints/step-8/vqvae/diffusion_pytorch_model.safetensors
is_file $prior/samples/step-4.png
grep -q '"valid"' $prior/metrics.jsonl || note_failure "metrics.jsonl has no held-out score"
same run/stages/1-autoencoder/checkpoints/step-8/diffusion_pytorch_model.safetensors \
  $prior/checkpoints/step-8/vqvae/diffusion_pytorch_model.safetensors

# moved, its last step taken again: the codes are there, the bytes the same
cp -r run again
rm -r again/stages/2-prior/checkpoints/step-8
expect 0 "$ELBO" train tiny.yaml --out again --resume
complains 'goes on after step 4'
grep -q 'encode [0-9]\|encoding' "$work/err" && note_failure "the codes were made again"
same $prior/checkpoints/step-8/training/state.safetensors again/stages/2-prior/checkpoints/step-8/training/state.safetensors

# the calls
expect 0 "$ELBO" sample run -n 3 --out x.npy
expect 0 "$ELBO" sample $prior/checkpoints/step-8 -n 3 --out y.npy
same x.npy y.npy
expect 0 "$ELBO" sample run -n 3 --memory 100 --out y.npy
expect 2 "$ELBO" sample run/stages/1-autoencoder -n 3 --memory 100 --out z.npy
complains "decode_memory: only what is drawn as the codes"
expect 0 "$ELBO" info run
says 'unet'
says 'vqvae'
expect 0 "$ELBO" encode run -n 5 --out codes.npy --stats
says '5 codes of 32 numbers'
expect 0 "$ELBO" decode run --codes codes.npy --out decoded.npy
expect 0 "$ELBO" reconstruct run -n 5 --out grid.png
expect 1 "$ELBO" eval run
complains 'no likelihood of pictures'
expect 0 "$ELBO" report run --out page.html
grep -q 'What it invents' page.html || note_failure "the report lacks samples"

# Opens in diffusers, where a Python has it: the same noise, the same pictures.
if [ -n "${PYTHON:-}" ] && "$PYTHON" -c 'import diffusers, torch' 2>/dev/null; then
  cat >open.py <<'END'
import sys
import numpy
import torch
from diffusers import DiffusionPipeline
from diffusers.utils.torch_utils import randn_tensor

pipeline = DiffusionPipeline.from_pretrained(sys.argv[1])
noise = randn_tensor((3, 2, 4, 4), generator=torch.Generator().manual_seed(3))
numpy.save("noise.npy", noise.permute(0, 2, 3, 1).contiguous().numpy())
x = pipeline(batch_size=3, generator=torch.Generator().manual_seed(3), num_inference_steps=4, output_type="np").images
numpy.save("want.npy", 2 * x - 1)
END
  expect 0 "$PYTHON" open.py $prior/checkpoints/step-8
  expect 0 "$ELBO" sample run --noise noise.npy --out got.npy
  expect 0 "$PYTHON" -c 'import numpy; d = abs(numpy.load("want.npy") - numpy.load("got.npy")).max(); assert d < 1e-4, d'
else
  echo "skipped: latent diffusion opens in diffusers (no \$PYTHON with diffusers)"
fi
finish
