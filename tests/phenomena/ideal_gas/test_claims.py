"""Claims and exercises of notebook 03 on data that theory itself has made, right or wrong on purpose."""

import math

import numpy as np
import pytest
import xarray as xr
from scipy import optimize

from thermolab import claims as register
from thermolab.phenomena.ideal_gas import claims, compare, exercises, network, published, theory

GRID = {"eta": np.geomspace(0.003, 0.1, 5), "lam": np.geomspace(0.001, 0.1, 5)}
DIMS = ("eta", "lam", "seed")


def noisy(values, scale, n_seeds=3, seed=0):
    """values [...] with Gaussian noise of a relative (or, as a second factor, absolute) scale, [..., seed]."""
    z = np.random.default_rng(seed).normal(size=(*np.shape(values), n_seeds))
    return np.asarray(values)[..., None] * (1 + scale * z)


def grid(variables, **attrs):
    return xr.Dataset(variables, coords={**GRID, "seed": np.arange(3)}, attrs=attrs)


def gas(protocol, dim=3, shift=0.0, scale=1e-4):
    """What `isotropic.stationary` would return if theory were exact and noise small."""
    state = theory.isotropic_state(protocol, GRID["eta"][:, None], GRID["lam"], dim, 1.0)
    state = {k: np.broadcast_to(v, (5, 5)) for k, v in state.items()}
    names = {"T": "T", "T_step": "T_step", "eta_eff": "eta_eff", "r_pred": "r", "p_pred": "p", "U_pred": "U", "S_pred": "S"}
    data = grid({k: (DIMS[:2], state[v]) for k, v in names.items()}, protocol=protocol, dim=dim, sigma=1.0)
    data["relaxed"] = (DIMS[:2], np.ones((5, 5), bool))
    for name, key in {"U": "U", "r": "r", "p": "p"}.items():
        data[name] = (DIMS, noisy(state[key], scale))
    data["S"] = (DIMS, state["S"][..., None] + shift + noisy(np.ones((5, 5)), scale) - 1)
    data["S_full"] = theory.full_entropy(data["S"], data["r"], dim)
    return data


def relaxing(protocol):
    time, eta, start = np.arange(1, 61) * 50, np.array([0.03, 0.1]), [0.5, 2.0]
    star = theory.radius(protocol, eta, 0.01, 3, 1.0)
    other = {"elr": "lr", "lr": "elr"}[protocol]
    laws = [
        theory.relaxation(p, time, (star[:, None] * start)[..., None], eta[:, None, None], 0.01, 2.0) for p in (protocol, other)
    ]
    dims = ("eta", "start", "time")
    return xr.Dataset({"r": ((*dims, "seed"), noisy(laws[0], 1e-4)), "r_pred": (dims, laws[0]), "r_other": (dims, laws[1])})


def hot():
    t = np.array([0.02, 0.2, 2.0])
    vmf = theory.energy_vmf(t, 10)
    return xr.Dataset(
        {"U": (("temperature", "seed"), noisy(vmf, 1e-4)), "U_vmf": ("temperature", vmf),
         "U_small": ("temperature", theory.energy_small_t(t, 10))}
    )  # fmt: skip


def reference():
    """A network whose noise falls with the rate, with a signal of a fifth and an entropy that hardly knows of T."""
    eta = np.array(network.RATES)
    trace = 40 * eta**-0.2
    dims = ("eta", "seed")
    t = eta * trace / (2 * 575)
    slow = np.isin(eta, network.SLOW)
    variables = {
        "trace": noisy(trace, 1e-3),
        "gradient_squared": noisy(0.2 * trace, 1e-3),
        "g2": noisy(1.2 * trace, 1e-3),
        "p": noisy(theory.finite_step_pressure(eta, 1.0, 1.2 * trace), 1e-3),
        "effective_dimension": noisy(50 + 0 * eta, 1e-3),
        "effective_dimension_isotropic": noisy(570 + 0 * eta, 1e-3),
        "S": noisy(2.5 * np.log(t), 1e-3),
        "drift": noisy(np.where(slow, 0.2, 1e-3), 1e-3),
    }
    return xr.Dataset({k: (dims, v) for k, v in variables.items()}, coords={"eta": eta, "seed": np.arange(3)}, attrs={"dim": 576})


