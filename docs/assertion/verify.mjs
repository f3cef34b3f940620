// Verifies X-Auth-Assertion. Needs jose (npm install jose).
import { createHash } from "node:crypto";
import { createRemoteJWKSet, jwtVerify } from "jose";

const issuer = "http://127.0.0.1:8080"; // [tokens] issuer
const audience = "lists"; // the [[upstream]] that this service is
const keys = createRemoteJWKSet(new URL(issuer + "/.well-known/jwks.json"));

/** The claims; `path` as it came, without the query and not decoded. Throws if it proves nothing. */
export async function verify(assertion, method, path) {
  const wanted = { issuer, audience, algorithms: ["EdDSA"], typ: "doorward-assertion+jwt", requiredClaims: ["exp"] };
  const { payload } = await jwtVerify(assertion, keys, wanted);
  const digest = createHash("sha256").update(path).digest("base64url");
  if (payload.htm !== method || payload.path_s256 !== digest) throw new Error("another request");
  return payload;
}
