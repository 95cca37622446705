"""Keys and tokens."""

import base64
import hashlib
import hmac
import json
import secrets
import threading
import time

from . import schemas
from .wire import ApiError

LIFE = 30 * 24 * 3600


def _base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Auth:
    """Safe to use from any thread."""

    def __init__(self, key="STANDINKEY", secret="stand-in-secret"):
        self.key, self.secret = key, secret
        self.life = LIFE  # seconds, of the tokens to come
        self._lock = threading.Lock()
        self._sign = secrets.token_bytes(32)
        self._tokens = {}  # token -> its end
        self._issued = []

    def token(self, life=None):
        """A new one, a JWT as the server makes them."""
        end = int(time.time() + min(self.life, LIFE if life is None else life))
        claims = {"exp": end, "iat": int(time.time()), "jti": secrets.token_hex(8), "api_version": schemas.VERSION,
                  "server_version": "2.0.0", "server_build": "0", "feature_set": "basic", "auth_type": "Bearer",
                  "identity": {"company": "stand-in", "user": "tester", "role": "user"}}
        parts = [_base64url(json.dumps(part).encode()) for part in ({"typ": "JWT", "alg": "HS256"}, claims)]
        signature = hmac.new(self._sign, ".".join(parts).encode(), hashlib.sha256).digest()
        token = ".".join([*parts, _base64url(signature)])
        with self._lock:
            self._tokens[token] = end
            self._issued.append(token)
        return token

    def issued(self):
        """Every token so far, also those that are no longer good."""
        with self._lock:
            return list(self._issued)

    def revoke(self):
        """Every token there is."""
        with self._lock:
            self._tokens.clear()

    def check_bearer(self, header):
        """Raises what the server answers to a header that lets nobody in."""
        if not header:
            raise ApiError(401, 20, "Unauthorized (missing credentials)")
        kind, _, token = header.partition(" ")
        if kind != "Bearer" or token.count(".") != 2:
            raise ApiError(401, 21, "Unauthorized (malformed credentials)")
        with self._lock:
            end = self._tokens.get(token)
        if end is None or end <= time.time():
            raise ApiError(401, 30, "Unauthorized (invalid token) (token is invalid, expired or revoked)")

    def login(self, header, life=None):
        """A token for a key and secret, or for a token."""
        kind, _, words = (header or "").partition(" ")
        if kind == "Bearer":
            self.check_bearer(header)
            return self.token(life)
        if kind != "Basic":
            raise ApiError(401, 20, "Unauthorized (missing credentials)")
        try:
            key, _, secret = base64.b64decode(words, validate=True).decode().partition(":")
        except ValueError as error:
            raise ApiError(401, 21, "Unauthorized (malformed credentials)") from error
        if (key, secret) != (self.key, self.secret):
            raise ApiError(401, 22, "Unauthorized (invalid credentials) (failed to locate provided credentials)")
        return self.token(life)
