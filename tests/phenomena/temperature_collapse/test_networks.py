"""The networks of notebook 02 at tiny settings, what is read off their curves, and the claims on data made up by hand."""

import asyncio
import json
import math

import numpy as np
import pytest
import torch
import xarray as xr
from claimed import FAILS, HOLDS, verdicts

from thermolab.claims import few_seeds
from thermolab.engine.experiment import Experiment
from thermolab.instruments.windows import graph_entropy
from thermolab.lab.live.views import Arm, read
from thermolab.phenomena.temperature_collapse import claims_networks, convnet, curves, exercises, networks
from thermolab.phenomena.temperature_collapse.live import NETWORK
from thermolab.systems import models
from thermolab.systems.data import digits
from thermolab.systems.network import NetworkOnData

STILL = {"burn_in": 40, "window": 80, "samples": 6, "moments": 4, "n_seeds": 3, "n_data": 64}
TRAIN = {"width": 8, "steps": 40, "logs": 4, "samples": 5, "n_seeds": 3, "n_data": 64}
CONV = {"steps": 12, "logs": 3, "probes": 2, "n_seeds": 3, "n_data": 32}
RATES = (0.05, 0.2)
OP_RATES = tuple(np.geomspace(1e-3, 0.1, 11))
STATIONARY = {"U", "g2", "accuracy", "trace", "gradient_squared", "snr", "T_gas", "S", "tau", "drift"}
TRAINING = {"U", "accuracy", "S", "gradient_squared", "trace", "g2", "snr", "T_gas"}
CONVNET = {"U", "accuracy", "g2", "gradient_squared", "trace", "T_gas"}


@pytest.fixture(scope="module")
def still():
    return networks.stationary.run(RATES, width=6, **STILL)


@pytest.fixture(scope="module")
def trained():
    return networks.training.run(RATES, **TRAIN)


@pytest.fixture(scope="module")
def convnets():
    return convnet.convnets.run(RATES, **CONV)


def begin(width, norm, seed, rates=RATES, batch_size=32, n_data=64):
    """The run behind a recipe, started by hand."""
    net = networks.system(width, norm=norm, n_data=n_data)
    w = net.start(torch.arange(len(rates)), seed)
    w = w / w.norm(dim=1, keepdim=True)
    return Experiment(net, eta=rates, batch_size=batch_size, seed=seed, weights=w)


# --- stationary states and training -----------------------------------------------------------------------------------
def test_shapes_of_stationary_states(still):
    assert set(still.data_vars) == STATIONARY
    for name in STATIONARY:
        assert still[name].dims == ("eta", "seed"), name
        assert np.isfinite(still[name]).all(), name
    assert still.sizes == {"eta": 2, "seed": 3}
    assert still["eta"].values.tolist() == [*RATES]
    assert still.attrs == {"dim": 64 * 6 + 36, "width": 6, "norm": "batch", "batch_size": 32}


def test_shapes_of_training(trained):
    assert set(trained.data_vars) == TRAINING
    for name in TRAINING:
        assert trained[name].dims == ("eta", "time", "seed"), name
    assert trained.sizes == {"eta": 2, "time": 4, "seed": 3}
    assert trained["time"].values.tolist() == [10, 20, 30, 40]
    assert trained.attrs == {"dim": 576, "width": 8, "norm": "layer", "batch_size": 32}


@pytest.mark.parametrize("optimiser", ["sgd", "momentum", "adam"])
def test_dimension_is_the_number_of_trained_weights(optimiser):
    for width in (4, 8, 32):
        assert networks.dimension(width) == networks.system(width, optimiser=optimiser).n_parameters


def test_the_gas_temperature_comes_from_the_trace(still, trained, convnets):
    for data, dim in ((still, 420), (trained, 576)):
        np.testing.assert_allclose(data["T_gas"], data["eta"] * data["trace"] / (2 * (dim - 1)), rtol=1e-9)
    copies = networks.stationary.run(RATES, width=6, optimiser="momentum", knobs={"momentum": 0.5}, **STILL)
    np.testing.assert_allclose(copies["T_gas"], copies["eta"] * copies["trace"] / (2 * 419), rtol=1e-9)
    for arm, dim in {"narrow": 36 + 288, "wide": 144 + 4608, "redrawn": 144 + 4608}.items():
        data = convnets[arm]
        np.testing.assert_allclose(data["T_gas"], data["eta"] * data["trace"] / (2 * (dim - 1)), rtol=1e-9)


def test_the_signal_to_noise_ratio(still, trained):
    for data in (still, trained):
        squared = (data["gradient_squared"].clip(0) / data["trace"]).where(data["trace"] > 0)
        np.testing.assert_allclose(data["snr"] ** 2, squared, rtol=1e-5)


