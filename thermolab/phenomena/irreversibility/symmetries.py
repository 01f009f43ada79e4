"""Symmetries of the loss: which of them survive in F, and the exact identity that rests on them.

A symmetry is a group of maps g with l(gθ, x, y) = l(θ, x, y) for every θ, x and y. F_η = L + (η/4) S with S = E|∇l|² keeps it if
S(gθ) = S(θ). If g = e^{sA} with A symmetric ("exponential"), then θᵀA∇l = 0 everywhere, so a step of SGD on whatever minibatch
changes θᵀAθ by exactly η² gᵀAg (Noether); and S(e^{sA}θ) = E ∇lᵀe^{-2sA}∇l is convex in s. A row of the table is a `Symmetry`:
a loss, the shapes of its weights and an action; all else about it is measured.
Limit of validity: a row stands for a group by one of its one-parameter subgroups, or by one element if the group is discrete.
Source: document 4, part 2 and table 1 (its F has η where flow and step agree with η/4; nothing here depends on which).
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch.func import grad, jacrev, vmap

FACTOR = math.log(2)  # the parameter s of the table's group elements: e^s is 2, and 1/2
FAR = 100.0  # an s at which the orbit of a group that is not compact is far away

Weights = dict[str, torch.Tensor]


def regression(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs [64, 6], normal, and targets [64, 3]: a linear map of rank 1 and norm 2, plus noise of standard deviation 1/2."""
    x, noise, a, b = (normals(generator, *shape) for shape in ((64, 6), (64, 3), (6, 1), (1, 3)))
    return x, 2 * x @ (a / a.norm()) @ (b / b.norm()) + noise / 2


