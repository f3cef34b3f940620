//! The commands carried out: the use cases of `account`, called for the operator.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Value, json};

use crate::account::api_keys::{KeyCreationRefusal, StoredKeyRefusal};
use crate::account::call::Call;
use crate::account::halt::{Halt, NotFound};
use crate::account::key_terms::KeyTermsRefusal;
use crate::account::members::Resource;
use crate::account::page::{Page, shown_all};
use crate::account::register::NewPerson;
use crate::account::{AccountError, Accounts, Actor};
use crate::auth;
use crate::auth::verify::unverified::Unverified;
use crate::model::account::{Account, AccountStatus, ShownAccount};
use crate::model::api_key::{ApiKey, KeyExpiry, NewKey, ShownKey, WantedRole};
use crate::model::clock::Timestamp;
use crate::model::deny::DenyReason;
use crate::model::field::{Checked, members_of};
use crate::model::id::{AccountId, KeyId, UserId};
use crate::model::secret::Secret;
use crate::model::token_fault::FaultKind;
use crate::operator::control::{
    AccountCommand, AccountPage, ApikeyCommand, Command, MemberCommand, Reply,
};
use crate::operator::explain::{as_field, explain};
use crate::operator::named::{find, find_active};
use crate::operator::refusal::CommandStop;
use crate::operator::{backup, import, key_files};
use crate::snapshot::Snapshot;
use crate::store::AccountChange;

/// The client address of an operator at this machine.
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Carries out a command.
pub(crate) async fn execute(command: Command, snapshot: &Snapshot) -> Reply {
    let ended = match command {
        Command::Explain(question) => {
            let explained = explain(&question, snapshot).await;
            return explained.map_or_else(Reply::Refused, Reply::Explained);
        }
        Command::Reload => {
            return Reply::Refused("no gateway is running: there is nothing to reload".to_owned());
        }
        Command::Store(command) => return backup::execute(command, &snapshot.services).await,
        Command::TokenVerify { token } => verify(&token, snapshot).await,
        Command::Account(command) => accounts(command, snapshot).await,
        Command::Apikey(command) => api_keys(command, &snapshot.accounts).await,
        Command::Member(command) => members(command, &snapshot.accounts).await,
        Command::Keys(command) => return key_files::execute(&command, snapshot).await,
    };
    match ended {
        Ok(value) => Reply::Done(value),
        Err(CommandStop::Refused(why)) => Reply::Refused(why),
        Err(CommandStop::Failed(why)) => Reply::Failed(why),
    }
}

async fn accounts(command: AccountCommand, snapshot: &Snapshot) -> Result<Value, CommandStop> {
    let accounts = &snapshot.accounts;
    match command {
        AccountCommand::Add {
            username,
            identity,
            name,
            admin,
            password,
            ..
        } => {
            let person = NewPerson::parse(&identity, &username, &name)?;
            let is_invited = password.is_none();
            let created = accounts
                .create(&Call::cli(), person, admin, password)
                .await?;
            let mut account = shown(created);
            if let Some(fields) = account.as_object_mut().filter(|_| is_invited) {
                let sent =
                    format!("sent to {identity}: the link in the mail sets the first password");
                fields.insert("invitation".to_owned(), sent.into());
            }
            Ok(account)
        }
        AccountCommand::List => {
            let page =
                |after: Option<AccountId>| async move { accounts.list(after.as_ref()).await };
            let all = shown_all(page, shown).await?;
            Ok(Value::Array(all))
        }
        AccountCommand::ListPage { after } => {
            let page = accounts.list(after.as_ref()).await?;
            Ok(json!(AccountPage {
                accounts: page.items.into_iter().map(shown).collect(),
                next: page.next,
            }))
        }
        AccountCommand::Show { account } => Ok(shown(find(accounts, &account).await?)),
        AccountCommand::Disable { account } => {
            set_status(accounts, &account, AccountStatus::Disabled).await
        }
        AccountCommand::Enable { account } => {
            set_status(accounts, &account, AccountStatus::Active).await
        }
        AccountCommand::Import {
            export,
            skip_refused,
            ..
        } => import::execute(export, skip_refused, snapshot).await,
        AccountCommand::SetPassword {
            account, password, ..
        } => {
            let account = find(accounts, &account).await?;
            let account = accounts
                .set_password(&Call::cli(), &account.uid, password)
                .await?;
            Ok(shown(account))
        }
    }
}

