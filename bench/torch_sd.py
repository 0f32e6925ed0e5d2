"""elbo beside PyTorch + diffusers and OpenVINO on networks of Stable Diffusion 1.5's shapes with random weights; prints one table.

sd15-unet is one call of UNet2DConditionModel (64x64 code, 77 x 768 context), sd15-vae-decode one decoding by AutoencoderKL (64x64 code to
512x512), batch 1, in inference mode. The peers' autoencoder is built whole and its encoder let go of.
"""
import torch_common
from torch_common import FORWARD, Workload

WORKLOADS = {
    "sd15-unet": Workload(1, 859520964, "", 1.4, FORWARD, 2, apart=True),
    "sd15-vae-decode": Workload(1, 83653863, "", 2.3, FORWARD, 2, apart=True, elbo_params=49490199),
}


def step_of(name, workload, variant, data):
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    z = torch.randn(1, 4, 64, 64)
    if name == "sd15-unet":
        network = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
        torch_common.check_params(network, workload.params)
        model, inputs = torch_common.calling(network), [z, torch.tensor([421.0]), torch.randn(1, 77, 768)]
    else:
        network = AutoencoderKL(block_out_channels=(128, 256, 512, 512), layers_per_block=2, sample_size=512,
                                down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4)
        torch_common.check_params(network, workload.params)
        network.encoder = network.quant_conv = None
        model, inputs = torch_common.calling(network, "decode"), [z]
    if variant == "openvino":
        return torch_common.openvino_call(model, inputs)
    model, call = torch_common.prepare(model, variant)
    if variant.endswith("-last"):
        inputs[0] = inputs[0].contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def call_once():
        return call(*inputs)[0, 0, 0, 0].item()

    return call_once


if __name__ == "__main__":
    torch_common.main(__file__, __doc__, WORKLOADS, step_of)
