//! Opaque tokens and ids: draw, take apart, digest.

use std::path::Path;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::crypto::key_file;
use crate::crypto::signing::KeyFileError;
use crate::model::account::Digest;
use crate::model::id::{AccountId, KeyId, SessionId, SettingsId, UserId};
use crate::model::secret::Secret;

/// Digits of base 62, lowest first.
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// What an API key begins with, so that scanners find one that leaked.
const API_KEY_PREFIX: &str = "dwk_";
/// Random characters of an API key's secret: 160 bits.
const API_KEY_RANDOM_CHARS: usize = 27;
/// Characters of its checksum.
const API_KEY_CHECKSUM_CHARS: usize = 5;
/// What a refresh token begins with.
const REFRESH_PREFIX: &str = "dwr_";
/// Bytes of every random secret and key.
const SECRET_BYTES: usize = 32;

/// Fills with bytes of the system's generator.
pub(crate) fn fill(bytes: &mut [u8]) {
    if aws_lc_rs::rand::fill(bytes).is_err() {
        // AWS-LC itself ends the process when the system gives no entropy. Should it ever report that instead, going
        // on would hand out secrets that can be guessed.
        std::process::abort();
    }
}

/// Draws 16 bytes as 22 characters of base64url.
fn draw_id_text() -> String {
    let mut bytes = [0; 16];
    fill(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Draws 256 bits as 43 characters of base64url.
fn draw_secret_text() -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0; SECRET_BYTES]);
    fill(bytes.as_mut_slice());
    Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes.as_slice()))
}

/// Draws `count` characters of base 62, each as likely as the other.
fn draw_base62(count: usize) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(count));
    let mut bytes = Zeroizing::new([0_u8; 64]);
    while text.len() < count {
        fill(bytes.as_mut_slice());
        // Six bits give 0 to 63: 62 and 63 are thrown away, since a remainder would favour the first digits.
        let digits = bytes
            .iter()
            .filter_map(|b| BASE62.get(usize::from(b & 0x3f)));
        for digit in digits.take(count - text.len()) {
            text.push(char::from(*digit));
        }
    }
    text
}

/// SHA-256 of a text.
#[must_use]
pub fn digest(text: &str) -> Digest {
    Digest(sha256(text.as_bytes()))
}

/// SHA-256.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    copy_32(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref())
}

/// The 32 bytes that SHA-256 and HMAC-SHA-256 give behind their types of variable length.
fn copy_32(bytes: &[u8]) -> [u8; 32] {
    let mut copy = [0; 32];
    for (to, from) in copy.iter_mut().zip(bytes) {
        *to = *from;
    }
    copy
}

/// Whether two digests are equal, in constant time.
#[must_use]
pub fn digests_match(one: &Digest, other: &Digest) -> bool {
    one.0.ct_eq(&other.0).into()
}

/// Draws a one-time token of 256 bits and its digest.
///
/// The token is 43 characters of base64url; the digest is SHA-256 of these characters.
#[must_use]
pub fn draw_one_time() -> (Secret, Digest) {
    let token = draw_secret_text();
    let digest = digest(&token);
    (Secret::new(token.to_string()), digest)
}

macro_rules! draw_id {
    ($(#[$doc:meta])* $draw:ident, $id:ident) => {
        $(#[$doc])*
        #[must_use]
        pub fn $draw() -> $id {
            loop {
                let text = Zeroizing::new(format!("{}{}", $id::PREFIX, draw_id_text()));
                // 22 characters of base64url keep the rule of every id: the first turn returns.
                if let Ok(id) = $id::parse(&text) {
                    return id;
                }
            }
        }
    };
}

draw_id! {
    /// Draws a fresh uid: 128 random bits.
    draw_user_id, UserId
}
draw_id! {
    /// Draws a fresh account id: 128 random bits.
    draw_account_id, AccountId
}
draw_id! {
    /// Draws a fresh session id: 128 random bits.
    draw_session_id, SessionId
}
draw_id! {
    /// Draws a fresh settings id: 128 random bits.
    draw_settings_id, SettingsId
}

/// Draws a text for a claim `jti`: 128 random bits in 22 characters of base64url.
#[must_use]
pub fn draw_jti() -> String {
    draw_id_text()
}

/// Draws a fresh key id: 8 characters of base 62. They can repeat: whoever stores it checks that it is free.
#[must_use]
pub fn draw_key_id() -> KeyId {
    loop {
        // Eight of base 62 keep the rule of a key id: the first turn returns.
        if let Ok(id) = KeyId::parse(&draw_base62(8)) {
            return id;
        }
    }
}

/// An API key as it is presented: `dwk_<key id, 8>.<secret, 32>`, its checksum already checked.
#[derive(Clone, Debug)]
pub struct ApiKeyText {
    /// The public part.
    pub id: KeyId,
    /// The 32 characters behind the dot.
    secret: Secret,
}

impl ApiKeyText {
    /// Draws the secret of a new key.
    #[must_use]
    pub fn draw(id: KeyId) -> Self {
        let random = draw_base62(API_KEY_RANDOM_CHARS);
        let checksum = api_key_checksum(id, &random);
        let mut secret = String::with_capacity(API_KEY_RANDOM_CHARS + API_KEY_CHECKSUM_CHARS);
        secret.push_str(&random);
        secret.extend(checksum.map(char::from));
        Self {
            id,
            secret: Secret::new(secret),
        }
    }

    /// Reads a presented key; `None` if the form or the checksum is wrong.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(API_KEY_PREFIX)?.split_once('.')?;
        let id = KeyId::parse(id).ok()?;
        let length_fits = secret.len() == API_KEY_RANDOM_CHARS + API_KEY_CHECKSUM_CHARS;
        if !length_fits || !secret.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return None;
        }
        let (random, checksum) = secret.split_at_checked(API_KEY_RANDOM_CHARS)?;
        (checksum.as_bytes() == api_key_checksum(id, random)).then(|| Self {
            id,
            secret: Secret::new(secret.to_owned()),
        })
    }

    /// The whole key, to be shown once: 45 characters.
    #[must_use]
    pub fn text(&self) -> Secret {
        Secret::new(format!(
            "{API_KEY_PREFIX}{}.{}",
            self.id,
            self.secret.expose()
        ))
    }
}