async fn set_status(
    accounts: &Accounts,
    account: &str,
    status: AccountStatus,
) -> Result<Value, CommandStop> {
    let account = find(accounts, account).await?;
    let change = AccountChange {
        status: Some(status),
        ..AccountChange::default()
    };
    let account = accounts
        .change(&Call::cli(), Actor::Operator, &account.account_id, change)
        .await?;
    Ok(shown(account))
}

fn shown(account: Account) -> Value {
    let mut shown = members_of(&ShownAccount::from(account));
    shown.remove("settings_id");
    Value::Object(shown)
}

async fn api_keys(command: ApikeyCommand, accounts: &Accounts) -> Result<Value, CommandStop> {
    match command {
        ApikeyCommand::Create {
            account,
            name,
            scopes,
            expires,
            allow_from,
            rate_per_minute,
            resources,
            note,
        } => {
            let owner = find_active(accounts, &account).await?;
            let expires: Option<Checked<KeyExpiry>> = expires.map(Checked::of);
            let readable = expires.as_ref().map(Checked::get).transpose();
            readable.map_err(|_| {
                CommandStop::Refused("--expires: a time such as 2030-01-31T12:00:00Z".to_owned())
            })?;
            let wanted = NewKey {
                name: Some(Checked::of(name)),
                scopes: Some(scopes),
                expires,
                allow_from: (!allow_from.is_empty()).then(|| Checked::of(allow_from)),
                rate_per_minute: rate_per_minute.map(Checked::of),
                resources: wanted_roles(&resources)?,
                note: note.map(Checked::of),
            };
            let issued = accounts
                .create_api_key_for(&Call::cli(), &owner, wanted)
                .await
                .map_err(|halt| match halt {
                    Halt::Refused(KeyCreationRefusal::Terms(KeyTermsRefusal::ScopeUnknown)) => {
                        scope_unknown(accounts)
                    }
                    halt => halt.into(),
                })?;
            let secret = issued.secret.expose().to_owned();
            Ok(shown_key(issued.key, Some(secret), None))
        }
        ApikeyCommand::List { account } => {
            let owner = find(accounts, &account).await?;
            list_keys(accounts, &owner).await
        }
        ApikeyCommand::Confirm { account, id } => confirm(accounts, &account, id).await,
        ApikeyCommand::Revoke { account, id } => {
            let owner = find(accounts, &account).await?;
            let id = KeyId::parse(&id).map_err(|_| key_unknown())?;
            let revoked = accounts.revoke_api_key(&Call::cli(), &owner.uid, &id).await;
            match revoked {
                Ok(()) => Ok(json!({ "revoked": id })),
                Err(Halt::Refused(NotFound)) => Err(key_unknown()),
                Err(Halt::Failed(error)) => Err(error.into()),
            }
        }
    }
}

fn key_unknown() -> CommandStop {
    CommandStop::Refused("the account has no such key".to_owned())
}

fn scope_unknown(accounts: &Accounts) -> CommandStop {
    let scopes = accounts.login_scopes();
    let declared = match scopes.as_str() {
        "" => "none is declared",
        scopes => &format!("the declared scopes are {scopes}"),
    };
    CommandStop::Refused(format!(
        "each scope must be named by a route or by [roles] scopes: {declared} (scope_unknown)"
    ))
}

async fn list_keys(accounts: &Accounts, owner: &Account) -> Result<Value, CommandStop> {
    let page = |after: Option<KeyId>| async move {
        let page = accounts.api_keys(&owner.uid, after.as_ref()).await?;
        let used = accounts.keys_used(&page.items).await?;
        Ok::<_, AccountError>(Page {
            items: page.items.into_iter().zip(used).collect(),
            next: page.next,
        })
    };
    let shown = |(key, used)| shown_key(key, None, used);
    Ok(Value::Array(shown_all(page, shown).await?))
}

/// Confirms one suspended key, or all suspended keys of an account.
async fn confirm(
    accounts: &Accounts,
    account: &str,
    id: Option<String>,
) -> Result<Value, CommandStop> {
    let owner = find(accounts, account).await?;
    let call = Call::cli();
    let Some(id) = id else {
        let change = AccountChange {
            keys_suspended: Some(false),
            ..AccountChange::default()
        };
        accounts
            .change(&call, Actor::Operator, &owner.account_id, change)
            .await?;
        return Ok(json!({ "confirmed": "all" }));
    };
    let id = KeyId::parse(&id).map_err(|_| key_unknown())?;
    match accounts.confirm_api_key_for(&call, &owner, &id).await {
        Ok(key) => Ok(json!({ "confirmed": key.id })),
        Err(Halt::Refused(StoredKeyRefusal::NoKey)) => Err(key_unknown()),
        Err(halt) => Err(halt.into()),
    }
}

