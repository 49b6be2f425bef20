"""Low-dose CT: a generator that takes noise away, a critic that it must please, and what both are trained by.

Slices    (B, 1, H, W) in HU; networks see them in window units, (HU - 40) / 400: -0.5 to 0.5 is the window of soft
          tissue, -160 to 240 HU.
Scores    (B,) of the critic, no unit: high for what looks like normal dose.
Losses    scalars. The critic's holds the gradient penalty, whose norm is taken in window units over a whole patch.

Taught in notebook 13, after Yang et al., IEEE TMI 37:1348, 2018 (WGAN-VGG). Here the generator gives the noise, not the
image, and the features are those of a small network that was trained to name tissue on phantom slices, not VGG19's.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from labkit.device import autocast
from labkit.weights import load_weights

WINDOW = (-160.0, 240.0)  # HU, of soft tissue
PENALTY = 10.0  # lambda of the gradient penalty, as in the paper
# What a generator of the lecture's table is trained by, beside the critic; the names of the shipped ones.
METHODS = ("CNN-MSE", "WGAN-MSE", "CNN-feature", "WGAN-feature", "WGAN", "GAN")
TISSUES = ("lungs", "organs", "bones", "vessels", "nodules")  # what the features' network was trained to name

Content = Callable[[Tensor, Tensor], Tensor]


def to_units(slices: Tensor) -> Tensor:
    """Slices of HU in window units: -0.5 to 0.5 in the window.

    Example:
        >>> to_units(torch.tensor([-160.0, 240]))
        tensor([-0.5000,  0.5000])
    """
    low, high = WINDOW
    return (slices - (low + high) / 2) / (high - low)


def to_hu(units: Tensor) -> Tensor:
    """HU of window units; the inverse of `to_units`.

    Example:
        >>> to_hu(torch.tensor([-0.5, 0.0]))
        tensor([-160.,   40.])
    """
    low, high = WINDOW
    return units * (high - low) + (low + high) / 2


class Generator(nn.Module):
    """Eight 3 x 3 convolutions of 32 channels; what they give is added to the slice.

    The paper's generator gives the slice itself. To add is to begin with the noisy slice instead of with nothing: a
    training of minutes would else go into repeating it.

    Example:
        >>> generator = Generator()
        >>> generator(torch.zeros(2, 1, 9, 14)).shape, sum(p.numel() for p in generator.parameters())
        (torch.Size([2, 1, 9, 14]), 56097)
    """

    def __init__(self, depth: int = 8, width: int = 32) -> None:
        """Build the convolutions; the last begins at zero, "nothing is noise"."""
        super().__init__()
        widths = [1, *[width] * (depth - 1), 1]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])
        for parameter in self.layers[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, units: Tensor) -> Tensor:
        """(B, 1, H, W) denoised, of noisy slices, both in window units."""
        return units + self.layers(units)


class Critic(nn.Module):
    """The paper's critic of patches: six convolutions without padding, stride 1 and 2 in turn, two full layers.

    Nothing is normalised over the batch: the gradient penalty is a demand on each image by itself.

    Args:
        size: side of the patches in pixels, 29 or more.

    Raises:
        ValueError: the patches are too small for the convolutions.

    Example:
        >>> Critic(64)(torch.zeros(2, 1, 64, 64)).shape
        torch.Size([2])
    """

    def __init__(self, size: int = 64, *, widths: tuple[int, ...] = (64, 64, 128, 128, 256, 256), full: int = 1024):
        super().__init__()
        layers: list[nn.Module] = []
        left = size
        for number, (before, after) in enumerate(pairwise((1, *widths))):
            stride = 1 + number % 2
            layers += [nn.Conv2d(before, after, 3, stride=stride), nn.LeakyReLU(0.2)]
            left = (left - 3) // stride + 1
        if left < 1:
            raise ValueError(f"size must be 29 or more for six convolutions, got {size}; cut larger patches")
        self.features = nn.Sequential(*layers)
        self.score = nn.Sequential(nn.Linear(widths[-1] * left**2, full), nn.LeakyReLU(0.2), nn.Linear(full, 1))

    def forward(self, units: Tensor) -> Tensor:
        """(B,) scores of patches (B, 1, size, size) in window units."""
        found = self.features(units)
        return self.score(found.flatten(1))[:, 0]


class TissueNet(nn.Module):
    """A small network that names tissue; its features stand in for VGG19's.

    `features` gives (B, 64, H / 4, W / 4), `forward` the logits of TISSUES at the same places.

    Example:
        >>> TissueNet()(torch.zeros(2, 1, 64, 64)).shape
        torch.Size([2, 5, 16, 16])
    """

    def __init__(self) -> None:
        """Build three pairs of convolutions; the size is halved after the first and the second."""
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((1, 16), (16, 32), (32, 64)):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
            layers += [nn.Conv2d(after, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers[:-1])
        self.head = nn.Conv2d(64, len(TISSUES), 1)

    def forward(self, units: Tensor) -> Tensor:
        """(B, 5, H / 4, W / 4) logits of slices (B, 1, H, W) in window units."""
        return self.head(self.features(units))


class FeatureLoss(nn.Module):
    """Mean squared distance of the features of two batches: the paper's VGG loss, of any network.

    The network is frozen: its weights get no gradient, the slices do.

    Args:
        features: gives (B, C, h, w) of (B, 1, H, W) in window units.

    Example:
        >>> slices = torch.zeros(1, 1, 16, 16)
        >>> FeatureLoss(TissueNet().features)(slices, slices)
        tensor(0.)
    """

    def __init__(self, features: nn.Module) -> None:
        super().__init__()
        self.features = features.eval().requires_grad_(False)

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        """The loss of fake (B, 1, H, W) beside real, in window units."""
        with torch.no_grad():
            wanted = self.features(real)
        return F.mse_loss(self.features(fake).float(), wanted.float())


def critic_loss(
    critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, epsilon: Tensor, weight: float = PENALTY
) -> Tensor:
    """Wasserstein loss of a critic with its gradient penalty: mean D(fake) - mean D(real) + weight · penalty.

    The penalty is the mean over images of (norm of D's gradient - 1)^2 at epsilon · real + (1 - epsilon) · fake, with
    one epsilon an image and the norm over all pixels of that image. Gulrajani et al., NIPS 2017, algorithm 1.

    Built from scratch in notebook 13. The generator gets no gradient where `fake` is detached from it.

    Args:
        critic: gives (B,) scores.
        real, fake: (B, 1, H, W) of normal dose and denoised, in window units.
        epsilon: (B,) random numbers in [0, 1).
        weight: of the penalty.

    Raises:
        ValueError: the shapes do not belong together.

    Example:
        >>> real, fake = torch.full((2, 1, 1, 1), 3.0), torch.zeros(2, 1, 1, 1)
        >>> critic_loss(lambda images: 2 * images.flatten(1).sum(dim=1), real, fake, torch.rand(2))
        tensor(4.)
    """
    if real.shape != fake.shape or real.ndim != 4 or epsilon.shape != real.shape[:1]:
        shapes = [tuple(part.shape) for part in (real, fake, epsilon)]
        raise ValueError(f"real and fake must be (B, 1, H, W) and epsilon (B,), got {shapes}; one epsilon an image")
    share = epsilon[:, None, None, None]
    between = (share * real + (1 - share) * fake).requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    penalty = (slope.flatten(1).norm(dim=1) - 1).square().mean()
    return critic(fake).mean() - critic(real).mean() + weight * penalty


def gan_critic_loss(
    critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, epsilon: Tensor, weight: float = 0.0
) -> Tensor:
    """Goodfellow's loss of a critic that says how likely an image is real: cross entropy; the rest is not used.

    Example:
        >>> zeros = torch.zeros(2, 1, 1, 1)
        >>> round(float(gan_critic_loss(lambda images: images.flatten(1).sum(dim=1), zeros, zeros, zeros)), 3)
        1.386
    """
    return F.softplus(critic(fake)).mean() + F.softplus(-critic(real)).mean()


def generator_loss(scores: Tensor) -> Tensor:
    """What a Wasserstein critic's scores (B,) of fakes cost the generator: their mean, with the sign turned."""
    return -scores.mean()


def gan_generator_loss(scores: Tensor) -> Tensor:
    """The same for Goodfellow's critic, in the form whose gradient does not vanish where the critic is sure."""
    return F.softplus(-scores).mean()


class AdversarialPair(nn.Module):
    """Generator and critic as one model whose losses `fit(loss=None)` adds up and makes small.

    Each loss moves its own network alone: the critic sees the generator's slices cut off from it, and the generator
    is led by a critic whose weights count as fixed. So one step of one optimizer is a step of both; let the critic's
    group have the higher learning rate, in place of the paper's four critic steps for each one of the generator.

    Args:
        generator, critic: the two networks.
        content: loss of (fake, real) that holds the generator to the slice; None for the critic alone.
        weight: of the content loss.
        judge: the critic's loss, called as `critic_loss`.
        please: the generator's, of the scores.

    Example:
        >>> pair = AdversarialPair(Generator(), Critic(36), content=F.mse_loss, weight=100.0)
        >>> losses = pair(torch.zeros(2, 1, 36, 36), torch.zeros(2, 1, 36, 36))
        >>> sorted(losses)
        ['content', 'critic', 'generator']
    """

    def __init__(
        self,
        generator: nn.Module,
        critic: nn.Module,
        *,
        content: Content | None = None,
        weight: float = 1.0,
        judge: Callable[..., Tensor] = critic_loss,
        please: Callable[[Tensor], Tensor] = generator_loss,
    ) -> None:
        super().__init__()
        self.generator, self.critic, self.content, self.weight = generator, critic, content, weight
        self.judge, self.please = judge, please

    def forward(self, low: Tensor, normal: Tensor) -> dict[str, Tensor]:
        """The losses of patches (B, 1, size, size) of low and of normal dose, in window units."""
        fake = self.generator(low).float()
        epsilon = torch.rand(len(low), device=low.device)
        fixed = {name: weight.detach() for name, weight in self.critic.named_parameters()}
        losses = {
            "critic": self.judge(self.critic, normal, fake.detach(), epsilon, PENALTY),
            "generator": self.please(functional_call(self.critic, fixed, (fake,)).float()),
        }
        if self.content is not None:
            losses["content"] = self.weight * self.content(fake, normal)
        return losses


@torch.no_grad()
def denoise(generator: nn.Module, slices: Tensor, *, batch: int = 4) -> Tensor:
    """(B, 1, H, W) slices in HU as a generator gives them back, in the precision of its device.

    Args:
        generator: takes and gives window units.
        slices: (B, 1, H, W) in HU.
        batch: slices at a time.

    Example:
        >>> slices = torch.full((3, 1, 16, 16), 40.0)
        >>> torch.equal(denoise(Generator(), slices), slices)  # nothing learned yet: nothing is noise
        True
    """
    device = next(generator.parameters()).device
    done = []
    for some in slices.split(batch):
        with autocast(device):
            done.append(generator(to_units(some.to(device))).float().cpu())
    return to_hu(torch.cat(done))


def shipped_networks() -> nn.ModuleDict:
    """Where the trained weights go: a generator for each of METHODS, and "tissue", whose features were used."""
    return nn.ModuleDict({**{name: Generator() for name in METHODS}, "tissue": TissueNet()})


def denoisers() -> nn.ModuleDict:
    """The trained generators by the names in METHODS, and "tissue"; in eval mode.

    Example:
        >>> sorted(denoisers())
        ['CNN-MSE', 'CNN-feature', 'GAN', 'WGAN', 'WGAN-MSE', 'WGAN-feature', 'tissue']
    """
    networks = shipped_networks()
    load_weights(networks, "low_dose_ct")
    return networks.eval()