/// CRC-32 of everything before it, modulo 62^5, as five digits with the most significant first.
///
/// It tells a mistyped key from a wrong one without a look-up; it protects nothing.
fn api_key_checksum(id: KeyId, random: &str) -> [u8; API_KEY_CHECKSUM_CHARS] {
    let mut crc = crc32fast::Hasher::new();
    for part in [API_KEY_PREFIX, id.as_str(), ".", random] {
        crc.update(part.as_bytes());
    }
    let mut rest = crc.finalize() % 62_u32.pow(5);
    let mut digits = [b'0'; API_KEY_CHECKSUM_CHARS];
    for digit in digits.iter_mut().rev() {
        let place = (rest % 62) as usize;
        *digit = BASE62.get(place).copied().unwrap_or(b'0');
        rest /= 62;
    }
    digits
}

/// A refresh token as it is presented: it names its session and holds 256 bits.
///
/// Its form is `dwr_<session id without its prefix>.<43 characters of base64url>`.
#[derive(Clone, Debug)]
pub struct RefreshToken {
    /// The session it belongs to.
    pub session: SessionId,
    /// The whole token.
    text: Secret,
}

impl RefreshToken {
    /// Draws the first token of a session.
    #[must_use]
    pub fn draw(session: SessionId) -> Self {
        Self::new(session, &draw_secret_text())
    }

    fn new(session: SessionId, secret: &str) -> Self {
        let id = session.as_str();
        let id = id.strip_prefix(SessionId::PREFIX).unwrap_or(id);
        let text = Secret::new(format!("{REFRESH_PREFIX}{id}.{secret}"));
        Self { session, text }
    }

    /// Reads a presented token; `None` if the form is wrong.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(REFRESH_PREFIX)?.split_once('.')?;
        // The length first: nobody gets megabytes decoded.
        if secret.len() != 43 || 64 < id.len() {
            return None;
        }
        let session = SessionId::parse(&format!("{}{id}", SessionId::PREFIX)).ok()?;
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(secret).ok()?);
        (bytes.len() == SECRET_BYTES).then(|| Self {
            session,
            text: Secret::new(text.to_owned()),
        })
    }

    /// The whole token.
    #[must_use]
    pub fn text(&self) -> Secret {
        self.text.clone()
    }

    /// SHA-256 of the whole token.
    #[must_use]
    pub fn digest(&self) -> Digest {
        digest(self.text.expose())
    }
}

/// The secret keys under which tokens are digested and derived, kept in the key directory with mode 0600.
pub struct TokenKeys {
    api_key: hmac::Key,
    refresh: hmac::Key,
}

impl std::fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKeys(..)")
    }
}

impl TokenKeys {
    /// Opens the keys in `dir`, making them at the first start; without a directory they live as long as the process.
    ///
    /// The files are `apikey.key` and `refresh.key`, 32 random bytes each. With the first lost or changed no API key is
    /// recognised any more; with the second, a refresh within the grace gives no successor that counts.
    ///
    /// # Errors
    /// When a file cannot be read, written, or is not a key of 32 bytes.
    pub fn open(dir: Option<&Path>) -> Result<Self, KeyFileError> {
        if let Some(dir) = dir {
            key_file::make_dir(dir)?;
        }
        Ok(Self {
            api_key: open_key(dir, "apikey.key")?,
            refresh: open_key(dir, "refresh.key")?,
        })
    }

    /// The keyed digest of an API key: HMAC-SHA-256 of the SHA-256 of its secret.
    #[must_use]
    pub fn api_key_digest(&self, key: &ApiKeyText) -> Digest {
        let inner = digest(key.secret.expose());
        Digest(copy_32(hmac::sign(&self.api_key, &inner.0).as_ref()))
    }

