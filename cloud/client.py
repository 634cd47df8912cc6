"""The command line's side of the HTTP API: finds the server of a data folder, sends the token, turns problems back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import httpx

from cloud.errors import BadRequest, EdgewiseError, Unavailable
from cloud.processes import read_state
from cloud.settings import Settings

_TIMEOUT_S = 30.0


class Problem(EdgewiseError):
    """What the server refused, in its own words; `problem_code` is the code of the error class it raised."""

    def __init__(self, status: int, problem_code: str, cause: str, next_step: str) -> None:
        super().__init__(cause, next_step)
        self.http_status = status
        self.problem_code = problem_code


class Client:
    """A connection to one server. Every method raises Problem for a refusal and Unavailable when nobody answers."""

    def __init__(self, address: str, token: str) -> None:
        self.address = address
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(base_url=address, headers=headers, timeout=_TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.close()

    def get(self, path: str, **query: Any) -> Any:
        """The JSON under /api/v1; parameters that are None are left out."""
        return self.request("GET", path, params={key: value for key, value in query.items() if value is not None})

    def post(self, path: str, body: Any = None) -> Any:
        """Sends JSON, returns JSON."""
        return self.request("POST", path, json=body)

    def put(self, path: str, body: Any) -> Any:
        """Replaces or changes something; sends JSON, returns JSON."""
        return self.request("PUT", path, json=body)

    def delete(self, path: str) -> None:
        """Removes something."""
        self.request("DELETE", path)

    def request(self, method: str, path: str, **parts: Any) -> Any:
        """Any request under /api/v1, parts as httpx takes them; returns the JSON of the answer, None without a body."""
        if {".", ".."} & set(path.split("/")) or set(path) & set("?#%"):
            raise BadRequest(f"{path} holds what no name does", "give a name as a list shows it")
        try:
            answer = self._http.request(method, f"/api/v1{path}", **parts)
        except httpx.HTTPError as error:
            cause = f"no answer from {self.address}: {error}"
            raise Unavailable(cause, "start it with `edgewise up`, or name another with --server") from error
        if answer.is_success:
            return answer.json() if answer.content else None
        raise _problem(answer)


def connect(settings: Settings, server: str | None = None, environ: Mapping[str, str] | None = None) -> Client:
    """A client for `server`, else EDGEWISE_SERVER, else what runs on the data folder; raises Unavailable."""
    env = os.environ if environ is None else environ
    address = server or env.get("EDGEWISE_SERVER")
    if not address:
        state = read_state(settings)
        if state is None:
            raise Unavailable(
                f"no server runs on {settings.data_dir}",
                "start it with `edgewise up`, or give --data or --server",
            )
        address = state.http
    token = env.get("EDGEWISE_TOKEN", "")
    if not token and settings.token_path.exists():
        token = settings.token_path.read_text("ascii").strip()
    return Client(address.rstrip("/"), token)


def _problem(answer: httpx.Response) -> Problem:
    try:
        body = answer.json()
        code = str(body["type"]).rpartition("/")[2]
        return Problem(answer.status_code, code, str(body["detail"]), str(body.get("next_step", "")))
    except (ValueError, LookupError, TypeError):
        return Problem(answer.status_code, "unknown", f"the server answered {answer.status_code}", "see its log")
