"""Denoisers that come with the course already trained: images in [0, 1], white Gaussian noise, not clipped.

The figures stand beside the weights in `labkit/trained_weights`, the recipe of all is `data/weights/denoiser.py`.

Used in notebook 11.
"""

from labkit.denoising.networks import DnCNN, UNet
from labkit.weights import load_weights

LEVELS = {15: "denoiser-dncnn-15", 25: "denoiser-dncnn-25", None: "denoiser-dncnn-blind"}


def dncnn(sigma: int | None = None, *, pretrained: bool = True) -> DnCNN:
    """The DnCNN of 17 convolutions for photographs, in eval mode.

    Args:
        sigma: 15 or 25 of 255, the noise it was trained for; None for the blind one, trained for 0 to 55.
        pretrained: load the trained weights; the recipe asks for none.

    Raises:
        ValueError: there is no network for this sigma.

    Example:
        >>> sum(p.numel() for p in dncnn(25).parameters())
        555137
    """
    if sigma not in LEVELS:
        raise ValueError(f"sigma must be 15, 25 or None, got {sigma!r}; None takes the blind network")
    network = DnCNN(batch_norm=False)
    if pretrained:
        load_weights(network, LEVELS[sigma])
    return network.eval()


def xray_denoiser(*, pretrained: bool = True) -> UNet:
    """The U-Net for chest films, sigma 5 to 50 of 255, in eval mode; it learned from phantoms.

    Example:
        >>> xray_denoiser(pretrained=False).channels
        1
    """
    return _unet("denoiser-xray", pretrained)


def mammogram_denoiser(*, pretrained: bool = True) -> UNet:
    """The U-Net for mammograms of 0.4 or 0.8 mm a pixel, sigma 5 to 50 of 255, in eval mode; it learned from mini-MIAS.

    Example:
        >>> mammogram_denoiser(pretrained=False).channels
        1
    """
    return _unet("denoiser-mammogram", pretrained)


def _unet(name: str, pretrained: bool) -> UNet:
    """The U-Net both film denoisers are."""
    network = UNet(width=16, levels=3, scale=0.1)
    if pretrained:
        load_weights(network, name)
    return network.eval()
