//! A test kit for accounts and their endpoints: real parts on an in-memory store, a mailbox and a manual clock.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;

use crate::account::Accounts;
use crate::account::call::Call;
use crate::account::halt::Halt;
use crate::account::login::{OpenedSession, SessionCarrier};
use crate::account::password::{TokenPasswordRefusal, WantedPassword};
use crate::account::register::NewPerson;
use crate::config::{Config, EnvOverlay};
use crate::crypto::token::TokenKeys;
use crate::mail::{Mail, MailError, Mailer};
use crate::model::access::Scope;
use crate::model::account::{Account, EmailAddress};
use crate::model::clock::{Clock, ManualClock, Timestamp};
use crate::model::id::MailId;
use crate::model::identity::{AuthnMethod, Identity, Principal};
use crate::model::mail::{QueuedMail, SealedMail};
use crate::model::secret::Secret;
use crate::services::Services;
use crate::services::test_kit::services;
use crate::store::Store;
use crate::store::generations::Generations;
use crate::store::memory::MemoryStore;

/// A password that satisfies every rule.
pub(crate) const PASSWORD: &str = "Quiet-Harbour-42";
/// Another such password.
pub(crate) const OTHER: &str = "Loud-Mountain-17";

/// A mailer that keeps the mails it is asked to send.
#[derive(Debug, Default)]
pub(crate) struct Mailbox(Mutex<Vec<(String, Mail)>>);

#[async_trait]
impl Mailer for Mailbox {
    fn seal(
        &self,
        to: &EmailAddress,
        mail: &Mail,
        expires: Timestamp,
    ) -> Result<QueuedMail, MailError> {
        self.0.lock().unwrap().push((to.to_string(), mail.clone()));
        Ok(QueuedMail {
            id: crate::crypto::token::draw_mail_id(),
            sealed: SealedMail(Vec::new()),
            created: expires,
            expires,
            next_try: expires,
            attempts: 0,
            refusals: 0,
        })
    }

    async fn posted(&self, _: &MailId) {}
}

impl Mailbox {
    /// Takes the mails sent so far, oldest first.
    pub(crate) fn take(&self) -> Vec<(String, Mail)> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    /// Takes the only mail sent and returns its one-time token.
    pub(crate) fn token(&self) -> String {
        let mut mails = self.take();
        assert_eq!(mails.len(), 1, "{mails:?}");
        match mails.remove(0).1 {
            Mail::ConfirmNew { token }
            | Mail::Invitation { token, .. }
            | Mail::PasswordReset { token, .. }
            | Mail::ChangeIdentity { token, .. } => token.expose().to_owned(),
            other => panic!("no token in {other:?}"),
        }
    }
}

/// Accounts built from real parts.
#[derive(Debug)]
pub(crate) struct Kit {
    pub(crate) accounts: Accounts,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) token_keys: Arc<TokenKeys>,
}

/// The configuration of the tests: the defaults with two scopes, a service for lists, and mail limits above most tests'
/// needs.
pub(crate) fn config() -> Config {
    let text = "\
        listen = { public_url = 'http://door' }\n\
        store = { engine = 'memory' }\n\
        account = { hash_threads = 1 }\n\
        mail = { per_address_per_hour = 1000, per_network_per_hour = 1000, per_hour = 1000 }\n\
        roles = { scopes = ['lists:read', 'lists:write'] }\n\
        [[upstream]]\n\
        name = 'lists'\n\
        addresses = ['builtin:echo']\n\
        resources = ['list']\n\
        public_path = '/l'\n";
    Config::parse(text, &EnvOverlay::default()).unwrap().0
}

impl Kit {
    pub(crate) fn new() -> Self {
        Self::with(config())
    }

