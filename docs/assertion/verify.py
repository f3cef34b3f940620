"""Verifies X-Auth-Assertion. Needs PyJWT with its `crypto` extra (pip install 'pyjwt[crypto]')."""
import base64
import hashlib

import jwt

ISSUER = "http://127.0.0.1:8080"  # [tokens] issuer
AUDIENCE = "lists"  # the [[upstream]] that this service is
KEYS = jwt.PyJWKClient(ISSUER + "/.well-known/jwks.json")


def verify(assertion: str, method: str, path: str) -> dict:
    """The claims; `path` as it came, without the query and not decoded. Raises if it proves nothing."""
    if jwt.get_unverified_header(assertion).get("typ") != "doorward-assertion+jwt":
        raise jwt.InvalidTokenError("typ")
    key = KEYS.get_signing_key_from_jwt(assertion)
    claims = jwt.decode(assertion, key, algorithms=["EdDSA"], issuer=ISSUER, audience=AUDIENCE, options={"require": ["exp"]})
    digest = base64.urlsafe_b64encode(hashlib.sha256(path.encode()).digest()).rstrip(b"=").decode()
    if (claims.get("htm"), claims.get("path_s256")) != (method, digest):
        raise jwt.InvalidTokenError("another request")
    return claims
