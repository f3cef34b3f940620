//! Opaque tokens and ids: drawing, parsing and digests.

use std::path::Path;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

pub use crate::crypto::api_key::{ApiKeyText, is_api_key_form};
use crate::crypto::digest::{copy_32, digest, digests_match};
use crate::crypto::key_file::KeyFileError;
pub use crate::crypto::session_secret::{RefreshToken, SessionCookie};
use crate::crypto::{key_file, random};
use crate::model::account::Digest;
use crate::model::id::{AccountId, KeyId, MailId, SessionId, SettingsId, UserId};
use crate::model::key_file::KeyFile;
use crate::model::secret::Secret;

/// Prefix of one-time tokens.
const ONE_TIME_PREFIX: &str = "dwo_";

/// Draws a one-time token of 256 bits, and returns it with its digest.
///
/// The token is `dwo_` and 43 characters of base64url. The digest is SHA-256 of the whole token.
#[must_use]
pub fn draw_one_time() -> (Secret, Digest) {
    let secret = random::secret_text();
    let token = Secret::new([ONE_TIME_PREFIX, &secret].concat());
    let digest = digest(token.expose());
    (token, digest)
}

/// Whether a text has the form of one of the gateway's credentials, valid or not, and so must not be shown to others.
///
/// These are texts with the prefix of an API key, a refresh token, a one-time token or a cookie (`dwk_` and the like), and
/// texts of the form of an imported API key. The gateway's own JWTs are recognised by their issuer.
#[must_use]
pub fn is_own_form(text: &str) -> bool {
    let begins_as_ours = text
        .as_bytes()
        .first_chunk()
        .is_some_and(|[d, w, kind, line]| [*d, *w, *line] == *b"dw_" && kind.is_ascii_lowercase());
    begins_as_ours || ApiKeyText::parse(text).is_some()
}

fn draw_id<T, E>(prefix: &str, parse: fn(&str) -> Result<T, E>) -> T {
    loop {
        let text = Zeroizing::new(format!("{prefix}{}", random::id_text()));
        // 22 characters of base64url are valid in every id, so the first iteration returns.
        if let Ok(id) = parse(&text) {
            return id;
        }
    }
}

/// Draws a uid of 128 random bits.
#[must_use]
pub fn draw_user_id() -> UserId {
    draw_id(UserId::PREFIX, UserId::parse)
}

/// Draws an account id of 128 random bits.
#[must_use]
pub fn draw_account_id() -> AccountId {
    draw_id(AccountId::PREFIX, AccountId::parse)
}

/// Draws a session id of 128 random bits.
#[must_use]
pub fn draw_session_id() -> SessionId {
    draw_id(SessionId::PREFIX, SessionId::parse)
}

/// Draws a settings id of 128 random bits.
#[must_use]
pub fn draw_settings_id() -> SettingsId {
    draw_id(SettingsId::PREFIX, SettingsId::parse)
}

/// Draws an id of a mail, of 128 random bits.
#[must_use]
pub fn draw_mail_id() -> MailId {
    draw_id(MailId::PREFIX, MailId::parse)
}

/// Draws a value of the claim `jti`: 128 random bits in 22 characters of base64url.
#[must_use]
pub fn draw_jti() -> String {
    random::id_text()
}

/// Draws a key id of 8 characters of base 62. It may not be unique, so the store checks that it is free.
#[must_use]
pub fn draw_key_id() -> KeyId {
    loop {
        // Eight characters of base 62 are a valid key id, so the first iteration returns.
        if let Ok(id) = KeyId::parse(&random::base62(8)) {
            return id;
        }
    }
}

/// The secret keys for digests and derivation of tokens, which are in the key directory with mode 0600.
pub struct TokenKeys {
    api_key: hmac::Key,
    refresh: hmac::Key,
    count: hmac::Key,
}

impl std::fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKeys(..)")
    }
}

