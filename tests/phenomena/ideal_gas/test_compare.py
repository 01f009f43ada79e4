"""What claims and figures compare: slopes, minima, exponents and the Maxwell relation, on data that are known exactly."""

import math

import numpy as np
import pytest
import xarray as xr
from phenomena.ideal_gas.made_up import DIMS, GRID, gas, grid

from thermolab import claims
from thermolab.phenomena.ideal_gas import compare, theory


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
    measured = claims.extreme(error)
    assert math.isnan(measured.value)
    assert claims.Check(measured.value, 0, 0.1, measured.error).verdict == "inconclusive"


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


def test_the_nonsense_entropy_knows_of_the_product_only():
    nonsense = compare.nonsense_entropy(grid({}, dim=576))
    square = {"eta": np.geomspace(0.01, 0.16, 5), "lam": np.geomspace(0.001, 0.016, 5)}  # equal products on antidiagonals
    found = compare.nonsense_entropy(xr.Dataset(coords=square, attrs={"dim": 576})).reshape(5, 5)
    np.testing.assert_allclose(found[1:, :-1], found[:-1, 1:])
    assert np.ptp(found) > 100
    assert np.ptp(nonsense) > 100
