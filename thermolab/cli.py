"""The command line: `thermolab run`, `check`, `claims`, `replay`, `store`, `lab`, `book`, `bench`, `test` and `doctor`.

A user's mistake gets one line on stderr and exit code 2. Commands import what they need when they are called.
"""

from __future__ import annotations

import sys

import click

import thermolab

SETTING = "Set a parameter of the notebook, or a setting that all these claims read. JSON for a list."
LAYOUT = "student: code is folded but where it is to be read or written; developer: all of it. THERMOLAB_LAYOUT, else student."
PARAMETER = "Set a parameter. 0.1,0.3 is a sweep with one run for each value, JSON such as [2,1,0.6] is one value."


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(thermolab.__version__)
def app():
    """Thermolab: a lab book on the thermodynamics of stochastic gradient descent."""


@app.command()
@click.argument("notebooks", nargs=-1, required=True)
@click.option("--preset", help="smoke: a first look; lab: every verdict decided; (later) paper: published sizes.")
@click.option("-p", "parameters", nargs=2, multiple=True, metavar="NAME VALUE", help=PARAMETER)
@click.option("--seed", type=int, help="Seed of all random numbers.")
@click.option("--device", help="auto, cpu or cuda.")
@click.option("--out", help="Folder of the results; THERMOLAB_OUT, else results.", show_default=False)
@click.option("--jobs", type=int, default=1, help="How many notebooks at once.")
@click.option("--force", is_flag=True, help="Repeat finished runs.")
def run(**options):
    """Execute NOTEBOOKS: stems such as 03_ideal_gas, paths, or all.

    Each run writes notebook.ipynb, claims.json, results.nc and run.json to OUT/NOTEBOOK/KEY. Finished runs are
    skipped, so the same command goes on where it was stopped. Exit 1 if a run fails.
    """
    from thermolab.lab import runner

    _use_store(not options["force"])
    outcomes = runner.run(**options)
    sys.exit(any(outcome.state == "failed" for outcome in outcomes))


@app.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option("--preset", help="smoke: a first look; lab: every verdict decided.")
@click.option("-p", "parameters", nargs=2, multiple=True, metavar="NAME VALUE", help=SETTING)
@click.option("--seed", type=int, help="Seed of all random numbers.")
@click.option("--device", help="auto, cpu or cuda.")
@click.option("--out", help="Folder of the results; THERMOLAB_OUT, else results.", show_default=False)
@click.option("--force", is_flag=True, help="Measure again what has been measured.")
@click.option("--network", metavar="FILE.py:FUNCTION", help="Your own network, for claims general.*; the file is run.")
def check(ids, network, parameters, **options):
    """Decide single claims, such as ideal-gas.net.radius: only the recipes behind them run.

    The numbers are those of the notebook with the same settings. The ids stand in data/claims.toml. A record is left in
    OUT/NOTEBOOK/check-..., and read again by the same command. Exit 1 if a verdict contradicts the register at default
    settings (inconclusive contradicts nothing at smoke) or a run diverges, 2 for a mistake, 130 if stopped.
    """
    from thermolab import phenomena
    from thermolab.lab import check, tables

    _use_store(not options["force"])
    parameters = [*parameters, *([] if network is None else [("network", network)])]
    rows = check.check(ids, phenomena.package, parameters=parameters, **options)
    click.echo(tables.as_text(rows))
    sys.exit(bool(tables.contradictions(rows)))


@app.command()
@click.argument("folder", metavar="DIR")
@click.option("--format", "style", type=click.Choice(["table", "json", "markdown"]), default="table")
def claims(folder, style):
    """Print the scorecard of the results in DIR. Exit 1 if a verdict contradicts the register."""
    from thermolab.lab import tables

    rows = tables.scorecard(folder)
    click.echo(tables.as_text(rows, style))
    if style == "table":
        click.echo(f"\n{tables.together(rows)}")
    wrong = tables.contradictions(rows)
    for row in wrong:
        click.echo(f"{row['id']} {row['verdict']}, registered: {row['expected']} ({row['run']})", err=True)
    sys.exit(bool(wrong))