impl TokenKeys {
    /// Opens the keys in `dir`, and creates missing ones. Without a directory they live as long as the process.
    ///
    /// The files are `apikey.key`, `refresh.key` and `count.key`, of 32 random bytes each. Without the first no API key is
    /// recognised any more, without the second a refresh within the grace period gives an invalid successor, and without the
    /// third all rate limits start again.
    ///
    /// # Errors
    /// [`KeyFileError`] if a file cannot be read or written, or is not a key of 32 bytes.
    pub fn open(dir: Option<&Path>) -> Result<Self, KeyFileError> {
        Ok(Self {
            api_key: open_key(dir, KeyFile::ApiKey)?,
            refresh: open_key(dir, KeyFile::Refresh)?,
            count: open_key(dir, KeyFile::Count)?,
        })
    }

    /// Returns the keyed digest of an API key: HMAC-SHA-256 of the SHA-256 of its secret.
    #[must_use]
    pub fn api_key_digest(&self, key: &ApiKeyText) -> Digest {
        let inner = digest(key.secret.expose());
        if key.is_imported {
            return self.imported_key_digest(&inner);
        }
        Digest(copy_32(hmac::sign(&self.api_key, &inner.0).as_ref()))
    }

    /// The keyed digest of an imported key, from the SHA-256 of its secret. It differs from that of an own key with the same
    /// secret, so that an own key without its prefix and checksum is refused.
    #[must_use]
    pub fn imported_key_digest(&self, inner: &Digest) -> Digest {
        let mut context = hmac::Context::with_key(&self.api_key);
        context.update(b"imported:");
        context.update(&inner.0);
        Digest(copy_32(context.sign().as_ref()))
    }

    /// Whether a presented key has this digest, in constant time.
    #[must_use]
    pub fn api_key_matches(&self, key: &ApiKeyText, digest: &Digest) -> bool {
        digests_match(&self.api_key_digest(key), digest)
    }

    /// The key of a rate limit: a keyed digest of `parts`, in their order. A typed name may be a password in the wrong field, so
    /// the stored digest must not be open to guessing without the key.
    #[must_use]
    pub fn count_key(&self, parts: &[&str]) -> Digest {
        let mut context = hmac::Context::with_key(&self.count);
        for part in parts {
            context.update(&digest(part).0);
        }
        Digest(copy_32(context.sign().as_ref()))
    }

    /// The only successor of a refresh token, which is derived and so need not be stored.
    #[must_use]
    pub fn successor(&self, token: &RefreshToken) -> RefreshToken {
        let tag = hmac::sign(&self.refresh, token.text().expose().as_bytes());
        let secret = Zeroizing::new(URL_SAFE_NO_PAD.encode(tag.as_ref()));
        RefreshToken::new(token.session.clone(), &secret)
    }
}

