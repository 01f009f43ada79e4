"""Stationary states of the networks of notebook 02: what the recipes read, and the claims on curves made up by hand."""

import numpy as np
import pytest
import xarray as xr
from claimed import FAILS, HOLDS, verdicts
from phenomena.temperature_collapse.made_up import batches, begin, heavy, states

from thermolab.phenomena.temperature_collapse import curves, networks, stationary

STILL = {"burn_in": 40, "window": 80, "samples": 6, "moments": 4, "n_seeds": 3, "n_data": 64}
RATES = (0.05, 0.2)
STATIONARY = {"U", "g2", "accuracy", "trace", "gradient_squared", "snr", "T_gas", "S", "tau", "drift"}


@pytest.fixture(scope="module")
def still():
    return stationary.stationary.run(RATES, width=6, **STILL)


def test_shapes_of_stationary_states(still):
    assert set(still.data_vars) == STATIONARY
    for name in STATIONARY:
        assert still[name].dims == ("eta", "seed"), name
        assert np.isfinite(still[name]).all(), name
    assert still.sizes == {"eta": 2, "seed": 3}
    assert still["eta"].values.tolist() == [*RATES]
    assert still.attrs == {"dim": 64 * 6 + 36, "width": 6, "norm": "batch", "batch_size": 32, "n_data": 64}


@pytest.mark.parametrize("optimiser", ["sgd", "momentum", "adam"])
def test_dimension_is_the_number_of_trained_weights(optimiser):
    for width in (4, 8, 32):
        assert networks.dimension(width) == networks.system(width, optimiser=optimiser).n_parameters


def derives(data, dim):
    """T_gas and SNR follow from the trace and |∇L|²."""
    np.testing.assert_allclose(data["T_gas"], data["eta"] * data["trace"] / (2 * (dim - 1)), rtol=1e-9)
    squared = (data["gradient_squared"].clip(0) / data["trace"]).where(data["trace"] > 0)
    np.testing.assert_allclose(data["snr"] ** 2, squared, rtol=1e-5)


def test_temperature_and_signal_to_noise_ratio_come_from_the_gradients(still):
    derives(still, 420)
    derives(stationary.optimised.run(RATES, width=6, momentum=0.5, **STILL), 420)


def test_a_stationary_state_is_a_mean_over_its_window(still):
    run = begin(6, "batch", 1, RATES)
    run.advance(40)
    run.frame()
    frames = list(run.frames(4, until=120))
    energy = np.array([f.observables["U"] for f in frames])
    found = still.sel(seed=1)
    np.testing.assert_allclose(found["U"], energy.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found["g2"], np.mean([f.observables["g2"] for f in frames], 0), rtol=1e-6)
    np.testing.assert_allclose(found["drift"], np.log(energy[10:].sum(0) / energy[:10].sum(0)), rtol=1e-6, atol=1e-9)


def test_signal_and_noise_make_up_the_gradients():
    """E|g|² of the steps is |∇L|² + Tr Σ of the probes, both of one state: to 0.04 (seeds scatter by 0.1), here 4 times that."""
    longer = STILL | {"window": 400, "moments": 100, "n_seeds": 6}
    data = stationary.stationary.run((0.02,), width=8, norm="layer", **longer).isel(eta=0).mean("seed")
    assert float((data["trace"] + data["gradient_squared"]) / data["g2"]) == pytest.approx(1, abs=0.15)
    assert float(data["trace"] / data["g2"]) < 0.95


def test_a_window_too_short_for_its_stride_has_no_entropy():
    data = stationary.stationary.run((0.002, 0.2), width=6, **STILL)  # 0.25/0.002 = 125 steps apart
    assert np.isnan(data["S"].sel(eta=0.002)).all()
    assert np.isfinite(data["S"].sel(eta=0.2)).all()
    assert np.isfinite(data["U"]).all()
    assert curves.stationary_only(data)["eta"].values.tolist() == [0.2]


@pytest.mark.parametrize(("recipe", "settings"), [(stationary.stationary, {}), (stationary.optimised, {"optimiser": "adam"})])
def test_measurements_repeat_and_seeds_differ(recipe, settings):
    settings = {"width": 6, **STILL, "n_seeds": 2} | settings
    data = recipe.run(RATES, **settings)
    xr.testing.assert_identical(recipe.run(RATES, **settings), data)
    assert (data["U"].isel(seed=0) != data["U"].isel(seed=1)).all()
    other = recipe.run(RATES, **settings, seed=1)
    assert not set(other["seed"].values) & set(data["seed"].values)
    assert (other["U"].values != data["U"].values).all()


def called(plan):
    return {name: part.func.run(*part.args, **part.keywords) for name, part in plan.items()}


