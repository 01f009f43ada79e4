"""Noise and sharpness at tiny settings, against plain loops, and their claims on data made up by hand."""

import numpy as np
import pytest
import torch
import xarray as xr
from claimed import verdicts

from thermolab.engine.experiment import Experiment
from thermolab.engine.schedules import cool
from thermolab.phenomena.progressive_sharpening import cause, setting, settled, starts, switch, theory
from thermolab.phenomena.progressive_sharpening import claims_switch as claims
from thermolab.systems import embedded_linear as views

SWITCH = {"steps": 40, "logs": 4, "copies": 2, "n_seeds": 2, "width": 4}
STARTS = {"steps": 40, "decay": 16, "logs": 2, "width": 8, "n_seeds": 2, "noises": ("imbalanced", "none")}
PROFILE = (1.5, 0.8, 0.6)


def test_weight_decay_reaches_the_network():
    few = {"width": 4, "eta": 0.03, "relaxations": 1.0, "decay": 80, "n_seeds": 1}
    free, held = (settled.settled.run((1.0, 1.0), lam=lam, **few)["lambda_max"].item() for lam in (0.0, 1.0))
    assert held < 0.8 * free


# --- recipes ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("profile", "strength"), [((1.0, 1.0, 1.0), 1.0), ((1.6, 1.0, 0.7), 2.0)])
def test_settled_networks_have_the_sharpness_of_theory(profile, strength):
    found = settled.settled.run(profile, strength=strength, width=4, eta=0.03, n_seeds=2)
    assert float(found["predicted"]) == pytest.approx(theory.lambda_max(profile, strength))
    assert float(found["steps"]) == round(8 * theory.relaxation_steps(profile, 0.03, 16).max())
    np.testing.assert_allclose(found["lambda_max"], found["predicted"], rtol=0.05)


def test_a_final_decay_falls_by_the_same_factor_eight_times():
    run = Experiment(setting.learner(PROFILE, width=3, n_data=100), eta=[0.1, 0.01], batch_size=4)
    run.advance(5)
    cool(run, 80)
    assert [step for step, _ in run.events[1:]] == [5 + 10 * k for k in range(8)]
    np.testing.assert_allclose([change["eta"] for _, change in run.events[1:]], np.outer(0.6 ** np.arange(1, 9), [0.1, 0.01]))
    assert run.state.step == 85


def test_switch_against_a_plain_loop():
    """The same weights go on under another noise; the control's middle phase has other noise of the same variance."""
    found = switch.switch.run("tanh", PROFILE, **SWITCH)
    assert dict(found.sizes) == {"arm": 2, "time": 12, "seed": 2, "stage": 3}
    weights, even = None, setting.balanced(PROFILE)
    for number, profile in enumerate((even, PROFILE, even)):
        net = setting.learner(profile, "tanh", width=4, seed=0)
        weights = net.start(torch.arange(2), 0) / 2 if weights is None else weights
        run = Experiment(net, eta=0.05, batch_size=16, weights=weights, seed=2**32 * number)
        run.advance(40)
        weights = run.state.weights
        now = found["lambda_max"].sel(time=40 * (number + 1)).isel(seed=0)
        assert float(now.sel(arm="imbalanced")) == pytest.approx(setting.sharpness(net, weights, "tanh").mean(), rel=1e-6)
    first, later = found["lambda_max"].sel(time=found["phase"] == 0), found["lambda_max"].sel(time=found["phase"] > 0)
    assert (first.sel(arm="imbalanced") == first.sel(arm="balanced")).all()
    assert (later.sel(arm="imbalanced") != later.sel(arm="balanced")).all()
    np.testing.assert_allclose(found["predicted"].sel(arm="imbalanced"), [4, theory.lambda_max(PROFILE), 4])
    np.testing.assert_allclose(found["predicted"].sel(arm="balanced"), 4)


@pytest.mark.parametrize("profile", [(1.5, 0.4), (2.0, 1.0, 1.0, 0.4)])
def test_linear_networks_sharpen_and_flatten_when_the_noise_is_switched(profile):
    found = switch.switch.run("linear", profile, width=5, steps=4000, logs=4, copies=4, n_seeds=2)
    rise = claims.rise_and_return(found)
    assert rise.sel(arm="imbalanced").min() > 0.1 > rise.sel(arm="balanced").max()


def test_starts_are_what_they_are_called():
    found = starts.starts.run("relu", PROFILE, **STARTS)
    assert dict(found.sizes) == {"noise": 2, "start": 3, "time": 4, "seed": 2}
    assert found["time"].values.tolist() == [0, 20, 40, 56]
    begin = found.isel(time=0)
    assert (begin["lambda_max"].sel(noise="none") == begin["lambda_max"].sel(noise="imbalanced")).all()
    assert (begin["lambda_max"].sel(start="sharp") > 1.5 * begin["lambda_max"].sel(start="flat")).all()
    np.testing.assert_allclose(begin["excess"].sel(start="sharp"), begin["excess"].sel(start="flat"), rtol=1e-3)
    assert (begin["excess"].sel(start="random") > 20 * begin["excess"].sel(start="flat")).all()


