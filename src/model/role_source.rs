//! Role sources: services that own their memberships and are queried for them.

use std::net::SocketAddr;
use std::time::Duration;

use crate::model::access::Name;

/// A checked `[[role_source]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleSource {
    /// The resource kinds that it answers for.
    pub resources: Vec<Name>,
    /// Its loopback addresses, tried in this order.
    pub addresses: Vec<SocketAddr>,
    /// Host and port as written, for `Host`.
    pub authority: String,
    /// The request target.
    pub target: TargetTemplate,
    /// Time for which an answer is fresh.
    pub ttl: Duration,
    /// Additional time for which an answer is used while the source does not answer.
    pub stale_max: Duration,
}

/// A path and query with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetTemplate(Vec<TemplatePiece>);

/// A piece of a [`TargetTemplate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplatePiece {
    /// Fixed text.
    Literal(String),
    /// The uid.
    Uid,
    /// The resource kind.
    Resource,
    /// The resource id.
    Id,
}

impl TargetTemplate {
    /// Parses `/members?uid={uid}&resource={resource}&id={id}`; `None` if it does not begin with a slash, has a brace
    /// that is not part of one of these three, or has anything but visible ASCII, or a `#` or `\`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_target = text.starts_with('/')
            && text
                .bytes()
                .all(|b| b.is_ascii_graphic() && b != b'#' && b != b'\\');
        if !is_target {
            return None;
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('{') {
            let (name, after) = behind.split_once('}')?;
            if before.contains('}') {
                return None;
            }
            if !before.is_empty() {
                pieces.push(TemplatePiece::Literal(before.to_owned()));
            }
            pieces.push(match name {
                "uid" => TemplatePiece::Uid,
                "resource" => TemplatePiece::Resource,
                "id" => TemplatePiece::Id,
                _ => return None,
            });
            rest = after;
        }
        if rest.contains('}') {
            return None;
        }
        if !rest.is_empty() {
            pieces.push(TemplatePiece::Literal(rest.to_owned()));
        }
        Some(Self(pieces))
    }

    /// Whether the template has this placeholder.
    #[must_use]
    pub fn has(&self, piece: &TemplatePiece) -> bool {
        self.0.contains(piece)
    }

    /// Fills in the placeholders, with each value percent-encoded: every byte that is not a letter, a digit or one of
    /// `-._~` becomes `%XX` (RFC 3986 section 2.3), so that no value can extend beyond its placeholder.
    #[must_use]
    pub fn fill(&self, uid: &str, resource: &str, id: &str) -> String {
        let mut target = String::new();
        for piece in &self.0 {
            match piece {
                TemplatePiece::Literal(text) => target.push_str(text),
                TemplatePiece::Uid => push_encoded(&mut target, uid),
                TemplatePiece::Resource => push_encoded(&mut target, resource),
                TemplatePiece::Id => push_encoded(&mut target, id),
            }
        }
        target
    }
}

fn push_encoded(target: &mut String, value: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            target.push(char::from(byte));
        } else {
            target.push('%');
            for nibble in [byte >> 4, byte & 15] {
                let digit = HEX.get(usize::from(nibble)).copied();
                target.push(char::from(digit.unwrap_or(b'0')));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_filled_in_as_one_piece_each() {
        let cases = [
            (
                "/m?uid={uid}&r={resource}&id={id}",
                "/m?uid=u-1&r=event&id=a%26b%3D%2F..%25%20%C3%A9",
            ),
            (
                "/{resource}/{id}/{uid}",
                "/event/a%26b%3D%2F..%25%20%C3%A9/u-1",
            ),
            ("/all/{uid}", "/all/u-1"),
        ];
        for (template, filled) in cases {
            let template = TargetTemplate::parse(template).unwrap();
            assert_eq!(template.fill("u-1", "event", "a&b=/..% \u{e9}"), filled);
        }
    }

    #[test]
    fn other_places_and_other_texts_are_refused() {
        for bad in [
            "",
            "x",
            "/{name}",
            "/{uid",
            "/uid}",
            "/{{uid}}",
            "/}{uid}",
            "/{uid}}",
            "/{}",
            "/a b{uid}",
            "/\u{e9}{uid}",
            "/{uid}#x",
            "/\\{uid}",
        ] {
            assert_eq!(TargetTemplate::parse(bad), None, "{bad}");
        }
        let bare = TargetTemplate::parse("/{uid}").unwrap();
        assert!(bare.has(&TemplatePiece::Uid) && !bare.has(&TemplatePiece::Id));
    }
}