def net(protocol, known):
    h, lam = np.meshgrid(GRID["eta"], GRID["lam"], indexing="ij")
    r, without = (network.predicted_radius(protocol, h, lam, known, name) for name in ("g2", "trace"))
    rate = h / r**2 if protocol == "lr" else h
    trace = network.second_moment(known, "trace")(rate)
    t = rate * trace / (2 * 575)
    data = grid({"r_pred": (DIMS[:2], r), "r_pred_without": (DIMS[:2], without), "T": (DIMS[:2], t)}, protocol=protocol, dim=576)
    data["relaxed"] = (DIMS[:2], np.ones((5, 5), bool))
    data["r"] = (DIMS, noisy(r, 1e-3))
    data["trace"] = (DIMS, noisy(trace, 1e-3))
    data["U"] = (DIMS, noisy(1 + 0 * t, 1e-3))
    data["S"] = (DIMS, noisy(2.5 * np.log(t), 1e-4))
    data["S_full"] = theory.full_entropy(data["S"], data["r"], 576)
    return data


def twin(known, dim=576, scale=1e-4):
    """What `network.gas` would return if theory were exact and noise small."""
    rates = network.settled(known)["eta"].values
    sigma = float(np.sqrt(network.settled(known)["trace"].mean() / (dim - 1)))
    cells = {k: np.geomspace(*limits) for k, limits in network.GRIDS["elr"].items()}  # at η = 0.1 this noise is near divergence
    shape = tuple(map(len, cells.values()))
    state = theory.isotropic_state("elr", cells["eta"][:, None], cells["lam"], dim, sigma)
    state = {k: np.broadcast_to(v, shape) for k, v in state.items()}
    data = xr.Dataset({k: (DIMS[:2], state[k]) for k in ("T", "p")}, coords=cells | {"seed": np.arange(3)})
    data = data.assign_attrs(protocol="elr", dim=dim, sigma=sigma)
    data["U"], data["r"] = (DIMS, noisy(state["U"], scale)), (DIMS, noisy(state["r"], scale))
    data["S"] = (DIMS, state["S"][..., None] + noisy(np.ones(shape), scale) - 1)
    data["S_full"] = theory.full_entropy(data["S"], data["r"], dim)
    data["diverged"] = (DIMS, np.zeros((*shape, 3)))
    cold = theory.entropy_vmf(rates / 2 / (dim - 1), dim)  # on the sphere Tr Σ = 1
    return data.assign_coords(rate=rates).assign(sphere_S=(("rate", "seed"), noisy(cold, scale)))


@pytest.fixture(scope="module")
def everything():
    known = reference()
    aniso = gas("elr", 10, shift=theory.anisotropic_entropy_shift(theory.power_spectrum(10, 2.0)))
    aniso["spectrum"] = ("coordinate", theory.power_spectrum(10, 2.0))
    return {
        "iso": {k: gas(k) for k in theory.PROTOCOLS},
        "relax": {k: relaxing(k) for k in ("elr", "lr")},
        "hot": hot(),
        "aniso": aniso,
        "reference": known,
        "net": {k: net(k, known) for k in ("elr", "lr")},
        "twin": twin(known),
    }


# --- what is compared -------------------------------------------------------------------------------------------------
def test_a_plane_is_recovered():
    data = grid({}, protocol="lr", dim=3)
    x, y = np.log(GRID["eta"])[:, None], np.log(GRID["lam"])
    data["S_full"] = (DIMS, np.stack([3 + a * x + b * y for a, b in ((2.0, -1.0), (0.5, 0.25), (0.0, 1.0))], -1))
    np.testing.assert_allclose(compare.plane(data), [[2.0, -1.0], [0.5, 0.25], [0.0, 1.0]], atol=1e-12)
    data["S_full"][1, 2, 0] = np.nan  # a lost cell is left out
    np.testing.assert_allclose(compare.plane(data)[0], [2.0, -1.0], atol=1e-12)
    assert compare.seeds_first(data["S_full"]).shape == (3, 25)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_too_few_cells_have_no_plane(n):
    data = grid({}, protocol="lr", dim=3)
    x, y = np.log(GRID["eta"])[:, None], np.log(GRID["lam"])
    data["S_full"] = (DIMS, np.repeat((2 * x - y)[..., None], 3, -1))
    data["S_full"][..., 0] = np.where(np.isin(np.arange(25), [0, 7, 23][:n]).reshape(5, 5), data["S_full"][..., 0], np.nan)
    found = compare.plane(data)
    assert np.isnan(found[0]).all()
    np.testing.assert_allclose(found[1:], [[2, -1]] * 2, atol=1e-12)  # the other seeds keep theirs


