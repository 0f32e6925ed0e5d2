"""elbo beside PyTorch + diffusers (AutoencoderKL) on a training step of an autoencoder, alternately in one run; prints one table.

akl-64: a draw of the code, one forward and one backward pass of L1 + KL, AdamW, 64x64x3, batch 8.
"""
import torch_common
from torch_common import PICTURES, Workload

WORKLOADS = {"akl-64": Workload(8, 3789095, "shapes:size=64", 2.3, PICTURES, 3, 500)}
KL_WEIGHT = 1e-6


def step_of(name, workload, variant, data):
    import torch
    from diffusers import AutoencoderKL
    images = 2 * torch_common.images_of(data, variant) - 1
    network = AutoencoderKL(block_out_channels=(64, 128, 128), layers_per_block=1, latent_channels=4, sample_size=64,
                            down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3)

    class Loss(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, x, noise):
            posterior = self.network.encode(x).latent_dist
            y = self.network.decode(posterior.mean + posterior.std * noise).sample
            return (y - x).abs().mean() + KL_WEIGHT / x[0].numel() * posterior.kl().mean()

    model, call = torch_common.prepare(Loss(), variant, workload.params)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step():
        x = images[torch.randint(len(images), (workload.batch,))]
        optimizer.zero_grad(set_to_none=True)
        loss = call(x, torch.randn(workload.batch, 4, 16, 16))
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


if __name__ == "__main__":
    torch_common.main(__file__, __doc__, WORKLOADS, step_of)
