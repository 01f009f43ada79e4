"""What a network does not take is one line when it is made: what, what is allowed, what to do."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thermolab.systems import models
from thermolab.systems.data import Dataset
from thermolab.systems.network import NetworkOnData

N = 40


def case(**other):
    """Forty points of three classes; `other` replaces x, y, loss or module."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(N, 5, generator=generator), torch.arange(N) % 3
    return {"module": models.mlp((5, 6, 3)), "x": x, "y": y, "loss": "cross-entropy"} | other


def make(module, x, y, loss):
    return NetworkOnData(module, Dataset(x, y), loss=loss)


X, Y = case()["x"], case()["y"]
BAD = torch.where(torch.arange(N * 5).reshape(N, 5) == 57, torch.nan, X)
ONE = {"module": models.mlp((5, 6, 1)), "loss": "squared"}


class Remembers(nn.Linear):
    """Becomes steeper with each call: what it knows of them is in an object of its own."""

    def __init__(self, own):
        super().__init__(5, 3)
        self.own, self.calls = own, 0

    def forward(self, x):
        self.calls += 1
        if isinstance(self.own, list):
            self.own.append(1)
        if isinstance(self.own, torch.Generator):
            return super().forward(x) + torch.rand((), generator=self.own)
        return super().forward(x) * (self.calls + len(self.own or ()))


