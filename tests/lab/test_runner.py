import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest

from thermolab.lab import job, runner
from thermolab.lab.params import UserError

ROOT = Path(__file__).parents[2]
SAVE = "from thermolab.lab import results; results.save(claims=[])"


def states(outcomes):
    return [outcome.state for outcome in outcomes]


def command(*arguments, cwd):
    """Start the real command line in a process of its own."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "thermolab", "run", *map(str, arguments)],
        cwd=cwd,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which the background jobs of a shell ignore
        text=True,
    )


def wait_for(condition, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "timed out"
        time.sleep(0.05)


def test_sweep_resume_force(write, tmp_path, monkeypatch, capsys):
    path, out = write("nb", "import os; print(p.eta, os.environ['THERMOLAB_WORKERS'])", SAVE), tmp_path / "out"
    ask = {"preset": "smoke", "parameters": [("eta", "0.01,0.02")], "seed": 5, "out": str(out), "jobs": 2}
    first = runner.run([str(path)], **ask)
    assert states(first) == ["finished"] * 2
    folders = sorted(outcome.run.folder for outcome in first)
    assert [f.name[:29] for f in folders] == [f"eta={x},preset=smoke,seed=5-"[:29] for x in (0.01, 0.02)]
    for folder, eta in zip(folders, (0.01, 0.02), strict=True):
        assert {p.name for p in folder.iterdir()} == {"notebook.ipynb", "claims.json", "run.json"}
        run = json.loads((folder / "run.json").read_text())
        assert (run["status"], run["parameters"]["eta"], run["seed"], run["device"]) == ("finished", eta, 5, "cpu")
        assert run["default_settings"] is False
        executed = nbformat.read(folder / "notebook.ipynb", as_version=4)
        assert executed.cells[-2].outputs[0].text == f"{eta} {max(1, job.cpus() // 2)}\n"

    monkeypatch.setattr(job.Job, "execute", lambda *_: pytest.fail("a finished run was repeated"))
    assert states(runner.run([str(path)], **ask)) == ["skipped"] * 2
    assert "finished before" in capsys.readouterr().out

    done = []
    monkeypatch.setattr(job.Job, "execute", lambda self, _: done.append(self.run) or 0.0)
    assert states(runner.run([str(path)], **ask, force=True)) == ["finished"] * 2
    write("nb", "print('another notebook now')", SAVE)
    assert states(runner.run([str(path)], **ask)) == ["finished"] * 2
    assert len(done) == 4


def test_default_settings_are_those_that_change_nothing_but_how(write, tmp_path):
    def default(*given):
        return [run.default_settings for run in runner.plan([write("nb")], given, tmp_path)]

    assert default(("preset", "smoke"), ("seed", "3"), ("eta", "0.05")) == [True]
    assert default(("eta", "0.05,0.06")) == [True, False]


def test_fewer_seeds_are_no_default_settings_for_they_change_the_errors(tmp_path):
    runs = runner.plan([runner.notebooks_folder() / "03_ideal_gas.ipynb"], [("n_seeds", "5,4")], tmp_path)
    assert [run.default_settings for run in runs] == [True, False]


def test_a_failed_run_is_one_line_and_keeps_its_notebook(write, tmp_path):
    good, bad, out = write("good"), write("bad", "1/0"), tmp_path / "out"
    outcomes = runner.run([str(bad), str(good)], out=str(out), jobs=2)
    message = {o.run.notebook.stem: o for o in outcomes}["bad"].message
    assert "cell 5: ZeroDivisionError: division by zero" in message
    assert "\n" not in message
    assert sorted(states(outcomes)) == ["failed", "finished"]
    (kept,) = (out / "bad").iterdir()
    assert kept.name.endswith(".failed")
    assert [p.name for p in kept.iterdir()] == ["notebook.failed.ipynb"]


def test_a_killed_run_leaves_nothing_finished_and_starts_again(write, tmp_path):
    marker, out = tmp_path / "started", tmp_path / "out"
    slow = f"import pathlib, time; m = pathlib.Path({str(marker)!r})\nif not m.exists(): m.touch(); time.sleep(600)"
    quick, path = write("quick"), write("slow", slow)
    process = command(quick, path, "--out", out, cwd=tmp_path)
    wait_for(marker.exists)
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2  # papermill and its kernel
    process.kill()
    process.communicate()
    wait_for(lambda: not any(c.is_running() and c.status() != psutil.STATUS_ZOMBIE for c in children))
    (partial,) = (out / "slow").iterdir()
    assert partial.name.startswith(".")
    assert states(runner.run([str(quick), str(path)], out=str(out))) == ["skipped", "finished"]
    (folder,) = (out / "slow").iterdir()
    assert (folder / "run.json").is_file()


def test_interrupt_is_one_line(write, tmp_path):
    marker = tmp_path / "started"
    path = write("slow", f"import pathlib, time; pathlib.Path({str(marker)!r}).touch(); time.sleep(600)")
    process = command(path, "--out", tmp_path / "out", cwd=tmp_path)
    wait_for(marker.exists)
    process.send_signal(2)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.strip().startswith("thermolab: stopped")
    assert "Traceback" not in error
    assert list((tmp_path / "out").iterdir()) == []


def test_errors_when_writing_are_a_failed_run(write, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(job.Job, "_watch", full)
    (outcome,) = runner.run([str(write("nb"))], out=str(tmp_path / "out"))
    assert (outcome.state, "No space left" in outcome.message) == ("failed", True)
    assert list((tmp_path / "out").iterdir()) == []


def test_two_notebooks_of_one_name_are_refused(write, tmp_path):
    path = write("nb")
    other = tmp_path / "sub" / "nb.ipynb"
    other.parent.mkdir()
    other.write_bytes(path.read_bytes())
    with pytest.raises(UserError, match="share a results folder"):
        runner.find([str(path), str(other)])


def test_all_means_the_notebooks_of_the_book(tmp_path, monkeypatch, write):
    for name in ("00_first", "01_second", "draft"):
        write(name)
    monkeypatch.setattr(runner, "notebooks_folder", lambda: tmp_path)
    assert [p.stem for p in runner.find(["all"])] == ["00_first", "01_second"]
    assert [p.stem for p in runner.find(["01_second"])] == ["01_second"]


def test_a_key_is_a_file_name_and_tells_parameters_apart():
    one, two = (runner.key({"path": x, "n": 1}, ["path"]) for x in ("../a b/c", "../a b/d"))
    assert one != two
    assert "/" not in one
    assert not one.startswith(".")
    assert runner.key({"a": 1, "b": 2}) == runner.key({"b": 2, "a": 1})
    assert len(runner.key({"a": "x" * 500}, ["a"])) < 100