@pytest.mark.parametrize("n", [1, 6])
def test_too_few_cells_decide_no_maxwell_relation(n):
    data = grid({}, protocol="lr", dim=3)
    total = np.log(GRID["eta"])[:, None] + 0 * np.log(GRID["lam"])
    full = np.stack([total.ravel()] * 3)
    few = np.where(np.isin(np.arange(25), [0, 3, 7, 13, 19, 22][:n]), full, np.nan)
    error, r2 = compare.maxwell(data, few, 0 * full)
    assert np.isnan(error).all()
    assert np.isnan(r2).all()
    measured, spread = register.extreme(error)
    assert math.isnan(measured)
    assert register.Check(measured, 0, 0.1, spread).verdict == "inconclusive"


@pytest.mark.parametrize(("protocol", "slopes"), [("lr", (0.8, -0.2)), ("elr", (2.0, -1.0))])
def test_maxwell_is_exact_on_entropies_that_obey_it(protocol, slopes):
    """∂S/∂log η - ∂S/∂log λ = (D - 1)/2 with any quadratic form in log ηλ added; "elr": -∂S/∂log λ = (D - 1)/2."""
    data = grid({}, protocol=protocol, dim=3)
    x, y = (v.ravel() for v in np.meshgrid(np.log(GRID["eta"]), np.log(GRID["lam"]), indexing="ij"))
    extra = 0.1 * (x + y) ** 2 if protocol == "lr" else 0.1 * x**2
    total = (slopes[0] * x + slopes[1] * y + extra)[None]
    error, r2 = compare.maxwell(data, total, 0 * total)
    np.testing.assert_allclose(error, 0, atol=1e-10)
    np.testing.assert_allclose(r2, 1, atol=1e-12)
    off, _ = compare.maxwell(data, total - 0.1 * y, 0 * total)
    assert (off > 0.09).all()
    # (D - 1) log r is added, and a cell without entropy is left out
    split, _ = compare.maxwell(data, np.where(np.arange(25) == 7, np.nan, total - 2 * 0.3 * x), np.asarray([0.3 * x]))
    np.testing.assert_allclose(split, 0, atol=1e-10)


def exact_gas(dim):
    """Cells of a gas whose radius is r*: U, S_full, T, p, r [n]."""
    t, p = (v.ravel() for v in np.meshgrid(np.geomspace(0.01, 0.5, 6), np.geomspace(0.001, 0.1, 6)))
    r = np.sqrt(t * (dim - 1) / p)
    return theory.energy_vmf(t, dim), theory.full_entropy(theory.entropy_vmf(t, dim), r, dim), t, p, r


@pytest.mark.parametrize("dim", [3, 10])
def test_in_an_exact_gas_every_state_is_its_own_minimum(dim):
    u, s, t, p, r = exact_gas(dim)
    assert compare.own_minimum(u, s, t, p, r) == 1
    assert compare.own_minimum(u, s, 3 * t, p, r) < 0.5
    assert compare.own_minimum(u, s, t, 4 * p, r) < 0.5
    lost = np.where(np.arange(36) % 5 == 0, np.nan, u)
    assert compare.own_minimum(lost, s, t, p, r) == 1
    for name in ("u", "s", "r"):  # nothing left to compare
        cells = {"u": u, "s": s, "r": r} | {name: np.full(36, np.nan)}
        assert math.isnan(compare.own_minimum(cells["u"], cells["s"], t, p, cells["r"]))


@pytest.mark.parametrize("protocol", ["elr", "lr"])
@pytest.mark.parametrize("dim", [3, 10])
def test_own_minima_by_seed(protocol, dim):
    """A gas at the temperatures of the diagonal neighbours has its minimum elsewhere, under both protocols."""
    d = gas(protocol, dim)
    assert compare.own_minima(d, "T_step").tolist() == [1, 1, 1]
    assert (compare.own_minima(d, "T_step", swap=True) <= 0.04).all()  # one cell of 25
    d["U"][..., 1] = np.nan
    found = compare.own_minima(d, "T_step")
    assert found[[0, 2]].tolist() == [1, 1]
    assert math.isnan(found[1])


