//! Floor 2: parses the configuration file and the environment into checked values.
//!
//! One TOML file, whose values environment variables override, is read section by section. Every problem is reported
//! with its place and the expectation, never with the value, and all problems are reported at once. Relative paths
//! start from the directory of the file, or from the state directory that systemd names.

mod account;
mod audit;
mod base;
mod document;
mod env;
mod exposure;
mod forms;
mod forward_auth;
mod headers;
mod issuer_prefixes;
mod issuer_source;
mod issuers;
mod keys;
mod limits;
mod listen;
mod log;
mod mail;
mod pass_headers;
mod pattern;
mod problem;
mod reader;
mod requirement;
mod role_sources;
mod roles;
mod routes;
mod secrets;
mod session;
mod settings;
mod smtp;
mod store;
mod tokens;
mod upstreams;

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

pub use crate::config::account::{AccountSettings, Registration};
pub use crate::config::audit::AuditSettings;
pub use crate::config::env::EnvOverlay;
pub use crate::config::forward_auth::ForwardAuth;
pub use crate::config::issuer_source::{Introspection, IssuerClient, KeySource, Remote};
pub use crate::config::issuers::{ClaimValue, Issuer, media_type};
pub use crate::config::limits::Limits;
pub use crate::config::listen::{Listen, PublicUrl};
pub use crate::config::log::LogSettings;
pub use crate::config::mail::{MailLimits, MailSettings, MailTransport};
pub use crate::config::problem::{ConfigError, ConfigProblem};
pub use crate::config::roles::RoleSettings;
pub use crate::config::routes::JWKS_PATH;
pub use crate::config::secrets::SharedSecret;
pub use crate::config::session::SessionSettings;
pub use crate::config::smtp::{SmtpLogin, SmtpSettings, SmtpTls};
pub use crate::config::store::{StoreCreate, StoreEngine, StoreSettings};
pub use crate::config::tokens::Tokens;

use crate::config::base::Base;
use crate::config::document::Value;
use crate::config::forms::table;
use crate::config::keys::{KeyRow, Section, ValueKind, keys};
use crate::config::problem::{ConfigProblems, ValueOrigin, ValuePlace, unreadable};
use crate::config::reader::SectionReader;
use crate::config::secrets::SecretSources;
use crate::model::access::{Requirement, Scope};
use crate::model::role_source::RoleSource;
use crate::model::route::{Route, Upstream};

keys! { RootKeys = ""; {
    listen: Value = table(&listen::ListenKeys::SECTION);
    limits: Value = table(&limits::LimitKeys::SECTION);
    store: Value = table(&store::StoreKeys::SECTION), restart store;
    tokens: Value = table(&tokens::TokenKeys::SECTION);
    /// A foreign issuer whose tokens are accepted; one table for each. docs/issuers.md describes how to connect some, and
    /// what happens while one is unreachable.
    issuer: Value = table(&issuers::IssuerKeys::SECTION);
    /// Browsers carry one opaque cookie: __Host-doorward over https, doorward_session over http.
    session: Value = table(&session::SessionKeys::SECTION);
    account: Value = table(&account::AccountKeys::SECTION);
    mail: Value = table(&mail::MailKeys::SECTION);
    /// Other proxies that ask at /auth/verify whether a request may pass (docs/forward-auth.md). Only proxies in
    /// listen.trusted_proxies may ask.
    forward_auth: Value = table(&forward_auth::ForwardAuthKeys::SECTION);
    log: Value = table(&log::LogKeys::SECTION), restart log;
    audit: Value = table(&audit::AuditKeys::SECTION);
    roles: Value = table(&roles::RolesKeys::SECTION);
    /// A service that owns the memberships of its resources and is asked for them; one table for each. docs/role-sources.md
    /// describes what it must answer.
    role_source: Value = table(&role_sources::RoleSourceKeys::SECTION);
    /// A service behind the gateway; one table for each.
    upstream: Value = table(&upstreams::UpstreamKeys::SECTION);
    /// Requests that are let in; one table for each route. A request that no route matches is answered with 404 and reaches
    /// no upstream.
    route: Value = table(&routes::RouteKeys::SECTION);
}}

/// Maximum length of a file, so that a wrong path does not exhaust the memory.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// A checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `[listen]`
    pub listen: Listen,
    /// `[limits]`
    pub limits: Limits,
    /// `[store]`
    pub store: StoreSettings,
    /// `[tokens]`
    pub tokens: Tokens,
    /// `[[issuer]]`
    pub issuers: Vec<Issuer>,
    /// `[session]`
    pub session: SessionSettings,
    /// `[account]`
    pub account: AccountSettings,
    /// `[mail]`
    pub mail: MailSettings,
    /// `[log]`
    pub log: LogSettings,
    /// `[audit]`
    pub audit: AuditSettings,
    /// `[forward_auth]`
    pub forward_auth: ForwardAuth,
    /// `[roles]`
    pub roles: RoleSettings,
    /// `[[role_source]]`
    pub role_sources: Vec<RoleSource>,
    /// `[[upstream]]`
    pub upstreams: Vec<Upstream>,
    /// `[[route]]`, in file order.
    pub routes: Vec<Route>,
}

