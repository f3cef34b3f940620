"""Mints a token in every algorithm with PyJWT, Authlib and jwcrypto.

Standard input: {"claims": {...}, "hmac": {ALG: {"iss": ..., "jwk": {...}}}}. Standard output: a list of
{"library", "alg", "token"}, with the public "jwk" where there is one.

With {"shapes": [{"alg", "header", "claims"}, ...]} instead: a list of {"token", "jwk"}, minted with PyJWT.
"""

import contextlib
import io
import json
import sys

import jwt as pyjwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwcrypto import jwk as jwcrypto_jwk
from jwcrypto import jwt as jwcrypto_jwt

# Warns about another library, on standard error and regardless of warning filters.
with contextlib.redirect_stderr(io.StringIO()):
    from authlib.jose import JsonWebKey, JsonWebToken

asked = json.load(sys.stdin)
RSA = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]


def pem(key):
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


rsa_key = rsa.generate_private_key(65537, 2048)
keys = {alg: pem(rsa_key) for alg in RSA}
keys["ES256"] = pem(ec.generate_private_key(ec.SECP256R1()))
keys["ES384"] = pem(ec.generate_private_key(ec.SECP384R1()))
keys["EdDSA"] = pem(ed25519.Ed25519PrivateKey.generate())


def with_pyjwt(alg, key, claims, header):
    key = pyjwt.PyJWK(key, alg).key if isinstance(key, dict) else key
    return pyjwt.encode(claims, key, alg, header)


def with_authlib(alg, key, claims, header):
    key = JsonWebKey.import_key(key)
    return JsonWebToken([alg]).encode(dict(header, alg=alg), claims, key).decode()


def with_jwcrypto(alg, key, claims, header):
    key = jwcrypto_jwk.JWK(**key) if isinstance(key, dict) else jwcrypto_jwk.JWK.from_pem(key)
    token = jwcrypto_jwt.JWT(header=dict(header, alg=alg), claims=claims)
    token.make_signed_token(key)
    return token.serialize()


minted = []
if "shapes" in asked:
    for shape in asked["shapes"]:
        key = keys[shape["alg"]]
        token = with_pyjwt(shape["alg"], key, shape["claims"], shape["header"])
        public = jwcrypto_jwk.JWK.from_pem(key).export_public(as_dict=True)
        minted.append(dict(token=token, jwk=public))
    json.dump(minted, sys.stdout)
    sys.exit()
for name, mint in [("pyjwt", with_pyjwt), ("authlib", with_authlib), ("jwcrypto", with_jwcrypto)]:
    for alg, key in keys.items():
        kid = f"{name}-{alg}"
        public = jwcrypto_jwk.JWK.from_pem(key).export_public(as_dict=True)
        token = mint(alg, key, asked["claims"], {"kid": kid})
        minted.append(dict(library=name, alg=alg, token=token, jwk=dict(public, kid=kid, alg=alg, use="sig")))
    for alg, how in asked["hmac"].items():
        token = mint(alg, how["jwk"], dict(asked["claims"], iss=how["iss"]), {"kid": how["jwk"]["kid"]})
        minted.append(dict(library=name, alg=alg, token=token))
json.dump(minted, sys.stdout)
