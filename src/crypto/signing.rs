//! The gateway's own signing keys, which are created at the first start, stored in files with mode 0600, and rotated.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::crypto::jwks::KeySet;
use crate::crypto::jwt::SignedToken;
use crate::crypto::key_file::KeyFileError;
use crate::crypto::ring::{KeyInfo, SignError, Signed, SigningKeyState};
use crate::crypto::signing_key::SigningKey;
use crate::crypto::{key_file, ring_file};
use crate::model::account::Digest;
use crate::model::algorithm::Algorithm;
use crate::model::clock::Timestamp;

/// The ring of signing keys: the active key, the next key, which is published ahead, and retiring keys.
pub struct SigningKeys {
    pub(crate) signed: Signed,
    /// Directory of the file; `None`: the ring is in memory only.
    path: Option<PathBuf>,
    token_life: Duration,
    /// Held while a change is written, so that changes are serialised.
    change: Mutex<()>,
    ring: ArcSwap<Ring>,
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.list()).finish()
    }
}

/// The keys at one time, with derived values.
struct Ring {
    keys: Vec<SigningKey>,
    key_set: Arc<KeySet>,
    /// Fingerprint of its file; `None`: there is no file.
    fingerprint: Option<Digest>,
}

impl Ring {
    fn new(keys: Vec<SigningKey>, fingerprint: Option<Digest>) -> Self {
        // The next key verifies as well, since another node with the same directory may sign with it already.
        let verifiers = keys.iter().map(|key| key.verifier.clone());
        Self {
            key_set: Arc::new(KeySet::of(verifiers.collect())),
            keys,
            fingerprint,
        }
    }
}

/// A ring that replaces the current one, and is not written yet.
pub struct NextRing {
    signed: Signed,
    keys: Vec<SigningKey>,
    /// The content of its future file.
    pub(crate) text: Zeroizing<Vec<u8>>,
    /// The ring that it was derived from.
    present: Option<Arc<Ring>>,
}

impl fmt::Debug for NextRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NextRing(..)")
    }
}

impl NextRing {
    /// Creates a ring that is not derived from another one.
    ///
    /// # Errors
    /// [`KeyFileError`] for an algorithm that the gateway does not sign with.
    pub fn fresh(
        signed: Signed,
        algorithm: Algorithm,
        now: Timestamp,
    ) -> Result<Self, KeyFileError> {
        let states = [SigningKeyState::Active, SigningKeyState::Next];
        let keys = states.map(|state| generate(None, signed, algorithm, state, now));
        let keys = keys.into_iter().collect::<Result<_, _>>()?;
        Self::of(signed, keys, None)
    }

    fn of(
        signed: Signed,
        keys: Vec<SigningKey>,
        present: Option<Arc<Ring>>,
    ) -> Result<Self, KeyFileError> {
        Ok(Self {
            signed,
            text: ring_file::text(signed, &keys)?,
            keys,
            present,
        })
    }

    /// The fingerprint of its future file.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        key_file::fingerprint(self.signed.file().name(), &self.text)
    }
}

/// Checks a file that is a ring of signing keys by its name; `None`: it is not.
pub(crate) fn is_usable_ring(path: &Path) -> bool {
    let mut kinds = [Signed::AccessToken, Signed::Assertion].into_iter();
    let kind = kinds.find(|kind| path.ends_with(kind.file().name()));
    kind.is_some_and(|kind| matches!(ring_file::read(path, kind), Ok(Some(_))))
}

impl SigningKeys {
    /// Reads the ring in `dir`. A missing one is empty and signs nothing. Without a directory the ring lives as long as the
    /// process. The file is `signing.json` or `assertion.json`.
    ///
    /// `token_life`: maximum life of a signature, leeway included. The result of [`due`](Self::due) must be put in force
    /// before the ring is used.
    ///
    /// # Errors
    /// [`KeyFileError`] for a file that cannot be read or parsed.
    pub fn read(
        dir: Option<&Path>,
        signed: Signed,
        token_life: Duration,
    ) -> Result<Self, KeyFileError> {
        let path = dir.map(|dir| dir.join(signed.file().name()));
        if let Some(dir) = dir {
            key_file::make_dir(dir)?;
        }
        let stored = path.as_deref().map(|path| ring_file::read(path, signed));
        let (keys, fingerprint) = stored.transpose()?.flatten().unzip();
        let ring = Ring::new(keys.unwrap_or_default(), fingerprint);
        Ok(Self {
            signed,
            path,
            token_life,
            change: Mutex::default(),
            ring: ArcSwap::from_pointee(ring),
        })
    }

