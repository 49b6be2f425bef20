import pytest
import torch
from torch import nn

from labkit.denoising.networks import DenoisingAutoencoder, DnCNN, UNet, conv, start_orthogonal
from labkit.training import fit

SMALL = [
    lambda: DnCNN(depth=4, width=8),
    lambda: DnCNN(depth=4, width=8, batch_norm=False),
    lambda: DnCNN(depth=4, width=8, residual=False),
    lambda: DenoisingAutoencoder(width=8, levels=3),
    lambda: UNet(width=8, levels=3),
    lambda: UNet(width=8, levels=2, residual=False),
]


@pytest.mark.parametrize("make", SMALL)
@pytest.mark.parametrize("size", [(32, 40), (33, 21), (3, 5), (1, 1), (8, 1)])
def test_any_size_comes_back_and_nothing_is_changed(make, size):
    torch.manual_seed(0)
    network = make().eval()
    noisy = torch.rand(2, 1, *size)
    kept = noisy.clone()
    assert network(noisy).shape == noisy.shape
    assert torch.equal(noisy, kept)
    assert network(noisy[:0]).shape == (0, 1, *size)


@pytest.mark.parametrize("make", SMALL)
def test_every_parameter_learns(make):
    torch.manual_seed(0)
    network = make()
    noisy = torch.rand(4, 1, 16, 24)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    first = [p.detach().clone() for p in network.parameters()]
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.mse_loss(network(noisy), noisy.square()).backward()
        optimizer.step()
    assert all(not torch.equal(p, q) for p, q in zip(network.parameters(), first, strict=True))


@pytest.mark.parametrize("make", SMALL)
def test_a_few_steps_take_noise_away(make):
    torch.manual_seed(0)
    ramp = torch.linspace(0.2, 0.8, 24).expand(16, 1, 16, 24)
    noisy = ramp + 0.2 * torch.randn(16, 1, 16, 24)
    network = make()
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    fit(network, [(noisy, ramp)], epochs=60, loss=nn.functional.mse_loss, optimizer=optimizer, device="cpu")
    network.train()  # batch statistics: a running mean needs longer than these steps
    with torch.no_grad():
        assert float((network(noisy) - ramp).square().mean()) < 0.5 * 0.04


@pytest.mark.parametrize("make", [SMALL[0], SMALL[1], SMALL[4]])
def test_a_residual_network_starts_as_nothing_is_noise(make):
    torch.manual_seed(0)
    noisy = torch.rand(1, 1, 16, 16)
    assert torch.equal(make().eval()(noisy), noisy)


def test_an_orthogonal_start_keeps_the_power_of_the_signal():
    torch.manual_seed(0)
    layers = [conv(16, 16) for _ in range(12)]
    start_orthogonal(nn.Sequential(*layers))
    features = first = torch.randn(1, 16, 40, 40)
    for layer in layers:
        features = layer(features).relu()
        assert not layer.bias.any()
    power = (features.square().mean() / first.square().mean()).item()
    assert 0.2 < power < 2  # zeros at the border take a little; torch's own start leaves less than a millionth


@pytest.mark.parametrize(
    "make", [lambda scale: DnCNN(4, 8, batch_norm=False, scale=scale), lambda scale: UNet(8, 2, scale=scale)]
)
def test_scale_is_what_one_of_the_last_layer_stands_for(make):
    plain, tenth = make(1.0), make(0.1)
    for parameter in plain.parameters():
        nn.init.normal_(parameter, std=0.2)
    tenth.load_state_dict(plain.state_dict())
    noisy = torch.rand(2, 1, 16, 24)
    with torch.no_grad():
        torch.testing.assert_close(noisy - tenth(noisy), 0.1 * (noisy - plain(noisy)))
        if isinstance(tenth, DnCNN):
            torch.testing.assert_close(tenth.noise(noisy), noisy - tenth(noisy))