    /// Whether a presented key is the one of that digest, in constant time.
    #[must_use]
    pub fn api_key_matches(&self, key: &ApiKeyText, digest: &Digest) -> bool {
        digests_match(&self.api_key_digest(key), digest)
    }

    /// The one successor of a refresh token: derived, so that it need not be stored.
    #[must_use]
    pub fn successor(&self, token: &RefreshToken) -> RefreshToken {
        let tag = hmac::sign(&self.refresh, token.text.expose().as_bytes());
        let secret = Zeroizing::new(URL_SAFE_NO_PAD.encode(tag.as_ref()));
        RefreshToken::new(token.session.clone(), &secret)
    }
}

/// Reads one HMAC key from a file, making it if there is none.
fn open_key(dir: Option<&Path>, name: &str) -> Result<hmac::Key, KeyFileError> {
    let mut fresh = Zeroizing::new([0; SECRET_BYTES]);
    let Some(dir) = dir else {
        fill(fresh.as_mut_slice());
        return Ok(hmac::Key::new(hmac::HMAC_SHA256, fresh.as_slice()));
    };
    let path = dir.join(name);
    if let Some(stored) = key_file::read(&path)? {
        if stored.len() != SECRET_BYTES {
            return Err(key_file::unfit(&path, "32 bytes; restore it from a backup"));
        }
        return Ok(hmac::Key::new(hmac::HMAC_SHA256, &stored));
    }
    fill(fresh.as_mut_slice());
    key_file::write(&path, fresh.as_slice())?;
    Ok(hmac::Key::new(hmac::HMAC_SHA256, fresh.as_slice()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use proptest::prelude::*;

    use super::*;

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
        assert_eq!(URL_SAFE_NO_PAD.decode(token.expose()).unwrap().len(), 32);
        assert_eq!(digest(token.expose()), of_token);
        assert_ne!(draw_one_time().1, of_token);
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

    #[test]
    fn base_62_is_drawn_evenly() {
        let text = draw_base62(62 * 1000);
        let mut counts = std::collections::BTreeMap::<char, u32>::new();
        for c in text.chars() {
            *counts.entry(c).or_default() += 1;
        }
        assert_eq!(counts.len(), 62);
        // Each digit is drawn 1,000 times, give or take 31; with `% 62` two of them would be drawn 1,500 times.
        for (digit, count) in counts {
            assert!((800..=1200).contains(&count), "{digit}: {count}");
        }
    }

    #[test]
    fn the_checksum_of_an_api_key_is_the_published_one() {
        // Made with Python: zlib.crc32(b"dwk_abcd1234." + 27 * b"x") % 62**5, most significant digit first.
        let key = format!("dwk_abcd1234.{}9cXdb", "x".repeat(27));
        assert_eq!(
            ApiKeyText::parse(&key).unwrap().text().expose(),
            key.as_str()
        );
        // A checksum whose first digits are zeros keeps them.
        let padded = "dwk_abcd1234.00000000000000000000000216900pH8";
        assert!(ApiKeyText::parse(padded).is_some());
    }

    #[test]
    fn malformed_api_keys_are_none() {
        let good = ApiKeyText::draw(key_id("abcd1234")).text();
        let good = good.expose();
        for bad in [
            "",
            "dwk_",
            "dwk_abcd1234",
            "dwk_abcd1234.",
            good.trim_start_matches("dwk_"),
            &good.chars().take(44).collect::<String>(),
            &format!("{good}0"),
            &format!(" {good}"),
            &good.replace('.', "_"),
            &good.replace("dwk_", "DWK_"),
            &good.replace("abcd1234", "abcd1235"),
            &good.replace("abcd1234", "abcd\u{e9}12"),
            &format!("dwk_abcd1234.{}", "\u{e9}".repeat(16)),
        ] {
            assert!(ApiKeyText::parse(bad).is_none(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn an_api_key_reads_back_and_no_single_character_may_change(
            id in "[0-9A-Za-z]{8}", place in 0_usize..45, to in any::<char>(),
        ) {
            let drawn = ApiKeyText::draw(key_id(&id));
            let text = drawn.text();
            let text = text.expose();
            let read = ApiKeyText::parse(text).unwrap();
            prop_assert_eq!(read.id, drawn.id);
            let read = read.text();
            prop_assert_eq!(read.expose(), text);

            let mut chars: Vec<char> = text.chars().collect();
            prop_assume!(chars[place] != to);
            chars[place] = to;
            let changed: String = chars.into_iter().collect();
            prop_assert!(ApiKeyText::parse(&changed).is_none());
        }

        #[test]
        fn parsing_takes_any_text(text in ".{0,80}") {
            let _ = (ApiKeyText::parse(&text), RefreshToken::parse(&text));
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
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&dir), 0o700);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&dir).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(mode(&entry.path()), 0o600);
            names.push(entry.file_name().into_string().unwrap());
        }
        names.sort();
        assert_eq!(names, ["apikey.key", "refresh.key"]);
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
        assert!(!shown.contains(token.text.expose()));
        assert!(shown.contains("TokenKeys(..)"));
    }
}
