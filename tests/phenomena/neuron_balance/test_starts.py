"""200 seeds of every start and teacher of the notebook: nothing is trained."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from thermolab.phenomena.common import linear_theory
from thermolab.phenomena.neuron_balance import architectures as arch
from thermolab.phenomena.neuron_balance import deep, learners, linear, networks, presets
from thermolab.systems import teacher_student

SEEDS, INPUTS = 200, 200
PLAN = presets.datasets(
    SimpleNamespace(preset="lab", seed=0, n_seeds=5, device="cpu", eta=0.02, batch_size=8, lam=0.0, noise_std=1.0)
)


def settings(recipe) -> dict:
    """All settings of a recipe of the plan."""
    return recipe.func.checked(**recipe.keywords)


@pytest.fixture
def few_answers(monkeypatch):
    """Answers take most of the time; it is weights that are looked at here."""
    all_of_them = teacher_student.samples
    monkeypatch.setattr(
        teacher_student, "samples", lambda *arguments, n_data, seed: all_of_them(*arguments, n_data=INPUTS, seed=seed)
    )


@pytest.mark.parametrize("name", ["relu", "decayed", "clock"])
def test_two_layers_off_balance(name, few_answers):
    """Finite, no neuron asleep, and η λ_max < 2 at the largest η: of the linear network, which bounds that of ReLU."""
    given = settings(PLAN[name])
    sizes = tuple(given[k] for k in ("d_x", "width", "d_y"))
    largest = max(eta for eta, _ in given["arms"])
    start = {k: given[k] for k in ("activation", "sigma", "strength", "spread", "copies")}
    for seed in range(SEEDS):
        net, weights = networks.off_balance(sizes, **start, seed=seed)
        assert torch.isfinite(weights).all()
        assert torch.isfinite(net.data.y).all(), seed
        first, second = (m.numpy() for m in teacher_student.weight_matrices(net, weights))
        tops = [linear_theory.hessian_top_and_trace(u, w)[0] for u, w in zip(first, second, strict=True)]
        assert largest * max(tops) < 2, seed
        x = np.c_[net.data.x, np.ones(INPUTS)][:, : first.shape[-1]]
        assert ((x @ first.mT > 0).mean(1) > 0.2).all(), seed


def test_linear_networks(few_answers):
    """At all profiles of the noise they are the same."""
    given = settings(PLAN["linear"]["graded"])
    sigma, d = np.array(given["profile"]), len(given["profile"])
    start = {k: given[k] for k in ("width", "tilt", "copies")}
    for seed in range(SEEDS):
        net, weights = linear.started(np.eye(d), sigma, np.ones(d), **start, seed=seed)
        assert torch.isfinite(weights).all()
        for first, second in zip(*teacher_student.weight_matrices(net, weights), strict=True):
            assert given["eta"] * linear_theory.hessian_top_and_trace(first, second)[0] < 2, seed


def test_deep_linear_networks(few_answers):
    given = settings(PLAN["matrix"])
    for seed in range(SEEDS):
        net, weights = deep.started(*(given[k] for k in ("d", "width", "depth", "sigma")), seed)
        assert torch.isfinite(weights).all()
        assert net.replicas.outputs(weights, net.data.x).abs().max() < 20, seed


@pytest.mark.parametrize("arm", learners.ARMS)
def test_every_seed_has_a_teacher_and_a_start(arm):
    """Weights and answers are finite, and no answer is so far out that one step of it could throw a network."""
    module = learners.network(arm, "teacher")
    for seed in range(SEEDS):
        answers = learners.taught(module, 4 if arm == "mlp" else 64, 100, 1.5, seed).y
        assert torch.isfinite(answers).all(), seed
        assert answers.abs().max() < 20, seed
    for task in arch.TASKS[arm]:
        net = learners.lessons(arm, task, arch.NOISE[task], 100, [0], 1)
        weights = net.start(torch.arange(SEEDS), 0)
        outputs = net.replicas.outputs(weights, net.data.x[:50])
        assert torch.isfinite(outputs).all()
        assert outputs.abs().max() < 100
