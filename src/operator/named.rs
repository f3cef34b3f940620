//! Look-up of the account that an operator's command names.

use crate::account::Accounts;
use crate::model::account::{Account, AccountStatus};
use crate::model::id::AccountId;
use crate::operator::refusal::CommandStop;

/// Finds an account by uid, record id, name or address. A pending account reserves neither name nor address, so it is
/// found by them only if no other account has them and it is the only such pending account.
pub(crate) async fn find(accounts: &Accounts, text: &str) -> Result<Account, CommandStop> {
    if let Some(account) = accounts.find(text).await? {
        return Ok(account);
    }
    let mut found = None;
    let mut after: Option<AccountId> = None;
    loop {
        let page = accounts.list(after.as_ref()).await?;
        for account in page.items {
            if !is_named(&account, text) {
                continue;
            }
            if found.replace(account).is_some() {
                let why = format!("several pending accounts are named {text}: name one by its uid");
                return Err(CommandStop::Refused(why));
            }
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let missing = "there is no such account; `doorward account list` shows them";
    found.ok_or_else(|| CommandStop::Refused(missing.to_owned()))
}

/// Finds an account as [`find`] does, and refuses it if it is not active.
pub(crate) async fn find_active(accounts: &Accounts, text: &str) -> Result<Account, CommandStop> {
    let account = find(accounts, text).await?;
    let name = account.username.as_str();
    match account.status {
        AccountStatus::Active => Ok(account),
        AccountStatus::Pending => Err(CommandStop::Refused(format!(
            "{name} is pending: no password is set yet; the link in its mail sets the first one"
        ))),
        AccountStatus::Disabled => Err(CommandStop::Refused(format!(
            "{name} is disabled; `doorward account enable {name}` enables it"
        ))),
    }
}

fn is_named(account: &Account, text: &str) -> bool {
    account.status == AccountStatus::Pending
        && [account.username.as_str(), account.identity.as_str()]
            .iter()
            .any(|name| name.eq_ignore_ascii_case(text))
}