    pub(crate) fn with(config: Config) -> Self {
        let store = Arc::new(MemoryStore::new(Arc::new(Generations::new())));
        let mailbox = Arc::new(Mailbox::default());
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
        let services = services(&config, Arc::clone(&clock) as Arc<dyn Clock>);
        let token_keys = Arc::clone(&services.token_keys);
        let services = Services {
            store: Arc::clone(&store) as Arc<dyn Store>,
            mailer: Arc::clone(&mailbox) as Arc<dyn Mailer>,
            ..services
        };
        let accounts = Accounts::new(Arc::new(config), Arc::new(services));
        Self {
            accounts,
            store,
            mailbox,
            clock,
            token_keys,
        }
    }

    /// Registers a person and returns the mailed token.
    pub(crate) async fn register(&self, name: &str) -> String {
        let person = NewPerson::parse(&format!("{name}@example.org"), name, "N. N.").unwrap();
        let outcome = self.accounts.register(&Call::default(), person).await;
        assert_eq!(refusal(outcome), None);
        self.mailbox.token()
    }

    /// Registers a person and sets [`PASSWORD`].
    pub(crate) async fn person(&self, name: &str) -> Account {
        let token = self.register(name).await;
        self.set_by_token(&token, None, PASSWORD).await.unwrap()
    }

    /// Creates an administrator with [`PASSWORD`].
    pub(crate) async fn administrator(&self, name: &str) -> Account {
        let person = NewPerson::parse(&format!("{name}@example.org"), name, "N. N.").unwrap();
        let password = Some(Secret::new(PASSWORD.to_owned()));
        let created = self
            .accounts
            .create(&Call::cli(), person, true, password)
            .await;
        created.unwrap()
    }

    pub(crate) async fn set_by_token(
        &self,
        token: &str,
        uid: Option<&str>,
        password: &str,
    ) -> Result<Account, Halt<TokenPasswordRefusal>> {
        self.accounts
            .set_password_by_token(&Call::default(), token, (uid, None), wanted(password))
            .await
    }

    pub(crate) async fn login(&self, name: &str, password: &str) -> Option<OpenedSession> {
        let password = Secret::new(password.to_owned());
        match self
            .accounts
            .login(&Call::default(), name, password, SessionCarrier::Program)
            .await
        {
            Ok(opened) => Some(opened),
            Err(Halt::Refused(_)) => None,
            Err(Halt::Failed(error)) => panic!("{error:?}"),
        }
    }

    /// Returns the time this many seconds from now.
    pub(crate) fn clock_in(&self, secs: u64) -> Timestamp {
        self.clock.now().plus(Duration::from_secs(secs))
    }

    /// Returns the account as it is stored now.
    pub(crate) async fn stored(&self, account: &Account) -> Account {
        self.store.account(&account.uid).await.unwrap().unwrap()
    }
}

/// Returns the refusal of a use case; `None` if it was carried out.
pub(crate) fn refusal<T, R>(result: Result<T, Halt<R>>) -> Option<R> {
    match result {
        Ok(_) => None,
        Err(Halt::Refused(refusal)) => Some(refusal),
        Err(Halt::Failed(error)) => panic!("{error:?}"),
    }
}

pub(crate) fn wanted(password: &str) -> WantedPassword {
    WantedPassword {
        new: Secret::new(password.to_owned()),
        verify: Secret::new(password.to_owned()),
        revoke_keys: false,
    }
}

/// Creates the identity of a login, or of an API key if `session` is `None`, with these scopes.
pub(crate) fn identity(
    account: &Account,
    session: Option<&crate::model::id::SessionId>,
    scopes: &[&str],
) -> Identity {
    let mut scopes: Vec<_> = scopes
        .iter()
        .map(|text| Scope::parse(text).unwrap())
        .collect();
    scopes.sort();
    Identity {
        principal: Principal::Own {
            account: Arc::new(account.clone()),
            session: session.cloned(),
        },
        method: if session.is_some() {
            AuthnMethod::Jwt
        } else {
            AuthnMethod::ApiKey
        },
        key_id: None,
        roles: Vec::new(),
        only: None,
        resource_roles: Vec::new(),
        scopes,
        expires: None,
    }
}
