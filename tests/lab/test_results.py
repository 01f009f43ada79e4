import json

import numpy as np
import pytest
import xarray as xr

from thermolab.claims import Check, Claim, Result
from thermolab.lab import results

CLAIM = Claim("ideal-gas.x", "03_ideal_gas", "x", "003", "holds", "y")
RESULT = Result(CLAIM, Check(1, 1, 0), "other", Check(2, 1, 0), 3, {"eta": np.float64(0.1), "dims": np.arange(2)})


def test_both_files_come_back_as_they_were(tmp_path):
    dataset = xr.Dataset({"U": ("time", [1.0, 2.0])}, attrs={"units": "1"})
    assert results.save(dataset, [RESULT], tmp_path / "new") == tmp_path / "new"
    with xr.open_dataset(tmp_path / "new" / "results.nc", engine="h5netcdf") as found:
        xr.testing.assert_identical(found.load(), dataset)
    (record,) = json.loads((tmp_path / "new" / "claims.json").read_text())
    assert (record["id"], record["verdict"]) == ("ideal-gas.x", "holds")
    assert record["settings"] == {"eta": 0.1, "dims": [0, 1]}


def test_where_results_go(tmp_path, monkeypatch, capsys):
    assert results.save(claims=[RESULT]) is None
    assert capsys.readouterr().out.startswith("nothing saved")
    monkeypatch.setenv("THERMOLAB_OUT", str(tmp_path / "out"))
    assert results.save(claims=[RESULT]) == tmp_path / "out" / "03_ideal_gas" / "interactive"
    monkeypatch.setenv("THERMOLAB_RESULTS", str(tmp_path / "run"))
    assert results.save(claims=[RESULT]) == tmp_path / "run"
    assert results.save(claims=[RESULT], folder=tmp_path / "mine") == tmp_path / "mine"


def test_what_fails_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.json"
    results.write_json(path, [1])

    def fail(temporary):
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        results.write(path, fail)
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    assert json.loads(path.read_text()) == [1]
