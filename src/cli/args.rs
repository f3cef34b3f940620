//! The definition of the command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::{StringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};

use crate::doctor::ProbeOptions;
use crate::model::secret::Secret;
use crate::operator::control::{
    AccountCommand, ApikeyCommand, Explain, KeysCommand, MemberCommand, StoreCommand,
};

/// A reverse-proxy auth gateway: one binary at the door of your services.
#[derive(Debug, Parser)]
#[command(name = "doorward", version, about, after_help = EXAMPLES)]
pub(super) struct Cli {
    /// Configuration file.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        default_value = "config/doorward.toml"
    )]
    pub(super) config: PathBuf,
    #[command(subcommand)]
    pub(super) task: CliCommand,
}

const EXAMPLES: &str = "Examples:
  doorward serve
  doorward check --strict --config /etc/doorward/doorward.toml
  doorward account add anna --identity anna@example.org --name Anna --admin \\
    --password-stdin < password
  doorward explain GET /lists/42/items --as u-4f9Qm2Zr81aB";

#[derive(Debug, Subcommand)]
pub(super) enum CliCommand {
    /// Runs the gateway until SIGTERM, then drains.
    #[command(
        after_help = "Examples:\n  doorward serve\n  DOORWARD__LISTEN__ADDRESS=0.0.0.0:8080 doorward serve\n  kill -HUP PID    # reloads the configuration, all of it or nothing"
    )]
    Serve,
    /// Checks a configuration and reports all problems; exit 1 if there are any.
    #[command(
        after_help = "Examples:\n  doorward check\n  doorward check --strict --config /etc/doorward/doorward.toml"
    )]
    Check {
        /// Fails on warnings too; notes never fail.
        #[arg(long)]
        strict: bool,
    },
    /// Makes the running gateway reload its configuration, all of it or nothing, and shows the outcome.
    #[command(
        after_help = "Examples:\n  doorward reload\n  doorward reload --config /etc/doorward/doorward.toml"
    )]
    Reload,
    /// Shows how a request would be decided, and why; exit 0 for allow, 3 for deny, 1 if it could not be decided.
    #[command(
        after_help = "Examples:\n  doorward explain GET /lists/42/items --as u-4f9Qm2Zr81aB\n  doorward explain POST http://api.example.com/lists/42 --apikey - < key"
    )]
    Explain(ExplainArgs),
    /// Runs the built-in echo service on its own: it answers with what reached it.
    #[command(after_help = "Examples:\n  doorward echo --listen 127.0.0.1:9001")]
    Echo {
        /// Address to listen on.
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9001")]
        listen: SocketAddr,
    },
    /// Decodes tokens and verifies them.
    #[command(
        subcommand,
        after_help = "Examples:\n  doorward token inspect - < token"
    )]
    Token(TokenTask),
    /// Manages accounts, with or without a running gateway.
    #[command(
        subcommand,
        after_help = "Examples:\n  doorward account list\n  doorward account disable anna"
    )]
    Account(AccountCommand),
    /// Manages API keys, with or without a running gateway.
    #[command(
        subcommand,
        after_help = "Examples:\n  doorward apikey create anna --name backup --scope reports:read\n  doorward apikey list anna"
    )]
    Apikey(ApikeyCommand),
    /// Manages memberships, with or without a running gateway.
    #[command(
        subcommand,
        after_help = "Examples:\n  doorward member set anna list 42 member\n  doorward member list list 42"
    )]
    Member(MemberCommand),
    /// Lists and rotates the gateway's own keys, and renews lost ones.
    #[command(
        subcommand,
        after_help = "Examples:\n  doorward keys list\n  doorward keys rotate\n  doorward keys renew mail.key --yes"
    )]
    Keys(KeysTask),
    /// Backs up, restores, checks and exports the whole store.
    #[command(
        subcommand,
        after_help = "Examples:\n  doorward store backup\n  doorward store check"
    )]
    Store(StoreTask),
    /// Finds mistakes in the setup around the gateway.
    #[command(
        subcommand,
        after_help = "Examples:\n  doorward doctor forward-auth --proxy nginx\n  doorward doctor forward-auth --through http://app.example.com"
    )]
    Doctor(DoctorTask),
}

