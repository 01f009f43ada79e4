"""Settings that no recipe of the phenomenon takes are refused in one line, with name, value and what is allowed."""

import pytest

from thermolab.phenomena.progressive_sharpening import cause, edge, language, orbit, settled, starts, switch

PROFILE = "a list of 2 or more, each a positive number"
WHOLE = "a whole number, 1 or more"


@pytest.mark.parametrize(
    ("recipe", "settings", "text"),
    [
        (settled.settled, {"profile": (1.0, -1.0)}, f"profile=(1.0, -1.0) is not positive and finite; allowed: {PROFILE}"),
        (settled.settled, {"profile": (1.0,)}, "profile=(1.0,) has a length that is out of range"),
        (settled.settled, {"eta": 1e-4, "batch_size": 256}, "at eta=0.0001, batch_size=256 are too many; allowed: 5000000"),
        (settled.settled, {"lam": -1.0}, "lam=-1.0 is negative or not finite; allowed: 0 or a positive number"),
        (settled.settled, {"lam": 60.0}, "lam=60.0 is too large; allowed: from 0 to below 1/eta=50"),
        (settled.settled, {"decay": 7}, "decay=7 is not divisible; allowed: a multiple of stages=8"),
        (settled.settled, {"width": 3}, "width=3 is too small; allowed: 5 or more, as many as there are answers"),
        (settled.settled, {"eta": 0.0}, "eta=0.0 is not positive and finite; allowed: a positive number"),
        (switch.switch, {"activation": "gelu"}, "activation='gelu' is unknown; allowed: one of relu, tanh, linear"),
        (switch.switch, {"steps": 30, "logs": 20}, "steps=30 is not divisible; allowed: a multiple of logs=20"),
        (switch.switch, {"eta": -1.0}, "eta=-1.0 is not positive and finite; allowed: a positive number"),
        (starts.starts, {"steps": 5, "logs": 10}, "steps=5 is not divisible; allowed: a multiple of logs=10"),
        (
            starts.starts,
            {"noises": ("loud",)},
            "noises=('loud',) is unknown; allowed: a list of 1 or more, each one of balanced, im",
        ),
        (starts.starts, {"starts": ()}, "starts=() has a length that is out of range"),
        (starts.starts, {"optimiser": "lion"}, "optimiser='lion' is unknown; allowed: one of sgd, adam"),
        (cause.cause, {"d_x": 3}, "d_x=3 is too small; allowed: 5 or more, as many as there are answers"),
        (cause.cause, {"widths": (8,)}, "widths=(8,) has a length that is out of range; allowed: a list of 2"),
        (orbit.orbit, {"points": 4}, "points=4 is not odd; allowed: an odd number, 3 or more"),
        (orbit.orbit, {"d": 5, "width": 4}, "width=4 is too small; allowed: 5 or more"),
        (orbit.orbit, {"strength": 0.0}, "strength=0.0 is not positive and finite; allowed: a positive number"),
        (edge.edge, {"etas": (0.1, -0.1)}, f"etas=(0.1, -0.1) is not positive and finite; allowed: {PROFILE}"),
        (edge.edge, {"etas": (0.1,)}, "etas=(0.1,) has a length that is out of range; allowed: a list of 2 or more"),
        (edge.edge, {"etas": (0.1, 0.1)}, "etas=[0.1, 0.1] are not all different; allowed: two or more different rates"),
        (edge.edge, {"steps": 0}, f"steps=0 is out of range; allowed: {WHOLE}"),
        (edge.edge, {"widths": (8, 0)}, f"widths=(8, 0) is out of range; allowed: a list of 1 or more, each {WHOLE}"),
        (edge.edge, {"n_data": 5000}, "n=5000 images asked for; allowed: 1 to 1797"),
        (edge.edge, {"activation": "gelu"}, "activation='gelu' is unknown; allowed: one of relu, tanh"),
        (edge.edge, {"scale": 0.0}, "scale=0.0 is not positive and finite"),
        (language.language, {"loss": "hinge"}, "loss='hinge' is unknown; allowed: one of cross-entropy, squared"),
        (language.language, {"entropies": (0.01, 2.0)}, "an entropy of 0.01 is not allowed; allowed for 16 words: above"),
        (language.language, {"entropies": (0.3, 3.0)}, "an entropy of 3.0 is not allowed"),
        (language.language, {"entropies": (0.3, 1.0, 2.0)}, "entropies=(0.3, 1.0, 2.0) has a length that is out of range"),
        (language.language, {"words": 5}, "words=5 is not even; allowed: an even number, 4 or more"),
        (language.language, {"width": 14}, "width=14 is too small; allowed: 15 or more"),
        (language.language, {"looks": 3}, "steps=8000 is not divisible; allowed: a multiple of looks=3"),
        (language.language, {"quiet": 0.0}, "quiet=0.0 is not positive and finite; allowed: a positive number"),
        (language.language, {"languages": 0}, f"languages=0 is out of range; allowed: {WHOLE}"),
    ],
)
def test_settings_out_of_range_are_refused_in_one_line(recipe, settings, text):
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        recipe.run(**settings)
    assert text in str(error.value)
