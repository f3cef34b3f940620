//! Every key there is: what unknown keys are told by, and what the shown configuration must show.

/// What a key takes, as far as an environment variable needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A text: a variable is taken as it stands.
    Text,
    /// A whole number, or `true` or `false`.
    Scalar,
    /// A list of texts; a variable may hold one item as it stands.
    Texts,
    /// `true`, `false` or a list of texts; a variable may hold one item as it stands.
    FlagOrTexts,
    /// A text or a table: a variable is a table if it reads so.
    TextOrTable,
    /// A table, or a list of tables: a variable holds inline TOML.
    Tables,
}

use Kind::{FlagOrTexts, Scalar, Tables, Text, TextOrTable, Texts};

/// A section and its keys; `[]` marks a list of tables.
type Section = (&'static str, &'static [(&'static str, Kind)]);

const SECTIONS: &[Section] = &[
    (
        "",
        &[
            ("listen", Tables),
            ("limits", Tables),
            ("store", Tables),
            ("tokens", Tables),
            ("issuer", Tables),
            ("session", Tables),
            ("account", Tables),
            ("mail", Tables),
            ("log", Tables),
            ("audit", Tables),
            ("forward_auth", Tables),
            ("roles", Tables),
            ("role_source", Tables),
            ("upstream", Tables),
            ("route", Tables),
        ],
    ),
    (
        "listen",
        &[
            ("address", Texts),
            ("admin_address", Text),
            ("admin_token", Text),
            ("admin_token_file", Text),
            ("public_url", Text),
            ("trusted_proxies", Texts),
            ("trusted_headers", Texts),
            ("connections_per_client_max", Scalar),
            ("auth_hosts", Texts),
            ("auth_prefix", Text),
            ("workers", Scalar),
        ],
    ),
    (
        "limits",
        &[
            ("head_bytes_max", Scalar),
            ("head_fields_max", Scalar),
            ("target_bytes_max", Scalar),
            ("identity_header_bytes_max", Scalar),
            ("head_timeout_ms", Scalar),
            ("body_bytes_max", Scalar),
            ("keepalive_timeout_ms", Scalar),
            ("connections_max", Scalar),
            ("requests_max", Scalar),
            ("upstream_connect_timeout_ms", Scalar),
            ("upstream_read_timeout_ms", Scalar),
            ("upstream_write_timeout_ms", Scalar),
            ("upstream_idle_max", Scalar),
            ("drain_timeout_ms", Scalar),
            ("drain_stream_timeout_ms", Scalar),
            ("memory_max_mb", Scalar),
        ],
    ),
    (
        "store",
        &[
            ("engine", Text),
            ("path", Text),
            ("cache_entries", Scalar),
            ("backup_every_s", Scalar),
            ("backup_keep", Scalar),
        ],
    ),
    (
        "tokens",
        &[
            ("issuer", Text),
            ("audience", Text),
            ("algorithm", Text),
            ("access_ttl_s", Scalar),
            ("refresh_ttl_s", Scalar),
            ("absolute_ttl_s", Scalar),
        ],
    ),
    (
        "issuer[]",
        &[
            ("name", Text),
            ("issuer", Text),
            ("audience", Texts),
            ("jwks_url", Text),
            ("discovery", Scalar),
            ("jwks_hosts", Texts),
            ("stale_max_s", Scalar),
            ("ca_file", Text),
            ("jwks_file", Text),
            ("secret_jwk_file", Text),
            ("introspection_url", Text),
            ("introspection_ttl_s", Scalar),
            ("client_id", Text),
            ("client_secret", Text),
            ("client_secret_file", Text),
            ("algorithms", Texts),
            ("leeway_s", Scalar),
            ("subject_claim", Text),
            ("subject_prefix", Text),
            ("username_claim", Text),
            ("username_prefix", Text),
            ("audience_claims", Texts),
            ("required_claims", TextOrTable),
            ("typ", Texts),
            ("roles_claim", Text),
            ("roles_prefix", Text),
            ("roles_allow", Texts),
            ("scopes_claim", Text),
            ("header", Text),
        ],
    ),
    (
        "session",
        &[
            ("idle_ttl_s", Scalar),
            ("admin_idle_ttl_s", Scalar),
            ("cookie_domain", Text),
            ("return_to", Texts),
            ("login_redirect", Scalar),
            ("origins", Texts),
            ("auth_origins", Texts),
        ],
    ),
    (
        "account",
        &[
            ("registration", Text),
            ("lockout_attempts", Scalar),
            ("lockout_s", Scalar),
            ("password_length_min", Scalar),
            ("password_classes_min", Scalar),
            ("confirm_ttl_s", Scalar),
            ("reveal_existing", Scalar),
            ("reset_administrators", Scalar),
            ("reset_ttl_s", Scalar),
            ("notify_logins", Scalar),
            ("hash_threads", Scalar),
            ("api_key_header", Text),
        ],
    ),
    (
        "mail",
        &[
            ("transport", Text),
            ("directory", Text),
            ("from", Text),
            ("confirm_link", Text),
            ("reset_link", Text),
            ("per_address_per_hour", Scalar),
            ("per_network_per_hour", Scalar),
            ("per_hour", Scalar),
            ("templates", Text),
            ("smtp_host", Text),
            ("smtp_port", Scalar),
            ("smtp_tls", Text),
            ("smtp_username", Text),
            ("smtp_password", Text),
            ("smtp_password_file", Text),
            ("smtp_timeout_s", Scalar),
            ("ca_file", Text),
            ("sendmail_command", Text),
        ],
    ),
    ("log", &[("level", Text), ("access", Scalar)]),
    ("audit", &[("required", Scalar)]),
    (
        "forward_auth",
        &[
            ("secret", Text),
            ("secret_file", Text),
            ("grpc_address", Text),
            ("login_url", Text),
        ],
    ),
    (
        "roles",
        &[
            ("levels", Texts),
            ("resources", Texts),
            ("scopes", Texts),
            ("manage_level", Text),
        ],
    ),
    (
        "role_source[]",
        &[
            ("resources", Texts),
            ("url", Text),
            ("ttl_s", Scalar),
            ("stale_max_s", Scalar),
        ],
    ),
    (
        "upstream[]",
        &[
            ("name", Text),
            ("addresses", Texts),
            ("resources", Texts),
            ("public_path", Text),
            ("case_sensitive", Scalar),
            ("keepalive_timeout_ms", Scalar),
        ],
    ),
    (
        "route[]",
        &[
            ("path", Text),
            ("methods", Texts),
            ("hosts", Texts),
            ("upstream", Text),
            ("require", TextOrTable),
            ("identity_headers", Tables),
            ("all_roles", Scalar),
            ("accept", Texts),
            ("pass_credentials", FlagOrTexts),
            ("pass_headers", Texts),
            ("assertion", Scalar),
            ("cors_preflight", Scalar),
        ],
    ),
    (
        "route[].require",
        &[("any_role", Texts), ("all_scopes", Texts)],
    ),
    (
        "route[].identity_headers",
        &[
            ("uid", Text),
            ("username", Text),
            ("roles", Text),
            ("scopes", Text),
            ("method", Text),
            ("key_id", Text),
            ("assertion", Text),
        ],
    ),
];

/// Keys with a meaning that this release does not have yet: nobody should look for a slip of the pen there.
const LATER: &[(&str, &[&str])] = &[("listen", &["tls"]), ("store", &["url"])];

/// What is said of a key or value that the contract has and this release has not.
pub(super) const NOT_IN_RELEASE: &str = "to find it left out: it is not in this release";

fn keys_of(section: &str) -> Option<&'static [(&'static str, Kind)]> {
    let found = SECTIONS.iter().find(|(name, _)| *name == section)?;
    Some(found.1)
}

/// Whether tables of this name are read.
pub(super) fn is_section(section: &str) -> bool {
    keys_of(section).is_some()
}

/// What a key of a section takes; `None`: there is no such key.
pub(super) fn kind(section: &str, key: &str) -> Option<Kind> {
    let found = keys_of(section)?.iter().find(|(name, _)| *name == key)?;
    Some(found.1)
}

/// Joins a section and a key to the name an operator knows: `listen.address`.
pub(super) fn join(section: &str, key: &str) -> String {
    if section.is_empty() {
        key.to_owned()
    } else {
        format!("{section}.{key}")
    }
}

/// What is said of an unknown key: whether it comes later, or which one was meant.
pub(super) fn unknown(section: &str, key: &str) -> String {
    let is_later = LATER
        .iter()
        .any(|(name, keys)| *name == section && keys.contains(&key));
    if is_later {
        return NOT_IN_RELEASE.to_owned();
    }
    let nearest = keys_of(section)
        .into_iter()
        .flatten()
        .map(|(name, _)| (strsim::damerau_levenshtein(name, key), *name))
        .min();
    if let Some((distance, name)) = nearest
        && distance <= 1 + name.len() / 4
    {
        return format!("a known key; did you mean `{name}`?");
    }
    match SECTIONS
        .iter()
        .find(|(_, keys)| keys.iter().any(|(name, _)| *name == key))
    {
        Some((other, _)) => format!("a known key; did you mean `{}`?", join(other, key)),
        None => "a known key".to_owned(),
    }
}

/// Every key of a configuration, such as `listen.address` and `route[].require.any_role`; tables themselves are not
/// among them.
pub fn known_keys() -> impl Iterator<Item = String> {
    SECTIONS.iter().flat_map(|(section, keys)| {
        keys.iter()
            .filter(|(_, kind)| *kind != Kind::Tables)
            .map(|(key, _)| join(section, key))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_told_from_keys_that_come_later_and_from_misplaced_ones() {
        let cases = [
            ("listen", "adress", "a known key; did you mean `address`?"),
            ("listen", "tls", NOT_IN_RELEASE),
            ("", "routes", "a known key; did you mean `route`?"),
            (
                "limits",
                "trusted_proxies",
                "a known key; did you mean `listen.trusted_proxies`?",
            ),
            ("listen", "colour", "a known key"),
        ];
        for (section, key, said) in cases {
            assert_eq!(unknown(section, key), said, "{section} {key}");
        }
    }

    #[test]
    fn no_key_is_both_here_and_later() {
        for (section, keys) in LATER {
            for key in *keys {
                assert_eq!(kind(section, key), None, "{section} {key}");
            }
        }
    }
}
