//! Extraction of an unverified credential from header fields.

use std::fmt;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use zeroize::Zeroizing;

use crate::auth::cookie::{CookieKind, CookieName, VALUE_BYTES_MAX};
use crate::config::Config;
use crate::crypto::token::is_api_key_form;
use crate::model::credential::{CredentialKind, CredentialKinds};
use crate::model::deny::DenyReason;
use crate::model::field_value::{RepeatedField, at_most_one};

/// Maximum length of an API key, in bytes: the longest in existence has 45.
const API_KEY_BYTES_MAX: usize = 64;

/// The base64 of Basic credentials: some clients pad it, some do not.
const BASIC: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A credential presented by a caller, unverified. `Debug` shows the kind only.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Credential<'a> {
    /// A bearer token in `Authorization`.
    Bearer(&'a str),
    /// A token in the field of its issuer, by the index of that field in [`CredentialFields`]: an edge in front attaches it to
    /// all requests of a browser.
    Edge(usize, &'a str),
    /// An API key in its own field or as a bearer token.
    ApiKey(&'a str),
    /// An API key as the password of HTTP Basic, which browsers remember and attach.
    BasicKey(BasicKey),
    /// The value of a session cookie.
    Cookie(CookieKind, &'a str),
}

/// An API key taken from Basic credentials.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BasicKey {
    bytes: [u8; API_KEY_BYTES_MAX],
    length: usize,
}

impl BasicKey {
    fn new(text: &str) -> Option<Self> {
        let mut bytes = [0; API_KEY_BYTES_MAX];
        bytes
            .get_mut(..text.len())?
            .copy_from_slice(text.as_bytes());
        Some(Self {
            bytes,
            length: text.len(),
        })
    }

    pub(crate) fn text(&self) -> &str {
        let bytes = self.bytes.get(..self.length).unwrap_or_default();
        // The bytes were copied from a text.
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}

impl Credential<'_> {
    /// Whether browsers, or an edge in front of them, attach it to requests that any page makes them send.
    #[must_use]
    pub const fn is_ambient(&self) -> bool {
        matches!(self, Self::Edge(..) | Self::BasicKey(_) | Self::Cookie(..))
    }
}

impl fmt::Debug for Credential<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bearer(_) => "Bearer(..)",
            Self::Edge(..) => "Edge(..)",
            Self::ApiKey(_) => "ApiKey(..)",
            Self::BasicKey(_) => "BasicKey(..)",
            Self::Cookie(..) => "Cookie(..)",
        })
    }
}

/// The header fields that carry credentials besides `Authorization` and the cookie.
#[derive(Clone, Debug)]
pub struct CredentialFields {
    /// The field of API keys.
    pub(crate) api_key: HeaderName,
    /// The fields of issuers that have their own, each once.
    pub(crate) tokens: Vec<HeaderName>,
}

impl CredentialFields {
    /// Creates the carriers of a configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let headers = config.issuers.iter().filter_map(|it| it.header.clone());
        let mut tokens: Vec<_> = headers.collect();
        tokens.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        tokens.dedup();
        Self {
            api_key: config.account.api_key_header.clone(),
            tokens,
        }
    }

    /// Returns the kind of credential that a field of this name may carry; `None` if it carries none. `Authorization`
    /// may carry an API key as well.
    pub(crate) fn kind(&self, name: &HeaderName) -> Option<CredentialKind> {
        if *name == self.api_key {
            Some(CredentialKind::ApiKey)
        } else if *name == header::AUTHORIZATION || self.tokens.contains(name) {
            Some(CredentialKind::Bearer)
        } else {
            None
        }
    }
}

/// Finds the credential among the header fields; `None` if there is none.
///
/// Only kinds in `accept` are read: a field that could only hold another kind belongs to the application. An API key is
/// recognised by its form wherever a bearer token or a Basic password may be; an `Authorization` of any other scheme is
/// ignored. Only these fields and the one cookie, under their exact names, can carry a credential. The cookie is
/// ignored if there is a bearer token or an API key; a cookie that occurs twice is ignored too, since the origin of the
/// other is unknown.
///
/// `cookie`: the cookie that is read here, if any.
///
/// # Errors
/// [`DenyReason::CredentialConflict`] for two at once or one twice; [`DenyReason::BearerInvalid`],
/// [`DenyReason::ApiKeyInvalid`] and [`DenyReason::SessionEnded`] for a field that cannot hold one.
pub fn extract<'a>(
    headers: &'a HeaderMap,
    carriers: &CredentialFields,
    accept: CredentialKinds,
    cookie: Option<CookieName>,
) -> Result<Option<Credential<'a>>, DenyReason> {
    let takes_tokens = accept.contains(CredentialKind::Bearer);
    let takes_keys = accept.contains(CredentialKind::ApiKey);
    // Of two fields, the upstream might read another one than the gateway.
    let authorization = headers.get_all(header::AUTHORIZATION);
    if takes_tokens && 1 < authorization.iter().count() {
        return Err(DenyReason::CredentialConflict);
    }
    let api_key = if takes_keys {
        only(headers, &carriers.api_key)?
    } else {
        None
    };
    let mut found = None;
    if takes_tokens || takes_keys {
        for field in authorization {
            if let Some(credential) = in_authorization(field, accept)? {
                add(&mut found, credential)?;
            }
        }
    }
    if let Some(field) = api_key {
        let text = field.to_str().map_err(|_| DenyReason::ApiKeyInvalid)?;
        add(&mut found, key(text)?)?;
    }
    if takes_tokens {
        for (place, name) in carriers.tokens.iter().enumerate() {
            if let Some(field) = only(headers, name)? {
                add(
                    &mut found,
                    Credential::Edge(place, visible(field.as_bytes())?),
                )?;
            }
        }
    }
    if found.is_some() || !accept.contains(CredentialKind::Cookie) {
        return Ok(found);
    }
    match cookie.and_then(|cookie| only_cookie(headers, cookie)) {
        Some(Credential::Cookie(_, text)) if VALUE_BYTES_MAX <= text.len() => {
            Err(DenyReason::SessionEnded)
        }
        found => Ok(found),
    }
}

