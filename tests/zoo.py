"""Networks of other people's kinds, for parity with plain PyTorch: each is made anew by a call, equal for an equal seed."""

from __future__ import annotations

import itertools
import random
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune
from torch.utils.checkpoint import checkpoint

CLASSES = 3


@dataclass(frozen=True)
class Animal:
    """A kind of network.

    make() -> module, in training mode. shape: of one input, floats, or integers below `vocabulary`; positions: a label for each.
    """

    make: Callable[[], nn.Module]
    shape: tuple[int, ...] = (5,)
    vocabulary: int = 0
    positions: tuple[int, ...] = ()

    def born(self, seed: int = 0) -> nn.Module:
        """The module, its start drawn from this seed."""
        with torch.random.fork_rng(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what PyTorch calls old
            torch.manual_seed(seed)
            return self.make()

    def data(self, n: int, dtype=torch.float64, seed: int = 1, regression: bool = False):
        """Inputs [n, *shape] and labels, or targets [n, *positions, CLASSES]."""
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(n, *self.shape, generator=generator, dtype=dtype)
        if self.vocabulary:
            x = torch.randint(self.vocabulary, (n, *self.shape), generator=generator)
        if regression:
            return x, torch.randn(n, *self.positions, CLASSES, generator=generator, dtype=dtype)
        return x, torch.randint(CLASSES, (n, *self.positions), generator=generator)


class By(nn.Module):
    """Layers by name and a forward of one's own: forward(self, x)."""

    def __init__(self, forward, **layers):
        super().__init__()
        self.how = forward
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self.how(self, x)


def linears(*widths):
    layers = [nn.Linear(a, b) for a, b in itertools.pairwise(widths)]
    return nn.Sequential(*[part for layer in layers for part in (layer, nn.Tanh())][:-1])


def hooked(register):
    net = linears(5, 6, 3)
    register(net)
    return net


def twice(layer):
    return nn.Sequential(nn.Linear(5, 6), layer, nn.Linear(6, 6), layer, nn.Linear(6, 3))


def own_forward():
    net = linears(5, 6, 3)
    net.forward = lambda x: net[2](torch.sin(net[0](x)))
    return net


def rnn(kind):
    return By(lambda s, x: s.head(s.inner(x)[0][:, -1]), inner=kind(4, 5, batch_first=True), head=nn.Linear(5, 3))


class Block(nn.Module):
    """A residual block with batch norms that remember."""

    def __init__(self, width):
        super().__init__()
        self.a, self.b = (nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in "ab")
        self.first, self.second = nn.BatchNorm2d(width), nn.BatchNorm2d(width)

    def forward(self, x):
        return F.relu(x + self.second(self.b(F.relu(self.first(self.a(x))))))


class Language(nn.Module):
    """A causal language model of one layer, the output tied to the embedding."""

    def __init__(self, vocabulary=CLASSES, width=4):
        super().__init__()
        self.embed, self.place = nn.Embedding(vocabulary, width), nn.Parameter(torch.randn(6, width))
        self.layer = nn.TransformerEncoderLayer(width, 2, 8, dropout=0.0, batch_first=True)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("mask", torch.triu(torch.ones(6, 6, dtype=torch.bool), 1), persistent=False)

    def forward(self, x):
        return self.head(self.layer(self.embed(x) + self.place, src_mask=self.mask))


class Running(nn.Module):
    """State in three places: a buffer that is replaced, a plain tensor and a counter."""

    def __init__(self):
        super().__init__()
        self.head, self.calls, self.h = nn.Linear(5, 3), 0, None
        self.register_buffer("mean", torch.zeros(5))

    def forward(self, x):
        self.calls += 1
        self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        out = self.head(x - self.mean) / self.calls
        out = out if self.h is None else out + self.h
        self.h = out.detach().mean(0)
        return out


class Carried(nn.Module):
    """The hidden state of an LSTM carried on in a tuple, and a tensor that is changed in place."""

    def __init__(self):
        super().__init__()
        self.inner, self.state, self.scale = nn.LSTM(5, 3, batch_first=True), None, torch.ones(3)

    def forward(self, x):
        out, (h, c) = self.inner(x[:, None], self.state)
        self.state = h.detach(), c.detach()
        self.scale.mul_(1.01)
        return out[:, 0] * self.scale


class Drops(nn.Module):
    """Layer drop by Python's random, noise by torch's."""

    def __init__(self):
        super().__init__()
        self.maybe, self.head = nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, x):
        x = x + 0.1 * torch.randn_like(x)
        return self.head(torch.tanh(self.maybe(x)) if random.random() < 0.5 else x)


