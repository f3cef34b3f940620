//! The session cookies as they are set.

use http::{HeaderMap, HeaderValue, header};

use crate::account::login::Cookies;
use crate::auth::cookie::CookieName;
use crate::snapshot::Snapshot;

/// Sets the cookies of a session.
pub(in crate::web) fn set(headers: &mut HeaderMap, snapshot: &Snapshot, cookies: &Cookies) {
    let names = snapshot.authorizer.cookies();
    put(headers, snapshot, names.own(), cookies.own.expose(), "");
    if let Some(value) = cookies.domain.as_ref().filter(|_| names.has_domain) {
        put(headers, snapshot, names.on_routes(), value.expose(), "");
    }
}

/// Takes the cookies out of the browser.
pub(in crate::web) fn clear(headers: &mut HeaderMap, snapshot: &Snapshot) {
    let names = snapshot.authorizer.cookies();
    put(headers, snapshot, names.own(), "", "; Max-Age=0");
    if names.has_domain {
        put(headers, snapshot, names.on_routes(), "", "; Max-Age=0");
    }
}

/// Without `Max-Age` a cookie goes when the browser is closed; when its session ends is for the gateway to know.
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
