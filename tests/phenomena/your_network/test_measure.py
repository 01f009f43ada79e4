"""What a run is measured by, against a loop that is written out; the scorecard of an experiment; the panel; the presets."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn
from torch.nn.utils import prune

from thermolab import claims
from thermolab.engine.experiment import Experiment
from thermolab.lab import replay
from thermolab.phenomena.your_network import capstone, figures, live, measure, networks, presets, trained
from thermolab.phenomena.your_network.scorecard import Scorecard, scorecard
from thermolab.systems import data, models
from thermolab.systems.full_batch import FullBatch
from thermolab.systems.network import NetworkOnData

SETUP = {"preset": "smoke", "seed": 0, "n_seeds": 2, "device": "cpu", "network": "mlp", "images": "digits"}
SETUP |= {"eta": 0.1, "lam": 0.02, "batch_size": 8}
TINY = {"burn_in": 12, "window": 240, "early": 5, "moments": 3, "probe": 5, "samples": 12}
ETA, LAM = 0.1, 0.05


@pytest.fixture(scope="module")
def found():
    sizes = {"trained": TINY, "double": TINY, "knocked": {"steps": 20}}
    plan = presets.datasets(SimpleNamespace(**SETUP))
    return {name: part.func.run(**part.keywords | sizes[name]) for name, part in plan.items()}


def written_out():
    """A net of nine weights on 20 numbers, and the same steps in plain PyTorch: the weights and gradients of 47."""
    generator = torch.Generator().manual_seed(0)
    learnt = data.Dataset(torch.randn(20, 2, generator=generator), torch.randn(20, 1, generator=generator))
    net = NetworkOnData(models.mlp((2, 2, 1)), learnt, loss="squared")
    w, batches = net.start(torch.arange(1), 4), net.batches(4, torch.arange(1), 0, 47, 4)
    out, rows = torch.empty_like(w), []
    for x, y in batches:
        net.replicas.loss_and_gradient(w, x, y, out)
        rows.append((w.clone(), out.clone()))
        w = (1 - ETA * LAM) * w - ETA * out
    return net, rows, w


def test_sums_are_those_of_every_step_and_the_steps_are_those_of_sgd():
    net, rows, end = written_out()
    start = net.start(torch.arange(1), 4)
    plan = measure.Plan(burn_in=7, window=40, early=3, moments=1, probe=5, samples=8)
    d = measure.measure(net, start, [ETA], LAM, 4, plan, seed=4)
    late, early = rows[7:], rows[:3]
    for steps, when in ((late, ""), (early, "_early")):
        w2 = np.mean([float(w.square().sum()) for w, _ in steps])
        g2 = np.mean([float(g.square().sum()) for _, g in steps])
        drive = ETA / 2 * np.mean([float((g + LAM * w).square().sum()) for w, g in steps])
        np.testing.assert_allclose(d[f"w2{when}"].sum("group"), w2, rtol=1e-5)
        np.testing.assert_allclose(d[f"g2{when}"].sum("group"), g2, rtol=1e-5)
        np.testing.assert_allclose(d[f"drive{when}"], drive, rtol=1e-5)
    pair = d.isel(pair=0)
    np.testing.assert_allclose(pair["g2_in"], np.mean([float(g[:, :6].square().sum()) for _, g in late]), rtol=1e-5)
    np.testing.assert_allclose(pair["out2"], np.mean([float(w[:, 6:8].square().sum()) for w, _ in late]), rtol=1e-5)
    w = end.double().requires_grad_()  # the moment of the only probe
    module = models.mlp((2, 2, 1)).double()
    parameters = {k: v[0] for k, v in net.replicas.views(w).items()}
    outputs = torch.func.functional_call(module, parameters, (net.data.x.double(),))
    (slope,) = torch.autograd.grad((outputs - net.data.y.double()).square().sum(1).mean(), w)
    np.testing.assert_allclose(d["pull"], [float((w * (slope + LAM * w)).sum().detach())], rtol=1e-4)


def test_a_system_is_left_as_it_was():
    net, _, _ = written_out()
    before = net.replicas, net.backend, net.data
    measure.measure(net, net.start(torch.arange(1), 4), [ETA], LAM, 4, measure.Plan(7, 40, 3, 1, 5, 8))
    assert (net.replicas, net.backend, net.data) == before


def test_batch_norm_has_no_gradient_of_the_whole():
    x = data.digits(64)
    for norm, whole in ((nn.LayerNorm(6), True), (nn.BatchNorm1d(6), False)):
        net = NetworkOnData(nn.Sequential(nn.Linear(64, 6), norm, nn.ReLU(), nn.Linear(6, 10)), x)
        weights = networks.flat(net.replicas.module)[None]
        assert measure._is_mean(net, weights) is whole
    noisy = NetworkOnData(nn.Sequential(nn.Linear(64, 6), nn.Dropout(0.5), nn.Linear(6, 10)), x)
    assert not measure._is_mean(noisy, networks.flat(noisy.replicas.module)[None])
    assert measure._draws(noisy, networks.flat(noisy.replicas.module)[None])
    assert not measure._draws(net, weights)


def test_the_path_is_equally_far_apart_in_eta_t():
    path = measure._Path(np.array([0.1, 0.2]), 1, 4, 80)
    for k in range(1, 80 // path.tick + 1):
        path.take(k, torch.tensor([[float(k * path.tick)]] * 2))
    np.testing.assert_allclose(np.diff(path.kept[0][:, 0]), 2 * np.diff(path.kept[1][:, 0]))
    assert np.isfinite(path.kept).all()
    with pytest.raises(ValueError, match="window=30 is too short for samples=4 at these rates; allowed: 40 steps or more"):
        measure._Path(np.array([0.1, 0.2]), 1, 4, 30)


def test_what_the_last_layer_reads():
    net = NetworkOnData(models.mlp((64, 5, 10)), data.digits(16))
    w = torch.stack([networks.flat(net.replicas.module)] * 2)
    (read, again) = measure.representations(net.replicas, w, net.data.x)
    torch.testing.assert_close(read, net.replicas.module[:2](net.data.x))
    assert torch.equal(read, again)


def test_every_claim_is_decided_kept_and_drawn(found, tmp_path, no_window):
    results = claims.decided("07_your_network", found, settings={}, seconds=10.0)
    assert [r.claim.id for r in results] == list(claims.section("07_your_network"))
    assert {r.claim.id: r.verdict for r in results}["general.noether"] == "holds"
    presets.traces(found).to_netcdf(tmp_path / "results.nc", engine="h5netcdf")
    kept = xr.open_dataset(tmp_path / "results.nc", engine="h5netcdf")
    assert kept["U"].dims == kept["snr"].dims == ("eta", "seed")
    np.testing.assert_allclose(kept["knocked_cka"], found["knocked"]["cka"])
    for figure in (
        figures.laws(found["trained"]),
        figures.sweep(found["trained"], found["double"]),
        figures.alignment(found["trained"], found["knocked"]),
    ):
        assert "<img alt=" in figure.data


def test_what_a_claim_reads_are_settings_of_the_recipe():
    assert set(trained.READS) <= set(trained.trained.settings)
    assert not set(trained.READS) & set(SETUP)


def test_smoke_is_lab_but_for_sizes_and_seeds():
    lab, smoke = (presets.datasets(SimpleNamespace(**SETUP | {"preset": p, "n_seeds": 7})) for p in ("lab", "smoke"))
    sizes = {*presets.SMOKE, "n_seeds", "steps"}
    for name, part in lab.items():
        one, other = (p.func.checked(**p.keywords) for p in (part, smoke[name]))
        assert {k: v for k, v in one.items() if k not in sizes} == {k: v for k, v in other.items() if k not in sizes}
        assert (one["n_seeds"], other["n_seeds"]) == (7, 2)


def test_a_scorecard_of_an_experiment(found):
    net = networks.find("mlp")
    run = Experiment(net.system, eta=0.1, lam=0.02, batch_size=8, weights=net.starts([1, 2]), seed=3)
    run.advance(3)
    before = run.state.weights.clone()
    card = scorecard(run, seeds=3, **TINY)
    assert isinstance(card, Scorecard)
    assert [r.claim.id for r in card] == list(claims.section("07_your_network"))
    assert torch.equal(run.state.weights, before)
    assert (card[0].verdict, card[0].settings["eta"], card[0].n_seeds) == ("holds", 0.1, 3)
    assert "general.noether" in str(card)
    assert card._repr_html_().count("<tr") == 1 + len(card)


@pytest.mark.parametrize(
    ("eta", "options", "error", "said"),
    [(0.1, {"seeds": 2}, ValueError, "seeds=2"), ([0.1, 0.2], {}, ValueError, "several values of eta; allowed: one")],
)
def test_what_has_no_scorecard_is_one_line(eta, options, error, said):
    net = NetworkOnData(models.mlp((64, 5, 10)), data.digits(32))
    with pytest.raises(error, match=said):
        scorecard(Experiment(net, eta=eta, batch_size=8), **options)


def test_an_experiment_of_something_else_has_no_scorecard():
    from thermolab.systems.bowl import Bowl

    with pytest.raises(TypeError, match="of Bowl; allowed: of a network on data"):
        scorecard(SimpleNamespace(system=Bowl.__new__(Bowl)))
    whole = FullBatch(models.mlp((64, 5, 10)), data.digits(32))
    with pytest.raises(TypeError, match="the full batch experiment sees all data; allowed: one with batches"):
        scorecard(Experiment(whole, eta=0.1))


def test_the_panel_has_its_gauges_and_laws_and_replays(replays):
    run = live.NETWORK.start(seed=1, replicas=2)
    frame = list(run.frames(20, until=60))[-1]
    settings = live.NETWORK.checked({"replicas": 2})
    read, known = live.NETWORK.read(frame, settings), live.NETWORK.predict(frame, settings)
    assert all(np.isfinite(read[name]).all() for name in live.NETWORK.observables)
    assert known["batch_sharpness"] == 2 / 0.2
    a = 2 * 0.2 * 0.01 - (0.2 * 0.01) ** 2
    assert known["r"] == pytest.approx(np.mean((0.04 * read["g2"] * read["w2"] / a) ** 0.25))
    replays(live.NETWORK, run, {"replicas": 2})


def test_a_network_without_norm_or_pair_has_no_such_gauge():
    run = live.NETWORK.start(network="transformer", replicas=1)
    frame = next(run.frames(2))
    read = live.NETWORK.read(frame, live.NETWORK.checked({"network": "transformer"}))
    assert np.isnan(read["r"]).all()
    assert live.NETWORK.predict(frame, {}) == {"batch_sharpness": 2 / 0.2}


OWN = """
import torch
from torch import nn
from dataclasses import replace
from thermolab.phenomena.your_network import live

