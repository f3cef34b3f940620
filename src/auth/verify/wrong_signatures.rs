//! A cache of tokens with a wrong signature, for callers that repeat one: verifying an ES256 signature takes 50 µs.

use std::sync::{Arc, Weak};
use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use crate::crypto::jwks::KeySet;
use crate::crypto::jwt::{JwtError, UnverifiedToken, VerifiedToken};
use crate::model::account::Digest;

/// How long a wrong signature is remembered.
const REMEMBERED_FOR: Duration = Duration::from_secs(5);
/// Maximum number of tokens, apart from those of verified callers, so that callers who make tokens up push out none of
/// those. Some 200 bytes each.
const ENTRIES_MAX: u64 = 1024;

/// Tokens whose signature was wrong a moment ago. Any other fault of a token is found again each time.
pub(super) struct WrongSignatures(Cache<Digest, WrongSignature>);

#[derive(Clone)]
struct WrongSignature {
    /// The keys that did not verify it. Held weakly, so that no other keys have their address.
    keys: Weak<KeySet>,
    /// Monotonic time from which it is verified again.
    until: Duration,
}

impl WrongSignatures {
    pub(super) fn new() -> Self {
        let cache = Cache::builder().max_capacity(ENTRIES_MAX);
        Self(cache.eviction_policy(EvictionPolicy::lru()).build())
    }

    /// Verifies the signature of a token as [`UnverifiedToken::verify`] does, unless these keys did not verify it a
    /// moment ago. `digest`: that of the whole token. `elapsed`: the monotonic time.
    pub(super) fn verify(
        &self,
        token: UnverifiedToken<'_>,
        keys: &Arc<KeySet>,
        digest: &Digest,
        elapsed: Duration,
    ) -> Result<VerifiedToken, JwtError> {
        let is_same = |wrong: &WrongSignature| {
            elapsed < wrong.until && std::ptr::eq(wrong.keys.as_ptr(), Arc::as_ptr(keys))
        };
        if self.0.get(digest).is_some_and(|wrong| is_same(&wrong)) {
            return Err(JwtError::Signature);
        }
        let verified = token.verify(keys);
        if let Err(JwtError::Signature) = verified {
            let wrong = WrongSignature {
                keys: Arc::downgrade(keys),
                until: elapsed + REMEMBERED_FOR,
            };
            self.0.insert(*digest, wrong);
        }
        verified
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::digest;
    use crate::crypto::test_keys::{EC256, set};
    use crate::model::algorithm::Algorithm;

    /// Returns a token of this key, whose signature is right or that of another payload.
    fn token(kid: &str, is_right: bool) -> String {
        let header = format!(r#"{{"alg":"ES256","kid":"{kid}"}}"#);
        let sign = |payload| EC256.token(Algorithm::ES256, &header, payload);
        let (right, other) = (sign(r#"{"sub":"a"}"#), sign(r#"{"sub":"b"}"#));
        if is_right {
            return right;
        }
        let (signed, _) = right.rsplit_once('.').unwrap();
        format!("{signed}.{}", other.rsplit_once('.').unwrap().1)
    }

    fn keys() -> Arc<KeySet> {
        Arc::new(KeySet::from_jwks(&set(std::slice::from_ref(&EC256.jwk)), &[]).unwrap())
    }

    #[test]
    fn a_wrong_signature_is_remembered_for_five_seconds_and_these_keys() {
        let (wrong, keys, cache) = (token("ec256", false), keys(), WrongSignatures::new());
        let of_wrong = digest::digest(&wrong);
        let verify = |text: &str, keys: &Arc<KeySet>, at_ms| {
            let token = UnverifiedToken::parse(text).unwrap();
            let elapsed = Duration::from_millis(at_ms);
            cache.verify(token, keys, &of_wrong, elapsed).err()
        };
        assert_eq!(verify(&wrong, &keys, 1000), Some(JwtError::Signature));
        // A right token with the digest of the wrong one shows whether a signature is verified.
        let right = token("ec256", true);
        assert_eq!(verify(&right, &keys, 5999), Some(JwtError::Signature));
        assert_eq!(verify(&right, &keys, 6000), None);
        assert_eq!(verify(&right, &self::keys(), 5999), None);
    }

    #[test]
    fn no_other_fault_is_remembered_and_a_flood_is_bounded() {
        let (keys, cache) = (keys(), WrongSignatures::new());
        let verify = |text: &str, digest: &Digest| {
            let token = UnverifiedToken::parse(text).unwrap();
            cache.verify(token, &keys, digest, Duration::ZERO).err()
        };
        let (right, digest) = (token("ec256", true), Digest([7; 32]));
        assert_eq!(verify(&token("no", true), &digest), Some(JwtError::NoKey));
        assert_eq!(verify(&right, &digest), None);
        let wrong = token("ec256", false);
        for number in 0..2000_u32 {
            let _ = verify(&wrong, &digest::digest(&number.to_string()));
        }
        cache.0.run_pending_tasks();
        assert!(cache.0.entry_count() <= ENTRIES_MAX);
    }
}
