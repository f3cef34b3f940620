//! What an operator asks at the command line, carried out by the one process that has the store.
//!
//! The same function runs in the server, behind `admin.sock`, and in the command itself where no server runs.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::model::key_file::KeyFile;
use crate::model::secret::Secret;
use crate::operator::explain::{Explain, Explained};
use crate::operator::import::Export;

/// A command. Travels as one line of JSON over `admin.sock`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// About accounts.
    Account(AccountCommand),
    /// About API keys.
    Apikey(ApikeyCommand),
    /// About memberships.
    Member(MemberCommand),
    /// About the key files.
    Keys(KeysCommand),
    /// About the store as a whole.
    Store(StoreCommand),
    /// Verifies a bearer token as a request's would be.
    TokenVerify {
        /// The token.
        #[serde(serialize_with = "exposed_one")]
        token: Secret,
    },
    /// Decides about a request that is not sent.
    Explain(Explain),
    /// Reads the configuration again.
    Reload,
}

/// What a command does to the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// Decides about a credential or a request: without a store as well, where nobody is known.
    Decides,
    /// Reads: makes and changes nothing.
    Reads,
    /// Changes what is there.
    Writes,
    /// Changes what is there, and begins a store where there is none.
    Begins,
}

impl Command {
    /// What it does to the records.
    #[must_use]
    pub const fn touch(&self) -> Touch {
        match self {
            // A reload touches no record, and is nobody's but the running gateway's.
            Self::Explain(_) | Self::TokenVerify { .. } | Self::Reload => Touch::Decides,
            Self::Account(command) => match command {
                AccountCommand::Add { .. } | AccountCommand::Import { .. } => Touch::Begins,
                AccountCommand::List | AccountCommand::Show { .. } => Touch::Reads,
                AccountCommand::Disable { .. }
                | AccountCommand::Enable { .. }
                | AccountCommand::SetPassword { .. } => Touch::Writes,
            },
            Self::Apikey(command) => match command {
                ApikeyCommand::List { .. } => Touch::Reads,
                ApikeyCommand::Create { .. }
                | ApikeyCommand::Confirm { .. }
                | ApikeyCommand::Revoke { .. } => Touch::Writes,
            },
            Self::Member(command) => match command {
                MemberCommand::List { .. } => Touch::Reads,
                MemberCommand::Set { .. } | MemberCommand::Remove { .. } => Touch::Writes,
            },
            Self::Keys(command) => match command {
                KeysCommand::List => Touch::Reads,
                KeysCommand::Rotate | KeysCommand::Renew { .. } => Touch::Writes,
            },
            Self::Store(command) => match command {
                StoreCommand::Copy | StoreCommand::Check => Touch::Reads,
                StoreCommand::Backup { .. } => Touch::Writes,
            },
        }
    }
}

/// A command about accounts.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum AccountCommand {
    /// Makes an account: active with a password, else pending with an invitation by mail.
    Add {
        /// Its name.
        username: String,
        /// Its address.
        identity: String,
        /// What the person is called.
        name: String,
        /// Administrator.
        admin: bool,
        /// The password.
        #[serde(serialize_with = "exposed", default)]
        password: Option<Secret>,
    },
    /// Lists accounts.
    List,
    /// Shows one account: by name, address, uid or record id.
    Show {
        /// Which.
        account: String,
    },
    /// Disables one account: its sessions end.
    Disable {
        /// Which.
        account: String,
    },
    /// Enables an account that was disabled.
    Enable {
        /// Which.
        account: String,
    },
    /// Sets a password: every session ends.
    SetPassword {
        /// Whose.
        account: String,
        /// The password.
        #[serde(serialize_with = "exposed_one")]
        password: Secret,
    },
    /// Imports people from an export.
    Import {
        /// The export.
        export: Export,
        /// Imports the rest although lines are refused.
        skip_refused: bool,
    },
}

/// A command about API keys.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ApikeyCommand {
    /// Makes an API key; the answer has it once.
    Create {
        /// Whose.
        account: String,
        /// What it is called.
        name: String,
        /// What it may be used for.
        scopes: Vec<String>,
        /// When it ends, RFC 3339.
        expires: Option<String>,
        /// Networks or addresses that it may come from; none: all.
        #[serde(default)]
        allow_from: Vec<String>,
        /// Requests in a minute.
        #[serde(default)]
        rate_per_minute: Option<u64>,
        /// The resource roles that it is limited to, such as `list/42/member`; none: all of its owner's.
        #[serde(default)]
        resources: Vec<String>,
    },
    /// Lists the API keys of an account.
    List {
        /// Whose.
        account: String,
    },
    /// Confirms API keys that a restore has suspended.
    Confirm {
        /// Whose.
        account: String,
        /// Which; `None`: all.
        id: Option<String>,
    },
    /// Revokes an API key.
    Revoke {
        /// Whose.
        account: String,
        /// Which: the eight characters of its id.
        id: String,
    },
}