def make():
    x = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    return nn.Sequential(nn.Linear(3, 8), nn.LayerNorm(8, eps=1e-9), nn.ReLU(), nn.Linear(8, 2)), (x, (x[:, 0] > 0).long())

SCENARIO = replace(live.of(__file__ + ":make"), name="mine.network")
"""


@pytest.mark.slow
def test_a_log_of_a_scenario_of_ones_own_replays(tmp_path, capsys, monkeypatch):
    from thermolab import cli
    from thermolab.engine.files import named

    file = tmp_path / "my_module.py"
    file.write_text(OWN)
    scenario = named(f"{file}:SCENARIO")
    run = scenario.start(seed=2, replicas=1)
    list(run.follow([[10, {"eta": 0.05}]], 5, 20))
    path = tmp_path / "log.json"
    path.write_text(json.dumps(scenario.log(run, {"replicas": 1})))

    def call(*more):
        with pytest.raises(SystemExit) as end:
            cli.main(["replay", str(path), *more])
        out = capsys.readouterr()
        return int(end.value.code or 0), out.out, out.err

    code, text, _ = call("--scenario", f"{file}:SCENARIO")
    assert (code, "equal to the last bit" in text) == (0, True)
    for place, said in (
        (f"{file}:make", "is a function; allowed: a thermolab.engine.scenario.Scenario"),
        (f"{file}:nothing", "has no nothing; it defines: make"),
        ("nowhere.py:SCENARIO", "there is no file nowhere.py"),
    ):
        code, _, refusal = call("--scenario", place)
        assert (code, len(refusal.splitlines())) == (2, 1)
        assert said in refusal
    code, _, refusal = call()
    assert (code, "recipe 'mine.network' is unknown" in refusal) == (2, True)
    assert replay.own(f"{file}:SCENARIO").keys() == {"mine.network"}


@pytest.mark.slow
def test_the_command_line_decides_a_claim_for_a_network_of_ones_own(tmp_path, capsys, monkeypatch):
    from thermolab import cli
    from thermolab.lab.start import ROOT

    file = tmp_path / "my_module.py"
    file.write_text(OWN)
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("THERMOLAB_OUT", str(tmp_path / "out"))

    def call(*arguments):
        with pytest.raises(SystemExit) as end:
            cli.main(["check", "--preset", "smoke", *arguments])
        out = capsys.readouterr()
        return int(end.value.code or 0), out.out, out.err

    small = ["-p", "burn_in", "10", "-p", "early", "5", "-p", "window", "400"]
    code, text, refusal = call("general.noether", "--network", f"{file}:make", *small)
    assert (code, refusal.count("\n") <= 1, "✓ holds" in text) == (0, True, True), (text, refusal)
    (record,) = (tmp_path / "out" / "07_your_network").glob("check-*/run.json")
    assert json.loads(record.read_text())["parameters"]["network"] == f"{file}:make"
    for network, said in (
        ("nowhere.py:make", "names no file"),
        (f"{file}:other", "has no other; it defines: make"),
        (f"{file}:SCENARIO", "is no function; make() must return"),
    ):
        code, text, refusal = call("general.noether", "--network", network, *small)
        assert (code, text, len(refusal.splitlines())) == (2, "", 1)
        assert said in refusal
    code, _, refusal = call("general.noether", "-p", "burn_in", "10")
    assert (code, "burn_in=10 ends before the first steps do; allowed: early=50 or more" in refusal) == (2, True)
    code, _, refusal = call("balance.identity", "--network", f"{file}:make")
    assert (code, "network changes nothing that all of balance.identity read" in refusal) == (2, True)


@pytest.mark.parametrize("name", networks.MENU)
def test_symmetry_is_knocked_out_of_every_network_of_the_menu(name):
    from thermolab.instruments import symmetry

    module = capstone.without_symmetry(networks.MENU[name]())
    assert not [m for m in module.modules() if isinstance(m, (*capstone.NORMS, *capstone.RECTIFIERS))]
    if name != "transformer":  # of which queries and keys stay
        assert not [p for p in symmetry.pairs(module) if "+" not in p.name]
    with pytest.raises(ValueError, match="no symmetry to knock out"):
        capstone.without_symmetry(nn.Linear(2, 2))


def test_symmetry_is_knocked_out_of_a_layer_that_stands_twice():
    act = nn.ReLU()
    module = nn.Sequential(nn.Linear(4, 5), act, nn.Linear(5, 5), act, nn.RMSNorm(5), nn.Linear(5, 2))
    prune.l1_unstructured(module[2], "weight", 0.2)  # which leaves a tensor that deepcopy refuses
    module(torch.zeros(1, 4))
    found = capstone.without_symmetry(module)
    assert [type(m) for m in found][1::2] == [nn.Tanh, nn.Tanh, nn.Linear]
    assert isinstance(found[4], nn.Identity)
    assert module[1] is module[3] is act


def test_a_network_that_the_finder_of_groups_does_not_take_has_a_scorecard():
    """Its forward is bound to the original's layer, so that no copy can be tried; the other claims are decided."""
    module = nn.Sequential(nn.Linear(2, 3))
    module.forward = lambda x, layer=module[0]: layer(x)
    net = NetworkOnData(module, data.Dataset(torch.randn(32, 2), torch.arange(32) % 3))
    card = scorecard(Experiment(net, eta=ETA, lam=LAM, batch_size=4), seeds=3, **TINY)
    said = {result.claim.id: result.undecided for result in card if result.verdict == "not applicable"}
    assert all("its symmetries cannot be tried" in said[f"general.{name}"] for name in ("noether", "radius"))
    assert "general.stationarity" not in said
