"""Functions that students write: right ones, however written, are accepted; usual mistakes get their hint; no tracebacks."""

import importlib
import itertools
import math

import numpy as np
import pytest
import torch
from scipy import linalg, special

from thermolab import claims
from thermolab.phenomena.common.tasks import Task

MODULES = {name: importlib.import_module(f"thermolab.phenomena.{name}.exercises") for name in claims.phenomena().values()}
TASKS = {
    f"{name}.{task.exact.__name__}": task
    for name, module in MODULES.items()
    for task in vars(module).values()
    if isinstance(task, Task)
}


def loop_growth(w, g, eta):
    return sum((a - eta * b) ** 2 - a**2 for a, b in zip(w, g, strict=True))


def loop_cusum(x, mean, sigma, kappa):
    out = np.zeros(len(x))
    for t, value in enumerate(x):
        out[t] = max(0, (out[t - 1] if t else 0) + (value - mean) / sigma - kappa)
    return out


def loop_temperatures(energy, entropy):
    states = sorted(zip(entropy, energy, strict=True))
    return [(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(states)]


def tangent_step(w, g, eta):
    moved = w - eta * (np.eye(len(w)) - np.outer(w, w)) @ g
    return list(moved / math.sqrt(moved @ moved))


def all_pairs_entropy(x):
    n, d = x.shape
    distances = np.linalg.norm(x[:, None] - x[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    ball = math.pi ** (d / 2) / math.gamma(d / 2 + 1)
    return special.digamma(n) + np.euler_gamma + math.log(ball) + d * np.log(distances.min(1)).mean()


def thresholded(V, tau):
    u, s, vh = torch.linalg.svd(torch.as_tensor(V), full_matrices=False)
    return u @ torch.diag(torch.relu(s - tau)) @ vh


def centred_cka(x, y):
    centre = np.eye(len(x)) - 1 / len(x)
    k, l = centre @ x @ x.T @ centre, centre @ y @ y.T @ centre  # noqa: E741
    return np.trace(k @ l) / (np.linalg.norm(k) * np.linalg.norm(l))


def riccati(V, noise, inputs):
    """G is the positive solution of G Σ_x G = VᵀΣ_εV, here by scipy's root of a product."""
    return np.real(linalg.inv(inputs) @ linalg.sqrtm(inputs @ V.T @ noise @ V))


def dense_sharpness(product, v):
    return np.linalg.eigvalsh(np.stack([product(e) for e in np.eye(len(v))]))[-1]


RIGHT = {
    "irreversibility.modified_gradient": lambda g, H, eta: [
        g[i] + eta / 2 * sum(H[i, j] * g[j] for j in range(len(g))) for i in range(len(g))
    ],
    "irreversibility.growth_per_step": loop_growth,
    "cooling.cusum": loop_cusum,
    "cooling.logarithmic": lambda eta0, alpha, k: [eta0 / (1 + alpha * math.log(1 + i)) for i in k],
    "temperature_collapse.noise_trace": lambda g: np.trace(np.atleast_2d(np.cov(g.T))),
    "temperature_collapse.temperatures": loop_temperatures,
    "ideal_gas.projected_step": tangent_step,
    "ideal_gas.nearest_entropy": all_pairs_entropy,
    "neuron_balance.log_ratio": lambda w, u: np.log((w * w).sum()) - np.log((u * u).sum()),
    "neuron_balance.soft_threshold": thresholded,
    "platonic_alignment.cka": centred_cka,
    "platonic_alignment.common_kernel": riccati,
    "progressive_sharpening.sharpness": dense_sharpness,
    "progressive_sharpening.batch_sharpness": lambda gs, hs: (
        sum(g @ h @ g / (g @ g) for g, h in zip(gs, hs, strict=True)) / len(gs)
    ),
    "your_network.stationarity_ratio": lambda w, slope, g, eta, lam: (
        sum(a @ (b + lam * a) for a, b in zip(w, slope, strict=True))
        / sum(eta / 2 * (c + lam * a) @ (c + lam * a) for a, c in zip(w, g, strict=True))
    ),
    "your_network.temperature": lambda g, eta: (
        eta / 2 * np.trace(np.atleast_2d(np.cov(g.T))) / sum(bool(np.any(column)) for column in g.T)
    ),
}


def test_each_notebook_has_two_functions_to_write():
    assert RIGHT.keys() == TASKS.keys()
    assert all(sum(name.startswith(f"{phenomenon}.") for name in TASKS) >= 2 for phenomenon in MODULES)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", RIGHT)
def test_a_right_function_is_accepted_however_it_is_written(name, seed):
    feedback = TASKS[name].check(RIGHT[name], seed=seed)
    assert feedback, feedback
    assert feedback.message == TASKS[name].praise


@pytest.mark.parametrize(("name", "hint"), [(name, hint) for name, task in TASKS.items() for hint in task.mistakes])
def test_a_usual_mistake_gets_its_own_hint(name, hint):
    for seed in (0, 1):
        feedback = TASKS[name].check(TASKS[name].mistakes[hint], seed=seed)
        assert (bool(feedback), feedback.message) == (False, hint)


@pytest.mark.parametrize("name", TASKS)
def test_six_usual_mistakes_are_known(name):
    assert len(TASKS[name].mistakes) >= 6


class UnsaidError(Exception):
    def __str__(self):
        raise ValueError


def unsaid(*arguments):
    raise UnsaidError


def spoilt(*arguments):
    raise ValueError("first line\nsecond line")


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "not written yet: def "),
        ("g + eta", "write a function"),
        (np.ones(3), "write a function"),
        (lambda: 1, "it stops with TypeError"),
        (spoilt, "it stops with ValueError: first line"),
        (unsaid, "it stops with UnsaidError: "),
        (lambda *a: [[1.0], [1.0, 2.0]], "no numbers but list"),
        (lambda *a: [torch.ones(2, requires_grad=True), 1], "no numbers but list"),
        (lambda *a: torch.ones(2, 2, 2, dtype=torch.bfloat16, requires_grad=True), "the shape is (2, 2, 2), wanted"),
        (lambda *a: torch.ones(2, device="meta"), "no numbers but Tensor"),
        (lambda *a: None, "nothing is returned yet: def "),
        (lambda *a: "text", "no numbers but str"),
        (lambda *a: {}, "no numbers but dict"),
        (lambda *a: math.nan, ""),
        (lambda *a: np.zeros((2, 2, 2)), "the shape is (2, 2, 2), wanted"),
        (lambda *a: 1e9, ""),
        (lambda *a: np.array([1j]), "no numbers but ndarray"),
        (lambda *a: 1j, "no numbers but complex"),
    ],
)
def test_what_is_no_answer_gets_one_line(name, answer, said):
    feedback = TASKS[name].check(answer)
    assert not feedback
    assert said in feedback.message
    assert "\n" not in feedback.message


