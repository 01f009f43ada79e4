import copy

from nbformat import v4

from thermolab.lab import saved


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
    model = {"type": "notebook", "content": copy.deepcopy(before)}
    saved.without_widgets(model, path="x.ipynb", contents_manager=None)
    after = model["content"]
    kept = [before.cells[1].outputs[i] for i in (0, 2, 3, 4)]
    kept[0].data.pop(saved.WIDGET)
    assert after.cells[1].outputs == kept
    assert after.cells[0] == before.cells[0]
    assert after.metadata == {}


def test_what_is_no_notebook_is_left_alone():
    for model in ({"type": "file", "content": "x"}, {"type": "notebook", "content": None}, {"type": "directory"}):
        before = copy.deepcopy(model)
        saved.without_widgets(model)
        assert model == before
