"""The files of `thermolab lab`'s server: how notebooks look that are opened there.

One without a kernel comes without its widgets, see `saved`; in the student layout its code is folded, see `layout`; its prose is
in the language that is asked for, see `words`. What is saved is as the file was.
"""

from __future__ import annotations

from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager

from thermolab import words
from thermolab.lab import layout, saved


class Contents(AsyncLargeFileManager):
    """JupyterLab's own manager of files, but for the widgets of notebooks that no session has open, and for what is folded."""

    async def get(self, path, content=True, type=None, format=None, **more):
        model = await super().get(path, content, type, format, **more)
        if model["type"] == "notebook" and content:
            if not await self._is_running(model["path"]):
                saved.without_widgets(model["content"])
            if layout.asked_for() == "student":
                layout.fold(model["content"])
            words.translate(model["content"])
        return model

    async def save(self, model, path=""):
        if model.get("type") == "notebook" and model.get("content"):
            layout.unfold(model["content"])
            words.restore(model["content"])
        return await super().save(model, path)

    async def _is_running(self, path: str) -> bool:
        return any(session["path"] == path for session in await self.parent.session_manager.list_sessions())
