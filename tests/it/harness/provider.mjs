// A certified OpenID provider, oidc-provider, on loopback:
//
//     node provider.mjs MODULES PORT
//
// MODULES: the folder that contains node_modules. The only client, door, gets tokens by client_credentials: JWTs of
// algorithm ALG for the resource urn:door:ALG, and opaque tokens for urn:door:opaque. On standard input, "rotate" puts
// new keys before the old ones, and "stop" ends all answers.

import { generateKeyPairSync } from 'node:crypto';
import http from 'node:http';
import path from 'node:path';
import readline from 'node:readline';
import { pathToFileURL } from 'node:url';

const [modules, port] = process.argv.slice(2);
const entry = path.join(modules, 'node_modules/oidc-provider/lib/index.js');
const { Provider } = await import(pathToFileURL(path.resolve(entry)).href);

const audience = 'doorward-tests';
const kinds = [
  ['RS256', 'rsa', { modulusLength: 2048 }],
  ['PS384', 'rsa', { modulusLength: 2048 }],
  ['ES256', 'ec', { namedCurve: 'P-256' }],
  ['ES384', 'ec', { namedCurve: 'P-384' }],
  ['EdDSA', 'ed25519', {}],
];

function generation(name) {
  return kinds.map(([alg, kind, options]) => ({
    ...generateKeyPairSync(kind, options).privateKey.export({ format: 'jwk' }),
    kid: `${name}-${alg}`,
    alg,
    use: 'sig',
  }));
}

function provider(keys) {
  return new Provider(`http://127.0.0.1:${port}`, {
    jwks: { keys },
    clients: [{
      client_id: 'door',
      client_secret: 'a-secret-of-the-provider',
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
      scope: 'reports:read',
    }],
    enabledJWA: { idTokenSigningAlgValues: kinds.map(([alg]) => alg) },
    scopes: ['reports:read'],
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      introspection: { enabled: true },
      revocation: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo(_ctx, resource) {
          const alg = resource.split(':').pop();
          const common = { scope: 'reports:read', audience, accessTokenTTL: 300 };
          return alg === 'opaque'
            ? { ...common, accessTokenFormat: 'opaque' }
            : { ...common, accessTokenFormat: 'jwt', jwt: { sign: { alg } } };
        },
      },
    },
  }).callback();
}

let turn = 0;
let keys = generation(turn);
let serve = provider(keys);
let stopped = false;
const server = http.createServer((request, response) => {
  if (stopped) request.socket.destroy();
  else serve(request, response);
});
server.listen(Number(port), '127.0.0.1', () => console.log('ready'));

readline.createInterface({ input: process.stdin }).on('line', (line) => {
  if (line === 'rotate') {
    turn += 1;
    keys = [...generation(turn), ...keys];
    serve = provider(keys);
  } else {
    stopped = true;
  }
  console.log('done');
}).on('close', () => process.exit(0));