def test_a_stationary_state_is_a_mean_over_its_window(still):
    run = begin(6, "batch", seed=1)
    run.advance(40)
    run.frame()
    frames = list(run.frames(4, until=120))
    energy = np.array([f.gauges["U"] for f in frames])
    found = still.sel(seed=1)
    np.testing.assert_allclose(found["U"], energy.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found["g2"], np.mean([f.gauges["g2"] for f in frames], 0), rtol=1e-6)
    np.testing.assert_allclose(found["drift"], np.log(energy[10:].sum(0) / energy[:10].sum(0)), rtol=1e-6, atol=1e-9)


def test_training_reads_the_run(trained):
    run, seed = begin(8, "layer", seed=2), trained.sel(seed=2)
    for k in range(4):
        path, frames = [], []
        for frame, _ in zip(run.frames(2), range(5), strict=False):
            frames.append(frame)
            path.append(run.state.weights.numpy().copy())
            if len(path) == 5:
                break
        np.testing.assert_allclose(seed["U"][:, k], np.mean([f.gauges["U"] for f in frames], 0), rtol=1e-6)
        entropies = [graph_entropy(p).value for p in np.stack(path, 1)]
        np.testing.assert_allclose(seed["S"][:, k], entropies, rtol=1e-6)
    assert run.state.step == trained["time"][-1]
    np.testing.assert_allclose(trained["trace"], (trained["g2"] - trained["gradient_squared"]).clip(0), rtol=1e-6)


def test_signal_and_noise_make_up_the_gradients():
    """E|g|² of the steps is |∇L|² + Tr Σ of the probes, both of one state."""
    data = (
        networks.stationary.run((0.02,), width=8, norm="layer", **STILL | {"window": 400, "moments": 25}).isel(eta=0).mean("seed")
    )
    assert float((data["trace"] + data["gradient_squared"]) / data["g2"]) == pytest.approx(1, abs=0.15)
    assert float(data["trace"] / data["g2"]) < 0.95


def test_a_window_too_short_for_its_stride_has_no_entropy():
    data = networks.stationary.run((0.002, 0.2), width=6, **STILL)  # 0.25/0.002 = 125 steps apart
    assert np.isnan(data["S"].sel(eta=0.002)).all()
    assert np.isfinite(data["S"].sel(eta=0.2)).all()
    assert np.isfinite(data["U"]).all()
    assert curves.stationary_only(data)["eta"].values.tolist() == [0.2]


@pytest.mark.parametrize(
    ("recipe", "settings"),
    [(networks.stationary, {"width": 6, **STILL}), (networks.stationary, {"width": 6, **STILL, "optimiser": "adam"}),
     (networks.training, TRAIN)],
)  # fmt: skip
def test_measurements_repeat_and_seeds_differ(recipe, settings):
    settings = {**settings, "n_seeds": 2}
    data = recipe.run(RATES, **settings)
    xr.testing.assert_identical(recipe.run(RATES, **settings), data)
    assert (data["U"].isel(seed=0) != data["U"].isel(seed=1)).all()
    other = recipe.run(RATES, **settings, seed=1)
    assert not set(other["seed"].values) & set(data["seed"].values)
    assert (other["U"].values != data["U"].values).all()


def test_convnets(convnets):
    assert list(convnets) == ["narrow", "wide", "redrawn"]
    for arm, data in convnets.items():
        assert set(data.data_vars) == CONVNET
        for name in CONVNET:
            assert data[name].dims == ("eta", "time", "seed"), name
            assert np.isfinite(data[name]).all(), (arm, name)
        assert data.sizes == {"eta": 2, "time": 3, "seed": 3}
        assert data["time"].values.tolist() == [4, 8, 12]
        np.testing.assert_allclose(data["trace"], (data["g2"] - data["gradient_squared"]).clip(0), rtol=1e-6)
    # whatever is learnt, a tenth of labels drawn anew is met; of fixed ones more
    np.testing.assert_allclose(convnets["redrawn"]["accuracy"], 0.1, rtol=1e-6)
    assert float(convnets["wide"]["accuracy"].isel(time=-1).max()) > 0.25
    assert (convnets["wide"]["U"] != convnets["redrawn"]["U"]).all()


def test_convnets_repeat_and_seeds_differ(convnets):
    again = convnet.convnets.run(RATES, **CONV)
    other = convnet.convnets.run(RATES, **CONV, seed=1)
    for arm, data in convnets.items():
        xr.testing.assert_identical(again[arm], data)
        assert (other[arm]["U"].values != data["U"].values).all()
        assert not set(other[arm]["seed"].values) & set(data["seed"].values)
        assert (data["U"].isel(seed=0) != data["U"].isel(seed=1)).all()


