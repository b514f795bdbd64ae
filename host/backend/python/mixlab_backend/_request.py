"""Requests, which are tried again where that does no harm."""

from __future__ import annotations

import json
import math
import os
import random
import socket
import ssl
import time
import uuid
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from io import BufferedReader, RawIOBase
from typing import Any, Mapping, Sequence, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import HTTPHandler, HTTPRedirectHandler, HTTPSHandler, ProxyHandler, Request, build_opener

# The first pause before a request is tried again without being told when, in seconds; twice as long each time.
PAUSE = 0.2
MAX_PAUSE = 5.0

# Sockets take no more everywhere, in seconds.
MAX_TIMEOUT = 2_000_000.0

Number = TypeVar("Number", int, float)

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


class _Received(RawIOBase):
    """What a socket receives until a deadline. Its timeout is that of each read, and a server may send a byte now and
    then."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline
        self._file = connection.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


class _Response(HTTPResponse):
    """An answer that has to be there, its head and its body, within the timeout of its connection."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self.fp = BufferedReader(_Received(sock, time.monotonic() + (sock.gettimeout() or 0)))


class _HttpConnection(HTTPConnection):
    response_class = _Response


class _HttpsConnection(HTTPSConnection):
    response_class = _Response


class _Http(HTTPHandler):
    def http_open(self, req: Request) -> HTTPResponse:
        return self.do_open(_HttpConnection, req)


class _Https(HTTPSHandler):
    def __init__(self) -> None:
        self._tls = ssl.create_default_context()
        super().__init__(context=self._tls)

    def https_open(self, req: Request) -> HTTPResponse:
        return self.do_open(_HttpsConnection, req, context=self._tls)


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
        self._url = _address(url or os.environ.get("MIXLAB_URL") or "http://127.0.0.1:3000")
        self._key = key
        self._timeout = _in_range("timeout", timeout, 0.001, MAX_TIMEOUT)
        self._retries = _in_range("retries", retries, 0)
        self._max_wait = _in_range("max_wait", max_wait, 0)
        # A variable that is set for other programs must not send the key elsewhere.
        proxies = ProxyHandler({"http": proxy, "https": proxy} if proxy else {})
        self._opener = build_opener(_Stay, _Http, _Https(), proxies)

    def get(self, path: str, query: Query | None = None) -> Any:
        pairs = [(name, value) for name, value in (query or {}).items() if value is not None]
        text = urlencode(pairs, doseq=True)
        return self._send("GET", f"{path}?{text}" if text else path, None, {})

    def post(self, path: str, body: Any, *, once: bool = False, key: str | None = None) -> Any:
        """`once`: it has an Idempotency-Key, this `key` or one of its own, with which it happens once however often it
        is sent. Without one, it does no harm twice."""
        headers = {"Content-Type": "application/json"}
        if once:
            headers["Idempotency-Key"] = key or str(uuid.uuid4())
        text = json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
        return self._send("POST", path, text, headers)

    def _send(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Any:
        tries = 0
        while True:
            try:
                return self._try(method, path, body, headers)
            except MixLabError as error:
                wait = error.retry_after
                if wait is None:
                    wait = min(PAUSE * 2**tries, MAX_PAUSE) * random.uniform(0.5, 1)
                if not error.temporary or tries >= self._retries or wait > self._max_wait:
                    raise
            time.sleep(wait)
            tries += 1

    def _try(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Any:
        request = Request(f"{self._url}/api/v1/{path}", data=body, method=method)
        for name, value in {**headers, "Authorization": f"Bearer {self._key}"}.items():
            request.add_header(name, value)
        try:
            with self._opener.open(request, timeout=self._timeout) as answer:
                status, reason, retry_after = answer.status, answer.reason, None
                text = answer.read()
        except HTTPError as answer:
            with answer:
                status, reason, retry_after = answer.code, answer.reason, answer.headers.get("Retry-After")
                text = _read_if_it_comes(answer)
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


def _address(url: str) -> str:
    """Where the server is. What is wrong with it is said without it: it may hold a password."""
    try:
        parts = urlsplit(url)
        is_whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_whole = False
    if not is_whole or not all("!" <= character <= "~" for character in url):
        raise ValueError("the URL begins with http:// or https:// and a host")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("the URL has a user, a query or a fragment, which nobody would be sent")
    return url.rstrip("/")


def _in_range(option: str, value: Number, least: float, most: float = math.inf) -> Number:
    """A number that an option may be."""
    if isinstance(value, (int, float)) and least <= value <= most:
        return value
    raise ValueError(f"{option}: expected a number from {least}" + ("" if most == math.inf else f" to {most}"))


def named(value: str | int) -> str:
    """What somebody or something is called."""
    if value is None:
        # It would be a name like any other: of nobody who was meant.
        raise ValueError("None is no name")
    return str(value)


def segment(value: str | int) -> str:
    """One part of a path. `.` and `..` would be taken for folders, however they are written."""
    text = named(value)
    if text in (".", ".."):
        raise ValueError(f"no request can name {text!r}")
    return quote(text, safe="")


def _read_if_it_comes(answer: HTTPError) -> bytes:
    """The body of an error, or nothing: its status says enough."""
    try:
        return answer.read()
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
