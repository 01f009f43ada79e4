"""The table of what can be read by name: against written-out formulas, and refused where it means nothing."""

import numpy as np
import pytest
import torch
from torch import nn

from thermolab.engine.experiment import Experiment
from thermolab.instruments import gauges, noise
from thermolab.instruments.curvature import dense
from thermolab.systems import data, models
from thermolab.systems.bowl import Bowl
from thermolab.systems.own import Network

IMAGES = data.digits(96)


class Wrapped(nn.Linear):
    """A module whose outputs stand in a mapping, as those of transformers."""

    def __init__(self):
        super().__init__(64, 10)

    def forward(self, x):
        return {"logits": super().forward(x)}


def wrapped_loss(outputs, targets):
    return nn.functional.cross_entropy(outputs["logits"], targets)


@pytest.fixture(scope="module")
def run():
    torch.manual_seed(0)
    made = Experiment(Network(models.mlp((64, 6, 10)), IMAGES), eta=0.1, batch_size=8, replicas=2)
    made.advance(50)
    return made


def look(run, *names):
    return gauges.Reader(run.system, names)(run.system, run.state, run.knobs)


def test_the_running_sums_are_those_of_all_gradients_at_once():
    g = torch.randn(9, 3, 40, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 2
    found, expected = gauges.Moments(), noise.gradient_noise(g, spectrum=False)
    for gradient in g:
        found.add(gradient)
    np.testing.assert_allclose(found.trace, expected.trace, rtol=1e-12)
    np.testing.assert_allclose(found.signal, expected.full_gradient_squared, rtol=1e-12)
    torch.testing.assert_close(found.variance, g.var(0))
    torch.testing.assert_close(found.second, g.square().mean(0))


def test_temperature_and_signal_are_those_of_the_fresh_gradients_at_the_weights_themselves(run):
    found, streams, w = look(run, "T", "snr"), torch.arange(2), run.state.weights
    g = run.system.gradients(w, gauges.BATCHES, 8, 2**32 * (1 + run.state.step), streams)
    traces = g.double().var(0).sum(-1).numpy()
    np.testing.assert_allclose(found["T"], 0.1 * traces / (2 * w.shape[1]), rtol=1e-5)
    signal = g.double().mean(0).square().sum(-1).numpy() - traces / gauges.BATCHES
    np.testing.assert_allclose(found["snr"], np.sqrt(np.maximum(signal, 0) / traces), rtol=1e-4)


def test_momentum_heats_by_its_factor(run):
    hot = Network(run.system.replicas.module, IMAGES, optimiser="momentum")
    twin = Experiment(hot, eta=0.1, batch_size=8, weights=run.state.weights, momentum=0.75)
    cold = Experiment(run.system, eta=0.1, batch_size=8, weights=run.state.weights)
    np.testing.assert_allclose(look(twin, "T")["T"], 4 * look(cold, "T")["T"], rtol=1e-5)


def test_sharpness_is_the_largest_eigenvalue_of_the_whole_hessian(run):
    found = look(run, "sharpness")
    for r in range(2):
        top = torch.linalg.eigvalsh(dense(run.system, run.state.weights[r], IMAGES.x, IMAGES.y))[-1]
        assert found["lambda_max"][r] == pytest.approx(float(top), rel=0.01)


def test_balance_is_zero_only_between_equals(run):
    second = torch.zeros(2, run.system.n_parameters, dtype=torch.float64)
    (pair,) = gauges.symmetry.pairs(run.system.replicas.module)
    second[:, pair.incoming] = 1 / pair.incoming.numel()
    second[0, pair.outgoing], second[1, pair.outgoing] = 1 / pair.outgoing.numel(), np.e / pair.outgoing.numel()
    probe = gauges.RunProbe(run.system, run.state, run.knobs, {})
    probe.__dict__["moments"] = type("Known", (), {"second": second})
    np.testing.assert_allclose(gauges.read(probe, ["balance"])["imbalance"], [0, 1], atol=1e-12)


def test_accuracy_is_that_of_the_weights(run):
    plain = models.mlp((64, 6, 10))
    nn.utils.vector_to_parameters(run.state.weights[1], plain.parameters())
    expected = (plain(IMAGES.x).argmax(-1) == IMAGES.y).double().mean()
    assert look(run, "accuracy")["accuracy"][1] == pytest.approx(float(expected))


@pytest.mark.parametrize(
    ("module", "loss", "y", "name", "why"),
    [
        (nn.Linear(64, 10), "cross-entropy", IMAGES.y, "balance", "no rescalable pair was found"),
        (nn.Sequential(nn.Linear(64, 3)), "squared", torch.randn(96, 3), "accuracy", "needs classes"),
        (nn.Sequential(nn.Linear(64, 10), nn.Dropout(0.3)), "cross-entropy", IMAGES.y, "batch_sharpness", "draws random numbers"),
        (nn.Sequential(nn.Linear(64, 10), nn.Dropout(0.3)), "cross-entropy", IMAGES.y, "sharpness", "draws random numbers"),
        (Wrapped(), wrapped_loss, IMAGES.y, "accuracy", "needs outputs that are logits"),
        (nn.Linear(64, 10), "cross-entropy", IMAGES.y, "temperature", "is unknown; allowed: U, r, T, S"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(module, loss, y, name, why):
    net = Network(module, (IMAGES.x, y), loss=loss)
    with pytest.raises(ValueError, match=why) as error:
        gauges.for_run(net, ["U", name])
    assert "\n" not in str(error.value)


def test_of_a_system_without_data_its_own_observables_are_read():
    assert gauges.for_run(Bowl(), ["U", "r"]) == ("U", "r")
    with pytest.raises(ValueError, match="sharpness cannot be read: needs a network on data; allowed: U, r, S"):
        gauges.for_run(Bowl(), "sharpness")
