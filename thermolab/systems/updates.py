"""How weights move, given a gradient: an optimiser turns it into a direction u, a protocol takes the step.

With the gradient g, the radius r = |w|, learning rate η and weight decay λ (arXiv:2511.07308):

* "lr", fixed learning rate:             w <- w - η (u + λ w)
* "elr", fixed effective learning rate:  w <- w - η r² (u + λ w)
* "sphere", fixed radius:                w <- r (w - η r² u) / |w - η r² u|

For a scale-invariant loss η_eff = η/r² under "lr" and η_eff = η under the other two. The optimisers:

* "sgd":       u = g
* "momentum":  v <- μ v + g, u = v (heavy ball; on the sphere v is kept tangent)
* "adam":      m <- β₁ m + (1 - β₁) g, s <- β₂ s + (1 - β₂) g², u = m̂ / (√ŝ + ε), with m̂ = m / (1 - β₁ᵗ) and ŝ likewise
               (arXiv:1412.6980); λ is decoupled from it (arXiv:1711.05101)
* "adagrad":   s <- s + g², u = g / (√s + ε) (Duchi, Hazan, Singer, JMLR 12, 2011); λ is decoupled here too
* "sam":       u = gradient of the same batch at w + ρ g/|g| (arXiv:2010.01412)
* "eef":       u = g - λ_S w, as the energy-entropy framework prints it (document 0, eq. 4)

The u of Adam and AdaGrad does not change with the length of w, where the gradient goes as 1/r: there r stands in the place of r²
above. Adam's β, turned during a run, count as if they had held from the start (as in torch.optim). On the sphere only w is
projected, not u: what u of "adam", "adagrad", "sam" and "eef" has along w shows in the pressure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from thermolab.systems.codes import ProtocolCode

PROTOCOLS = tuple(code.name.lower() for code in ProtocolCode)


def check_protocol(protocol: str) -> str:
    """The protocol, or a ValueError that names the allowed ones."""
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol={protocol!r} is unknown; allowed: {', '.join(PROTOCOLS)}")
    return protocol


def update(protocol: str, w, g, eta, lam, radius, *, degree: int = -1, tangent: bool = True) -> torch.Tensor:
    """One step, in place.

    w, g: [R, P]; eta, lam, radius (of the fixed sphere): [R]. degree: how g changes with the length of w, g(cw) = c^degree g(w);
    tangent: whether g has no part along w. Returns the pressure [R] of the step: on the sphere (|w| before the projection -
    r)/(η r³) (arXiv:2511.07308; η r² at degree 0), otherwise the weight decay λ, which is set from outside.
    """
    if protocol == "lr":
        w.mul_((1 - eta * lam)[:, None]).addcmul_(g, -eta[:, None])
        return lam
    r = torch.linalg.vector_norm(w, dim=1)
    step = eta * r * r if degree == -1 else eta * r
    if protocol == "elr":
        w.mul_((1 - step * lam)[:, None]).addcmul_(g, -step[:, None])
        return lam
    # |w - step g|² = r² + step²|g|² if g is tangent; the form below keeps its digits when the step is small.
    stretch = (step / r) ** 2 * (g * g).sum(1)
    if not tangent:
        stretch -= 2 * step * (g * w).sum(1) / (r * r)
    w.addcmul_(g, -step[:, None])
    w.mul_((radius / torch.linalg.vector_norm(w, dim=1))[:, None])
    return stretch / (1 + torch.sqrt(1 + stretch)) / step


@dataclass(frozen=True)
class Optimiser:
    """A rule for the direction of a step.

    direction(w, g, memory, knobs, t) -> u [R, P], which may change memory {name: [R, P]} in place; knobs {name: [R]};
    t: the number of the step, from 1 on. probe(w, g, knobs) -> [R, P]: where the gradient is taken, if not at w.
    knobs: {name: default}; limits: {name: (low, high)}, of knobs that are bound by more than 0 <= knob: low <= knob < high.
    memory: names of what is kept from step to step, 0 at the start. degree, tangent: of u, as in `update`.
    remedy: what helps against divergence beside a smaller η.
    """

    direction: Callable
    knobs: Mapping[str, float] = field(default_factory=dict)
    limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    memory: tuple[str, ...] = ()
    probe: Callable | None = None
    degree: int = -1
    tangent: bool = False
    remedy: str = "a larger batch_size"


def find_optimiser(name: str) -> Optimiser:
    """The optimiser of that name, or a ValueError that names the allowed ones."""
    if name not in OPTIMISERS:
        raise ValueError(f"optimiser={name!r} is unknown; allowed: {', '.join(OPTIMISERS)}")
    return OPTIMISERS[name]


def step(
    optimiser: Optimiser, protocol: str, w, g, memory: Mapping, knobs: Mapping, radius, t: int, *, tangent: bool = True
) -> torch.Tensor:
    """Step number t of an optimiser, in place.

    w, g: [R, P]; memory: {name: [R, P]}, changed in place; knobs: {name: [R]} with eta and lam; radius: [R]; t from 1 on;
    tangent: whether g has no part along w, as for a scale-invariant loss.
    Returns the pressure [R] as `update` does, with what the sphere takes from the velocity: the weight decay that would hold
    the radius of a scale-invariant net in the sphere's place.
    """
    u = optimiser.direction(w, g, memory, knobs, t)
    shape = {"degree": optimiser.degree, "tangent": optimiser.tangent and tangent}
    pressure = update(protocol, w, u, knobs["eta"], knobs["lam"], radius, **shape)
    if protocol == "sphere" and "velocity" in memory:
        pressure = pressure + _transport(memory["velocity"], w, knobs["momentum"])
    return pressure


def _transport(v, w, momentum) -> torch.Tensor:
    """Make v tangent at w, in place, by projection (Absil, Mahony, Sepulchre 2008, sec. 8.1.3); its share [R] of the pressure.

    The step turned w away from v, which would now push outwards too: along w, where a scale-invariant loss sees nothing and
    the projection of w only shortens the steps to come. The wall takes that up; it would have acted μ + μ² + … = μ/(1 - μ) times.
    """
    along = (v * w).sum(1) / (w * w).sum(1)
    v.addcmul_(w, -along[:, None])
    return -along * momentum / (1 - momentum)


def _gradient(w, g, memory, knobs, t):
    return g


def _heavy_ball(w, g, memory, knobs, t):
    return memory["velocity"].mul_(knobs["momentum"][:, None]).add_(g)


def _adam(w, g, memory, knobs, t):
    means = []
    for name, moment, power in (("beta1", "m", g), ("beta2", "s", g * g)):
        beta = knobs[name]
        mean = memory[moment].lerp_(power, (1 - beta)[:, None])
        # in float64: at the first steps 1 - βᵗ is small
        means.append(mean / (1 - beta.double() ** t).to(g.dtype)[:, None])
    return means[0].div_(means[1].sqrt_().add_(knobs["eps"][:, None]))


def _adagrad(w, g, memory, knobs, t):
    total = memory["s"].addcmul_(g, g)
    return g / total.sqrt().add_(knobs["eps"][:, None])


def _ascend(w, g, knobs):
    length = torch.linalg.vector_norm(g, dim=1).clamp_min(1e-12)  # without a gradient it stays where it is
    return torch.addcmul(w, g, (knobs["rho"] / length)[:, None])


def _entropic(w, g, memory, knobs, t):
    return torch.addcmul(g, w, -knobs["lam_entropy"][:, None])


OPTIMISERS = {
    "sgd": Optimiser(_gradient, tangent=True),
    "momentum": Optimiser(
        _heavy_ball, {"momentum": 0.9}, {"momentum": (0, 1)}, ("velocity",), tangent=True, remedy="a smaller momentum"
    ),
    "adam": Optimiser(
        _adam,
        {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8},
        # ε keeps 0/0 out, in float32 too
        {"beta1": (0, 1), "beta2": (0, 1), "eps": (1e-30, math.inf)},
        ("m", "s"),
        degree=0,
    ),
    "adagrad": Optimiser(_adagrad, {"eps": 1e-10}, {"eps": (1e-30, math.inf)}, ("s",), degree=0),
    "sam": Optimiser(_gradient, {"rho": 0.05}, probe=_ascend, remedy="a smaller rho"),
    "eef": Optimiser(_entropic, {"lam_entropy": 1e-3}, {"lam_entropy": (-math.inf, math.inf)}, remedy="a smaller lam_entropy"),
}