def test_without_noise_a_sharp_start_stays_sharp_and_balanced_noise_flattens_it():
    found = starts.starts.run(
        "linear", (1.0, 1.0), starts=("sharp",), noises=("balanced", "none"), width=3, steps=2000, copies=4, n_seeds=2
    )
    gain = claims.gain(found).sel(start="sharp")
    assert abs(gain.sel(noise="none")).max() < 0.02
    np.testing.assert_allclose(found["lambda_max"].sel(noise="balanced", start="sharp").isel(time=-1), 6, rtol=0.05)  # 4s


def test_adam_takes_the_sources_figure():
    """Bias-corrected first steps of Adam are of length η in each weight."""
    one = {"steps": 1, "logs": 1, "decay": 8, "n_seeds": 1, "copies": 1, "starts": ("random",), "noises": ("imbalanced",)}
    found = starts.starts.run("linear", PROFILE, optimiser="adam", eta=1e-3, width=4, **one)
    net = setting.learner(PROFILE, "linear", answer=setting.own_kind(3, "linear"), width=4, optimiser="adam")
    run = Experiment(net, eta=1e-3, batch_size=16, weights=net.start(torch.arange(1), 0), seed=2**32, beta2=0.995, eps=1e-7)
    begin = run.state.weights
    run.advance(1)
    np.testing.assert_allclose((run.state.weights - begin).abs(), 1e-3, rtol=1e-3)
    answer = setting.own_kind(3, "linear")
    wanted = setting.sharpness(net, run.state.weights, "linear", answer)
    np.testing.assert_allclose(found["lambda_max"].isel(time=1).squeeze(), wanted.item(), rtol=1e-6)


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


def test_cause_reads_both_gauges_and_nothing_moves_without_noise():
    found = cause.cause.run((1.5, 0.5), d_x=2, widths=(3, 4), steps=4000, quiet=400, decay=800, logs=4, n_seeds=2)
    assert found["aligned"].dims == ("arm", "time", "noise", "net", "seed")
    assert found["time"].values[[0, 4, 5, -1]].tolist() == [100, 1200, 2200, 15_600]
    quiet, later = found.sel(arm="none").isel(time=4), found.sel(arm="none").isel(time=slice(5, None))
    for name in ("cka", "lambda_max"):
        assert abs(later[name] / quiet[name] - 1).max() < 3e-3
    shares = claims.covered(found, "noise")
    assert shares.shape == (4, 2)
    assert np.median(shares) > 0.7
    assert abs(claims.covered(found, "none")).max() < 0.05


def test_results_of_a_seed_do_not_depend_on_their_number():
    for recipe, settings in ((switch.switch, SWITCH), (starts.starts, STARTS)):
        two, one = (recipe.run("linear", PROFILE, **(settings | {"n_seeds": n})) for n in (2, 1))
        xr.testing.assert_allclose(two.isel(seed=[0]), one, rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: settled.settled.run((1.0, -1.0)), "profile=[1.0, -1.0] is not allowed; allowed: two or more positive numbers"),
        (lambda: settled.settled.run(eta=1e-4, batch_size=256), "at eta=0.0001, batch_size=256 are too many; allowed: 5000000"),
        (lambda: settled.settled.run(lam=-1.0), "lam=-1.0 is not allowed"),
        (lambda: settled.settled.run(decay=7), "decay=7 is not allowed; allowed: a multiple of stages=8"),
        (lambda: starts.starts.run(steps=5, logs=10), "steps=5 is not allowed; allowed: a multiple of logs=10"),
        (lambda: settled.settled.run(width=3), "width=3 is too small; allowed: 5 or more"),
        (lambda: settled.settled.run(eta=0.0), "eta=0.0 is not allowed; allowed: a positive number"),
        (lambda: switch.switch.run("gelu"), "activation='gelu' is unknown; allowed: relu, tanh, linear"),
        (lambda: switch.switch.run(steps=30, logs=20), "steps=30 is not allowed; allowed: a multiple of logs=20"),
        (lambda: starts.starts.run(noises=("loud",)), "noises=('loud',) is unknown; allowed: balanced, imbalanced, none"),
        (lambda: starts.starts.run(optimiser="lion"), "optimiser=['lion'] is unknown; allowed: sgd, adam"),
        (lambda: cause.cause.run(d_x=3), "d_x=3 are not allowed; allowed: two widths, and 5 inputs or more"),
    ],
)
def test_bad_settings_get_one_line(call, text):
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        call()
    assert text in str(error.value)


