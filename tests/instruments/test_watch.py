"""A Watch beside a loop: it disturbs nothing, keeps to its budget, reads what a plain computation reads, and can be resumed."""

import copy
import random
import time

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset
from zoo import ANIMALS

from thermolab.instruments import curvature, gauges
from thermolab.instruments.curvature import HessianProducts
from thermolab.instruments.undisturbed import undisturbed
from thermolab.instruments.watch import Watch
from thermolab.systems.replicas import Replicas

X, Y = torch.randn(60, 6, generator=torch.Generator().manual_seed(0)), torch.arange(60) % 3
ALL = ["U", "r", "T", "S", "snr", "sharpness", "batch_sharpness"]


class Counting(nn.Module):
    """All that a step may leave behind: running statistics, a hidden state, a counter, dropout and numbers of its own."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.drop, self.last = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 3)
        self.calls, self.hidden = 0, torch.zeros(8)

    def forward(self, x):
        self.calls += 1
        h = self.drop(torch.relu(self.norm(self.first(x)))) + 0.01 * torch.rand(8) + 0.01 * self.hidden
        self.hidden = h.detach().mean(0)
        return self.last(h * (1 + 0.01 * random.random() + 0.01 * np.random.rand()))  # noqa: NPY002


class Noisy(Dataset):
    """Augmentation that draws from the global generators."""

    def __len__(self):
        return len(X)

    def __getitem__(self, i):
        return X[i] + 0.1 * torch.randn(6), Y[i]


def trained(steps, watching, make=lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9), model=None, **settings):
    """Train with a watch or without one: (model, optimizer, watch)."""
    torch.manual_seed(1), random.seed(1), np.random.seed(1)  # noqa: NPY002
    model = Counting() if model is None else model
    optimizer, loss_fn = make(list(model.parameters())), nn.CrossEntropyLoss()
    loader = DataLoader(Noisy(), batch_size=10, shuffle=True)
    watch = Watch(model, optimizer, loss_fn, loader, **settings) if watching else None
    while steps > 0:
        for x, y in loader:
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()
            if watch is not None:
                watch.step()
            steps -= 1
            if not steps:
                break
    return model, optimizer, watch


def test_the_trained_weights_are_the_same_to_the_bit_with_and_without_it():
    plain, optimizer, _ = trained(30, False)
    watched, other, watch = trained(30, True, observe=ALL, every=3)
    assert len(watch.rows) == 10
    for name, value in plain.state_dict().items():  # buffers too
        assert torch.equal(value, watched.state_dict()[name]), name
    assert torch.equal(plain.hidden, watched.hidden)
    assert (plain.calls, plain.training) == (watched.calls, watched.training)
    for p, q in zip(plain.parameters(), watched.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad)
        assert torch.equal(optimizer.state[p]["momentum_buffer"], other.state[q]["momentum_buffer"])
    found = watch.record()
    assert set(found.data_vars) == {"U", "r", "T", "S", "snr", "lambda_max", "lambda_max_error", "batch_sharpness", "eta", "lam"}
    assert np.isfinite(found["lambda_max"]).all()


def test_an_error_within_leaves_the_module_as_it_was():
    model = Counting()
    before = copy.deepcopy(model.state_dict())

    def spoil():
        with undisturbed(model):
            model(X)
            model.eval()
            model.norm.running_mean = torch.ones(8)
            raise KeyError

    with pytest.raises(KeyError):
        spoil()
    assert model.training
    assert model.calls == 0
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def linear(seed=0, **settings):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
    optimizer = torch.optim.SGD(
        [{"params": model[0].parameters(), "lr": 0.2}, {"params": model[2].parameters()}], lr=0.1, momentum=0.5
    )
    loader = DataLoader(TensorDataset(X, Y), batch_size=10)
    return model, optimizer, Watch(model, optimizer, nn.CrossEntropyLoss(), loader, every=1, batches=8, **settings)


def test_its_readings_are_those_of_the_written_out_gradients():
    model, _, watch = linear()
    twin = torch.Generator().manual_seed(0)
    watch.step()
    gradients, losses = [], []
    for _ in range(8):
        pick = torch.randint(60, (10,), generator=twin)
        loss = nn.functional.cross_entropy(model(X[pick]), Y[pick])
        gradients.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]))
        losses.append(float(loss.detach()))
    g, (row,) = torch.stack(gradients).double(), watch.rows
    mobility = torch.cat([torch.full((35,), 0.2 / 0.5), torch.full((18,), 0.1 / 0.5)]).double()
    assert row["U"] == pytest.approx(np.mean(losses), rel=1e-6)
    assert row["T"] == pytest.approx(float((mobility * g.var(0)).sum() / (2 * 53)), rel=1e-5)
    trace = float(g.var(0).sum())
    assert row["snr"] == pytest.approx(np.sqrt(max(0, float(g.mean(0).square().sum()) - trace / 8) / trace), rel=1e-4)


def test_the_sharpness_is_the_largest_eigenvalue_of_the_dense_hessian():
    model, _, watch = linear(observe=["sharpness"])
    watch.step()
    names, weights = zip(*model.named_parameters(), strict=True)
    shapes = [w.numel() for w in weights]

    def loss(flat):
        own = {n: part.view_as(w) for n, part, w in zip(names, flat.split(shapes), weights, strict=True)}
        return nn.functional.cross_entropy(torch.func.functional_call(model, own, (X,)), Y)

    full = torch.autograd.functional.hessian(loss, torch.cat([w.detach().flatten() for w in weights]))
    top = float(torch.linalg.eigvalsh(full.double())[-1])
    assert watch.rows[0]["lambda_max"] == pytest.approx(top, rel=0.01)


def test_transformers_and_attention_have_a_sharpness_and_dropout_is_said():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(6, 2, 12, dropout=0.2, batch_first=True)
    model = nn.Sequential(layer, nn.Flatten(), nn.Linear(24, 3))
    samples = TensorDataset(torch.randn(16, 4, 6), torch.arange(16) % 3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    watch = Watch(model, optimizer, "cross-entropy", DataLoader(samples, batch_size=8), observe=["sharpness", "T"], every=1)
    for _ in range(2):
        watch.step()
    assert watch.rows[-1]["lambda_max"] > 0
    assert np.isnan(watch.rows[-1]["T"])  # Adam has made no step: the size of its steps is not known yet
    assert any("dropout is at work" in note for note in watch.notes)


class Slow(nn.Module):
    """A step of a few milliseconds, whatever the machine."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x):
        time.sleep(0.001)
        return self.layer(x)


