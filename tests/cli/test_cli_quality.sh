#!/bin/sh
# Sample quality from the command line: a classifier is trained, a model and pictures made elsewhere are judged by its features.
. "$(dirname "$0")/lib.sh"
cd "$work" || exit 1
tiny >tiny.yaml
digits=$ELBO_SOURCE/share/digits
expect 0 "$ELBO" train tiny.yaml --out run
expect 0 "$ELBO" train classifier-mnist --data "$digits" --out classifier train.steps=40 train.warmup_steps=5 train.checkpoint_every=40 train.ema=0.9 \
  train.batch_size=32 "model.network.channels=[8, 8]" model.network.features=8
expect 0 "$ELBO" info classifier
says "classifier"
expect 0 "$ELBO" eval classifier --data "$digits"
says "accuracy"
expect 1 "$ELBO" sample classifier --out x.npy
complains "draws nothing"
"$ELBO" info --build >"$work/out"
if grep -q "OpenBLAS *not found" "$work/out"; then
  [ "$failures" = 0 ] || finish
  echo "skipped: OpenBLAS cannot be opened"
  exit 77
fi

expect 0 "$ELBO" eval run --data "$digits" --metrics fid,kid,precision,recall --features classifier --n 100
hash=$(sha256sum classifier/checkpoints/step-40/classifier/diffusion_pytorch_model.safetensors | cut -d ' ' -f 1)
says "fid .*n = 100.*means of p(x|z), classifier 8, sha256 $hash"
says "fid_floor .*sha256 $hash"
says "kid .*over draws"
says "precision .*sha256 $hash"
says "recall .*sha256 $hash"
expect 0 "$ELBO" eval run --data "$digits" --metrics fid --features classifier/checkpoints/step-40 -n 100 --json --threads 1
says "\"sha256\": \"$hash\""
says '"seeds"'
grep '"value"' "$work/out" | head -n 1 >first
# The same pictures from a file and from a folder.
expect 0 "$ELBO" sample run -n 100 --seed 0 --out x.npy --uint8 --threads 1
expect 0 "$ELBO" sample run -n 100 --seed 0 --out pictures --threads 1
expect 0 "$ELBO" eval x.npy --data "$digits" --metrics fid --features classifier --threads 1 --json
says "the pictures given"
cp "$work/out" npy.json
expect 0 "$ELBO" eval pictures --data "$digits" --metrics fid --features classifier --threads 1 --json
cp "$work/out" folder.json
same npy.json folder.json

expect 2 "$ELBO" eval run --data "$digits" --metrics fid
complains "need features"
expect 2 "$ELBO" eval run --data "$digits" --metrics fid --features classifier --n 79
complains "fewer than 10"
expect 0 "$ELBO" eval run --data "$digits" --metrics fid --features classifier --n 79 --force --draw
says "draws of p(x|z).*forced"
expect 2 "$ELBO" eval run --data "$digits" --metrics fid --features classifier --n 5000
complains "at most"
expect 2 "$ELBO" eval run --data "$digits" --metrics fid --features classifier --n 100 sample.steps=5
complains "steps=5"
expect 1 "$ELBO" eval run --data "$digits" --metrics fid --features run
complains "ElboVAE"
expect 1 "$ELBO" eval run --data "$digits" --metrics fid --features nowhere
complains "nowhere"
expect 2 "$ELBO" eval x.npy --features classifier
complains "--data is missing"
expect 2 "$ELBO" eval x.npy --data "$digits"
complains "--features is missing"
expect 2 "$ELBO" eval x.npy --data "$digits" --features classifier --metrics elbo
complains "elbo"
finish
