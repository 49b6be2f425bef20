"""The focal loss, against the cross entropy and torchvision's sigmoid form."""

import torch
import torch.nn.functional as F
from torchvision.ops import sigmoid_focal_loss

from labkit.detection.focal_loss import focal_loss


def test_with_gamma_0_it_is_the_cross_entropy():
    torch.manual_seed(0)
    logits, labels = torch.randn(30, 4), torch.randint(-1, 4, (30,))
    expected = F.cross_entropy(logits, labels, ignore_index=-1, reduction="sum") / (labels > 0).sum()
    torch.testing.assert_close(focal_loss(logits, labels, gamma=0), expected)


def test_with_two_classes_it_is_torchvisions():
    torch.manual_seed(0)
    logit, labels = torch.randn(20), torch.randint(0, 2, (20,))
    pair = torch.stack([torch.zeros(20), logit], dim=1)
    expected = sigmoid_focal_loss(logit, labels.float(), alpha=-1, gamma=2, reduction="sum") / labels.sum()
    torch.testing.assert_close(focal_loss(pair, labels, gamma=2), expected)


def test_far_out_it_is_finite_and_has_a_gradient():
    logits = torch.tensor([[300.0, 0.0], [0.0, 300.0]], requires_grad=True)
    loss = focal_loss(logits, torch.tensor([1, 0]), gamma=2)
    loss.backward()
    torch.testing.assert_close(loss.detach(), torch.tensor(600.0))
    torch.testing.assert_close(logits.grad, torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))


def test_without_anchors_it_is_0():
    assert focal_loss(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), gamma=2) == 0