#[derive(Debug, Subcommand)]
pub(super) enum DoctorTask {
    /// Prints the configuration for a proxy in front, and probes a running one: exit 0 nothing found, 3 mistakes found, 1 it could not be probed.
    #[command(
        after_help = "Examples:\n  doorward doctor forward-auth --proxy caddy > printed\n  doorward doctor forward-auth --through http://127.0.0.1:8000 \\\n    --echo 127.0.0.1:9001 --apikey - < key\n  systemctl stop doorward\n  doorward doctor forward-auth --through http://127.0.0.1:8000 \\\n    --echo 127.0.0.1:9001 --while-down\n\nThe probe needs an echo in place of the service: see docs/doctor.md."
    )]
    ForwardAuth(ProbeOptions),
}

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// Bearer token of the caller; `-` reads it from standard input.
    #[arg(long, value_name = "TOKEN", conflicts_with_all = ["apikey", "account"], value_parser = secret())]
    pub(super) token: Option<Secret>,
    /// API key of the caller; `-` reads it from standard input.
    #[arg(long, value_name = "KEY", conflicts_with = "account", value_parser = secret())]
    pub(super) apikey: Option<Secret>,
    /// Account to decide for, as if it had logged in: name, address, uid or record id.
    #[arg(long = "as", value_name = "ACCOUNT")]
    pub(super) account: Option<String>,
    #[command(flatten)]
    pub(super) explain: Explain,
}

fn secret() -> impl TypedValueParser<Value = Secret> {
    StringValueParser::new().map(Secret::new)
}

#[derive(Debug, Subcommand)]
pub(super) enum TokenTask {
    /// Shows the contents of a token without verifying it.
    #[command(after_help = "Examples:\n  doorward token inspect - < token")]
    Inspect {
        /// The token; `-` reads it from standard input.
        #[arg(value_parser = secret())]
        token: Secret,
    },
    /// Verifies the signature of a token; exit 0 only when it verifies, else 3.
    #[command(
        after_help = "Examples:\n  doorward token verify --jwks keys.json - < token\n  doorward token verify - < token    # with the keys of this gateway"
    )]
    Verify {
        /// A JWK set of public keys; without it the gateway's own keys are used.
        #[arg(long, value_name = "FILE")]
        jwks: Option<PathBuf>,
        /// The token; `-` reads it from standard input.
        #[arg(value_parser = secret())]
        token: Secret,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum KeysTask {
    /// Lists the key files of the store, whether each fits the records, and the signing keys.
    #[command(after_help = "Examples:\n  doorward keys list\n  doorward keys list --format json")]
    List {
        /// Format of the list.
        #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
        format: ListFormat,
    },
    #[command(flatten)]
    Other(KeysCommand),
}

/// How a list is written.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
pub(super) enum ListFormat {
    /// One line per item.
    #[default]
    Text,
    /// JSON.
    Json,
}

#[derive(Debug, Subcommand)]
pub(super) enum StoreTask {
    #[command(flatten)]
    Other(StoreCommand),
    /// Restores a backup; the gateway must be stopped. The replaced store is kept beside it.
    #[command(
        after_help = "Examples:\n  doorward store restore config/data/doorward/backup/NAME.backup\n\nStop the gateway first. Ends all sessions and one-time tokens and\nsuspends every API key until its owner or an administrator confirms it\n(doorward apikey confirm)."
    )]
    Restore {
        /// The backup.
        file: PathBuf,
    },
    /// Checks every record of the store or of a backup; exit 1 if anything is wrong.
    #[command(
        after_help = "Examples:\n  doorward store check\n  doorward store check --backup /mnt/safe/doorward.backup"
    )]
    Check {
        /// Checks this backup instead of the store.
        #[arg(long, value_name = "FILE")]
        backup: Option<PathBuf>,
    },
    /// Exports all records as JSON lines, without secrets.
    #[command(
        after_help = "Examples:\n  doorward store export > records.jsonl\n  doorward store export --to records.jsonl --backup /mnt/safe/doorward.backup\n\ndocs/store.md describes each field."
    )]
    Export {
        /// A new file, created with mode 0600; default: standard output.
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
        /// Exports this backup instead of the store.
        #[arg(long, value_name = "FILE")]
        backup: Option<PathBuf>,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// Width of the narrowest terminal that shows lines unwrapped.
    const LINE_CHARS_MAX: usize = 80;

    fn check(command: &clap::Command) {
        let name = command.get_name();
        let help = command.get_after_help().map(ToString::to_string);
        let help = help.unwrap_or_default();
        assert!(help.starts_with("Examples:\n  doorward "), "{name}: {help}");
        for line in help.lines() {
            assert!(line.len() <= LINE_CHARS_MAX, "{name}: {line}");
        }
        for inner in command
            .get_subcommands()
            .filter(|it| it.get_name() != "help")
        {
            check(inner);
        }
    }

    #[test]
    fn every_command_has_examples_that_can_be_copied() {
        let command = Cli::command();
        command.clone().debug_assert();
        check(&command);
    }
}
