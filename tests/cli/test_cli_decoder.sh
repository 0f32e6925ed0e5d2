#!/bin/sh
# Diffusion decoders from the command line: both codes there and back, walks, edits, what is refused and why; stages with a VAE below.
. "$(dirname "$0")/lib.sh"
cd "$work" || exit 1
unet='network: unet, unet: {block_out_channels: [8, 8], layers_per_block: 1, down_block_types: [DownBlock2D, DownBlock2D],
  up_block_types: [UpBlock2D, UpBlock2D], add_attention: false, norm_num_groups: 4}, process: {steps: 20}'
data='data: {path: "shapes:size=16,train=64,valid=8,test=8"}'
cat >ae.yaml <<END
model: {preset: diffae, encoder: {type: conv, channels: [6, 8], norm_groups: 2}, code: {dim: 5, fitted: 2}, $unet}
$data
train: {steps: 4, batch_size: 8, checkpoint_every: 4, preview_every: 4, log_every: 2}
sample: {sampler: ddim, steps: 4, batch_size: 8}
END
expect 0 "$ELBO" train ae.yaml --out ae
is_file ae/samples/step-4-reconstructions.png
expect 0 "$ELBO" info ae
says 'preset  *diffae'
says 'latent_dim  *5'
says 'codes_from  *a mixture fitted to the codes'
expect 0 "$ELBO" sample ae -n 3 --sampler dpmpp_2m --steps 3 --out samples.png --json
says '"network_calls": 3'

# code and noise, written and read, are a reconstruction
expect 0 "$ELBO" encode ae -n 4 --out codes.npy --noise noise.npy sample.steps=6
expect 0 "$ELBO" decode ae --codes codes.npy --noise noise.npy --out back.npy sample.steps=6
expect 0 "$ELBO" reconstruct ae -n 4 --out pairs.png sample.steps=6
expect 0 "$ELBO" reconstruct ae --all --split test --out whole.npy sample.steps=6
is_file back.npy
expect 0 "$ELBO" decode ae --codes codes.npy --out drawn.npy
expect 0 "$ELBO" sample ae --condition codes.npy -n 4 --out told.npy
expect 2 "$ELBO" decode ae --codes codes.npy --out x.npy sample.stepz=6
complains "did you mean 'steps'"
expect 2 "$ELBO" decode ae --codes codes.npy --out x.npy data.size=6
complains 'sample.KEY=VALUE'
mkdir two
expect 0 "$ELBO" sample ae -n 2 --out two
expect 0 "$ELBO" interpolate ae two/00000.png two/00001.png --steps 3 --out walk.png sample.steps=4
is_file walk.png

expect 0 "$ELBO" edit ae --attribute size --from small --to large --step 1 -n 8 --training 64 --out edit.png --json sample.steps=4
says '"attribute": "size", "from": "small", "to": "large"'
says '"unchanged": {"figure": '
is_file edit.png
expect 0 "$ELBO" edit ae --attribute size --step 1 -n 8 --training 64 sample.steps=2
awk 'NR > 1 && $1 != "all" { n += $3; pairs++; for (i = 5; i <= NF; i++) sum[i] += $3 * $i }
  $1 == "all" { for (i = 5; i <= NF; i++) if ($i - sum[i] / n > 0.1 || sum[i] / n - $i > 0.1) exit 1; good = $3 == n && NF == 10 && pairs == 6 }
  END { exit !good }' "$work/out" || note_failure "what all pairs come to is not the sum of the rows"
expect 2 "$ELBO" edit ae --attribute size --from small
complains 'go together'
expect 2 "$ELBO" edit ae
complains '\--attribute is missing'
expect 2 "$ELBO" edit ae --attribute weight
complains 'figure, colour, ground, size, position'

expect 0 "$ELBO" eval ae --metrics psnr,noise_psnr --limit 4 --json
says '"noise_psnr"'
expect 1 "$ELBO" eval ae --metrics elbo
complains 'has no likelihood'
expect 0 "$ELBO" report ae --out report.html
is_file report.html

cat >two.yaml <<END
stages:
  - name: vae
    model: {latent: {dim: 3}, encoder: {type: mlp, hidden: [8]}, decoder: {type: mlp, hidden: [8]}}
    $data
    train: {steps: 2, batch_size: 8, checkpoint_every: 2, log_every: 2}
  - name: refiner
    model: {preset: diffusion-decoder, vae: vae, $unet}
    $data
    train: {steps: 2, batch_size: 8, checkpoint_every: 2, log_every: 2}
    sample: {sampler: ddim, steps: 4, batch_size: 8}
END
expect 0 "$ELBO" train two.yaml --out two-run
expect 0 "$ELBO" info two-run
says 'preset  *diffusion-decoder'
says "codes_from  *the VAE's prior"
expect 0 "$ELBO" sample two-run -n 2 --steps 3 --out refined.npy
expect 2 "$ELBO" reconstruct two-run/stages/1-vae -n 2 --out x.png sample.steps=3
complains 'does not decode by a sampler'
expect 1 "$ELBO" train two.yaml --out other stages.refiner.model.vae=nothing
complains 'nothing: no such directory'
finish