def test_it_keeps_to_its_share_of_the_loops_time():
    _, _, watch = trained(900, True, model=Slow())
    assert len(watch.rows) >= 3
    assert watch.own_seconds - watch._cost <= 0.1 * watch.loop_seconds  # what the last reading costs is not known before
    _, _, eager = trained(300, True, model=Slow(), budget=0.5)
    assert len(eager.rows) > len(watch.rows)


def test_it_is_saved_with_the_checkpoint_and_resumes_as_if_nothing_had_been(tmp_path):
    model, optimizer, watch = linear(observe=["U", "T"], out=tmp_path)
    again_model, again_optimizer, again = linear(seed=3, observe=["U", "T"], out=tmp_path)

    def steps(model, optimizer, watch, n):
        for _ in range(n):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(X), Y).backward()
            optimizer.step()
            watch.step()

    steps(model, optimizer, watch, 4)
    checkpoint = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "watch": watch.state_dict()}
    torch.save(checkpoint, tmp_path / "checkpoint.pt")
    steps(model, optimizer, watch, 3)
    checkpoint = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    again_model.load_state_dict(checkpoint["model"])
    again_optimizer.load_state_dict(checkpoint["optimizer"])
    again.load_state_dict(checkpoint["watch"])
    with again:
        steps(again_model, again_optimizer, again, 3)
    assert again.steps == 7
    assert again.rows == watch.rows
    with xr.open_dataset(tmp_path / "results.nc", engine="h5netcdf") as found:
        xr.testing.assert_equal(found.load(), watch.record())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint.pt", "results.nc"]


