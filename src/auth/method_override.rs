//! Requests with a header field that names a method other than their own.
//!
//! A framework that honours the field does something that was never decided; one that does not, because the field was
//! dropped on the way, does something other than the caller wanted. Such a request is therefore refused unless its
//! route allows it.

use http::{HeaderMap, Method};

use crate::auth::preflight;
use crate::auth::view::RequestView;
use crate::model::deny::DenyReason;
use crate::model::field_name::is_method_override;
use crate::model::route::Route;
use crate::route::head::check_method;

/// Whether a request names another method than its own.
#[must_use]
pub fn is_named(headers: &HeaderMap) -> bool {
    headers
        .keys()
        .any(|name| is_method_override(name.as_str().as_bytes()))
}

/// Checks that the route accepts the named method: it lists the field, in the spelling sent, and has the method.
///
/// # Errors
/// [`DenyReason::MethodOverrideRefused`] if it does not.
pub(super) fn check(view: &RequestView<'_>, route: &Route) -> Result<(), DenyReason> {
    let is_override =
        |(name, _): &(&http::HeaderName, _)| is_method_override(name.as_str().as_bytes());
    let mut fields = view.headers.iter().filter(is_override);
    // A preflight would pass without a credential as the method it names.
    let is_preflight = preflight::announced(view.method, view.headers).is_some();
    let takes = match (fields.next(), fields.next()) {
        (None, _) => true,
        (Some((name, value)), None) if !is_preflight => {
            route.pass_headers.contains(name) && has_method(route, value.as_bytes())
        }
        (Some(_), _) => false,
    };
    takes.then_some(()).ok_or(DenyReason::MethodOverrideRefused)
}

/// Whether the route has the named method. Frameworks read the value without regard to case.
fn has_method(route: &Route, value: &[u8]) -> bool {
    let method = value.trim_ascii().to_ascii_uppercase();
    let parsed = check_method(&method)
        .ok()
        .and_then(|()| Method::from_bytes(&method).ok());
    parsed.is_some_and(|method| route.methods.is_empty() || route.methods.contains(&method))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::auth::view::Target;

    type Case<'a> = (&'a Route, &'a [(&'static str, &'static str)], bool);

    #[test]
    fn only_what_the_route_lists_and_takes_passes() {
        let open = Route {
            pass_headers: vec!["x-http-method-override".parse().unwrap()],
            ..Route::bare()
        };
        let put_only = Route {
            methods: vec![Method::POST, Method::PUT],
            ..open.clone()
        };
        let cases: [Case<'_>; 13] = [
            (&open, &[], true),
            (&open, &[("x-http-method-override", "DELETE")], true),
            (&open, &[("x-http-method-override", " delete ")], true),
            (&open, &[("x_http_method_override", "DELETE")], false),
            (&open, &[("x-http-method", "DELETE")], false),
            (&open, &[("x-http-method-override", "TRACE")], false),
            (&open, &[("x-http-method-override", "GET, PUT")], false),
            (&open, &[("x-http-method-override", "")], false),
            (
                &open,
                &[
                    ("x-http-method-override", "PUT"),
                    ("x-method-override", "PUT"),
                ],
                false,
            ),
            (
                &open,
                &[
                    ("x-http-method-override", "PUT"),
                    ("x-http-method-override", "PUT"),
                ],
                false,
            ),
            (&put_only, &[("x-http-method-override", "put")], true),
            (&put_only, &[("x-http-method-override", "DELETE")], false),
            (&Route::bare(), &[("x-http-method-override", "POST")], false),
        ];
        let target = Target::read(b"a", b"/").unwrap();
        for (route, fields, wanted) in cases {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                let name: http::HeaderName = name.parse().unwrap();
                headers.append(name, HeaderValue::from_static(value));
            }
            let client = [192, 0, 2, 1].into();
            let view = target.view(&Method::POST, "http", client, &headers);
            assert_eq!(check(&view, route).is_ok(), wanted, "{fields:?}");
            assert_eq!(is_named(&headers), !fields.is_empty());
        }
    }
}
