"""The symmetry table of notebook 00, the Noether identity, orbits and weight decay, and the claims decided from them."""

import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr
from claimed import FAILS, HOLDS, verdicts

from thermolab.phenomena.irreversibility import symmetry_recipes as recipes
from thermolab.phenomena.irreversibility.symmetries import EXPONENTIAL, STATES, TABLE, Symmetry

# f depends on the mean of u and w alone
ENSEMBLE = Symmetry(
    "ensemble",
    loss=lambda w, x, y: ((w["u"] + w["w"]) @ x / 2 - y[0]) ** 2,
    weights={"u": (6,), "w": (6,)},
    action=lambda w, s: {"u": w["w"], "w": w["u"]},
    discrete=True,
    asymmetry=lambda w: (w["u"] - w["w"]).norm(),
)
UNSEEN = ["translation", "shear, low-rank inputs"]  # not compact, and neither loss nor gradients see them


def drawn(row, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x, y = row.data(generator)
    return row.start(generator), x, y, generator


# --- the rows -----------------------------------------------------------------------------------------------------------
def test_gradients_are_those_of_a_loop():
    row = TABLE["attention, GL"]
    theta, x, y, _ = drawn(row)
    found = row.gradients(theta, x, y)
    for k in (0, 63):
        w = theta.clone().requires_grad_()
        q, key, tokens = w[:6].reshape(2, 3), w[6:].reshape(2, 3), x[k].reshape(3, 2)
        f = (torch.softmax(tokens @ q @ key.T @ tokens.T, -1) @ tokens).sum(1)
        (slope,) = torch.autograd.grad((f - y[k]).square().sum(), w)
        torch.testing.assert_close(found[k], slope)
    assert float(row.entropy(theta, x, y)) == pytest.approx(float((found**2).sum() / 64))


def test_generators_are_those_of_the_actions():
    start = {name: drawn(row)[0] for name, row in TABLE.items()}
    rescaling = TABLE["rescaling"].generator(start["rescaling"])
    torch.testing.assert_close(rescaling, torch.diag(torch.tensor([1.0] * 9 + [-1.0] * 18, dtype=torch.float64)))
    turn = TABLE["rotation"].generator(start["rotation"])
    torch.testing.assert_close(turn, -turn.T)
    for name in ("double rotation, positive", "attention, GL"):
        a, theta = TABLE[name].generator(start[name]), start[name]
        torch.testing.assert_close(torch.linalg.matrix_exp(0.7 * a) @ theta, TABLE[name].moved(theta, 0.7))
    assert not TABLE["permutation"].generator(start["permutation"]).any()
    assert {row.name for row in EXPONENTIAL} == {name for name, row in TABLE.items() if row.is_exponential(start[name])}


def test_the_table_tells_which_symmetries_F_keeps():
    found = recipes.table.run(n_seeds=2)
    assert found["L_error"].dims == ("row", "seed", "s")
    assert set(found["row"].values) == set(recipes.KEPT) | set(recipes.LOST) | set(UNSEEN)
    assert (found["L_error"] < 1e-12).all()
    assert (found["random_L_error"] > 0.1).all()
    rows = {name: found.sel(row=name) for name in TABLE}
    for name in (*UNSEEN, *recipes.KEPT):
        np.testing.assert_allclose(rows[name]["S_ratio"], 1, rtol=1e-12)
    np.testing.assert_allclose(rows["scaling"]["S_ratio"], [[0.25, 4]] * 2, rtol=1e-12)
    for number in range(2):
        theta, x, y, _ = drawn(TABLE["rescaling"], number)
        u, w = (TABLE["rescaling"].gradients(theta, x, y)[:, part].square().sum() for part in (slice(9), slice(9, 27)))
        expected = [float((u / 4 + w * 4) / (u + w)), float((u * 4 + w / 4) / (u + w))]
        np.testing.assert_allclose(rows["rescaling"]["S_ratio"][number], expected, rtol=1e-12)
    assert {n for n, r in rows.items() if r["exponential"]} == set(recipes.LOST)
    assert {n for n, r in rows.items() if not r["compact"]} == {*UNSEEN, *recipes.LOST}
    assert {n for n, r in rows.items() if not r["has_state"]} == {*UNSEEN, "scaling", "attention, GL"}
    for name in recipes.KEPT:
        np.testing.assert_allclose(rows[name]["norm_ratio"], 1, rtol=1e-12)
    np.testing.assert_allclose(rows["scaling"]["norm_ratio"], [[2, 0.5]] * 2, rtol=1e-12)
    one = recipes.table.run(n_seeds=1)
    np.testing.assert_array_equal(one["S_ratio"], found["S_ratio"][:, :1])


def test_a_shear_is_linear_but_no_exponential_of_a_symmetric_matrix():
    """The counterexample to "F has no linear non-compact symmetry": e^(sA) = 1 + sA of a nilpotent A."""
    row = TABLE["shear, low-rank inputs"]
    theta, x, y, _ = drawn(row)
    a = row.generator(theta)
    assert a.any()
    assert not (a @ a).any()
    torch.testing.assert_close(row.moved(theta, 3.0), torch.linalg.matrix_exp(3 * a) @ theta)
    torch.testing.assert_close(row.losses(row.moved(theta, 3.0), x, y), row.losses(theta, x, y))
    assert not row.is_exponential(theta)
    assert not row.is_compact(theta)


def test_rows_of_your_own_are_measured():
    # shifts along what no input shows, which is the other translation of the source; and one that does change the loss
    flat = {"loss": lambda w, x, y: (w["w"][:2] @ x[:2] - y[0]) ** 2, "weights": {"w": (3,)}}
    blind, wrong = torch.tensor([0.0, 0, 1], dtype=torch.float64), torch.tensor([0.1, 0, 0], dtype=torch.float64)
    rows = [Symmetry(name, **flat, action=lambda w, s, z=z: {"w": w["w"] + s * z}) for name, z in
            (("blind", blind), ("wrong", wrong))]  # fmt: skip
    found = recipes.table.run([*rows, TABLE["scaling"], ENSEMBLE], n_seeds=2)
    assert list(found["row"].values) == ["blind", "wrong", "scaling", "ensemble"]
    assert (found["L_error"].max(("seed", "s")) < 1e-12).values.tolist() == [True, False, True, True]
    assert found["compact"].values.tolist() == [False, False, False, True]
    assert found["exponential"].values.tolist() == [False, False, True, False]
    np.testing.assert_array_equal(found["S_ratio"].sel(row="scaling"), recipes.table.run(n_seeds=2)["S_ratio"].sel(row="scaling"))


# --- Noether, orbits, weight decay --------------------------------------------------------------------------------------
def test_noether_against_a_loop_by_hand():
    found = recipes.noether.run(eta=0.03, batch_size=2, steps=20, n_seeds=2)
    assert (found["error"].max("step") < 1e-9).all()
    assert (found["random_error"].max("step") > 1).all()
    assert np.allclose(found["charge"], found["predicted"], atol=1e-12)
    assert not np.allclose(found["random_charge"], found["random_predicted"], atol=1e-3)
    theta, x, y, generator = drawn(TABLE["rescaling"])
    u, w = theta[:9].reshape(3, 3).numpy().copy(), theta[9:].reshape(3, 6).numpy().copy()
    predicted = (u**2).sum() - (w**2).sum()
    for batch in torch.randint(64, (20, 2), generator=generator):
        gu, gw = np.zeros_like(u), np.zeros_like(w)
        for k in batch:
            h = np.maximum(w @ x[k].numpy(), 0)
            d = 2 * (u @ h - y[k].numpy()) / 2
            gu += np.outer(d, h)
            gw += np.outer((u.T @ d) * (h > 0), x[k].numpy())
        u, w = u - 0.03 * gu, w - 0.03 * gw
        predicted += 0.03**2 * ((gu**2).sum() - (gw**2).sum())
    found = found.sel(row="rescaling").isel(seed=0, step=-1)
    assert float(found["charge"]) == pytest.approx((u**2).sum() - (w**2).sum(), rel=1e-9)
    assert float(found["predicted"]) == pytest.approx(predicted, rel=1e-9)


def test_F_along_an_orbit_is_a_sum_of_exponentials():
    found = recipes.orbit.run(eta=0.2, n_seeds=2, points=801)
    np.testing.assert_allclose(found["F"], found["F_predicted"], rtol=1e-10)
    assert (np.ptp(found["L"].values, axis=-1) < 1e-11).all()
    assert found["both_signs"].values.tolist() == [False, True, True, True]
    assert (found["F"].sel(row="scaling").diff("s") < 0).all()  # a runaway
    theta, x, y, _ = drawn(TABLE["rescaling"])
    g = TABLE["rescaling"].gradients(theta, x, y).square().mean(0)
    best = math.log(g[:9].sum() / g[9:].sum()) / 4
    curve = found["F"].sel(row="rescaling").isel(seed=0)
    assert float(curve["s"][curve.argmin("s")]) == pytest.approx(best, abs=0.006)
    here = float(curve.sel(s=0) - found["L"].sel(row="rescaling", s=0)[0])
    assert here == pytest.approx(0.05 * float(g.sum()))


def test_weight_decay_of_what_the_loss_does_not_see():
    found = recipes.decayed.run([ENSEMBLE], (0, 0.5), eta=0.02, steps=50, n_seeds=2)
    for number in range(2):
        theta = drawn(ENSEMBLE, number)[0]
        apart = float((theta[:6] - theta[6:]).norm())
        expected = [apart, apart * (1 - 0.01) ** 50]
        np.testing.assert_allclose(found["asymmetry"][0, number], expected, rtol=1e-10)
    assert (found["learned"].sel(lam=0) == 1).all()
    assert (found["learned"].sel(lam=0.5) < 1).all()
    one = recipes.decayed.run([ENSEMBLE], (0, 0.5), eta=0.02, steps=50, n_seeds=1)
    np.testing.assert_allclose(one["L"], found["L"][:, :1], rtol=1e-12)
    lost = recipes.decayed.run([ENSEMBLE], (0, 0.5), eta=10, steps=2000, n_seeds=1)
    assert np.isnan(lost["asymmetry"]).all()


def test_distances_from_symmetric_states():
    for row in STATES:
        w = row.named(drawn(row)[0])
        assert row.asymmetry(w) > 0
        assert row.asymmetry({name: 3 * value for name, value in w.items()}) == pytest.approx(float(row.asymmetry(w)))
    pair = {"U": torch.tensor([[1.0, -1]]), "W": torch.tensor([[2.0, 3], [-2, -3]])}
    assert TABLE["permutation"].asymmetry(pair) == 0
    assert TABLE["sign flip"].asymmetry(pair) == pytest.approx(math.sqrt(0.5))
    assert TABLE["sign flip"].asymmetry({"U": torch.tensor([[1.0, 0]]), "W": torch.tensor([[2.0], [0]])}) == 0
    ones = torch.ones(3, 3)
    assert TABLE["rescaling"].asymmetry({"U": ones, "W": ones}) == 0
    assert TABLE["rescaling"].asymmetry({"U": 2 * ones, "W": ones}) == pytest.approx(0.6)
    assert TABLE["rotation"].asymmetry({"W": torch.diag(torch.tensor([4.0, 2, 1]))}) == pytest.approx(0.25)


# --- claims -------------------------------------------------------------------------------------------------------------
def hand_made(**rows):
    """A table: S_ratio [row, seed, s] from the pair of each row."""
    names = ["translation", *recipes.KEPT, *recipes.LOST]
    ratio = np.array([[rows.get(n.split(",")[0].replace(" ", "_"), [1.0, 1.0])] * 3 for n in names])
    lost = [n in recipes.LOST for n in names]
    return xr.Dataset(
        {"S_ratio": (("row", "seed", "s"), ratio), "L_error": (("row", "seed", "s"), np.full_like(ratio, 1e-15)),
         "random_L_error": (("row", "seed"), np.ones((9, 3))), "random_S_ratio": (("row", "seed"), np.full((9, 3), 2.0)),
         "norm_ratio": (("row", "seed", "s"), np.array([[[2.0 if n in recipes.LOST else 1.0, 1.0]] * 3 for n in names])),
         "exponential": ("row", lost), "compact": ("row", [n in recipes.KEPT for n in names])},
        coords={"row": names},
    )  # fmt: skip


BROKEN = {"scaling": [0.25, 4], "rescaling": [0.9, 3], "attention": [2, 1.0]}


def test_the_claims_of_the_table():
    good = hand_made(**BROKEN)
    good["S_ratio"].loc[{"row": "double rotation, positive"}] = 1.5
    assert verdicts(recipes.symmetry_table(good)) == HOLDS
    assert verdicts(recipes.no_noncompact(good)) == FAILS
    good["S_ratio"].loc[{"row": "translation"}] = 1.5
    assert verdicts(recipes.no_noncompact(good))[0] == "holds"
    kept = good.copy(deep=True)
    kept["S_ratio"].loc[{"row": "attention, GL"}] = 1.01
    assert verdicts(recipes.symmetry_table(kept))[0] == "fails"
    assert verdicts(recipes.no_noncompact(kept))[1] == "fails"
    for name, row, value in (("S_ratio", "rotation", 1.001), ("L_error", "translation", 1e-9)):
        bad = good.copy(deep=True)
        bad[name].loc[{"row": row}] = value
        assert verdicts(recipes.symmetry_table(bad))[0] == "fails"
    unsure = good.copy(deep=True)
    unsure["S_ratio"].loc[{"row": "attention, GL"}] = np.array([[1.001, 1], [1.6, 1], [2.2, 1]])
    assert verdicts(recipes.no_noncompact(unsure))[0] == "inconclusive"


def test_only_what_F_keeps_must_keep_the_norm():
    table = hand_made(**BROKEN)
    table["S_ratio"].loc[{"row": "double rotation, positive"}] = 1.5
    assert verdicts(recipes.norm_preserving(table)) == ("holds", "holds")  # the broken ones do not count
    table["norm_ratio"].loc[{"row": "translation"}] = 1.1
    assert verdicts(recipes.norm_preserving(table)) == FAILS
    table["norm_ratio"].loc[{"row": "rotation"}] = 1.1
    assert verdicts(recipes.norm_preserving(table)) == ("fails", "fails")


def test_the_claim_of_noether():
    error = xr.DataArray(np.full((4, 3, 5), 1e-12), dims=("row", "seed", "step"))
    random = 10 + 0 * error
    assert verdicts(recipes.noether_identity(xr.Dataset({"error": error, "random_error": random}))) == HOLDS
    error[0, :, 2] = 1e-6
    assert verdicts(recipes.noether_identity(xr.Dataset({"error": error, "random_error": random})))[0] == "fails"
    error[0, :, 2] = [1e-12, 1e-9, 1e-6]
    assert verdicts(recipes.noether_identity(xr.Dataset({"error": error, "random_error": random})))[0] == "inconclusive"


def test_the_claim_of_the_orbits():
    s = np.linspace(-2, 2, 21)
    wave, bowl = 1 + np.cos(3 * s), 3 + s**2
    curves = {"runaway": np.exp(-s), "bowl": bowl, "flat": 1 + 1e-15 * np.cos(40 * s), "wave": wave}
    found = recipes.minima(xr.Dataset({k: ("s", v) for k, v in curves.items()}).to_dataarray())
    assert found.values.tolist() == [0, 1, 0, 2]

    def decided(*lines, both, claim=recipes.unique_orbit_minimum):
        f = np.stack([[line] * 3 for line in lines])
        orbit = xr.Dataset({"F": (("row", "seed", "s"), f), "both_signs": ("row", both)})
        return verdicts(claim(orbit))

    assert decided(np.exp(-s), bowl, both=[False, True]) == ("holds", "fails")
    assert decided(bowl, bowl, both=[False, True]) == ("holds", "holds")
    assert decided(np.exp(-s), bowl, wave, both=[False, True, True]) == ("fails", "fails")
    every = recipes.every_orbit_has_one_minimum
    assert decided(np.exp(-s), bowl, both=[False, True], claim=every) == FAILS
    assert decided(bowl, bowl, both=[False, True], claim=every) == ("holds", "holds")
    assert decided(bowl, wave, both=[False, True], claim=every) == ("fails", "fails")


def test_the_claim_of_the_symmetric_states():
    names = [row.name for row in STATES]

    def decayed(**far):
        asymmetry = np.array([[far.get(n.replace(" ", "_"), [0.4, 0.01, 0.0])] * 3 for n in names])
        learned = np.broadcast_to([1, 0.9, 0.1], asymmetry.shape)
        dims = ("row", "seed", "lam")
        return xr.Dataset({"asymmetry": (dims, asymmetry), "learned": (dims, learned)}, {"row": names, "lam": [0, 0.1, 1]})

    assert verdicts(recipes.symmetric_state(decayed())) == ("holds", "holds")
    assert verdicts(recipes.symmetric_state(decayed(sign_flip=[0.4, 0.5, 0]))) == FAILS  # λ = 1, where nothing is learned
    # not 1, at λ = 0
    assert recipes.left(decayed(sign_flip=[0.4, 0.5, 0]).sel(row="sign flip"))[0] == pytest.approx(1.25)
    assert verdicts(recipes.symmetric_state(decayed(rotation=[0.4, 0.1, 0]))) == ("fails", "fails")
    unsure = decayed()
    unsure["asymmetry"].loc[{"row": "permutation", "lam": 0.1}] = [0, 0.02, 0.1]
    assert verdicts(recipes.symmetric_state(unsure))[0] == "inconclusive"


# --- what is not allowed ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("recipe", "settings", "words"),
    [
        ("table", {"rows": []}, "rows=[] is no table; allowed: one Symmetry or more"),
        ("table", {"rows": ["scaling"]}, "rows=['scaling'] is no table; allowed: one Symmetry or more"),
        ("table", {"rows": [ENSEMBLE, ENSEMBLE]}, "allowed: one Symmetry or more, each with a name of its own"),
        ("table", {"n_seeds": 0}, "n_seeds=0 is out of range; allowed: a whole number from 1"),
        (
            "noether",
            {"rows": [ENSEMBLE]},
            "rows=[Symmetry('ensemble')] has a row of another kind; allowed: one Symmetry or more of the form",
        ),
        ("noether", {"eta": -1}, "eta=-1 is not positive and finite; allowed: a positive number"),
        ("noether", {"batch_size": 0}, "batch_size=0 is out of range; allowed: a whole number, 1 or more"),
        ("noether", {"steps": 0}, "steps=0 is out of range; allowed: a whole number, 1 or more"),
        ("orbit", {"rows": [TABLE["rotation"]]}, "allowed: one Symmetry or more of the form e^(sA) with a symmetric A"),
        ("orbit", {"points": 2}, "points=2 is out of range; allowed: a whole number, 3 or more"),
        (
            "decayed",
            {"rows": [TABLE["scaling"]]},
            "rows=[Symmetry('scaling')] has a row of another kind; allowed: one Symmetry or more with an asymmetry",
        ),
        ("decayed", {"lams": (0.1, 0.2)}, "lams=[0.1, 0.2] is no such list; allowed: 0, then positive numbers"),
        ("decayed", {"lams": ()}, "lams=() has a length that is out of range; allowed: a list of 1 or more"),
        ("decayed", {"eta": math.inf}, "eta=inf is not positive and finite; allowed: a positive number"),
    ],
)
def test_recipes_refuse_rows_and_settings(recipe, settings, words):
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        getattr(recipes, recipe).run(**settings)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"loss": lambda w, x, y: w["u"] @ x - y}, "has a loss of shape (3,) in row 'ensemble'; allowed: "),
        ({"action": lambda w, s: {"v": w["u"]}}, "has an action that makes {'v': (6,)} of weights"),
        ({"action": lambda w, s: {"u": w["u"][:2]}}, "has an action that makes {'u': (2,)} of weights"),
    ],
)
def test_a_row_with_a_mistake_is_refused(change, words):
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        recipes.table.run([replace(ENSEMBLE, **change)])
    assert words in str(error.value)


def test_rows_of_the_table_go_to_other_processes_by_name():
    assert pickle.loads(pickle.dumps(TABLE["rescaling"])) is TABLE["rescaling"]
    for own in (ENSEMBLE, replace(TABLE["rescaling"])):
        with pytest.raises(pickle.PicklingError, match=f"row '{own.name}' is none of the table"):
            pickle.dumps(own)
