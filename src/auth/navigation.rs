//! Redirects of browsers that lack a login to the login page; every other caller receives a 401.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use url::form_urlencoded;

use crate::auth::origin::origin_of;
use crate::auth::return_to::ReturnTo;
use crate::auth::view::RequestView;
use crate::config::Config;
use crate::model::deny::DenyReason;

const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
/// Older libraries mark a script's request with it; web views of Android apps send the app's name in it on navigations.
const REQUESTED_WITH: HeaderName = HeaderName::from_static("x-requested-with");

/// The login page, if navigations are redirected to one.
#[derive(Debug)]
pub(crate) struct LoginPage(Option<String>);

impl LoginPage {
    /// Returns the gateway's own login page.
    pub(crate) fn new(config: &Config) -> Self {
        let listen = &config.listen;
        let url = format!("{}{}/login", listen.public_url.text, listen.auth_prefix);
        Self(config.session.login_redirect.then_some(url))
    }

    /// Returns the login page for browsers in front of other proxies.
    pub(crate) fn behind_proxies(config: &Config) -> Self {
        match &config.forward_auth.login_url {
            Some(url) => Self(config.session.login_redirect.then(|| url.clone())),
            None => Self::new(config),
        }
    }

    /// Returns the URL to redirect the caller of a refused request to; `None` to respond with the reason.
    ///
    /// The URL contains the way back if a login may lead there. The page never redirects to itself: one that requires a
    /// login would otherwise do so for ever.
    pub(crate) fn instead_of(
        &self,
        reason: DenyReason,
        view: &RequestView<'_>,
        path_and_query: &str,
        return_to: &ReturnTo,
    ) -> Option<String> {
        let lacks_login = matches!(
            reason,
            DenyReason::CredentialMissing | DenyReason::SessionEnded
        );
        if !lacks_login || !is_navigation(view.method, view.headers) {
            return None;
        }
        let page = self.0.as_ref()?;
        let asked = format!("{}{path_and_query}", origin_of(view.scheme, view.authority));
        if without_query(&asked) == without_query(page) {
            return None;
        }
        Some(match return_to.accept(&asked) {
            Some(back) => {
                let back: String = form_urlencoded::byte_serialize(back.url.as_bytes()).collect();
                let join = if page.contains('?') { '&' } else { '?' };
                format!("{page}{join}rd={back}")
            }
            None => page.clone(),
        })
    }
}

fn without_query(url: &str) -> &str {
    url.split_once('?').map_or(url, |(page, _)| page)
}

/// Whether a human sees the response: a navigation, or a form posted by a page.
#[must_use]
pub fn wants_page(method: &Method, headers: &HeaderMap) -> bool {
    let mode = headers.get(FETCH_MODE);
    let is_form = *method == Method::POST && mode.is_some_and(|it| it.as_bytes() == b"navigate");
    // A form that wants HTML is recognised in the same way.
    is_navigation(method, headers) || is_form && is_navigation(&Method::GET, headers)
}

/// Whether the request is a navigation: nothing else requests HTML by GET.
fn is_navigation(method: &Method, headers: &HeaderMap) -> bool {
    let is_script = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"XMLHttpRequest");
    let mode = headers.get(FETCH_MODE);
    *method == Method::GET
        && mode.is_none_or(|mode| mode.as_bytes() == b"navigate")
        && !headers.get(REQUESTED_WITH).is_some_and(is_script)
        && accepts_html(headers)
}

/// Whether HTML is among the accepted types with a non-zero weight (RFC 9110 section 12.5.1).
pub(crate) fn accepts_html(headers: &HeaderMap) -> bool {
    let fields = headers.get_all(header::ACCEPT).iter();
    fields
        .filter_map(|field| field.to_str().ok())
        .any(|field| pieces(field, ',').any(is_wanted_html))
}

fn is_wanted_html(range: &str) -> bool {
    let mut pieces = pieces(range, ';');
    let is_html = pieces
        .next()
        .is_some_and(|kind| kind.eq_ignore_ascii_case("text/html"));
    let weight = pieces.find_map(|parameter| {
        let (name, weight) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then(|| weight.trim())
    });
    is_html && weight.is_none_or(|weight| weight.parse().is_ok_and(|weight: f32| 0.0 < weight))
}

/// Splits at separators outside quotes.
fn pieces(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let parts = text.split(move |char| {
        let was_escaped = std::mem::take(&mut is_escaped);
        match char {
            '\\' if is_quoted && !was_escaped => is_escaped = true,
            '"' if !was_escaped => is_quoted = !is_quoted,
            _ => {}
        }
        char == separator && !is_quoted
    });
    parts.map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_is_wanted_where_it_is_named_with_a_weight() {
        let cases: [(&[&str], bool); 18] = [
            (&["text/html"], true),
            (&["TEXT/HTML"], true),
            (&["text/html;q=0.1"], true),
            (&["text/html; charset=utf-8; Q=1"], true),
            (&["*/*", "text/html"], true),
            (&["text/html;q=0, text/html"], true),
            (&["application/json, text/html;level=1"], true),
            (&["text/html;q=0"], false),
            (&["text/html; q=0.000"], false),
            (&["text/html ; Q = 0 "], false),
            (&["application/json, text/html;q=0, */*"], false),
            (&["text/html;q=x"], false),
            (&["text/html;q=-1"], false),
            (&["text/htmlx", "xtext/html", "text/html+x"], false),
            (&["text/*", "*/*"], false),
            (&["application/json;x=\"a, text/html\""], false),
            (&["application/json;x=\"\\\", text/html\""], false),
            (&[], false),
        ];
        for (fields, wanted) in cases {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(header::ACCEPT, HeaderValue::from_static(field));
            }
            assert_eq!(accepts_html(&headers), wanted, "{fields:?}");
        }
    }

    #[test]
    fn a_navigation_is_a_get_for_html_that_no_script_made() {
        let html = ("accept", "text/html,application/xhtml+xml;q=0.9");
        let cases = [
            ("GET", &[html][..], true),
            ("GET", &[html, ("sec-fetch-mode", "navigate")], true),
            ("GET", &[("accept", "*/*"), ("accept", "Text/HTML")], true),
            (
                "GET",
                &[html, ("x-requested-with", "com.example.mail")],
                true,
            ),
            (
                "GET",
                &[html, ("x-requested-with", "xmlhttprequest")],
                false,
            ),
            ("GET", &[html, ("sec-fetch-mode", "cors")], false),
            ("GET", &[html, ("sec-fetch-mode", "websocket")], false),
            ("GET", &[("accept", "*/*")], false),
            ("GET", &[("accept", "application/json")], false),
            ("GET", &[], false),
            ("HEAD", &[html], false),
            ("POST", &[html], false),
        ];
        for (method, fields, wanted) in cases {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, HeaderValue::from_static(value));
            }
            assert_eq!(
                is_navigation(&method, &headers),
                wanted,
                "{method} {fields:?}"
            );
        }
    }
}