def normals(generator: torch.Generator, *shape: int) -> torch.Tensor:
    """Standard normals of a shape, float64."""
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@dataclass(frozen=True, repr=False)
class Symmetry:
    """A row of the table.

    name; loss: (weights, x, y) -> loss of ONE sample, a tensor without dimensions; weights: shape of each, by the name under
    which `loss` and `action` find them; action: (weights, s) -> the weights that move, moved by the element e^{sA} of the
    group, s a tensor without dimensions, or, where discrete is True, by one element, whatever s; asymmetry: (weights) ->
    distance from the symmetric state, from 0 on, None where there is no such state; data: torch.Generator -> inputs [N, ...]
    and targets [N, ...], float64.
    """

    name: str
    loss: Callable[[Weights, torch.Tensor, torch.Tensor], torch.Tensor]
    weights: Mapping[str, tuple[int, ...]]
    action: Callable[[Weights, torch.Tensor], Weights]
    discrete: bool = False
    asymmetry: Callable[[Weights], torch.Tensor] | None = None
    data: Callable[[torch.Generator], tuple[torch.Tensor, torch.Tensor]] = regression

    def start(self, generator: torch.Generator) -> torch.Tensor:
        """Weights θ [P], normal with variance 1/2."""
        return normals(generator, sum(math.prod(shape) for shape in self.weights.values())) / math.sqrt(2)

    def validate(self) -> None:
        """Raises ValueError, the complaint alone, for a loss or an action that does not do what a row's should."""
        generator = torch.Generator().manual_seed(0)
        x, y = self.data(generator)
        w = self.named(self.start(generator))
        if (shape := tuple(self.loss(w, x[0], y[0]).shape)) != ():
            raise ValueError(f"has a loss of shape {shape} in row {self.name!r}")
        moved = {name: tuple(v.shape) for name, v in self.action(w, torch.tensor(FACTOR, dtype=x.dtype)).items()}
        if wrong := {name: shape for name, shape in moved.items() if self.weights.get(name) != shape}:
            raise ValueError(f"has an action that makes {wrong} of weights {dict(self.weights)} in row {self.name!r}")

    def __repr__(self) -> str:
        return f"Symmetry({self.name!r})"

    def __reduce__(self):
        # other processes have the table, and could not import what stands in a notebook
        if TABLE.get(self.name) is not self:
            raise pickle.PicklingError(f"row {self.name!r} is none of the table: measure it in this process, with .run(...)")
        return of_table, (self.name,)

    def named(self, theta: torch.Tensor) -> Weights:
        """θ [P] by name and in shape."""
        parts = theta.split([math.prod(shape) for shape in self.weights.values()])
        return {name: part.reshape(shape) for (name, shape), part in zip(self.weights.items(), parts, strict=True)}

    def moved(self, theta: torch.Tensor, s) -> torch.Tensor:
        """gθ [P]."""
        moved = self.named(theta)
        moved |= self.action(moved, torch.as_tensor(s, dtype=theta.dtype, device=theta.device))
        return torch.cat([moved[name].reshape(-1) for name in self.weights])

    def losses(self, theta: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """l [N] of each sample."""
        return vmap(lambda a, b: self.loss(self.named(theta), a, b))(x, y)

    def gradients(self, theta: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """∇l [N, P] of each sample."""
        return vmap(grad(lambda t, a, b: self.loss(self.named(t), a, b)), (None, 0, 0))(theta, x, y)

    def energy(self, theta: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """L, the mean of l."""
        return self.losses(theta, x, y).mean()

    def entropy(self, theta: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """S = E|∇l|²."""
        return self.gradients(theta, x, y).square().sum(1).mean()

    def generator(self, theta: torch.Tensor) -> torch.Tensor:
        """A [P, P], the derivative of gθ by s and θ at s = 0; 0 for a discrete group."""
        return jacrev(lambda t: jacrev(lambda s: self.moved(t, s))(t.new_zeros(())))(theta)

    def is_exponential(self, theta: torch.Tensor) -> bool:
        """Whether g = e^{sA} with a symmetric A other than 0."""
        a = self.generator(theta)
        linear = torch.allclose(self.moved(theta, FACTOR), torch.linalg.matrix_exp(FACTOR * a) @ theta)
        return bool(linear and torch.allclose(a, a.T) and a.any())

    def is_compact(self, theta: torch.Tensor) -> bool:
        """Whether the group is: discrete, here always of two elements, or with orbits that do not go on growing."""
        near, far = (max(float(self.moved(theta, s).norm()) for s in (distance, -distance)) for distance in (FAR, 2 * FAR))
        return self.discrete or far < 1.5 * near


# --- the rows of table 1 ------------------------------------------------------------------------------------------------
TURN = torch.tensor([[0, 1, -0.5], [-1, 0, 0.8], [0.5, -0.8, 0]], dtype=torch.float64)  # antisymmetric: e^{sA} is orthogonal
STRETCH = torch.tensor([[1, 0.4, 0], [0.4, -0.5, 0.3], [0, 0.3, 0.2]], dtype=torch.float64)  # symmetric: e^{sA} is positive


def _squared(f: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (f - y).square().sum()


def _softmax(w, x, y):
    return torch.logsumexp(w["W"] @ x + w["b"], 0) - ((w["W"] @ x + w["b"]) * (y == y.max())).sum()


def _attention(w, x, y):
    tokens = x.reshape(3, 2)
    scores = (tokens @ w["Q"]) @ (tokens @ w["K"]).T
    return _squared((torch.softmax(scores, -1) @ tokens).sum(-1), y)


def _two_views(w, x, y):
    """Spectral contrastive loss: y is another view of x[0], and x[1] is unrelated."""
    z, other, view = w["W"] @ x[0], w["W"] @ x[1], w["W"] @ y
    return (z @ other) ** 2 - 2 * z @ view


def _views(generator):
    """Anchors and unrelated inputs [64, 2, 3], and views [64, 3] of the anchors: 1, 0.3 and 0.25 times them plus noise."""
    x, noise = (normals(generator, *shape) for shape in ((64, 2, 3), (64, 3)))
    return x, x[:, 0] * torch.tensor([1, 0.3, 0.25], dtype=torch.float64) + noise / 4


def _exp(s, a):
    return torch.linalg.matrix_exp(s * a.to(s.device))


def _rank(matrix):
    """Least singular value over the largest."""
    values = torch.linalg.svdvals(matrix)
    return values[-1] / values[0]


def _unbalance(w):
    """Of ReLU neurons: largest ||u|² − |w|²|/(|u|² + |w|²)."""
    u, v = w["U"].square().sum(0), w["W"].square().sum(1)
    return ((u - v).abs() / (u + v)).max()


def _neurons(w):
    """Incoming and outgoing weights of each neuron [n, ...]."""
    return torch.cat([w["W"], w["U"].T], 1)


def _unlike(w):
    """Distance of two tanh neurons, which may differ by a sign flip, over the sum of their lengths."""
    a, b = _neurons(w)
    return torch.minimum((a - b).norm(), (a + b).norm()) / (a.norm() + b.norm())


def _flip(w, s):
    """The signs of the first of two neurons."""
    sign = w["W"].new_tensor([-1, 1])
    return {"U": w["U"] * sign, "W": sign[:, None] * w["W"]}


def _layers(activation):
    return lambda w, x, y: _squared(w["U"] @ activation(w["W"] @ x), y)


def _both(matrix):
    """U e^{-sA}, e^{sA} W."""
    return lambda w, s: {"U": w["U"] @ _exp(-s, matrix), "W": _exp(s, matrix) @ w["W"]}


NET, PAIR = {"U": (3, 3), "W": (3, 6)}, {"U": (3, 2), "W": (2, 6)}
LINEAR = {"loss": _layers(lambda p: p), "weights": NET, "asymmetry": lambda w: _rank(w["U"] @ w["W"])}
TABLE = {
    row.name: row
    for row in (
        Symmetry("translation", _softmax, {"W": (3, 6), "b": (3,)}, lambda w, s: {"b": w["b"] + s}),
        Symmetry("scaling", lambda w, x, y: _squared(w["W"] @ x / w["W"].norm(), y), {"W": (3, 6)},
                 lambda w, s: {"W": w["W"] * s.exp()}),
        Symmetry("rescaling", _layers(torch.relu), NET, lambda w, s: {"U": w["U"] * s.exp(), "W": w["W"] * (-s).exp()},
                 asymmetry=_unbalance),
        Symmetry("rotation", _two_views, {"W": (3, 3)}, lambda w, s: {"W": _exp(s, TURN) @ w["W"]},
                 asymmetry=lambda w: _rank(w["W"]), data=_views),
        Symmetry("permutation", _layers(torch.tanh), PAIR, lambda w, s: {"U": w["U"].flip(1), "W": w["W"].flip(0)},
                 discrete=True, asymmetry=_unlike),
        Symmetry("double rotation, orthogonal", **LINEAR, action=_both(TURN)),
        Symmetry("double rotation, positive", **LINEAR, action=_both(STRETCH)),
        Symmetry("attention, GL", _attention, {"Q": (2, 3), "K": (2, 3)},
                 lambda w, s: {"Q": w["Q"] @ _exp(s, STRETCH), "K": w["K"] @ _exp(-s, STRETCH)}),
        Symmetry("shear, low-rank inputs", lambda w, x, y: _squared(w["W"][:, :5] @ x[:5], y), {"W": (3, 6)},
                 lambda w, s: {"W": w["W"] + s * torch.outer(w["W"][:, 0], torch.eye(6).to(w["W"])[5])}),
        Symmetry("sign flip", _layers(torch.tanh), PAIR, _flip,
                 discrete=True, asymmetry=lambda w: _neurons(w).norm(dim=1).min() / _neurons(w).norm()),
    )
}  # fmt: skip


def of_table(name: str) -> Symmetry:
    """A row of the table by its name."""
    return TABLE[name]


ROWS = tuple(TABLE.values())
EXPONENTIAL = tuple(TABLE[name] for name in ("scaling", "rescaling", "double rotation, positive", "attention, GL"))
STATES = tuple(row for row in ROWS if row.asymmetry and "positive" not in row.name)