def test_idle_exponents():
    x, y = np.log(GRID["eta"])[:, None], np.log(GRID["lam"])
    data = grid({"trace": (DIMS, np.repeat(np.exp(0.3 * x - 0.1 * y)[..., None], 3, -1))})
    found = {k: compare.idle_exponent(data, k) for k in ("eta", "lam", "ratio")}
    np.testing.assert_allclose(found["eta"], 0.3, atol=1e-12)
    np.testing.assert_allclose(found["lam"], -0.1, atol=1e-12)
    np.testing.assert_allclose(found["ratio"], 0.2, atol=1e-12)


def test_settled_leaves_out_the_slow_rates(everything):
    d = network.settled(everything["reference"])
    assert set(d["eta"].values) == set(everything["reference"]["eta"].values) - set(network.SLOW)


def test_slope_of_the_entropy():
    t = np.array([0.01, 0.1, 1.0, 10.0])
    assert compare.entropy_slope(t, np.array([1.0, np.nan, 5.0, 7.0])) == pytest.approx(2 / math.log(10))
    assert math.isnan(compare.entropy_slope(t, np.array([1.0, np.nan, np.nan, np.nan])))


def test_rise_of_the_entropy_starts_where_every_seed_has_one():
    t = xr.DataArray([0.1, 0.2, 0.4, 0.8], dims="eta", coords={"eta": [1, 2, 3, 4]})
    s = xr.DataArray([[np.nan, 1.0], [2.0, 4.0], [5.0, 7.0], [np.nan, 9.0]], dims=("eta", "seed"), coords={"eta": [1, 2, 3, 4]})
    where, rise = compare.entropy_rise(t, s)
    assert where.values.tolist() == [0.2, 0.4]
    assert rise.values.tolist() == [[-1, 1], [2, 4]]


# --- verdicts ---------------------------------------------------------------------------------------------------------
def test_all_claims_are_decided_as_registered(everything):
    """On data that theory made each check holds or fails as registered, and each control the other way."""
    results = claims.decide(**everything, settings={"eta": 0.05}, seconds=18.0)
    assert [r.claim.id for r in results] == list(register.section("03_ideal_gas"))
    for r in results:
        assert {r.check.verdict, r.control.verdict} == {"holds", "fails"}, (r.claim.id, r.check, r.control)
        assert r.agrees, (r.claim.id, r.check)
        assert r.check.tolerance == r.control.tolerance
        assert r.control_name
        assert r.n_seeds == 3
        assert r.as_dict()["settings"] == {"eta": 0.05}
    assert sum(r.seconds for r in results) >= 18.0


SPOILT = {
    "iso.energy": lambda d: d["iso"]["lr"].update({"U": 1.06 * d["iso"]["lr"]["U"]}),
    "iso.entropy": lambda d: d["iso"]["sphere"].update({"S": 0.15 + d["iso"]["sphere"]["S"]}),
    "iso.radius": lambda d: d["iso"]["elr"].update({"r": 1.02 * d["iso"]["elr"]["r"]}),
    "iso.pressure": lambda d: d["iso"]["sphere"].update({"p": 1.05 * d["iso"]["sphere"]["p"]}),
    "iso.slopes": lambda d: d["iso"]["lr"].update({"S_full": d["iso"]["lr"]["S_full"] + 0.08 * np.log(d["iso"]["lr"]["lam"])}),
    "iso.gibbs": lambda d: d["iso"]["lr"].update({"T_step": 3 * d["iso"]["lr"]["T_step"]}),
    "iso.vmf": lambda d: d["hot"].update({"U": 0.95 * d["hot"]["U"]}),
    "iso.relaxation": lambda d: d["relax"]["lr"].update({"r": 1.07 * d["relax"]["lr"]["r"]}),
    "iso.anisotropic": lambda d: d["aniso"].update({"S": d["aniso"]["S"] - 0.6}),
    "net.radius": lambda d: d["net"]["lr"].update({"r": 0.94 * d["net"]["lr"]["r"]}),
    "net.pressure": lambda d: d["reference"].update({"p": 1.06 * d["reference"]["p"]}),
    "net.sigma": lambda d: d["net"]["elr"].update({"trace": d["net"]["elr"]["trace"] * d["net"]["elr"]["lam"] ** 0.1}),
    "net.maxwell": lambda d: d["net"]["lr"].update({"r": d["net"]["lr"]["r"] ** 1.3}),
}