@pytest.mark.parametrize("clip", ["norm", "value", None, "at rest"])
def test_clipping_and_schedules_are_noticed_and_nothing_else(clip):
    model, optimizer, watch = linear()
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 5) if clip in ("norm", "value") else None
    for k in range(24):
        pick = torch.arange(10) + (0 if clip == "at rest" else k)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(5 * X[pick % 60]), Y[pick % 60]).backward()
        if clip == "at rest":
            optimizer.zero_grad(set_to_none=False)
            nn.functional.cross_entropy(model(X[:40]), Y[:40]).backward()
            optimizer.param_groups[0]["lr"] = optimizer.param_groups[1]["lr"] = 1e-9
        if clip == "norm":
            nn.utils.clip_grad_norm_(model.parameters(), 0.05)
        if clip == "value":
            nn.utils.clip_grad_value_(model.parameters(), 0.01)
        optimizer.step()
        watch.step()
        if schedule:
            schedule.step()
    said = " ".join(watch.notes)
    assert ("gradients are clipped at norm 0.05" in said) == (clip == "norm")
    assert ("gradients are clipped at largest value 0.01" in said) == (clip == "value")
    assert ("a schedule" in said) == bool(clip)
    assert ("gradients are clipped" in said) == (clip in ("norm", "value"))
    assert "SGD with momentum 0.5 (η 0.2, λ 0, η 0.1, λ 0)" in watch.notes


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(X, Y, strict=True))


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"loader": DataLoader(Stream(), batch_size=5)}, "a stream would be read away from the loop"),
        ({"loader": iter([1])}, "loader is a list_iterator"),
        ({"loader": []}, "the loader is empty"),
        ({"observe": ["accuracy"]}, "accuracy cannot be read"),
        ({"observe": ["heat"]}, "observe='heat' is unknown"),
        ({"budget": 0}, "budget=0 is no share"),
        ({"batches": 1}, "batches=1, every=None"),
        ({"optimizer": torch.optim.SGD([nn.Parameter(torch.zeros(2))], lr=0.1)}, "moves no parameter of the model"),
    ],
)
def test_what_it_does_not_take_is_one_line(settings, line):
    model = nn.Linear(6, 3)
    usual = {
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
        "loss_fn": nn.CrossEntropyLoss(),
        "loader": DataLoader(TensorDataset(X, Y), batch_size=5),
    }
    with pytest.raises(ValueError, match=line) as error:
        Watch(**usual | settings)
    assert "\n" not in str(error.value)


