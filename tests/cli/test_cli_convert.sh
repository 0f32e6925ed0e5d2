#!/bin/sh
# Weights between layouts; nothing in a pickle is ever executed.
. "$(dirname "$0")/lib.sh"
cd "$work" || exit 1
golden=$ELBO_SOURCE/tests/golden

# A pickle into safetensors, and what the file is before and after.
expect 0 "$ELBO" convert "$golden/pickles/protocol2.pth" --out all.safetensors
says "26 tensors"
expect 0 "$ELBO" info all.safetensors --json
says '"tensor_count": 26'
expect 0 "$ELBO" info "$golden/pickles/legacy2.pth" --json
says '"type": "pickle"'
says '"bfloat16": 1'
expect 0 "$ELBO" convert "$golden/pickles/legacy2.pth" --out legacy.safetensors --json
says '"tensors": 26, "parameters": 471'
same all.safetensors legacy.safetensors
expect 0 "$ELBO" convert "$golden/pickles/lightning.ckpt" --out state.safetensors --json
says '"tensors": 2, "parameters": 57, "bytes": 228, "files": 1, "left_out": 1'
expect 0 "$ELBO" convert "$golden/pickles/lightning.ckpt" --key state_dict --out key.safetensors
same state.safetensors key.safetensors
expect 2 "$ELBO" convert "$golden/pickles/lightning.ckpt" --key model --out x.safetensors
complains "no tensor lies below 'model'"
is_absent x.safetensors

# Hostile ones: refused by name, and nothing ran.
for file in system.pth system_legacy.pth; do
  expect 1 "$ELBO" convert "$golden/pickles/$file" --out x.safetensors
  complains "posix.system"
  expect 1 "$ELBO" info "$golden/pickles/$file"
  complains "posix.system"
  silent
done
printf 'cos\nsystem\n(X\024\000\000\000touch executed.txt  tR.' >raw.pth
expect 1 "$ELBO" info raw.pth
complains "os.system"
is_absent executed.txt
is_absent x.safetensors
head -c 5000 "$golden/pickles/protocol2.pth" >cut.pth
expect 1 "$ELBO" info cut.pth
complains "cut.pth"

# Types, shards and back.
expect 0 "$ELBO" convert "$golden/layouts/stable.ckpt" --key model.diffusion_model --to diffusers --out unet.safetensors
expect 0 "$ELBO" info unet.safetensors
says "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight"
expect 0 "$ELBO" convert "$golden/layouts/stable.ckpt" --to diffusers --out unet2.safetensors --json
says '"names_from": "input_blocks"'
same unet.safetensors unet2.safetensors
expect 0 "$ELBO" convert unet.safetensors --out wide.safetensors --dtype float32 --max-shard-size 20KB --json
says '"files": [2-9]'
is_absent wide.safetensors
is_file wide.safetensors.index.json
expect 0 "$ELBO" info wide.safetensors.index.json
says "sharded safetensors"
expect 0 "$ELBO" convert wide.safetensors.index.json --out narrow.safetensors --dtype float16
same unet.safetensors narrow.safetensors
rm wide-00001-of-*.safetensors
expect 1 "$ELBO" convert wide.safetensors.index.json --out x.safetensors
complains "wide-00001-of-0000[0-9].safetensors' is missing"
expect 1 "$ELBO" info wide.safetensors.index.json
complains "is missing"
expect 0 "$ELBO" convert "$golden/layouts/shards" --out one/ --dtype bfloat16
same "$golden/layouts/shards/config.json" one/config.json
is_file one/diffusion_pytorch_model.safetensors
is_absent one/diffusion_pytorch_model.safetensors.index.json
expect 0 "$ELBO" info one
says "bfloat16 *304"
expect 1 "$ELBO" convert "$golden/layouts/shards" --out one
complains "not empty"
expect 2 "$ELBO" convert "$golden/layouts/guided.pth" --to diffusers --out x.safetensors
complains "how many heads"
expect 0 "$ELBO" convert "$golden/layouts/guided.pth" --to diffusers --heads 2 --out guided.safetensors

