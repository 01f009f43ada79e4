"""The live panel in a real browser: how soon a key acts, how many frames are drawn, what the panel costs in steps.

Each panel is that of its notebook but for its replicas: one core, float32, one thread, JupyterLab and Chromium beside it
on the same machine. Steps per second are compared with those of the same run going on without the panel, with the same
observables read at the same steps, in the same kernel, in turn: in wall time, in which the browser takes its share of a
machine with few cores, and for each second of processor time of the kernel, threads that send messages included.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path

from nbformat import v4

PRESSES, ROUNDS, SECONDS = 30, 3, 4.0
GAS = '[Lines("T", "U", "r", "S"), Scatter("across", "along", equal=True)]'
BOTH = '{"narrow": (scenes.SPHERE, {}), "wide": (scenes.SPHERE, {"width": 32})}'
COLD = '[Lines("U", "U_val", "S", "lambda_max")]'
FOUR, FIVE = '[Lines("U", "T", "snr", "S")]', '[Lines("r", "T", "U", "snr", "S")]'
# the keys raise η fourfold: panels that would diverge there start lower
MAP = 'HeatMap("map", rows=scenes.LAYERS, columns=scenes.LAYERS, limits=(0.4, 1), x="layer", y="layer")'
PANELS = {
    "panel isotropic D=3, R=64": f'{{"run": (scenes.ISOTROPIC, {{"replicas": 64}})}}, {GAS}',
    "panel network 64-8-8, B=32, R=1": f'{{"run": (scenes.NETWORK, {{"replicas": 1, "eta": 0.01}})}}, {FIVE}',
    "panel MLP 64-64-10, B=32, R=1": f'{{"run": (scenes.MLP, {{}})}}, {FOUR}',
    "panel images 256-32-32-10, B=16, R=1": f'{{"run": (scenes.IMAGES, {{}})}}, {COLD}',
    "panel networks 64-8-8 and 64-32-32, B=32, R=2 each": f"{BOTH}, {FOUR}",
    "panel walkers": '{"run": (scenes.WALKER, {})}, [Lines("r", "U"), Scatter("x", "y", equal=True)]',
    "panel neurons": '{"run": (scenes.NEURONS, {"eta": 0.005})}, [Scatter("g2_in", "g2_out"), Lines("log_ratio", "U")]',
    "panel two linear networks": f'{{"run": (scenes.PAIR, {{"eta": 0.005}})}}, [{MAP}, Lines("cka", "U")]',
    "panel noise switch": '{"run": (scenes.SWITCH, {"eta": 0.005})}, [Lines("lambda_max", "cka", "U")]',
    "panel edge of stability": '{"run": (scenes.EDGE, {"eta": 0.05})}, [Lines("lambda_max", "U")]',
}
SETUP = f"""\
import asyncio, json, os, sys, time
from types import SimpleNamespace
here = {str(Path(__file__).parent)!r}
sys.path.insert(0, here)
os.environ["PYTHONPATH"] += os.pathsep + here  # for the processes that measure
import scenes
from thermolab.engine import drivers
from thermolab.lab import live
from thermolab import plots
from thermolab.lab.live import *
plots.style()
setup = SimpleNamespace(seed=0, device="cpu", live="on")
"""
PANEL = """\
arms, views = {}
await panel(arms, views, setup, steps=90, alt="a benchmark")
"""
# what the panel is asked from within: when an order to turn a knob was carried out, and its speed against none
INSIDE = """\
shown = list(live._shown.values())[-1][1]
driver, turned, rounds = shown.driver, [], []
turn = driver._turn
driver._turn = lambda name, value: (turn(name, value), turned.append(time.time() * 1000))
def counters():
    return time.perf_counter(), time.process_time(), driver.runs[0].state.step, shown.drawings
async def compare(rounds_wanted, seconds):
    for _ in range(rounds_wanted):
        driver.tell("run"); await asyncio.sleep(1.5)
        before = counters(); await asyncio.sleep(seconds); after = counters()
        driver.tell("pause"); await asyncio.sleep(0.3)
        t, cpu, steps, drawn = (b - a for a, b in zip(before, after))
        runs, first, began, cpu_began = driver.runs, driver.runs[0].state.step, time.perf_counter(), time.process_time()
        for _ in drivers.slices(runs, driver._every):  # the same runs, from where they are
            if runs[0].steps_summed % driver._every == 0:
                frames = [run.frame() for run in runs]
            if time.perf_counter() - began > seconds:
                break
        done = runs[0].state.step - first
        alone, cpu_alone = done / (time.perf_counter() - began), done / (time.process_time() - cpu_began)
        rounds.append({"panel": steps / t, "alone": alone, "frames": drawn / t, "cpu_ratio": steps / cpu / cpu_alone})
