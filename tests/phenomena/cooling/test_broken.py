"""Each claim's physics broken once: an estimator, a piece of the training, or what was measured; its verdict must change.

At preset smoke few checks of these trainings decide. So each claim gets data on which it comes out as registered (`made_up`),
with one law of them broken, or an estimator that the check calls; and where a small run shows what a piece of the training does,
that recipe is run once as it is and once broken.
"""

import numpy as np
import pytest
import torch
import xarray as xr
from phenomena.cooling import made_up

from thermolab import claims
from thermolab.engine.experiment import Experiment
from thermolab.phenomena.cooling import (
    adaptive,
    classifiers,
    curves,
    flatness,
    matched,
    plateau,
    schedules,
    training,
    transitions,
)


def swapped(data, one, other, dim="arm"):
    """The same data with the names of two arms exchanged."""
    names = {one: other, other: one}
    return data.assign_coords({dim: [names.get(str(v), str(v)) for v in data[dim].values]})


def reversed_in_time(data, name):
    return data.assign({name: data[name].copy(data=data[name].values[:, ::-1])})


def late(data):
    """Accuracy and representation that wait and then change at once."""
    new = made_up.model(rises=(12.0, 13.0, 14.0), turns=(12.0, 13.0, 14.0))
    return data.assign({name: new[name] for name in ("accuracy", "early", "cka", "early_cka")})


def in_runs(*models, change):
    return lambda runs: runs | {m: change(runs[m]) for m in models}


THREE = ("mlp", "cnn", "transformer")
DATA = [  # claim, the dataset in which a law is broken, how, and what the check becomes
    ("energy-falls", "runs", in_runs("cnn", change=lambda d: reversed_in_time(d, "U")), "fails"),
    ("delayed-transformer", "runs", in_runs("transformer", change=late), "holds"),
    ("representation-shift", "runs", in_runs(*THREE, change=late), "holds"),
    ("cnn-clearest", "runs", lambda runs: runs | {"cnn": runs["mlp"], "mlp": runs["cnn"]}, "holds"),
    ("cnn-gains", "runs", lambda runs: runs | {"cnn": runs["mlp"], "mlp": runs["cnn"]}, "fails"),
    ("entropy-falls.entries", "runs", in_runs(*THREE, change=lambda d: reversed_in_time(d, "S_entries")), "holds"),
    ("entropy-falls.trajectory.mlp", "runs", in_runs("mlp", change=late), "fails"),
    ("entropy-falls.trajectory.transformer", "runs", lambda runs: runs | {"transformer": runs["mlp"]}, "holds"),
    ("free-energy-falls", "runs", in_runs(*THREE, change=lambda d: d.assign(T=1e-3 * d["T"])), "holds"),
    ("minimal-entropy-generalises", "matched", lambda d: d.assign(S_path=d["S_entries"]), "holds"),
    ("log-schedule", "endings", lambda d: swapped(d, "constant", "cosine"), "fails"),
    ("log-schedule-best", "endings", lambda d: swapped(d, "constant", "cosine"), "holds"),
    ("decay-is-growth", "schedules", lambda d: swapped(d, "constant", "growth"), "fails"),
    ("eta-over-batch", "ratio", lambda d: d.assign(S=d["S"] + np.log(d["batch_size"])), "fails"),
    ("eef-generalises", "flatness", lambda d: swapped(d, "eef", "decay"), "holds"),
    ("eef-flatter", "flatness", lambda d: swapped(d, "eef", "sam"), "holds"),
    ("sam-flatter", "flatness", lambda d: swapped(d, "sgd", "sam"), "fails"),
    ("terminal-flatness", "flatness", lambda d: d.assign(matched_trace=0 * d["matched_trace"] + 90), "fails"),
    ("valley-asymmetric", "flatness", lambda d: d.assign(asymmetry=3 * d["asymmetry"]), "holds"),
    ("second-difference", "detection", lambda d: d.assign(S=d["S"] * (1 + 20 * (d["ratio"] < 1) * (d["window"] == 65))), "holds"),
    ("hessian-flags", "curvature", lambda d: d.assign(lambda_max=1 + 0 * d["lambda_max"]), "fails"),
    ("fisher-flags", "curvature", lambda d: d.assign(fisher_max=1 + 0 * d["fisher_max"]), "fails"),
    ("plateau", "plateau", lambda d: made_up.escapes(6.0), "holds"),
    ("adaptive", "adaptive", lambda d: swapped(d, "adaptive", "constant", "schedule"), "fails"),
]


