"""The files of `thermolab lab`'s server: a notebook without a kernel is opened without its widgets, see `saved`."""

from __future__ import annotations

from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager

from thermolab.lab import saved


class Contents(AsyncLargeFileManager):
    """JupyterLab's own manager of files, but for notebooks that no session has open: their widgets have no models."""

    async def get(self, path, content=True, type=None, format=None, **more):
        model = await super().get(path, content, type, format, **more)
        if model["type"] == "notebook" and content and not await self._is_running(model["path"]):
            saved.without_widgets(model["content"])
        return model

    async def _is_running(self, path: str) -> bool:
        return any(session["path"] == path for session in await self.parent.session_manager.list_sessions())