"""
# in the page: when a key went down, and when its value first stood in the read-out and in a chart
WATCH = """() => {
  window.keys = []; window.shown = {};
  const now = () => performance.timeOrigin + performance.now();
  const see = key => { if (!(key in window.shown)) window.shown[key] = now(); };
  window.watchers = [];
  const watch = (place, look) => {
    window.watchers.push(new MutationObserver(look));
    window.watchers.at(-1).observe(place, {subtree: true, childList: true, characterData: true});
  };
  document.addEventListener('keydown', () => window.keys.push(now()), true);
  const text = document.querySelector('.tl-readout'), chart = document.querySelector('.tl-chart');
  watch(text, () => see('read ' + text.textContent.match(/eta=(\\S+)/)?.[1]));
  watch(chart, () => chart.querySelectorAll('text').forEach(
    label => { if (label.textContent.startsWith('η ')) see('drawn ' + label.textContent); }));
  see('read ' + text.textContent.match(/eta=(\\S+)/)[1]);
}"""


def measure(name: str, lab) -> dict:
    """Latencies in ms (median, largest), frames per second, and steps per second with the panel over those without."""
    cells = [v4.new_code_cell(SETUP), v4.new_code_cell(PANEL.format(PANELS[name]))]
    lab.open(v4.new_notebook(cells=cells))
    lab.run_cell(0)
    began = time.perf_counter()
    lab.page.evaluate("window.jupyterapp.shell.currentWidget.content.activeCellIndex = 1")
    lab.page.evaluate("void window.jupyterapp.commands.execute('notebook:run-cell')")
    lab.page.wait_for_function("document.querySelector('.tl-readout')?.textContent.includes('step=')")
    first = time.perf_counter() - began
    lab.page.wait_for_selector(".tl-twin", state="attached")
    lab.scroll_to(1)
    lab.evaluate_in_kernel(INSIDE)
    lab.page.locator("button.tl-run").click()
    lab.page.wait_for_timeout(2000)
    latencies = _latencies(lab)
    lab.page.evaluate("window.watchers.forEach(watcher => watcher.disconnect())")  # they cost the page half a core
    lab.page.locator("button.tl-pause").click()
    lab.evaluate_in_kernel(f"job = asyncio.ensure_future(compare({ROUNDS}, {SECONDS}))")
    rounds = []
    while len(rounds) < ROUNDS:
        lab.page.wait_for_timeout(4000)
        rounds = json.loads(lab.evaluate_in_kernel("print(json.dumps(rounds))"))
    middle = {k: statistics.median(r[k] for r in rounds) for k in ("panel", "alone", "frames", "cpu_ratio")}
    return {"first_s": first, **latencies, **middle, "ratio": statistics.median(r["panel"] / r["alone"] for r in rounds)}


def _latencies(lab) -> dict:
    """From key press to the knob in use, to the read-out and to the chart; one key at a time, none while another acts."""
    lab.page.evaluate(WATCH)
    lab.page.locator(".tl-eta .noUi-handle").focus()
    for i in range(PRESSES):
        lab.page.keyboard.press("ArrowRight" if i < PRESSES // 2 else "ArrowUp")
        lab.page.wait_for_function(f"Object.keys(window.shown).filter(k => k.startsWith('drawn')).length > {i}")
        lab.page.wait_for_timeout(150 + 17 * (i % 7))  # not in step with the frames
    keys, shown = lab.page.evaluate("window.keys"), lab.page.evaluate("window.shown")
    used = json.loads(lab.evaluate_in_kernel("print(turned)"))
    drawn = sorted(t for k, t in shown.items() if k.startswith("drawn"))
    read = sorted(t for k, t in shown.items() if k.startswith("read"))[1:]  # the first is what stood there before
    found = {"used": used, "read": read, "drawn": drawn}
    out = {}
    for name, times in found.items():
        waits = [b - a for a, b in zip(keys, times, strict=True)]
        out |= {f"{name}_ms": statistics.median(waits), f"{name}_largest_ms": max(waits)}
    return out


def report(names: list[str]) -> dict:
    """Measure the panels and print what was found; {name: numbers}."""
    from playwright.sync_api import sync_playwright

    from thermolab.lab import browser

    out = {}
    with tempfile.TemporaryDirectory() as folder, browser.serve(Path(folder)) as server, sync_playwright() as playwright:
        chromium = playwright.chromium.launch(**browser.LAUNCH)
        for name in names:
            lab = browser.Lab(server, chromium.new_page(viewport=browser.WINDOW))
            out[name] = r = measure(name, lab)
            lab.close()
            print(f"\n{name}")
            print(f"  first frame after {r['first_s']:.1f} s; {r['frames']:.1f} frames/s drawn")
            for key, what in (("used", "knob in use"), ("read", "read-out"), ("drawn", "chart")):
                print(f"  key to {what:<12} {r[f'{key}_ms']:6.0f} ms median, {r[f'{key}_largest_ms']:6.0f} ms at most")
            print(f"  {r['panel']:,.0f} steps/s, {r['alone']:,.0f} without panel: {100 * r['ratio']:.0f} % in wall time, "
                  f"{100 * r['cpu_ratio']:.0f} % for each second of the kernel's processor time")  # fmt: skip
        chromium.close()
    return out
