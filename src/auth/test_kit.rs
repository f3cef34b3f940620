//! What the tests of several modules read their inputs by.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The fields that an input of a fuzz target has, one a line, such as `cookie: a=b`. Lines that are no field are left out, and
/// all behind the sixteenth line.
pub(in crate::auth) fn fields(bytes: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n').take(16) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}