@pytest.mark.parametrize(("claim", "name", "change", "becomes"), DATA, ids=[line[0] for line in DATA])
def test_a_broken_law_is_found(claim, name, change, becomes):
    found = made_up.everything()
    right = claims.decide(f"cooling.{claim}", found)
    assert right.agrees, right
    wrong = claims.decide(f"cooling.{claim}", found | {name: change(found[name])})
    assert wrong.check.verdict == becomes, wrong.check
    assert not wrong.agrees


def test_every_claim_is_broken_here():
    assert {f"cooling.{line[0]}" for line in DATA} == set(claims.section("01_cooling"))


ESTIMATORS = [  # claim, whose estimator, by what it is replaced, and what the check becomes
    ("energy-falls", curves, "falling", lambda f: lambda series: f(series[::-1]), "fails"),
    ("representation-shift", training, "abruptness", lambda f: lambda data, name: -f(data, name), "holds"),
    ("entropy-falls.trajectory.mlp", training, "settled", lambda f: lambda data: f(data) - 2, "fails"),
    ("free-energy-falls", training, "free_energy", lambda f: lambda runs, fixed: f(runs, fixed=False), "holds"),
    ("minimal-entropy-generalises", matched, "gap_order", lambda f: lambda data, name: f(data, "S_entries"), "holds"),
    ("terminal-flatness", flatness, "_first", lambda f: lambda values: values[:, -1], "fails"),
    ("plateau", plateau, "dates", lambda f: lambda found, logarithm: f(found, False), "holds"),
    ("second-difference", transitions, "accelerations", lambda f: transitions.sums, "holds"),
    ("hessian-flags", transitions, "deviation", lambda f: lambda series, baseline: 0 * f(series, baseline), "fails"),
]


@pytest.mark.parametrize(("claim", "where", "name", "broken", "becomes"), ESTIMATORS, ids=[line[0] for line in ESTIMATORS])
def test_a_broken_estimator_is_found(monkeypatch, claim, where, name, broken, becomes):
    found = made_up.everything()
    monkeypatch.setattr(where, name, broken(getattr(where, name)))
    assert claims.decide(f"cooling.{claim}", found).check.verdict == becomes


# --- a piece of the training broken, at small size ------------------------------------------------------------------------
def test_steps_uphill_raise_the_energy(monkeypatch):
    def run():
        small = {"epochs": 4, "fisher_every": 4, "n_seeds": 3}
        learnt, still = (training.training.run("mlp", eta=eta, lams=(0.0,), **small) for eta in (1e-3, training.REST))
        return {"runs": dict.fromkeys(THREE, learnt) | {"rest": still}}

    assert claims.decide("cooling.energy-falls", run()).check.verdict == "holds"
    right = classifiers.system

    def system(*arguments, **settings):
        net = right(*arguments, **settings)
        found, net.choose_backend = net.replicas.loss_and_gradient, lambda weights: net.replicas.backend

        def uphill(weights, x, y, out):
            loss = found(weights, x, y, out)
            out.neg_()
            return loss

        net.replicas.loss_and_gradient = uphill
        return net

    monkeypatch.setattr(classifiers, "system", system)
    assert claims.decide("cooling.energy-falls", run()).check.verdict == "fails"


