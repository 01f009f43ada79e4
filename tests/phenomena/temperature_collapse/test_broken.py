"""Each claim's physics broken once: theory, an estimator or what was measured; its verdict must change.

The toys are measured, small, and their claims decided from that. Of the networks, smoke decides too little: their claims get data
on which each comes out as registered (`made_up`), with one law of them broken; what is in a recipe is broken there.
"""

import numpy as np
import pytest
import xarray as xr
from phenomena.temperature_collapse import made_up

from thermolab import claims
from thermolab.phenomena.temperature_collapse import curves, falling, ordinary, plateau, theory, toy, training

SETTLING = {"rates": (0.8, 1.6, 3.2), "width": 6, "burn_in": 300, "window": 600, "samples": 12, "moments": 30, "n_seeds": 2}


@pytest.fixture(scope="module")
def measured():
    """The toys, which are small, and networks made up."""
    return made_up.networks_as_registered() | {
        "toy": toy.stationary.run(eta=(0.02, 0.04, 0.08), replicas=256, snapshots=32),
        "toy_two": falling.converging.run(**made_up.FAST),
        "toy_three": falling.converging.run(theory.UNDER, **made_up.FAST),
    }


def spoilt(found, dataset, name, change):
    """The datasets with one array changed, in one of them or in all of a group."""
    part = found[dataset]
    if isinstance(part, dict):
        return found | {dataset: {k: d.assign({name: change(d[name])}) for k, d in part.items()}}
    return found | {dataset: part.assign({name: change(part[name])})}


def only(dim, value, factor):
    """Multiplies by a factor at one place of a dimension."""
    return lambda v: v.where(v[dim] != value, factor * v)


ARRAYS = [  # claim, the dataset, its array, how it is broken, what the check becomes
    ("toy-up.temperature", "toy", "T_pred", lambda t: 1.2 * t, "fails"),
    ("toy-up.snr", "toy", "snr", lambda s: s * s["eta"] ** 0.1, "fails"),
    ("toy-op.critical", "toy_two", "lyapunov_pred", lambda v: 3 * v, "fails"),
    ("toy-op.power-law", "toy_two", "power", lambda p: p + 0.1, "fails"),
    ("up.monotone", "up", "U", lambda u: 0 * u - 1 / u["eta"], "fails"),
    ("up.minimum", "up", "U", lambda u: 0 * u - 1 / u["eta"], "fails"),
    ("up.convex", "up", "U", lambda u: 0 * u - 1 / u["eta"], "fails"),
    ("up.snr.batchnorm", "up", "snr", lambda s: s * s["eta"] ** -0.5, "fails"),
    ("up.snr.layernorm", "layer", "snr", lambda s: s * s["eta"] ** 0.5, "holds"),
    ("op.collapse", "op_run", "T_gas", lambda t: t**0.3, "fails"),
    ("op.loss-zero", "op_run", "U", lambda u: u + 0.3, "fails"),
    ("two-temperatures", "up", "T_gas", lambda t: 4 * t, "fails"),
    ("momentum", "momentum", "U", lambda u: 1.3 * u, "fails"),
    ("adam", "adam", "U", lambda u: 0 * u - 1 / u["eta"], "fails"),
    ("plateau.temperature", "plateau", "S", lambda s: s + 0.3, "fails"),
    ("plateau.early-warning", "plateau", "S_exit", lambda w: w - 3, "holds"),
    ("width", "widths", "accuracy", lambda a: 0.99 * a, "inconclusive"),
    ("width.fall", "widths", "T_gas", lambda t: t**0.3, "fails"),
    ("standard-net", "ordinary", "U", lambda u: 0 * u - 1 / u["eta"], "fails"),
    ("standard-net.pairs", "ordinary", "U", lambda u: 3 - 1e-3 / u["eta"] + 0 * u, "fails"),
    ("standard-net.one-temperature", "ordinary", "T_layer", lambda t: t.isel(layer=0) + 0 * t, "holds"),
    ("standard-net.stationarity", "ordinary", "balance", lambda b: 1.2 * b, "fails"),
    ("architectures", "convnets", "T_gas", only("arm", "wide", xr.DataArray([500.0, 1.0], dims="eta")), "fails"),
    ("architectures.up", "convnets", "T_gas", lambda t: 1 / t, "fails"),
]
GROUPS = {  # whole datasets that take the place of those: the claim, the dataset, what it becomes
    "op.decay": ("op_run", lambda d: d.assign(S=d["U"]), "fails"),
    "op.power-law": ("op_run", lambda d: d.assign(g2=4 * d["gradient_squared"]), "holds"),
    "batch.small": ("batches", lambda _: made_up.batches(small=0.3), "fails"),
    "batch.large": ("batches", lambda d: d | {128: d[128].assign(U=(("eta", "seed"), d[32]["U"].values))}, "holds"),
    "width": ("widths", lambda _: made_up.widths(known=(0.5, 1.0, 1.0, 1.0), cold=3), "fails"),
    "width.exponent": ("widths", lambda _: made_up.widths(wide=1.0), "holds"),
}


