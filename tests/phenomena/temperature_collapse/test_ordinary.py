"""The ordinary network: the law of its radius, what its start leaves out, a small run of all arms, and its claims."""

import numpy as np
import pytest
import torch
import xarray as xr
from claimed import HOLDS, verdicts
from phenomena.temperature_collapse import made_up
from phenomena.temperature_collapse.made_up import undocumented

from thermolab.engine.experiment import Experiment
from thermolab.phenomena.temperature_collapse import ordinary
from thermolab.systems.full_batch import FullBatch

TINY = {"rates": (0.4, 0.8, 1.6, 3.2), "burn_in": 400, "window": 800, "samples": 40, "moments": 40, "n_seeds": 2}


@pytest.fixture(scope="module")
def run():
    return ordinary.ordinary.run(**TINY)


# --- laws -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("eta", "lam", "size"), [(0.1, 0.02, 3.0), (2.0, 0.1, 0.5)])
def test_radius_law_is_the_fixed_point_of_orthogonal_steps(eta, lam, size):
    """w ← (1 − ηλ) w − η g with g orthogonal to w and |g| = size/r, in two dimensions."""
    w = np.array([1.0, 0.0])
    for _ in range(int(20 / (eta * lam))):
        g = size * np.array([-w[1], w[0]]) / (w @ w)
        w = (1 - eta * lam) * w - eta * g
    assert np.hypot(*w) == pytest.approx(float(ordinary.radius_law(eta, lam, size**2)), rel=1e-9)


def test_start_leaves_out_what_gets_no_gradient():
    net = ordinary.system()
    w = ordinary.start(net, 3, 1)
    first, second = net.replicas.views(w).values()
    for layer in (first, second):
        np.testing.assert_allclose(layer.mean(1), 0, atol=1e-6)
    np.testing.assert_allclose(first.flatten(1).norm(dim=1), np.sqrt(7 * 57 * 2 / 64), rtol=0.1)  # He's scale
    dark = net.data.x.abs().amax(0) == 0
    assert dark.any()
    assert first[:, :, dark].abs().max() < 1e-7
    blind = torch.eye(64) - torch.linalg.pinv(net.data.x, rtol=1e-6) @ net.data.x
    assert (first @ blind).abs().max() < 1e-5
    after = Experiment(net, eta=0.5, batch_size=8, seed=1, weights=w)
    after.advance(50)
    first, second = net.replicas.views(after.state.weights).values()
    assert first[:, :, dark].abs().max() < 1e-5
    assert (first @ blind).abs().max() < 1e-4
    assert max(layer.mean(1).abs().max() for layer in (first, second)) < 1e-5


def test_freedoms_are_the_rank_of_the_gradients():
    """At many weights, so that no gradient is orthogonal to all of them: the radius counts here."""
    net = ordinary.system(width=4)
    w = ordinary.start(net, 40, 2)
    g = net.gradients(w, 20, 4, 7, torch.arange(40)).flatten(0, 1)
    for layer, dim in zip(net.replicas.views(g).values(), ordinary.freedoms(net), strict=True):
        values = torch.linalg.svdvals(layer.flatten(1).double())
        assert int((values > 1e-5 * values[0]).sum()) == dim + 1


# --- the run ----------------------------------------------------------------------------------------------------------
def test_each_layer_obeys_the_radius_law(run):
    """E|g̃|² from 40 × 16 fresh batches and a window of 800 steps: 2 % of r, here within 4 standard errors."""
    np.testing.assert_allclose((run["r"] / run["r_pred"]).mean("seed"), 1, atol=0.08)


def test_temperatures_follow_from_the_noise(run):
    d = np.array(run.attrs["freedoms"])
    assert d.tolist() == [7 * 57 - 1, 7 * 8 - 1]
    for prefix in ("", "free_"):
        rate = run["eta"] / run[prefix + "r"] ** 2
        np.testing.assert_allclose(run[prefix + "eta_eff"], rate.transpose(*run[prefix + "eta_eff"].dims))
        layers = run[prefix + "eta_eff"] * run[prefix + "trace"] / (2 * d)
        np.testing.assert_allclose(run[prefix + "T_layer"], layers)
        np.testing.assert_allclose(run[prefix + "T_gas"], layers @ xr.DataArray(d / d.sum(), dims="layer"))
    assert (run["g2"] > run["trace"]).mean() > 0.9