def test_a_convnet_reads_the_run():
    """Replicas in the order (rate, seed), the random numbers those of the seed."""
    found = convnet.convnets.run(RATES, **CONV, seed=7)["narrow"]
    net = NetworkOnData(models.scale_invariant_cnn((4, 8)), digits(32, label_noise=0.3), "sphere")
    w = net.start(torch.arange(6), 7)
    run = Experiment(net, eta=[0.05] * 3 + [0.2] * 3, batch_size=32, seed=7, weights=w / w.norm(dim=1, keepdim=True))
    for k, frame in zip(range(3), run.frames(4, until=12), strict=True):
        np.testing.assert_allclose(found["U"][:, k], frame.gauges["U"].reshape(2, 3), rtol=1e-5)


@pytest.mark.parametrize("recipe", [networks.stationary, networks.training])
@pytest.mark.parametrize(
    ("bad", "message"),
    [({"rates": (0.1, -0.1)}, "rates="), ({"rates": (0.0, 0.1)}, "rates="), ({"rates": (math.nan, 0.1)}, "rates="),
     ({"rates": (math.inf, 0.1)}, "rates="), ({"rates": 0.1}, "rates="), ({"rates": ((0.1, 0.2),)}, "rates="),
     ({"width": 1}, "width=1"), ({"norm": "group"}, "norm='group'"), ({"label_noise": 1.5}, "label_noise=1.5"),
     ({"n_data": 0}, "n=0"), ({"batch_size": 0}, "batch_size=0"), ({"samples": 3}, "k=0 with N=3")],
)  # fmt: skip
def test_bad_settings_are_one_line(recipe, bad, message):
    settings = (STILL if recipe is networks.stationary else TRAIN) | {"width": 6, "rates": RATES, "n_seeds": 1}
    with pytest.raises(ValueError, match=message) as error:
        recipe.run(**settings | bad)
    assert "\n" not in str(error.value)


def test_a_bad_rate_among_many_is_one_line():
    with pytest.raises(ValueError, match="rates=") as error:
        networks.stationary.run((*OP_RATES, -1.0))
    assert "\n" not in str(error.value)


# --- several at once ----------------------------------------------------------------------------------------------------
def test_batches_last_equally_long_in_rate_times_steps(monkeypatch):
    monkeypatch.setattr(networks, "stationary", networks.stationary.run)
    settings = {k: v for k, v in STILL.items() if k not in ("burn_in", "window")}
    found = networks.by_batch((16, 32, 64), (0.02, 0.08), steps=80, width=6, norm="layer", **settings)
    assert list(found) == [16, 32, 64]
    for b, data in found.items():
        np.testing.assert_allclose(data["eta"], np.array([0.02, 0.08]) * b / 32)
        assert data.attrs["batch_size"] == b
        assert set(data.data_vars) == STATIONARY
    same = networks.stationary((0.04, 0.16), batch_size=64, burn_in=40, window=40, width=6, norm="layer", **settings)
    xr.testing.assert_identical(found[64], same)


def test_widths(monkeypatch):
    monkeypatch.setattr(networks, "training", networks.training.run)
    settings = {k: v for k, v in TRAIN.items() if k != "width"}
    found = networks.by_width((4, 8), RATES, **settings)
    assert {h: data.attrs["dim"] for h, data in found.items()} == {4: 272, 8: 576}
    xr.testing.assert_identical(found[8], networks.training(RATES, **TRAIN))
    array = networks.over_width(found, "T_gas")
    assert array.dims == ("width", "eta", "seed")
    assert array["width"].values.tolist() == [4, 8]
    for h, data in found.items():
        np.testing.assert_array_equal(array.sel(width=h), data["T_gas"][:, -1])
    np.testing.assert_array_equal(array["eta"], RATES)


def test_optimisers(monkeypatch):
    monkeypatch.setattr(networks, "stationary", networks.stationary.run)
    settings = {"width": 6, "norm": "layer", **STILL, "n_seeds": 2}
    found = networks.by_optimiser((0.02, 0.04), (0.01, 0.02), momentum=0.5, **settings)
    assert list(found) == ["plain", "momentum", "adam"]
    np.testing.assert_allclose(found["plain"]["eta"], [0.02, 0.04])
    np.testing.assert_allclose(found["momentum"]["eta"], [0.01, 0.02, 0.02])
    np.testing.assert_allclose(found["adam"]["eta"], [0.01, 0.02])
    assert found["plain"]["seed"].equals(found["momentum"]["seed"])  # the claim takes them in pairs
    many = settings | {"n_seeds": found["plain"].sizes["seed"]}
    assert many["n_seeds"] >= settings["n_seeds"]
    xr.testing.assert_identical(found["plain"], networks.stationary((0.02, 0.04), **many))
    rates = (0.01, 0.02, 0.02)
    heavy = networks.stationary(rates, optimiser="momentum", knobs={"momentum": 0.5}, **many)
    xr.testing.assert_identical(found["momentum"], heavy)
    light = networks.stationary(rates, optimiser="momentum", knobs={"momentum": 0.0}, **many)
    assert (light["U"] != heavy["U"]).all()
    xr.testing.assert_identical(found["adam"], networks.stationary((0.01, 0.02), optimiser="adam", **settings))
    for data in found.values():
        assert np.isfinite(data["U"]).all()


