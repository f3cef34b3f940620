//! API keys: the record, its terms with their rules, and the forms that callers send and receive.

use std::net::IpAddr;

use ipnet::IpNet;
use schemars::{JsonSchema, Schema, json_schema};
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::model::access::{Membership, Name, ResourceId, Scope};
use crate::model::account::Digest;
use crate::model::clock::Timestamp;
use crate::model::field::{Checked, CheckedField, FieldChange, InvalidField, members_of};
use crate::model::id::{KeyId, UserId};
use crate::model::text::printed_field;

/// Maximum number of resource roles that one key may be limited to.
pub const RESOURCES_MAX: usize = 100;

printed_field! {
    /// The owner's name for a key; may be empty.
    #[derive(Default)]
    KeyName, 0..=64, InvalidField {
        field: "name",
        expected: "at most 64 characters, none of them a control character",
    }
}

printed_field! {
    /// The owner's note about a key.
    KeyNote, 0..=200, InvalidField {
        field: "note",
        expected: "at most 200 characters, none of them a control character",
    }
}

/// The expiry of a key, as callers write it. The use case checks that it lies in the future.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyExpiry(pub Timestamp);

impl CheckedField for KeyExpiry {
    type Sent = String;

    const RULE: InvalidField = InvalidField {
        field: "expires",
        expected: "a time of RFC 3339 such as 2030-01-31T12:00:00Z",
    };

    fn check(text: String) -> Option<Self> {
        Timestamp::parse_rfc3339(&text).map(Self)
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "format": "date-time" })
    }
}

/// Networks that a key may be used from, sorted and without duplicates; if empty, all networks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// Maximum number of networks of one key: each is compared on each request.
    const MAX: usize = 64;

    /// Whether a caller with this address may use the key.
    #[must_use]
    pub fn admit(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        self.is_all() || self.0.iter().any(|network| network.contains(&client))
    }

    fn is_all(&self) -> bool {
        self.0.is_empty()
    }

    /// Parses a network, or an address as a network of one; host bits are cleared. An IPv4-mapped IPv6 address is
    /// refused, because callers are compared in their canonical form.
    fn network(text: &str) -> Option<IpNet> {
        let network = match text.parse::<IpNet>() {
            Ok(network) => network.trunc(),
            Err(_) => IpNet::from(text.parse::<IpAddr>().ok()?),
        };
        (network.addr().to_canonical() == network.addr()).then_some(network)
    }
}

impl CheckedField for Networks {
    type Sent = Vec<String>;

    const RULE: InvalidField = InvalidField {
        field: "allow_from",
        expected: "1 to 64 networks or addresses such as 192.0.2.0/24 and 2001:db8::1, IPv4 not in IPv6 notation; \
                   null: all",
    };

    fn check(texts: Vec<String>) -> Option<Self> {
        // An empty list could mean no network as well as all networks.
        if !(1..=Self::MAX).contains(&texts.len()) {
            return None;
        }
        let networks = texts.iter().map(|text| Self::network(text));
        let mut networks: Vec<_> = networks.collect::<Option<_>>()?;
        networks.sort();
        networks.dedup();
        Some(Self(networks))
    }

    fn schema() -> Schema {
        json_schema!({
            "type": "array", "items": { "type": "string" }, "minItems": 1, "maxItems": Self::MAX,
        })
    }
}

/// A number of requests per minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rate(u32);

impl Rate {
    const MAX: u32 = 100_000;

    /// Returns the number of requests.
    #[must_use]
    pub const fn per_minute(self) -> u32 {
        self.0
    }
}

impl CheckedField for Rate {
    type Sent = u64;

    const RULE: InvalidField = InvalidField {
        field: "rate_per_minute",
        expected: "requests per minute, from 1 to 100000; null: no limit of its own",
    };

    fn check(rate: u64) -> Option<Self> {
        let rate = u32::try_from(rate).ok()?;
        (1..=Self::MAX).contains(&rate).then_some(Self(rate))
    }

    fn schema() -> Schema {
        json_schema!({ "type": "integer", "format": "uint64", "minimum": 1, "maximum": Self::MAX })
    }
}

/// The terms of a key, which its owner decides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct KeyTerms {
    /// The owner's name for the key.
    pub name: KeyName,
    /// The scopes that it carries, sorted.
    pub scopes: Vec<Scope>,
    /// When it expires; `None` if it never does.
    pub expires: Option<Timestamp>,
    /// Networks that it may be used from.
    #[serde(default)]
    pub allow_from: Networks,
    /// Requests per minute; `None` if it has no limit of its own.
    #[serde(default)]
    pub rate_per_minute: Option<Rate>,
    /// The resource roles that it is limited to, sorted, each only as far as its owner has it; `None` for all roles of
    /// its owner.
    #[serde(default)]
    pub resources: Option<Vec<Membership>>,
    /// The owner's note.
    #[serde(default)]
    pub note: Option<KeyNote>,
}

