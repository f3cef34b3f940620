//! The commands of the operator and their replies, in the form that the command line parses and that is sent to the
//! running gateway.
//!
//! The process that has the store open carries out a command: the gateway behind `admin.sock`, or the command itself if
//! no gateway runs. A field that only the command line sets is not sent. `cli` sets the fields that have no
//! command-line argument, such as a password.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use crate::auth::trace::TraceStep;
use crate::model::id::AccountId;
use crate::model::key_file::KeyFile;
use crate::model::secret::Secret;

/// A command, sent as one line of JSON over `admin.sock`.
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
        #[serde(serialize_with = "exposed")]
        token: Secret,
    },
    /// Decides about a request that is not sent.
    Explain(Explain),
    /// Reads the configuration again.
    Reload,
}

/// The effect of a command on the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// Decides about a credential or a request; works without a store too, but then without accounts.
    Decides,
    /// Reads records; creates and changes nothing.
    Reads,
    /// Changes an existing store.
    Writes,
    /// Changes a store, and creates it if it is missing.
    Begins,
}

impl Command {
    /// Returns the effect of the command on the records.
    #[must_use]
    pub const fn touch(&self) -> Touch {
        use {AccountCommand as Account, ApikeyCommand as Apikey, MemberCommand as Member};
        match self {
            // A reload affects no records, and only the running gateway carries it out.
            Self::Explain(_) | Self::TokenVerify { .. } | Self::Reload => Touch::Decides,
            Self::Account(Account::List | Account::ListPage { .. } | Account::Show { .. })
            | Self::Apikey(Apikey::List { .. })
            | Self::Member(Member::List { .. })
            | Self::Keys(KeysCommand::List)
            | Self::Store(StoreCommand::Copy | StoreCommand::Check) => Touch::Reads,
            Self::Account(
                Account::Disable { .. } | Account::Enable { .. } | Account::SetPassword { .. },
            )
            | Self::Apikey(
                Apikey::Create { .. } | Apikey::Confirm { .. } | Apikey::Revoke { .. },
            )
            | Self::Member(Member::Set { .. } | Member::Remove { .. })
            | Self::Keys(KeysCommand::Rotate | KeysCommand::Renew { .. })
            | Self::Store(StoreCommand::Backup { .. }) => Touch::Writes,
            Self::Account(Account::Add { .. } | Account::Import { .. }) => Touch::Begins,
        }
    }
}

/// A command about accounts.
#[derive(Debug, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum AccountCommand {
    /// Creates an account: active with a password, otherwise pending with an invitation by mail.
    #[command(
        after_help = "Examples:\n  doorward account add anna --identity anna@example.org --name Anna --admin \\\n    --password-stdin < password\n  doorward account add ben --identity ben@example.org --name Ben"
    )]
    Add {
        /// User name: 2 to 64 of a-z, 0-9, dot, underscore, dash.
        username: String,
        /// E-mail address.
        #[arg(long, value_name = "ADDRESS")]
        identity: String,
        /// Name of the person.
        #[arg(long)]
        name: String,
        /// Makes the account an administrator.
        #[arg(long)]
        admin: bool,
        /// Reads the password from standard input.
        #[arg(long)]
        #[serde(skip)]
        password_stdin: bool,
        /// The password, if one was read.
        #[arg(skip)]
        #[serde(serialize_with = "exposed", default)]
        password: Option<Secret>,
    },
    /// Lists all accounts.
    #[command(after_help = "Examples:\n  doorward account list")]
    List,
    /// Lists some accounts; the reply is an [`AccountPage`].
    #[command(skip)]
    ListPage {
        /// The account after which the page begins.
        after: Option<AccountId>,
    },
    /// Shows one account.
    #[command(after_help = "Examples:\n  doorward account show anna@example.org")]
    Show {
        /// Its name, address, uid or record id.
        account: String,
    },
    /// Disables one account: its sessions end at once.
    #[command(after_help = "Examples:\n  doorward account disable anna")]
    Disable {
        /// Its name, address, uid or record id.
        account: String,
    },
    /// Enables an account that was disabled.
    #[command(after_help = "Examples:\n  doorward account enable anna")]
    Enable {
        /// Its name, address, uid or record id.
        account: String,
    },
    /// Imports apicrud's people, accounts, API keys and memberships from a JSON-lines export, all of it or nothing.
    #[command(
        after_help = "Examples:\n  doorward account import people.jsonl\n  doorward account import people.jsonl --skip-refused 2> refused\n\nThe first thousand refused lines are shown with their reasons. docs/import.md\nshows the format and how to make an export."
    )]
    Import {
        /// The export, of any size.
        #[serde(skip)]
        file: PathBuf,
        /// The export as it was opened.
        #[arg(skip)]
        export: Option<Export>,
        /// Imports the other lines if some are refused.
        #[arg(long)]
        skip_refused: bool,
    },
    /// Sets a password, read from standard input: every session ends.
    #[command(after_help = "Examples:\n  doorward account set-password anna < password")]
    SetPassword {
        /// Its name, address, uid or record id.
        account: String,
        /// Reads the password from standard input; it is read from there in any case.
        #[arg(long)]
        #[serde(skip)]
        password_stdin: bool,
        /// The password.
        #[arg(skip = Secret::new(String::new()))]
        #[serde(serialize_with = "exposed")]
        password: Secret,
    },
}