    /// Opens the ring in `dir`: [`read`](Self::read), and [`put`](Self::put) of what is [`due`](Self::due).
    #[cfg(test)]
    pub(crate) fn open(
        dir: Option<&Path>,
        signed: Signed,
        algorithm: Algorithm,
        token_life: Duration,
        now: Timestamp,
    ) -> Result<Self, KeyFileError> {
        let keys = Self::read(dir, signed, token_life)?;
        if let Some(next) = keys.due(algorithm, now)? {
            keys.put(next)?;
        }
        Ok(keys)
    }

    /// The ring that must replace this one before it is used; `None`: the ring is up to date.
    ///
    /// An empty ring gets its keys. Expired keys are removed. If the active key has another algorithm than the configured one,
    /// it retires and a new key signs.
    ///
    /// # Errors
    /// [`KeyFileError`] for an algorithm that the gateway does not sign with.
    pub fn due(
        &self,
        algorithm: Algorithm,
        now: Timestamp,
    ) -> Result<Option<NextRing>, KeyFileError> {
        let present = self.ring.load_full();
        let generate = |state| generate(self.path.as_deref(), self.signed, algorithm, state, now);
        let mut keys = without_retired(present.keys.clone(), now, self.token_life);
        let is_other = active(&keys).is_none_or(|key| key.algorithm != algorithm);
        if is_other {
            // A next key of the old algorithm has never signed.
            keys.retain(|key| key.info.state != SigningKeyState::Next);
            retire_active(&mut keys, now.plus(self.token_life));
            keys.push(generate(SigningKeyState::Active)?);
        }
        let is_complete = has_next(&keys);
        if !is_complete {
            keys.push(generate(SigningKeyState::Next)?);
        }
        if !is_other && is_complete && keys.len() == present.keys.len() {
            return Ok(None);
        }
        NextRing::of(self.signed, keys, Some(present)).map(Some)
    }

    /// Whether it is up to date: a key of this algorithm signs, and a next one is published.
    #[must_use]
    pub fn serves(&self, algorithm: Algorithm) -> bool {
        let ring = self.ring.load();
        let signs = active(&ring.keys).is_some_and(|key| key.algorithm == algorithm);
        signs && has_next(&ring.keys)
    }

    /// Signs claims as a compact JWS with the ring's `typ` and the active key's id.
    ///
    /// An RS256 signature takes about 0.7 ms, the others less than 0.05 ms.
    ///
    /// # Errors
    /// [`SignError`] if the claims are not a JSON object, or the key is broken.
    pub fn sign<T: serde::Serialize>(&self, claims: &T) -> Result<SignedToken, SignError> {
        let payload = Zeroizing::new(serde_json::to_vec(claims).map_err(|_| SignError)?);
        if payload.first() != Some(&b'{') {
            return Err(SignError);
        }
        let ring = self.ring.load();
        active(&ring.keys).ok_or(SignError)?.sign(&payload)
    }

    /// The keys that verify signatures of this ring.
    #[must_use]
    pub fn key_set(&self) -> Arc<KeySet> {
        Arc::clone(&self.ring.load().key_set)
    }

    /// Returns the public keys as JWKs; none for HMAC.
    #[must_use]
    pub fn public_keys(&self) -> Vec<Value> {
        let ring = self.ring.load();
        let public = ring.keys.iter().filter_map(|key| key.public.clone());
        public.collect()
    }

    /// The ring after a rotation: the next key signs, the active one retires, and there is a new next key.
    ///
    /// Blocks while keys are generated, so it must not run on a worker thread. Others fetch the public keys at intervals, so
    /// some time should pass between two rotations.
    ///
    /// # Errors
    /// [`KeyFileError`] if a key cannot be generated.
    pub fn rotated(&self, now: Timestamp) -> Result<NextRing, KeyFileError> {
        let present = self.ring.load_full();
        let mut keys = without_retired(present.keys.clone(), now, self.token_life);
        let path = self.path.as_deref();
        let algorithm = active(&keys).map(|key| key.algorithm);
        let algorithm = algorithm.ok_or_else(|| unsupported(path))?;
        let next = generate(path, self.signed, algorithm, SigningKeyState::Next, now)?;
        retire_active(&mut keys, now.plus(self.token_life));
        for key in &mut keys {
            if key.info.state == SigningKeyState::Next {
                key.info.state = SigningKeyState::Active;
            }
        }
        keys.push(next);
        NextRing::of(self.signed, keys, Some(present))
    }