/// A command about memberships.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum MemberCommand {
    /// Sets a membership.
    Set {
        /// Who.
        account: String,
        /// Kind of resource.
        resource: String,
        /// Which one.
        id: String,
        /// At which level.
        level: String,
    },
    /// Ends a membership.
    Remove {
        /// Who.
        account: String,
        /// Kind of resource.
        resource: String,
        /// Which one.
        id: String,
    },
    /// Lists the members of one resource.
    List {
        /// Kind of resource.
        resource: String,
        /// Which one.
        id: String,
    },
}

/// A command about the key files.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum KeysCommand {
    /// Lists the key files, and the keys in those that sign.
    List,
    /// Rotates the signing keys.
    Rotate,
    /// Makes a key file anew that is lost. Not while a gateway runs.
    Renew {
        /// Which.
        file: KeyFile,
        /// Whoever asks knows what that voids.
        yes: bool,
        /// One that is not lost, too.
        force: bool,
    },
}

/// A command about the store as a whole that needs the process that has it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum StoreCommand {
    /// Makes a backup.
    Backup {
        /// A file that is not there yet, or a directory, absolute; `None`: the store's own place.
        to: Option<PathBuf>,
    },
    /// Makes a copy that whoever asks reads and removes; the answer is its name.
    Copy,
    /// Looks at every record.
    Check,
}

/// Goes over the socket of our own user only, to the process that will hash it.
#[expect(clippy::ref_option, reason = "serde gives a reference to the field")]
fn exposed<S: serde::Serializer>(
    secret: &Option<Secret>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(Secret::expose).serialize(serializer)
}

/// As [`exposed`], for a secret that is always there.
pub(crate) fn exposed_one<S: serde::Serializer>(
    secret: &Secret,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose())
}

/// How a command ended. Travels as one line of JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Done; what to show.
    Done(serde_json::Value),
    /// Explained.
    Explained(Explained),
    /// Not done: what is wrong and what would be right.
    Refused(String),
    /// Could not be done: the store or the hashing pool is in trouble.
    Failed(String),
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// The secrets of a command, and all other texts in it.
    fn texts<'a>(value: &'a Value, is_secret: bool, secrets: &mut Vec<&'a str>, rest: &mut String) {
        match value {
            Value::String(text) if is_secret => secrets.push(text),
            Value::Object(members) => {
                for (name, value) in members {
                    let is_secret = matches!(name.as_str(), "password" | "token" | "api_key");
                    texts(value, is_secret, secrets, rest);
                }
            }
            Value::Array(items) => {
                for item in items {
                    texts(item, is_secret, secrets, rest);
                }
            }
            value => rest.push_str(&value.to_string()),
        }
    }

    fn has_fraction(value: &serde_json::Value) -> bool {
        match value {
            serde_json::Value::Number(number) => number.is_f64(),
            serde_json::Value::Array(items) => items.iter().any(has_fraction),
            serde_json::Value::Object(members) => members.values().any(has_fraction),
            _ => false,
        }
    }

    /// What is understood is sent on as it came and shows none of its secrets; so is an answer, on its way back.
    #[test]
    fn fuzz_admin() {
        doorward_fuzz::check("admin", |bytes| {
            let Ok(line) = std::str::from_utf8(bytes) else {
                return;
            };
            if let Ok(command) = serde_json::from_str::<Command>(line) {
                let sent = serde_json::to_value(&command).unwrap();
                let again: Command = serde_json::from_value(sent.clone()).unwrap();
                assert_eq!(serde_json::to_value(&again).unwrap(), sent);
                assert_eq!(again.touch(), command.touch());
                let (mut secrets, mut rest) = (Vec::new(), String::new());
                texts(&sent, false, &mut secrets, &mut rest);
                let shown = format!("{command:?}");
                for secret in secrets {
                    let is_telling = 8 <= secret.len() && !rest.contains(secret);
                    assert!(!is_telling || !shown.contains(secret), "{shown}");
                }
            }
            if let Ok(reply) = serde_json::from_str::<Reply>(line) {
                // Of a number with a fraction the last digits are not kept; no command answers with one.
                if matches!(&reply, Reply::Done(value) if has_fraction(value)) {
                    return;
                }
                let sent = serde_json::to_vec(&reply).unwrap();
                assert!(!sent.contains(&b'\n'), "it travels as one line");
                let again: Reply = serde_json::from_slice(&sent).unwrap();
                assert_eq!(serde_json::to_vec(&again).unwrap(), sent);
            }
        });
    }
}