def test_batches_last_equally_long_in_rate_times_steps():
    settings = {k: v for k, v in STILL.items() if k not in ("burn_in", "window")} | {"width": 6, "norm": "layer"}
    found = called(stationary.by_batch((16, 32, 64), (0.02, 0.08), steps=80, **settings))
    assert list(found) == [16, 32, 64]
    for b, data in found.items():
        np.testing.assert_allclose(data["eta"], np.array([0.02, 0.08]) * b / 32)
        assert data.attrs["batch_size"] == b
        assert set(data.data_vars) == STATIONARY
    same = stationary.stationary.run((0.04, 0.16), batch_size=64, burn_in=40, window=40, **settings)
    xr.testing.assert_identical(found[64], same)


def test_optimisers_run_at_the_rates_that_are_compared():
    settings = {"width": 6, "norm": "layer", **STILL, "n_seeds": 2}
    found = called(stationary.by_optimiser((0.02, 0.04), (0.01, 0.02), momentum=0.5, **settings))
    assert list(found) == ["plain", "momentum", "adam"]
    np.testing.assert_allclose(found["plain"]["eta"], [0.02, 0.04])
    np.testing.assert_allclose(found["momentum"]["eta"], [0.01, 0.02, 0.02])
    np.testing.assert_allclose(found["adam"]["eta"], [0.01, 0.02])
    assert found["plain"]["seed"].equals(found["momentum"]["seed"])  # the claim takes them in pairs
    many = settings | {"n_seeds": found["plain"].sizes["seed"]}
    assert many["n_seeds"] >= settings["n_seeds"]
    xr.testing.assert_identical(found["plain"], stationary.stationary.run((0.02, 0.04), **many))
    light, heavy = (stationary.optimised.run((0.01, 0.02, 0.02), momentum=mu, **many) for mu in (0.0, 0.5))
    xr.testing.assert_identical(found["momentum"], heavy)
    assert (light["U"] != heavy["U"]).all()
    xr.testing.assert_identical(found["adam"], stationary.optimised.run((0.01, 0.02), optimiser="adam", **settings))
    for data in found.values():
        assert np.isfinite(data["U"]).all()


# --- claims on data made up by hand -----------------------------------------------------------------------------------
def concave():
    """T falls with η."""
    data = states()
    return data.assign(U=-1 / data["eta"] + 0 * data["U"])


@pytest.mark.parametrize("claim", [stationary.monotone, stationary.minimum, stationary.convex])
def test_stationary_claims(claim):
    assert verdicts(claim(states())) == HOLDS
    assert claim(concave()).check.verdict == "fails"
    longer = states(n=9)
    longer["S"][0, 0] = np.nan  # a rate without entropy is left out
    assert verdicts(claim(longer)) == HOLDS
    seeds = states()
    loud = seeds.assign(U=seeds["U"] * (1 + 0.3 * np.random.default_rng(2).normal(size=seeds["U"].shape)))
    assert claim(loud).check.verdict != "holds"


def test_too_few_states_decide_nothing():
    assert stationary.monotone(states(n=3)).check.verdict == "inconclusive"
    assert stationary.minimum(states(n=2)).check.verdict == "inconclusive"


def test_two_thermometers():
    assert verdicts(stationary.two_temperatures(states(gas=1.5))) == HOLDS
    assert verdicts(stationary.two_temperatures(states(c=1.0, gas=4.0))) == FAILS


def test_signal_to_noise_ratios():
    layer = states(snr=0.5).isel(eta=slice(3))
    assert verdicts(stationary.snr_batchnorm(states(snr=0.5), layer.assign(snr=1 + 0 * layer["snr"]))) == HOLDS
    assert stationary.snr_batchnorm(states(snr=-0.2), layer).check.verdict == "fails"
    assert stationary.snr_batchnorm(states(snr=0.5), layer).control.verdict == "holds"
    assert verdicts(stationary.snr_layernorm(layer, states(snr=0.0))) == HOLDS
    assert verdicts(stationary.snr_layernorm(states(snr=0.0), states(snr=0.5))) == FAILS


def test_batch_sizes():
    assert verdicts(stationary.batch_small(batches())) == HOLDS
    assert stationary.batch_small(batches(small=0.3)).check.verdict == "fails"
    assert stationary.batch_small(batches(slope=0.0)).control.verdict == "holds"  # U does not know of η: nothing is told apart
    assert verdicts(stationary.batch_large(batches())) == HOLDS
    assert stationary.batch_large(batches(large=-0.3)).check.verdict == "fails"


def test_momentum():
    assert verdicts(stationary.momentum(*heavy(1.05, 2.0))) == HOLDS
    assert verdicts(stationary.momentum(*heavy(0.7, 1.05))) == FAILS