    /// Writes a ring that was derived from this one, and puts it in force.
    ///
    /// # Errors
    /// [`KeyFileError`], also if the ring has changed in the meantime. Then the ring is unchanged.
    pub fn put(&self, next: NextRing) -> Result<(), KeyFileError> {
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let present = self.ring.load();
        let is_current = |of: &Arc<Ring>| Arc::ptr_eq(of, &present);
        if !next.present.as_ref().is_some_and(is_current) {
            let path = Path::new(self.signed.file().name());
            let path = self.path.as_deref().unwrap_or(path);
            return Err(key_file::unfit(
                path,
                "no concurrent change of the file; try again",
            ));
        }
        if let Some(path) = &self.path {
            key_file::write(path, &next.text)?;
        }
        self.hold(next);
        Ok(())
    }

    /// Puts a ring in force in memory only, for commands that write nothing.
    pub fn hold(&self, next: NextRing) {
        let fingerprint = self.path.is_some().then(|| next.fingerprint());
        self.ring.store(Arc::new(Ring::new(next.keys, fingerprint)));
    }

    /// Fingerprint of the ring's file; `None`: there is no file.
    #[must_use]
    pub fn fingerprint(&self) -> Option<Digest> {
        self.ring.load().fingerprint
    }

    /// Returns all keys of the ring.
    #[must_use]
    pub fn list(&self) -> Vec<KeyInfo> {
        let ring = self.ring.load();
        ring.keys.iter().map(|key| key.info.clone()).collect()
    }
}

fn active(keys: &[SigningKey]) -> Option<&SigningKey> {
    keys.iter()
        .find(|key| key.info.state == SigningKeyState::Active)
}

fn has_next(keys: &[SigningKey]) -> bool {
    keys.iter()
        .any(|key| key.info.state == SigningKeyState::Next)
}

/// Removes expired keys, and keys that retired while the clock was ahead, since they would stay too long.
fn without_retired(
    mut keys: Vec<SigningKey>,
    now: Timestamp,
    token_life: Duration,
) -> Vec<SigningKey> {
    keys.retain(|key| {
        let latest = now.plus(token_life);
        let is_over = |retires: Timestamp| retires <= now || retires.is_ahead(latest);
        let is_over = key.info.retires.is_some_and(is_over);
        !(key.info.state == SigningKeyState::Retiring && is_over)
    });
    keys
}

fn retire_active(keys: &mut [SigningKey], retires: Timestamp) {
    for key in keys {
        if key.info.state == SigningKeyState::Active {
            key.info.state = SigningKeyState::Retiring;
            key.info.retires = Some(retires);
        }
    }
}

fn generate(
    path: Option<&Path>,
    signed: Signed,
    algorithm: Algorithm,
    state: SigningKeyState,
    now: Timestamp,
) -> Result<SigningKey, KeyFileError> {
    SigningKey::generate(signed, algorithm, state, now).ok_or_else(|| unsupported(path))
}

