"""Neural collapse at tiny settings, its measures by hand, and its claim on data made up."""

import numpy as np
import pytest
import xarray as xr
from claimed import verdicts

from thermolab.phenomena.platonic_alignment import neural_collapse


def predicted(target, share):
    """CKA with the labels of the kernel G, from the moments of the data themselves."""
    learnt, truth = neural_collapse.task(target, share, seed=1)
    x, y = learnt.x.double().numpy(), learnt.y.double().numpy()
    s_x = x.T @ x / len(x)
    v = np.linalg.solve(s_x, x.T @ y / len(x)).T
    noise = (y - x @ v.T).T @ (y - x @ v.T) / len(x)
    values, vectors = np.linalg.eigh(s_x)
    root = (vectors * np.sqrt(values)) @ vectors.T
    values, vectors = np.linalg.eigh(root @ v.T @ noise @ v @ root)
    half = np.linalg.solve(root, vectors * np.maximum(values, 0) ** 0.25)
    return neural_collapse.collapsed(x[:1000] @ half, truth[:1000])


def test_the_kernel_of_theory_is_that_of_the_labels():
    labels, nc1, nc2 = predicted("labels", 0.3)
    assert labels > 0.999
    assert nc1 < 1e-2
    assert nc2 < 0.03
    labels, nc1, nc2 = predicted("regression", 0.3)
    assert labels < 0.95
    assert nc1 < 1e-2
    assert nc2 > 0.3


def test_task_has_unit_inputs_and_its_share_of_other_labels():
    learnt, truth = neural_collapse.task("labels", 0.5, classes=4, scatter=3)
    x, y = learnt.x.double().numpy(), learnt.y.double().numpy()
    np.testing.assert_allclose(x.T @ x / len(x), np.eye(6), atol=0.03)
    assert (y.argmax(1) != truth).mean() == pytest.approx(0.5 * 3 / 4, abs=0.01)
    np.testing.assert_allclose(y.sum(1), 0, atol=1e-6)
    exact, _ = neural_collapse.task("labels", 0.0)
    assert len(np.unique(exact.y, axis=0)) == 5


def test_nc1_and_nc2_of_features_made_by_hand():
    truth, rng = np.arange(40) % 4, np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(6, 6)))[0][:4]
    np.testing.assert_allclose(neural_collapse.collapsed(3 * np.eye(4)[truth] @ turn + 1, truth), (1, 0, 0), atol=1e-7)
    means = np.diag([3.0, 1.0, 1.0, 1.0])
    cka, nc1, nc2 = neural_collapse.collapsed(means[truth], truth)
    assert cka < 0.9
    assert nc1 == 0
    assert nc2 > 0.4
    scattered = np.concatenate([np.eye(4)[truth], np.where(np.arange(40) // 4 % 2, 1.0, -1.0)[:, None]], 1)
    cka, nc1, nc2 = neural_collapse.collapsed(scattered, truth)
    assert nc1 == pytest.approx(1 / 0.75)
    assert nc2 == pytest.approx(0, abs=1e-9)
    assert cka < 0.9


def test_labels_collapse_and_regression_does_not():
    found = neural_collapse.neural_collapse.run(steps=4000, n_seeds=2)
    assert dict(found.sizes) == {"target": 2, "share": 2, "seed": 2, "layer": 5}
    assert found["layer"].values.tolist() == ["A1", "A2", "B1", "B2", "B3"]
    mean = found.mean(("layer", "seed"))
    assert mean["labels"].sel(target="labels", share=0.3) > 0.98
    for other in ({"target": "regression", "share": 0.3}, {"target": "labels", "share": 0.0}):
        assert mean["labels"].sel(other) < 0.92
    assert mean["nc1"].sel(target="regression", share=0.3) < 0.05 < mean["nc1"].sel(target="labels", share=0.0)
    one = neural_collapse.neural_collapse.run((0.3,), steps=4000, n_seeds=1)
    xr.testing.assert_equal(one, found.sel(share=[0.3]).isel(seed=[0]))


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"classes": 1}, "classes=1 is out of range; allowed: a whole number, 2 or more"),
        ({"shares": (0.3, 1.0)}, "shares=(0.3, 1.0) is out of range; allowed: a list of 1 or more, each a number from 0 to 0.99"),
        ({"width_a": 3}, "width_a=3 is too small; allowed: classes - 1 = 4 or more"),
        ({"scatter": 0}, "scatter=0 is out of range; allowed: a whole number, 1 or more"),
    ],
)
def test_settings_that_are_refused(settings, text):
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        neural_collapse.neural_collapse.run(**settings)
    assert text in str(error.value)


@pytest.mark.parametrize(
    ("labels", "spread", "verdict"), [(0.99, 1e-3, "holds"), (0.95, 1e-3, "fails"), (0.98, 0.02, "inconclusive")]
)
def test_neural_collapse_on_made_up_numbers(labels, spread, verdict):
    cka = np.full((2, 2, 5, 3), 0.8)
    cka[0, 0] = labels
    cka += spread * np.random.default_rng(0).normal(size=(1, 1, 5, 1))
    data = xr.Dataset(
        {"labels": (("target", "share", "seed", "layer"), cka)},
        coords={"target": list(neural_collapse.TARGETS), "share": [0.3, 0.0]},
    )
    assert verdicts(neural_collapse.kernel_of_the_labels(data)) == (verdict, "fails")