def test_batches_that_do_not_grow_are_no_cooling(monkeypatch):
    def run():
        task = {"epochs": 9, "copies": 2, "n_seeds": 3}
        return {"schedules": schedules.schedules.run(arms=("constant", "decay", "growth"), **task)}

    assert claims.decide("cooling.decay-is-growth", run()).check.verdict != "fails"
    grown = schedules.plans.batch_growth
    monkeypatch.setattr(schedules.plans, "batch_growth", lambda decay, steps, size: (grown(decay, steps, size)[0][:1], steps))
    assert claims.decide("cooling.decay-is-growth", run()).check.verdict == "fails"


@pytest.mark.slow
def test_sharpness_awareness_without_a_step_uphill_is_no_flatter(monkeypatch):
    def check():
        found = flatness.flatness.run(arms=("sgd", "sam"), difficulty="easy", epochs=6, moments=6, probes=2, n_seeds=3)
        decay = found.sel(arm=["sgd"]).assign_coords(arm=["decay"])  # the control is not asked here
        return claims.decide("cooling.sam-flatter", {"flatness": xr.concat([found, decay], "arm")}).check

    assert check().verdict == "holds"

    class Flat(Experiment):
        def __init__(self, system, **knobs):
            super().__init__(system, **knobs | ({"rho": 0.0} if "rho" in knobs else {}))

    monkeypatch.setattr(flatness, "Experiment", Flat)
    wrong = check()
    assert wrong.measured == pytest.approx(1, abs=1e-3)
    assert wrong.verdict == "fails"


def test_schedules_that_do_not_cool_tie(monkeypatch):
    def check():
        return claims.decide("cooling.adaptive", {"adaptive": adaptive.adaptive.run(replicas=2, windows=30, n_seeds=2)}).check

    assert check().verdict == "holds"
    monkeypatch.setattr(adaptive, "cosine_after", lambda begin, now, end: np.ones(len(begin)))
    assert check().verdict == "fails"


@pytest.mark.parametrize(("claim", "name"), [("hessian-flags", "LargestCurvature"), ("fisher-flags", "LargestFisher")])
def test_curvature_of_weights_that_stay_at_their_start_flags_nothing(monkeypatch, claim, name):
    small = {"arms": ("escape", "redrawn"), "replicas": 2, "points": 8, "baseline": 3, "samples": 32, "n_seeds": 2}

    def flagged():
        found = transitions.curvature.run(**small)
        twice = xr.concat([found, found.assign_coords(arm=["drop", "steady"])], "arm")  # the control is not asked here
        return claims.decide(f"cooling.{claim}", {"curvature": twice}).check.measured

    assert flagged() == 1
    kind = getattr(transitions, name)

    class AtTheStart(kind):
        def __call__(self, system, state, knobs):
            if not hasattr(self, "kept"):
                self.kept = kind.__call__(self, system, state, knobs)
            return self.kept

    monkeypatch.setattr(transitions, name, AtTheStart)
    assert flagged() == 0


# --- every start ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("model", THREE)
def test_no_start_of_200_seeds_is_dead(model):
    """Outputs are finite, classes are told apart, and every tensor has a gradient, at the seeds 0 … 199 of the notebook."""
    net = classifiers.system(model)
    x, y = net.data.x[:64], net.data.y[:64]
    for scale in (1.0, plateau.TINY) if model == "mlp" else (1.0,):
        for block in np.arange(200).reshape(-1, 50):
            weights = torch.cat([scale * net.start(torch.arange(1), 1000 * int(seed)) for seed in block])
            out = torch.empty_like(weights)
            with torch.no_grad():
                net.replicas.loss_and_gradient(weights, x.expand(len(block), *x.shape), y.expand(len(block), -1), out)
                logits = net.replicas.outputs(weights, x)
            assert logits.isfinite().all()
            assert (logits.std(1) > 0).all()
            assert out.isfinite().all()
            for name, gradient in net.replicas.views(out).items():
                assert (gradient.flatten(1).abs().amax(1) > 0).all(), name