/// A page of the list of accounts.
#[derive(Debug, Serialize, Deserialize)]
pub struct AccountPage {
    /// The accounts, to be shown.
    pub accounts: Vec<Value>,
    /// The account after which the next page begins; `None` on the last page.
    pub next: Option<AccountId>,
}

/// A command about API keys.
#[derive(Debug, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ApikeyCommand {
    /// Creates an API key and shows it once.
    #[command(
        after_help = "Examples:\n  doorward apikey create anna --name backup --scope reports:read \\\n    --expires 2030-01-01T00:00:00Z\n  doorward apikey create anna --resource list/42/member \\\n    --allow-from 192.0.2.0/24 --rate-per-minute 60"
    )]
    Create {
        /// Account that owns the key: name, address, uid or record id.
        account: String,
        /// Name of the key.
        #[arg(long, default_value = "")]
        name: String,
        /// Scope of the key; repeatable.
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<String>,
        /// Time of its expiry (RFC 3339); default: never.
        #[arg(long, value_name = "TIME")]
        expires: Option<String>,
        /// Network or address from which it is accepted; repeatable; default: all.
        #[arg(long, value_name = "CIDR")]
        allow_from: Vec<String>,
        /// Requests per minute; default: no limit of its own.
        #[arg(long, value_name = "COUNT")]
        rate_per_minute: Option<u64>,
        /// Resource role that it is limited to, such as list/42/member; repeatable; default: all roles of its owner.
        #[arg(long = "resource", value_name = "ROLE")]
        resources: Vec<String>,
        /// Note, shown to its owner and to no upstream.
        #[arg(long, value_name = "TEXT")]
        #[serde(default)]
        note: Option<String>,
    },
    /// Lists the API keys of an account.
    #[command(after_help = "Examples:\n  doorward apikey list anna")]
    List {
        /// Account that owns the key: name, address, uid or record id.
        account: String,
    },
    /// Confirms API keys that a restore has suspended: one, or all of an account.
    #[command(
        after_help = "Examples:\n  doorward apikey confirm anna aZ09aZ09\n  doorward apikey confirm anna"
    )]
    Confirm {
        /// Account that owns the key: name, address, uid or record id.
        account: String,
        /// The eight characters of its id; default: all.
        id: Option<String>,
    },
    /// Revokes an API key: the next request with it is refused.
    #[command(after_help = "Examples:\n  doorward apikey revoke anna aZ09aZ09")]
    Revoke {
        /// Account that owns the key: name, address, uid or record id.
        account: String,
        /// The eight characters of its id.
        id: String,
    },
}

/// A command about memberships.
#[derive(Debug, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum MemberCommand {
    /// Sets a membership.
    #[command(after_help = "Examples:\n  doorward member set anna list 42 member")]
    Set {
        /// Account: name, address, uid or record id.
        account: String,
        /// Name of the resource, such as list.
        resource: String,
        /// Id of the resource.
        id: String,
        /// Level of the membership.
        level: String,
    },
    /// Ends a membership.
    #[command(after_help = "Examples:\n  doorward member remove anna list 42")]
    Remove {
        /// Account: name, address, uid or record id.
        account: String,
        /// Name of the resource, such as list.
        resource: String,
        /// Id of the resource.
        id: String,
    },
    /// Lists the members of one resource.
    #[command(after_help = "Examples:\n  doorward member list list 42")]
    List {
        /// Name of the resource, such as list.
        resource: String,
        /// Id of the resource.
        id: String,
    },
}

