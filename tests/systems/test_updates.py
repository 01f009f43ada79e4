"""Optimisers: each against torch.optim or a loop by hand in float64, then what is exact, then memory in states and logs."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest
import torch
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from thermolab.engine.experiment import DivergenceError, Experiment
from thermolab.engine.scenario import BATCH_SIZE, ETA, LAM, MOMENTUM, Observable, Scenario
from thermolab.systems import data, models, updates
from thermolab.systems.data import Dataset
from thermolab.systems.network import NetworkOnData

BATCH, SEED, STEPS = 8, 3, 12
EXACT = {"rtol": 1e-9, "atol": 1e-11}  # two orders of float64 operations, a dozen steps long
KNOBS = {
    "sgd": {},
    "momentum": {"momentum": [0.5, 0.9]},
    "adam": {"beta1": [0.8, 0.9], "beta2": [0.99, 0.9], "eps": [1e-5, 1e-6]},
    "adagrad": {"eps": [1e-5, 1e-6]},
    "sam": {"rho": [0.1, 0.3]},
    "eef": {"lam_entropy": [0.3, -0.2]},
}
OTHERS = [name for name in KNOBS if name != "sgd"]
PROTOCOLS = updates.PROTOCOLS


def experiment(optimiser="sgd", protocol="lr", *, invariant=True, double=True, radius=1.5, scale=1.0, backend="batched", **knobs):
    """Two replicas of a small net at a radius, in float64 unless told; the optimiser's knobs differ between them."""
    dtype = torch.float64 if double else torch.float32
    module = (models.scale_invariant_mlp((64, 6)) if invariant else models.mlp((64, 5, 10), activation="tanh")).to(dtype)
    digits = data.digits(60)
    digits = Dataset(digits.x.to(dtype), digits.y, digits.n_classes)
    system = NetworkOnData(module, digits, protocol, backend=backend, optimiser=optimiser)
    w = system.start(torch.arange(2), SEED).to(dtype)
    w = scale * radius * w / torch.linalg.vector_norm(w, dim=1, keepdim=True)
    settings = {"eta": [0.002, 0.005], "lam": [0.1, 0.2], "batch_size": BATCH, "seed": SEED, **KNOBS[optimiser]} | knobs
    return Experiment(system, weights=w, **settings)


def loss_at(system, w, x, y):
    """Loss of one replica at flat weights [P], by autograd."""
    parameters = {k: v[0] for k, v in system.replicas.views(w[None]).items()}
    return cross_entropy(functional_call(system.replicas.module, parameters, (x,)), y)


def gradient_at(system, w, x, y):
    w = w.detach().clone().requires_grad_()
    return torch.autograd.grad(loss_at(system, w, x, y), w)[0]


def batches(run, steps):
    """The batches of a run: for each step those of each replica."""
    found = run.system.batches(SEED, run.streams, 0, steps, BATCH)
    return [[(x[r].clone(), y[r].clone()) for r in range(run.n_replicas)] for x, y in found]


def equal(a, b):
    """Two runs are where they are to the bit, with what they remember."""
    same = a.state.step == b.state.step and torch.equal(a.state.weights, b.state.weights)
    names = set(a.state.memory) | set(b.state.memory)
    return same and all(torch.equal(a.state.memory[name], b.state.memory[name]) for name in names)


# --- oracles --------------------------------------------------------------------------------------------------------
TORCH = {
    "sgd": lambda p, i: torch.optim.SGD(p, lr=[0.02, 0.05][i], weight_decay=[0.1, 0.2][i]),
    "momentum": lambda p, i: torch.optim.SGD(p, lr=[0.02, 0.05][i], momentum=[0.5, 0.9][i]),
    "adam": lambda p, i: torch.optim.AdamW(
        p, lr=[0.02, 0.05][i], betas=([0.8, 0.9][i], [0.99, 0.9][i]), eps=[1e-5, 1e-6][i], weight_decay=[0.1, 0.2][i]
    ),
    "adagrad": lambda p, i: torch.optim.Adagrad(p, lr=[0.02, 0.05][i], eps=[1e-5, 1e-6][i]),
}


@pytest.mark.parametrize("name", TORCH)
def test_against_torch_optim(name):
    # the buffers of torch.optim.SGD and Adagrad take in the weight decay, ours do not
    run = experiment(name, invariant=False, eta=[0.02, 0.05], **({"lam": 0.0} if name in ("momentum", "adagrad") else {}))
    for i in range(2):
        w = run.start.weights[i].clone().requires_grad_()
        theirs = TORCH[name]([w], i)
        for batch in batches(run, STEPS):
            theirs.zero_grad()
            loss_at(run.system, w, *batch[i]).backward()
            theirs.step()
        if i == 0:
            run.advance(STEPS)
        torch.testing.assert_close(run.state.weights[i], w.detach(), **EXACT)
        assert (w - run.start.weights[i]).abs().max() > 1e-2  # it has moved


