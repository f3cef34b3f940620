"""A foreign issuer: a key pair, its public set, and tokens."""

import base64
import json
import time

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature


def base64url(data):
    """Base64 for URLs, without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Issuer:
    """Signs with ES256 or RS256 under the key id `k`."""

    def __init__(self, issuer, audience="api", algorithm="ES256"):
        self.issuer, self.audience, self.algorithm = issuer, audience, algorithm
        is_rsa = algorithm == "RS256"
        self.key = rsa.generate_private_key(65537, 2048) if is_rsa else ec.generate_private_key(ec.SECP256R1())

    def key_set(self):
        """The public key as a JWK set."""
        numbers, number = self.key.public_key().public_numbers(), lambda it, size: base64url(it.to_bytes(size, "big"))
        if self.algorithm == "RS256":
            key = {"kty": "RSA", "n": number(numbers.n, 256), "e": number(numbers.e, 3)}
        else:
            key = {"kty": "EC", "crv": "P-256", "x": number(numbers.x, 32), "y": number(numbers.y, 32)}
        return {"keys": [key | {"alg": self.algorithm, "use": "sig", "kid": "k"}]}

    def token(self, subject, lifetime_s=600):
        """A token for a subject, good from now on."""
        now = int(time.time())
        head = {"alg": self.algorithm, "typ": "JWT", "kid": "k"}
        claims = {"iss": self.issuer, "aud": self.audience, "sub": subject, "iat": now, "exp": now + lifetime_s}
        signed = ".".join(base64url(json.dumps(it).encode()) for it in (head, claims))
        return f"{signed}.{base64url(self.sign(signed.encode()))}"

    def sign(self, data):
        """The signature of the data, as in a JWS."""
        if self.algorithm == "RS256":
            return self.key.sign(data, padding.PKCS1v15(), hashes.SHA256())
        r, s = decode_dss_signature(self.key.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")