@pytest.mark.parametrize("name", SPOILT)
def test_spoilt_data_do_not_hold(everything, name):
    spoilt = {
        k: {p: d.copy(deep=True) for p, d in v.items()} if isinstance(v, dict) else v.copy(deep=True)
        for k, v in everything.items()
    }
    SPOILT[name](spoilt)
    verdicts = {r.claim.id: r.check.verdict for r in claims.decide(**spoilt)}
    assert verdicts[f"ideal-gas.{name}"] == "fails"


def test_a_radius_still_on_its_way_is_left_out(everything):
    late = {k: d.copy(deep=True) for k, d in everything["iso"].items()}
    late["elr"]["r"][0, 0] *= 1.5
    assert claims.iso_radius(late)[0].verdict == "fails"
    late["elr"]["relaxed"][0, 0] = False
    assert claims.iso_radius(late)[0].verdict == "holds"
    late["elr"]["relaxed"][:], late["lr"]["relaxed"][:] = False, False
    assert claims.iso_radius(late)[0].verdict == "inconclusive"


SPOILT_TWINS = {
    "net.entropy": lambda d: d.update({"sphere_S": 1.3 * d["sphere_S"]}),
    "net.gibbs": lambda d: d.update({"T": 3 * d["T"]}),
}


@pytest.mark.parametrize("name", SPOILT_TWINS)
def test_a_gas_that_is_not_perfect_leaves_the_claim_undecided(everything, name):
    spoilt = everything["twin"].copy(deep=True)
    SPOILT_TWINS[name](spoilt)
    before, after = (
        {r.claim.id: r for r in claims.decide(**everything | {"twin": t})}[f"ideal-gas.{name}"]
        for t in (everything["twin"], spoilt)
    )
    assert (before.verdict, before.control.verdict) == ("fails", "holds")
    assert (after.verdict, after.control.verdict) == ("inconclusive", "fails")
    assert after.check == before.check


def test_a_network_like_the_gas_would_have_its_entropy_and_minima(everything):
    """The checks that fail on the network hold on data of a perfect gas: they can come out either way."""
    known, perfect = everything["reference"].copy(deep=True), everything["twin"]
    known["S"] = (("eta", "seed"), noisy(287.5 * np.log(known["eta"] * known["trace"].mean("seed")), 1e-4))
    assert claims.net_entropy(known, perfect)[0].verdict == "holds"
    assert claims.net_gibbs({"elr": perfect}, perfect)[0].verdict == "holds"


def test_a_network_without_entropies_decides_nothing(everything):
    known = everything["reference"].copy(deep=True)
    known["S"][:] = np.nan
    check, _, control = claims.net_entropy(known, everything["twin"])
    assert (check.verdict, control.verdict) == ("inconclusive", "holds")
    lost = everything["net"]["elr"].assign(S_full=everything["net"]["elr"]["S_full"] * np.nan)
    check, _, control = claims.net_gibbs({"elr": lost}, everything["twin"])
    assert (check.verdict, control.verdict) == ("inconclusive", "holds")


def test_the_nonsense_entropy_knows_of_the_product_only(everything):
    nonsense = compare.nonsense_entropy(everything["net"]["lr"]).reshape(5, 5)
    square = {"eta": np.geomspace(0.01, 0.16, 5), "lam": np.geomspace(0.001, 0.016, 5)}  # equal products on antidiagonals
    found = compare.nonsense_entropy(xr.Dataset(coords=square, attrs={"dim": 576})).reshape(5, 5)
    np.testing.assert_allclose(found[1:, :-1], found[:-1, 1:])
    assert np.ptp(found) > 100
    assert np.ptp(nonsense) > 100


def test_the_tautology_does_not_see_the_entropy(everything):
    """Any entropy passes the Maxwell relation: only the radius is tested."""
    d = everything["net"]
    nonsense = {"lr": d["lr"].assign(S=d["lr"]["S"] * 0 + 5)}
    check, _, _ = claims.net_tautology(nonsense)
    assert check == claims.net_tautology(d)[0]
    assert check.verdict == "holds"


def test_traces_keep_every_grid(everything):
    d = everything
    point = d["iso"]["lr"].isel(eta=[1], lam=[1])
    out = claims.traces(d["iso"], point, d["reference"], d["net"])
    assert out["iso_elr_U"].dims == ("iso_elr_eta", "iso_elr_lam", "iso_elr_seed")
    np.testing.assert_array_equal(out["net_lr_S_full"], d["net"]["lr"]["S_full"])
    np.testing.assert_array_equal(out["U"], point["U"].values.ravel())
    assert out.attrs["point_eta"] == GRID["eta"][1]


