"""Curvature against closed forms, finite differences of the hand-written gradient, and dense spectra."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call

from thermolab.engine.experiment import Experiment
from thermolab.instruments import curvature
from thermolab.instruments.curvature import HessianProducts, dense, fisher_diagonal, largest_eigenvalue, largest_fisher, trace
from thermolab.systems import data, models
from thermolab.systems.network import NetworkOnData
from thermolab.systems.replicas import Replicas

ONE = torch.ones(1, 1, dtype=torch.float64)


class Bowl(nn.Module):
    """f = ½ wᵀ A w, so that (f + ½)² has the Hessian A at w = 0."""

    def __init__(self, matrix, unused: int = 0):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(len(matrix), dtype=torch.float64))
        self.register_buffer("matrix", torch.as_tensor(matrix, dtype=torch.float64))
        if unused:
            self.unused = nn.Parameter(torch.zeros(unused, dtype=torch.float64))

    def forward(self, x):
        return x * (0.5 * self.w @ self.matrix @ self.w)


def bowl(spectrum, *, dtype=torch.float64, seed=0, unused=0) -> tuple[HessianProducts, np.ndarray]:
    """Products with a Hessian of known spectrum, and its eigenvectors in columns."""
    rng = np.random.default_rng(seed)
    vectors, _ = np.linalg.qr(rng.normal(size=(len(spectrum),) * 2))
    replicas = Replicas(Bowl((vectors * np.asarray(spectrum, float)) @ vectors.T, unused), loss="squared")
    zero = torch.zeros(replicas.n_parameters, dtype=dtype)
    return HessianProducts(replicas, zero, ONE.to(dtype), -ONE.to(dtype) / 2), vectors


def conv():
    return nn.Sequential(nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 2, 3, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(18, 10))


def with_statistics():
    return nn.Sequential(nn.Linear(64, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 10))


MODULES = {
    "relu": lambda: models.mlp((64, 5, 10)),
    "tanh": lambda: models.mlp((64, 5, 10), activation="tanh", bias=False),
    "batch": lambda: models.scale_invariant_mlp((64, 6), norm="batch"),
    "layer": lambda: models.scale_invariant_mlp((64, 6), norm="layer"),
    "conv": conv,
    "statistics": with_statistics,
}


def case(name, n=40, dtype=torch.float64, replicas=1):
    torch.manual_seed(0)  # of the frozen and unused values that torch fills in
    learn = data.digits(n)
    system = NetworkOnData(MODULES[name](), learn)
    weights = system.start(torch.arange(replicas), 1)
    return system, (weights[0] if replicas == 1 else weights).to(dtype), learn


def largest(matrix):
    return float(torch.linalg.eigvalsh(matrix)[-1])  # numpy's would take all cores


# --- products -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", MODULES)
def test_products_are_those_of_the_dense_hessian(name):
    system, w, learn = case(name)
    full, hessian = dense(system, w, learn.x, learn.y), HessianProducts(system, w, learn.x, learn.y)
    assert full.shape == (len(w), len(w))
    vectors = torch.randn(5, len(w), dtype=w.dtype, generator=torch.Generator().manual_seed(0))
    for i, v in enumerate([*vectors, *torch.eye(len(w), dtype=w.dtype)[:: len(w) // 3]], 1):
        torch.testing.assert_close(hessian(v), full @ v, rtol=1e-9, atol=1e-12)
        assert hessian.products == i
    if name == "batch":  # scale invariance: H w = −∇L
        torch.testing.assert_close(hessian(w), -hessian.gradient, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["tanh", "layer"])
def test_the_dense_hessian_is_the_difference_of_hand_written_gradients(name):
    system, w, learn = case(name)
    assert system.replicas.backend == "batched"
    system.replicas.module.double()
    h = 1e-5
    shifted = w + h * torch.cat([torch.eye(len(w)), -torch.eye(len(w))]).double()
    x, y = (t.expand(len(shifted), *t.shape) for t in (learn.x.double(), learn.y))
    g = torch.empty_like(shifted)
    system.replicas.loss_and_gradient(shifted, x, y, g)
    found = dense(system, w, learn.x, learn.y)
    torch.testing.assert_close((g[: len(w)] - g[len(w) :]) / (2 * h), found, rtol=1e-5, atol=1e-7)
    hessian = HessianProducts(system, w, learn.x, learn.y)
    one = torch.empty(1, len(w), dtype=w.dtype)
    loss = system.replicas.loss_and_gradient(w[None], x[:1], y[:1], one)
    torch.testing.assert_close(hessian.gradient, one[0], rtol=1e-9, atol=1e-12)
    assert hessian.loss == pytest.approx(float(loss))


def test_linear_regression_by_hand():
    """H = 2 XᵀX/N whatever the weights and the targets."""
    x, y = torch.randn(2, 30, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    replicas = Replicas(nn.Sequential(nn.Linear(7, 1, bias=False)), loss="squared")
    hessian = HessianProducts(replicas, y[0], x, y[:, :1])
    exact = 2 * x.T @ x / 30
    torch.testing.assert_close(torch.stack([hessian(v) for v in torch.eye(7).double()]), exact)
    torch.testing.assert_close(dense(replicas, y[0].float(), x, y[:, :1]), exact)
    assert trace(hessian).value == pytest.approx(float(exact.trace()), rel=1e-12)
    assert largest_eigenvalue(hessian, tolerance=1e-6).value == pytest.approx(np.linalg.eigvalsh(exact)[-1], rel=1e-6)


def test_single_precision_and_what_is_left_alone():
    system, w, learn = case("statistics", dtype=torch.float32)
    before = {k: t.clone() for k, t in system.replicas.module.state_dict().items()}
    state, v = torch.get_rng_state(), torch.randn(len(w), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():  # as within a frame
        hessian = HessianProducts(system, w, learn.x, learn.y)
        found = hessian(v)
        largest_eigenvalue(hessian)
        trace(hessian, probes=2)
    expected = dense(system, w, learn.x, learn.y) @ v.double()
    assert found.dtype == torch.float32
    assert float((found - expected).norm() / expected.norm()) < 1e-5
    assert torch.equal(state, torch.get_rng_state())
    for k, t in system.replicas.module.state_dict().items():
        assert torch.equal(t, before[k]), k
    assert not w.requires_grad


def test_parameters_without_curvature():
    hessian, _ = bowl([3.0, 1.0], unused=4)
    assert torch.count_nonzero(hessian(torch.ones(6, dtype=torch.float64))) == 2
    assert largest_eigenvalue(hessian).value == pytest.approx(3)
    flat, _ = bowl([0.0, 0.0, 0.0])
    top = largest_eigenvalue(flat)
    assert (top.value, top.error, top.products, top.converged) == (0, 0, 1, True)


# --- Lanczos --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("seed", range(4))
def test_the_largest_eigenvalue_of_a_known_spectrum(tolerance, seed):
    spectrum = np.concatenate([np.linspace(-1, 1, 150), [-20.0, 6.0, 7.5]])  # −20 is larger in size
    hessian, vectors = bowl(spectrum, seed=seed)
    top = largest_eigenvalue(hessian, tolerance=tolerance, seed=seed)
    assert top.converged
    assert top.products == hessian.products < 30
    assert 7.5 * (1 - tolerance) <= top.value <= 7.5 * (1 + 1e-12)
    assert top.error <= tolerance / 2 * 7.5
    v = top.vector.numpy()
    assert np.linalg.norm(v) == pytest.approx(1)
    assert np.linalg.norm(hessian(top.vector) - top.value * top.vector) == pytest.approx(top.residual, rel=1e-3, abs=1e-9)
    assert abs(v @ vectors[:, -1]) == pytest.approx(1, abs=(top.residual / 1.5) ** 2 + 1e-12)


def test_values_are_bounds_from_below_and_the_errors_hold():
    hessian, _ = bowl(np.linspace(0, 1, 80) ** 6 * 5)
    for most in range(1, 40):
        top = largest_eigenvalue(hessian, tolerance=1e-9, most=most, seed=most)
        assert top.value <= 5 * (1 + 1e-12)
        assert top.products == min(most, top.products)
        assert top.residual >= top.error
        if most > 12:
            assert 5 - top.value <= top.error + 1e-12
    few = largest_eigenvalue(hessian, most=4)
    assert (few.products, few.converged) == (4, False)


@pytest.mark.parametrize("spectrum", [[2.0], [2.0, 2.0], [2.0] * 5 + [1.0] * 5, [-3.0, -1.0, -2.0], [-5.0, 1e-6]])
def test_small_and_degenerate_spectra(spectrum):
    hessian, _ = bowl(spectrum)
    top = largest_eigenvalue(hessian, tolerance=1e-9)
    assert top.converged
    assert top.value == pytest.approx(max(spectrum), rel=1e-9)
    assert top.products <= len(set(spectrum)) + 1


def test_reorthogonalisation_keeps_ghosts_away():
    """Without it the top pair would come out twice once the first has converged."""
    hessian, _ = bowl(np.concatenate([[1000.0, 1.0], np.linspace(0, 0.9, 60)]), dtype=torch.float32)
    top = largest_eigenvalue(hessian, tolerance=1e-30, most=25)
    assert top.value == pytest.approx(1000, rel=1e-5)
    kept = []
    original, hessian_call = HessianProducts.__call__, lambda self, v: (kept.append(v.clone()), original(self, v))[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HessianProducts, "__call__", hessian_call)
        largest_eigenvalue(hessian, tolerance=1e-30, most=25)
    basis = torch.stack(kept)
    torch.testing.assert_close(basis @ basis.T, torch.eye(len(basis)), rtol=0, atol=1e-5)


def test_a_start_at_another_eigenvector_is_left():
    """The largest eigenvalue was overtaken since: its exact eigenvector is no trap."""
    hessian, vectors = bowl(np.concatenate([np.linspace(0, 1, 60), [4.0, 6.0]]))
    old = torch.as_tensor(vectors[:, -2].copy())
    found = largest_eigenvalue(hessian, start=1e3 * old)
    assert found.value == pytest.approx(6, rel=1e-3)
    warm = largest_eigenvalue(hessian, start=torch.as_tensor(vectors[:, -1].copy()))
    assert warm.value == pytest.approx(6, rel=1e-3)
    assert warm.products < largest_eigenvalue(hessian).products


def test_a_second_look_finds_what_the_first_missed():
    spectrum = np.concatenate([np.linspace(0, 1, 300), [5.0, 6.0]])
    hessian, vectors = bowl(spectrum)
    one, two = (largest_eigenvalue(hessian, start=torch.as_tensor(vectors[:, -2].copy()), looks=n, tolerance=0.5) for n in (1, 2))
    assert one.value < 5.5  # the control
    assert two.value > 5.5
    assert two.products > one.products


def test_sharpness_of_a_network_in_training():
    """To 1e-3, colder or warmer, at some stages of a run that sharpens and flattens."""
    learn = data.digits(200)
    system = NetworkOnData(models.mlp((64, 10, 10)), learn)
    run, vector, cold, warm = Experiment(system, eta=0.1, lam=0.001, batch_size=20, seed=2), None, [], []
    for step in (0, 200, 210, 220, 1000, 1010):
        run.advance(step - run.state.step)
        w = run.state.weights[0]
        exact = largest(dense(system, w, learn.x, learn.y))
        found = [largest_eigenvalue(HessianProducts(system, w, learn.x, learn.y), start=s) for s in (None, vector)]
        for top in found:
            assert top.converged
            assert top.value == pytest.approx(exact, rel=1e-3)
        cold.append(found[0].products)
        warm += [found[1].products] if step % 100 else []  # ten steps on
        vector = found[1].vector
    assert max(cold) <= 15
    assert max(warm) <= 7
    assert np.mean(warm) < 0.6 * np.mean(cold)


# --- trace ----------------------------------------------------------------------------------------------------------------
def test_the_trace_lies_within_its_standard_errors():
    hessian, _ = bowl([8.0, 3.0, -2.0, 1.0, 0.5, 0.0])
    full = dense(hessian.replicas, hessian.weights, hessian.x, hessian.y)
    found = [trace(hessian, probes=25, seed=s) for s in range(400)]
    values, errors = (np.array([getattr(f, k) for f in found]) for k in ("value", "standard_error"))
    assert values.mean() == pytest.approx(10.5, abs=4 * values.std() / 20)
    off = full - torch.diag(full.diagonal())
    spread = math.sqrt(2 * float(off.square().sum()) / 25)
    assert values.std() == pytest.approx(spread, rel=4 / math.sqrt(800))
    assert math.sqrt((errors**2).mean()) == pytest.approx(spread, rel=4 / math.sqrt(800))
    assert found[0].n == 25
    exact = trace(hessian)
    assert (exact.standard_error, exact.n) == (0, 6)
    assert exact.value == pytest.approx(10.5, rel=1e-12)


def test_a_diagonal_hessian_needs_one_sign():
    replicas = Replicas(Bowl(np.diag([1.0, 2.0, -4.0])), loss="squared")
    hessian = HessianProducts(replicas, torch.zeros(3, dtype=torch.float64), ONE, -ONE / 2)
    found = trace(hessian, probes=2)
    assert (found.value, found.standard_error) == (-1, 0)


def test_many_parameters_get_probes(monkeypatch):
    monkeypatch.setattr(curvature, "EXACT", 5)
    hessian, _ = bowl(np.ones(6))
    assert trace(hessian).n == hessian.products == curvature.PROBES


# --- Fisher ---------------------------------------------------------------------------------------------------------------
def all_labels(system, w, x):
    """The Fisher matrix [P, P] by summing over the labels."""
    parameters = {k: v[0].clone().requires_grad_() for k, v in system.replicas.views(w[None]).items()}
    rows = []
    for sample in x.to(w.dtype):
        logs = functional_call(system.replicas.module, parameters, (sample[None],))[0].log_softmax(0)
        grads = [torch.autograd.grad(p, list(parameters.values()), retain_graph=True) for p in logs]
        rows.append(logs.exp().detach().sqrt()[:, None] * torch.stack([torch.cat([g.flatten() for g in gs]) for gs in grads]))
    rows = torch.cat(rows)
    return rows.T @ rows / len(x)


@pytest.mark.parametrize("name", ["relu", "conv"])
def test_the_fisher_diagonal_is_the_sum_over_labels(name):
    system, w, learn = case(name, dtype=torch.float32)
    exact = all_labels(system, w, learn.x).diagonal().numpy()
    found = fisher_diagonal(system, w, learn.x, draws=400)
    np.testing.assert_allclose(found.value.sum(), exact.sum(), rtol=0.03)
    live = exact > exact.max() / 30
    np.testing.assert_allclose(found.value[live], exact[live], rtol=0.3)
    # the control: with the labels of the data it is another matrix
    g = torch.empty(len(learn), len(w))
    with torch.no_grad():
        system.replicas.loss_and_gradient(w.expand(len(learn), -1), learn.x[:, None], learn.y[:, None], g)
    assert abs(float(g.square().mean(0).sum()) / exact.sum() - 1) > 0.1


@pytest.mark.parametrize("name", ["relu", "conv"])
def test_the_largest_fisher_eigenvalue_is_that_of_the_whole_matrix(name):
    system, w, learn = case(name, dtype=torch.float32)
    exact = largest(all_labels(system, w, learn.x))
    assert largest_fisher(system, w, learn.x, draws=40) == pytest.approx(exact, rel=0.05)
    # one draw of 40 samples: near, and on the average above
    few = [largest_fisher(system, w, learn.x, seed=i) for i in range(10)]
    assert exact < np.mean(few) < 1.5 * exact


def test_the_gram_matrix_has_the_eigenvalues_of_the_fisher_matrix(monkeypatch):
    """Of the same draws its trace is the sum of the diagonal, whatever the blocks."""
    system, w, learn = case("relu", dtype=torch.float32)
    whole = largest_fisher(system, w, learn.x, draws=3, seed=2)
    seen = []
    monkeypatch.setattr(torch.linalg, "eigvalsh", lambda m: seen.append(m) or torch.zeros(1))
    largest_fisher(system, w, learn.x, draws=3, seed=2)
    monkeypatch.undo()
    (gram,) = seen
    assert gram.shape == (120, 120)
    assert float(gram.trace()) / 120 == pytest.approx(fisher_diagonal(system, w, learn.x, draws=3, seed=2).value.sum(), rel=1e-5)
    assert largest(gram) / 120 == pytest.approx(whole, rel=1e-6)
    one = largest_fisher(system, w, learn.x)
    monkeypatch.setattr(curvature, "BLOCK", 7 * len(w))
    assert largest_fisher(system, w, learn.x) == pytest.approx(one, rel=1e-5)  # the same draws, block by block


def test_errors_of_the_fisher_diagonal(monkeypatch):
    system, w, learn = case("relu", n=1600, dtype=torch.float32)
    found = [fisher_diagonal(system, w, learn.x[20 * i : 20 * i + 20], seed=i) for i in range(80)]
    value = np.stack([f.value for f in found])
    big = value.mean(0) > value.mean(0).max() / 10
    stated = np.mean([f.standard_error**2 for f in found], 0)
    ratio = value.var(0, ddof=1)[big] / stated[big]
    assert np.sqrt(ratio.mean()) == pytest.approx(1, abs=4 / math.sqrt(160))
    whole = fisher_diagonal(system, w, learn.x)
    assert whole.n == 1600
    monkeypatch.setattr(curvature, "BLOCK", 7 * len(w))
    parts = fisher_diagonal(system, w, learn.x)
    np.testing.assert_allclose(parts.value, whole.value, rtol=1e-5, atol=1e-9)  # the same draws, block by block
    np.testing.assert_allclose(parts.standard_error, whole.standard_error, rtol=1e-4, atol=1e-9)


# --- the observable ------------------------------------------------------------------------------------------------------------
def test_the_observable_reads_each_replica():
    system, w, learn = case("relu", replicas=3, dtype=torch.float32)
    w[1] = math.inf
    found = curvature.LargestCurvature()(system, SimpleNamespace(weights=w, step=0), {})
    assert set(found) == {"lambda_max", "lambda_max_error"}
    assert np.isnan(found["lambda_max"]).tolist() == [False, True, False]
    for r in (0, 2):
        exact = largest(dense(system, w[r], learn.x, learn.y))
        assert found["lambda_max"][r] == pytest.approx(exact, rel=1e-3)
        assert found["lambda_max_error"][r] < 1e-4 * exact
    some = curvature.LargestCurvature(samples=10)(system, SimpleNamespace(weights=w, step=0), {})
    exact = largest(dense(system, w[0], learn.x[:10], learn.y[:10]))
    assert some["lambda_max"][0] == pytest.approx(exact, rel=1e-3)


def test_the_observable_of_the_fisher_matrix_reads_each_replica():
    system, w, learn = case("relu", replicas=3, dtype=torch.float32)
    w[1] = math.inf
    found = curvature.LargestFisher(10)(system, SimpleNamespace(weights=w, step=0), {})["fisher_max"]
    assert np.isnan(found).tolist() == [False, True, False]
    assert found[2] == largest_fisher(system, w[2], learn.x[:10])


def test_the_observable_starts_warm_and_looks_again(monkeypatch):
    made = []

    class Counted(HessianProducts):
        def __init__(self, *arguments, **settings):
            super().__init__(*arguments, **settings)
            made.append(self)

    monkeypatch.setattr(curvature, "HessianProducts", Counted)
    learn = data.digits(100)

    def run(observables):
        return Experiment(
            NetworkOnData(models.mlp((64, 10, 10)), learn), eta=0.05, lam=0.01, batch_size=20, observables=observables
        )

    watched, alone = run({"sharpness": curvature.LargestCurvature(check=6)}), run({})
    frames = list(watched.frames(5, until=65))
    alone.advance(65)
    assert torch.equal(watched.state.weights, alone.state.weights)
    assert all(np.isfinite(f.observables["lambda_max"]).all() for f in frames)
    counts = [h.products for h in made]
    assert len(counts) == 13
    assert np.mean(counts[7:12]) < 0.5 * min(counts[0], counts[6], counts[12])
    again = run({"sharpness": curvature.LargestCurvature(check=6)}).replay(watched.log)
    np.testing.assert_array_equal(again.history[-1].observables["lambda_max"], frames[-1].observables["lambda_max"])


# --- errors ---------------------------------------------------------------------------------------------------------------
@pytest.fixture
def given():
    """A system, weights of two replicas, data, and the products at the first of them."""
    system, w, learn = case("relu", replicas=2, dtype=torch.float32)
    return SimpleNamespace(system=system, w=w, x=learn.x, y=learn.y, hessian=HessianProducts(system, w[0], learn.x, learn.y))


WRONG = {
    "weights of two": (
        lambda g: HessianProducts(g.system, g.w, g.x, g.y),
        r"weights have shape \(2, 385\): expected \[P\] = \(385,\)",
    ),
    "a target too few": (lambda g: dense(g.system, g.w[0], g.x, g.y[1:]), "40 inputs and 39 targets"),
    "no data": (lambda g: HessianProducts(g.system, g.w[0], g.x[:0], g.y[:0]), "0 inputs and 0 targets"),
    "weights of nan": (lambda g: HessianProducts(g.system, g.w[0] * math.nan, g.x, g.y), "the gradient holds nan or inf"),
    "two vectors": (lambda g: g.hessian(g.w), r"v has shape \(2, 385\)"),
    "no tolerance": (lambda g: largest_eigenvalue(g.hessian, tolerance=0), "tolerance=0 must be positive"),
    "no products": (lambda g: largest_eigenvalue(g.hessian, most=0), "most=0 products"),
    "no looks": (lambda g: largest_eigenvalue(g.hessian, looks=0), "looks=0"),
    "two starts": (lambda g: largest_eigenvalue(g.hessian, start=g.w), r"start has shape \(2, 385\)"),
    "a start of inf": (lambda g: largest_eigenvalue(g.hessian, start=g.w[0] * math.inf), "expected finite numbers"),
    "one probe": (lambda g: trace(g.hessian, probes=1), "probes=1 give no standard error"),
    "one sample": (lambda g: fisher_diagonal(g.system, g.w[0], g.x[:1]), "1 samples and draws=1"),
    "Fisher of the squared loss": (
        lambda g: fisher_diagonal(Replicas(models.mlp((64, 5, 10)), loss="squared"), torch.zeros(385), g.x),
        "loss='squared' is no model of labels",
    ),
    "Fisher with BatchNorm": (lambda g: fisher_diagonal(*case("batch")[:2], g.x), "BatchNorm mixes the samples"),
}


@pytest.mark.parametrize(("call", "message"), WRONG.values(), ids=WRONG)
def test_weights_data_and_vectors_must_fit_each_other(given, call, message):
    with pytest.raises(ValueError, match=message):
        call(given)


def test_batch_sharpness_against_the_hessian_of_each_batch():
    net = NetworkOnData(models.mlp((5, 4, 3), activation="tanh"), data.Dataset(torch.randn(30, 5), torch.arange(30) % 3, 3))
    w = net.start(torch.arange(1), 0)[0]
    found = curvature.batch_sharpness(net, w, 6, n=3, seed=1)
    xs, ys = next(iter(net.batches(1, torch.arange(3), 2**31, 1, 6)))
    for value, x, y in zip(found, xs.clone(), ys.clone(), strict=True):
        g = curvature.HessianProducts(net, w.double(), x.double(), y).gradient
        full = curvature.dense(net, w, x.double(), y)
        np.testing.assert_allclose(value, g @ full @ g / (g @ g), rtol=1e-4)