def test_several_are_coroutines_to_be_awaited_together():
    for found in (networks.by_batch((8, 32)), networks.by_width((8, 12)), networks.by_optimiser()):
        for job in found.values():
            assert asyncio.iscoroutine(job)
            job.close()


# --- what is read off curves --------------------------------------------------------------------------------------------
def curve(energy, entropy, **more):
    n = len(energy)
    variables = {"U": energy, "S": entropy, **more}
    data = xr.Dataset({k: ("eta", np.asarray(v, float)) for k, v in variables.items()}, {"eta": np.geomspace(0.01, 0.1, n)})
    return data


ENTROPY = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
CONVEX, STRAIGHT = curve(ENTROPY**2, ENTROPY), curve(2 * ENTROPY, ENTROPY)
CONCAVE = curve(-((ENTROPY - 10) ** 2), ENTROPY)  # T = 2 (10 - S)


def test_the_temperature_of_a_parabola():
    found = curves.temperature(CONVEX)
    np.testing.assert_allclose(found[1:-1], 2 * ENTROPY[1:-1], rtol=1e-12)
    assert np.isnan(found[[0, -1]]).all()
    uneven = np.array([0.0, 1.0, 4.0, 5.0])
    np.testing.assert_allclose(curves.temperature(curve(uneven**2, uneven))[1:-1], [4.0, 6.0], rtol=1e-12)
    assert np.isnan(curves.temperature(CONVEX.isel(eta=slice(2)))).all()


def test_rise():
    assert curves.rise(CONVEX) == pytest.approx(math.log(10 / 8))
    assert curves.rise(CONVEX, shuffled=True) < 0
    assert curves.rise(CONCAVE) == pytest.approx(math.log(10 / 12))  # T = 16, 14, 12, 10
    assert curves.rise(STRAIGHT) == pytest.approx(0, abs=1e-12)
    assert math.isnan(curves.rise(CONVEX.isel(eta=slice(3))))
    assert curves.rise(CONVEX.isel(eta=slice(4))) == pytest.approx(math.log(6 / 4))
    # one negative temperature is a fall, wherever it stands
    assert curves.rise(curve([0.0, 1.0, -1.0, 0.5, 9.0], [0.0, 1.0, 2.0, 3.0, 4.0])) < 0


@pytest.mark.parametrize(
    ("mean", "compatible", "own", "next_one"), [(CONVEX, 1, 1, 0), (STRAIGHT, 1, None, None), (CONCAVE, 0, 0, 0)]
)
def test_shares_of_convex_straight_and_concave_curves(mean, compatible, own, next_one):
    """On a straight line all states have the same F at its slope: whose is least is rounding."""
    assert curves.compatible(mean) == compatible
    if own is not None:
        assert curves.own_minima(mean) == own
        assert curves.own_minima(mean, 1) == next_one


def test_shares_count_the_states_between_the_ends():
    dent = curve([1.0, 4.0, 9.0, 16.0, 27.0, 36.0], ENTROPY)  # the fifth lies above the chord of its neighbours
    assert curves.compatible(dent) == 3 / 4
    assert curves.own_minima(dent) == 3 / 4
    for share in (curves.compatible, curves.own_minima):
        assert math.isnan(share(CONVEX.isel(eta=slice(2))))
        assert share(CONVEX.isel(eta=slice(3))) == 1


def test_free_energies_of_a_parabola():
    found = curves.free_energy(CONVEX)  # F_j at T_i = 2 S_i: S_j² - 2 S_i S_j
    np.testing.assert_allclose(found[:, 1:-1], ENTROPY[:, None] ** 2 - 2 * ENTROPY[None, 1:-1] * ENTROPY[:, None], atol=1e-9)
    np.testing.assert_array_equal(curves.free_energy(CONVEX, 1)[:, :-1], found[:, 1:])
    bounds = curves.bounds(CONVEX)
    np.testing.assert_allclose(bounds.lower[1:-1], 2 * ENTROPY[1:-1] - 1)
    np.testing.assert_allclose(bounds.upper[1:-1], 2 * ENTROPY[1:-1] + 1)


