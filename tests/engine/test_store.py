"""Results of jobs that are kept: the same to the last bit, of this source and these settings alone, whatever befalls the file."""

import dataclasses
import importlib
import math
import multiprocessing

import numpy as np
import pytest
import xarray as xr

from thermolab.engine import recipe, store
from thermolab.engine.rules import Positives


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(store.VARIABLE, str(tmp_path / "store"))
    return tmp_path / "store"


def result(scale=1.0):
    rng = np.random.default_rng(0)
    data = {
        "U": (("eta", "time"), scale * rng.normal(size=(2, 3)), {"units": "loss"}),
        "single": ("eta", np.array([1.5, np.nan], np.float32)),
        "flags": ("eta", np.array([True, False])),
        "whole": ((), np.int64(2**60 + 1)),
        "empty": ("none", np.zeros(0)),
    }
    return xr.Dataset(data, {"eta": [0.1, 0.3], "arm": ("eta", ["a", "long"])}, {"dim": 3, "name": "gas", "flag": True})


def job(scale=1.0, *, seed=0, what=None):
    return result(scale)


@recipe.recipe("growth")
def growth(rates: Positives = (0.1, 0.3), *, seed: int = 0) -> xr.Dataset:
    """r of one seed."""
    return xr.Dataset({"r": ("eta", np.random.default_rng(seed).normal(size=len(rates)))}, {"eta": list(rates)})


def measured(settings, function=job):
    """(result, whether it was measured now)."""
    found, kept = store.kept(function, settings, lambda: function(**settings))
    return found, not kept


def same(a: xr.Dataset, b: xr.Dataset) -> bool:
    dtypes = [{n: d[n].dtype for n in d.variables} for d in (a, b)]
    return a.identical(b) and dtypes[0] == dtypes[1] and all(type(a.attrs[k]) is type(b.attrs[k]) for k in a.attrs)


def test_what_comes_back_is_the_same_to_the_last_bit(folder):
    first, again = measured({"scale": np.pi}), measured({"scale": np.pi})
    assert first[1]
    assert not again[1]
    assert same(first[0], again[0])
    assert again[0]["U"].values.tobytes() == first[0]["U"].values.tobytes()


@dataclasses.dataclass(frozen=True)
class Group:
    rate: float = 0.1


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"seed": True},
        {"seed": 0.0},
        {"seed": 0, "what": None},
        {"seed": 0, "what": (1, 2)},
        {"seed": 0, "what": [1, 2]},
        {"seed": 0, "what": ((1,), 2)},
        {"seed": 0, "what": "12"},
        {"seed": 0, "what": Group()},
        {"seed": 0, "what": Group(0.2)},
        {"seed": 0, "what": np.float32(1)},
        {"seed": 0, "what": result()},
        {"seed": 0, "what": result(2.0)},
        {"seed": 0, "what": result().drop_attrs()},
    ],
)
def test_another_setting_is_another_result(folder, other):
    """In value or in type; what is twice the same is found."""
    assert measured({"seed": 0})[1]
    assert measured(other)[1]
    assert not measured(other)[1]
    assert not measured({"seed": 0})[1]


def test_a_changed_package_another_library_and_another_recipe_find_nothing(folder, monkeypatch):
    name = store.key(job, {})
    assert store.key(measured, {}) != name
    for change, value in (("package", lambda: "other"), ("_machine", lambda: ["other"])):
        with monkeypatch.context() as patch:
            patch.setattr(store, change, value)
            assert store.key(job, {}) != name
    with monkeypatch.context() as patch:
        patch.setattr(store, "_source", lambda function: "other")
        assert store.key(job, {}) != name
    assert store.key(growth.one, {}) not in (name, None)


def test_what_cannot_be_told_or_written_is_measured_each_time(folder):
    closed = 3
    for what in (object(), lambda: closed, np.array([object()]), "my_module.py:make"):
        assert measured({"what": what})[1]
        assert measured({"what": what})[1]
    assert store.files(folder) == []
    attribute, objects = (lambda: xr.Dataset(attrs={"a": (1, 2)})), (lambda: xr.Dataset({"a": ("x", [object()])}))
    for strange in (attribute, objects, lambda: 3):
        for _ in range(2):
            found, kept = store.kept(job, {"seed": 99}, strange)
            assert not kept
            assert type(found) is type(strange())
    assert not list(folder.rglob("*.npz"))


NAMELESS = (lambda x: x), (lambda x: x), (lambda x, factor=2: x)


