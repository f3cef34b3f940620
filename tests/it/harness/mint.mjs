// Mints a token in every algorithm with jose: node mint.mjs MODULES. Input and output are those of mint.py.

import path from 'node:path';
import { text } from 'node:stream/consumers';
import { pathToFileURL } from 'node:url';

const entry = path.join(process.argv[2], 'node_modules/jose/dist/webapi/index.js');
const jose = await import(pathToFileURL(path.resolve(entry)).href);
const asked = JSON.parse(await text(process.stdin));
const minted = [];

const mint = (claims, header, key) => new jose.SignJWT(claims).setProtectedHeader(header).sign(key);
for (const alg of ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'EdDSA']) {
  const { publicKey, privateKey } = await jose.generateKeyPair(alg, { extractable: true });
  const kid = `jose-${alg}`;
  const jwk = { ...await jose.exportJWK(publicKey), kid, alg, use: 'sig' };
  minted.push({ library: 'jose', alg, jwk, token: await mint(asked.claims, { alg, kid }, privateKey) });
}
for (const [alg, { iss, jwk }] of Object.entries(asked.hmac)) {
  const key = await jose.importJWK(jwk, alg);
  minted.push({ library: 'jose', alg, token: await mint({ ...asked.claims, iss }, { alg, kid: jwk.kid }, key) });
}
console.log(JSON.stringify(minted));
