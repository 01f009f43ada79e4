"""Datasets made up by hand, on which each claim of notebook 05 comes out as registered."""

import numpy as np
import xarray as xr
from embedded import LAYERS, table

from thermolab.phenomena.platonic_alignment import breaking

SPREAD = np.linspace(-1, 1, 5)[:, None]


def linear(**over):
    """Of `linear.linear`, at three η."""
    arms = {"gd_excess": np.full((3, 5, 2), 0.009), "excess": np.full((3, 2, 5, 2), 0.01)}
    ends = ((0.996, 0.7), (0.7, 0.7), (0.59, 0.7))
    size = np.broadcast_to([1, 1, 1, 1, 1.5, 2, 1] + 1e-4 * SPREAD, (3, 5, 7)).copy()
    shrunk = np.exp(np.array([0.4, 0.1, 0.0])[:, None, None] + 1e-3 * SPREAD)
    values = {
        "cka": (("arm", "time", "seed", "layer", "other"), np.stack([[table(0.4), table(*end)] for end in ends])),
        "to_kernel": (("arm", "time", "seed", "layer"), np.broadcast_to(0.997 + 1e-4 * SPREAD, (3, 2, 5, 7)).copy()),
        "to_inputs": (("arm", "seed", "layer"), np.broadcast_to(0.8 + 1e-4 * SPREAD, (3, 5, 7)).copy()),
        "excess": (("arm", "time", "seed", "net"), arms["excess"]),
        "gd": (("arm", "seed", "layer", "other"), np.stack([table(c) for c in (0.5, 0.588, 0.588)])),
        "gd_excess": (("arm", "seed", "net"), arms["gd_excess"]),
        "inserted": (("kind", "seed", "layer", "other"), np.stack([table(0.996), table(0.6)])),
        "inserted_excess": (("kind", "seed", "net"), np.full((2, 5, 2), 0.01)),
        "trap": (("view", "seed", "layer", "other"), np.stack([table(0.97), table(0.6)])),
        "size": (("arm", "seed", "layer"), size),
        "trace": (("arm", "seed", "layer"), 2 * size),
        "gd_size": (("arm", "seed", "layer"), 1.1 * size * shrunk),
        "gd_trace": (("arm", "seed", "layer"), 2 * size * shrunk),
        "small_trace": (("seed", "layer"), 2 * size[0]),
    }
    where = LAYERS | {"kind": ["orthogonal", "invertible"], "view": ["none", "frozen"]}
    where |= {"eta": ("arm", [0.02, 0.002, 0.0002]), "lam": ("arm", [0.0, 0.0, 0.0])}
    return xr.Dataset(values, coords=where).assign(**over)


def pace(steps=(0.97, 0.8, 0.65), level=(0.97, 0.965, 0.962)):
    """Of `pace.pace`: the worst pair at equal steps, and at equal η²t."""
    values = np.array([[table(c) for c in row] for row in (steps, level)])
    where = LAYERS | {"clock": ["steps", "eta2t"], "eta": [0.02, 0.01, 0.005]}
    return xr.Dataset({"cka": (("clock", "eta", "seed", "layer", "other"), values)}, coords=where)


def pairs(spread=0.002, **values):
    """Of `breaking.pairs`: CKA .998 with noise, .6 without, .8 for each way to break it; others by the name of the case."""
    cases = {name: 0.6 if "no noise" in name else 0.998 for name in breaking.CASES} | dict.fromkeys(breaking.WAYS, 0.8)
    cases |= {k.replace("_", " "): v for k, v in values.items()}
    noise = np.random.default_rng(0).normal(size=(len(cases), 5, 2, 3))
    cka = np.array(list(cases.values()))[:, None, None, None] + spread * noise
    return xr.Dataset({"cka": (("case", "seed", "layer_a", "layer_b"), cka)}, coords={"case": list(cases)})


def digits(same=(0.7, 0.95), last=0.95, first=0.5, spread=0.005, accuracy=(0.97, 0.97)):
    """Of `digits.digits`.

    same: CKA of the last layers of A and A at noise 0 and 0.5; last, first: of those of A and B, and of all other pairs.
    """
    rng, dims = np.random.default_rng(0), ("noise", "seed", "time", "images")
    jitter = spread * rng.normal(size=(2, 5, 2, 2, 1))
    base = np.full((2, 5, 2, 2, 2), 0.4)
    base[..., 1] = np.array(same)[:, None, None, None]
    cross = np.full((2, 5, 2, 2, 2, 3), first)
    cross[..., 1, 2] = last
    accurate = np.broadcast_to(np.array(accuracy)[:, None, None, None, None], (2, 5, 2, 2, 2))
    return xr.Dataset(
        {
            "same": ((*dims, "layer_a"), base + jitter),
            "cross": ((*dims, "layer_a", "layer_b"), cross + jitter[..., None]),
            "accuracy": ((*dims, "net"), accurate),
        },
        coords={"noise": [0.0, 0.5], "images": ["seen", "new"], "net": ["A", "B"]},
    )


def classes(labels=0.995, regression=0.9):
    """Of `neural_collapse.neural_collapse`, labels redrawn and not: CKA with the labels, for targets of each kind."""
    level = np.array([labels, regression])[:, None, None, None]
    values = np.broadcast_to(level + 1e-3 * SPREAD, (2, 2, 5, 5)).copy()
    where = {"target": ["labels", "regression"], "share": [0.3, 0.0]}
    return xr.Dataset({"labels": (("target", "share", "seed", "layer"), values)}, coords=where)
