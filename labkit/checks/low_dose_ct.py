"""Checks of notebook 13: the law of Beer and Lambert, there and back. The critic's loss is in `low_dose_ct_loss`."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from labkit.checks.engine import Case, run_check
from labkit.checks.fixtures import floats, uniform

# -------------------------------------------------------------------------------------------------- photon_counts


def photon_counts(student: Callable) -> Callable:
    """Check `my_photon_counts(attenuation (R, S), step_mm, photons) -> (R,)` of notebook 13.

    Example:
        >>> photon_counts(lambda attenuation, step, photons: photons * torch.exp(-attenuation.sum(dim=1))).__name__
        ✗ photon_counts: one ray through water and air, steps of 5 mm
        ...
          likely: the length of a step is missing: ...
        'reference_photon_counts'
    """
    cases = [
        Case("one ray through water and air, steps of 5 mm", (torch.tensor([[0.02, 0.02, 0.0]]), 5.0, 1000.0)),
        Case("a ray that meets nothing: every photon arrives", (torch.zeros(1, 4), 2.0, 1000.0)),
        Case("two rays, one of them through bone", (torch.tensor([[0.02, 0.0], [0.05, 0.04]]), 3.0, 500.0)),
        Case("steps shorter than 1 mm", (torch.tensor([[0.02, 0.05, 0.03]]), 0.5, 1e4)),
        Case("so much bone that less than one photon is expected", (torch.full((2, 3), 0.06), 50.0, 1e3)),
        Case("as many rays as samples", (0.05 * uniform(4, 4, seed=1), 7.0, 2e4)),
        Case("5 rays of 40 samples", (0.04 * uniform(5, 40, seed=2), 1.4, 4e5)),
    ]
    return run_check(
        "photon_counts", student, reference_photon_counts, cases, mistakes=PHOTON_COUNTS_MISTAKES, atol=1e-4
    )


def reference_photon_counts(attenuation: Tensor, step_mm: float, photons: float) -> Tensor:
    """What arrives of each ray's photons: photons · exp(-sum of attenuation · step)."""
    return photons * torch.exp(-(attenuation * step_mm).sum(dim=1))


def _arrive(attenuation: Tensor, step_mm: float, photons: float, *, total: Callable = torch.sum, base=None) -> Tensor:
    """The counts with room for the usual slips."""
    integral = total(attenuation * step_mm, dim=1)
    return photons * (torch.exp(-integral) if base is None else base**-integral)


def _over_rays(attenuation: Tensor, step_mm: float, photons: float) -> Tensor:
    return photons * torch.exp(-(attenuation * step_mm).sum(dim=0))


PHOTON_COUNTS_MISTAKES: dict[str, Callable] = {
    "the length of a step is missing: attenuation is per mm, so each sample counts times step_mm": (
        lambda mu, step, n: _arrive(mu, 1.0, n)
    ),
    "divide by the step? attenuation is per mm: a longer step takes more away": lambda mu, step, n: _arrive(
        mu, 1 / step, n
    ),
    "a line integral is a sum along the ray, not a mean": lambda mu, step, n: _arrive(mu, step, n, total=torch.mean),
    "the sum runs along the ray, dim=1, not over the rays": _over_rays,
    "each ray has its own integral: sum over dim=1 alone": lambda mu, step, n: (
        n * torch.exp(-(mu * step).sum()).expand(len(mu))
    ),
    "the sign: matter takes photons away, exp of minus the integral": lambda mu, step, n: _arrive(mu, -step, n),
    "the base is e, not 10": lambda mu, step, n: _arrive(mu, step, n, base=10.0),
    "the base is e, not 2": lambda mu, step, n: _arrive(mu, step, n, base=2.0),
    "these are the photons that were absorbed; the others arrive": lambda mu, step, n: n - _arrive(mu, step, n),
    "first add up along the ray, then take the exponential: what passes one pixel meets the next": (
        lambda mu, step, n: n * torch.exp(-mu * step).mean(dim=1)
    ),
    "exponentials are multiplied along a ray, so what is added up is inside the exponential": (
        lambda mu, step, n: n * torch.exp(-mu * step).sum(dim=1)
    ),
    "each ray has its own integral, and the result is (R,): sum over dim=1 alone, not over everything": (
        lambda mu, step, n: n * torch.exp(-(mu * step).sum())
    ),
    "each of the S samples counts with a whole step: a sum, and no trapezoids": (
        lambda mu, step, n: n * torch.exp(-torch.trapezoid(mu, dx=step, dim=1))
    ),
    "1 - p is exp(-p) for thin layers only; a step of some millimetres is not thin enough": (
        lambda mu, step, n: n * (1 - mu * step).prod(dim=1)
    ),
    "mu comes per mm, not in HU": lambda mu, step, n: _arrive(mu / 1000, step, n),
    "1 - p is exp(-p) for thin things only": lambda mu, step, n: n * (1 - (mu * step).sum(dim=1)),
    "this is the share that arrives; times photons": lambda mu, step, n: _arrive(mu, step, 1.0),
    "this is the line integral; photons · exp(-integral) arrive": lambda mu, step, n: (mu * step).sum(dim=1),
    "photons stand before the exponential, not inside": lambda mu, step, n: torch.exp(-n * (mu * step).sum(dim=1)),
    "these are expectations: leave fractions of a photon, the detector rounds by chance": (
        lambda mu, step, n: _arrive(mu, step, n).round()
    ),
    "leave less than one photon as it is: what the detector does with it comes in the next exercise": (
        lambda mu, step, n: _arrive(mu, step, n).clamp(min=1)
    ),
}


