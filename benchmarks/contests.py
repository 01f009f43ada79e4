"""The contests of `run.py`: {name: device -> {contestant: () -> step}}, the plain loop first; step(n) does n units of work."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

from thermolab.engine.experiment import Experiment
from thermolab.instruments import distances, noise
from thermolab.systems import data, models
from thermolab.systems.isotropic import IsotropicNoise
from thermolab.systems.network import NetworkOnData

ETA, LAM, BATCH = 0.01, 0.001, 32


# --- the isotropic model, a unit of work is one step of all replicas ------------------------------------------------
def isotropic(dim: int, n_replicas: int):
    def contestants(device: str):
        out = {"plain autograd loop": lambda: _plain_isotropic(dim, n_replicas, device), "thermolab": lambda: ours}
        run = Experiment(IsotropicNoise(dim, "elr"), eta=ETA, lam=LAM, replicas=n_replicas, device=device)

        def ours(n):
            run.advance(n)

        return out | ({"JAX scan": lambda: _jax_isotropic(dim, n_replicas)} if device == "cpu" and _jax() else {})

    return contestants


def _plain_isotropic(dim: int, n_replicas: int, device: str):
    """What one writes first: autograd and randn, batched over the replicas."""
    mu = torch.zeros(dim, device=device)
    mu[0] = 1
    w = torch.randn(n_replicas, dim, device=device, requires_grad=True)

    def step(n):
        for _ in range(n):
            loss = (1 + w @ mu / w.norm(dim=1)).sum()
            (gradient,) = torch.autograd.grad(loss, w)
            with torch.no_grad():
                r = w.norm(dim=1, keepdim=True)
                direction = w / r
                xi = torch.randn_like(w)
                g = gradient + (xi - (xi * direction).sum(1, keepdim=True) * direction) / r
                w.sub_(ETA * r**2 * (g + LAM * w))

    return step


def _jax_isotropic(dim: int, n_replicas: int):
    import jax
    import jax.numpy as jnp

    def body(carry, _):
        w, key = carry
        key, sub = jax.random.split(key)
        r = jnp.linalg.norm(w, axis=1, keepdims=True)
        direction = w / r
        xi = jax.random.normal(sub, w.shape) + jnp.zeros(dim).at[0].set(1.0)
        g = (xi - (xi * direction).sum(1, keepdims=True) * direction) / r
        return (w - ETA * r**2 * (g + LAM * w), key), None

    run = jax.jit(lambda carry: jax.lax.scan(body, carry, length=100)[0])
    carry = [(jax.random.normal(jax.random.key(0), (n_replicas, dim)), jax.random.key(1))]

    def step(n):
        for _ in range(-(-n // 100)):
            carry[0] = run(carry[0])
        jax.block_until_ready(carry[0])

    return _in_hundreds(step)


def _in_hundreds(step):
    """A scan of 100 steps counts as 100 units: round n up and do not claim more than was asked."""

    def hundred(n):
        step(max(100, n))

    return hundred


# --- the MLP 64-64-10, a unit of work is one step of one replica ----------------------------------------------------
def mlp(n_replicas: int):
    def contestants(device: str):
        learn = data.digits(1024).to(device)
        system = NetworkOnData(models.mlp((64, 64, 10)), learn)
        run = Experiment(system, eta=ETA, lam=LAM, batch_size=BATCH, replicas=n_replicas, device=device)
        ours = lambda n: run.advance(-(-n // n_replicas))  # noqa: E731
        out = {"plain nn.Module loop": lambda: _plain_mlp(learn, device), "thermolab": lambda: ours}
        return out | ({"JAX vmap scan": lambda: _jax_mlp(learn, n_replicas)} if device == "cpu" and _jax() else {})

    return contestants


def _plain_mlp(learn: data.Dataset, device: str):
    """One nn.Module after the other: forward, backward, optim.SGD."""
    module = copy.deepcopy(models.mlp((64, 64, 10))).to(device)
    optimiser = torch.optim.SGD(module.parameters(), lr=ETA, weight_decay=LAM)

    def step(n):
        for _ in range(n):
            pick = torch.randint(len(learn), (BATCH,), device=device)
            optimiser.zero_grad()
            nn.functional.cross_entropy(module(learn.x[pick]), learn.y[pick]).backward()
            optimiser.step()

    return step


def _jax_mlp(learn: data.Dataset, n_replicas: int):
    import jax
    import jax.numpy as jnp

    x, y = jnp.asarray(learn.x.numpy()), jnp.asarray(learn.y.numpy().astype(np.int32))

    def loss(p, pick):
        h = jax.nn.relu(x[pick] @ p[0] + p[1])
        logits = h @ p[2] + p[3]
        return (jax.nn.logsumexp(logits, -1) - jnp.take_along_axis(logits, y[pick][:, None], 1)[:, 0]).mean()

    def body(carry, _):
        p, key = carry
        key, sub = jax.random.split(key)
        pick = jax.random.randint(sub, (n_replicas, BATCH), 0, len(learn))
        g = jax.vmap(jax.grad(loss))(p, pick)
        return (jax.tree.map(lambda w, d: w - ETA * (d + LAM * w), p, g), key), None

    shapes = [(64, 64), (64,), (64, 10), (10,)]
    p = [0.1 * jax.random.normal(jax.random.key(i), (n_replicas, *s)) for i, s in enumerate(shapes)]
    run = jax.jit(lambda carry: jax.lax.scan(body, carry, length=20)[0])
    carry = [(p, jax.random.key(9))]

    def step(n):
        for _ in range(-(-n // (20 * n_replicas))):
            carry[0] = run(carry[0])
        jax.block_until_ready(carry[0])

    return step


# --- instruments, a unit of work is one measurement -------------------------------------------------------------------
def neighbours(dim: int):
    def contestants(device: str):
        path = torch.randn(1000, dim, dtype=torch.float64) * 1e-3 + 1
        ours = lambda n: [distances.nearest_distances(path) for _ in range(n)]  # noqa: E731
        return {"torch.cdist float64": lambda: lambda n: [torch.cdist(path, path).topk(2, largest=False) for _ in range(n)],
                "thermolab": lambda: ours}  # fmt: skip

    return contestants


def signal_to_noise(device: str):
    """SNR of the MLP: exact from per-sample gradients, against sampling 1000 minibatches in a loop."""
    learn = data.digits(1024).to(device)
    system = NetworkOnData(models.mlp((64, 64, 10)), learn)
    weights = system.start(torch.arange(1), 0).to(device)
    everyone = weights.expand(len(learn), -1).contiguous()

    def exact(n):
        for _ in range(n):
            g = torch.empty_like(everyone)
            system.replicas.loss_and_gradient(everyone, learn.x[:, None], learn.y[:, None], g)
            noise.gradient_noise(g, kind="per-sample", batch_size=BATCH, spectrum=False)

    def sampled(n):
        module, found = models.mlp((64, 64, 10)).to(device), []
        for _ in range(1000 * n):
            pick = torch.randint(len(learn), (BATCH,), device=device)
            loss = nn.functional.cross_entropy(module(learn.x[pick]), learn.y[pick])
            found.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(module.parameters()))]))
            if len(found) == 1000:
                torch.stack(found).var(0).sum()
                found.clear()

    return {"1000 minibatches": lambda: sampled, "thermolab, exact": lambda: exact}


def _jax() -> bool:
    try:
        import jax  # noqa: F401
    except ImportError:
        return False
    return True


CONTESTS = {
    "isotropic D=3, R=289": isotropic(3, 289),
    "isotropic D=10, R=289": isotropic(10, 289),
    **{f"MLP 64-64-10, B=32, R={r}": mlp(r) for r in (1, 16, 64, 289)},
    "neighbours N=1000, d=576": neighbours(576),
    "neighbours N=1000, d=5000": neighbours(5000),
    "SNR of MLP 64-64-10": signal_to_noise,
}