# --- claims on data made up by hand -----------------------------------------------------------------------------
def around(values, noise=0.01, n_seeds=5):
    """values [...] -> [..., seed], with relative noise that differs from seed to seed."""
    values = np.asarray(values, float)
    return values[..., None] * np.exp(noise * np.random.default_rng(0).normal(size=(*values.shape, n_seeds)))


@pytest.mark.parametrize(
    ("ratio", "noise", "wanted"),
    [(1.02, 0.01, ("holds", "fails")), (1.3, 0.01, ("fails", "fails")), (1.07, 0.05, ("inconclusive", "fails"))],
)
def test_linear_on_made_up_numbers(ratio, noise, wanted):
    data = xr.Dataset({"lambda_max": ("seed", around(6 * ratio, noise)), "predicted": 6.0, "flattest": 4.0})
    assert verdicts(claims.linear({(1.0, 2.0): data})) == wanted


@pytest.mark.parametrize(
    ("phases", "noise", "wanted"),
    [((4, 8, 4.1), 0.01, "holds"), ((4, 8, 7.5), 0.01, "fails"), ((8, 4, 8), 0.01, "fails"), ((4, 4.3, 4), 0.05, "inconclusive")],
)
def test_switch_on_made_up_numbers(phases, noise, wanted):
    dims, coords = ("arm", "time", "seed"), {"arm": list(switch.ARMS), "phase": ("time", np.repeat(range(3), 4))}
    curves = around(np.repeat([phases, (4, 4, 4)], 4, axis=1), noise)
    curves[:, [4, 8]] = 100.0  # on the way: not yet the end of a phase
    pair = claims.switch(xr.Dataset({"lambda_max": (dims, curves)}, coords=coords))
    assert verdicts(pair) == (wanted, "fails") if noise < 0.05 else pair[0].verdict == wanted


def made(ends, noise=0.01):
    """λ_max {(noise, start): (first, last)} as `starts` returns it."""
    noises, begins = (sorted({key[k] for key in ends}) for k in (0, 1))
    values = np.full((len(noises), len(begins), 2), np.nan)
    for (n, s), pair in ends.items():
        values[noises.index(n), begins.index(s)] = pair
    return xr.Dataset(
        {"lambda_max": (("noise", "start", "time", "seed"), around(values, noise))}, coords={"noise": noises, "start": begins}
    )


def test_flattening_on_made_up_numbers():
    steep = made({("balanced", "sharp"): (9, 4), ("none", "sharp"): (9, 9)})
    assert verdicts(claims.flattening(steep)) == ("holds", "fails")
    assert verdicts(claims.flattening(made({("balanced", "sharp"): (9, 10), ("none", "sharp"): (9, 9)}))) == ("fails", "fails")


def test_from_scratch_on_made_up_numbers():
    falls = made({("imbalanced", "random"): (9, 6), ("imbalanced", "flat"): (4, 6)})
    rises = made({("imbalanced", "random"): (5, 6), ("imbalanced", "flat"): (4, 6)})
    assert verdicts(claims.from_scratch({"tanh": falls, "relu": falls})) == ("fails", "holds")
    assert verdicts(claims.from_scratch({"tanh": rises, "relu": rises})) == ("holds", "holds")
    little = made({("imbalanced", "random"): (5, 5.3), ("imbalanced", "flat"): (4, 6)}, 0.1)
    assert claims.from_scratch({"tanh": little})[0].verdict == "inconclusive"


def test_adam_on_made_up_numbers():
    sharp = {("imbalanced", "sharp"): (9, 8), ("balanced", "sharp"): (9, 6)}
    good = {("imbalanced", "flat"): (4, 6), ("balanced", "flat"): (4, 4.1)}
    same = {("imbalanced", "flat"): (4, 6), ("balanced", "flat"): (4, 6)}
    assert verdicts(claims.adam(made(good | sharp))) == ("holds", "fails")
    assert verdicts(claims.adam(made(same | sharp))) == ("fails", "fails")


def test_along_orbit_on_made_up_numbers():
    wide, flat = np.linspace(4, 8, 5), np.full(5, 4.0)
    for curves, wanted in (((wide, wide, flat), "holds"), ((wide, flat, flat), "fails")):
        values = np.stack(curves)[..., None, None] * np.ones((2, 3))
        data = xr.Dataset(
            {"lambda_max": (("orbit", "position", "copy", "seed"), values)}, coords={"orbit": ["stretch", "rescale", "rotate"]}
        )
        assert verdicts(claims.along_orbit(data)) == (wanted, "fails")


@pytest.mark.parametrize(("share", "wanted"), [((0.9, 0.8), "holds"), ((0.9, 0.2), "fails"), ((0.1, 0.9), "fails")])
def test_common_cause_on_made_up_numbers(share, wanted):
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
    pair = claims.common_cause(data)
    assert verdicts(pair) == (wanted, "fails")
    assert pair[0].measured == pytest.approx(min(share), abs=0.05)
