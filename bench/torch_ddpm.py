"""elbo beside PyTorch + diffusers (UNet2DModel) on the diffusion workloads of recipes/bench, alternately in one run; prints one table.

ddpm-small and ddpm-cifar10 are training steps: draw times and noise, one forward and one backward pass, AdamW. The -forward- ones are one
call of the network in inference mode; PyTorch may also compile it with its weights frozen, and OpenVINO takes part.
"""
import torch_common
from torch_common import FORWARD, PICTURES, Workload

SMALL = dict(sample_size=32, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(32, 64, 128),
             down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
             up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"), attention_head_dim=8, norm_num_groups=8)
CIFAR = dict(sample_size=32, in_channels=3, out_channels=3, layers_per_block=2, block_out_channels=(128, 256, 256, 256),
             down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
             up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"), attention_head_dim=None,
             downsample_padding=0, flip_sin_to_cos=False, freq_shift=1, norm_eps=1e-6)
WORKLOADS = {
    "ddpm-small": Workload(64, 2734945, "digits size=32", 2.0, PICTURES),
    "ddpm-cifar10": Workload(16, 35746307, "shapes:size=32", 2.4, PICTURES, 3, 500),
    "ddpm-cifar10-forward-b1": Workload(1, 35746307, "shapes:size=32", 1.6, FORWARD, 5, 500),
    "ddpm-cifar10-forward-b16": Workload(16, 35746307, "shapes:size=32", 2.1, FORWARD, 5, 500),
}


def step_of(name, workload, variant, data):
    import torch
    from diffusers import DDPMScheduler, UNet2DModel
    images = 2 * torch_common.images_of(data, variant) - 1
    network = UNet2DModel(**(SMALL if name == "ddpm-small" else CIFAR))
    if variant == "openvino":
        x = images[torch.randint(len(images), (workload.batch,))]
        return torch_common.openvino_call(torch_common.calling(network), [x, torch.randint(1000, (workload.batch,))])
    model, call = torch_common.prepare(network.eval() if "forward" in name else network, variant, workload.params)
    alpha_bar = DDPMScheduler(1000).alphas_cumprod

    def draw():
        x = images[torch.randint(len(images), (workload.batch,))]
        return x, torch.randint(1000, (workload.batch,)), torch.randn_like(x)

    if "forward" in name:
        x, t, _ = draw()

        @torch.inference_mode()
        def call_once():
            return call(x, t).sample[0, 0, 0, 0].item()

        return call_once

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step():
        x, t, noise = draw()
        a = alpha_bar[t].view(-1, 1, 1, 1)
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.mse_loss(call(a.sqrt() * x + (1 - a).sqrt() * noise, t).sample, noise)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


if __name__ == "__main__":
    torch_common.main(__file__, __doc__, WORKLOADS, step_of)
