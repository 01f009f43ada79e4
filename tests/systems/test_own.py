"""Your own network: it starts where the module is, leaves the module alone, and takes data in the forms that people have."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, SequentialSampler, TensorDataset, WeightedRandomSampler

from thermolab.engine.experiment import Experiment
from thermolab.systems import loading
from thermolab.systems.data import Dataset
from thermolab.systems.own import Network

X, Y = torch.randn(50, 6, generator=torch.Generator().manual_seed(0)), torch.arange(50) % 3


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(X, Y, strict=True))


def test_it_starts_from_the_weights_of_the_module_and_leaves_them():
    module = nn.Sequential(nn.Linear(6, 4), nn.PReLU(), nn.Linear(4, 3))
    own = nn.utils.parameters_to_vector(module.parameters()).detach().clone()
    run = Experiment(Network(module, (X, Y)), eta=0.1, batch_size=8, replicas=3)
    assert (run.state.weights == own).all()
    run.advance(20)
    assert (nn.utils.parameters_to_vector(module.parameters()) == own).all()
    assert not (run.state.weights[0] == run.state.weights[1]).all()  # batches of their own


def collate(samples):
    return torch.stack([x for x, _ in samples]), torch.tensor([int(y) for _, y in samples])


def halved(samples):
    x, y = collate(samples)
    return x / 2, y


DOUBLE = TensorDataset(2 * X, Y)
TENS = [(X[i : i + 10], Y[i : i + 10]) for i in range(0, 50, 10)]


@pytest.mark.parametrize(
    "data",
    [
        (X, Y),
        (X.tolist(), Y.tolist()),
        [[x, y] for x, y in zip(X, Y, strict=True)],
        [X.numpy(), Y.numpy().astype(np.int32)],
        (X.double(), Y),
        Dataset(X, Y),
        TensorDataset(X, Y),
        DataLoader(TensorDataset(X, Y), batch_size=7, shuffle=True, drop_last=True),
        DataLoader(TensorDataset(X, Y), batch_size=16, collate_fn=collate),
        DataLoader(DOUBLE, collate_fn=halved, batch_sampler=BatchSampler(SequentialSampler(DOUBLE), 16, drop_last=False)),
        DataLoader(TENS, batch_size=None),
        DataLoader(Stream(), batch_size=16),
        Dataset(X.clone().requires_grad_(), Y),
    ],
    ids=[
        "tensors",
        "lists",
        "samples",
        "arrays",
        "double",
        "ours",
        "torch",
        "shuffled",
        "collated",
        "sampled",
        "batches",
        "stream",
        "graph",
    ],
)
def test_each_form_of_data_comes_out_alike(data):
    net = Network(nn.Linear(6, 3), data)
    assert torch.equal(net.data.x, X)
    assert torch.equal(net.data.y, Y)
    Experiment(net, eta=0.1, batch_size=8).advance(1)


def test_what_is_larger_than_memory_is_mapped_from_a_file_and_trains_alike(monkeypatch):
    mapped, memmap = [], np.memmap
    monkeypatch.setattr(np, "memmap", lambda *values, **named: mapped.append(named["shape"]) or memmap(*values, **named))
    small = Network(nn.Linear(6, 3), DataLoader(TensorDataset(X, Y), batch_size=8), memory=1000)
    assert mapped == [(50, 6)]  # 1200 bytes of inputs; of targets there are 400
    whole = Network(small.replicas.module, (X, Y))
    ends = []
    for net in (small, whole):
        run = Experiment(net, eta=0.1, batch_size=8)
        run.advance(30)
        ends.append(run.state.weights)
    assert torch.equal(*ends)


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ("digits", "data of type str are unknown; allowed: .x, y."),
        (DataLoader(TensorDataset(X), batch_size=8), "allowed: .inputs, targets."),
        (DataLoader([{"x": x, "y": y} for x, y in zip(X, Y, strict=True)]), r"a dict of \['x', 'y'\]"),
        (DataLoader(TensorDataset(X, Y), sampler=WeightedRandomSampler([1.0] * 50, 50)), "WeightedRandomSampler is not kept"),
        (DataLoader([(X[0], 1), (X[0][:3], 2)], batch_size=1), "the samples make no batch: .*each of one shape"),
        ((X, X, Y), "the samples make no batch"),
        ((None, Y), "data of type NoneType are no array of numbers"),
        ((X.numpy().astype(str), Y), "data of type ndarray are no array of numbers"),
        (TensorDataset(X[:0], Y[:0]), "no samples"),
        (DataLoader(TensorDataset(X, Y), batch_size=None), "a batch holds a single number"),
    ],
)
def test_other_data_are_refused_in_one_line(data, line):
    with pytest.raises(ValueError, match=line) as error:
        Network(nn.Linear(6, 3), data)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("module", [torch.relu, nn.Linear])
def test_what_is_no_module_is_refused(module):
    with pytest.raises(ValueError, match=r"the module is .*; allowed: an nn\.Module"):
        Network(module, (X, Y))


def test_a_stream_without_end_is_refused():
    class Endless(IterableDataset):
        def __iter__(self):
            while True:
                yield X[0], Y[0]

    with pytest.raises(ValueError, match="a stream of more than 1e\\+03 bytes has no number of samples"):
        loading.as_dataset(DataLoader(Endless(), batch_size=8), memory=1000)
