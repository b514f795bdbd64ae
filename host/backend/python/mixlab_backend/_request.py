"""Requests, which are tried again where that does no harm."""

from __future__ import annotations

import json
import os
import random
import time
import uuid
from http.client import HTTPException, HTTPResponse
from typing import Any, Mapping, Sequence, cast
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

# The first pause before a request is tried again without being told when, in seconds; twice as long each time.
PAUSE = 0.2
MAX_PAUSE = 5.0

Query = Mapping[str, "str | Sequence[str] | None"]


class MixLabError(Exception):
    """Why a request failed."""

    code: str
    """A stable word for programs: one of the server's, or `timeout`, `unreachable` or `http_STATUS`."""
    status: int | None
    """Of the HTTP answer, if there was one."""
    temporary: bool
    """Whether the same may succeed later."""
    refused: bool
    """Whether the server said no: nothing of it has happened."""
    retry_after: float | None
    """When it is worth another try, in seconds."""
    details: Any
    trace_id: str | None
    """Finds the line of the server's log."""

    def __init__(
        self,
        message: str,
        code: str,
        *,
        status: int | None = None,
        temporary: bool = False,
        refused: bool = False,
        retry_after: float | None = None,
        details: Any = None,
        trace_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.temporary = temporary
        self.refused = refused
        self.retry_after = retry_after
        self.details = details
        self.trace_id = trace_id

    def __str__(self) -> str:
        return f"{self.code}: {self.args[0]}"


class _Stay(HTTPRedirectHandler):
    """The key goes to the server that was named, and to no other."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Backend:
    """Sends requests to a server."""

    def __init__(
        self, url: str | None, key: str | None, timeout: float, retries: int, max_wait: float, proxy: str | None
    ) -> None:
        # A file that a key is read from ends with the end of a line.
        key = (key or os.environ.get("MIXLAB_API_KEY") or "").strip()
        if not key:
            raise ValueError("there is no API key: say `key`, or set MIXLAB_API_KEY")
        if not all("!" <= character <= "~" for character in key):
            # What is wrong with it is said without it.
            raise ValueError("the API key has characters that no key has")
        url = url or os.environ.get("MIXLAB_URL") or "http://127.0.0.1:3000"
        if not url.startswith(("http://", "https://")):
            raise ValueError("the URL begins with http:// or https://")
        self._url = url.rstrip("/")
        self._key = key
        self._timeout = timeout
        self._retries = retries
        self._max_wait = max_wait
        # A variable that is set for other programs must not send the key elsewhere.
        proxies = ProxyHandler({"http": proxy, "https": proxy} if proxy else {})
        self._opener = build_opener(_Stay, proxies)

    def get(self, path: str, query: Query | None = None) -> Any:
        pairs = [(name, value) for name, value in (query or {}).items() if value is not None]
        text = urlencode(pairs, doseq=True)
        return self._send("GET", f"{path}?{text}" if text else path, None, {}, True)

    def post(self, path: str, body: Any, *, once: bool = False, key: str | None = None, repeatable: bool = True) -> Any:
        """`once`: it has an Idempotency-Key, this `key` or one of its own, with which it happens once however often it
        is sent. `repeatable`: without one, whether it may happen twice."""
        headers = {"Content-Type": "application/json"}
        if once:
            headers["Idempotency-Key"] = key or str(uuid.uuid4())
        text = json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
        return self._send("POST", path, text, headers, once or repeatable)

    def _send(self, method: str, path: str, body: bytes | None, headers: dict[str, str], repeatable: bool) -> Any:
        tries = 0
        while True:
            try:
                return self._try(method, path, body, headers)
            except MixLabError as error:
                # What was refused has not happened; what has no answer may have.
                is_worth_it = error.temporary and (error.refused or repeatable)
                wait = error.retry_after
                if wait is None:
                    wait = min(PAUSE * 2**tries, MAX_PAUSE) * random.uniform(0.5, 1)
                if not is_worth_it or tries >= self._retries or wait > self._max_wait:
                    raise
            time.sleep(wait)
            tries += 1

    def _try(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Any:
        request = Request(f"{self._url}/api/v1/{path}", data=body, method=method)
        for name, value in {**headers, "Authorization": f"Bearer {self._key}"}.items():
            request.add_header(name, value)
        deadline = time.monotonic() + self._timeout
        try:
            with self._opener.open(request, timeout=self._timeout) as answer:
                status, reason, retry_after = answer.status, answer.reason, None
                text = _read_until(deadline, answer)
        except HTTPError as answer:
            with answer:
                status, reason, retry_after = answer.code, answer.reason, answer.headers.get("Retry-After")
                text = _read_if_it_comes(deadline, answer)
        except (OSError, HTTPException) as error:
            cause = error.reason if isinstance(error, URLError) else error
            if isinstance(cause, TimeoutError):
                raise MixLabError(f"no answer within {self._timeout} s", "timeout", temporary=True) from error
            raise MixLabError(f"no answer: {cause}", "unreachable", temporary=True) from error
        try:
            parsed = json.loads(text)
        except (ValueError, RecursionError):
            parsed = None
        if 200 <= status < 300 and isinstance(parsed, (dict, list)):
            return parsed
        raise _error(status, reason, retry_after, parsed)


def segment(value: str | int) -> str:
    """One part of a path. `.` and `..` would be taken for folders, however they are written."""
    text = str(value)
    if text in (".", ".."):
        raise ValueError(f"no request can name {text!r}")
    return quote(text, safe="")


def _read_until(deadline: float, answer: HTTPResponse) -> bytes:
    """The body. The timeout of a socket is that of each read, and a server may send a byte now and then."""
    parts = []
    while part := answer.read1(65536):
        parts.append(part)
        if time.monotonic() > deadline:
            raise TimeoutError
    return b"".join(parts)


def _read_if_it_comes(deadline: float, answer: HTTPError) -> bytes:
    """The body of an error, or nothing: its status says enough."""
    try:
        return _read_until(deadline, cast(HTTPResponse, answer.fp))
    except (OSError, HTTPException):
        return b""


def _error(status: int, reason: str, retry_after: str | None, parsed: Any) -> MixLabError:
    said = parsed.get("error") if isinstance(parsed, dict) else None
    wait = float(retry_after) if retry_after and retry_after.isdecimal() else None
    if not isinstance(said, dict) or not all(isinstance(said.get(name), str) for name in ("code", "message")):
        # A proxy in between may answer in its own words, or in none.
        message = f"{status} {reason}, and no answer of MixLab's"
        temporary = status in (429, 502, 503, 504)
        return MixLabError(message, f"http_{status}", status=status, temporary=temporary, retry_after=wait)
    milliseconds = said.get("retry_after_ms")
    if isinstance(milliseconds, (int, float)) and milliseconds >= 0:
        wait = milliseconds / 1000
    return MixLabError(
        said["message"],
        said["code"],
        status=status,
        temporary=bool(said.get("temporary", False)),
        refused=True,
        retry_after=wait,
        details=said.get("details"),
        trace_id=said.get("trace_id"),
    )