impl Config {
    /// Reads a file and applies the environment to it. Returns the configuration, and warnings about settings that work
    /// but should be reviewed.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem, such as a file that cannot be read or that others may write.
    pub fn load(path: &Path, env: &EnvOverlay) -> Result<(Self, Vec<ConfigProblem>), ConfigError> {
        let problems = ConfigProblems::default();
        // Reports name the path that was tried.
        let path = whole(path);
        let path = path.as_path();
        let place = ValuePlace::new(path.display().to_string(), ValueOrigin::Default);
        let (text, mode) = match read_file(path) {
            Ok(read) => read,
            Err(error) => {
                let hint = "; name the configuration with --config FILE. It may be empty if the environment sets every key";
                let expected = unreadable("a file that can be read as text", &error, hint);
                problems.add(&place, expected);
                return Err(problems.into_error());
            }
        };
        if mode & 0o022 != 0 {
            problems.add(
                &place,
                format!(
                    "a file that only its owner can write: chmod go-w {}",
                    path.display()
                ),
            );
        }
        let base = Base::of(path, env.state_directory.as_deref());
        build(&text, Some(mode), (env, &base), problems)
    }

    /// Reads a text as [`Config::load`] reads a file, but leaves relative paths unchanged.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem.
    pub fn parse(text: &str, env: &EnvOverlay) -> Result<(Self, Vec<ConfigProblem>), ConfigError> {
        build(
            text,
            None,
            (env, &Base::default()),
            ConfigProblems::default(),
        )
    }
}

impl Config {
    /// Replaces the values that are derived from `listen.address` and `listen.auth_prefix` by those of another
    /// configuration. A reload keeps both keys, and so it keeps links, the login page and the issuer.
    fn follow(&mut self, kept: &Listen) {
        let listen = &mut self.listen;
        self.mail.move_links(&listen.auth_prefix, &kept.auth_prefix);
        if listen.public_url != PublicUrl::of(&listen.addresses) {
            return;
        }
        let followed = PublicUrl::of(&kept.addresses);
        if self.tokens.issuer == listen.public_url.text {
            self.tokens.issuer.clone_from(&followed.text);
        }
        listen.public_url = followed;
    }

    /// Restores the old values of settings that need a restart; returns the keys of those that had changed.
    pub fn keep_fixed(&mut self, old: &Self) -> Vec<String> {
        self.follow(&old.listen);
        let mut changed = Vec::new();
        for (name, key) in declared(&RootKeys::SECTION) {
            if key.keep.is_some_and(|keep| keep(self, old)) {
                changed.push(name);
            }
        }
        changed
    }
}

/// Returns every key and table of a configuration with its full name, such as `route[].require.any_role`. The keys of a
/// table follow it.
fn declared(section: &'static Section) -> Vec<(String, &'static KeyRow)> {
    let mut list = Vec::new();
    for key in section.keys() {
        list.push((keys::join(section.name, key.name), key));
        list.extend(key.shape.inner().into_iter().flat_map(declared));
    }
    list
}

/// Returns the comment above each key and table in `config/doorward.toml`, line by line and without `#`.
pub fn meanings() -> impl Iterator<Item = (String, &'static [&'static str])> {
    declared(&RootKeys::SECTION)
        .into_iter()
        .map(|(name, key)| (name, key.doc))
}

/// Returns every key of a configuration, such as `listen.address` and `route[].require.any_role`, without the tables
/// themselves.
pub fn known_keys() -> impl Iterator<Item = String> {
    declared(&RootKeys::SECTION)
        .into_iter()
        .filter(|(_, key)| key.shape.kind() != ValueKind::Tables)
        .map(|(name, _)| name)
}

/// Returns a path with the canonical form of its directory. A link to the file itself is not followed.
fn whole(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let dir = path.parent().and_then(|dir| dir.canonicalize().ok());
    match dir.zip(path.file_name()) {
        Some((dir, name)) => dir.join(name),
        None => path,
    }
}

/// Reads the text and the mode of a file, both from the same descriptor.
fn read_file(path: &Path) -> std::io::Result<(String, u32)> {
    let file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode();
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 <= FILE_BYTES_MAX {
        Ok((text, mode))
    } else {
        Err(std::io::ErrorKind::FileTooLarge.into())
    }
}

fn build(
    text: &str,
    file_mode: Option<u32>,
    (env, base): (&EnvOverlay, &Base),
    problems: ConfigProblems,
) -> Result<(Config, Vec<ConfigProblem>), ConfigError> {
    let before = problems.count();
    let mut document = document::parse(text, &problems);
    if before < problems.count() {
        // A value that could not be parsed would be reported as missing.
        return Err(problems.into_error());
    }
    env.apply(&mut document, &RootKeys::SECTION, &problems);
    let config = sections(
        SectionReader::root(document, &RootKeys::SECTION, &problems, base),
        SecretSources { env, file_mode },
    );
    exposure::warn(&config, &problems);
    problems.finish(config)
}