def breaks(claim, right, wrong, becomes):
    """The claim comes out as registered on what is right, and its check as said on what is broken."""
    before, after = (claims.decide(f"collapse.{claim}", found) for found in (right, wrong))
    assert before.agrees, before
    assert after.check.verdict == becomes, after.check
    assert not after.agrees


@pytest.mark.parametrize(("claim", "dataset", "name", "change", "becomes"), ARRAYS)
def test_a_broken_law_is_found(measured, claim, dataset, name, change, becomes):
    breaks(claim, measured, spoilt(measured, dataset, name, change), becomes)


@pytest.mark.parametrize("claim", GROUPS)
def test_other_data_are_found(measured, claim):
    dataset, change, becomes = GROUPS[claim]
    breaks(claim, measured, measured | {dataset: change(measured[dataset])}, becomes)


ESTIMATORS = [  # claim, module, function, what stands in its place
    ("up.monotone", curves, "temperature", lambda f: lambda mean: 1 / f(mean)),
    ("standard-net", curves, "temperature", lambda f: lambda mean: 1 / f(mean)),
    ("op.loss-zero", curves, "exponent", lambda f: lambda x, y: f(y, x) / 10),
    ("plateau.temperature", plateau, "plateau_loss", lambda f: lambda: 1.05 * f()),
    ("width", training, "_crossing", lambda f: lambda x, y, goal: f(x, y, goal) if goal > 1 else x[0]),
]


@pytest.mark.parametrize(("claim", "module", "name", "broken"), ESTIMATORS)
def test_a_broken_estimator_is_found(measured, monkeypatch, claim, module, name, broken):
    assert claims.decide(f"collapse.{claim}", measured).agrees
    monkeypatch.setattr(module, name, broken(getattr(module, name)))
    assert not claims.decide(f"collapse.{claim}", measured).agrees


def test_every_claim_is_broken_here():
    assert {f"collapse.{k}" for k in ({line[0] for line in ARRAYS} | set(GROUPS))} == set(
        claims.section("02_temperature_collapse")
    )


def test_a_thermometer_that_leaves_out_the_decay_is_found(monkeypatch):
    """The recipe broken: without λw nothing pulls the weights back, for w·∇L = 0; and the radius law of twice the noise."""
    right = ordinary.ordinary.run(**SETTLING)
    np.testing.assert_allclose(right["balance"].mean("seed"), 1, atol=0.25)
    np.testing.assert_allclose((right["r"] / right["r_pred"]).mean("seed"), 1, atol=0.1)
    probe, law = ordinary._probe, ordinary.radius_law

    def without(run, which):
        found, w = probe(run, which), run.state.weights[which]
        if "pull" not in found:  # the arm without decay
            return found
        decay = run.knobs["lam"][which] * ((w - run.start.weights[which]) * w).sum(1)
        return found | {"pull": found["pull"] - decay.numpy()}

    monkeypatch.setattr(ordinary, "_probe", without)
    monkeypatch.setattr(ordinary, "radius_law", lambda eta, lam, moment: law(eta, lam, 2 * moment))
    wrong = ordinary.ordinary.run(**SETTLING)
    assert (abs(wrong["balance"].mean("seed") - 1) > 0.5).all()
    assert ((wrong["r"] / wrong["r_pred"]).mean("seed") < 0.9).all()
