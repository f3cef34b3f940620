"""Callers of the gateway over HTTP/1.1, on kept connections."""

import http.client
import json
from urllib.parse import urlencode


class Unanswered(Exception):
    """A request without a complete answer: whether it was carried out is unknown."""


class Answer:
    """A complete answer."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        """The body as JSON; an empty object if it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return {}

    @property
    def code(self):
        """The code of a refusal, or an empty string."""
        found = self.json
        return found.get("code", "") if isinstance(found, dict) else ""

    def __repr__(self):
        return f"{self.status} {self.code}".strip()


class Caller:
    """A caller from one client network; `network` takes effect only if the gateway trusts 127.0.0.1 as a proxy."""

    def __init__(self, port, network=None):
        self.port, self.network, self.connection = port, network, None
        self.sent = 0

    def send(self, method, path, body=None, *, form=None, bearer=None, key=None, headers=None, timeout=15):
        """Sends a request and reads its answer.

        `body` is sent as JSON, or unchanged if it is bytes; `form` as a form. Raises `Unanswered`.
        """
        fields = dict(headers or {})
        if self.network:
            fields["X-Forwarded-For"] = self.network
        if bearer:
            fields["Authorization"] = "Bearer " + bearer
        if key:
            fields["X-Api-Key"] = key
        if form is not None:
            body = urlencode(form)
            fields["Content-Type"] = "application/x-www-form-urlencoded"
        elif body is not None and not isinstance(body, bytes):
            body = json.dumps(body)
            fields["Content-Type"] = "application/json"
        is_kept = self.connection is not None
        try:
            return self._exchange(method, path, body, fields, timeout)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            # The gateway may close a kept connection at any time; requests that change nothing are retried once.
            if not (is_kept and method in ("GET", "HEAD")) or isinstance(error, TimeoutError):
                raise Unanswered(f"{method} {path}: {type(error).__name__}") from error
        try:
            return self._exchange(method, path, body, fields, timeout)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Unanswered(f"{method} {path}: {type(error).__name__}") from error

    def get(self, path, **more):
        """Sends a GET."""
        return self.send("GET", path, **more)

    def post(self, path, body=None, **more):
        """Sends a POST."""
        return self.send("POST", path, body, **more)

    def put(self, path, body=None, **more):
        """Sends a PUT."""
        return self.send("PUT", path, body, **more)

    def close(self):
        """Closes the connection; the next request opens another."""
        if self.connection:
            self.connection.close()
        self.connection = None

    def _exchange(self, method, path, body, fields, timeout):
        if self.connection is None:
            self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        elif self.connection.sock:
            self.connection.sock.settimeout(timeout)
        self.sent += 1
        self.connection.request(method, path, body=body, headers=fields)
        answer = self.connection.getresponse()
        read = answer.read()
        if answer.will_close:
            self.close()
        return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, read)