def test_eta_eff_forgets_the_rate_without_decay(run):
    late = run["free_eta_eff"].mean("seed")
    assert (late.max("eta") / late.min("eta") < 2.5).all()  # over η that differ by 8
    assert (run["eta_eff"].mean("seed").diff("eta") > 0).all()


def test_a_run_in_balance_has_forgotten_its_start(run):
    """800 steps are 6 and more relaxations 1/(ηλ); in the first one |w − c|² grows, and r shrinks where η is large."""
    np.testing.assert_allclose(run["balance"].mean("seed"), 1, atol=0.2)
    assert (abs(run["balance_early"].mean("seed") - 1) > 0.2).all()


def test_both_sides_of_the_thermometer_are_those_of_its_definition():
    """Against plain sums over the batches at one moment, and all data."""
    net = ordinary.system(width=4)
    w = ordinary.start(net, 3, 2)
    run = Experiment(net, eta=0.5, lam=[0.1, 0.2, 0.3], batch_size=8, seed=2, weights=w)
    run.advance(5)
    found = ordinary._probe(run, np.array([0, 2]))
    g = net.gradients(run.state.weights, 16, 8, 2 + 2**32 * 6, run.streams)[:, [0, 2]]
    now, lam = run.state.weights[[0, 2]], torch.tensor([0.1, 0.3])[:, None]
    whole = FullBatch(net.replicas.module, net.data).gradients(now, 1, 256, 0, run.streams[:2])[0]
    np.testing.assert_allclose(found["pull"], ((now - w[[0, 2]]) * (whole + lam * now)).sum(1), rtol=1e-4)
    np.testing.assert_allclose(found["squared"], (g + lam * now).square().sum(2).mean(0), rtol=1e-4)


def test_docstring_lists_the_dataset(run):
    same = [name for name in run.data_vars if name.startswith("free_")]
    assert undocumented(ordinary.ordinary, run.drop_vars(same)) == []
    assert {k for k in run.data_vars if f"free_{k}" in run} >= {"U", "S", "T_gas", "T_layer", "r", "tau", "spacing"}
    assert run["U"].dims == ("eta", "seed")
    assert run["T_layer"].dims == ("eta", "seed", "layer")
    for name in run.data_vars:
        assert np.isfinite(run[name]).all(), name
    assert (run["diverged"] == 0).all()
    assert run["spacing"].max() < 1
    assert (run["U"][:, 0] != run["U"][:, 1]).all()


# --- the claims -------------------------------------------------------------------------------------------------------
def test_rising_counts_pairs_of_slopes():
    s = np.arange(5.0)
    assert ordinary.rising(s**2, s) == 1
    assert ordinary.rising(np.sqrt(s), s) == 0
    assert ordinary.rising(np.array([0, 1, 3, 4.5, 8]), s) == pytest.approx(5 / 6)
    assert np.isnan(ordinary.rising(s[:3], s[:3]))


def test_smoothing_keeps_lines_and_flattens_spikes():
    x = np.linspace(0, 4, 9)
    np.testing.assert_allclose(ordinary.smoothed(x, 2 * x)[2:-2], 2 * x[2:-2])
    spike = ordinary.smoothed(x, (x == 2).astype(float))
    assert spike[4] == pytest.approx(0.5)


def test_claims_hold_where_they_should():
    for decide in (ordinary.standard_net, ordinary.pairs, ordinary.one_temperature, ordinary.in_balance):
        assert verdicts(decide(made_up.ordinary())) == HOLDS, decide.__name__


def test_claims_fail_where_they_should():
    good = made_up.ordinary()
    concave = made_up.ordinary(U=np.sqrt(good["S"] + 3) + 3)
    assert ordinary.standard_net(concave).check.verdict == "fails"
    assert ordinary.pairs(concave).check.verdict == "fails"
    hot = made_up.ordinary(T_layer=good["T_layer"] * xr.DataArray([1.0, 2.0], dims="layer"))
    assert ordinary.one_temperature(hot).check.verdict == "fails"
    away = made_up.ordinary(balance=good["balance"].where(good["eta"] < 3, 1.2))
    assert ordinary.in_balance(away).check.verdict == "fails"
