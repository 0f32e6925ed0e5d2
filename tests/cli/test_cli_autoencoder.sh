#!/bin/sh
# Autoencoders from the command line: trained, with an adversary and a perceptual distance, applied, decoded in bands, scored, reported.
. "$(dirname "$0")/lib.sh"
cd "$work" || exit 1
digits=$ELBO_SOURCE/share/digits
small() { # NETWORK KEYS
  cat <<END
model:
  preset: autoencoder
  network: $1
  $1:
    in_channels: 1
    out_channels: 1
    latent_channels: 2
    block_out_channels: [4, 8]
    norm_num_groups: 2
    down_block_types: [DownEncoderBlock2D, DownEncoderBlock2D]
    up_block_types: [UpDecoderBlock2D, UpDecoderBlock2D]
$2
  discriminator: {channels: [4, 8]}
data: {path: "$digits", limit: 300, holdout: 60}
train: {steps: 20, batch_size: 16, ema: 0.9, checkpoint_every: 10, preview_every: 10, log_every: 5, keep: 2, seed: 3}
END
}
small kl "" >kl.yaml
small vq "    num_vq_embeddings: 16" >vq.yaml
cat >judge.yaml <<END
model: {preset: classifier, network: {channels: [4, 8], features: 8, norm_groups: 2}}
data: {path: "$digits", limit: 300, holdout: 60}
train: {steps: 10, batch_size: 16, ema: 0}
END

expect 0 "$ELBO" train judge.yaml --out judge
expect 0 "$ELBO" train kl.yaml --dry-run
says "parameters"
expect 0 "$ELBO" train kl.yaml --out run objective.perceptual=judge objective.adversarial=0.5 objective.adversarial_start=10
complains "perceptual distance by a classifier, judge, sha256 [0-9a-f]\{64\}"
is_file run/checkpoints/step-20/config.json
is_file run/checkpoints/step-20/diffusion_pytorch_model.safetensors
is_absent run/checkpoints/step-20/model_index.json
is_file run/samples/step-20.png
grep -q '"discriminator.real_right"' run/metrics.jsonl || note_failure "metrics.jsonl says nothing of the adversary"
expect 0 "$ELBO" info run
says "autoencoder"
expect 0 "$ELBO" info run/checkpoints/step-20
says "AutoencoderKL"

expect 0 "$ELBO" encode run -n 6 --out codes.npy --stats
says "6 codes of 392 numbers"
expect 0 "$ELBO" info codes.npy
says "6, 14, 14, 2"
expect 0 "$ELBO" decode run --codes codes.npy --out x.npy
expect 0 "$ELBO" info x.npy
says "6, 28, 28, 1"
expect 0 "$ELBO" decode run --codes codes.npy --out banded.npy --tile 3
says "beside the weights"
expect 0 "$ELBO" decode run --codes codes.npy --out banded.png --memory 100 --json
says '"planned_bytes": [1-9]'
expect 2 "$ELBO" decode run --codes codes.npy --out y.npy --tile 1
expect 0 "$ELBO" reconstruct run -n 8 --out pairs.png
expect 0 "$ELBO" eval run --metrics psnr,ssim,kl,perceptual --features judge --limit 40
says "^psnr"
says "^perceptual.*sha256"
expect 0 "$ELBO" eval run --metrics fid --features judge --force
says "reconstructions"
expect 0 "$ELBO" report run --out page.html
grep -q "What it keeps" page.html || note_failure "the report shows no reconstructions"
expect 2 "$ELBO" eval run --metrics elbo
complains "unknown name 'elbo'"
expect 1 "$ELBO" sample run --out s.png
complains "has no prior to draw from"

# stopped and resumed to the same bytes, dead codes put elsewhere on the way
expect 0 "$ELBO" train vq.yaml --out whole objective.restart_steps=3
expect 0 "$ELBO" train vq.yaml --out parts objective.restart_steps=3 train.steps=10
expect 0 "$ELBO" train vq.yaml --out parts --resume objective.restart_steps=3
same whole/checkpoints/step-20/diffusion_pytorch_model.safetensors parts/checkpoints/step-20/diffusion_pytorch_model.safetensors
same whole/checkpoints/step-20/training/state.safetensors parts/checkpoints/step-20/training/state.safetensors
expect 0 "$ELBO" eval whole --limit 40
says "^code_usage"
says "^perplexity"
expect 1 "$ELBO" decode whole --codes codes.npy --out y.npy --tile 2
complains "only an AutoencoderKL is decoded in parts"

expect 1 "$ELBO" train kl.yaml --out bad objective.perceptual=nowhere
complains "objective.perceptual: nowhere: not there"
expect 2 "$ELBO" train kl.yaml --out bad model.kl.in_channels=3
complains "model.kl.in_channels: 3; the data have 1"
is_absent bad/checkpoints
finish