# A model of our own, there and back: it still gives its samples.
tiny >tiny.yaml
expect 0 "$ELBO" train tiny.yaml --out run
expect 0 "$ELBO" convert run --out model --max-shard-size 50KB --json
says '"from": "directory"'
is_absent model/training
is_file model/encoder/diffusion_pytorch_model.safetensors.index.json
expect 0 "$ELBO" sample run -n 4 --seed 1 --out a.npy
expect 0 "$ELBO" sample model -n 4 --seed 1 --out b.npy
same a.npy b.npy
expect 2 "$ELBO" convert model --out model.safetensors
complains "several components"
expect 0 "$ELBO" convert model/encoder --out encoder.safetensors
expect 2 "$ELBO" convert model --out model/inside
complains "lies within"
rm model/encoder/diffusion_pytorch_model-00001-of-*.safetensors
expect 1 "$ELBO" sample model -n 4 --out c.npy
complains "is missing"
expect 1 "$ELBO" convert model --out again
complains "is missing"
is_absent again
[ -z "$(find . -name '*.tmp-*')" ] || note_failure "a temporary name was left"

# Autoencoders: a pair of files becomes a folder, which encodes and decodes.
pair=$golden/autoencoders/pair_pooled
expect 0 "$ELBO" convert "$pair/encoder.pth" "$pair/decoder.pth" --out tiny --json
says '"from": "pair of pickle"'
expect 0 "$ELBO" info tiny
says "ElboAutoencoderTiny"
says "code_channels          5"
expect 0 "$ELBO" data shapes:size=16 -n 2 --out pictures.npy
expect 0 "$ELBO" apply tiny --in x=pictures.npy --out latents=codes.npy
expect 0 "$ELBO" info codes.npy
says "\\[2, 2, 2, 5]"
expect 0 "$ELBO" apply tiny --in z=codes.npy --out sample=back.npy
expect 0 "$ELBO" apply tiny --in z=codes.npy --out sample=back.npy engine.winograd=off # behind a list, and heard
expect 2 "$ELBO" apply tiny --in z=codes.npy engine.winograd=on --out sample=back.npy
complains "'engine.winograd=on': expected auto or off"
expect 0 "$ELBO" info back.npy
says "\\[2, 16, 16, 3]"
for size in 16 32; do # it names no size, and takes any
  expect 0 "$ELBO" encode tiny --data "shapes:size=$size" -n 2 --out codes.npy
  expect 0 "$ELBO" decode tiny --codes codes.npy --out back.npy
  expect 0 "$ELBO" info back.npy
  says "\\[2, $size, $size, 3]"
done
expect 0 "$ELBO" reconstruct tiny --data shapes:size=32 -n 2 --out pairs.png
expect 1 "$ELBO" encode tiny --data shapes:size=16,channels=1 -n 2 --out grey.npy
complains "examples have 1 channels; the model's have 3"
expect 2 "$ELBO" apply tiny --in x=pictures.npy --out mean=codes.npy
complains "latents was expected"
expect 2 "$ELBO" convert "$pair/decoder.pth" "$pair/encoder.pth" --out swapped
complains "the encoder comes first"
is_absent swapped
expect 0 "$ELBO" info "$golden/autoencoders/kl"
says "\\[4, 4, 2]"

# Usage.
expect 2 "$ELBO" convert
complains "expected one file or directory"
expect 2 "$ELBO" convert unet.safetensors
complains "--out is missing"
expect 2 "$ELBO" convert unet.safetensors --out x.safetensors --dtype int8
complains "float32|float16|bfloat16"
expect 2 "$ELBO" convert unet.safetensors --out x.safetensors --max-shard-size lots
complains "expected a size"
expect 1 "$ELBO" convert none.pth --out x.safetensors
complains "none.pth"
expect 1 "$ELBO" convert none.pth --out folder
complains "none.pth"
is_absent folder
finish