/// Returns the field of this name, which may occur once.
fn only<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a HeaderValue>, DenyReason> {
    at_most_one(headers, name).map_err(|RepeatedField| DenyReason::CredentialConflict)
}

fn add<'a>(found: &mut Option<Credential<'a>>, another: Credential<'a>) -> Result<(), DenyReason> {
    match found.replace(another) {
        None => Ok(()),
        Some(_) => Err(DenyReason::CredentialConflict),
    }
}

/// Returns the credential of one `Authorization` field; `None` if it is not for the gateway.
fn in_authorization(
    field: &HeaderValue,
    accept: CredentialKinds,
) -> Result<Option<Credential<'_>>, DenyReason> {
    let takes_keys = accept.contains(CredentialKind::ApiKey);
    let (scheme, rest) = scheme(field.as_bytes());
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return match visible(rest) {
            Ok(token) if is_api_key_form(token) => takes_keys.then(|| key(token)).transpose(),
            Ok(token) if accept.contains(CredentialKind::Bearer) => {
                Ok(Some(Credential::Bearer(token)))
            }
            Err(reason) if accept.contains(CredentialKind::Bearer) => Err(reason),
            _ => Ok(None),
        };
    }
    if !takes_keys {
        return Ok(None);
    }
    let Some(text) = basic(field.as_bytes()) else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&text).unwrap_or_default();
    let password = text.split_once(':').map(|(_, password)| password);
    let key = password.filter(|password| is_api_key_form(password));
    key.map(|key| {
        let key = BasicKey::new(key).ok_or(DenyReason::ApiKeyInvalid)?;
        Ok(Credential::BasicKey(key))
    })
    .transpose()
}

/// Decodes a Basic field to `user:password` (RFC 7617); `None` if it has another scheme or cannot be decoded.
pub(crate) fn basic(value: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (scheme, rest) = scheme(value);
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return None;
    }
    BASIC.decode(rest.trim_ascii()).ok().map(Zeroizing::new)
}

/// Splits an `Authorization` field into its scheme and the rest (RFC 9110 section 11.1).
fn scheme(value: &[u8]) -> (&[u8], &[u8]) {
    match value.iter().position(|b| *b == b' ') {
        Some(end) => value.split_at_checked(end).unwrap_or((value, &[])),
        None => (value, &[]),
    }
}

fn key(text: &str) -> Result<Credential<'_>, DenyReason> {
    if text.len() <= API_KEY_BYTES_MAX {
        Ok(Credential::ApiKey(text))
    } else {
        Err(DenyReason::ApiKeyInvalid)
    }
}

/// Returns the token in a field: visible ASCII, after any number of spaces (RFC 6750 section 2.1).
fn visible(value: &[u8]) -> Result<&str, DenyReason> {
    let token = std::str::from_utf8(value)
        .map_err(|_| DenyReason::BearerInvalid)?
        .trim_start_matches(' ');
    // All bytes are checked without a branch on each: a token is long, and most are well-formed.
    let is_visible = token
        .bytes()
        .fold(true, |all, b| all & b.is_ascii_graphic());
    if !token.is_empty() && is_visible {
        Ok(token)
    } else {
        Err(DenyReason::BearerInvalid)
    }
}

/// Returns the cookie of that name (RFC 6265 section 5.4; HTTP/2 may split it into several fields).
fn only_cookie(headers: &HeaderMap, (name, kind): CookieName) -> Option<Credential<'_>> {
    let fields = headers.get_all(header::COOKIE).iter();
    let pairs = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b';'));
    let mut values = pairs.filter_map(|pair| {
        let rest = pair.trim_ascii().strip_prefix(name.as_bytes())?;
        rest.trim_ascii_start().strip_prefix(b"=")
    });
    let first = values.next()?;
    if values.next().is_some() {
        return None;
    }
    // A value that is not text cannot be a session's, but the cookie is present.
    let text = std::str::from_utf8(first.trim_ascii()).unwrap_or_default();
    Some(Credential::Cookie(kind, text))
}

#[cfg(test)]
mod tests;
