"""How far an optimiser moves a weight, in the long run, for each unit of its gradient: the mobility M, of each parameter.

The temperature of SGD is that of the Langevin process with the same mobility and the same noise,

    T = Σ_i M_i Σ_ii/(2 D),        M = η for plain SGD, hence T = η Tr Σ/(2 D),

with Σ the covariance of the minibatch gradient and D the weights that move. A heavy ball, Nesterov's too, goes on after a push
and moves μ + μ² + … further, M = η (1 - dampening)/(1 - μ); Adam divides by the size of the gradient,
M = η/(√ŝ + ε), and its first moment only delays. Source: Mandt, Hoffman & Blei, arXiv:1704.04289 (SGD with preconditioning and
momentum). Limits: first order in η times the curvature, where the exact factor of momentum differs; where the noise has not
the shape of the mobility's inverse there is no one temperature, and T is the mean over directions; the state is taken as
stationary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from thermolab.systems.updates import find_optimiser


def of_run(system, state, knobs) -> torch.Tensor:
    """M [R, 1] or [R, P] of a run at a frame: arguments as of an observable of `Experiment`. NaN where none is known.

    On the sphere and at fixed effective rate the step is η r² long, or η r with Adam, whose steps do not know the length of w.
    """
    weights = state.weights
    m = knobs["eta"].to(weights)[:, None]
    optimiser = getattr(system, "optimiser", "sgd")
    if knobs.get("protocol", "lr") != "lr":
        r = torch.linalg.vector_norm(weights, dim=1, keepdim=True)
        m = m * (r * r if find_optimiser(optimiser).degree == -1 else r)
    if optimiser == "sgd":
        return m
    if optimiser == "momentum":
        return m / (1 - knobs["momentum"].to(weights)[:, None])
    if optimiser == "adam":
        beta, eps = (knobs[k].to(weights)[:, None] for k in ("beta2", "eps"))
        size = state.memory["s"] / (1 - beta.double() ** max(1, state.step)).to(weights)
        return m / (size.sqrt() + eps)
    return torch.full_like(m, torch.nan)


@dataclass(frozen=True)
class Rates:
    """What a torch optimiser does: its name, eta and lam of each group, and whether its mobility is known."""

    name: str
    eta: list[float]
    lam: list[float]
    known: bool

    def __str__(self) -> str:
        rates = ", ".join(f"η {e:.3g}, λ {w:.3g}" for e, w in zip(self.eta, self.lam, strict=True))
        return f"{self.name} ({rates})"


def rates(optimizer: torch.optim.Optimizer) -> Rates:
    """Name, learning rates and weight decays of an optimizer's groups as they are now."""
    groups = optimizer.param_groups
    eta = [float(g.get("lr", torch.nan)) for g in groups]
    lam = [float(g.get("weight_decay", 0.0)) for g in groups]
    return Rates(_name(optimizer, groups[0]), eta, lam, isinstance(optimizer, KNOWN))


KNOWN = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)


def _name(optimizer, group) -> str:
    name = type(optimizer).__name__
    if isinstance(optimizer, torch.optim.SGD) and group["momentum"]:
        return f"{name} with {'Nesterov ' * bool(group['nesterov'])}momentum {group['momentum']:g}"
    return name


def of_optimizer(optimizer: torch.optim.Optimizer, parameters: list[torch.Tensor]) -> torch.Tensor:
    """M [P] of the parameters, in their order, read from an optimizer of torch: 0 for those that it does not move.

    NaN throughout for an optimizer of which no mobility is known.

    >>> w = torch.nn.Parameter(torch.zeros(2))
    >>> of_optimizer(torch.optim.SGD([w], lr=0.1, momentum=0.9), [w])
    tensor([1., 1.])
    """
    group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    return torch.cat([_of_one(optimizer, group_of.get(id(p)), p).flatten() for p in parameters])


def _of_one(optimizer, group, p: torch.Tensor) -> torch.Tensor:
    if group is None:
        return torch.zeros_like(p)
    if isinstance(optimizer, torch.optim.SGD):
        stays, damped = float(group["momentum"]), float(group["dampening"])
        m = float(group["lr"]) * ((1 - damped) / (1 - stays) if stays else 1.0)
        return torch.full_like(p, m)
    if isinstance(optimizer, KNOWN):
        state = optimizer.state.get(p, {})
        if "exp_avg_sq" not in state:  # before its first step
            return torch.full_like(p, torch.nan)
        second = state["max_exp_avg_sq"] if group["amsgrad"] else state["exp_avg_sq"]
        size = second / (1 - float(group["betas"][1]) ** float(state["step"]))
        return float(group["lr"]) / (size.sqrt() + float(group["eps"]))
    return torch.full_like(p, torch.nan)