/// An API key as stored: everything but the secret.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ApiKey {
    /// The public part of the key.
    pub id: KeyId,
    /// Its owner.
    pub uid: UserId,
    /// The terms, which its owner decides.
    #[serde(flatten)]
    pub terms: KeyTerms,
    /// HMAC-SHA-256 of the SHA-256 of the whole secret, checksum included, under the store's key.
    pub digest: Digest,
    /// When it was created.
    pub created: Timestamp,
    /// The secret before the last rotation, valid for a limited time.
    #[serde(default)]
    pub previous: Option<PreviousSecret>,
    /// Whether it is refused until its owner or an administrator confirms it, for example after a restore.
    #[serde(default)]
    pub suspended: bool,
}

/// Writes the members in the order that records have had since the first version. New members go to the end.
impl Serialize for ApiKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let terms = &self.terms;
        let mut record = serializer.serialize_struct("ApiKey", 13)?;
        record.serialize_field("id", &self.id)?;
        record.serialize_field("uid", &self.uid)?;
        record.serialize_field("name", &terms.name)?;
        record.serialize_field("digest", &self.digest)?;
        record.serialize_field("scopes", &terms.scopes)?;
        record.serialize_field("created", &self.created)?;
        record.serialize_field("expires", &terms.expires)?;
        record.serialize_field("previous", &self.previous)?;
        record.serialize_field("allow_from", &terms.allow_from)?;
        record.serialize_field("rate_per_minute", &terms.rate_per_minute)?;
        record.serialize_field("resources", &terms.resources)?;
        record.serialize_field("suspended", &self.suspended)?;
        record.serialize_field("note", &terms.note)?;
        record.end()
    }
}

/// The secret that a rotation replaced, as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviousSecret {
    /// The digest, computed as [`ApiKey::digest`].
    pub digest: Digest,
    /// When it becomes void.
    pub until: Timestamp,
}

/// A resource role that a key is to be limited to, as callers write it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "WantedKeyRole", description = "")]
pub struct WantedRole {
    /// Kind of resource.
    #[schemars(regex(pattern = Name::PATTERN), description = "")]
    pub resource: String,
    /// Which one.
    #[schemars(regex(pattern = ResourceId::PATTERN), description = "")]
    pub id: String,
    /// At which level, at most.
    #[schemars(description = "")]
    pub level: String,
}

/// The terms of a key to be made.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NewApiKey", description = "")]
pub struct NewKey {
    /// At most 64 characters, none of them a control character.
    pub name: Option<Checked<KeyName>>,
    /// Declared scopes, none that the login lacks; an administrator may add `auth:*`.
    pub scopes: Option<Vec<String>>,
    /// When it ends by itself; not at all if nobody says.
    pub expires: Option<Checked<KeyExpiry>>,
    /// Addresses and networks from which it may be used.
    pub allow_from: Option<Checked<Networks>>,
    /// Requests that it may send in a minute.
    pub rate_per_minute: Option<Checked<Rate>>,
    /// The resource roles that it may use, of those of its owner.
    #[schemars(length(max = RESOURCES_MAX))]
    pub resources: Option<Vec<WantedRole>>,
    /// A remark of the owner's, which no upstream sees.
    pub note: Option<Checked<KeyNote>>,
}

/// What is left out stays; `null` takes away.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ApiKeyChange")]
pub struct KeyPatch {
    /// At most 64 characters, none of them a control character.
    pub name: Option<Checked<KeyName>>,
    /// Declared scopes, none that the login lacks; an administrator may add `auth:*`.
    pub scopes: Option<Vec<String>>,
    /// When it ends by itself; not at all if nobody says.
    #[serde(default)]
    #[schemars(extend("default" = null))]
    pub expires: FieldChange<Checked<KeyExpiry>>,
    /// Addresses and networks from which it may be used.
    #[serde(default)]
    #[schemars(extend("default" = null))]
    pub allow_from: FieldChange<Checked<Networks>>,
    /// Requests that it may send in a minute.
    #[serde(default)]
    #[schemars(extend("default" = null))]
    pub rate_per_minute: FieldChange<Checked<Rate>>,
    /// The resource roles that it may use, of those of its owner.
    #[serde(default)]
    #[schemars(length(max = RESOURCES_MAX))]
    pub resources: FieldChange<Vec<WantedRole>>,
    /// A remark of the owner's, which no upstream sees.
    #[serde(default)]
    #[schemars(extend("default" = null))]
    pub note: FieldChange<Checked<KeyNote>>,
    /// `false` confirms a key that is suspended, `true` suspends it.
    pub suspended: Option<bool>,
}

/// Treats a new key as a change to a key without any terms.
impl From<NewKey> for KeyPatch {
    fn from(key: NewKey) -> Self {
        Self {
            name: key.name,
            scopes: key.scopes,
            expires: key.expires.into(),
            allow_from: key.allow_from.into(),
            rate_per_minute: key.rate_per_minute.into(),
            resources: key.resources.into(),
            note: key.note.into(),
            suspended: None,
        }
    }
}