fn sections(mut root: SectionReader<'_>, secrets: SecretSources<'_>) -> Config {
    let (role_sources, sourced) = role_sources::read(root.tables(&RootKeys::role_source));
    let words = root.section(&RootKeys::roles, |roles| roles::read(roles, sourced));
    let listen = root.section(&RootKeys::listen, |listen| listen::read(listen, secrets));
    let account = root.section(&RootKeys::account, AccountSettings::read);
    let tokens = root.section(&RootKeys::tokens, |tokens| {
        tokens::read(tokens, &listen.public_url.text)
    });
    let issuers = issuers::read(
        root.tables(&RootKeys::issuer),
        &tokens.issuer,
        &account.api_key_header,
        secrets,
    );
    let upstreams = upstreams::read(root.tables(&RootKeys::upstream), &listen);
    let context = routes::RouteContext {
        words: &words,
        upstreams: &upstreams.names,
        auth_prefix: &listen.auth_prefix,
        api_key_header: &account.api_key_header,
        token_headers: issuers
            .iter()
            .filter_map(|issuer| issuer.header.as_ref())
            .collect(),
    };
    let routes = routes::read(root.tables(&RootKeys::route), &context);
    let mut roles = words.settings;
    roles
        .scopes
        .extend(routes.iter().flat_map(scopes_of).cloned());
    roles.scopes.sort_unstable();
    roles.scopes.dedup();
    let config = Config {
        limits: root.section(&RootKeys::limits, limits::read),
        store: root.section(&RootKeys::store, store::read),
        mail: root.section(&RootKeys::mail, |mail| {
            mail::read(mail, &listen.auth_prefix, secrets)
        }),
        log: root.section(&RootKeys::log, LogSettings::read),
        audit: root.section(&RootKeys::audit, AuditSettings::read),
        forward_auth: root.section(&RootKeys::forward_auth, |table| {
            forward_auth::read(table, &listen, secrets)
        }),
        session: root.section(&RootKeys::session, |session| {
            session::read(session, &listen.public_url)
        }),
        upstreams: upstreams.list,
        listen,
        tokens,
        issuers,
        account,
        roles,
        role_sources,
        routes,
    };
    root.finish();
    config
}

/// Returns the scopes that a route requires, which declares them.
fn scopes_of(route: &Route) -> &[Scope] {
    match &route.require {
        Requirement::Rights { all_scopes, .. } => all_scopes,
        Requirement::Public | Requirement::Optional | Requirement::Authenticated => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value of each secret in the inputs of [`fuzz_config`].
    const MARK: &str = "Hunter2-Hunter2-Hunter2-Hunter2-Hunter2";
    /// The keys that hold a secret.
    const SECRETS: &[&str] = &["admin_token", "client_secret", "secret", "smtp_password"];

    /// Whether the mark occurs only in values of secret keys, which are the ones that must not be shown.
    fn is_secret_alone(table: &toml::Table) -> bool {
        table.iter().all(|(key, value)| {
            let is_value_fit = match value {
                toml::Value::String(_) if SECRETS.contains(&key.as_str()) => true,
                value => is_value_without_mark(value),
            };
            !key.contains(MARK) && is_value_fit
        })
    }

    fn is_value_without_mark(value: &toml::Value) -> bool {
        match value {
            toml::Value::Table(table) => is_secret_alone(table),
            toml::Value::Array(items) => items.iter().all(is_value_without_mark),
            toml::Value::String(text) => !text.contains(MARK),
            _ => true,
        }
    }

    /// Any text parses to a configuration or to problems on existing lines; neither shows a secret. Parsing is
    /// repeatable.
    #[test]
    fn fuzz_config() {
        doorward_fuzz::check("config", |bytes| {
            let Ok(text) = std::str::from_utf8(bytes) else {
                return;
            };
            let env = EnvOverlay::default();
            let read = Config::parse(text, &env);
            assert_eq!(read, Config::parse(text, &env));
            let (Ok((_, problems)) | Err(ConfigError { problems })) = &read;
            let lines = text.split('\n').count();
            for problem in problems {
                assert!(problem.line.is_none_or(|line| (1..=lines).contains(&line)));
                let shown = problem.to_string();
                assert!(!shown.contains(char::is_control), "{shown:?}");
            }
            let document = text.parse::<toml::Table>();
            if document.as_ref().is_ok_and(|table| !is_secret_alone(table)) {
                return;
            }
            let shown = match &read {
                Ok((config, problems)) => format!("{config:?} {problems:?}"),
                Err(error) => format!("{error} {error:?}"),
            };
            assert!(!shown.contains(MARK), "{shown}");
        });
    }
}
