"""Each claim's physics broken once: a constant of the theory, a term of a recipe, or what was measured; its check must change.

What is exact or quick is measured once, at preset smoke or less, and decided again with the break. What takes training is decided
on data made by hand, on which the claim comes out as registered.
"""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr

from thermolab import claims
from thermolab.phenomena.irreversibility import flows, presets, symmetry_recipes
from thermolab.phenomena.irreversibility.symmetries import EXPONENTIAL, TABLE

SETUP = SimpleNamespace(preset="smoke", seed=0, n_seeds=3, device="cpu", eta=0.1)
LESS = {"growth": {"steps": 8000, "replicas": 8}, "decayed": {"steps": 300}, "occupation": {"replicas": 12}}
TRAINED = ("equal_loss", "clean_labels", "perturbed", "tasks")
UNSEEN = ["translation", "shear, low-rank inputs"]


def seeds_of(mean, spread=0.01):
    """Five seeds about a mean."""
    return mean + spread * np.array([-1.0, -0.5, 0, 0.5, 1.0])


def made_up() -> dict[str, xr.Dataset]:
    """Training as registered: gradients smaller at the larger rate, early pushes that count more, neurons that die."""
    rates, s = [0.005, 0.02], np.stack([seeds_of(v, 0.1) for v in (10.0, 8.0)])
    equal_loss = xr.Dataset({"S": (("eta", "seed"), s), "flow_S": ("seed", seeds_of(10.0, 0.1))}, {"eta": rates})
    equal_loss = equal_loss.assign(U=xr.ones_like(equal_loss["S"]), flow_U=xr.ones_like(equal_loss["flow_S"]))
    clean_labels = equal_loss.rename(eta="share")
    changed = np.stack([seeds_of(v, 0.0005) for v in (0.03, 0.03, 0.01, 0.01)])
    perturbed = xr.Dataset({"changed": (("push", "seed"), changed)}, {"push": [0, 10, 50, 90]}, {"steps": 100})
    dead, right = (np.stack([seeds_of(a), seeds_of(b)]) for a, b in ((0.0, 0.3), (1.0, 0.7)))
    fresh = {"fresh_dead": ("seed", seeds_of(0.0)), "fresh_accuracy": ("seed", seeds_of(0.99))}
    tasks = xr.Dataset({"dead": (("task", "seed"), dead), "accuracy": (("task", "seed"), right), **fresh})
    return {"equal_loss": equal_loss, "clean_labels": clean_labels, "perturbed": perturbed, "tasks": tasks}


@pytest.fixture(scope="module")
def measured():
    plan = presets.datasets(SETUP)
    wanted = {name: part for name, part in plan.items() if name not in (*TRAINED, "here")}
    return made_up() | {name: p.func.run(*p.args, **p.keywords | LESS.get(name, {})) for name, p in wanted.items()}


def spoiled(dataset: str, **changes):
    """Makes of what was measured the same with variables of a dataset replaced: {name: function of the dataset}."""
    return lambda found: found | {dataset: found[dataset].assign({k: f(found[dataset]) for k, f in changes.items()})}


def without(dataset: str, *rows: str):
    """Makes of what was measured the same without rows of a dataset."""
    return lambda found: found | {dataset: found[dataset].drop_sel(row=[*rows])}


def steeper(against: str, constant: float, name: str):
    """Makes the distances with one constant go with one more power of η."""

    def change(steps: xr.Dataset) -> xr.DataArray:
        here = (steps["against"] == against) & (steps["constant"] == constant)
        return steps[name] * xr.where(here, steps["eta"], 1.0)

    return spoiled("steps", **{name: change})


def at_row(row: str, factor: float, name: str = "asymmetry"):
    """Multiplies what one row has at λ > 0."""
    return lambda d: d[name] * xr.where((d["row"] == row) & (d["lam"] > 0), factor, 1.0)


def no_rotation(found):
    """A row that claims to be a rotation and stretches."""
    rows = [
        replace(row, action=lambda w, s: {"W": w["W"] * s.exp()}) if row.name == "rotation" else row for row in TABLE.values()
    ]
    return found | {"table": symmetry_recipes.table.run(rows, n_seeds=2)}


def another_generator(found):
    """One weight of each symmetry grows by a hundredth more than it should."""
    with pytest.MonkeyPatch.context() as patch:
        charges = symmetry_recipes._charges
        first = lambda a: torch.diag((torch.arange(len(a)) == 0).to(a))  # noqa: E731
        patch.setattr(symmetry_recipes, "_charges", lambda path, g, a, eta: charges(path, g, a + first(a) / 100, eta))
        return found | {"noether": symmetry_recipes.noether.run(EXPONENTIAL, steps=20, n_seeds=2)}


