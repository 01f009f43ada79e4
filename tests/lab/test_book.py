import json
import re
import shutil

import nbformat
import pytest
from nbformat import v4

from thermolab import claims
from thermolab.lab import book, job, pages, saved
from thermolab.lab.params import UserError
from thermolab.lab.runner import Outcome

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
RUN = {
    "parameters": {"preset": "lab"},
    "default_settings": True,
    "seconds": 1.0,
    "started": "2026-01-01T00:00:00",
    "device": "cpu",
    "git_revision": None,
    "versions": {"torch": "2"},
}
TEXT = r"""# The gas $pV = RT$

Inline $\langle |g|^2 \rangle$, a price of \$5 and `$no formula$`.

$$ r^\ast = \sqrt{\frac{T(D-1)}{\lambda}} $$

\begin{align} U &= T \\ S &= \log T \end{align}

<details><summary>Hint</summary>

Folded: $\eta$.

</details>
"""


def executed():
    """An executed notebook with formulas, a figure, a table and what a widget leaves behind."""
    figure = v4.new_output("display_data", {"image/png": PIXEL}, metadata={"image/png": {"alt": "one pixel"}})
    widget = v4.new_output("display_data", {saved.WIDGET: {"model_id": "0"}, "text/plain": "IntSlider(value=0)"})
    latex = v4.new_output("display_data", {"text/latex": r"$\displaystyle \frac{a}{b}$"})
    text = v4.new_output("stream", text="<script>no script</script>")
    solution = v4.new_code_cell("print(the_answer)", metadata={"tags": ["solution"]})
    mine = v4.new_code_cell("write_here = None", metadata={"tags": ["student"]})
    words = v4.new_markdown_cell("[Words](PRIMER.md#Words)")
    cells = [v4.new_markdown_cell(TEXT), v4.new_code_cell("draw()", outputs=[figure, widget, latex, text]), solution, mine, words]
    return v4.new_notebook(cells=cells, metadata={"widgets": {"state": {}}, "language_info": {"name": "python"}})


@pytest.fixture
def built(tmp_path):
    """The pages of one finished and one failed run."""
    runs = []
    for name in ("03_ideal_gas", "04_neuron_balance"):
        run = job.Run(tmp_path / f"{name}.ipynb", {"preset": "lab"}, tmp_path / "results" / name / "key", True, "")
        nbformat.write(executed(), run.notebook)
        runs.append(run)
    (tmp_path / "PRIMER.md").write_text(TEXT)
    folder = runs[0].folder
    folder.mkdir(parents=True)
    shutil.copy(runs[0].notebook, folder / "notebook.ipynb")
    claim, good, bad = claims.section("03_ideal_gas"), claims.Check(1, 1, 0.1, 0.01), claims.Check(2, 1, 0.1, 0.01)
    result = claims.Result(next(iter(claim.values())), good, "another arm", bad, 3)
    (folder / "claims.json").write_text(json.dumps([result.as_dict()]))
    (folder / "run.json").write_text(json.dumps(RUN))
    outcomes = [Outcome(runs[0], "finished", ""), Outcome(runs[1], "failed", "cell 3: it broke")]
    book.write(outcomes, tmp_path / "book")
    return tmp_path / "book"


def test_the_index_has_every_claim_and_a_link_to_what_was_run(built):
    index = (built / "index.html").read_text()
    assert all(f"<code>{name}</code>" in index for name in claims.register())
    assert '<a href="03_ideal_gas.html">' in index
    assert "1 holds" in index
    assert f"{len(claims.register()) - 1} not measured" in index
    assert "cell 3: it broke" in index
    assert {p.name for p in built.iterdir()} == {"index.html", "primer.html", "reference.html", "03_ideal_gas.html"}
    assert '<a href="primer.html">' in index
    assert 'href="primer.html#Words"' in (built / "03_ideal_gas.html").read_text()


def test_a_book_of_which_every_notebook_failed_has_its_index(built, tmp_path):
    run = job.Run(tmp_path / "04_neuron_balance.ipynb", {}, tmp_path / "nosuch", True, "")
    book.write([Outcome(run, "failed", "cell 3: it broke")], tmp_path / "empty")
    assert "cell 3: it broke" in (tmp_path / "empty" / "index.html").read_text()


def test_code_is_folded_behind_one_switch_but_where_students_write(built):
    page = (built / "03_ideal_gas.html").read_text()
    folded = re.findall(r'<div class="folded">(.*?)</pre>', page, flags=re.DOTALL)
    assert [re.sub(r"<[^>]+>", "", text).strip() for text in folded] == ["draw()"]
    assert page.count('<input type="checkbox" id="code">') == 1
    assert 'id="code"' not in (built / "primer.html").read_text()


def test_pages_need_no_network(built):
    for page in built.iterdir():
        html = page.read_text()
        assert not re.search(r"<script|<link|@import|<iframe", html)
        assert not re.search(r"""(src|srcset|data)\s*=\s*["'](https?:)?//""", html)
        assert not re.search(r"url\(\s*['\"]?(https?:)?//", html)


def test_formulas_are_mathml(built):
    html = (built / "03_ideal_gas.html").read_text()
    assert html.count("<math") == 6
    assert "\\frac" not in html
    assert "$no formula$" in html
    assert "$5" in html


def test_figures_keep_their_alt_text_and_widgets_leave_nothing(built):
    html = (built / "03_ideal_gas.html").read_text()
    assert re.search(r'<img[^>]+alt="one pixel"', html)
    assert "IntSlider" not in html
    assert "widget" not in html


def test_a_hint_stays_folded(built):
    html = (built / "03_ideal_gas.html").read_text()
    assert re.search(r"<details>.*Folded:.*</details>", html, flags=re.DOTALL)


def test_a_solution_stays_folded_and_nothing_else_does(built):
    html = (built / "03_ideal_gas.html").read_text()
    (folded,) = re.findall(r'<details class="solution"><summary>Solution</summary>(.*?)</details>', html, flags=re.DOTALL)
    assert "the_answer" in folded
    assert "draw" not in folded
    assert html.count("the_answer") == 1


def test_the_style_sheet_has_its_quotes(built):
    for page in built.iterdir():
        style = re.search(r"<style>(.*?)</style>", page.read_text(), flags=re.DOTALL)[1]
        assert "&" not in style
        assert '"' in style


def test_what_is_no_formula_is_named():
    with pytest.raises(UserError, match=r"the formula \\nosuch cannot be drawn"):
        pages.mathml(r"\nosuch")


@pytest.mark.browser
def test_a_browser_without_network_draws_formulas_and_pictures(built):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium here: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_context(offline=True, viewport={"width": 400, "height": 800}).new_page()
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto((built / "03_ideal_gas.html").as_uri())
        root = page.locator("msqrt").bounding_box()
        pixel = page.evaluate("document.querySelector('img').naturalWidth")
        wide = page.evaluate("document.documentElement.scrollWidth")
        browser.close()
    assert root["height"] > 15
    assert pixel == 1
    assert wide <= 400
    assert not [url for url in asked if url.startswith("http")]