# ------------------------------------------------------------------------------------------------- line_integrals


def line_integrals(student: Callable) -> Callable:
    """Check `my_line_integrals(counts (views, detectors), photons) -> (views, detectors)` of notebook 13.

    Example:
        >>> line_integrals(lambda counts, photons: -torch.log(counts / photons)).__name__
        ✗ line_integrals: a ray that counted nothing: as if it had counted one photon
        ...
          likely: log(0) is minus infinity: ...
        'reference_line_integrals'
    """
    many = (3000 * uniform(5, 8, seed=3) ** 6).floor() - 2
    cases = [
        Case("one ray, a tenth arrives", (torch.tensor([[100.0]]), 1000.0)),
        Case("all arrive", (torch.tensor([[500.0, 500.0]]), 500.0)),
        Case("three rays without a photon lost, counted with noise", (torch.tensor([[985.0, 1012, 1000]]), 1000.0)),
        Case("a ray that counted nothing: as if it had counted one photon", (torch.tensor([[50.0, 0.0]]), 200.0)),
        Case("electronic noise: a count below zero", (torch.tensor([[7.0], [-3.0]]), 200.0)),
        Case("electronic noise: a part of a photon", (torch.tensor([[0.25, 20.0, 0.75]]), 200.0)),
        Case("exactly one photon", (torch.tensor([[1.0, 4.0]]), 1e4)),
        Case("no ray of the scan is free", (floats(3.5, 40, 11.25, 8).reshape(2, 2), 1e5)),
        Case("5 views of 8 detectors, some starved", (many, 2500.0)),
    ]
    return run_check("line_integrals", student, reference_line_integrals, cases, mistakes=LINE_INTEGRALS_MISTAKES)


def reference_line_integrals(counts: Tensor, photons: float) -> Tensor:
    """-log(counts / photons), where fewer than one photon count as one."""
    return -torch.log(counts.clamp(min=1) / photons)


def _integrals(counts: Tensor, photons: float, *, logarithm: Callable = torch.log, least: float | None = 1) -> Tensor:
    """The line integrals with room for the usual slips."""
    return -logarithm((counts if least is None else counts.clamp(min=least)) / photons)


def _starved_are(value: Callable) -> Callable:
    """Rays below one photon get what this says of the number of photons."""

    def wrong(counts: Tensor, photons: float) -> Tensor:
        starved = torch.full_like(counts, value(photons))
        return torch.where(counts < 1, starved, reference_line_integrals(counts, photons))

    return wrong


def _only_zero(counts: Tensor, photons: float) -> Tensor:
    return -torch.log(torch.where(counts == 0, 1.0, counts) / photons)


def _only_not_positive(counts: Tensor, photons: float) -> Tensor:
    return -torch.log(torch.where(counts <= 0, 1.0, counts) / photons)


def _brightest(counts: Tensor, photons: float) -> Tensor:
    return -torch.log(counts.clamp(min=1) / counts.max().clamp(min=1))


LINE_INTEGRALS_MISTAKES: dict[str, Callable] = {
    "log(0) is minus infinity: set counts below one photon to one, counts.clamp(min=1)": (
        lambda c, n: _integrals(c, n, least=None)
    ),
    "raise the counts, not the share: (counts / photons).clamp(min=1) lets every ray pass freely": (
        lambda c, n: -torch.log((c / n).clamp(min=1))
    ),
    "a tiny number for a starved ray makes its integral huge, and a streak: at least one photon": (
        lambda c, n: _integrals(c, n, least=1e-6)
    ),
    "a photon more for every ray moves all of them: raise only those below one": lambda c, n: (
        -torch.log((c.clamp(min=0) + 1) / n)
    ),
    "counts are not whole, the electronics add parts of a photon: nothing is rounded": (
        lambda c, n: -torch.log(c.round().clamp(min=1) / n)
    ),
    "1 is added to every ray: raise only those below one photon": lambda c, n: -torch.log((c + 1) / n),
    "the share goes into the logarithm: log(counts / photons), not log(counts) / log(photons)": (
        lambda c, n: -torch.log(c.clamp(min=1)) / math.log(n)
    ),
    "this is the way there; back it is -log(counts / photons)": lambda c, n: n * torch.exp(-c),
    "a count below zero is noise around nothing: it counts as one photon, not with its sign turned": (
        lambda c, n: -torch.log(c.abs().clamp(min=1) / n)
    ),
    "counts below zero and parts of a photon need it too, not only zero: clamp(min=1)": _only_zero,
    "parts of a photon need it too: clamp(min=1)": _only_not_positive,
    "the logarithm is the natural one, torch.log, not log10": lambda c, n: _integrals(c, n, logarithm=torch.log10),
    "the logarithm is the natural one, torch.log, not log2": lambda c, n: _integrals(c, n, logarithm=torch.log2),
    "the sign: fewer photons, a larger integral": lambda c, n: -reference_line_integrals(c, n),
    "a starved ray is the one that met most, not the one that met nothing": _starved_are(lambda n: 0.0),
    "leave integrals below zero: noise goes both ways, and cutting one side off is a bias": (
        lambda c, n: reference_line_integrals(c, n).clamp(min=0)
    ),
    "divide by the photons that were sent, not by the highest count: maybe no ray is free": _brightest,
    "divide by photons first: the logarithm of a count alone has the wrong zero": lambda c, n: (
        -torch.log(c.clamp(min=1))
    ),
    "this is the share that arrives; its logarithm, with the sign turned, is the integral": (
        lambda c, n: c.clamp(min=1) / n
    ),
    "1 - share is the integral for thin things only": lambda c, n: 1 - c.clamp(min=1) / n,
}
