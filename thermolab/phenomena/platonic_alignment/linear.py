"""Two embedded deep linear networks, A and B, trained on the same data: do their hidden layers come to share one kernel?

The training is that of `networks`. What needs no training, or no noise, stands beside it: descent on the loss, an invertible
matrix between two layers, and a setting without views, in which alignment proves nothing. Source: document 4, part 3.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
import xarray as xr

from thermolab.engine.recipe import Jobs, Recipe, seeds
from thermolab.instruments import alignment
from thermolab.phenomena.common import linear_theory, validate
from thermolab.phenomena.platonic_alignment import descent, networks, theory
from thermolab.systems import embedded_linear

PROBES = 64  # inputs; they have the exact moments, so that CKA is that of infinitely many
SAMPLES, SHUFFLES = 400, 50  # independent inputs for the debiased CKA, and shuffled pairs for the null
SPREAD = 0.7  # decades of the inserted R, to both sides
SMALL, LEARNT, COPIES = 0.2, 1e-4, 4  # of the trap: start, of the usual one, excess loss at the end, pairs of networks


@Recipe
def linear(
    depth_a: int = 3,
    depth_b: int = 4,
    width_a: int = 8,
    width_b: int = 12,
    *,
    eta: float | None = None,
    factors=(1.0, 0.5, 0.15, 0.05),
    lams=(0.01, 0.1),
    batch_size: int = 16,
    steps: int | None = None,
    frames: int = 24,
    spectrum=embedded_linear.SPECTRUM,
    noise=embedded_linear.NOISE,
    inputs=None,
    stretch=embedded_linear.STRETCH,
    start: float = networks.START,
    seed: int = 0,
    n_seeds: int = 5,
    device: str = "cpu",
):
    """Alignment of all layers of A and B during training, for several η, for weight decay, and for what does without noise.

    depth, width: trainable matrices, and neurons of each hidden layer, at least as many as the spectrum has values that are not
    0; eta, steps: default `theory.recommended`; factors: of η, an arm each at λ = 0; lams: λ of further arms, at the first of
    the η; frames: CKA so often, evenly spaced, and at the start; spectrum: singular values of V; noise: σ of each answer;
    inputs: σ of each input (default 1, one input more than answers); stretch: singular values of each frozen matrix, from … to;
    start: of the usual Gaussian start.

    Returns a Dataset. arm: with coordinates eta, lam. layer, other: input view, hidden layers and output of W_L, of A then B,
    with coordinates net and hidden; time in steps. (arm, time, seed): cka (…, layer, other), to_kernel (…, layer), the CKA with
    G, excess (…, net), loss less that of V itself. At the end: cka_debiased (arm, seed, layer, other); null, null_debiased (seed,
    shuffle, layer, other); to_inputs (arm, seed, layer), the CKA with the data xxᵀ; size (arm, seed, layer), |K| of the kernel,
    and trace. Beside them: gd (seed, layer, other) and gd_excess (seed, net), gradient descent from the same weights to the same
    loss; inserted (kind, seed, layer, other) and inserted_excess (kind, seed, net), arm 0 with an R of kind "orthogonal" or
    "invertible" and its inverse between its layers; trap (view, seed, layer, other), descent from a small start, "none": no
    views, "frozen": ill-conditioned ones.
    Raises ValueError for settings that are out of range. Source: document 4, part 3.
    """
    common = networks.checked(
        depth_a, depth_b, width_a, width_b, eta, batch_size, steps, spectrum, noise, inputs, stretch, start, n_seeds
    )
    validate.counts(frames=frames)
    validate.counts(frames, steps=common["steps"])
    factors = validate.all_positive("factors", factors)
    if min(lams, default=0) < 0:
        raise ValueError(f"lams={tuple(lams)} are not allowed; allowed: 0 or more")
    eta = common.pop("eta")
    rates = np.array([*(eta * f for f in factors), *[eta * factors[0]] * len(lams)])
    decays = np.array([*[0.0] * len(factors), *lams])
    numbers = seeds(seed, n_seeds)
    settings = common | {"rates": rates, "lams": decays, "frames": frames, "device": str(device)}
    parts = yield Jobs(_linear, [settings | {"seed": s} for s in numbers], "linear networks")
    pair = ("layer", "other")
    dims = {"cka": ("arm", "time", *pair), "to_kernel": ("arm", "time", "layer"), "excess": ("arm", "time", "net"),
            "cka_debiased": ("arm", *pair), "null": ("shuffle", *pair), "null_debiased": ("shuffle", *pair),
            "to_inputs": ("arm", "layer"), "size": ("arm", "layer"), "trace": ("arm", "layer"), "gd": pair, "gd_excess": ("net",),
            "inserted": ("kind", *pair), "inserted_excess": ("kind", "net"), "trap": ("view", *pair)}  # fmt: skip
    values = {}
    for name, axes in dims.items():
        at = axes.index("time") + 1 if "time" in axes else 1 if axes[0] in ("arm", "kind", "view") else 0
        values[name] = ((*axes[:at], "seed", *axes[at:]), np.stack([p[name] for p in parts], at))
    where = {"eta": ("arm", rates), "lam": ("arm", decays), "kind": ["orthogonal", "invertible"], "view": ["none", "frozen"]}
    times = np.cumsum([0, *networks.stages(common["steps"], frames).sum(1)])
    return xr.Dataset(
        values, coords=where | networks.layers(depth_a, depth_b) | {"net": ["A", "B"], "seed": numbers, "time": times}
    )


def _linear(*, rates, lams, shapes, batch_size, steps, frames, spectrum, noise, inputs, stretch, start, seed, device) -> dict:
    v, both = networks.pair(shapes, spectrum, noise, inputs, stretch, start, seed)
    how = {"batch_size": batch_size, "steps": steps, "frames": frames, "device": device}
    weights = [networks.train(one, rates, lams, **how) for one in both]
    x = embedded_linear.probe(inputs, PROBES, seed=seed)
    found = [networks.features(one, w, x) for one, w in zip(both, weights, strict=True)]
    excess = np.stack([networks.excess(one, h[-1], x, v) for one, h in zip(both, found, strict=True)], -1)
    seen = [h.transpose(0, 1) for h in (*found[0], *found[1])]  # [arm, time, n, width]
    final = [h[:, -1] for h in seen]
    kernels = [h.mT @ h / PROBES for h in final]
    scale = torch.from_numpy(np.asarray(inputs))
    fresh = torch.randn(SAMPLES, len(inputs), generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale
    samples = [h[0] for one, w in zip(both, weights, strict=True) for h in networks.features(one, w[-1:], fresh)]
    return {
        "cka": alignment.layer_cka(seen, seen),
        "to_kernel": alignment.layer_cka(seen, [x @ torch.from_numpy(linear_theory.root(theory.kernel(v, noise, inputs)))])[..., 0],
        "excess": excess.swapaxes(0, 1),
        "cka_debiased": alignment.layer_cka(samples, samples, debiased=True),
        "null": _null([h[0] for h in samples], seed, False),
        "null_debiased": _null([h[0] for h in samples], seed, True),
        "to_inputs": alignment.layer_cka(final, [x])[..., 0],
        "size": torch.stack([k.square().sum((-2, -1)).sqrt() for k in kernels], -1).numpy(),
        "trace": torch.stack([k.diagonal(dim1=-2, dim2=-1).sum(-1) for k in kernels], -1).numpy(),
        **_descended(v, both, excess[-1, 0], inputs, x.numpy()),
        **_inserted(v, both, [w[-1, :1] for w in weights], x, seed),
        "trap": _trap(v, shapes, stretch, inputs, x.numpy(), seed),
    }


def _null(layers: list, seed: int, debiased: bool) -> np.ndarray:
    """[shuffle, layer, other]: CKA with the samples of `other` shuffled."""
    return np.stack([np.stack([alignment.null(a, b, SHUFFLES, seed, debiased=debiased) for b in layers], -1) for a in layers], -2)


def _descended(v, both, excess, inputs, x) -> dict[str, np.ndarray]:
    """Descent without noise from the start of each network to its `excess` loss under SGD."""
    ends = [descent.descend(one.view, one.begin, v, excess=e, inputs=inputs) for one, e in zip(both, excess, strict=True)]
    layers = [h for one, (w, _) in zip(both, ends, strict=True) for h in descent.features(one.view, w, x)]
    return {"gd": alignment.layer_cka(layers, layers), "gd_excess": np.array([e for _, e in ends])}


def _inserted(v, both, weights, x, seed) -> dict[str, np.ndarray]:
    """R and its inverse between the layers of each trained network, orthogonal, then invertible."""
    tables, losses = [], []
    for spread in (0.0, SPREAD):
        layers = []
        for i, (one, w) in enumerate(zip(both, weights, strict=True)):
            trained = [m[0].numpy() for m in embedded_linear.matrices(one.net, w)]
            layers.append(descent.features(one.view, descent.inserted(trained, 2 * seed + i, spread), x.numpy()))
        tables.append(alignment.layer_cka(layers[0] + layers[1], layers[0] + layers[1]))
        outputs = [torch.from_numpy(own[-1]) for own in layers]
        losses.append([networks.excess(one, h, x, v) for one, h in zip(both, outputs, strict=True)])
    return {"inserted": np.stack(tables), "inserted_excess": np.array(losses)}


def _trap(v, shapes, stretch, inputs, x, seed) -> np.ndarray:
    """[view, layer, other] after descent from a small start, without views and with; means over several views and starts."""
    tables, (d_y, d_x) = [], v.shape
    for frozen, copy in itertools.product((False, True), range(COPIES)):
        layers = []
        for i, (depth, width) in enumerate(shapes):
            own = 2 * seed + i + copy * 2**33
            view = embedded_linear.view(d_x, d_y, stretch=stretch, seed=own) if frozen else embedded_linear.no_view(d_x, d_y)
            begin = embedded_linear.gaussian((d_x, *[width] * (depth - 1), d_y), SMALL, own)
            ended, left = descent.descend(view, begin, v, excess=LEARNT, inputs=inputs)
            layers += [h if left <= LEARNT else h * np.nan for h in descent.features(view, ended, x)]  # it must have learnt
        tables.append(alignment.layer_cka(layers, layers))
    return np.stack(tables).reshape(2, COPIES, *tables[0].shape).mean(1)