@pytest.mark.parametrize("n", [3, 4, 9])
def test_the_jackknife_of_a_mean_is_that_of_few_seeds(n):
    rng = np.random.default_rng(n)
    a, b = (xr.Dataset({"x": ("seed", rng.normal(size=n))}) for _ in range(2))
    np.testing.assert_allclose(curves.jackknife(lambda mean: mean["x"].item(), a), few_seeds(a["x"]), rtol=1e-12)
    # two data sets share their seeds
    paired = curves.jackknife(lambda x, y: float(x["x"] - y["x"]), a, a + 0.5 * b)
    np.testing.assert_allclose(paired, few_seeds(-0.5 * b["x"]), rtol=1e-12)
    # and the number comes from the mean, not from the mean of numbers
    assert curves.jackknife(lambda mean: mean["x"].item() ** 2, a)[0] == pytest.approx(float(a["x"].mean()) ** 2)


def test_two_seeds_are_too_few():
    with pytest.raises(ValueError, match=r"^2 seeds are too few to leave one out; use 3 or more$"):
        curves.jackknife(lambda mean: 1.0, xr.Dataset({"x": ("seed", [1.0, 2.0])}))


def test_exponents():
    x = np.geomspace(0.1, 10, 7)
    assert curves.exponent(x, 3 * x**1.7) == pytest.approx(1.7)
    assert curves.exponent(x.reshape(7, 1), 1 / x) == pytest.approx(-1)
    y = x**2
    y[0], y[3], y[5] = -1, np.nan, 0
    assert curves.exponent(x, y) == pytest.approx(2)
    y[1] = 0
    assert curves.exponent(x, y) == pytest.approx(2)
    y[2] = np.inf
    assert math.isnan(curves.exponent(x, y))


