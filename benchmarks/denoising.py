"""Time of image quality, tomography and networks beside scikit-image, and the errors against it.

Prints the shortest of several repetitions, both sides in turn, so that other work on the machine does not decide:

    python benchmarks/denoising.py            # all of it, about a minute
    python benchmarks/denoising.py --size 128 --views 180
"""

import argparse
import time

import numpy as np
import torch
from skimage.metrics import structural_similarity
from skimage.transform import iradon
from skimage.transform import radon as slow_radon

from labkit.denoising import filters
from labkit.denoising.metrics import ms_ssim, ssim
from labkit.denoising.networks import DenoisingAutoencoder, DnCNN, UNet
from labkit.denoising.tomography import filtered_back_projection, radon
from labkit.device import autocast, describe, pick_device, precision

WANG = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}


def shortest(calls, repetitions):
    """Milliseconds of each call, the shortest of so many turns after one that warms up."""
    best = [float("inf")] * len(calls)
    for turn in range(repetitions + 1):
        for i, call in enumerate(calls):
            start = time.perf_counter()
            call()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn:
                best[i] = min(best[i], 1000 * (time.perf_counter() - start))
    return best


def row(name, times, error=None):
    """One line of the table."""
    reference, ours = times
    tail = "" if error is None else f"   largest difference {error:.1e}"
    print(f"{name:<38}{reference:10.1f} ms {ours:10.1f} ms {reference / ours:8.1f} x{tail}")


def pairs(count, size):
    """Images with structure at all scales, and the same with noise."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 1, size // 16, size // 16, generator=generator)
    target = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic").clamp(0, 1)[:, 0]
    return (target + 0.1 * torch.randn(target.shape, generator=generator)), target


def slow_ms_ssim(pred, target):
    """scikit-image's SSIM at each of five scales: the work an MS-SSIM built on it does."""
    values = []
    for _ in range(5):
        values.append(structural_similarity(pred, target, **WANG))
        pred, target = ((x[::2, ::2] + x[1::2, ::2] + x[::2, 1::2] + x[1::2, 1::2]) / 4 for x in (pred, target))
    return values


def quality(repetitions):
    """SSIM and MS-SSIM of 16 images of 256 x 256."""
    pred, target = pairs(16, 256)
    arrays = list(zip(pred.numpy(), target.numpy(), strict=True))
    error = max(
        abs(structural_similarity(x.astype(float), y.astype(float), **WANG) - float(s))
        for (x, y), s in zip(arrays, ssim(pred, target, data_range=1.0), strict=True)
    )
    one = shortest(
        [lambda: [structural_similarity(x, y, **WANG) for x, y in arrays], lambda: ssim(pred, target, data_range=1.0)],
        repetitions,
    )
    row("SSIM, 16 x 256 x 256", one, error)
    many = shortest(
        [lambda: [slow_ms_ssim(x, y) for x, y in arrays], lambda: ms_ssim(pred, target, data_range=1.0)], repetitions
    )
    row("MS-SSIM, 16 x 256 x 256", many)


def tomography(size, views):
    """Radon transform and back-projection of 16 images; the reference does one, its time is taken 16 times."""
    axis = torch.arange(size) - size // 2
    circle = axis[:, None] ** 2 + axis**2 < (0.9 * size / 2) ** 2
    _, images = pairs(16, size)
    images, theta = images * circle, np.arange(views) * 180 / views
    first = images[0].double().numpy()
    start = time.perf_counter()
    sinograms = radon(images, views=views)
    filtered_back_projection(sinograms)
    made = time.perf_counter() - start
    slow, fast = shortest([lambda: slow_radon(first, theta), lambda: radon(images, views=views)], 2)
    expected = slow_radon(first, theta)
    error = np.abs(sinograms[0].numpy().T - expected).max() / expected.max()
    row(f"Radon, 16 x {size} x {size}, {views} views", (16 * slow, fast), error)
    sinogram = sinograms[0].double().numpy().T
    slow, fast = shortest([lambda: iradon(sinogram, theta), lambda: filtered_back_projection(sinograms)], 2)
    expected = iradon(sinogram, theta)
    error = np.abs(filtered_back_projection(sinograms)[0].numpy() - expected).max() / expected.max()
    row(f"back-projection, 16 x {size} x {size}", (16 * slow, fast), error)
    one = shortest([lambda: filtered_back_projection(sinograms[0])], 3)[0]
    print(f"{'back-projection of one slice':<38}{one:24.1f} ms")
    print(f"{'both matrices, made once':<38}{1000 * made:24.1f} ms")


def networks(device, repetitions):
    """DnCNN-17 in the precision of the device against fp32, and each network and filter on one image."""
    noisy, _ = pairs(1, 256)
    one = noisy[:, None].to(device)
    chosen = precision(device)

    def run(network, name):
        with torch.no_grad(), autocast(device, precision=name):
            return network(one)

    deep = DnCNN(batch_norm=False).eval().to(device)
    row(
        f"DnCNN-17, fp32 against {chosen}",
        shortest([lambda: run(deep, "fp32"), lambda: run(deep, chosen)], repetitions),
    )
    print("\nms an image of 256 x 256, and parameters")
    for name, network in {
        "DnCNN, 17 x 64": deep,
        "DnCNN, 8 x 32": DnCNN(8, 32, batch_norm=False).eval().to(device),
        "U-Net": UNet().eval().to(device),
        "autoencoder": DenoisingAutoencoder().eval().to(device),
    }.items():
        spent = shortest([lambda network=network: run(network, chosen)], repetitions)[0]
        print(f"{name:<38}{spent:10.1f} ms {sum(p.numel() for p in network.parameters()):12,}")
    for name in filters.__all__:
        try:
            spent = shortest([lambda name=name: getattr(filters, name)(noisy, sigma=0.1)], 1)[0]
            print(f"{name:<38}{spent:10.1f} ms")
        except ImportError as error:
            print(f"{name:<38}{error}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--size", type=int, default=256, help="pixels a side of the CT slices")
    parser.add_argument("--views", type=int, default=360)
    options = parser.parse_args()
    print(describe(), "\n")
    print(f"{'':<38}{'scikit-image':>13} {'labkit':>13} {'ratio':>10}")
    quality(options.repetitions)
    tomography(options.size, options.views)
    print()
    networks(pick_device(), options.repetitions)


if __name__ == "__main__":
    main()
