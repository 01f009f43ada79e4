"""Rescaling symmetries of a network: which weights form pairs, which neighbours do not, and what each step does to them.

Where unit i is written by weights u (its incoming weights with its bias) and read by weights w (its outgoing ones), and only
positively homogeneous maps lie between, u -> c u, w -> w/c leaves the loss as it is, for every batch. Hence u·g_u = w·g_w, and a
step of plain SGD obeys the Noether identity exactly, at every η and batch size:

    Δ(|u|² − |w|²) = η² (|g_u|² − |g_w|²)        (entropic forces slides, document 4, part 2)

so that in a stationary state E|g_w|²/E|g_u|² = 1. `pairs` finds the pairs, `neighbours` what lies side by side and is none, with
the reason. Supported: nn.Sequential of Linear, Conv2d (groups=1), ReLU, LeakyReLU, Identity, Flatten, average and max pooling
(2-D, adaptive ones too), `models.Residual`, `models.Attention`, `models.Block`, Positions, MeanToken and what prepares inputs
(AsImages, Patches); Tanh, Sigmoid, GELU, SiLU, ELU and Softplus as activations that are not homogeneous; LayerNorm, BatchNorm
and GroupNorm, whose gain and shift write units as a layer does. The units of attention are its heads: the traces of the matrix
identities for query/key and value/output. Limits: symmetries other than of units (a norm makes whole layers scale-invariant)
are not listed; a network that uses a layer twice is beyond it.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from thermolab.systems import models
from thermolab.systems.losses import LOSSES

POOLING = (nn.AvgPool2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
HOMOGENEOUS = (nn.ReLU, nn.LeakyReLU, nn.Identity, nn.Flatten, models.MeanToken, *POOLING)
CURVED = (nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.ELU, nn.Softplus)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
NORMS = (nn.LayerNorm, nn.GroupNorm, *BATCH_NORMS)
SHIFTED = (nn.Identity, nn.Flatten)  # a constant goes through
INPUTS = (models.AsImages, models.Patches)
BIAS, SKIP, NORM, ACTIVATION = "missing bias", "skip connection", "normalisation", "non-homogeneous activation"
GIVEN, ANSWER, FROZEN, PARALLEL = "inputs are given", "outputs are compared", "frozen weights", "side by side, not in a row"
STEP = 0.01  # of the weights
NONE = torch.empty(0, dtype=torch.long)
SUPPORTED = (
    "Linear, Conv2d with groups=1, pooling, Flatten, norms, activations, and Residual, Attention and Block of engine.models"
)


@dataclass(frozen=True)
class Pair:
    """Weights that write units and weights that read them: indices [units, n] into the flat vector of trainable parameters.

    name: "writer -> reader" by names of modules. reason: why it is no rescalable pair, empty if it is one.
    """

    name: str
    incoming: torch.Tensor
    outgoing: torch.Tensor
    reason: str = ""


def pairs(module: nn.Module) -> list[Pair]:
    """The rescalable pairs of a module, in the order of its layers.

    Raises ValueError for a layer that is not supported.

    >>> [p.name for p in pairs(models.mlp((3, 5, 4, 2)))]
    ['0 -> 2', '2 -> 4']
    """
    return [p for p in _find(module) if not p.reason]


def neighbours(module: nn.Module) -> list[Pair]:
    """Weights that lie side by side and are no rescalable pair, each with the reason; a pair without its biases is among them.

    Raises ValueError for a layer that is not supported.

    >>> [(p.name, p.reason) for p in neighbours(models.mlp((3, 5, 2), activation="tanh"))]
    [('0 -> 2', 'non-homogeneous activation')]
    """
    return [p for p in _find(module) if p.reason]


def squared_norms(pair: Pair, squares: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums over u and over w of squares [..., P] of gradients or weights, two of [..., units]."""
    return squares[..., pair.incoming].sum(-1), squares[..., pair.outgoing].sum(-1)


def log_ratio(pair: Pair, squares: torch.Tensor) -> torch.Tensor:
    """log(E|g_w|²/E|g_u|²) [...] over all units of a pair, from mean squared gradients [..., P] of the parameters."""
    u, w = squared_norms(pair, squares)
    return torch.log(w.sum(-1) / u.sum(-1))