fn unsupported(path: Option<&Path>) -> KeyFileError {
    let path = path.unwrap_or(Path::new("signing.json"));
    key_file::unfit(path, "an algorithm of ES256, EdDSA, RS256 and HS256")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use serde_json::json;

    use super::*;
    use crate::crypto::jwt::{JwtError, UnverifiedToken, VerifiedToken};

    const LIFE: Duration = Duration::from_secs(930);

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    fn open(dir: Option<&Path>, algorithm: Algorithm, secs: i64) -> SigningKeys {
        SigningKeys::open(dir, Signed::AccessToken, algorithm, LIFE, at(secs)).unwrap()
    }

    fn rotate(keys: &SigningKeys, secs: i64) -> Result<(), KeyFileError> {
        keys.put(keys.rotated(at(secs))?)
    }

    fn sign(keys: &SigningKeys) -> SignedToken {
        keys.sign(&json!({ "iss": "us", "sub": "u-12345678" }))
            .unwrap()
    }

    fn verify(token: &SignedToken, keys: &KeySet) -> Result<VerifiedToken, JwtError> {
        UnverifiedToken::parse(token.expose())?.verify(keys)
    }

    fn states(keys: &SigningKeys) -> Vec<(String, SigningKeyState)> {
        let list = keys.list().into_iter();
        list.map(|key| (key.algorithm, key.state)).collect()
    }

    fn kid(keys: &SigningKeys, state: SigningKeyState) -> String {
        let mut list = keys.list().into_iter();
        list.find(|key| key.state == state).unwrap().kid
    }

    fn jwks(keys: &SigningKeys) -> String {
        json!({ "keys": keys.public_keys() }).to_string()
    }

    fn published(keys: &SigningKeys) -> Vec<String> {
        let keys = keys.public_keys().into_iter();
        keys.map(|key| key["kid"].as_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn what_is_signed_verifies_with_what_is_published() {
        for algorithm in [Algorithm::ES256, Algorithm::EdDSA, Algorithm::RS256] {
            let keys = open(None, algorithm, 0);
            let token = sign(&keys);
            let others = KeySet::from_jwks(&jwks(&keys), &[algorithm]).unwrap();
            assert!(others.left_out().is_empty());
            let verified = verify(&token, &others).unwrap();
            assert_eq!(verified.typ.as_deref(), Some("at+jwt"));
            assert_eq!(verified.claims["iss"], "us");
            assert!(verify(&token, &keys.key_set()).is_ok());
            let parsed = UnverifiedToken::parse(token.expose()).unwrap();
            assert_eq!(parsed.header()["kid"], kid(&keys, SigningKeyState::Active));
            assert_eq!(
                verify(&token, &open(None, algorithm, 0).key_set()).unwrap_err(),
                JwtError::NoKey
            );
        }
    }

    #[test]
    fn hmac_keys_are_never_published() {
        let keys = open(None, Algorithm::HS256, 0);
        assert!(verify(&sign(&keys), &keys.key_set()).is_ok());
        assert!(keys.public_keys().is_empty());
        assert_eq!(keys.list().len(), 2);
    }

    #[test]
    fn other_algorithms_and_claims_that_are_no_object_are_errors() {
        for algorithm in [Algorithm::HS512, Algorithm::PS256, Algorithm::ES384] {
            assert!(SigningKeys::open(None, Signed::AccessToken, algorithm, LIFE, at(0)).is_err());
        }
        let keys = open(None, Algorithm::EdDSA, 0);
        for claims in [json!(1), json!([]), json!("{}")] {
            assert_eq!(keys.sign(&claims).unwrap_err(), SignError);
        }
    }

    #[test]
    fn the_id_of_a_key_is_its_thumbprint() {
        let keys = open(None, Algorithm::EdDSA, 0);
        let public = keys.public_keys();
        let key = &public[0];
        // The form is that of RFC 8037, appendix A.3.
        let text = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":{}}}"#, key["x"]);
        let digest = crate::crypto::digest::sha256(text.as_bytes());
        assert_eq!(key["kid"], crate::crypto::test_keys::part(digest));
        let mut members: Vec<_> = key.as_object().unwrap().keys().collect();
        members.sort();
        assert_eq!(members, ["alg", "crv", "kid", "kty", "use", "x"]);
    }

    #[test]
    fn a_key_is_published_before_it_signs_and_until_its_tokens_have_expired() {
        let dir = tempfile::tempdir().unwrap();
        let keys = open(Some(dir.path()), Algorithm::ES256, 0);
        let (first, next) = (
            kid(&keys, SigningKeyState::Active),
            kid(&keys, SigningKeyState::Next),
        );
        assert_eq!(published(&keys), [first.clone(), next.clone()]);
        let old = sign(&keys);

        rotate(&keys, 100).unwrap();
        assert_eq!(kid(&keys, SigningKeyState::Active), next);
        assert_eq!(kid(&keys, SigningKeyState::Retiring), first);
        assert!(published(&keys).contains(&first));
        assert!(verify(&old, &keys.key_set()).is_ok());
        let new = sign(&keys);

        // Another process reads the same ring.
        let again = open(Some(dir.path()), Algorithm::ES256, 100 + 929);
        assert_eq!(states(&again), states(&keys));
        assert!(verify(&old, &again.key_set()).is_ok());
        assert!(verify(&new, &again.key_set()).is_ok());
        let late = open(Some(dir.path()), Algorithm::ES256, 100 + 930);
        assert!(!published(&late).contains(&first));
        assert_eq!(verify(&old, &late.key_set()).unwrap_err(), JwtError::NoKey);
        assert!(verify(&new, &late.key_set()).is_ok());
        rotate(&keys, 2000).unwrap();
        assert_eq!(verify(&old, &keys.key_set()).unwrap_err(), JwtError::NoKey);
    }

    #[test]
    fn another_algorithm_signs_at_once_and_the_old_one_retires() {
        let dir = tempfile::tempdir().unwrap();
        let old = sign(&open(Some(dir.path()), Algorithm::HS256, 0));
        let keys = open(Some(dir.path()), Algorithm::EdDSA, 10);
        let expected = [
            ("HS256".to_owned(), SigningKeyState::Retiring),
            ("EdDSA".to_owned(), SigningKeyState::Active),
            ("EdDSA".to_owned(), SigningKeyState::Next),
        ];
        assert_eq!(states(&keys), expected);
        assert_eq!(keys.list()[0].retires, Some(at(940)));
        assert_eq!(published(&keys).len(), 2);
        assert!(verify(&old, &keys.key_set()).is_ok());
        assert_eq!(
            states(&open(Some(dir.path()), Algorithm::EdDSA, 20)),
            expected
        );
    }

    #[test]
    fn the_file_is_ours_alone_and_a_doubtful_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("signing.json");
        open(Some(dir.path()), Algorithm::ES256, 0);
        let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode));
        assert_eq!(
            path.metadata().unwrap().permissions().mode() & 0o7777,
            0o600
        );
        let good = std::fs::read_to_string(&path).unwrap();
        let reopen = || {
            let dir = Some(dir.path());
            SigningKeys::open(dir, Signed::AccessToken, Algorithm::ES256, LIFE, at(0))
        };

        let file: Value = serde_json::from_str(&good).unwrap();
        let private = file["keys"][0]["private"].as_str().unwrap();
        let other = file["keys"][1]["private"].as_str().unwrap();
        let cases = [
            String::new(),
            "{}".to_owned(),
            good.chars().take(good.len() / 2).collect(),
            good.replace("\"version\": 1", "\"version\": 2"),
            good.replace("ES256", "EdDSA"),
            good.replace("ES256", "RS256"),
            good.replace("\"active\"", "\"next\""),
            good.replace("\"next\"", "\"active\""),
            good.replace("\"next\"", "\"retiring\""),
            good.replace(private, "AAAA"),
            good.replace(private, "!"),
            good.replace(private, other),
            good.replace("\"kid\"", "\"kind\""),
        ];
        for text in cases {
            assert_ne!(text, good);
            std::fs::write(&path, &text).unwrap();
            let error = reopen().unwrap_err();
            assert!(!format!("{error:?} {error}").contains(private), "{text}");
            assert_eq!(
                std::fs::read_to_string(&path).unwrap(),
                text,
                "left as it is"
            );
        }
        std::fs::write(&path, &good).unwrap();
        assert!(reopen().is_ok());
        mode(0o660).unwrap();
        assert!(reopen().is_err());
    }

    #[test]
    fn a_rotation_that_cannot_be_written_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let keys = open(Some(dir.path()), Algorithm::ES256, 0);
        let before = states(&keys);
        let path = dir.path().join("signing.json");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(rotate(&keys, 1).is_err());
        assert_eq!(states(&keys), before);
        assert_eq!(kid(&keys, SigningKeyState::Active), published(&keys)[0]);
    }

    #[test]
    fn the_file_is_known_by_its_fingerprint_before_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let keys = open(Some(dir.path()), Algorithm::EdDSA, 0);
        let on_disk = || match key_file::look(dir.path(), "signing.json") {
            key_file::FoundKeyFile::File { fingerprint, .. } => fingerprint,
            found => panic!("{found:?}"),
        };
        let first = on_disk();
        assert_eq!(keys.fingerprint(), Some(first));
        let (next, late) = (keys.rotated(at(1)).unwrap(), keys.rotated(at(2)).unwrap());
        let second = next.fingerprint();
        assert_eq!(on_disk(), first, "nothing is written yet");
        keys.put(next).unwrap();
        assert_eq!((keys.fingerprint(), on_disk()), (Some(second), second));
        assert_ne!(first, second);
        assert!(keys.put(late).is_err(), "it was made of another ring");
        assert_eq!(on_disk(), second);
        assert!(keys.due(Algorithm::EdDSA, at(3)).unwrap().is_none());
    }

    #[test]
    fn debug_tells_no_key() {
        let keys = open(None, Algorithm::HS256, 0);
        let shown = format!("{keys:?}");
        assert!(
            shown.contains("HS256") && !shown.contains("private"),
            "{shown}"
        );
    }
}