def test_the_first_case_that_differs_is_named_with_both_numbers():
    def careless(x, mean, sigma, kappa):
        return loop_cusum(x, mean, 1.0 if mean else sigma, kappa) + (0.25 if mean else 0)

    message = TASKS["cooling.cusum"].check(careless).message
    assert message.startswith("another mean and σ: at [")
    assert " instead of " in message


def test_distances_by_squares_lose_the_cloud_that_is_far_from_zero():
    """|x|² + |y|² − 2x·y of points 10⁷ away holds no digit of their distance."""

    def by_products(x):
        n, d = x.shape
        squares = (x**2).sum(1)
        square = squares[:, None] + squares - 2 * x @ x.T + np.diag(np.full(n, np.inf))
        rho = np.sqrt(np.maximum(square, 1e-300)).min(1)
        return (
            special.digamma(n) - special.digamma(1) + d / 2 * np.log(np.pi) - special.gammaln(d / 2 + 1) + d * np.log(rho).mean()
        )

    message = TASKS["ideal_gas.nearest_entropy"].check(by_products).message
    assert message.startswith("far from 0: subtract the mean before you square")


def test_a_function_that_changes_its_arguments_changes_only_its_own():
    def greedy(g, H, eta):
        g += eta / 2 * H @ g
        return g

    assert TASKS["irreversibility.modified_gradient"].check(greedy)
