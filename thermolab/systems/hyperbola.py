"""Two weights on L = (xy − 1)², the loss of their product, under descent, its reversal or an exact flow.

The minima form a hyperbola, along which the rescaling x → e^s x, y → e^{−s} y changes nothing. A step of descent does what the
flow of F = L + (η/4)|∇L|² does in a time η, up to an error of order η³, and so it is with a step of ascent on L + (η/2)|∇L|² that
undoes it. The flow of L conserves x² − y². Source: document 4, part 1. Limit: flows come back to their starts as long as they
have not come so near a minimum that float64 forgets where from, so time ends at 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from thermolab.systems import random
from thermolab.systems.kernels import DIVERGED
from thermolab.systems.system import Base

RULES = ("descent", "descent, undone on F", "flow of L", "flow of F")
WAYS = ("forward", "backward")
LATEST = 2.0  # time at which descents and flows stop
SUBSTEPS = 4  # of Runge-Kutta in a step of a flow


def force(place: torch.Tensor, constant) -> torch.Tensor:
    """∇(L + constant |∇L|²) at places (x, y) [R, 2]; constant [R, 1] or a number.

    >>> force(torch.tensor([[2.0, 1.0]]), 0.0)
    tensor([[2., 4.]])
    """
    off = (place.prod(1) - 1)[:, None]
    square = (place * place).sum(1)[:, None]
    return 2 * off * (1 + 4 * constant * square) * place.flip(1) + 8 * constant * off * off * place


class Hyperbola(Base):
    """System of (x, y) on L = (xy − 1)² under one of the rules; weights (x, y, time) [R, 3], float64.

    rule: one of `RULES`. Knobs: eta, way ("forward" until the time is 2, or "backward" until it is 0). λ has no effect.
    Raises ValueError for an unknown rule.
    """

    name = "hyperbola"
    observables = ()
    choices: ClassVar = {"way": WAYS}
    n_parameters = 3

    def __init__(self, rule: str = "descent"):
        if rule not in RULES:
            raise ValueError(f"rule={rule!r} is unknown; allowed: {'; '.join(RULES)}")
        self.rule, self.knobs = rule, {"way": "forward"}

    def settings(self) -> dict:
        """Plain values that rebuild this system."""
        return {"rule": self.rule}

    def start(self, streams: torch.Tensor, seed: int) -> torch.Tensor:
        """Places [R, 3] drawn from a Gaussian of variance 1, at time 0, float64."""
        place = random.normals(seed, streams, 0, 1, 2, torch.float64, purpose=random.START)[0]
        return torch.nn.functional.pad(place, (0, 1))

    def advance(self, weights: torch.Tensor, first_step: int, n: int, knobs: Mapping, seed: int, streams, radius, memory=()):
        """As in `System`, without observables."""
        eta, back = knobs["eta"].to(weights)[:, None], knobs["way"] == "backward"
        diverged = torch.full((len(weights),), -1, dtype=torch.int64, device=weights.device)
        for i in range(first_step, first_step + n):
            place, time = weights[:, :2], weights[:, 2:]
            span = -torch.minimum(eta, time) if back else torch.where(time + eta < LATEST + 1e-9, eta, 0.0)
            place -= self._step(place, span, eta)
            time += span
            bad = ~((place * place).sum(1) < DIVERGED)
            diverged[bad & (diverged < 0)] = i + 1
        return {}, diverged

    def _step(self, place, span, eta) -> torch.Tensor:
        """What is taken off (x, y) within a time `span`, which is negative on the way back."""
        if self.rule.startswith("descent"):
            undone = self.rule != "descent" and span.max() <= 0
            return span * force(place, eta / 2 if undone else 0.0)
        constant, h, start = (eta / 4 if self.rule == "flow of F" else 0.0), span / SUBSTEPS, place
        for _ in range(SUBSTEPS):
            a = force(place, constant)
            b = force(place - h / 2 * a, constant)
            c = force(place - h / 2 * b, constant)
            d = force(place - h * c, constant)
            place = place - h / 6 * (a + 2 * b + 2 * c + d)
        return start - place