def identity_error(pair: Pair, weights: torch.Tensor, gradient: torch.Tensor, eta: float) -> torch.Tensor:
    """By how much a step w <- w - η g misses the Noether identity, over η² (|g_u|² + |g_w|²), for each unit [..., units].

    weights, gradient: [..., P], float64 for an error near its precision. NaN where a unit gets no gradient at all.
    Δ|u|² is taken as the product of u' - u = -η g_u with u' + u: the difference of two squares would lose digits.
    """
    step = -eta * gradient
    u, w = squared_norms(pair, step * (2 * weights + step))
    g_u, g_w = squared_norms(pair, (eta * gradient).square())
    return (u - w - (g_u - g_w)).abs() / (g_u + g_w)


def identity_errors(
    module: nn.Module, x: torch.Tensor, y: torch.Tensor, *, eta: float | None = None, loss: str = "squared", weights=None
) -> dict[str, float]:
    """Error of the identity at a step of a module on one batch x, y, in float64, {name: number} of all pairs and neighbours.

    weights [P]: of its trainable parameters, by default those it has. eta: what a neighbour misses is of the first order in η, so
    its error goes as 1/η; by default the step is a hundredth of the weights, |η g| = |w|/100. Of a pair the error of its worst
    unit; of a neighbour the mean over its units, each weighted with its η² (|g_u|² + |g_w|²), so that units that are switched
    off hide nothing.
    Raises ValueError for a layer that is not supported, and for targets that do not fit the outputs.
    """
    found, module = _find(module), copy.deepcopy(module).double()
    parameters = [p for p in module.parameters() if p.requires_grad]
    if weights is not None:
        nn.utils.vector_to_parameters(weights.double(), parameters)
    outputs = module(x.double())
    gradients = torch.autograd.grad(LOSSES[loss](outputs, y.to(outputs.dtype) if y.is_floating_point() else y), parameters)
    weights, gradient = (nn.utils.parameters_to_vector(v).detach() for v in (parameters, gradients))
    eta = STEP * float(weights.norm() / gradient.norm()) if eta is None else eta
    out = {}
    for pair in found:
        error, size = identity_error(pair, weights, gradient, eta), sum(squared_norms(pair, gradient.square()))
        error = torch.where(size > 0, error, 0)
        out[pair.name] = float((error * size).sum() / size.sum() if pair.reason else error.max())
    return out


def rescale(pair: Pair, weights: torch.Tensor, factors) -> torch.Tensor:
    """Weights [..., P] after u -> c u, w -> w/c with factors c > 0, a number or [..., units]; of a pair, the loss is as before.

    >>> net = models.mlp((1, 1, 1))  # relu(w x + a) v + b, flat (w, a, v, b)
    >>> rescale(pairs(net)[0], torch.tensor([1.0, 2.0, 3.0, 4.0]), 2.0)
    tensor([2.0000, 4.0000, 1.5000, 4.0000])
    """
    out, factors = weights.clone(), torch.as_tensor(factors, dtype=weights.dtype, device=weights.device)[..., None]
    out[..., pair.incoming] *= factors
    out[..., pair.outgoing] /= factors
    return out


