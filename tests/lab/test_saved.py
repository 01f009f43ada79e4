import asyncio
import copy

import ipywidgets
import nbformat
import pytest
from nbconvert import HTMLExporter, MarkdownExporter
from nbformat import v4
from traitlets.config import Configurable

from thermolab.lab import layout, saved
from thermolab.lab.contents import Contents
from thermolab.lab.params import UserError


def notebook():
    panel = v4.new_output("display_data", {saved.WIDGET: {"model_id": "0"}, "text/html": "<p>run it</p>", "text/plain": "HBox()"})
    bar = v4.new_output("display_data", {saved.WIDGET: {"model_id": "1"}, "text/plain": "100%"})
    picture = v4.new_output("display_data", {"image/png": "x", "text/plain": "<Figure>"})
    text = v4.new_output("stream", text="measured")
    failure = v4.new_output("error", ename="ValueError", evalue="x", traceback=[])
    cells = [v4.new_markdown_cell("# Title"), v4.new_code_cell("1", outputs=[panel, bar, picture, text, failure])]
    return v4.new_notebook(cells=cells, metadata={"widgets": {saved.WIDGET: {"state": {}}}})


def test_widgets_leave_their_pictures_and_nothing_else_changes():
    before = notebook()
    saved.without_widgets(after := copy.deepcopy(before))
    kept = [before.cells[1].outputs[i] for i in (0, 2, 3, 4)]
    kept[0].data.pop(saved.WIDGET)
    assert after.cells[1].outputs == kept
    assert after.cells[0] == before.cells[0]
    assert after.metadata == {}


@pytest.mark.parametrize("exporter", [HTMLExporter, MarkdownExporter])
def test_elsewhere_a_saved_file_shows_pictures_and_text(exporter, monkeypatch):
    """By the MIME bundle that a widget really has, and the picture that a panel at rest leaves beside it."""
    shown = []
    monkeypatch.setattr(saved, "display", lambda data, raw: shown.append(data))
    saved.show(ipywidgets.VBox(), "<p>Run this cell to go on.</p>")
    (data,) = shown
    assert set(data) == {saved.WIDGET, "text/html", "text/plain"}
    left = v4.new_output("display_data", {"text/html": '<div class="tl-left"><img alt="a gas"></div>'})
    cell = v4.new_code_cell("await panel()", outputs=[v4.new_output("display_data", data), left])
    page, _ = exporter().from_notebook_node(v4.new_notebook(cells=[cell]))
    assert "Run this cell to go on." in page
    assert '<img alt="a gas"' in page
    assert saved.WIDGET not in page


@pytest.mark.parametrize("running", [True, False])
def test_a_notebook_with_a_kernel_keeps_its_widgets(tmp_path, running):
    """As when the page is loaded again: the kernel has their models."""
    nbformat.write(notebook(), tmp_path / "x.ipynb")

    class Sessions:
        async def list_sessions(self):
            return [{"path": "x.ipynb" if running else "y.ipynb"}]

    class Server(Configurable):
        session_manager = Sessions()

    manager = Contents(root_dir=str(tmp_path))
    manager.parent = Server()
    model = asyncio.run(manager.get("x.ipynb"))
    assert sum(saved.WIDGET in output.get("data", {}) for output in model["content"].cells[1].outputs) == 2 * running
    assert len(model["content"].cells[1].outputs) == (5 if running else 4)


@pytest.mark.parametrize("name", ["student", "developer"])
def test_code_is_folded_on_the_page_and_never_in_the_file(tmp_path, monkeypatch, name):
    monkeypatch.setenv("THERMOLAB_LAYOUT", name)
    monkeypatch.setenv("THERMOLAB_LANGUAGE", "de")
    cells = [v4.new_markdown_cell("## The idea"), *(v4.new_code_cell(str(i)) for i in range(5))]
    cells[2].metadata["tags"] = ["student"]
    cells[3].metadata["tags"] = ["parameters"]
    cells[4].metadata = nbformat.from_dict({"tags": ["solution"], "jupyter": {"source_hidden": True, "outputs_hidden": True}})
    cells[5].metadata["tags"] = ["nbval-check-output"]
    before = v4.new_notebook(cells=cells)
    nbformat.write(before, tmp_path / "x.ipynb")

    class Server(Configurable):
        session_manager = type("Sessions", (), {"list_sessions": staticmethod(lambda: asyncio.sleep(0, []))})

    manager = Contents(root_dir=str(tmp_path))
    manager.parent = Server()
    model = asyncio.run(manager.get("x.ipynb"))
    hidden = [cell.metadata.get("jupyter", {}).get("source_hidden", False) for cell in model["content"].cells]
    assert hidden == [False, name == "student", False, False, True, name == "student"]
    assert model["content"].cells[5].metadata.get("jupyter", {}).get("outputs_hidden", False) == (name == "student")
    assert model["content"].cells[0].source == "## Die Idee"
    asyncio.run(manager.save(model, "x.ipynb"))
    after = nbformat.read(tmp_path / "x.ipynb", as_version=4)
    assert after.cells == before.cells


def test_a_layout_that_is_none_is_refused_in_one_line(monkeypatch):
    monkeypatch.setenv("THERMOLAB_LAYOUT", "teacher")
    with pytest.raises(UserError, match="'teacher' is no layout; allowed: student, developer"):
        layout.asked_for()


def test_what_is_no_notebook_is_left_alone(tmp_path):
    nbformat.write(notebook(), tmp_path / "x.ipynb")
    (tmp_path / "y.txt").write_text("x")
    manager = Contents(root_dir=str(tmp_path))
    assert asyncio.run(manager.get("y.txt"))["content"] == "x"
    assert asyncio.run(manager.get("x.ipynb", content=False))["content"] is None
    assert len(asyncio.run(manager.get(""))["content"]) == 2