/// A key as its owner and the operator see it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "ApiKey", description = "")]
pub struct ShownKey {
    id: String,
    /// The whole key: when it is made, and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    apikey: Option<String>,
    #[schemars(with = "String")]
    name: KeyName,
    #[schemars(with = "Vec<String>")]
    scopes: Vec<Scope>,
    created: String,
    expires: Option<String>,
    #[schemars(with = "Option<Vec<String>>")]
    allow_from: Option<Networks>,
    #[schemars(with = "Option<u32>")]
    rate_per_minute: Option<Rate>,
    resources: Option<Vec<Membership>>,
    #[schemars(with = "Option<String>")]
    note: Option<KeyNote>,
    /// Until when the secret before the last rotation is good.
    overlap_until: Option<String>,
    /// Refused until it is confirmed.
    suspended: bool,
    /// It may be a minute behind.
    last_used: Option<String>,
}

impl ShownKey {
    /// Converts a key, with the text of its secret if that was just drawn.
    #[must_use]
    pub fn new(key: ApiKey, secret: Option<String>, last_used: Option<Timestamp>) -> Self {
        let terms = key.terms;
        Self {
            id: key.id.into(),
            apikey: secret,
            name: terms.name,
            scopes: terms.scopes,
            created: key.created.to_rfc3339(),
            expires: terms.expires.map(Timestamp::to_rfc3339),
            allow_from: Some(terms.allow_from).filter(|networks| !networks.is_all()),
            rate_per_minute: terms.rate_per_minute,
            resources: terms.resources,
            note: terms.note,
            overlap_until: key.previous.map(|previous| previous.until.to_rfc3339()),
            suspended: key.suspended,
            last_used: last_used.map(Timestamp::to_rfc3339),
        }
    }

    /// Returns the members for the operator, with an empty list in place of `null` for all networks.
    #[must_use]
    pub fn for_operator(self) -> Map<String, Value> {
        let mut members = members_of(&self);
        if let Some(networks) = members.get_mut("allow_from").filter(|it| it.is_null()) {
            *networks = Value::Array(Vec::new());
        }
        members
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_from_before_it_had_terms_has_none() {
        let digest = serde_json::to_value(Digest([7; 32])).unwrap();
        let old = serde_json::json!({
            "id": "abcdefgh", "uid": "u-abcdefgh", "name": "", "digest": digest, "scopes": [], "created": 0,
            "expires": null,
        });
        let key: ApiKey = serde_json::from_value(old).unwrap();
        assert_eq!(
            (key.previous, key.terms.rate_per_minute, key.terms.resources),
            (None, None, None)
        );
        assert!(!key.suspended);
        assert!(key.terms.allow_from.is_all());
    }

    #[test]
    fn a_record_keeps_the_order_of_its_members() {
        let digest = serde_json::to_string(&Digest([7; 32])).unwrap();
        let record = format!(
            "{{\"id\":\"abcdefgh\",\"uid\":\"u-abcdefgh\",\"name\":\"n\",\"digest\":{digest},\"scopes\":[\"a\"],\
             \"created\":1,\"expires\":2,\"previous\":{{\"digest\":{digest},\"until\":3}},\"allow_from\":[\"192.0.2.0/24\"],\
             \"rate_per_minute\":7,\"resources\":[{{\"resource\":\"list\",\"id\":\"42\",\"level\":\"member\"}}],\
             \"suspended\":true,\"note\":\"for the backups\"}}"
        );
        let key: ApiKey = serde_json::from_str(&record).unwrap();
        assert_eq!(serde_json::to_string(&key).unwrap(), record);
    }

    #[test]
    fn networks_are_read_as_they_are_meant() {
        let read = |list: &[&str]| {
            let texts = list.iter().map(|text| (*text).to_owned()).collect();
            let found = Networks::check(texts)?;
            let found = found.0.iter().map(ToString::to_string);
            Some(found.collect::<Vec<_>>().join(" "))
        };
        assert_eq!(
            read(&["192.0.2.7/24", "10.0.0.1", "192.0.2.0/24"]).unwrap(),
            "10.0.0.1/32 192.0.2.0/24"
        );
        assert_eq!(
            read(&["2001:db8::/32", "::1"]).unwrap(),
            "::1/128 2001:db8::/32"
        );
        for bad in [
            "",
            "x",
            "192.0.2.0/33",
            "192.0.2",
            "::ffff:192.0.2.1",
            "::ffff:192.0.2.0/120",
            "192.0.2.1:80",
        ] {
            assert!(read(&[bad]).is_none(), "{bad}");
        }
        assert!(read(&[]).is_none() && read(&["10.0.0.1"; 65]).is_none());
    }

    #[test]
    fn rates_and_names_keep_their_bounds() {
        for (rate, fits) in [
            (0, false),
            (1, true),
            (100_000, true),
            (100_001, false),
            (u64::MAX, false),
        ] {
            assert_eq!(Rate::check(rate).is_some(), fits, "{rate}");
        }
        assert!(
            KeyName::check("x".repeat(64)).is_some() && KeyName::check("x".repeat(65)).is_none()
        );
        assert!(KeyName::check("a\nb".to_owned()).is_none());
        assert!(
            KeyNote::check("ü".repeat(200)).is_some() && KeyNote::check("x".repeat(201)).is_none()
        );
        assert!(KeyNote::check("a\nb".to_owned()).is_none());
    }
}