class Instance:
    def measured(self):
        return result()


def test_functions_of_one_name_and_what_has_no_name_of_its_own_are_measured_each_time(folder):
    def made(factor):
        @recipe.recipe("made")
        def one(*, seed: int = 0) -> xr.Dataset:
            return xr.Dataset({"r": factor})

        return one

    assert [float(made(factor).run(n_seeds=1)["r"][0]) for factor in (1, 2)] == [1, 2]
    for what in (math.tanh, lambda: folder, Instance().measured):
        assert store.key(job, {"what": what}) is None
    assert store.key(Instance().measured, {}) is None
    assert None not in (store.key(job, {"what": what}) for what in (job, Instance, np.linalg.norm))
    keys = [store.key(job, {"what": what}) for what in NAMELESS]
    assert len(set(keys[:2])) == 2
    assert None not in keys[:2]
    assert keys[2] is None


def test_a_job_whose_file_imports_its_neighbours_is_measured_each_time(folder, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "neighbour_of_a_job.py").write_text("VALUE = 1\n")
    for name, line in (("with_one", "from neighbour_of_a_job import VALUE"), ("without", "import numpy as np, math")):
        (tmp_path / f"job_{name}.py").write_text(f"def job():\n    {line}\n")
    with_one, without = (importlib.import_module(f"job_{name}").job for name in ("with_one", "without"))
    assert store.key(with_one, {}) is store.key(job, {"what": with_one}) is None
    assert store.key(without, {}) is not None


def test_what_a_package_measured_that_was_changed_meanwhile_is_not_kept(folder, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(store, "_package_now", lambda: "changed")
        assert measured({})[1]
        assert store.files(folder) == []
    assert measured({})[1]
    assert not measured({})[1]


@pytest.mark.parametrize("damage", [b"", b"PK", b"\x93NUMPY", None])
def test_a_damaged_result_is_measured_again(folder, damage):
    first = measured({})[0]
    (path,) = folder.rglob("*.npz")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] if damage is None else damage)
    again, new = measured({})
    assert new
    assert same(first, again)
    assert not measured({})[1]


def test_a_folder_that_cannot_be_written_loses_nothing(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(store.VARIABLE, str(tmp_path / "file" / "store"))
    assert measured({})[1]
    assert same(measured({})[0], result())


def test_without_a_folder_nothing_is_kept(monkeypatch, tmp_path):
    monkeypatch.setenv(store.VARIABLE, "")
    monkeypatch.chdir(tmp_path)
    assert measured({})[1]
    assert measured({})[1]
    assert list(tmp_path.iterdir()) == []


def test_the_longest_unused_go_first(folder, monkeypatch):
    for seed in range(3):
        measured({"seed": seed})
    size = store.files(folder)[0][1]
    for age, (_, _, path) in enumerate(store.files(folder)):
        store.os.utime(path, (age, age))
    oldest = store.files(folder)[0][2]
    monkeypatch.setenv("THERMOLAB_STORE_BYTES", str(3 * size + size // 2))
    measured({"seed": 3})
    assert len(store.files(folder)) == 3
    assert not oldest.exists()
    monkeypatch.setenv("THERMOLAB_STORE_BYTES", "much")
    with pytest.raises(ValueError, match="THERMOLAB_STORE_BYTES='much'; allowed: a whole number of bytes"):
        store.use()
    assert store.clear(folder)[0] == 3
    assert store.files(folder) == []


def _write(folder, seed):
    store.os.environ[store.VARIABLE] = str(folder)
    for _ in range(20):
        found, _ = measured({"seed": seed % 2})
        assert same(found, result())
        store.clear(folder) if seed == 3 else None


def test_several_processes_write_read_and_clear_at_once(folder):
    context = multiprocessing.get_context("fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn")
    processes = [context.Process(target=_write, args=(folder, seed)) for seed in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert not [path for path in folder.rglob(".*") if path.is_file()]


def test_a_recipe_goes_on_from_the_seeds_that_it_has(folder, monkeypatch):
    first = growth.run(n_seeds=2)
    monkeypatch.setattr(store, "counted", {"found": 0, "measured": 0})
    more = growth.run(n_seeds=3)
    assert store.counted == {"found": 2, "measured": 1}
    assert more.isel(seed=slice(2)).identical(first)
    monkeypatch.setenv(store.VARIABLE, "")
    assert growth.run(n_seeds=3).identical(more)
