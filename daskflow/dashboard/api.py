"""What the page shows, as JSON: runs, a run, the tasks of a step, a task.

Every answer is an object with ``version``, the number of this format: fields may be added to it, and none is taken away or
changes its meaning as long as the number is the same. Lists are paged by ``offset`` and ``limit``, and say their ``total``.
What does not exist is status 404, what is asked for wrongly 400, what is damaged 500, all with ``error``.
"""

from __future__ import annotations

import asyncio
import json
import math
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any

from daskflow.errors import DaskflowException, NotFound

if TYPE_CHECKING:
    from daskflow.dashboard.model import RunModel, Source

VERSION = 1
LIMIT, MOST = 100, 1000
"""How long lists are unless asked otherwise, and at most."""
_NAME = r"([^/]+)"


def routes(source: Source) -> list[tuple[str, Any, dict[str, Any]]]:
    """Tornado's routes of ``/daskflow/api``, without a prefix: a pattern, a handler and its arguments each."""
    base, run = r"/daskflow/api/runs", rf"{_NAME}/([0-9]+(?:@[0-9]+)?)"
    runs, one, step, task, other = _handlers()
    return [
        (rf"{base}/?", runs, {"source": source}),
        (rf"{base}/{run}/?", one, {"source": source}),
        (rf"{base}/{run}/{_NAME}/?", step, {"source": source}),
        (rf"{base}/{run}/{_NAME}/([0-9.-]+)/?", task, {"source": source}),
        (r"/daskflow/api(?:/.*)?", other, {"source": source}),
    ]


def _handlers() -> tuple[Any, Any, Any, Any, Any]:
    from tornado import web

    class Api(web.RequestHandler):
        def initialize(self, source: Source) -> None:
            self.source = source

        def data_received(self, chunk: bytes) -> None:
            """Nothing is sent here."""

        def answer(self, found: dict[str, Any]) -> None:
            self.set_header("Content-Type", "application/json; charset=utf-8")
            self.set_header("X-Content-Type-Options", "nosniff")
            self.set_header("Cache-Control", "no-store")
            self.finish(
                json.dumps({"version": VERSION} | _plain(found), ensure_ascii=False).encode(
                    "utf-8", "replace"
                )
            )

        def write_error(self, status_code: int, **kwargs: Any) -> None:
            reason = kwargs.get("exc_info", (None, None, None))[1]
            told = (reason.log_message or "") % reason.args if isinstance(reason, web.HTTPError) else ""
            self.answer({"error": told or self._reason})

        def number(self, name: str, default: int, most: int = 2**31) -> int:
            text = self.get_query_argument(name, str(default))
            digits = text.lstrip("0") or text[:1]
            if not (text.isascii() and digits.isdecimal()) or len(digits) > 12 or int(digits) > most:
                raise web.HTTPError(
                    400, f"{name} must be a whole number from 0 to {most:,}, not {text[:40]!r}."
                )
            return int(digits)

        async def model_of(self, flow: str, run: str) -> RunModel:
            loop, is_read = asyncio.get_running_loop(), False
            model = self.source.model(flow, run)
            while not is_read:  # of a store: all that is there, however long that takes
                is_read = await loop.run_in_executor(_threads(), self.source.read, flow, run)
                model = self.source.model(flow, run)
            if model is None:
                raise web.HTTPError(404, f"There is no run {flow}/{run}.")
            return model

        def step_of(self, model: RunModel, step: str) -> dict[str, Any]:
            for each in model.steps():
                if each["name"] == step:
                    return each
            raise web.HTTPError(404, f"Run {model.flow}/{model.run} has no step {step}.")

    class Runs(Api):
        def get(self) -> None:
            words = self.get_query_argument("words", "").lower().split()
            status, flow = self.get_query_argument("status", ""), self.get_query_argument("flow", "")
            offset, limit = self.number("offset", 0), self.number("limit", LIMIT, MOST)
            from daskflow.dashboard.render import matches

            heads = [
                head
                for head in self.source.runs()
                if matches(head, words) and status in ("", head["status"]) and flow in ("", head["flow"])
            ]
            self.answer(
                {
                    "runs": heads[offset : offset + limit],
                    "offset": offset,
                    "limit": limit,
                    "total": len(heads),
                    "trouble": self.source.trouble,
                }
            )

    class Run(Api):
        async def get(self, flow: str, run: str) -> None:
            model = await self.model_of(flow, run)
            self.answer({"run": model.head(), "steps": model.steps()})

    class Step(Api):
        async def get(self, flow: str, run: str, step: str) -> None:
            model = await self.model_of(flow, run)
            found = self.step_of(model, step)
            offset, limit = self.number("offset", 0), self.number("limit", LIMIT, MOST)
            try:
                columns, total = model.tasks(
                    step,
                    offset=offset,
                    limit=limit,
                    sort_by=self.get_query_argument("sort", "") or None,
                    descending=self.get_query_argument("descending", "") in ("1", "true"),
                    words=self.get_query_argument("words", ""),
                )
            except ValueError as error:
                raise web.HTTPError(400, str(error)) from error
            rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
            self.answer({"step": found, "tasks": rows, "offset": offset, "limit": limit, "total": total})

    class Task(Api):
        async def get(self, flow: str, run: str, step: str, task: str) -> None:
            model = await self.model_of(flow, run)
            self.step_of(model, step)
            loop = asyncio.get_running_loop()
            try:
                found = await loop.run_in_executor(_threads(), self.source.detail, flow, run, step, task)
                if name := self.get_query_argument("table", ""):
                    first = self.number("column", 0)
                    table = self.source.table
                    found = found | {
                        "table": await loop.run_in_executor(
                            _threads(), table, flow, run, step, task, name, first
                        )
                    }
            except NotFound as error:
                raise web.HTTPError(404, error.message) from error
            except DaskflowException as error:
                raise web.HTTPError(500, error.message) from error
            self.answer({"task": {"row": model.task(step, task)} | found})

    class Other(Api):
        def prepare(self) -> None:
            raise web.HTTPError(404, f"There is nothing at {self.request.path[:200]}.")

    return Runs, Run, Step, Task, Other


@cache
def _threads() -> ThreadPoolExecutor:
    """Not those of the loop, which would be waited for at the end."""
    return ThreadPoolExecutor(8, "daskflow-api")


def _plain(value: Any) -> Any:
    """What JSON has: a number that is none, or infinite, is null."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return list(map(_plain, value))
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