/// Parses resource roles in the form of the command line, `list/42/member`; an empty list means no limits.
fn wanted_roles(texts: &[String]) -> Result<Option<Vec<WantedRole>>, CommandStop> {
    let wrong = || {
        CommandStop::Refused("--resource: a resource, an id and a level, list/42/member".to_owned())
    };
    let read = |text: &String| match text.split('/').collect::<Vec<_>>().as_slice() {
        [resource, id, level] => Ok(WantedRole {
            resource: (*resource).to_owned(),
            id: (*id).to_owned(),
            level: (*level).to_owned(),
        }),
        _ => Err(wrong()),
    };
    let roles: Vec<_> = texts.iter().map(read).collect::<Result<_, _>>()?;
    Ok((!roles.is_empty()).then_some(roles))
}

fn shown_key(key: ApiKey, secret: Option<String>, used: Option<Timestamp>) -> Value {
    let mut shown = ShownKey::new(key, secret, used).for_operator();
    shown.remove("overlap_until");
    Value::Object(shown)
}

async fn members(command: MemberCommand, accounts: &Accounts) -> Result<Value, CommandStop> {
    let call = Call::cli();
    match command {
        MemberCommand::Set {
            account,
            resource,
            id,
            level,
        } => {
            let uid = find_active(accounts, &account).await?.uid;
            let resource = declared(accounts, &resource, &id)?;
            accounts
                .set_member(&call, Actor::Operator, &resource, (&uid, &level))
                .await?;
            Ok(json!({ "uid": uid, "resource": resource.kind, "id": resource.id, "level": level }))
        }
        MemberCommand::Remove {
            account,
            resource,
            id,
        } => {
            let uid = find(accounts, &account).await?.uid;
            let resource = declared(accounts, &resource, &id)?;
            accounts
                .end_member(&call, Actor::Operator, &resource, &uid)
                .await?;
            Ok(json!({ "uid": uid, "resource": resource.kind, "id": resource.id, "ended": true }))
        }
        MemberCommand::List { resource, id } => {
            let resource = declared(accounts, &resource, &id)?;
            let resource = &resource;
            let page = |after: Option<UserId>| async move {
                let page = accounts.members(Actor::Operator, resource, after.as_ref());
                page.await
            };
            Ok(Value::from(
                shown_all(page, |member| members_of(&member)).await?,
            ))
        }
    }
}

fn declared(accounts: &Accounts, kind: &str, id: &str) -> Result<Resource, CommandStop> {
    let wrong = "the resource must be one that [roles] resources declares, and its id 1 to 128 of A-Z a-z 0-9 . _ ~ : -";
    accounts
        .resource(kind, id)
        .ok_or_else(|| CommandStop::Refused(wrong.to_owned()))
}

/// Verifies a bearer token as the gateway would in a request, and returns its identity.
async fn verify(token: &Secret, snapshot: &Snapshot) -> Result<Value, CommandStop> {
    let (name, text) = as_field(token.expose(), snapshot);
    let malformed = |_| CommandStop::Refused(Unverified::from(FaultKind::Malformed).text());
    let value = http::HeaderValue::from_str(&text).map_err(malformed)?;
    let headers = http::HeaderMap::from_iter([(name, value)]);
    let authorizer = &snapshot.authorizer;
    match authorizer.authenticate_in_detail(&headers, HERE).await {
        Ok(Some(caller)) => Ok(json!({
            "subject": caller.identity.subject(),
            "username": caller.identity.username(),
            "roles": caller.identity.roles,
            "scopes": caller.identity.scopes,
            "expires": caller.identity.expires.map(Timestamp::to_rfc3339),
            "left_out": caller.left_out(),
        })),
        Ok(None) => Err(CommandStop::Refused(
            DenyReason::CredentialMissing.code().to_owned(),
        )),
        Err(unverified) => Err(match unverified.stop {
            auth::grant::Stop::Fail(_) => CommandStop::Failed(unverified.text()),
            _ => CommandStop::Refused(unverified.text()),
        }),
    }
}
