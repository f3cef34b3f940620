//! Converts a line into a record. Each line is checked by itself and against the configuration, not against other
//! lines.

use std::sync::Arc;

use crate::account::Accounts;
use crate::account::import::lines::{self, AccountLine, KeyLine, MemberLine, PersonLine};
use crate::config::RoleSettings;
use crate::crypto::password::{UnfitHash, check_foreign};
use crate::crypto::token::TokenKeys;
use crate::model::access::{Membership, Name, ResourceId};
use crate::model::account::{
    Account, AccountStatus, EmailAddress, PasswordHash, PersonName, Username,
};
use crate::model::api_key::{ApiKey, KeyName, KeyTerms};
use crate::model::clock::Timestamp;
use crate::model::field::CheckedField;
use crate::model::id::{AccountId, KeyId, SettingsId, UserId};

/// The settings, keys and time that lines are checked against.
#[derive(Debug)]
pub(super) struct Rules {
    roles: RoleSettings,
    token_keys: Arc<TokenKeys>,
    now: Timestamp,
}

impl Rules {
    /// Returns the rules of the configuration in force now.
    pub(super) fn of(accounts: &Accounts) -> Self {
        Self {
            roles: accounts.config.roles.clone(),
            token_keys: Arc::clone(&accounts.services.token_keys),
            now: accounts.services.clock.now(),
        }
    }
}

const ID: &str = "id must be 8 to 60 of A-Z a-z 0-9 - _";
const IDENTITY: &str = "identity must be a deliverable e-mail address in ASCII, at most 254 bytes";

/// The line that a reason is about.
pub(super) enum Field {
    Person,
    Account,
}

/// Builds an account from two lines.
pub(super) fn account(
    person: &PersonLine,
    line: &AccountLine,
    rules: &Rules,
) -> Result<Account, (Field, String)> {
    let of_person = |reason: &str| (Field::Person, reason.to_owned());
    let of_account = |reason: &str| (Field::Account, reason.to_owned());
    let uid = uid(&person.id).ok_or_else(|| of_person(ID))?;
    let identity = EmailAddress::reachable(&person.identity).map_err(|_| of_person(IDENTITY))?;
    let name = PersonName::check(person.name.clone())
        .ok_or_else(|| of_person(&format!("name must be {}", PersonName::RULE.expected)))?;
    let account_id = AccountId::parse(&format!("{}{}", AccountId::PREFIX, line.id));
    let account_id = account_id.map_err(|_| of_account(ID))?;
    let settings_id = SettingsId::parse(&format!("{}{}", SettingsId::PREFIX, line.id));
    let settings_id = settings_id.map_err(|_| of_account(ID))?;
    let username = Username::parse(&line.name)
        .map_err(|_| of_account(&format!("name must be {}", Username::RULE.expected)))?;
    let password = PasswordHash::new(line.password.expose().to_owned());
    check_foreign(&password).map_err(|unfit| {
        of_account(match unfit {
            UnfitHash::TooManyRounds => "password has more than 1,000,000 rounds",
            UnfitHash::TooCostly => "password is a hash with a higher cost than the gateway's own",
            UnfitHash::Unknown => {
                "password must be a hash of the kind $5$ (SHA-256-crypt) or $argon2"
            }
        })
    })?;
    if line
        .totp_secret
        .as_ref()
        .is_some_and(|secret| !secret.expose().is_empty())
    {
        let reason =
            "a second factor cannot be imported; without totp_secret the account comes without it";
        return Err(of_account(reason));
    }
    let is_active = |status: &Option<String>| lines::is_active(status.as_deref());
    let created = match &line.created {
        None => rules.now,
        Some(text) => lines::time(text).ok_or_else(|| of_account("created must be a time"))?,
    };
    Ok(Account {
        uid,
        account_id,
        username,
        identity,
        name,
        status: if is_active(&person.status) && is_active(&line.status) {
            AccountStatus::Active
        } else {
            AccountStatus::Disabled
        },
        is_admin: line.is_admin.unwrap_or(false),
        roles: Vec::new(),
        settings_id,
        password_must_change: line.password_must_change.unwrap_or(false),
        password: Some(password),
        generation: 0,
        level_changes: 0,
        created,
    })
}

/// Prefixes the id assigned by apicrud with `u-`, so that the services find their own ids after the prefix.
fn uid(id: &str) -> Option<UserId> {
    UserId::parse(&format!("{}{id}", UserId::PREFIX)).ok()
}

/// Builds an API key from a line.
pub(super) fn key(owner: &Account, line: &KeyLine, rules: &Rules) -> Result<ApiKey, &'static str> {
    if !lines::is_active(line.status.as_deref()) {
        return Err("the key is not active");
    }
    let id = KeyId::parse(&line.prefix).map_err(|_| "prefix must be 8 of A-Z a-z 0-9 - _")?;
    let inner = line
        .hash()
        .ok_or("hashvalue must be a SHA-256 value in base 64")?;
    let name = KeyName::check(line.name.clone().unwrap_or_default())
        .ok_or("name must be at most 64 characters, none of them a control character")?;
    let time = |text: &String| lines::time(text);
    let expires = match &line.expires {
        None => None,
        Some(text) => Some(time(text).ok_or("expires must be a time")?),
    };
    if expires.is_some_and(|expires| expires <= rules.now) {
        return Err("the key has expired");
    }
    let created = line.created.as_ref().map_or(Some(rules.now), time);
    let mut scopes = Vec::new();
    for text in &line.scopes {
        let declared = rules
            .roles
            .scopes
            .iter()
            .find(|scope| scope.as_str() == text);
        let scope = declared.ok_or("the scope is not declared")?;
        if scope.is_own() && !owner.is_admin {
            return Err("only keys of administrators may have this scope");
        }
        scopes.push(scope.clone());
    }
    scopes.sort();
    scopes.dedup();
    Ok(ApiKey {
        id,
        uid: owner.uid.clone(),
        terms: KeyTerms {
            name,
            scopes,
            expires,
            ..KeyTerms::default()
        },
        digest: rules.token_keys.imported_key_digest(&inner),
        created: created.ok_or("created must be a time")?,
        previous: None,
        suspended: false,
    })
}

/// Builds a membership from a line.
pub(super) fn membership(line: &MemberLine, rules: &Rules) -> Result<Membership, String> {
    let settings = &rules.roles;
    let resource = Name::parse(&line.resource).ok();
    let resource = resource.filter(|resource| settings.is_stored(resource));
    let resource = resource.ok_or("the resource is not declared in [roles] resources")?;
    let level = Name::parse(&line.level).ok();
    let level = level.filter(|level| settings.ladder.rank(level.as_str()).is_some());
    let level = level.ok_or("the level in authorization is not declared in [roles] levels")?;
    let id = ResourceId::parse(&line.id)
        .map_err(|_| format!("{resource}_id must be 1 to 128 of A-Z a-z 0-9 . _ ~ : -"))?;
    Ok(Membership {
        resource,
        id,
        level,
    })
}
