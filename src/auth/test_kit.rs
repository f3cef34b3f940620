//! Input parsing shared by the tests of several modules.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Parses the header fields in an input of a fuzz target, one per line, such as `cookie: a=b`. Invalid lines and
/// everything after the sixteenth line are omitted.
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
