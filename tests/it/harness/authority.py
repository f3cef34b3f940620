"""A certificate authority of the tests: writes a certificate for the given names, the authority's own, and the key.

Prints the digest of the authority's public key, which makes Chromium trust it.
"""

import base64
import datetime
import hashlib
import pathlib
import sys

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def certificate(subject, key, issuer, issuer_key, names):
    now = datetime.datetime.now(datetime.timezone.utc)
    name = lambda text: x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.BasicConstraints(not names, None), critical=True)
    )
    if names:
        names = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def main(directory, *names):
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = certificate("authority", authority_key, "authority", authority_key, [])
    server = certificate("server", key, "authority", authority_key, names)
    chain = [it.public_bytes(serialization.Encoding.PEM) for it in (server, authority)]
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (pathlib.Path(directory) / "chain.pem").write_bytes(b"".join(chain))
    (pathlib.Path(directory) / "key.pem").write_bytes(pem)
    spki = authority_key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    print(base64.b64encode(hashlib.sha256(spki).digest()).decode())


main(*sys.argv[1:])