def by_hand(run, name, protocol, i):
    """Weights and the mean pressure of one replica, step by step as the docstring of `dynamics` has it."""
    knobs = {k: float(v[i]) for k, v in run.knobs.items() if isinstance(v, torch.Tensor)}
    w, eta, lam = run.start.weights[i].clone(), knobs["eta"], knobs["lam"]
    v, m, s, pressures, radius = torch.zeros_like(w), 0.0, 0.0, [], float(w.norm())
    for t, batch in enumerate(batches(run, STEPS), 1):
        g = u = gradient_at(run.system, w, *batch[i])
        if name == "momentum":
            u = v = knobs["momentum"] * v + g
        if name == "adam":
            b1, b2 = knobs["beta1"], knobs["beta2"]
            m, s = b1 * m + (1 - b1) * g, b2 * s + (1 - b2) * g**2
            u = m / (1 - b1**t) / ((s / (1 - b2**t)).sqrt() + knobs["eps"])
        if name == "adagrad":
            s = s + g**2
            u = g / (s.sqrt() + knobs["eps"])
        if name == "sam":
            u = gradient_at(run.system, w + knobs["rho"] * g / g.norm(), *batch[i])
        if name == "eef":
            u = g - knobs["lam_entropy"] * w
        r = float(w.norm())
        step = eta * {"lr": 1, "elr": r, "sphere": r}[protocol] * (r if protocol != "lr" and not name.startswith("ada") else 1)
        if protocol != "sphere":
            w = w - step * (u + lam * w)
            pressures.append(lam)
            continue
        free = w - step * u
        pressures.append((float(free.norm()) - r) / (step * r))
        w = radius * free / free.norm()
        if name == "momentum":
            inwards = -float(v @ w) / radius**2
            pressures[-1] += inwards * knobs["momentum"] / (1 - knobs["momentum"])
            v = v - (v @ w) * w / radius**2
    return w, np.mean(pressures)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", KNOBS)
def test_against_a_loop_by_hand(name, protocol):
    run = experiment(name, protocol)
    run.advance(STEPS)
    pressure = run.frame().observables["p"]
    for i in range(2):
        w, p = by_hand(run, name, protocol, i)
        torch.testing.assert_close(run.state.weights[i], w, **EXACT)
        assert pressure[i] == pytest.approx(p, rel=1e-8)
        assert (w - run.start.weights[i]).abs().max() > 1e-3


@pytest.mark.parametrize("name", KNOBS)
def test_both_backends_in_float32(name):
    """U and g2 are read at w with the gradient of w, whatever point the step's gradient is taken at.

    p is 0 but for what u has along w, in float32 to some 1e-7 |u| |w|, which is 1e-5 where u is a sign of each of 400 weights.
    """
    runs = [experiment(name, "sphere", double=False, backend=backend) for backend in ("batched", "autograd")]
    frames = [next(run.frames(STEPS, STEPS)) for run in runs]
    for observable in ("U", "r2", "p", "g2"):
        np.testing.assert_allclose(frames[0].observables[observable], frames[1].observables[observable], rtol=2e-3, atol=3e-5)
    (batch,) = batches(runs[0], 1)
    fresh = experiment(name, "sphere", double=False)
    fresh.advance(1)
    found = fresh.frame().observables
    for i in range(2):
        w = fresh.start.weights[i]
        assert found["U"][i] == pytest.approx(float(loss_at(fresh.system, w, *batch[i])), rel=1e-5)
        assert found["g2"][i] == pytest.approx(float((gradient_at(fresh.system, w, *batch[i]).norm() * w.norm()) ** 2), rel=1e-4)


# --- what is exact --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("name", "knob"), [("momentum", "momentum"), ("sam", "rho"), ("eef", "lam_entropy")])
def test_at_zero_it_is_plain_sgd_to_the_bit(name, knob, protocol):
    run, plain = experiment(name, protocol, double=False, **{knob: 0.0}), experiment("sgd", protocol, double=False)
    assert plain.system.choose_backend(plain.state.weights) == "batched"
    for r in (run, plain):
        r.advance(STEPS)
    assert torch.equal(run.state.weights, plain.state.weights)
    np.testing.assert_allclose(run.frame().observables["p"], plain.frame().observables["p"], rtol=1e-3)


