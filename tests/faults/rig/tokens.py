"""A foreign issuer: a key pair, its public set, and tokens."""

import base64
import json
import time

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature


def base64url(data):
    """Base64 for URLs, without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Issuer:
    """Signs with ES256 under the key id `k`."""

    def __init__(self, issuer, audience="api"):
        self.issuer, self.audience = issuer, audience
        self.key = ec.generate_private_key(ec.SECP256R1())

    def key_set(self):
        """The public key as a JWK set."""
        numbers = self.key.public_key().public_numbers()
        x, y = (base64url(it.to_bytes(32, "big")) for it in (numbers.x, numbers.y))
        return {"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "k", "x": x, "y": y}]}

    def token(self, subject, lifetime_s=600):
        """A token for a subject, good from now on."""
        now = int(time.time())
        head = {"alg": "ES256", "typ": "JWT", "kid": "k"}
        claims = {"iss": self.issuer, "aud": self.audience, "sub": subject, "iat": now, "exp": now + lifetime_s}
        signed = ".".join(base64url(json.dumps(it).encode()) for it in (head, claims))
        r, s = decode_dss_signature(self.key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{base64url(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"