def test_published_numbers_stand_beside_ours(everything):
    assert "−0.9989" in published.table(everything["iso"], everything["net"]).to_html().replace("-", "−")
    ours = published.measured(everything["iso"], everything["net"])
    assert ours["slope.elr.lam"][0] == pytest.approx(-1, abs=0.01)
    assert ours["slope.lr.eta"][0] == pytest.approx(1, abs=0.01)
    assert {"maxwell.lr", "maxwell.elr", "r2.lr", "r2.elr"} <= set(ours)
    assert published.measured({"elr": gas("elr", 4)}, {}) == {}  # theirs are at D = 3


# --- exercises --------------------------------------------------------------------------------------------------------
# T = η σ²/2, r ~ λ^(-1/2), and an energy that does not know of λ
PREDICTIONS = (0.015, 0.31623, 1.0)


def test_predictions_right():
    answer = exercises.check_predictions(*PREDICTIONS)
    assert answer
    assert repr(answer).startswith("✓")
    assert exercises.check_predictions(0.0151, 0.32, 1)


@pytest.mark.parametrize(("k", "name"), [(0, "T"), (1, "the radius factor"), (2, "the energy factor")])
@pytest.mark.parametrize("factor", [1.04, 0.96, 10, 0, -1, math.nan, math.inf])
def test_predictions_wrong(k, name, factor):
    answer = exercises.check_predictions(*(factor * x if i == k else x for i, x in enumerate(PREDICTIONS)))
    assert not answer
    assert repr(answer) == f"✗ look again at {name}"  # which one, and no number


@pytest.mark.parametrize("missing", [(0,), (1,), (2,), (0, 1, 2)])
def test_predictions_not_written_down(missing):
    answer = exercises.check_predictions(*(None if i in missing else x for i, x in enumerate(PREDICTIONS)))
    assert not answer
    assert "not written down" in answer.message


def test_exercise_1_right():
    answer = exercises.check_radius_factors(0.5, 1 / math.sqrt(2))
    assert answer
    assert repr(answer).startswith("✓")


@pytest.mark.parametrize(
    "wrong",
    [(None, 0.707), (0.5, None), (0.707, 0.5), (0.5, 0.5), (2.0, 1.41), (0.25, 0.707), (0.5, 0.69), (math.nan, 0.707),
     (0.5, math.nan), (math.inf, 0.707), (0, 0), (-0.5, 0.707)],
)  # fmt: skip
def test_exercise_1_wrong(wrong):
    answer = exercises.check_radius_factors(*wrong)
    assert not answer
    assert repr(answer).startswith("✗")
    assert "0.5" not in answer.message.replace("0.5 is not", "")  # no answer given away
    assert "0.707" not in answer.message.replace("0.707 is not", "")


def test_exercise_2_right():
    """T = √(ηλσ²/(2(D - 1))) = 5e-3 at η = 0.05: λ = 4 T²/η."""
    assert exercises.check_temperature(4 * 5e-3**2 / 0.05)


@pytest.mark.parametrize(
    "wrong", [None, math.nan, math.inf, 0, -0.002, 0.2, 4 * 5e-3**2 / 0.05 * 1.2, 4 * 5e-3**2 / 0.05 * 0.8, 0.01]
)
def test_exercise_2_wrong(wrong):
    assert not exercises.check_temperature(wrong)


def right_spectrum():
    a = optimize.brentq(lambda a: theory.anisotropic_entropy_shift(theory.power_spectrum(10, a)) + 2, 0.1, 3)
    return theory.power_spectrum(10, a)


def test_exercise_3_right():
    s = right_spectrum()
    assert exercises.check_spectrum(s)
    assert exercises.check_spectrum(list(s[::-1]))


@pytest.mark.parametrize(
    "wrong",
    [None, [], 1.0, np.ones(9), np.ones(10), 2 * right_spectrum(), right_spectrum()[:8], -right_spectrum(),
     theory.power_spectrum(10, 0.5), theory.power_spectrum(10, 3.0), np.full(9, np.nan), [*np.ones(8), math.inf], np.zeros(9)],
)  # fmt: skip
def test_exercise_3_wrong(wrong):
    answer = exercises.check_spectrum(wrong)
    assert not answer
    assert answer.message
