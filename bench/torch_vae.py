"""elbo beside PyTorch on the VAE workloads of recipes/bench, alternately in one run; prints one table."""
import torch_common
from torch_common import FLAT, PICTURES, Workload

WORKLOADS = {
    "mlp-vae": Workload(128, 652824, "digits", 1.45, FLAT, 20),  # no images inside: one memory format
    "conv-vae-mnist": Workload(128, 274537, "digits", 2.5, PICTURES, 20),
    "conv-vae-cifar": Workload(128, 2960387, "shapes:size=32", 2.0, PICTURES, 20),
}


def build(workload):
    import torch
    from torch import nn

    class MlpVae(nn.Module):
        """784-400-z20-400-784, ReLU, Bernoulli."""

        def __init__(self):
            super().__init__()
            self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 40))
            self.decoder = nn.Sequential(nn.Linear(20, 400), nn.ReLU(), nn.Linear(400, 784))

        def forward(self, x):
            mean, logvar = self.encoder(x).chunk(2, 1)
            logits = self.decoder(mean + torch.exp(0.5 * logvar) * torch.randn_like(mean))
            recon = nn.functional.binary_cross_entropy_with_logits(logits, x.flatten(1), reduction="sum")
            return (recon + kl(mean, logvar)) / len(x)

    class ConvVae(nn.Module):
        """4x4 stride 2 convolutions with group norm (8 groups) and SiLU, their transposes back, a 3x3 at the end; squared error."""

        def __init__(self, size, channels, down, up, z):
            super().__init__()
            self.side, self.top = size >> len(down), down[-1]
            layers, last = [], channels
            for width in down:
                layers += [nn.Conv2d(last, width, 4, 2, 1), nn.GroupNorm(8, width), nn.SiLU()]
                last = width
            self.encoder = nn.Sequential(*layers)
            self.to_code = nn.Linear(self.side**2 * self.top, 2 * z)
            self.from_code = nn.Linear(z, self.side**2 * self.top)
            layers = []
            for width in up:
                layers += [nn.ConvTranspose2d(last, width, 4, 2, 1), nn.GroupNorm(8, width), nn.SiLU()]
                last = width
            self.decoder = nn.Sequential(*layers, nn.Conv2d(last, channels, 3, 1, 1))

        def forward(self, x):
            mean, logvar = self.to_code(self.encoder(x).flatten(1)).chunk(2, 1)
            z = mean + torch.exp(0.5 * logvar) * torch.randn_like(mean)
            y = self.decoder(self.from_code(z).unflatten(1, (self.top, self.side, self.side)))
            return (0.5 * ((y - x) ** 2).sum() + kl(mean, logvar)) / len(x)

    def kl(mean, logvar):
        return -0.5 * (1 + logvar - mean * mean - logvar.exp()).sum()

    if workload == "mlp-vae":
        return MlpVae()
    if workload == "conv-vae-mnist":
        return ConvVae(28, 1, [32, 64], [32, 32], 20)
    return ConvVae(32, 3, [64, 128, 256], [128, 64, 64], 128)


def step_of(name, workload, variant, data):
    import torch
    images = torch_common.images_of(data, variant)
    model, forward = torch_common.prepare(build(name), variant, workload.params)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    def step():
        batch = images[torch.randint(len(images), (workload.batch,))]
        optimizer.zero_grad(set_to_none=True)
        loss = forward(batch)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


if __name__ == "__main__":
    torch_common.main(__file__, __doc__, WORKLOADS, step_of)
