"""What the recipes of cooling refuse of their settings: in one line the name, the value and what is allowed."""

import pytest

from thermolab.phenomena.cooling import (
    adaptive,
    batch_ratio,
    flatness,
    matched,
    plateau,
    schedules,
    training,
    transitions,
)


@pytest.mark.parametrize(
    ("recipe", "bad", "message"),
    [
        (training.training, {"model": "resnet"}, "model='resnet' is unknown; allowed: one of mlp, cnn, transformer"),
        (training.training, {"difficulty": "soft"}, "difficulty='soft' is unknown; allowed: one of easy, mid, hard"),
        (
            training.training,
            {"lams": ()},
            "lams=() has a length that is out of range; allowed: one or more weight decays, each once",
        ),
        (
            training.training,
            {"lams": (0.0, 0.0)},
            "lams=(0.0, 0.0) names one of them twice; allowed: one or more weight decays, each once",
        ),
        (training.training, {"lams": (-0.1,)}, "lams=(-0.1,) is negative or not finite; allowed: one or more"),
        (training.training, {"epochs": 0}, "epochs=0 is out of range; allowed: a whole number, 1 or more"),
        (training.training, {"n_seeds": 0}, "n_seeds=0 is out of range; allowed: a whole number from 1"),
        (training.training, {"fisher_every": 0}, "fisher_every=0 is out of range; allowed: a whole number, 1 or more"),
        (training.training, {"batch_size": 48}, "batch_size=48 is no power of two; allowed: a power of two from 1 to 64"),
        (training.training, {"batch_size": 0}, "batch_size=0 is out of range; allowed: a power of two from 1 to 64"),
        (training.training, {"batch_size": 128}, "batch_size=128 is out of range; allowed: a power of two from 1 to 64"),
        (training.training, {"scale": 0.0}, "scale=0.0 is out of range; allowed: a number from 1e-06 to 10"),
        (training.training, {"eta": -1.0}, "eta=-1.0 is not positive and finite; allowed: a positive number"),
        (
            matched.matched,
            {"rates": ()},
            "rates=() has a length that is out of range; allowed: a list of 1 or more, each a positive number",
        ),
        (
            matched.matched,
            {"lams": (-0.001,)},
            "lams=(-0.001,) is negative or not finite; allowed: a list of 1 or more, each 0 or a positive",
        ),
        (
            matched.matched,
            {"sizes": 32},
            "sizes=32 is not a list, as [32] is; allowed: a list of 1 or more, each a power of two from 1 to 64",
        ),
        (
            matched.matched,
            {"sizes": (16, 24)},
            "sizes=(16, 24) is no power of two; allowed: a list of 1 or more, each a power of two",
        ),
        (matched.matched, {"energy": 0.0}, "energy=0.0 is not positive and finite; allowed: a positive number"),
        (matched.matched, {"epochs": 0}, "epochs=0 is out of range; allowed: a whole number, 1 or more"),
        (schedules.schedules, {"batch_size": 32}, "batch_size=32 cannot grow; allowed: a power of two from 1 to 16"),
        (schedules.schedules, {"batch_size": 12}, "batch_size=12 is no power of two; allowed: a power of two from 1 to 64"),
        (schedules.schedules, {"batch_size": 0}, "batch_size=0 is out of range; allowed: a power of two from 1 to 64"),
        (schedules.schedules, {"epochs": 2}, "epochs=2 is out of range; allowed: a whole number, 3 or more"),
        (schedules.schedules, {"eta": 0.0}, "eta=0.0 is not positive and finite; allowed: a positive number"),
        (schedules.schedules, {"alpha": -1.0}, "alpha=-1.0 is negative or not finite; allowed: 0 or a positive number"),
        (
            schedules.schedules,
            {"arms": ("linear",)},
            "arms=('linear',) is unknown; allowed: a list of 1 or more, each one of constant, log in",
        ),
        (schedules.schedules, {"difficulty": "trivial"}, "difficulty='trivial' is unknown; allowed: one of easy, mid, hard"),
        (
            schedules.logarithms,
            {"alphas": (-1.0,)},
            "alphas=(-1.0,) is negative or not finite; allowed: a list of 1 or more, each 0 or",
        ),
        (
            schedules.logarithms,
            {"readings": ("hours",)},
            "readings=('hours',) is unknown; allowed: a list of 1 or more, each one of epochs, st",
        ),
        (
            schedules.endings,
            {"arms": ("growth",)},
            "arms=('growth',) is unknown; allowed: a list of 1 or more, each one of constant",
        ),
        (schedules.endings, {"batch_size": 128}, "batch_size=128 is out of range; allowed: a power of two from 1 to 64"),
        (schedules.endings, {"copies": 0}, "copies=0 is out of range; allowed: a whole number, 1 or more"),
        (schedules.endings, {"n_seeds": 1.5}, "n_seeds=1.5 is not a whole number; allowed: a whole number from 1"),
        (
            batch_ratio.ratio,
            {"batch_sizes": (4, 6)},
            "batch_sizes=(4, 6) is no power of two; allowed: a list of 1 or more, each a power of two from 1",
        ),
        (
            batch_ratio.ratio,
            {"batch_sizes": ()},
            "batch_sizes=() has a length that is out of range; allowed: a list of 1 or more",
        ),
        (
            batch_ratio.ratio,
            {"ratios": (0.0, 0.1)},
            "ratios=(0.0, 0.1) is not positive and finite; allowed: a list of 1 or more, each a positive",
        ),
        (batch_ratio.ratio, {"average": 3}, "average=3 is not divisible; allowed: a multiple of window=2"),
        (batch_ratio.ratio, {"average": 26}, "average=26 is too long; allowed: a multiple of window=2 up to epochs=24"),
        (batch_ratio.ratio, {"batch_sizes": (128,), "window": 1}, "window=1 is too short for batch_size=128; allowed: 2 or more"),
        (
            batch_ratio.ratio,
            {"batch_sizes": (128,), "largest": 0.1},
            "largest=0.1 leaves nothing of batch_size=128; allowed: 0.2 or more",
        ),
        (
            flatness.flatness,
            {"arms": ("adam",)},
            "arms=('adam',) is unknown; allowed: a list of 1 or more, each one of sgd, decay, sam",
        ),
        (flatness.flatness, {"epochs": 0.5}, "epochs=0.5 is out of range; allowed: a number from 1 to 1000"),
        (flatness.flatness, {"moments": 1}, "moments=1 is out of range; allowed: a whole number, 2 or more"),
        (flatness.flatness, {"probes": 1}, "probes=1 is out of range; allowed: a whole number, 2 or more"),
        (flatness.flatness, {"n_seeds": 0}, "n_seeds=0 is out of range; allowed: a whole number from 1"),
        (flatness.flatness, {"difficulty": "odd"}, "difficulty='odd' is unknown; allowed: one of easy, mid, hard"),
        (flatness.flatness, {"width": 7}, "width=7 is out of range; allowed: a multiple of 8"),
        (flatness.flatness, {"batch_size": 0}, "batch_size=0 is out of range; allowed: a whole number, 1 or more"),
        (plateau.plateau, {"windows": 4}, "windows=4 is out of range; allowed: a whole number, 5 or more"),
        (plateau.plateau, {"scale": 0.0}, "scale=0.0 is not positive and finite; allowed: a positive number"),
        (plateau.plateau, {"replicas": 1.5}, "replicas=1.5 is not a whole number; allowed: a whole number, 1 or more"),
        (adaptive.adaptive, {"windows": 0}, "windows=0 is out of range; allowed: a whole number, 5 or more"),
        (adaptive.adaptive, {"replicas": 0}, "replicas=0 is out of range; allowed: a whole number, 1 or more"),
        (
            transitions.detection,
            {"ratios": ()},
            "ratios=() has a length that is out of range; allowed: a list of 1 or more, each a positive number other than 1",
        ),
        (
            transitions.detection,
            {"ratios": (0.5, 1.0)},
            "ratios=(0.5, 1.0) is no drop; allowed: a list of 1 or more, each a positive number other than 1",
        ),
        (
            transitions.detection,
            {"ratios": (-0.5,)},
            "ratios=(-0.5,) is not positive and finite; allowed: a list of 1 or more, each a positive number other than 1",
        ),
        (transitions.detection, {"baseline": 2}, "baseline=2 is out of range; allowed: a whole number, 3 or more"),
        (transitions.detection, {"n_seeds": 0}, "n_seeds=0 is out of range; allowed: a whole number from 1"),
        (transitions.detection, {"difficulty": "odd"}, "difficulty='odd' is unknown; allowed: one of easy, mid, hard"),
        (transitions.curvature, {"ratio": 0.0}, "ratio=0.0 is not positive and finite; allowed: a positive number"),
        (transitions.curvature, {"points": 4}, "points=4 are too few; allowed: baseline + 2 = 6 or more"),
        (flatness.flatness, {"width": 12}, "width=12 is not divisible by 8; allowed: a multiple of 8"),
    ],
)
def test_what_is_refused(recipe, bad, message):
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        recipe.run(**bad)
    assert str(error.value).startswith(message)