@pytest.mark.parametrize("protocol", ["lr", "elr"])
def test_the_entropy_term_is_weight_decay_of_the_other_sign(protocol):
    pushed = experiment("eef", protocol, lam=0.0, lam_entropy=[-0.1, -0.2])
    decayed = experiment("sgd", protocol, lam=[0.1, 0.2])
    for r in (pushed, decayed):
        r.advance(STEPS)
    torch.testing.assert_close(pushed.state.weights, decayed.state.weights, **EXACT)


def test_on_the_sphere_the_entropy_term_is_pressure():
    """To first order in η λ_S it only pushes outwards: p rises by λ_S."""
    frames = [next(experiment("eef", "sphere", lam_entropy=v, eta=1e-4).frames(STEPS, STEPS)) for v in ([0.3, -0.2], 0.0)]
    np.testing.assert_allclose(frames[0].observables["p"] - frames[1].observables["p"], [0.3, -0.2], rtol=1e-3)


@pytest.mark.parametrize("name", KNOBS)
def test_on_the_sphere_the_radius_stays_and_the_velocity_is_tangent(name):
    run = experiment(name, "sphere")
    for _ in range(STEPS):
        run.advance(1)
        w = run.state.weights
        torch.testing.assert_close(w.norm(dim=1), run.state.radius, rtol=1e-14, atol=0)
        if name == "momentum":
            v = run.state.memory["velocity"]
            assert ((v * w).sum(1).abs() < 1e-14 * v.norm(dim=1) * w.norm(dim=1)).all()
            assert (v.norm(dim=1) > 0.01).all()


# the powers of the length of w that knobs go with
LENGTHS = {"sgd": {}, "momentum": {}, "adam": {"eps": -1}, "adagrad": {"eps": -1}, "sam": {"rho": 1}, "eef": {"lam_entropy": -2}}


@pytest.mark.parametrize("protocol", ["elr", "sphere"])
@pytest.mark.parametrize("name", KNOBS)
def test_three_times_the_weights_take_the_same_way(name, protocol):
    """With the step in units of r the direction of the weights of a scale-invariant net knows nothing of their length."""
    runs = []
    for scale in (1.0, 3.0):
        scaled = {knob: [v * scale**power for v in KNOBS[name][knob]] for knob, power in LENGTHS[name].items()}
        runs.append(experiment(name, protocol, lam=0.0, scale=scale, **scaled))
        runs[-1].advance(STEPS)
    torch.testing.assert_close(runs[1].state.weights, 3 * runs[0].state.weights, **EXACT)


def test_the_pressure_on_the_sphere_is_the_decay_that_holds_the_radius():
    """Under "elr" r² settles where p = λ, and p goes as 1/r². Without the wall's hold on the velocity p would be 9 times less."""
    eta, lam, momentum, n = 0.002, 0.05, 0.8, 8

    def observables(protocol, radius):
        system = NetworkOnData(models.scale_invariant_mlp((64, 6)), data.digits(100), protocol, optimiser="momentum")
        w = system.start(torch.arange(n), SEED)
        w = radius * w / w.norm(dim=1, keepdim=True)
        run = Experiment(system, eta=eta, lam=lam, momentum=momentum, batch_size=BATCH, weights=w, seed=SEED)
        _, frame = run.frames(400, until=800)  # the first half to relax, in 1/(4 η p) = 120 steps
        return frame.observables

    p = observables("sphere", 1.0)["p"]
    r2 = observables("elr", (p.mean() / lam) ** 0.5)["r2"] * lam
    error = np.hypot(p.std(ddof=1), r2.std(ddof=1)) / n**0.5
    neglected = 2 * eta * p.mean() / (1 - momentum)  # by how much r² changes while the velocity lasts
    assert 5 * error < 0.3 * p.mean()
    assert abs(r2.mean() / p.mean() - 1) < 5 * error / p.mean() + 2 * neglected


# --- memory in states and logs --------------------------------------------------------------------------------
def test_memory_never_changes_from_outside():
    run = experiment("momentum")
    assert torch.equal(run.state.memory["velocity"], torch.zeros_like(run.state.weights))
    states, copies = [], []
    for _ in range(3):
        states.append(run.state)
        copies.append(run.state.memory["velocity"].clone())
        run.advance(2)
    assert not torch.equal(copies[1], copies[2])
    assert all(torch.equal(s.memory["velocity"], c) for s, c in zip(states, copies, strict=True))
    with pytest.raises(TypeError):
        run.state.memory["velocity"] = copies[0]