def test_what_fails_in_a_reading_stops_the_watch_and_not_the_loop():
    model = nn.Linear(6, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader = DataLoader(TensorDataset(X, Y), batch_size=5)
    watch = Watch(model, optimizer, nn.CrossEntropyLoss(reduction="none"), loader, every=1)
    with pytest.warns(RuntimeWarning, match="the Watch stopped at step 1, training goes on"):
        watch.step()
    watch.step()
    assert (watch.steps, watch.rows) == (2, [])
    with pytest.raises(ValueError, match="there are no readings after 2 steps"):
        watch.record()


def test_batches_that_are_mappings_are_the_models_arguments():
    class Answering(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 3)

        def forward(self, x, y):
            return {"loss": nn.functional.cross_entropy(self.layer(x), y)}

    model = Answering()
    loader = DataLoader([{"x": x, "y": y} for x, y in zip(X, Y, strict=True)], batch_size=10)
    watch = Watch(
        model,
        torch.optim.SGD(model.parameters(), lr=0.1),
        None,
        loader,
        every=1,
        observe=gauges.GAUGES.keys() - {"balance", "accuracy", "S"},
    )
    watch.step()
    assert watch.rows[0]["lambda_max"] > 0


class Attending(nn.Module):
    """Attention in its fast kernel, with dropout of its own."""

    def __init__(self, dropout):
        super().__init__()
        self.inner, self.head = nn.MultiheadAttention(6, 2, dropout=dropout, batch_first=True), nn.Linear(24, 3)

    def forward(self, x):
        return self.head(self.inner(x, x, x, need_weights=False)[0].flatten(1))


def read_once(model, x, observe):
    samples = TensorDataset(x, torch.arange(len(x)) % 3)
    watch = Watch(
        model,
        torch.optim.SGD(model.parameters(), lr=0.1),
        "cross-entropy",
        DataLoader(samples, batch_size=8),
        observe=observe,
        every=1,
    )
    torch.manual_seed(4)
    watch.step()
    return watch


def test_dropout_is_off_for_the_curvature_alone_in_whatever_order():
    x = torch.randn(16, 4, 6, generator=torch.Generator().manual_seed(0))
    found = []
    for dropout, observe in ((0.5, ["T", "sharpness"]), (0.5, ["sharpness", "T"]), (0.0, ["T", "sharpness"])):
        torch.manual_seed(0)
        watch = read_once(Attending(dropout), x, observe)
        assert any("dropout is at work" in note for note in watch.notes) == (dropout > 0)
        found.append(watch.rows[0])
    first, turned, without = found
    assert first["T"] == turned["T"] != without["T"]
    assert first["lambda_max"] == turned["lambda_max"] == without["lambda_max"]


@pytest.mark.parametrize("name", ["weight norm", "sparse embedding", "attention", "mlp"])
def test_curvature_is_that_of_the_instruments(name):
    """Where there is no second derivative, or a wrong one, too; and the weights are as they were."""
    model = ANIMALS[name].born().float()
    x, _ = ANIMALS[name].data(24, torch.float32)
    before = copy.deepcopy(model.state_dict())
    row = read_once(model, x, ["sharpness"]).rows[0]
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    still = Replicas(model.eval())
    hessian = HessianProducts(
        still, still.own_weights().double(), x.double() if x.is_floating_point() else x, torch.arange(24) % 3
    )
    assert row["lambda_max"] == pytest.approx(curvature.largest_eigenvalue(hessian, looks=2).value, rel=0.01)


def test_a_file_that_cannot_be_written_is_said_and_training_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr("thermolab.instruments.watch.SAVE_AFTER", 0.0)
    (tmp_path / "taken").write_text("a file where the folder should be")
    _, _, watch = linear(out=tmp_path / "taken")
    with pytest.warns(RuntimeWarning, match="results.nc could not be written"):
        watch.step()
    watch.optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2))], "lr": 0.3})
    watch.step()
    assert len(watch.rows) == 2
    np.testing.assert_array_equal(watch.record()["eta"], [[0.2, 0.1, np.nan], [0.2, 0.1, 0.3]])


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("kind", ["a script", "a dataset of batches"])
def test_a_module_of_a_script_and_a_dataset_of_batches_are_watched(kind):
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    loader = DataLoader(TensorDataset(X, Y), batch_size=10)
    if kind == "a script":
        model = torch.jit.script(model)
    else:
        loader = DataLoader([(X[i : i + 10], Y[i : i + 10]) for i in range(0, 60, 10)], batch_size=None)
    optimizer, loss_fn = torch.optim.SGD(model.parameters(), lr=0.1), nn.CrossEntropyLoss()
    watch = Watch(model, optimizer, loss_fn, loader, every=2, observe=["U", "sharpness"])
    for x, y in loader:
        optimizer.zero_grad()
        loss_fn(model(x), y).backward()
        optimizer.step()
        watch.step()
    assert len(watch.notes) == 1
    assert np.isfinite(watch.record()["lambda_max"].values).all()
    assert int(model.state_dict()["1.num_batches_tracked"]) == 6


class Attention(nn.Module):
    """Asks a layer for its p, and does the rest itself; or draws by itself."""

    def __init__(self, p=0.4):
        super().__init__()
        self.drop, self.last = nn.Dropout(p) if p else None, nn.Linear(6, 3)

    def forward(self, x):
        if self.drop is None:
            return self.last(x * torch.rand(6))
        return self.last(nn.functional.dropout(x, self.drop.p, self.training))


class Attends(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention, self.last = nn.MultiheadAttention(6, 2, dropout=0.4, batch_first=True), nn.Linear(6, 3)

    def forward(self, x):
        return self.last(self.attention(x[:, None], x[:, None], x[:, None])[0][:, 0])


@pytest.mark.parametrize("make", [Attention, Attends, lambda: Attention(0)], ids=["asked for its p", "attention", "of its own"])
def test_a_sharpness_is_that_without_any_dropout_and_at_one_draw_of_the_rest(make):
    model = make()
    optimizer, loader = torch.optim.SGD(model.parameters(), lr=0.0), DataLoader(TensorDataset(X, Y), batch_size=60)
    watch = Watch(model, optimizer, nn.CrossEntropyLoss(), loader, every=1, observe=["sharpness", "batch_sharpness"])
    for _ in range(4):
        watch.step()
    assert model.training
    found = watch.record()["lambda_max"].values[:, 0]
    assert np.ptp(found) < 0.02 * found.mean()