/// A command about the key files.
#[derive(Debug, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum KeysCommand {
    /// Lists the key files, and the signing keys in them.
    #[command(skip)]
    List,
    /// Rotates the signing keys: the next key signs, the current one is retired, a new next key is created. No token becomes invalid.
    #[command(after_help = "Examples:\n  doorward keys rotate")]
    Rotate,
    /// Replaces a lost key file; shows first what that voids. The gateway must be stopped.
    #[command(
        after_help = "Examples:\n  doorward keys renew apikey.key         # shows what that voids\n  doorward keys renew apikey.key --yes\n\nThe replaced file is kept in the store's directory."
    )]
    Renew {
        /// Name of the key file.
        #[arg(value_name = "NAME", value_parser = key_file)]
        file: KeyFile,
        /// Confirms: without this the command changes nothing.
        #[arg(long)]
        yes: bool,
        /// Replaces the file although it is not lost.
        #[arg(long)]
        force: bool,
    },
}

/// A command about the store as a whole that needs the process that has it.
#[derive(Debug, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum StoreCommand {
    /// Saves all records and key files into one file and reads it back, with or without a running gateway.
    #[command(
        after_help = "Examples:\n  doorward store backup\n  doorward store backup --to /mnt/safe/\n\nThe file holds signing keys: protect it like the store itself."
    )]
    Backup {
        /// A new file, or a directory; default: backup/ in the store's directory.
        #[arg(long, value_name = "FILE|DIR")]
        to: Option<PathBuf>,
    },
    /// Makes a copy that the caller reads and removes; the reply is its name.
    #[command(skip)]
    Copy,
    /// Looks at every record.
    #[command(skip)]
    Check,
}

fn key_file(name: &str) -> Result<KeyFile, String> {
    let names = KeyFile::ALL.map(KeyFile::name).join(", ");
    KeyFile::parse(name).ok_or_else(|| format!("one of {names}"))
}

/// An export: JSON lines, of any length.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Export {
    /// A file that this process has open; it is not sent.
    #[serde(skip)]
    Open(File),
    /// A copy in the store's directory, made by the process with this id. The importing process unlinks it.
    Copied(u32),
}

/// A request to explain.
#[derive(Debug, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Explain {
    /// Method of the request.
    pub method: String,
    /// URL of the request, or its path.
    pub url: String,
    /// The caller of the request.
    #[arg(skip = ExplainedCaller::Anonymous)]
    pub caller: ExplainedCaller,
    /// Address of the caller, after trusted proxies.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1")]
    #[serde(default = "loopback")]
    pub from: IpAddr,
}

const fn loopback() -> IpAddr {
    IpAddr::V4(Ipv4Addr::LOCALHOST)
}

/// The caller of a request to explain.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExplainedCaller {
    /// A caller without a credential.
    Anonymous,
    /// A bearer token.
    Token(#[serde(serialize_with = "exposed")] Secret),
    /// An API key.
    ApiKey(#[serde(serialize_with = "exposed")] Secret),
    /// An account by uid, record id, name or address, as if it had logged in.
    Account(String),
}

/// Serializes the text of a secret. It is sent to a process of the same user, over a socket that no other user can
/// open.
fn exposed<'a, S: Serializer>(
    secret: impl Into<Option<&'a Secret>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    secret.into().map(Secret::expose).serialize(serializer)
}

/// The outcome of a command, sent as one line of JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The command was carried out; the value is to be shown.
    Done(Value),
    /// The decision, explained.
    Explained(Explained),
    /// The command was refused: the reason and the remedy.
    Refused(String),
    /// The command failed: the store or the hashing pool is unavailable.
    Failed(String),
}

/// An explained decision.
#[derive(Debug, Serialize, Deserialize)]
pub struct Explained {
    /// The verdict.
    pub verdict: ExplainVerdict,
    /// The checks, in order.
    pub steps: Vec<TraceStep>,
    /// Identity headers that the upstream would receive.
    pub headers: Vec<(String, String)>,
    /// The upstream that the request would reach.
    pub upstream: Option<String>,
}

/// The verdict on a request, the first line of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExplainVerdict {
    /// The request would pass.
    Allow,
    /// The request would be refused with this code.
    Deny(String),
    /// The request could not be decided, with this code.
    Fail(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Collects the secrets of a command, and all its other texts.
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

    /// A parsed command or reply is serialized again unchanged, and a command's `Debug` shows none of its secrets.
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
                // The last digits of a fraction are not preserved; no command answers with one.
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
