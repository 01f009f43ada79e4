import subprocess
import sys
import time

import pytest

from thermolab import cli


def call(*arguments):
    with pytest.raises(SystemExit) as end:
        cli.main([str(a) for a in arguments])
    return end.value.code or 0


@pytest.mark.parametrize(
    "wrong",
    [
        ["-p", "eta", "abc"],
        ["-p", "dim", "2"],
        ["-p", "nosuch", "1"],
        ["-p", "eta_range", "[1,0.1,5]"],
        ["-p", "eta", "0.1,2"],
        ["-p", "eta"],
        ["--seed", "x"],
        ["--preset", "huge"],
        ["--device", "gpu"],
        ["--jobs", "0"],
        ["--nosuch"],
    ],
    ids=" ".join,
)
def test_a_users_mistake_is_one_line_and_nothing_is_written(wrong, write, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("thermolab.lab.job.Job.execute", lambda *_: pytest.fail("something ran"))
    path = write("nb")
    assert call("run", path, "--out", tmp_path / "out", *wrong) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert captured.err.startswith("thermolab: ")
    assert [p.name for p in tmp_path.iterdir()] == ["nb.ipynb"]


def test_cuda_without_cuda(write, tmp_path, capsys, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert call("run", write("nb"), "--out", tmp_path / "out", "--device", "cuda") == 2
    assert "needs an NVIDIA GPU" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_unwritable_out(write, tmp_path, capsys):
    path = write("nb")
    assert call("run", path, "--out", path / "below a file") == 2
    assert "cannot write to --out" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["99_nosuch", "./nosuch.ipynb", "conftest.py"])
def test_unknown_notebook(name, tmp_path, capsys):
    assert call("run", name, "--out", tmp_path / "out") == 2
    assert f"there is no notebook {name!r}; allowed: a path, all, " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_bad_variable_is_named_too(write, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("THERMOLAB_PRESET", "huge")
    assert call("run", write("nb"), "--out", tmp_path / "out") == 2
    assert "preset='huge' is unknown; allowed: one of smoke, lab, paper" in capsys.readouterr().err


def test_exit_code_of_run(write, tmp_path, monkeypatch):
    from thermolab.lab import job

    def fail(*_):
        raise job.Failure("on purpose")

    monkeypatch.setattr(job.Job, "execute", lambda *_: 1.0)
    assert call("run", write("nb"), "--out", tmp_path / "out") == 0
    monkeypatch.setattr(job.Job, "execute", fail)
    assert call("run", write("nb"), "--out", tmp_path / "out") == 1


def test_help_is_quick_and_imports_nothing_heavy():
    code = "import sys, thermolab.cli; print({*sys.modules} & {'torch', 'numpy', 'papermill', 'pandas'})"
    start = time.perf_counter()
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize("command", ["run", "check", "claims", "replay", "store", "doctor", "lab", "book", "bench", "test"])
def test_every_command_has_help(command, capsys):
    assert call(command, "--help") == 0
    assert "Usage: thermolab " + command in capsys.readouterr().out


def test_what_is_kept_of_measurements_is_told_and_cleared(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("THERMOLAB_STORE", str(tmp_path))
    (tmp_path / "ab").mkdir()
    (tmp_path / "ab" / "abc.npz").write_bytes(b"x" * 2_000_000)
    steps = [((), "1 results (2 of 2147 MB) in "), (("--clear",), "removed 1 results (2 MB)"), ((), "0 results (0 of")]
    for options, said in steps:
        assert call("store", *options) == 0
        assert capsys.readouterr().out.startswith(said)
    monkeypatch.setenv("THERMOLAB_STORE_BYTES", "-1")
    assert call("store") == 2
    assert "THERMOLAB_STORE_BYTES='-1'; allowed: a whole number of bytes" in capsys.readouterr().err


def test_doctor_names_what_is_missing(capsys, monkeypatch):
    from thermolab.lab import provenance

    assert call("doctor") == 0
    report = capsys.readouterr().out
    assert all(word in report for word in ("python", "torch", "device", "torch threads", "chromium", "papermill"))
    version = provenance.version
    monkeypatch.setattr(provenance, "version", lambda name: None if name == "papermill" else version(name))
    assert call("doctor") == 1
    assert "missing: papermill" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--layout", "teacher"], "'teacher' is not one of 'student', 'developer'"),
        (["--language", "la"], "there is no catalogue of 'la'; allowed: en, de"),
    ],
)
def test_an_unknown_layout_or_language_is_refused_before_anything_starts(options, said, capsys, monkeypatch):
    monkeypatch.setattr("thermolab.lab.start._module", lambda *_, **__: pytest.fail("a server was started"))
    assert call("lab", *options) == 2
    assert said in capsys.readouterr().err


def test_layout_and_language_go_to_the_server_and_its_kernels(monkeypatch):
    given = {}
    monkeypatch.setattr("thermolab.lab.start._module", lambda *_, **variables: given.update(variables) or 0)
    assert call("lab", "--layout", "developer", "--language", "de", "--no-browser") == 0
    assert (given["THERMOLAB_LAYOUT"], given["THERMOLAB_LANGUAGE"]) == ("developer", "de")