AGAIN = r"the module gives other outputs when it is asked again: .*; allowed: buffers, .*"
REFUSED = {
    "a list of its calls": ({"module": Remembers([])}, AGAIN),
    "a generator of its own": ({"module": Remembers(torch.Generator())}, AGAIN),
    "a list": ({"x": X.tolist()}, r"the inputs are a list; allowed: a dense tensor \[N, ...\], as of torch.as_tensor\(inputs\)"),
    "sparse": ({"x": X.to_sparse()}, r"the inputs are a torch.sparse_coo tensor; allowed: a dense tensor .*"),
    "a number": ({"y": torch.tensor(1)}, r"the targets are a torch.strided tensor; allowed: a dense tensor .*"),
    "empty": ({"x": X[:0], "y": Y[:0]}, r"the data are empty: 0 inputs; allowed: at least 1"),
    "30 inputs": ({"x": X[:30]}, r"30 inputs and 40 targets; allowed: as many of one as of the other"),
    "30 labels": ({"y": Y[:30]}, r"40 inputs and 30 targets; allowed: as many of one as of the other"),
    "labels 1 to K": ({"y": Y + 1}, r"labels go from 1 to 3; allowed: 0 to 2, for 3 outputs"),
    "labels -1": ({"y": Y - 1}, r"labels go from -1 to 1; allowed: 0 to 2, for 3 outputs"),
    "labels -100": (
        {"y": Y * 0 - 100},
        r"labels go from -100 to -100; allowed: 0 to 2, .*to ignore some, .*cross_entropy as loss",
    ),
    "one label of 1000": (
        {"y": torch.where(torch.arange(N) == 39, 1000, Y)},
        r"labels go from 0 to 1000; allowed: 0 to 2, for 3 outputs",
    ),
    "labels of bytes": ({"y": Y.to(torch.uint8)}, r"labels are torch.uint8; allowed: torch.int64, as of y.long\(\).*"),
    "probabilities": ({"y": torch.ones(N, 3) / 3}, r"labels are torch.float32; allowed: torch.int64.*give a function as loss"),
    "labels [N, 1]": (
        {"y": Y[:, None]},
        r"outputs \[8, 3\] do not fit targets \[8, 1\] .*allowed: labels \[B\] of logits \[B, K\]",
    ),
    "width 4": (
        {"x": X[:, :4]},
        r"the module does not take inputs \['B', 4\] of torch.float32: RuntimeError: .*shapes cannot be.*",
    ),
    "width 7": ({"x": torch.ones(N, 7)}, r"the module does not take inputs \['B', 7\] of torch.float32: .*"),
    "integers": ({"x": torch.ones(N, 5, dtype=torch.int64)}, r"the module does not take inputs \['B', 5\] of torch.int64: .*"),
    "complex inputs": ({"x": X.to(torch.complex64)}, r"the inputs are torch.complex64; allowed: real numbers.*"),
    "complex targets": ({**ONE, "y": X[:, :1] + 0j}, r"the targets are torch.complex64; allowed: real numbers.*"),
    "NaN": ({"x": BAD}, r"1 of the inputs are NaN or infinite, the first in sample 11; leave such samples out"),
    "infinite targets": ({**ONE, "y": X[:, :1] / 0}, r"40 of the targets are NaN or infinite, the first in sample 0; .*"),
    "squared, targets [N]": (
        {**ONE, "y": X[:, 0]},
        r"outputs \[8, 1\] do not fit targets \[8\] .*equal shapes, as of y\[:, None\]",
    ),
    "squared, [N, 1] and 3 outputs": ({"loss": "squared", "y": X[:, :1]}, r"outputs \[8, 3\] do not fit targets \[8, 1\] .*"),
    "squared, labels": (
        {"loss": "squared"},
        r"targets are torch.int64; allowed under loss='squared': floats, as of y.float\(\)",
    ),
    "own loss that broadcasts": (
        {**ONE, "y": X[:, 0], "loss": F.mse_loss},
        r"the loss broadcasts \[8, 1\] with \[8\], each .*",
    ),
    "and another": (
        {**ONE, "y": X[:, 0], "loss": lambda f, y: ((f - y) ** 2).mean()},
        r"the loss broadcasts .*as of y\[:, None\]",
    ),
    "a loss for each": (
        {"loss": lambda f, y: F.cross_entropy(f, y, reduction="none")},
        r"the loss has shape \[8\], torch.float32; .*",
    ),
    "a loss that is a number": (
        {"loss": lambda f, y: 0.5},
        r"the loss has a float; allowed: one real number, the mean over the batch",
    ),
    "a detached loss": ({"loss": lambda f, y: f.detach().mean()}, r"the loss does not depend on the trainable weights: .*"),
    "a loss that fails": ({"loss": lambda f, y: f.nothing}, r"loss=.*lambda.* fails on the first batch: AttributeError: .*"),
    "no loss": ({"loss": "hinge"}, r"loss='hinge' is unknown; allowed: cross-entropy, squared, or a function .*"),
    "nothing to train": (
        {"module": nn.Sequential(nn.Linear(5, 3)).requires_grad_(False)},
        r"the module has no parameter that .*",
    ),
    "complex weights": (
        {"module": nn.Linear(5, 3, dtype=torch.complex64)},
        r"parameter weight is torch.complex64; allowed: real .*",
    ),
    "a tuple": ({"module": nn.LSTM(5, 3)}, r"the module returns a tuple; allowed for loss='cross-entropy': one tensor; .*"),
    "two ways to read": (
        {"module": nn.Linear(3, 3), "x": torch.ones(N, 3, 3), "y": Y[:, None].expand(N, 3)},
        r"logits .* fit in two ways.*",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line(name):
    other, line = REFUSED[name]
    with pytest.raises(ValueError, match=rf"^{line}$") as caught:
        make(**case(**other))
    assert "\n" not in str(caught.value)


def test_precision_is_that_of_the_data():
    """In double with double weights, whatever the module is in; refused, not converted, with others."""
    system = make(**case(x=X.double()))
    knobs, one = {"eta": torch.ones(1) * 0.1, "lam": torch.zeros(1), "batch_size": 4}, torch.ones(1)
    with pytest.raises(ValueError, match=r"^inputs are torch.float64 and weights torch.float32; allowed: one precision: .*$"):
        system.advance(system.start(torch.arange(1), 0), 0, 1, knobs, 0, torch.arange(1), one)
    weights = system.start(torch.arange(1), 0).double()
    system.advance(weights, 0, 1, knobs, 0, torch.arange(1), one)
    assert weights.dtype == torch.float64


def test_other_data_are_asked_the_same():
    system, data = make(**case()), Dataset(X, Y)
    system.use(data)
    with pytest.raises(ValueError, match=r"^labels go from 1 to 3; allowed: 0 to 2, for 3 outputs$"):
        system.use(Dataset(X, Y + 1))
    assert system.data is data


def _of_pairs(f, y):
    return F.softplus((f - f[:, None]) * (y[:, None] - y)).mean()


def test_what_is_taken():
    """−100 by a function that knows it, embeddings, images as PyTorch has them, a loss of a tuple, one number of inputs alone."""
    make(**case(y=torch.where(torch.arange(N) < 20, -100, Y), loss=F.cross_entropy))
    make(
        nn.Sequential(nn.Embedding(9, 3), nn.Flatten(), nn.Linear(15, 3)),
        torch.arange(N * 5).reshape(N, 5) % 9,
        Y,
        "cross-entropy",
    )
    make(nn.Conv2d(1, 3, 1), torch.randn(N, 1, 4, 4), torch.zeros(N, 4, 4, dtype=torch.int64), "cross-entropy")
    make(nn.LSTM(5, 3), X, Y, lambda out, y: F.cross_entropy(out[0], y))
    make(**case(**ONE, y=X[:, 0]) | {"loss": lambda f, y: F.mse_loss(f[:, 0], y)})
    make(**case(**ONE, y=X[:, 0]) | {"module": nn.Sequential(nn.Linear(5, 1), nn.Flatten(0)), "loss": _of_pairs})
    make(**case(module=Remembers(None)))  # a number that is an attribute is kept for each replica
    fixed = nn.Sequential(nn.Unflatten(0, (32, 1)), nn.Flatten(1), nn.Linear(5, 3))
    make(**case(module=fixed))


def test_asking_changes_nothing():
    module = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Dropout(), nn.Linear(6, 3))
    x, before = X.clone(), {k: v.clone() for k, v in module.state_dict().items()}
    asked = case(module=nn.Sequential(nn.ReLU(inplace=True), module), x=x)
    state = torch.get_rng_state()
    make(**asked)
    assert torch.equal(x, X)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())