def test_a_unet_halves_by_means():
    """Features that are the image itself: what comes back from below is the mean of four pixels, not the largest."""
    network = UNet(width=1, levels=1, residual=False)
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    for layer in (*network.first, *network.down[0]):
        if isinstance(layer, nn.Conv2d):
            nn.init.ones_(layer.weight[:1, :1, 1:2, 1:2])
    with torch.no_grad():
        for layer in (network.merge[0][0], network.merge[0][2], network.last):
            layer.weight[0, 0, 1, 1] = 1
        network.up[0].weight[0, 0] = 1
        image = torch.rand(1, 1, 4, 6)
        expected = nn.functional.avg_pool2d(image, 2).repeat_interleave(2, -1).repeat_interleave(2, -2)
        torch.testing.assert_close(network(image), expected)


def test_noise_and_denoised_add_up():
    torch.manual_seed(0)
    noisy = torch.rand(1, 1, 16, 16)
    for residual in (True, False):
        network = DnCNN(depth=3, width=8, batch_norm=False, residual=residual)
        nn.init.normal_(network.layers[-1].weight)
        torch.testing.assert_close(network(noisy) + network.noise(noisy), noisy)


def test_dncnn_17_without_batch_norm_is_17_pairs_in_order():
    network = DnCNN(depth=17, width=64, channels=1, batch_norm=False)
    state = list(network.state_dict().values())
    assert [tuple(t.shape) for t in state] == (
        [(64, 1, 3, 3), (64,)] + [(64, 64, 3, 3), (64,)] * 15 + [(1, 64, 3, 3), (1,)]
    )
    assert sum(t.numel() for t in state) == 555_137


def test_a_published_list_of_pairs_gives_the_plain_computation():
    generator = torch.Generator().manual_seed(0)
    network = DnCNN(depth=4, width=6, batch_norm=False)
    pairs = [0.3 * torch.randn(p.shape, generator=generator) for p in network.parameters()]
    network.load_pairs(pairs)
    noisy = torch.rand(1, 1, 11, 13, generator=generator)
    x = noisy
    for weight, bias in zip(pairs[:-2:2], pairs[1:-2:2], strict=True):
        x = nn.functional.conv2d(x, weight, bias, padding=1).relu()
    torch.testing.assert_close(network(noisy), noisy - nn.functional.conv2d(x, *pairs[-2:], padding=1))


@pytest.mark.parametrize(
    ("network", "tensors", "message"),
    [
        (DnCNN(3, 4, batch_norm=False), lambda p: p[:-1], "expected 6 tensors, got 5"),
        (DnCNN(3, 4, batch_norm=False), lambda p: [*p, p[-1]], "expected 6 tensors, got 7"),
        (DnCNN(3, 4, batch_norm=False), lambda p: [p[1], p[0], *p[2:]], r"expected shape \(4, 1, 3, 3\) as tensor 0"),
        (DnCNN(3, 4), lambda p: p, "write batch_norm=False"),
    ],
)
def test_weights_of_another_architecture_are_said_and_change_nothing(network, tensors, message):
    pairs = [torch.ones_like(p) for p in DnCNN(3, 4, batch_norm=False).parameters()]
    before = [p.detach().clone() for p in network.parameters()]
    with pytest.raises(ValueError, match=message):
        network.load_pairs(tensors(pairs))
    assert all(torch.equal(p, q) for p, q in zip(network.parameters(), before, strict=True))


@pytest.mark.parametrize(
    ("noisy", "message"),
    [
        (torch.zeros(8, 8), r"write noisy\[None, None\]"),
        (torch.zeros(2, 8, 8), r"write noisy\[:, None\]"),
        (torch.zeros(2, 3, 8, 8), "average colours"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), "divide bytes by 255"),
        (torch.zeros(2, 1, 0, 8), "got torch.float32"),
    ],
)
@pytest.mark.parametrize("make", [SMALL[0], SMALL[3], SMALL[4]])
def test_bad_input_is_said(make, noisy, message):
    with pytest.raises(ValueError, match=message):
        make()(noisy)


@pytest.mark.parametrize(
    "make",
    [
        lambda: DnCNN(depth=1),
        lambda: DnCNN(width=0),
        lambda: UNet(levels=0),
        lambda: DenoisingAutoencoder(channels=0),
    ],
)
def test_bad_sizes_of_a_network_are_said(make):
    with pytest.raises(ValueError, match="1 or more"):
        make()
