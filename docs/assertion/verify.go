// Verifies X-Auth-Assertion with the standard library alone; the caller fetches and keeps the key set.
package main

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"time"
)

// KeySet is the document at /.well-known/jwks.json.
type KeySet struct{ Keys []struct{ Kid, Crv, X string } }

// Claims of an assertion; an empty Sub is an anonymous caller.
type Claims struct {
	Iss, Aud, Sub, Htm string
	PathS256           string `json:"path_s256"`
	Exp                int64
	Roles              []string
}

// Verify gives the claims; path as it came, without the query and not decoded.
func Verify(keys KeySet, issuer, audience, assertion, method, path string) (c Claims, err error) {
	b64, parts := base64.RawURLEncoding, strings.Split(assertion, ".")
	var header struct{ Alg, Typ, Kid string }
	if len(parts) != 3 || part(parts[0], &header) != nil || header.Alg != "EdDSA" || header.Typ != "doorward-assertion+jwt" {
		return c, errors.New("not an assertion")
	}
	signature, _ := b64.DecodeString(parts[2])
	for _, key := range keys.Keys {
		x, _ := b64.DecodeString(key.X)
		if key.Kid != header.Kid || key.Crv != "Ed25519" || len(x) != ed25519.PublicKeySize || !ed25519.Verify(x, []byte(parts[0]+"."+parts[1]), signature) {
			continue
		}
		digest := sha256.Sum256([]byte(path))
		if err = part(parts[1], &c); err == nil && c.Iss == issuer && c.Aud == audience && c.Exp > time.Now().Unix() && c.Htm == method && c.PathS256 == b64.EncodeToString(digest[:]) {
			return c, nil
		}
	}
	return Claims{}, errors.New("proves nothing about this request")
}

func part(text string, into any) error {
	bytes, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return err
	}
	return json.Unmarshal(bytes, into)
}