def permute(pair: Pair, weights: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """Weights [..., P] after unit order[i] has taken the place of unit i; the loss is as before.

    >>> net = models.mlp((1, 2, 1), bias=False)
    >>> permute(pairs(net)[0], torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([1, 0]))
    tensor([2., 1., 4., 3.])
    """
    out = weights.clone()
    out[..., pair.incoming], out[..., pair.outgoing] = weights[..., pair.incoming[order]], weights[..., pair.outgoing[order]]
    return out


@dataclass(frozen=True)
class _End:
    """A layer at a wire, which it writes or reads with `weights` [units, n] and `biases` [units, m], indices both."""

    name: str
    reads: bool
    weights: torch.Tensor
    biases: torch.Tensor


@dataclass(eq=False)
class _Wire:
    """Units that travel together, the layers at them in the order of the network, and what keeps them from being rescaled."""

    units: int | None
    ends: list[_End] = field(default_factory=list)
    obstacles: list[str] = field(default_factory=list)
    unseen: bool = False  # a BatchNorm further on takes biases away again: they get no gradient, and may be missing from a pair

    def hinder(self, reason: str) -> None:
        if reason not in self.obstacles:
            self.obstacles.append(reason)


@dataclass(frozen=True)
class _Flow:
    """What a layer receives: a wire, and those from which it came through norms; images: units are the second dimension.

    straight: wires of which a constant added to a unit comes here as constants.
    """

    wire: _Wire
    past: tuple[_Wire, ...] = ()
    images: bool = False
    straight: tuple[_Wire, ...] = ()


def _find(module: nn.Module) -> list[Pair]:
    """Pairs and neighbours."""
    walk = _Walk(module)
    walk.layer(module, "", _Flow(walk.wire(None, GIVEN))).wire.hinder(ANSWER)
    return [pair for wire in walk.wires for pair in _along(wire)]


def _along(wire: _Wire) -> list[Pair]:
    writers, readers = ([end for end in wire.ends if end.reads == reads] for reads in (False, True))
    writers, readers = ([end for end in ends if _joined([end]).numel()] for ends in (writers, readers))
    found = []
    if writers and readers and not set(wire.obstacles) - {SKIP}:
        name = " -> ".join("+".join(end.name for end in side) for side in (writers, readers))
        found.append(Pair(name, _joined(writers), _joined(readers)))
        bare = _joined(writers, biases=False)
        if 0 < bare.numel() < found[0].incoming.numel() and not wire.unseen:
            found.append(Pair(f"{name} (no bias)", bare, found[0].outgoing, BIAS))
    reason = ", ".join(o for o in wire.obstacles if o not in (GIVEN, ANSWER))
    for k, writer in enumerate(wire.ends if reason else []):
        after = [end for end in wire.ends[k:] if end.reads and not writer.reads and writer.weights.numel()]
        found += [Pair(f"{writer.name} -> {reader.name}", _joined([writer]), _joined([reader]), reason) for reader in after]
    return found


def _joined(ends: list[_End], biases: bool = True) -> torch.Tensor:
    return torch.cat([part for end in ends for part in (end.weights, *([end.biases] if biases else []))], 1)


class _Walk:
    """Follows the units through a module and collects the wires."""

    def __init__(self, module: nn.Module):
        self.wires: list[_Wire] = []
        self.index, begin = {}, 0
        if len(list(module.named_parameters(remove_duplicate=False))) > len(list(module.parameters())):
            raise ValueError("the module uses some of its parameters twice; allowed: each in one place")
        for name, p in module.named_parameters():
            if p.requires_grad:
                self.index[name] = torch.arange(begin, begin + p.numel()).reshape(p.shape)
                begin += p.numel()

    def wire(self, units: int | None, *obstacles: str) -> _Wire:
        self.wires.append(_Wire(units, obstacles=list(obstacles)))
        return self.wires[-1]

    def rows(
        self, wire: _Wire, layer: nn.Module, name: str, *, reads: bool = False, part: slice = slice(None), called: str = ""
    ) -> None:
        """A layer writes the wire with rows of its weights and with its biases (keys read theirs so)."""
        found = []
        for kind in ("weight", "bias"):
            if getattr(layer, kind) is not None and f"{name}.{kind}" not in self.index:
                wire.hinder(FROZEN)
            found.append(self.index.get(f"{name}.{kind}", NONE)[part].reshape(wire.units, -1))
        wire.ends.append(_End(called or name, reads, *found))

    def columns(self, flow: _Flow, name: str) -> None:
        """A layer reads the wires of a flow with columns of its weights, several for a unit of an image that was flattened."""
        for wire in (flow.wire, *flow.past):
            if f"{name}.weight" not in self.index:
                wire.hinder(FROZEN)
            elif wire.units is not None:
                index = self.index[f"{name}.weight"]
                index = index.reshape(len(index), wire.units, -1).transpose(0, 1).flatten(1)
                wire.ends.append(_End(name, True, index, index[:, :0]))

    def layer(self, layer: nn.Module, name: str, flow: _Flow) -> _Flow:
        """The flow behind a layer."""
        kind, wire = type(layer), flow.wire
        if _changed(layer):
            raise ValueError(f"layer {name or 'itself'} has hooks or a forward of its own; allowed: layers as they are")
        inside = f"{name}." if name else ""
        if kind is nn.Sequential:
            for child, part in layer._modules.items():  # named_children leaves a layer out that comes twice
                flow = self.layer(part, inside + child, flow)
            return flow
        if kind is models.Residual:
            return self.residual(flow, self.layer(layer.inner, f"{inside}inner", replace(flow, straight=())))
        if kind is models.Block:
            for norm, part in (("norm1", "attention"), ("norm2", "perceptron")):
                branch = self.layer(getattr(layer, norm), inside + norm, flow)
                flow = self.residual(flow, self.layer(getattr(layer, part), inside + part, branch))
            return flow
        if kind is models.Attention:
            return self.attention(layer, inside, flow)
        if kind is nn.Linear or (kind is nn.Conv2d and layer.groups == 1):
            return self.linear(layer, name, flow)
        if kind in NORMS:
            wire.hinder(NORM)
            for before in flow.straight if kind in BATCH_NORMS and layer.training else ():
                before.unseen = True
            if f"{name}.weight" not in self.index:
                return replace(flow, straight=())
            scaled = self.wire(wire.units or len(layer.weight))
            self.rows(scaled, layer, name)
            return replace(flow, wire=scaled, past=(wire, *flow.past), straight=(scaled,))
        if kind is models.Positions:
            index = self.index.get(f"{name}.positions", NONE.reshape(0, layer.positions.shape[1])).T
            wire.ends.append(_End(name, False, index[:, :0], index))
        elif kind in CURVED:
            wire.hinder(ACTIVATION)
        elif kind not in (*HOMOGENEOUS, *INPUTS):
            raise ValueError(f"layer {name or 'itself'} is {kind.__name__}; allowed: {SUPPORTED}")
        return flow if kind in SHIFTED else replace(flow, straight=())

    def linear(self, layer: nn.Module, name: str, flow: _Flow) -> _Flow:
        images, units = type(layer) is nn.Conv2d, flow.wire.units
        n_in, n_out, *_ = layer.weight.T.shape if not images else (layer.in_channels, layer.out_channels)
        if units is not None and (n_in != units if images or not flow.images else n_in % units):
            raise ValueError(f"layer {name} reads {n_in} values of {units} units; allowed: as many, or an image flattened")
        self.columns(flow, name)
        out = self.wire(n_out)
        self.rows(out, layer, name)
        padded = images and any(layer.padding)  # a constant within a border of zeros is none
        return _Flow(out, images=images, straight=(*(() if padded else flow.straight), out))

    def residual(self, flow: _Flow, branch: _Flow) -> _Flow:
        """The units of a skip connection and of its branch are the same from here on."""
        kept, added = flow.wire, branch.wire
        kept.hinder(SKIP)
        if added is not kept:
            kept.units = added.units
            kept.ends += added.ends
            for reason in added.obstacles:
                kept.hinder(reason)
            self.wires.remove(added)
        return replace(flow, straight=())

    def attention(self, layer: models.Attention, inside: str, flow: _Flow) -> _Flow:
        """Heads: queries meet keys in a product, values meet the output map; query and value of a head only lie side by side."""
        self.columns(flow, f"{inside}mix")
        width = layer.out.in_features
        rows = {k: slice(i * width, (i + 1) * width) for i, k in enumerate(("query", "key", "value"))}
        heads = [self.wire(layer.heads, *obstacles) for obstacles in ((), (), (PARALLEL,))]
        for wire, part, reads in (
            (0, "query", False),
            (0, "key", True),
            (1, "value", False),
            (2, "query", False),
            (2, "value", True),
        ):
            self.rows(heads[wire], layer.mix, f"{inside}mix", reads=reads, part=rows[part], called=f"{inside}{part}")
        self.columns(_Flow(heads[1]), f"{inside}out")
        out = self.wire(width)
        self.rows(out, layer.out, f"{inside}out")
        return _Flow(out)


def _changed(layer: nn.Module) -> bool:
    """Whether a layer computes something else than its class does."""
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    return any(hooks) or "forward" in vars(layer) or any(p._backward_hooks for p in layer._parameters.values() if p is not None)