def falling(first, last, n=16):
    """A run whose dU/dS is `first` in its first quarter and `last` in the rest."""
    s = -np.arange(n, dtype=float)
    slope = np.where(np.arange(n - 1) < n // 4, first, last)
    return xr.Dataset({"U": ("time", np.concatenate([[0.0], np.cumsum(-slope)])), "S": ("time", s)})


def test_the_fall_of_a_slope():
    assert curves.fall(falling(5.0, 0.05)) == pytest.approx(2)
    assert curves.fall(falling(0.05, 5.0)) == pytest.approx(-2)
    assert curves.fall(falling(5.0, -0.05)) == pytest.approx(2)  # a slope that noise turns round is as small as its size
    run = falling(5.0, 0.05)
    run["S"][8:] += 0.3 * np.random.default_rng(0).normal(size=8)  # noise in S alone
    assert curves.fall(run) == pytest.approx(2, abs=0.2)
    run = falling(5.0, 0.05, n=32).isel(time=slice(4, 20))
    found = curves.running_temperature(run["U"].values, run["S"].values)
    assert found[[0, -1]].tolist() == pytest.approx([5.0, 0.05])
    assert len(found) == 12


def test_only_rates_with_an_entropy_of_every_seed_are_kept():
    data = noisy(CONVEX)
    data["S"][0, :] = np.nan
    data["S"][3, 1] = np.nan
    assert curves.stationary_only(data)["eta"].values.tolist() == CONVEX["eta"].values[[1, 2, 4, 5]].tolist()
    assert curves.stationary_only(data.isel(seed=0))["eta"].values.tolist() == CONVEX["eta"].values[1:].tolist()


# --- claims on data made up by hand -------------------------------------------------------------------------------------
def noisy(mean, n=3, size=1e-4):
    """n seeds that scatter by a share `size` about a mean."""
    rng = np.random.default_rng(1)
    return xr.Dataset(
        {k: ((*v.dims, "seed"), v.values[..., None] * (1 + size * rng.normal(size=(*v.shape, n)))) for k, v in mean.items()},
        {**mean.coords, "seed": np.arange(n)},
    )


def states(n=8, c=20.0, gas=1.0, snr=0.5, start=2e-3):
    """Stationary states with T = c η: S = log η · a, dU = T dS; snr ~ η^snr."""
    eta, a = np.geomspace(start, 25 * start, n), 0.05
    more = {"S": a * np.log(eta), "T_gas": gas * c * eta, "snr": eta**snr}
    return noisy(curve(0.5 + c * a * eta, more.pop("S"), **more).assign_coords(eta=eta), size=1e-5)


def run(collapses, power=1.0, snr=0.0, n_time=20, rates=OP_RATES):
    """Training: where it collapses (η below 5e-3) T and U fall by decades in time, elsewhere they stay."""
    eta, time = np.array(rates), np.arange(1, n_time + 1) * 10
    decades = np.where((eta < 5e-3)[:, None] & collapses, -8.0, -0.2) * np.linspace(0, 1, n_time)
    signal = 10.0 ** (decades / 2) * (1 + 0 * eta[:, None])
    entropy = decades * 50 * math.log(10)
    temperature = eta[:, None] * 10.0**decades
    energy = np.cumsum(np.concatenate([np.full((len(eta), 1), 1.0), np.diff(10.0**decades)], 1), 1)
    power = np.where((eta < 5e-3)[:, None] & collapses, power, 0.3)  # the other rates tell nothing of it
    known = np.where((eta < 5e-3)[:, None] & collapses, 1.0, 0.6) + 0 * decades
    variables = {"U": energy, "S": entropy, "T_gas": temperature, "accuracy": known, "gradient_squared": signal**2,
                 "g2": signal ** (2 * power), "snr": eta[:, None] ** snr + 0 * decades}  # fmt: skip
    mean = xr.Dataset({k: (("eta", "time"), v) for k, v in variables.items()}, {"eta": eta, "time": time})
    data = noisy(mean, size=1e-6)
    return data.assign(accuracy=data["accuracy"].clip(max=1))


def concave():
    """T falls with η."""
    data = states()
    return data.assign(U=-1 / data["eta"] + 0 * data["U"])


@pytest.mark.parametrize(
    "claim", [claims_networks.monotone, claims_networks.adam, claims_networks.minimum, claims_networks.convex]
)
def test_stationary_claims(claim):
    assert verdicts(claim(states())) == HOLDS
    assert claim(concave())[0].verdict == "fails"
    longer = states(n=9)
    longer["S"][0, 0] = np.nan  # a rate without entropy is left out
    assert verdicts(claim(longer)) == HOLDS
    seeds = states()
    loud = seeds.assign(U=seeds["U"] * (1 + 0.3 * np.random.default_rng(2).normal(size=seeds["U"].shape)))
    assert claim(loud)[0].verdict != "holds"


def test_too_few_states_decide_nothing():
    assert claims_networks.monotone(states(n=3))[0].verdict == "inconclusive"
    assert claims_networks.minimum(states(n=2))[0].verdict == "inconclusive"


def test_two_thermometers():
    assert verdicts(claims_networks.two_temperatures(states(gas=1.5))) == HOLDS
    assert verdicts(claims_networks.two_temperatures(states(c=1.0, gas=4.0))) == FAILS


def test_signal_to_noise_ratios():
    op = run(collapses=True)
    assert verdicts(claims_networks.snr_batchnorm(states(snr=0.5), op)) == HOLDS
    assert claims_networks.snr_batchnorm(states(snr=-0.2), op)[0].verdict == "fails"
    assert claims_networks.snr_batchnorm(states(snr=0.5), run(collapses=True, snr=0.4))[2].verdict == "holds"
    layer = states(snr=0.5).isel(eta=slice(3))
    assert verdicts(claims_networks.snr_layernorm(layer, states(snr=0.0))) == HOLDS
    assert verdicts(claims_networks.snr_layernorm(states(snr=0.0), states(snr=0.5))) == FAILS


@pytest.mark.parametrize("claim", [claims_networks.collapse, claims_networks.decay])
def test_the_collapse_along_training(claim):
    op, up = run(collapses=True), run(collapses=False)
    assert verdicts(claim(op, up)) == HOLDS
    assert verdicts(claim(up, op)) == FAILS


def test_the_loss_goes_to_zero():
    op, up = run(collapses=True), run(collapses=False)
    assert verdicts(claims_networks.loss_zero(op, (-3.0, 0.1))) == HOLDS
    assert verdicts(claims_networks.loss_zero(up, (-20.0, 0.1))) == FAILS


def test_the_power_law():
    assert verdicts(claims_networks.power_law(run(collapses=True, power=1.0), (0.8, 0.01))) == HOLDS
    assert verdicts(claims_networks.power_law(run(collapses=True, power=0.85), (1.0, 0.01))) == FAILS


def batches(small=0.0, large=0.0, slope=10.0):
    """U at equal η/B for B = 8, 32, 128: those of 8 off by a share `small`, those of 128 by `large` at high η."""
    rates, found = np.array(networks.BATCH_RATES), {}
    for b in (8, 32, 128):
        u = 0.5 + slope * rates
        u = u * (1 + small) if b == 8 else u * (1 + np.array([0.5, 0.5, large, large])) if b == 128 else u
        found[b] = noisy(curve(u, rates).assign_coords(eta=rates * b / 32))
    return found


def test_batch_sizes():
    assert verdicts(claims_networks.batch_small(batches())) == HOLDS
    assert claims_networks.batch_small(batches(small=0.3))[0].verdict == "fails"
    assert claims_networks.batch_small(batches(slope=0.0))[2].verdict == "holds"  # U does not know of η: nothing is told apart
    assert verdicts(claims_networks.batch_large(batches())) == HOLDS
    assert claims_networks.batch_large(batches(large=-0.3))[0].verdict == "fails"


def test_momentum():
    rates = np.array([4e-3, 8e-3])
    plain = noisy(curve([0.5, 0.6], [0.0, 1.0]).assign_coords(eta=rates))

    def heavy(scaled, same):
        u = np.array([0.5 * scaled, 0.6 * scaled, 0.5 * same])
        return noisy(curve(u, [0.0, 1.0, 2.0]).assign_coords(eta=[*(0.1 * rates), rates[0]]))

    assert verdicts(claims_networks.momentum(plain, heavy(1.05, 2.0))) == HOLDS
    assert verdicts(claims_networks.momentum(plain, heavy(0.7, 1.05))) == FAILS


def widths(low=1e-4, high=1.0, narrow=0.7, wide=1.0):
    """Training at widths 8 and 32 and two rates: T of the wide one is lower by these factors."""
    found = {}
    for h, power, factor in ((8, narrow, (1.0, 1.0)), (16, 0.1, (9.0, 9.0)), (32, wide, (low, high))):
        data = run(collapses=True, power=power, rates=(4e-3, 1.6e-2))
        found[h] = data.assign(T_gas=1e-3 * xr.DataArray([*factor], dims="eta") * (1 + 0 * data["T_gas"]))
    return found


def test_widths_of_claims():
    assert verdicts(claims_networks.width(widths())) == HOLDS
    assert verdicts(claims_networks.width(widths(low=1.0, high=1e-4))) == FAILS
    assert claims_networks.width(widths(low=0.1))[0].verdict == "fails"


def test_the_exponent_over_width():
    """The control asks another question: whether the exponent rises with width."""
    assert claims_networks.width_exponent(widths(wide=1.0))[0].verdict == "holds"
    assert verdicts(claims_networks.width_exponent(widths(narrow=0.7, wide=0.85))) == FAILS
    assert verdicts(claims_networks.width_exponent(widths(narrow=1.2, wide=1.0))) == HOLDS


def test_architectures():
    def net(fall):
        eta, time = np.array([2e-3, 2e-2]), np.array([10, 20, 30, 40])
        mean = xr.Dataset(
            {"T_gas": (("eta", "time"), [[1e-2, *[1e-2 * 10.0**-fall] * 3], [0.1] * 4])}, {"eta": eta, "time": time}
        )
        return noisy(mean)

    assert verdicts(claims_networks.architectures({"narrow": net(0), "wide": net(3), "redrawn": net(0.2)})) == HOLDS
    assert verdicts(claims_networks.architectures({"narrow": net(0), "wide": net(0.3), "redrawn": net(4)})) == FAILS
    assert claims_networks.architectures({"narrow": net(3), "wide": net(3), "redrawn": net(0)})[0].verdict == "fails"


# --- exercises ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("answer", [(0.5, "wide"), (0.51, " Wide "), (0.5, "OP"), (0.5, "overparameterised")])
def test_predictions_right(answer):
    assert exercises.check_predictions(*answer)


@pytest.mark.parametrize("answer", [(None, "wide"), (0.5, None), (0.25, "wide"), (1.0, "wide"), (2.0, "wide"), (0.5, "narrow"),
                                    (0.5, "UP"), (0.5, ""), (math.nan, "wide"), (-0.5, "wide"), (math.inf, "wide")])  # fmt: skip
def test_predictions_wrong(answer):
    found = exercises.check_predictions(*answer)
    assert not found
    assert found.message
    assert "0.5" not in found.message.replace("-0.5", "")


def toy_with(slope):
    """A toy whose excess energy is `slope` times η."""

    def fake(*, eta, seed, n_seeds):
        excess = slope * np.array(eta)[:, None] * np.ones(n_seeds)
        return xr.Dataset({"U": (("eta", "seed"), 0.04 + excess), "U_min": 0.04})

    return fake


def test_the_rate_of_the_toy(monkeypatch):
    monkeypatch.setattr(exercises.toy.stationary, "run", toy_with(0.04), raising=False)
    assert exercises.check_toy_rate(0.05)
    assert exercises.check_toy_rate(0.052)
    for wrong in (0.04, 0.055, 0.3):
        assert not exercises.check_toy_rate(wrong)
    for bad in (None, math.nan, 0.0, -0.05, 1e-4, 1e3):
        assert "write a number" in exercises.check_toy_rate(bad).message


def test_the_batch_size(monkeypatch):
    asked = []

    def training(rates, *, batch_size, **settings):
        asked.append((rates, batch_size))
        known = [0.5, 0.999] if batch_size > 100 else [0.999, 0.6]
        variables = {"accuracy": known, "U": [1.0, 0.1], "T_gas": [1e-2, 1e-5]}
        return xr.Dataset({k: (("eta", "time", "seed"), [np.transpose([v, v])]) for k, v in variables.items()})

    monkeypatch.setattr(networks.training, "run", training, raising=False)
    right, wrong = exercises.check_batch_size(128), exercises.check_batch_size(32)
    assert right
    assert not wrong
    assert asked == [((0.01,), 128), ((0.01,), 32)]
    assert right.message == "at the end U = 0.100, T = 1.0e-05, accuracy 0.999"
    for bad in (None, 1, 0, -8, 257, math.nan, math.inf):
        assert "write a whole number from 2 to 256" in exercises.check_batch_size(bad).message
    assert len(asked) == 2


def test_the_batch_size_at_a_reduced_size(monkeypatch):
    """The real recipe, shortened: it is called with what it takes, and answers."""
    short = {"steps": 8, "logs": 2, "samples": 4, "width": 4, "n_data": 32}
    full = networks.training.run
    monkeypatch.setattr(networks.training, "run", lambda rates, **settings: full(rates, **settings | short), raising=False)
    answer = exercises.check_batch_size(64)
    assert not answer
    assert "accuracy" in answer.message


def test_bounds_of_the_second_state():
    assert exercises.check_bounds(1e-3, 2e-3)
    assert exercises.check_bounds(1.01e-3, 1.99e-3)
    for wrong, which in (((2e-3, 1e-3), "lower"), ((1e-3, 4e-3), "upper"), ((0, 2e-3), "lower"), ((1e-3, math.inf), "upper"),
                         ((math.nan, 2e-3), "lower"), ((1.05e-3, 2e-3), "lower"), ((1e-3, 1.9e-3), "upper")):  # fmt: skip
        answer = exercises.check_bounds(*wrong)
        assert not answer
        assert f"the {which} bound is not" in answer.message
    for missing in ((None, 2e-3), (1e-3, None)):
        assert "both" in exercises.check_bounds(*missing).message


# --- the live panel -----------------------------------------------------------------------------------------------------
def readings(events, every, steps, **settings):
    arm = Arm("a", NETWORK, NETWORK.checked(settings))
    experiment = NETWORK.start(seed=4, **arm.settings)
    return experiment, arm.settings, [read(arm, frame) for frame in experiment.follow(events, every, steps)]


def test_frames_of_the_live_network():
    experiment, _, found = readings([[60, {"eta": 0.25}]], 2, 100, eta=0.5, width=6, batch_size=16, replicas=2)
    assert set(NETWORK.gauges) == {"U", "T", "snr", "S"}
    for reading in found:
        assert set(NETWORK.gauges) <= set(reading.values)
        rate = 0.5 if reading.step <= 60 else 0.25
        np.testing.assert_allclose(reading.values["T"], rate * reading.values["trace"] / 2 / (64 * 6 + 36 - 1), rtol=1e-6)
        assert np.isfinite([reading.values[k] for k in ("U", "T", "snr")]).all()
        assert reading.values["U"].shape == (2,)
        assert reading.theory == {}
    assert np.isnan(found[0].values["S"]).all()  # the window is not full
    assert np.isfinite(found[-1].values["S"]).all()
    np.testing.assert_allclose(torch.linalg.vector_norm(experiment.state.weights, dim=1), 1, rtol=1e-4)


def test_defaults_of_the_live_network():
    assert NETWORK.checked({}) == dict(NETWORK.defaults)
    assert set(NETWORK.defaults) == set(NETWORK.settings)
    for name, bad in {"width": 1, "label_noise": 1.5, "replicas": 0, "eta": 0.0, "batch_size": 1}.items():
        with pytest.raises(ValueError, match=f"^{name}={bad} is not allowed; allowed: [^\n]*$"):
            NETWORK.checked({name: bad})


def test_labels_of_the_live_network():
    labels = {share: NETWORK.start(width=4, replicas=1, label_noise=share).system.data.y for share in (0.0, 0.3, 1.0)}
    assert torch.equal(labels[0.3], digits(256, label_noise=0.3).y)
    assert (labels[0.0] != labels[0.3]).sum() < (labels[0.0] != labels[1.0]).sum()


def test_the_log_of_the_live_network_replays_to_the_bit():
    events = [[4, {"eta": 0.2}], [9, {"batch_size": 8}]]
    experiment, settings, found = readings(events, 5, 20, width=4, replicas=2, label_noise=0.5)
    log = json.loads(json.dumps(NETWORK.log(experiment, settings)))
    assert log["recipe"] == "temperature-collapse.network"
    again, frames = NETWORK.replay(log)
    frames = list(frames)
    assert torch.equal(again.state.weights, experiment.state.weights)
    assert [f.step for f in frames] == [r.step for r in found]
    for frame, reading in zip(frames, found, strict=True):
        np.testing.assert_array_equal(frame.gauges["U"], reading.values["U"])
    assert NETWORK.log(again, settings)["weights"] == log["weights"]
    other, rest = NETWORK.replay({**log, "events": [e for e in log["events"] if e[0] != 9]})
    list(rest)
    assert not torch.equal(other.state.weights, experiment.state.weights)
