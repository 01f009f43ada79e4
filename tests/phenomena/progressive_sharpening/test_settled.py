"""Where λ_max settles: at the closed form, below it under weight decay; and the claim on data made up by hand."""

import numpy as np
import pytest
import xarray as xr
from claimed import HOLDS, verdicts

from thermolab.engine.experiment import Experiment
from thermolab.engine.schedules import cool
from thermolab.phenomena.progressive_sharpening import settled, theory, two_layers


def test_weight_decay_reaches_the_network():
    few = {"width": 4, "eta": 0.03, "relaxations": 1.0, "decay": 80, "n_seeds": 1}
    free, held = (settled.settled.run((1.0, 1.0), lam=lam, **few)["lambda_max"].item() for lam in (0.0, 1.0))
    assert held < 0.8 * free


@pytest.mark.parametrize(("profile", "strength"), [((1.0, 1.0, 1.0), 1.0), ((1.6, 1.0, 0.7), 2.0)])
def test_settled_networks_have_the_sharpness_of_theory(profile, strength):
    found = settled.settled.run(profile, strength=strength, width=4, eta=0.03, n_seeds=2)
    assert float(found["predicted"]) == pytest.approx(theory.lambda_max(profile, strength))
    assert float(found["steps"]) == round(8 * theory.relaxation_steps(profile, 0.03, 16).max())
    np.testing.assert_allclose(found["lambda_max"], found["predicted"], rtol=0.05)


def test_a_final_decay_falls_by_the_same_factor_eight_times():
    run = Experiment(two_layers.learner((1.5, 0.8, 0.6), width=3, n_data=100), eta=[0.1, 0.01], batch_size=4)
    run.advance(5)
    cool(run, 80)
    assert [step for step, _ in run.events[1:]] == [5 + 10 * k for k in range(8)]
    np.testing.assert_allclose([change["eta"] for _, change in run.events[1:]], np.outer(0.6 ** np.arange(1, 9), [0.1, 0.01]))
    assert run.state.step == 85


@pytest.mark.parametrize(
    ("ratio", "noise", "wanted"),
    [(1.02, 0.01, ("holds", "fails")), (1.3, 0.01, ("fails", "fails")), (1.07, 0.05, ("inconclusive", "fails"))],
)
def test_the_closed_form_is_told_apart_from_4s(ratio, noise, wanted):
    data = xr.Dataset(
        {
            "lambda_max": ("seed", 6 * ratio * np.exp(noise * np.random.default_rng(0).normal(size=5))),
            "predicted": 6.0,
            "flattest": 4.0,
        }
    )
    assert verdicts(settled.lies_on_the_closed_form({"graded": data})) == wanted


def test_both_kinds_of_an_imbalance_differ_in_the_profile_alone():
    uneven, even = (settled.imbalance(4, kind) for kind in ("imbalanced", "balanced"))
    assert uneven["profile"][0] == pytest.approx(4 * uneven["profile"][1])
    assert np.square(uneven["profile"]).sum() == pytest.approx(np.square(even["profile"]).sum())
    assert uneven["eta"] * theory.lambda_max(uneven["profile"]) == pytest.approx(settled.GENTLE)
    assert {**uneven, "profile": 0} == {**even, "profile": 0}


def test_every_ratio_has_to_follow_the_form_and_balanced_noise_must_not():
    def made_up(imbalanced, balanced):
        ends = {"imbalanced": imbalanced, "balanced": balanced}
        return {
            f"{kind} {ratio}": xr.Dataset({"lambda_max": ("seed", [0.999 * v, v, 1.001 * v]), "predicted": known})
            for kind, values in ends.items()
            for ratio, v, known in zip(settled.RATIOS, values, (4.9, 7.2, 11.4), strict=True)
        }

    assert verdicts(settled.follows_the_unbounded_form(made_up((4.9, 7.1, 11.1), (4, 4, 4)))) == HOLDS
    assert verdicts(settled.follows_the_unbounded_form(made_up((4.9, 7.1, 8), (4, 4, 4)))) == ("fails", "fails")
    assert verdicts(settled.follows_the_unbounded_form(made_up((4.9, 7.1, 11.1), (4.9, 7.2, 11.2)))) == ("holds", "holds")