class Lists(nn.Module):
    """Parameters in a list and a dictionary, one of no elements, one never used."""

    def __init__(self):
        super().__init__()
        self.list = nn.ParameterList([torch.randn(5, 4), torch.randn(4, 3)])
        self.dict = nn.ParameterDict({"bias": torch.zeros(3)})
        self.none, self.spare = nn.Parameter(torch.zeros(0, 3)), nn.Parameter(torch.ones(2))

    def forward(self, x):
        return torch.tanh(x @ self.list[0]) @ self.list[1] + self.dict["bias"] + self.none.sum()


class Shifted(nn.Module):
    """Changes its input in place."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        x -= 0.5
        return self.head(x)


class Twin(nn.Module):
    """An exponential mean of its own weights in a frozen twin, moved in the forward pass."""

    def __init__(self):
        super().__init__()
        self.live, self.slow = nn.Linear(5, 3), nn.Linear(5, 3).requires_grad_(False)

    def forward(self, x):
        with torch.no_grad():
            for s, p in zip(self.slow.parameters(), self.live.parameters(), strict=True):
                s.lerp_(p, 0.1)
        return self.live(x) + 0.5 * self.slow(x)


def parametrized(kind):
    net = linears(5, 6, 3)
    kind(net[0])
    return net


def in_eval(net):
    return net.eval()


def tied(net):
    net[2].weight = net[0].weight
    return net


def freeze(net):
    net[0].requires_grad_(False)
    return net


def counted(s, x):
    s.n += 1
    return s.head(x) / s.n


def by_data(s, x):
    s.mean.data.mul_(0.9).add_(0.1 * x.detach().mean(0))
    return s.head(x - s.mean)


P = nn.utils.parametrizations
ZOO = {
    "mlp": Animal(lambda: linears(5, 6, 3)),
    "relu mlp": Animal(lambda: nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3))),
    "one activation twice": Animal(lambda: twice(nn.Tanh())),
    "one linear twice": Animal(lambda: twice(nn.Linear(6, 6))),
    "tied weights": Animal(lambda: tied(linears(5, 5, 5, 3))),
    "own Sequential": Animal(
        lambda: type("Skip", (nn.Sequential,), {"forward": lambda s, x: s[2](s[1](s[0](x)) + s[0](x))})(
            nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)
        )
    ),
    "cnn": Animal(
        lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 3)), (1, 6, 6)
    ),
    "resnet": Animal(
        lambda: nn.Sequential(nn.Conv2d(1, 3, 3), Block(3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3)), (1, 6, 6)
    ),
    "lstm": Animal(lambda: rnn(nn.LSTM), (6, 4)),
    "transformer": Animal(
        lambda: By(
            lambda s, x: s.head(s.layer(x).mean(1)),
            layer=nn.TransformerEncoderLayer(4, 2, 8, batch_first=True),
            head=nn.Linear(4, 3),
        ),
        (5, 4),
    ),
    "language": Animal(Language, (6,), CLASSES, (6,)),
    "dropout": Animal(lambda: nn.Sequential(nn.Linear(5, 6), nn.Dropout(0.3), nn.ReLU(), nn.Linear(6, 3))),
    "prelu": Animal(lambda: nn.Sequential(nn.Linear(5, 6), nn.PReLU(), nn.Linear(6, 3))),
    "weight norm": Animal(lambda: parametrized(P.weight_norm)),
    "old weight norm": Animal(lambda: parametrized(nn.utils.weight_norm)),
    "spectral norm": Animal(lambda: parametrized(P.spectral_norm)),
    "old spectral norm": Animal(lambda: parametrized(nn.utils.spectral_norm)),
    "orthogonal": Animal(lambda: parametrized(P.orthogonal)),
    "pruned": Animal(lambda: parametrized(lambda layer: prune.l1_unstructured(layer, "weight", 0.5))),
    "forward hook": Animal(lambda: hooked(lambda net: net[1].register_forward_hook(lambda m, i, out: 2 * out))),
    "backward hook": Animal(lambda: hooked(lambda net: net[1].register_full_backward_hook(lambda m, i, out: (2 * i[0],)))),
    "parameter hook": Animal(lambda: hooked(lambda net: net[0].weight.register_hook(lambda g: 3 * g))),
    "own forward": Animal(own_forward),
    "activation first": Animal(lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Linear(5, 3))),
    "norm first": Animal(lambda: nn.Sequential(nn.LayerNorm(5), nn.Linear(5, 3))),
    "layer norm of two dimensions": Animal(
        lambda: nn.Sequential(nn.Linear(5, 6), nn.LayerNorm((4, 6), elementwise_affine=False), nn.Flatten(), nn.Linear(24, 3)),
        (4, 5),
    ),
    "sequence": Animal(lambda: linears(5, 6, 3), (4, 5), 0, (4,)),
}

MORE = {
    "gru": Animal(lambda: rnn(nn.GRU), (6, 4)),
    "rnn": Animal(lambda: rnn(nn.RNN), (6, 4)),
    "group norm": Animal(lambda: nn.Sequential(nn.Linear(5, 6), nn.GroupNorm(2, 6), nn.Linear(6, 3))),
    "instance norm": Animal(
        lambda: nn.Sequential(nn.Conv1d(2, 4, 2), nn.InstanceNorm1d(4, track_running_stats=True), nn.Flatten(), nn.Linear(16, 3)),
        (2, 5),
    ),
    "padding index": Animal(lambda: nn.Sequential(nn.Embedding(7, 4, padding_idx=0), nn.Flatten(), nn.Linear(12, 3)), (3,), 7),
    "embedding of bounded norm": Animal(
        lambda: nn.Sequential(nn.Embedding(7, 4, max_norm=0.5), nn.Flatten(), nn.Linear(12, 3)), (3,), 7
    ),
    "sparse embedding": Animal(lambda: nn.Sequential(nn.Embedding(7, 4, sparse=True), nn.Flatten(), nn.Linear(12, 3)), (3,), 7),
    "embedding bag": Animal(lambda: nn.Sequential(nn.EmbeddingBag(7, 4), nn.Linear(4, 3)), (3,), 7),
    "attention": Animal(
        lambda: By(
            lambda s, x: s.head(s.inner(x, x, x)[0].mean(1)),
            inner=nn.MultiheadAttention(4, 2, dropout=0.2, batch_first=True),
            head=nn.Linear(4, 3),
        ),
        (5, 4),
    ),
    "lists of parameters": Animal(Lists),
    "lazy": Animal(lambda: nn.Sequential(nn.LazyLinear(6), nn.Tanh(), nn.LazyLinear(3))),
    "script": Animal(lambda: torch.jit.script(linears(5, 6, 3))),
    "traced": Animal(lambda: torch.jit.trace(linears(5, 6, 3).double(), torch.zeros(2, 5, dtype=torch.float64))),
    "checkpoint": Animal(
        lambda: By(lambda s, x: s.b(checkpoint(s.a, x, use_reentrant=False)), a=linears(5, 6), b=nn.Linear(6, 3))
    ),
    "reentrant checkpoint": Animal(
        lambda: By(
            lambda s, x: s.c(checkpoint(s.b, s.a(x), use_reentrant=True)), a=linears(5, 5), b=linears(5, 6), c=nn.Linear(6, 3)
        )
    ),
    "in place": Animal(lambda: nn.Sequential(nn.Linear(5, 6), nn.ReLU(inplace=True), nn.Linear(6, 3))),
    "changes its input": Animal(Shifted),
    "conv 1d": Animal(lambda: nn.Sequential(nn.Conv1d(2, 3, 2), nn.GELU(), nn.Flatten(), nn.Linear(12, 3)), (2, 5)),
    "conv 3d": Animal(lambda: nn.Sequential(nn.Conv3d(1, 2, 2), nn.Flatten(), nn.Linear(16, 3)), (1, 3, 3, 3)),
    "transposed": Animal(lambda: nn.Sequential(nn.ConvTranspose2d(1, 2, 2), nn.Flatten(), nn.Linear(32, 3)), (1, 3, 3)),
    "pixel shuffle": Animal(
        lambda: nn.Sequential(nn.Conv2d(1, 4, 2), nn.PixelShuffle(2), nn.Flatten(), nn.Linear(16, 3)), (1, 3, 3)
    ),
    "state everywhere": Animal(Running),
    "state in a tuple": Animal(Carried),
    "layer drop": Animal(Drops),
    "slow twin": Animal(Twin),
    "frozen then free": Animal(lambda: freeze(linears(5, 6, 3))),
    "data parallel": Animal(lambda: nn.DataParallel(linears(5, 6, 3))),
    "random relu": Animal(lambda: nn.Sequential(nn.Linear(5, 6), nn.RReLU(), nn.Linear(6, 3))),
    "bilinear": Animal(lambda: By(lambda s, x: s.inner(x, x), inner=nn.Bilinear(5, 5, 3))),
    "batch norm in eval": Animal(lambda: in_eval(nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)))),
    "batch norm of one number": Animal(lambda: nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6, momentum=None), nn.Linear(6, 3))),
    "alpha dropout": Animal(lambda: nn.Sequential(nn.Linear(5, 6), nn.SELU(), nn.AlphaDropout(0.2), nn.Linear(6, 3))),
    "fractional pool": Animal(
        lambda: nn.Sequential(nn.FractionalMaxPool2d(2, output_size=3), nn.Flatten(), nn.Linear(9, 3)), (1, 6, 6)
    ),
    "view of a weight": Animal(lambda: By(lambda s, x: x @ s.w[:5] + s.w[5], w=nn.Parameter(torch.randn(6, 3)))),
    "module dict": Animal(
        lambda: By(lambda s, x: s.parts["b"](s.parts["a"](x)), parts=nn.ModuleDict({"a": linears(5, 6), "b": nn.Linear(6, 3)}))
    ),
    "two dtypes": Animal(lambda: By(lambda s, x: s.b(s.a(x).float()).to(x.dtype), a=nn.Linear(5, 6).double(), b=nn.Linear(6, 3))),
    "counter in a buffer": Animal(lambda: By(counted, head=nn.Linear(5, 3), n=nn.Buffer(torch.zeros((), dtype=torch.int64)))),
    "buffer by its data": Animal(lambda: By(by_data, head=nn.Linear(5, 3), mean=nn.Buffer(torch.zeros(5)))),
}

ANIMALS = ZOO | MORE
DRAW = {  # random numbers, in training mode
    "dropout",
    "transformer",
    "layer drop",
    "attention",
    "random relu",
    "alpha dropout",
    "fractional pool",
}
DRAW_EVER = {"layer drop", "fractional pool"}  # and in any other
SINGLE = {"two dtypes"}  # part of them computes in float32


def quiet(name, n):
    """(module, x, y) of a kind, with n samples: in float64 where all of it may be, and drawing nothing where it need not."""
    module = ANIMALS[name].born()
    torch.manual_seed(0)  # of what the first batch makes
    module = module if name in SINGLE else module.double()
    x, y = ANIMALS[name].data(n)
    with torch.no_grad():
        if name == "lazy":
            module(x.clone())
    return module.eval() if name in DRAW else module, x, y


def parameters(module):
    return [p for p in module.parameters() if p.requires_grad]


def flat(tensors):
    return torch.cat([t.detach().flatten().double() for t in tensors])