def test_memory_counts_in_the_hash_and_plain_sgd_has_none():
    run, plain = experiment("adam", double=False), experiment("sgd", double=False)
    for r in (run, plain):
        r.advance(3)
    assert dict(plain.state.memory) == {}
    assert plain.log["weights"] == hashlib.sha256(plain.state.weights.numpy().tobytes()).hexdigest()
    before = run.log["weights"]
    run.state = dataclasses.replace(run.state, memory={**run.state.memory, "s": run.state.memory["s"] + 1e-3})
    assert run.log["weights"] != before
    # a log from before there were optimisers names none
    assert set(plain.log["settings"]) == {"module", "n_data", "protocol", "loss"}
    assert set(plain.events[0][1]) == {"eta", "lam", "batch_size", "protocol"}
    assert run.log["settings"]["optimiser"] == "adam"
    with pytest.raises(ValueError, match="the log is of another system"):
        run.replay(plain.log)


def test_plain_sgd_alone_is_compiled():
    backends = {name: experiment(name, double=False, backend="auto") for name in KNOBS}
    found = {name: run.system.choose_backend(run.state.weights) for name, run in backends.items()}
    assert found == {"sgd": "compiled", **dict.fromkeys(OTHERS, "batched")}


# --- knobs and errors -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "knobs", "message"),
    [
        ("momentum", {"momentum": 1.0}, r"^momentum=1.0 must be finite, at least 0 and below 1$"),
        ("momentum", {"momentum": [0.5, -0.1]}, r"^momentum=\[ 0.5 -0.1\] must be finite, at least 0 and below 1$"),
        ("momentum", {"momentum": float("nan")}, "momentum=nan must be finite"),
        ("adam", {"beta2": 1.0}, "beta2=1.0 must be finite, at least 0 and below 1"),
        ("adam", {"eps": 0.0}, "eps=0.0 must be finite, at least 1e-30 and below inf"),
        ("sam", {"rho": -0.1}, "rho=-0.1 must be finite and not negative"),
        ("eef", {"lam_entropy": float("-inf")}, "lam_entropy=-inf must be finite"),
        ("eef", {"lam": -0.1}, "lam=-0.1 must be finite and not negative"),
        ("sgd", {"momentum": 0.5}, "momentum is no knob of this system; allowed: batch_size, eta, lam, protocol"),
    ],
)
def test_a_refusal_says_what_a_knob_may_be(name, knobs, message):
    run = experiment(name)
    before = json.dumps(run.events)
    with pytest.raises(ValueError, match=message):
        run.set(**knobs)
    assert json.dumps(run.events) == before


def test_an_unknown_optimiser():
    with pytest.raises(ValueError, match=r"^optimiser='lion' is unknown; allowed: sgd, momentum, adam, adagrad, sam, eef$"):
        NetworkOnData(models.mlp((64, 10)), data.digits(20), optimiser="lion")


@pytest.mark.parametrize(
    ("name", "knobs", "remedy"),
    [
        ("eef", {"lam_entropy": 50.0}, "a smaller lam_entropy"),
        ("momentum", {"momentum": 0.99, "eta": 20.0}, "a smaller momentum"),
        ("sam", {"rho": 1.0, "eta": 500.0}, "a smaller rho"),
    ],
)
def test_divergence_is_one_line_with_a_remedy(name, knobs, remedy):
    run = experiment(name, "lr" if name == "eef" else "elr", **{"eta": 0.05, "lam": 0.5} | knobs)
    with pytest.raises(DivergenceError, match=rf"^eta=[^\n]* at step \d+ in \d of 2 replicas; try eta=[\d.e+]+ or {remedy}$"):
        list(run.frames(10, until=2000))


# --- a scenario -----------------------------------------------------------------------------------------------------
def build(*, seed, device, eta, lam, batch_size, momentum):
    system = NetworkOnData(models.scale_invariant_mlp((64, 6)), data.digits(40), "sphere", optimiser="momentum")
    return Experiment(system, eta=eta, lam=lam, batch_size=batch_size, momentum=momentum, replicas=2, seed=seed, device=device)


def test_momentum_is_a_knob_of_a_scenario():
    ball = Scenario(
        "heavy ball",
        build,
        {"eta": ETA, "lam": LAM, "batch_size": BATCH_SIZE, "momentum": MOMENTUM},
        {"eta": 0.05, "lam": 0.0, "batch_size": 8, "momentum": 0.9},
        {"U": Observable("energy U")},
    )
    with pytest.raises(ValueError, match=r"^momentum=1.0 is not allowed; allowed: a number from 0 to 0.99$"):
        ball.start(momentum=1.0)
    run = ball.start(seed=5, momentum=0.5)
    list(run.follow([[15, {"momentum": 0.95}]], 10, 40))
    log = json.loads(json.dumps(ball.log(run, {"momentum": 0.5})))
    again, frames = ball.replay(log)
    list(frames)
    assert equal(again, run)
    assert ball.log(again, {"momentum": 0.5}) == log