BROKEN = [  # claim, what is broken of what was measured
    ("reversal", steeper("undo", 0.0, "local")),
    ("reversal.printed", steeper("undo", 1.0, "local")),
    ("quadratic", spoiled("quadratic", miss=lambda d: d["miss"] * (1 + d["eta"]))),
    ("modified-flow.printed", steeper("flow", 1.0, "local")),
    ("one-constant", spoiled("steps", unlike=lambda d: d["unlike_shape"])),
    ("half-rate.printed", steeper("halves", 1.0, "whole")),
    ("epoch", spoiled("epochs", error=lambda d: d["error"].sel(term="none").broadcast_like(d["error"]))),
    ("entropy-split", spoiled("split", product=lambda d: d["factorised"])),  # the product of means for the mean of the product
    ("entropy-split", spoiled("split", trace=lambda d: d["trace"] * 24 / 23)),  # N − 1 for N
    ("noether", another_generator),
    ("symmetry-table", no_rotation),
    ("norm-preserving", without("table", *UNSEEN)),
    ("no-noncompact", without("table", *UNSEEN)),
    ("symmetric-state", spoiled("decayed", asymmetry=at_row("sign flip", 1e-3))),
    ("unique-orbit-minimum", spoiled("orbit", F=lambda d: d["L"])),  # without the entropic term
    ("unique-orbit-minimum.every", without("orbit", "scaling")),
    ("scale-growth", spoiled("growth", slope=lambda d: 2 * d["slope"])),
    ("scale-growth", spoiled("growth", identity=lambda d: d["identity"] + 1e-6)),
    ("no-gibbs", spoiled("occupation", log_ratio=lambda d: 0.05 * d["log_ratio"])),
    ("large-rate-regularises", spoiled("equal_loss", S=lambda d: d["flow_S"].broadcast_like(d["S"]))),
    ("large-rate-regularises.clean", spoiled("clean_labels", S=lambda d: d["flow_S"].broadcast_like(d["S"]))),
    ("chaos-transient", spoiled("perturbed", changed=lambda d: 0 * d["changed"] + d["changed"].isel(push=-1))),
    ("dead-neurons", spoiled("tasks", dead=lambda d: 0 * d["dead"])),
    ("dead-neurons", spoiled("tasks", accuracy=lambda d: d["accuracy"].isel(task=0).broadcast_like(d["accuracy"]))),
    ("detailed-balance", spoiled("cloud", rate=lambda d: d["rate"].sel(angle=0).broadcast_like(d["rate"]))),
    ("turning-cloud", spoiled("minibatches", expected=lambda d: 1.3 * d["expected"])),
    ("turning-cloud", spoiled("minibatches", swept=lambda d: -d["swept"])),
    ("entropy-production", spoiled("cloud", produced_pred=lambda d: 2 * d["produced_pred"])),
]
THEORY = [  # claim, a constant of `flows` and what is put in its place
    ("modified-flow", "FLOW", flows.UNDO),
    ("global-error", "FLOW", flows.PRINTED),
    ("half-rate", "HALVES", flows.FLOW),
    ("reversal.printed", "PRINTED", flows.UNDO),
    ("modified-flow.printed", "PRINTED", flows.FLOW),
    ("half-rate.printed", "PRINTED", flows.HALVES),
]
OTHER = {"holds": "fails", "fails": "holds"}


def decided(claim, found):
    return claims.decide(f"irreversibility.{claim}", found)


@pytest.mark.parametrize(("claim", "broken"), BROKEN, ids=[f"{k}-{line[0]}" for k, line in enumerate(BROKEN)])
def test_a_broken_law_is_found(measured, claim, broken):
    right = decided(claim, measured)
    assert right.check.verdict in (right.claim.expected, "inconclusive"), right.check
    wrong = decided(claim, broken(measured))
    assert wrong.check.verdict == OTHER[right.claim.expected], wrong.check
    assert not wrong.agrees


@pytest.mark.parametrize(("claim", "name", "value"), THEORY)
def test_a_wrong_constant_is_found(measured, monkeypatch, claim, name, value):
    right = decided(claim, measured)
    assert right.check.verdict == right.claim.expected, right.check
    monkeypatch.setattr(flows, name, value)
    assert decided(claim, measured).check.verdict == OTHER[right.claim.expected]


def test_every_claim_is_broken_here():
    assert {f"irreversibility.{line[0]}" for line in (*BROKEN, *THEORY)} == set(claims.section("00_irreversibility"))
