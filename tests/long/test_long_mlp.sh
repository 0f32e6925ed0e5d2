#!/bin/sh
# The classic VAE after its 30 epochs on MNIST: what PyTorch reaches, and a little more.
. "${0%/*}/lib.sh"
mnist=$(shared mnist) || { echo "skipped: no ../shared/data/mnist"; exit 77; }
train run vae-mnist-mlp --data "$mnist"
at_least "test ELBO" "$(value run elbo --data "$mnist")" -100.5