class Late(nn.Module):
    """A layer that is made in the first pass."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(5, 4), None

    def forward(self, x):
        h = self.first(x)
        self.second = self.second or nn.Linear(h.shape[1], 3)
        return self.second(h)


class Fills(nn.Module):
    """A buffer that is not there at the start."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(5, 3)
        self.register_buffer("mean", None)

    def forward(self, x):
        mean = x.mean(0).detach()
        self.mean = mean if self.mean is None else 0.9 * self.mean + 0.1 * mean
        return self.head(x - self.mean)


def test_what_a_first_pass_makes_is_said():
    module = Late()
    with pytest.raises(
        ValueError, match=r"^the module made parameters in its first pass, second.bias, second.weight: .* try again$"
    ):
        make(**case(module=module))
    assert make(**case(module=module)).n_parameters == 5 * 4 + 4 + 4 * 3 + 3
    system = make(**case(module=Fills()))
    knobs = {"eta": torch.ones(2) * 0.1, "lam": torch.zeros(2), "batch_size": 4}
    with pytest.raises(ValueError, match=r"^the module fills its buffer mean, empty at the start, in a step; [^\n]*$"):
        system.advance(system.start(torch.arange(2), 0), 0, 1, knobs, 0, torch.arange(2), torch.ones(2))
    assert system.replicas.module.mean is None


def test_data_written_to_afterwards_are_no_reason_to_die():
    system, knobs = make(**case(y=Y.clone())), {"eta": torch.ones(1) * 0.1, "lam": torch.zeros(1), "batch_size": 4}
    weights = system.start(torch.arange(1), 0)
    assert system.choose_backend(weights) == "compiled"
    system.data.y[3] = 10**6
    with pytest.raises(ValueError, match=r"^labels go from 0 to 1000000; allowed: 0 to 2, for 3 outputs$"):
        system.advance(weights, 0, 9, knobs, 0, torch.arange(1), torch.ones(1))


def test_a_batch_norm_of_one_sample_is_refused_as_in_torch():
    module = models.scale_invariant_mlp((5, 6), 3)
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        module(X[:1])
    system, knobs = make(**case(module=module)), {"eta": torch.ones(1) * 0.1, "lam": torch.zeros(1), "batch_size": 1}
    with pytest.raises(ValueError, match=r"^batch_size=1 has no variance for the module's BatchNorm1d; allowed: 2 or more$"):
        system.advance(system.start(torch.arange(1), 0), 0, 1, knobs, 0, torch.arange(1), torch.ones(1))
