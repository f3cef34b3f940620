//! Sets and clears cookies: those of a session, and the marker of the login page.

use http::{HeaderMap, HeaderValue, header};

use crate::account::login::Cookies;
use crate::auth::cookie::CookieName;
use crate::crypto::digest;
use crate::snapshot::Snapshot;

/// Name of the cookie that marks the login page's last redirect.
const WAY: &str = "doorward_way";

/// Sets the session cookies.
pub(in crate::web) fn set(headers: &mut HeaderMap, snapshot: &Snapshot, cookies: &Cookies) {
    let names = snapshot.authorizer.cookies();
    put(headers, snapshot, names.own(), cookies.own.expose(), "");
    if let Some(value) = cookies.domain.as_ref().filter(|_| names.has_domain) {
        put(headers, snapshot, names.on_routes(), value.expose(), "");
    }
}

/// Deletes the session cookies in the browser.
pub(in crate::web) fn clear(headers: &mut HeaderMap, snapshot: &Snapshot) {
    let names = snapshot.authorizer.cookies();
    put(headers, snapshot, names.own(), "", "; Max-Age=0");
    if names.has_domain {
        put(headers, snapshot, names.on_routes(), "", "; Max-Age=0");
    }
}

/// Marks for one minute where the login page has just redirected a browser, so that an immediate return is detected.
/// The cookie reveals neither who is logged in nor the target.
pub(in crate::web) fn mark_way(headers: &mut HeaderMap, snapshot: &Snapshot, back: Option<&str>) {
    let path = &snapshot.config.listen.auth_prefix;
    let is_secure = snapshot.authorizer.cookies().is_secure;
    let secure = if is_secure { "; Secure" } else { "" };
    let way = way(back);
    let text =
        format!("{WAY}={way}; Path={path}/login{secure}; HttpOnly; SameSite=Lax; Max-Age=60");
    if let Ok(value) = HeaderValue::from_str(&text) {
        headers.append(header::SET_COOKIE, value);
    }
}

/// Whether the login page has just redirected this browser to `back`.
pub(in crate::web) fn is_way_marked(headers: &HeaderMap, back: Option<&str>) -> bool {
    let fields = headers.get_all(header::COOKIE).iter();
    let mut pairs = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b';'));
    let marked = format!("{WAY}={}", way(back));
    pairs.any(|pair| pair.trim_ascii() == marked.as_bytes())
}

/// Returns the beginning of a digest, long enough to distinguish targets.
fn way(back: Option<&str>) -> String {
    let digest = digest::digest(back.unwrap_or_default());
    let beginning = digest.0.first_chunk().copied().unwrap_or_default();
    format!("{:016x}", u64::from_be_bytes(beginning))
}

/// Appends a cookie. Without `Max-Age`, the browser drops it when it closes; the gateway decides when the session ends.
///
/// Source: OWASP ASVS 5.0 section 3.3; RFC 6265bis sections 4.1.2.5 and 4.1.3.
fn put(headers: &mut HeaderMap, snapshot: &Snapshot, name: CookieName, value: &str, life: &str) {
    let names = snapshot.authorizer.cookies();
    let is_for_domain = names.has_domain && name == names.on_routes();
    let domain = snapshot.config.session.cookie_domain.as_ref();
    let domain = match domain.filter(|_| is_for_domain) {
        Some(domain) => format!("; Domain={domain}"),
        None => String::new(),
    };
    let secure = if names.is_secure { "; Secure" } else { "" };
    let (name, _) = name;
    let text = format!("{name}={value}{domain}; Path=/{secure}; HttpOnly; SameSite=Lax{life}");
    if let Ok(mut value) = HeaderValue::from_str(&text) {
        value.set_sensitive(true);
        headers.append(header::SET_COOKIE, value);
    }
}
