//! The file of a ring of signing keys: `signing.json`, `assertion.json`.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::crypto::key_file::{self, KeyFileError};
use crate::crypto::ring::{KeyInfo, Signed, SigningKeyState};
use crate::crypto::signing_key::SigningKey;
use crate::model::account::Digest;
use crate::model::algorithm::Algorithm;
use crate::model::clock::Timestamp;
use crate::model::secret::Secret;

/// Version of the format. A file of another version was written by another release.
const VERSION: u32 = 1;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileIn {
    version: u32,
    keys: Vec<KeyIn>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyIn {
    kid: String,
    algorithm: String,
    state: SigningKeyState,
    created: Timestamp,
    retires: Option<Timestamp>,
    /// The key in PKCS#8, or the HMAC secret, in base64.
    private: Secret,
}

#[derive(Serialize)]
struct FileOut<'a> {
    version: u32,
    keys: Vec<KeyOut<'a>>,
}

#[derive(Serialize)]
struct KeyOut<'a> {
    #[serde(flatten)]
    info: &'a KeyInfo,
    private: &'a str,
}

/// Reads the ring and the fingerprint of its file; `None` if there is no file yet.
pub(crate) fn read(
    path: &Path,
    signed: Signed,
) -> Result<Option<(Vec<SigningKey>, Digest)>, KeyFileError> {
    let Some(text) = key_file::read(path)? else {
        return Ok(None);
    };
    let fingerprint = key_file::fingerprint(signed.file().name(), &text);
    // The parser's error may contain a part of a key.
    let file: FileIn = serde_json::from_slice(&text).map_err(|_| {
        key_file::unfit(
            path,
            "signing keys in the format of doorward; restore it from a backup",
        )
    })?;
    if file.version != VERSION {
        return Err(key_file::unfit(path, "version 1 of the file's format"));
    }
    let keys = file.keys.into_iter().map(|key| read_key(key, signed));
    let keys: Option<Vec<_>> = keys.collect();
    let Some(keys) = keys.filter(|keys| is_ring(keys)) else {
        return Err(key_file::unfit(
            path,
            "keys that fit their ids, exactly one of them active, at most one next; restore it from a backup",
        ));
    };
    Ok(Some((keys, fingerprint)))
}

fn read_key(stored: KeyIn, signed: Signed) -> Option<SigningKey> {
    let private = Zeroizing::new(STANDARD.decode(stored.private.expose()).ok()?);
    let algorithm = Algorithm::parse(&stored.algorithm)?;
    let info = KeyInfo {
        kid: stored.kid,
        algorithm: stored.algorithm,
        state: stored.state,
        created: stored.created,
        retires: stored.retires,
    };
    SigningKey::read(info, signed, algorithm, private)
}

fn is_ring(keys: &[SigningKey]) -> bool {
    let count = |state| keys.iter().filter(|key| key.info.state == state).count();
    let kids: std::collections::BTreeSet<_> = keys.iter().map(|key| &key.info.kid).collect();
    let ends = |key: &SigningKey| {
        key.info.state != SigningKeyState::Retiring || key.info.retires.is_some()
    };
    keys.iter().all(ends)
        && count(SigningKeyState::Active) == 1
        && count(SigningKeyState::Next) <= 1
        && kids.len() == keys.len()
}

/// Serialises the ring for its file.
pub(crate) fn text(
    signed: Signed,
    keys: &[SigningKey],
) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    let private = keys.iter().map(|key| STANDARD.encode(&key.private));
    let private: Vec<_> = private.map(Zeroizing::new).collect();
    let keys = keys.iter().zip(&private).map(|(key, private)| {
        let info = &key.info;
        KeyOut { info, private }
    });
    let file = FileOut {
        version: VERSION,
        keys: keys.collect(),
    };
    // Allocated at its full size, since a buffer that grows leaves copies of the secret behind.
    let mut text = Zeroizing::new(Vec::with_capacity(64 * 1024));
    serde_json::to_writer_pretty(&mut *text, &file).map_err(|_| {
        key_file::unfit(
            Path::new(signed.file().name()),
            "keys that can be written as JSON",
        )
    })?;
    text.push(b'\n');
    Ok(text)
}
