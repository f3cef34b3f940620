//! Guesses at passwords: every place that looks at one asks [`Accounts::guess`], so that all count on the same counters.
//!
//! A guess holds a place before the password is hashed, and counts once it has failed: of any number at once no more are
//! looked at than allowed, and those that find all places held by others wait for them. What is counted is the name as
//! typed and the account, each with the client network, the network and the wider ones that it is in, and the account's
//! failures in a row.

use crate::account::call::Call;
use crate::account::{AccountError, Accounts};
use crate::crypto::password::{HashError, WAIT_MAX};
use crate::limit::{CounterClaim, LimitRule, OnSuccess, ReachedLimit, TakeOutcome};
use crate::model::account::{Account, AccountStatus, Digest};
use crate::model::client_network::wider_networks;
use crate::model::secret::Secret;

/// Failures that one client network may have in a window, whatever the names; and that an account may have in a row,
/// from wherever, before it backs off. Source: NIST SP 800-63B-4 section 3.2.2 asks for no more than 100.
const FAILURES_MAX: u32 = 100;

/// Whose password is guessed at, and by whom.
#[derive(Clone, Copy, Debug)]
pub enum Guesser<'a> {
    /// Somebody who says a name.
    Stranger {
        /// The name or address as typed.
        name: &'a str,
        /// Whom it means, whatever the status.
        account: Option<&'a Account>,
    },
    /// A login of the account, which may be told that its account has used up its guesses.
    Owner(&'a Account),
}

/// What a guess showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Guess {
    /// It is the password of the account, which is active.
    Right {
        /// The hash has old parameters: hash the password again.
        is_outdated: bool,
        /// How many failures in a row, from wherever, this one has ended.
        failures: u32,
    },
    /// It is not, or there is no such account, or none that is active.
    Wrong,
    /// The account has used up its guesses, but the name that was typed has not: the password was not looked at. To
    /// callers it is as wrong as [`Guess::Wrong`], and has taken the same time.
    Unseen,
    /// The name, or the client network, has used up its guesses: 429.
    Limited(ReachedLimit),
}

impl Accounts {
    /// Looks at a password, unless too many have failed already.
    ///
    /// A failure counts for `lockout_s`; a success forgets those of the name and of the account with this client
    /// network, and the account's row.
    ///
    /// # Errors
    /// [`AccountError::Busy`] and [`AccountError::Store`]; then nothing was counted. [`AccountError::Uncounted`] when
    /// there is no room to count; then nothing was looked at.
    pub async fn guess(
        &self,
        call: &Call,
        guesser: Guesser<'_>,
        password: Secret,
    ) -> Result<Guess, AccountError> {
        let claims = self.claims(call, guesser).await?;
        let rounds = self.parts.store.old_hash_rounds_max().await?;
        let counters = &self.parts.counters.logins;
        // Those that hold the places wait for the hashing pool: as long is waited for them.
        let (ticket, is_shadowed) = match counters.take_in_turn(&claims, WAIT_MAX).await {
            TakeOutcome::Taken {
                ticket,
                is_shadowed,
            } => (ticket, is_shadowed),
            TakeOutcome::Busy => return Err(HashError::Busy.into()),
            TakeOutcome::Over(limit) => return Ok(Guess::Limited(limit)),
            TakeOutcome::Full => return Err(AccountError::Uncounted),
        };
        // A hash that may not open anything is not compared: a right password would be told by the shorter time.
        let account = guesser
            .account()
            .filter(|account| !is_shadowed && account.status == AccountStatus::Active);
        let hash = account.and_then(|account| account.password.clone());
        // INVARIANT: a caller who goes away here has guessed: the ticket is dropped, which counts
        // (what_is_given_back_was_not_counted_and_what_is_dropped_was).
        let passwords = &self.parts.passwords;
        let verdict = match passwords.verify_evenly(password, hash, rounds).await {
            Ok(verdict) => verdict,
            Err(busy) => {
                ticket.give_back();
                return Err(busy.into());
            }
        };
        if let Some(account) = account.filter(|_| verdict.matches) {
            let failures = counters.count(&self.of_row(account).key);
            // What others guessed meanwhile may have used up the account's guesses.
            if !ticket.succeeded() {
                self.parts.counters.keeping.kept().await;
                return Ok(Guess::Unseen);
            }
            return Ok(Guess::Right {
                is_outdated: verdict.outdated,
                failures,
            });
        }
        ticket.failed();
        // A process that is killed forgets no guess that was answered.
        self.parts.counters.keeping.kept().await;
        Ok(if is_shadowed {
            Guess::Unseen
        } else {
            Guess::Wrong
        })
    }

    /// Whether a name or the client network has used up its guesses: before anything is read for it.
    pub(in crate::account) fn name_limit(&self, call: &Call, name: &str) -> Option<ReachedLimit> {
        let mut claims = self.of_networks(call);
        claims.push(self.of_name(call, name));
        self.parts.counters.logins.limit(&claims)
    }

