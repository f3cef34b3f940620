//! CORS preflights, which a browser sends before a script's request, always without a credential.

use http::{HeaderMap, Method, header};

use crate::model::field_value::exactly_one;

/// Returns the method that a preflight announces; `None` if the request is not a preflight.
///
/// Source: Fetch standard, section 3.3.2 (CORS protocol requests).
pub(crate) fn announced(method: &Method, headers: &HeaderMap) -> Option<Method> {
    if *method != Method::OPTIONS {
        return None;
    }
    exactly_one(headers, &header::ORIGIN)?;
    let announced = exactly_one(headers, &header::ACCESS_CONTROL_REQUEST_METHOD)?;
    Method::from_bytes(announced.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_preflight_has_one_origin_and_announces_one_method() {
        let origin = ("origin", "https://a.test");
        let put = ("access-control-request-method", "PUT");
        let cases = [
            ("OPTIONS", &[origin, put][..], Some(Method::PUT)),
            ("OPTIONS", &[origin], None),
            ("OPTIONS", &[put], None),
            ("OPTIONS", &[], None),
            ("OPTIONS", &[origin, put, put], None),
            ("OPTIONS", &[origin, origin, put], None),
            (
                "OPTIONS",
                &[origin, ("access-control-request-method", "P U")],
                None,
            ),
            ("GET", &[origin, put], None),
            ("PUT", &[origin, put], None),
        ];
        for (method, fields, wanted) in cases {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, HeaderValue::from_static(value));
            }
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            assert_eq!(announced(&method, &headers), wanted, "{method} {fields:?}");
        }
    }
}
