"""Descent without noise, and matrices that leave the loss alone."""

import numpy as np
import pytest
from embedded import DATA, case, product

from thermolab.instruments.alignment import layer_cka
from thermolab.phenomena.platonic_alignment import descent
from thermolab.systems import embedded_linear


def test_descent_reaches_the_target_and_keeps_the_balance():
    v, view, w = case()
    ended, excess = descent.descend(view, w, v, excess=1e-6, inputs=DATA["inputs"])
    assert excess <= 1e-6
    np.testing.assert_allclose(product(view, ended), v, atol=3e-3)
    for i in range(2):
        kept = [m[i + 1].T @ m[i + 1] - m[i] @ m[i].T for m in (w, ended)]
        np.testing.assert_allclose(*kept, atol=0.01)
    x = embedded_linear.probe(DATA["inputs"], 200, seed=2).numpy()
    miss = descent.features(view, w, x)[-1] @ view.answers.T - x @ v.T
    assert descent.descend(view, w, v, excess=1e9, inputs=DATA["inputs"])[1] == pytest.approx(np.square(miss).sum(1).mean())


def test_descent_halves_a_rate_that_is_too_large():
    v, view, w = case()
    ended, excess = descent.descend(view, w, v, eta=2.0, excess=1e-6, inputs=DATA["inputs"])
    assert excess <= 1e-6
    assert np.isfinite(product(view, ended)).all()


def test_an_inserted_matrix_is_seen_by_the_layers_alone():
    _, view, w = case()
    x = embedded_linear.probe(DATA["inputs"], 32).numpy()
    for spread, alike in ((0.0, True), (0.7, False)):
        changed = descent.inserted(w, 1, spread)
        np.testing.assert_allclose(product(view, changed), product(view, w), atol=1e-10)
        values = np.diag(layer_cka(descent.features(view, changed, x), descent.features(view, w, x)))[1:-1]
        assert (values > 1 - 1e-9).all() if alike else (values < 0.99).all()