    /// Lets the failures of an account and of its names count no more, from whatever networks: the operator vouches.
    pub(in crate::account) fn pardon(&self, call: &Call, account: &Account) {
        self.forgive(call, account);
        let names = [account.username.as_str(), account.identity.as_str()];
        let names = names.map(|name| self.count_key(&["name", &folded(name)]));
        let own = self.count_key(&["account", account.uid.as_str()]);
        for key in names.into_iter().chain([own]) {
            self.parts.counters.pardons.give(key);
        }
    }

    /// Forgets the failures of an account and of its names with this client network, and the account's row: its owner
    /// has shown to be it.
    pub(in crate::account) fn forgive(&self, call: &Call, account: &Account) {
        let claims = [
            self.of_name(call, account.username.as_str()),
            self.of_name(call, account.identity.as_str()),
            self.of_account(call, account),
            self.of_row(account),
        ];
        self.parts
            .counters
            .logins
            .forget(&claims.map(|claim| claim.key));
    }

    async fn claims(
        &self,
        call: &Call,
        guesser: Guesser<'_>,
    ) -> Result<Vec<CounterClaim>, AccountError> {
        let mut claims = self.of_networks(call);
        let is_silent = match guesser {
            Guesser::Stranger { name, .. } => {
                claims.push(self.of_name(call, name));
                true
            }
            Guesser::Owner(_) => false,
        };
        if let Some(account) = guesser.account() {
            let of_account = self.of_account(call, account);
            let mut of_row = self.of_row(account);
            // Who attacks from many networks shuts nobody out where they are logged in.
            let backs_off = self.parts.counters.logins.limit(&[of_row]).is_some();
            if backs_off && self.is_at_home(call, account).await? {
                of_row.rule = LimitRule::Row {
                    free: u32::MAX,
                    pause_max: self.parts.account.lockout,
                };
            }
            claims.extend([of_account, of_row].map(|claim| CounterClaim { is_silent, ..claim }));
        }
        Ok(claims)
    }

    /// Whether the account has a live session that began in this client network.
    async fn is_at_home(&self, call: &Call, account: &Account) -> Result<bool, AccountError> {
        let now = self.parts.clock.now();
        let sessions = self.parts.store.sessions_of(&account.uid).await?;
        Ok(sessions.iter().any(|session| {
            call.from.as_deref() == Some(session.from.as_str())
                && now < session.idle_end.min(session.absolute_end)
        }))
    }

    /// Folded at least as far as the look-up of names folds: no spelling has a counter of its own.
    fn of_name(&self, call: &Call, name: &str) -> CounterClaim {
        self.counted_with_network(call, ["name", &folded(name)])
    }

    fn of_account(&self, call: &Call, account: &Account) -> CounterClaim {
        self.counted_with_network(call, ["account", account.uid.as_str()])
    }

    /// A name or an account with the client network, since the last pardon.
    fn counted_with_network(&self, call: &Call, [kind, text]: [&str; 2]) -> CounterClaim {
        let pardon = self
            .parts
            .counters
            .pardons
            .part(&self.count_key(&[kind, text]));
        match pardon.as_str() {
            // The key that a counter of an earlier start was kept under.
            "" => self.claim("login", &[kind, text, network(call)]),
            pardon => self.claim("login", &[kind, text, network(call), pardon]),
        }
    }

    fn count_key(&self, parts: &[&str]) -> Digest {
        self.parts.token_keys.count_key(parts)
    }

    /// The client network, and the wider ones that it is in: whoever has one of those has as many client networks as they
    /// like.
    fn of_networks(&self, call: &Call) -> Vec<CounterClaim> {
        let own = (network(call).to_owned(), 1);
        let all = std::iter::once(own).chain(wider_networks(network(call)));
        let claim = |(network, times): (String, u32)| CounterClaim {
            rule: LimitRule::Window {
                max: self.failures_max().saturating_mul(times),
                window: self.parts.account.lockout,
            },
            on_success: OnSuccess::GiveBack,
            ..self.claim("login-network", &["network", &network])
        };
        all.map(claim).collect()
    }

    fn of_row(&self, account: &Account) -> CounterClaim {
        CounterClaim {
            rule: LimitRule::Row {
                free: self.failures_max(),
                pause_max: self.parts.account.lockout,
            },
            ..self.claim("login-account", &["row", account.uid.as_str()])
        }
    }

    fn claim(&self, policy: &'static str, parts: &[&str]) -> CounterClaim {
        CounterClaim {
            key: self.count_key(parts),
            rule: LimitRule::Window {
                max: self.parts.account.lockout_attempts,
                window: self.parts.account.lockout,
            },
            policy,
            is_silent: false,
            on_success: OnSuccess::Clear,
        }
    }

    /// A quota per name above it would be none.
    fn failures_max(&self) -> u32 {
        FAILURES_MAX.max(self.parts.account.lockout_attempts)
    }
}

impl<'a> Guesser<'a> {
    pub(in crate::account) fn account(self) -> Option<&'a Account> {
        match self {
            Self::Stranger { account, .. } => account,
            Self::Owner(account) => Some(account),
        }
    }
}

/// A name as it is counted.
fn folded(name: &str) -> String {
    name.trim().to_lowercase()
}

/// Who comes from no network is counted as one.
pub(in crate::account) fn network(call: &Call) -> &str {
    call.from.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests;