@app.command()
@click.argument("log", metavar="LOG")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="Another device than the log's.", show_default=False)
@click.option("--out", help="File for the frames (netCDF).", show_default=False)
@click.option("--scenario", metavar="FILE.py:NAME", help="Of a log of your own Scenario; the file is run.")
def replay(log, device, out, scenario):
    """Replay the LOG that a live panel saved. Exit 1 if it does not end where the log did, on the same machine."""
    from thermolab import phenomena
    from thermolab.lab import replay

    known = phenomena.scenarios() if scenario is None else replay.own(scenario)
    sys.exit(not replay.replay(log, known, device=device, out=out))


@app.command()
@click.option("--clear", is_flag=True, help="Remove them all.")
def store(clear):
    """Say what `run`, `check` and `book` have kept of measurements, to go on from: where, how many, how large."""
    from thermolab.engine import store

    _use_store()
    where = store.folder()
    if where is None:
        click.echo(f"nothing is kept: {store.VARIABLE} is empty")
    elif clear:
        number, size = store.clear(where)
        click.echo(f"removed {number} results ({size / 1e6:.0f} MB) from {where}")
    else:
        found = store.files(where)
        size = sum(one[1] for one in found)
        click.echo(f"{len(found)} results ({size / 1e6:.0f} of {store.limit() / 1e6:.0f} MB) in {where}")


@app.command()
def doctor():
    """Show versions, device and threads, and what is missing. Exit 1 if something needed is missing."""
    from thermolab.lab import doctor

    sys.exit(doctor.main())


@app.command(context_settings={"ignore_unknown_options": True})
@click.option("--layout", type=click.Choice(["student", "developer"]), help=LAYOUT, show_default=False)
@click.option(
    "--language", help="en, or one of which there is a catalogue, such as de. THERMOLAB_LANGUAGE, else en.", show_default=False
)
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def lab(layout, language, options):
    """Open JupyterLab on the start page. OPTIONS go to JupyterLab, such as --no-browser."""
    from thermolab.lab import start

    sys.exit(start.lab(options, layout, language))


@app.command()
@click.option("--out", default="build/book", help="Folder of the pages.")
@click.option("--results", default="build/results", help="Folder of the results; finished runs are used again.")
@click.option("--jobs", type=int, default=2, help="How many notebooks at once.")
@click.option("--preset", default="lab", help="smoke or lab; (later) paper.")
def book(**options):
    """Run every notebook and build the book as HTML pages. Exit 1 if a notebook fails."""
    from thermolab.lab import book

    _use_store()
    sys.exit(not book.build(**options))


@app.command(context_settings={"ignore_unknown_options": True})
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def bench(options):
    """Measure the speed ratios of benchmarks/. OPTIONS go to benchmarks/run.py."""
    from thermolab.lab import start

    sys.exit(start.bench(options))


@app.command(context_settings={"ignore_unknown_options": True})
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def test(options):
    """Check style and run all tests: unit, doctests, notebooks, browser. OPTIONS go to pytest."""
    from thermolab.lab import start

    sys.exit(start.test(options))


def _use_store(default: bool = True) -> None:
    from thermolab.engine import store

    try:
        store.use(default)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; every mistake of a user ends as one line."""
    try:
        sys.exit(app.main(arguments, prog_name="thermolab", standalone_mode=False))
    except click.ClickException as error:
        _leave(error.format_message(), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _leave("stopped; finished runs are kept, the same command goes on from there", 130)
    except OSError as error:
        _leave(str(error), 1)
    except Exception as error:
        from thermolab.claims import RegisterError
        from thermolab.lab.job import Failure
        from thermolab.lab.params import UserError

        if not isinstance(error, UserError | Failure | RegisterError):
            raise
        _leave(str(error), 1 if isinstance(error, Failure) else 2)


def _leave(message: str, code: int) -> None:
    click.echo("thermolab: " + " ".join(message.split()), err=True)
    sys.exit(code)
