"""Two embedded networks under one noise: where theory has them, both observables; and the claim on data made up by hand."""

import numpy as np
import pytest
import torch
import xarray as xr
from claimed import verdicts

from thermolab.phenomena.progressive_sharpening import cause
from thermolab.systems import embedded_linear as views


def test_embedded_networks_settle_where_theory_has_them():
    """The closed form computes V x and has no smaller E|g|² nearby on its orbit: the first order vanishes."""
    v, sigma = views.target((1.2, 0.8), 3, seed=1), np.array([1.5, 0.5])
    net = views.network(views.view(3, 2, seed=1), 2, 4, views.answers(v, sigma, n_data=400, seed=1))
    weights = cause.settled(net, v, sigma)
    c, m = (layer.weight.double() for layer in (net.replicas.module[0], net.replicas.module[-1]))
    first, second = (w[0] for w in net.replicas.views(weights[None]).values())
    np.testing.assert_allclose(m @ second @ first @ c, v, atol=1e-10)
    bend = torch.tensor(np.random.default_rng(0).normal(size=(4, 4)))

    def moment(t):
        a = torch.matrix_exp(t * bend)
        w1, w2 = a @ first @ c, m @ second @ torch.linalg.inv(a)
        pulled = torch.diag(torch.tensor(sigma)) @ w2, torch.diag(torch.tensor(sigma)) @ m
        return (pulled[0].square().sum() * c.square().sum() + pulled[1].square().sum() * w1.square().sum()).item()

    slope = (moment(1e-4) - moment(-1e-4)) / 2e-4
    curve = (moment(1e-2) + moment(-1e-2) - 2 * moment(0)) / 1e-4
    assert abs(slope) < 1e-5 * moment(0) < curve


def test_both_observables_follow_the_noise_and_nothing_moves_without_noise():
    found = cause.cause.run((1.5, 0.5), d_x=2, widths=(3, 4), steps=4000, quiet=400, decay=800, logs=4, n_seeds=2)
    assert found["aligned"].dims == ("arm", "time", "noise", "net", "seed")
    assert found["time"].values[[0, 4, 5, -1]].tolist() == [100, 1200, 2200, 15_600]
    quiet, later = found.sel(arm="none").isel(time=4), found.sel(arm="none").isel(time=slice(5, None))
    for name in ("cka", "lambda_max"):
        assert abs(later[name] / quiet[name] - 1).max() < 3e-3
    shares = cause.covered(found, "noise")
    assert shares.shape == (4, 2)
    assert np.median(shares) > 0.7
    assert abs(cause.covered(found, "none")).max() < 0.05


@pytest.mark.parametrize(("share", "wanted"), [((0.9, 0.8), "holds"), ((0.9, 0.2), "fails"), ((0.1, 0.9), "fails")])
def test_what_covers_least_decides(share, wanted):
    """A run in which each switch finds kernels at CKA 0.6 and λ_max at e times what it should be, or an e-th."""
    logs = np.array([2.0, 1.0, 2.0, 1.0])  # of λ_max: each phase leaves it a factor e off what the next one wants
    rng = np.random.default_rng(0)
    sharp, aligned = np.tile(logs[:, None], (1, 2)), np.full((4, 2, 2), 0.6)
    for phase in (2, 3):
        k = cause.NOISES.index(cause.PHASES[phase])
        wanted_log = logs[phase]
        sharp[phase] = wanted_log + (1 - share[1]) * (sharp[phase - 1] - wanted_log)
        aligned[phase, k] = 1 - (1 - share[0]) * (1 - aligned[phase - 1, k])
    sharp = np.repeat(np.stack([sharp, np.full((4, 2), 2.0)]), 2, axis=1)
    aligned = np.repeat(np.stack([aligned, np.full((4, 2, 2), 0.6)]), 2, axis=1)
    jitter = 1 + 1e-3 * rng.normal(size=5)
    data = xr.Dataset(
        {"lambda_max": (("arm", "time", "net", "seed"), np.exp(sharp[..., None] * jitter)),
         "aligned": (("arm", "time", "noise", "net", "seed"), aligned[..., None] * jitter),
         "predicted": (("noise", "net", "seed"), np.exp(np.array([1.0, 2.0]))[:, None, None] * np.ones((1, 2, 5)))},
        coords={"arm": list(cause.ARMS), "noise": list(cause.NOISES), "phase": ("time", np.repeat(range(4), 2))},
    )  # fmt: skip
    decision = cause.answers_to_one_cause(data)
    assert verdicts(decision) == (wanted, "fails")
    assert decision.check.measured == pytest.approx(min(share), abs=0.05)