/// Reads an HMAC key from its file.
fn open_key(dir: Option<&Path>, file: KeyFile) -> Result<hmac::Key, KeyFileError> {
    let secret = key_file::secret(dir, file.name())?;
    Ok(hmac::Key::new(hmac::HMAC_SHA256, secret.as_slice()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;
    use crate::crypto::jwks::KeySet;
    use crate::crypto::jwt::UnverifiedToken;
    use crate::crypto::test_keys::{EC256, ED, RSA, set};

    fn key_id(text: &str) -> KeyId {
        KeyId::parse(text).unwrap()
    }

    fn session() -> SessionId {
        SessionId::parse("s-Abc_-45678").unwrap()
    }

    #[test]
    fn the_digest_is_sha256() {
        assert_eq!(
            digest("abc").0[..4],
            [0xba, 0x78, 0x16, 0xbf],
            "FIPS 180-2, appendix B.1"
        );
    }

    #[test]
    fn one_time_tokens_hold_256_bits_and_never_repeat() {
        let (token, of_token) = draw_one_time();
        let secret = token.expose().strip_prefix("dwo_").unwrap();
        assert_eq!(URL_SAFE_NO_PAD.decode(secret).unwrap().len(), 32);
        assert_eq!(digest(token.expose()), of_token);
        assert_ne!(draw_one_time().1, of_token);
    }

    #[test]
    fn what_is_ours_is_known_by_its_form() {
        let ours = [
            draw_one_time().0,
            RefreshToken::draw(session()).text(),
            SessionCookie::draw(session()).text(),
        ];
        for text in &ours {
            assert!(is_own_form(text.expose()));
        }
        for ours in [
            "dwk_x",
            "dwo_",
            "dwz_later",
            &format!("abcd1234.{}", "x".repeat(32)),
        ] {
            assert!(is_own_form(ours), "{ours}");
        }
        for theirs in [
            "",
            "dw",
            "dwk",
            "DWK_x",
            "ya29.abc",
            "abcd1234.short",
            "xdwk_",
        ] {
            assert!(!is_own_form(theirs), "{theirs}");
        }
    }

    #[test]
    fn ids_are_fresh_and_keep_their_rule() {
        assert_ne!(draw_user_id(), draw_user_id());
        assert_eq!(draw_account_id().as_str().len(), 24);
        assert_eq!(draw_session_id().as_str().len(), 24);
        assert_eq!(draw_settings_id().as_str().len(), 26);
        assert_ne!(draw_key_id(), draw_key_id());
        assert_ne!(draw_jti(), draw_jti());
    }

    proptest! {
        #[test]
        fn parsing_takes_any_text(text in ".{0,80}") {
            let _ = RefreshToken::parse(&text);
        }
    }

    #[test]
    fn the_whole_secret_counts_under_its_own_key() {
        let keys = TokenKeys::open(None).unwrap();
        let key = ApiKeyText::draw(key_id("abcd1234"));
        let same_id = ApiKeyText::draw(key_id("abcd1234"));
        let at_rest = keys.api_key_digest(&key);
        assert!(keys.api_key_matches(&key, &at_rest));
        assert!(!keys.api_key_matches(&same_id, &at_rest));
        assert!(
            !TokenKeys::open(None)
                .unwrap()
                .api_key_matches(&key, &at_rest)
        );
        assert_ne!(
            at_rest,
            digest(key.secret.expose()),
            "the plain SHA-256 is not at rest"
        );
        let text = key.text();
        let bare = ApiKeyText::parse(text.expose().trim_start_matches("dwk_")).unwrap();
        assert!(
            !keys.api_key_matches(&bare, &at_rest),
            "an own key comes whole"
        );
        let imported = keys.imported_key_digest(&digest(key.secret.expose()));
        assert!(keys.api_key_matches(&bare, &imported));
        assert!(!keys.api_key_matches(&key, &imported));
    }

    #[test]
    fn refresh_tokens_name_their_session_and_read_back() {
        let token = RefreshToken::draw(session());
        let text = token.text();
        let text = text.expose();
        assert!(text.starts_with("dwr_Abc_-45678."));
        let read = RefreshToken::parse(text).unwrap();
        assert_eq!(read.session, session());
        assert_eq!(read.digest(), token.digest());
        for bad in [
            "",
            "dwr_",
            text.trim_start_matches("dwr_"),
            &text.chars().take(text.len() - 1).collect::<String>(),
            &format!("{text}="),
            &format!("{text}A"),
            &text.replace("dwr_Abc_-45678", "dwr_Abc!-45678"),
            &text.replace("dwr_Abc_-45678", "dwr_short"),
            &format!("dwr_Abc_-45678.{}", "B".repeat(43)),
            &format!("dwr_{}.{}", "a".repeat(65), "A".repeat(43)),
        ] {
            assert!(RefreshToken::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_refresh_token_has_one_successor_in_the_same_session() {
        let keys = TokenKeys::open(None).unwrap();
        let first = RefreshToken::draw(session());
        let next = keys.successor(&first);
        assert_eq!(next.session, first.session);
        assert_eq!(next.digest(), keys.successor(&first).digest());
        assert_ne!(next.digest(), first.digest());
        assert_ne!(
            next.digest(),
            keys.successor(&RefreshToken::draw(session())).digest()
        );
        assert!(RefreshToken::parse(next.text().expose()).is_some());
        let others = TokenKeys::open(None).unwrap();
        assert_ne!(next.digest(), others.successor(&first).digest());
    }

    #[test]
    fn keys_are_made_once_and_kept_to_ourselves() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("keys");
        let first = TokenKeys::open(Some(&dir)).unwrap();
        let again = TokenKeys::open(Some(&dir)).unwrap();
        let (key, token) = (
            ApiKeyText::draw(draw_key_id()),
            RefreshToken::draw(session()),
        );
        assert_eq!(first.api_key_digest(&key), again.api_key_digest(&key));
        assert_eq!(
            first.successor(&token).digest(),
            again.successor(&token).digest()
        );
        assert_eq!(first.count_key(&["a", "b"]), again.count_key(&["a", "b"]));
        assert_ne!(first.count_key(&["a", "b"]), first.count_key(&["ab", ""]));
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&dir), 0o700);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&dir).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(mode(&entry.path()), 0o600);
            names.push(entry.file_name().into_string().unwrap());
        }
        names.sort();
        assert_eq!(names, ["apikey.key", "count.key", "refresh.key"]);
    }

    #[test]
    fn a_key_file_of_another_length_is_refused_and_left_as_it_is() {
        for length in [0, 31, 33] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("refresh.key");
            std::fs::write(&path, vec![7; length]).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            let error = TokenKeys::open(Some(dir.path())).unwrap_err();
            assert!(error.to_string().contains("refresh.key"), "{error}");
            assert_eq!(std::fs::read(&path).unwrap().len(), length);
        }
    }

    #[test]
    fn debug_tells_no_secret() {
        let keys = TokenKeys::open(None).unwrap();
        let key = ApiKeyText::draw(key_id("abcd1234"));
        let token = RefreshToken::draw(session());
        let shown = format!("{keys:?} {key:?} {token:?}");
        assert!(!shown.contains(key.secret.expose()));
        assert!(!shown.contains(token.text().expose()));
        assert!(shown.contains("TokenKeys(..)"));
    }

    /// A presented text parses as one kind of credential at most, and formats back to the same text; nothing that is
    /// not signed by a key verifies.
    #[test]
    fn fuzz_token() {
        static KEYS: LazyLock<KeySet> = LazyLock::new(|| {
            let keys = [&RSA.jwk, &EC256.jwk, &ED.jwk].map(Clone::clone);
            KeySet::from_jwks(&set(&keys), &[]).unwrap()
        });
        doorward_fuzz::check("token", |bytes| {
            let Ok(text) = std::str::from_utf8(bytes) else {
                return;
            };
            let secret = || text.split_once('.').unwrap().1;
            let refresh = RefreshToken::parse(text).map(|token| {
                (
                    token.text(),
                    RefreshToken::new(token.session, secret()).text(),
                )
            });
            let cookie = SessionCookie::parse(text).map(|token| {
                (
                    token.text(),
                    SessionCookie::new(token.session, secret()).text(),
                )
            });
            let key = ApiKeyText::parse(text);
            let jwt = UnverifiedToken::parse(text);
            let kinds = [
                refresh.is_some(),
                cookie.is_some(),
                key.is_some(),
                jwt.is_ok(),
            ];
            assert!(kinds.iter().filter(|is_kind| **is_kind).count() <= 1);
            if refresh.is_some() || cookie.is_some() || key.is_some() {
                assert!(is_own_form(text) && text.len() < 200);
            }
            if jwt.is_ok() {
                assert!(!is_own_form(text) && !is_api_key_form(text));
            }
            for (whole, written) in [refresh, cookie].into_iter().flatten() {
                assert_eq!(whole.expose(), text);
                assert_eq!(written.expose(), text);
            }
            if let Some(key) = key {
                assert_eq!(key.text().expose(), text);
                assert!(is_api_key_form(text));
                assert!(!format!("{key:?}").contains(key.secret.expose()));
            }
            if let Ok(jwt) = jwt {
                let fits = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
                assert!(text.bytes().all(fits));
                assert_eq!(text.matches('.').count(), 2);
                assert_eq!(format!("{jwt:?}"), "UnverifiedToken(..)");
                assert!(jwt.header()["alg"].is_string());
                assert!(jwt.verify(&KEYS).is_err());
            }
        });
    }
}
