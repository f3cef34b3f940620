//! Password guesses. Every place that verifies a password calls [`Accounts::guess`], so that all share the same
//! counters.
//!
//! A guess takes a ticket before the password is hashed and counts once it has failed: however many guesses run at
//! once, no more than the limit are verified, and a guess that finds all tickets taken waits for one. The counters
//! are: the typed name and the account, each per client network; the client network and the wider networks that contain
//! it; and the account's failures in a row.

use crate::account::call::Call;
use crate::account::{AccountError, Accounts};
use crate::crypto::password::{HashError, WAIT_MAX};
use crate::limit::{CounterClaim, LimitRule, OnSuccess, ReachedLimit, TakeOutcome};
use crate::model::account::{Account, AccountStatus, Digest};
use crate::model::client_network::wider_networks;
use crate::model::error_code::ErrorCode;
use crate::model::secret::Secret;

/// Maximum number of failures of one client network in a window, whatever the names; also the number of failures in a
/// row, from any network, after which an account backs off. Source: NIST SP 800-63B-4 section 3.2.2 asks for no more
/// than 100.
const FAILURES_MAX: u32 = 100;

/// The failures that a guess may have besides those of the store.
pub(in crate::account) const GUESS_FAILURES: [ErrorCode; 2] =
    [ErrorCode::HashingBusy, ErrorCode::LimitsFull];

/// The author of a guess and the account that it is for.
#[derive(Clone, Copy, Debug)]
pub enum Guesser<'a> {
    /// A caller who presents a name.
    Stranger {
        /// The name or address as typed.
        name: &'a str,
        /// The account with that name or address, whatever its status.
        account: Option<&'a Account>,
    },
    /// A caller logged in to the account, who may learn that the account has used up its guesses.
    Owner(&'a Account),
}

/// The result of a guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Guess {
    /// The password is right and the account is active.
    Right {
        /// The hash has outdated parameters: rehash the password.
        is_outdated: bool,
        /// Number of failures in a row, from any network, that this success ended.
        failures: u32,
    },
    /// The password is wrong, or there is no active account with that name.
    Wrong,
    /// The account has used up its guesses, but the typed name has not: the password is not accepted, right or wrong.
    /// The answer to the caller and its timing are those of [`Guess::Wrong`].
    SilentlyLimited,
    /// The name or the client network has used up its guesses: 429.
    Limited(ReachedLimit),
}

impl Accounts {
    /// Verifies a password, unless too many guesses have failed already.
    ///
    /// A failure counts for `lockout_s`. A success clears the failures of the name and of the account with this client
    /// network, and the account's failures in a row.
    ///
    /// # Errors
    /// [`AccountError::Busy`] and [`AccountError::Store`], in which case nothing was counted.
    /// [`AccountError::Uncounted`] if there is no room to count, in which case the password was not verified.
    pub async fn guess(
        &self,
        call: &Call,
        guesser: Guesser<'_>,
        password: Secret,
    ) -> Result<Guess, AccountError> {
        let claims = self.claims(call, guesser).await?;
        let rounds = self.services.store.old_hash_rounds_max().await?;
        let counters = &self.services.counters.logins;
        // The guesses that hold the tickets may wait this long for the hashing pool, so this one waits as long for
        // them.
        let (ticket, is_silently_limited) = match counters.take_in_turn(&claims, WAIT_MAX).await {
            TakeOutcome::Taken {
                ticket,
                is_silently_limited,
            } => (ticket, is_silently_limited),
            TakeOutcome::Busy => return Err(HashError::Busy.into()),
            TakeOutcome::Over(limit) => return Ok(Guess::Limited(limit)),
            TakeOutcome::Full => return Err(AccountError::Uncounted),
        };
        // A hash that must not open a session is not compared: a shorter time would reveal a right password.
        let account = guesser
            .account()
            .filter(|account| !is_silently_limited && account.status == AccountStatus::Active);
        let hash = account.and_then(|account| account.password.clone());
        // INVARIANT: a caller who disconnects here has made a guess: the ticket is dropped, which counts it
        // (what_is_given_back_was_not_counted_and_what_is_dropped_was).
        let passwords = &self.services.passwords;
        let verdict = match passwords.verify(password, hash, rounds).await {
            Ok(verdict) => verdict,
            Err(busy) => {
                ticket.give_back();
                return Err(busy.into());
            }
        };
        if let Some(account) = account.filter(|_| verdict.matches) {
            let failures = counters.count(&self.of_consecutive_failures(account).key);
            // Guesses that ran meanwhile may have used up the account's guesses.
            if !ticket.succeeded() {
                self.services.counters.keeping.kept().await;
                return Ok(Guess::SilentlyLimited);
            }
            return Ok(Guess::Right {
                is_outdated: verdict.outdated,
                failures,
            });
        }
        ticket.failed();
        // An answered guess survives a kill of the process: the answer waits until its count is stored, at most 500 ms,
        // and not at all while the store fails.
        self.services.counters.keeping.kept().await;
        Ok(if is_silently_limited {
            Guess::SilentlyLimited
        } else {
            Guess::Wrong
        })
    }

    /// Returns the limit that a name or the client network has used up, if any. Checked before anything is read.
    pub(in crate::account) fn name_limit(&self, call: &Call, name: &str) -> Option<ReachedLimit> {
        let mut claims = self.of_networks(call);
        claims.push(self.of_name(call, name));
        self.services.counters.logins.limit(&claims)
    }

    /// Clears the failures of an account and of its names from all networks, on the operator's authority.
    pub(in crate::account) fn pardon(&self, call: &Call, account: &Account) {
        self.forgive(call, account);
        let names = [account.username.as_str(), account.identity.as_str()];
        let names = names.map(|name| self.count_key(&["name", &folded(name)]));
        let own = self.count_key(&["account", account.uid.as_str()]);
        for key in names.into_iter().chain([own]) {
            self.services.counters.pardons.give(key);
        }
    }

    /// Clears the failures of an account and of its names with this client network, and the account's failures in a
    /// row: the caller has proved to be the owner.
    pub(in crate::account) fn forgive(&self, call: &Call, account: &Account) {
        let claims = [
            self.of_name(call, account.username.as_str()),
            self.of_name(call, account.identity.as_str()),
            self.of_account(call, account),
            self.of_consecutive_failures(account),
        ];
        self.services
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
            let mut of_consecutive_failures = self.of_consecutive_failures(account);
            // An attack from many networks must not lock the owner out of a network where they are logged in.
            let backs_off = self
                .services
                .counters
                .logins
                .limit(&[of_consecutive_failures])
                .is_some();
            if backs_off && self.has_session_here(call, account).await? {
                of_consecutive_failures.rule = LimitRule::Row {
                    free: u32::MAX,
                    pause_max: self.config.account.lockout,
                };
            }
            claims.extend(
                [of_account, of_consecutive_failures]
                    .map(|claim| CounterClaim { is_silent, ..claim }),
            );
        }
        Ok(claims)
    }

    /// Whether the account has a live session that began in this client network.
    async fn has_session_here(&self, call: &Call, account: &Account) -> Result<bool, AccountError> {
        let now = self.services.clock.now();
        let sessions = self.services.store.sessions_of(&account.uid).await?;
        Ok(sessions.iter().any(|session| {
            call.from.as_deref() == Some(session.from.as_str())
                && now < session.idle_end.min(session.absolute_end)
        }))
    }

    /// The counter of a name. It is folded at least as far as name lookup folds, so that no spelling has its own
    /// counter.
    fn of_name(&self, call: &Call, name: &str) -> CounterClaim {
        self.counted_with_network(call, ["name", &folded(name)])
    }

    fn of_account(&self, call: &Call, account: &Account) -> CounterClaim {
        self.counted_with_network(call, ["account", account.uid.as_str()])
    }

    /// The counter of a name or an account with the client network. A pardon starts a new one.
    fn counted_with_network(&self, call: &Call, [kind, text]: [&str; 2]) -> CounterClaim {
        let pardon = self
            .services
            .counters
            .pardons
            .part(&self.count_key(&[kind, text]));
        match pardon.as_str() {
            // The key of counters that an earlier start has persisted.
            "" => self.claim("login", &[kind, text, network(call)]),
            pardon => self.claim("login", &[kind, text, network(call), pardon]),
        }
    }

    fn count_key(&self, parts: &[&str]) -> Digest {
        self.services.token_keys.count_key(parts)
    }

    /// The counters of the client network and of the wider networks that contain it: the holder of a wider network has
    /// any number of client networks.
    fn of_networks(&self, call: &Call) -> Vec<CounterClaim> {
        let own = (network(call).to_owned(), 1);
        let all = std::iter::once(own).chain(wider_networks(network(call)));
        let claim = |(network, times): (String, u32)| CounterClaim {
            rule: LimitRule::Window {
                max: self.failures_max().saturating_mul(times),
                window: self.config.account.lockout,
            },
            on_success: OnSuccess::GiveBack,
            ..self.claim("login-network", &["network", &network])
        };
        all.map(claim).collect()
    }

    fn of_consecutive_failures(&self, account: &Account) -> CounterClaim {
        CounterClaim {
            rule: LimitRule::Row {
                free: self.failures_max(),
                pause_max: self.config.account.lockout,
            },
            ..self.claim("login-account", &["row", account.uid.as_str()])
        }
    }

    fn claim(&self, policy: &'static str, parts: &[&str]) -> CounterClaim {
        CounterClaim {
            key: self.count_key(parts),
            rule: LimitRule::Window {
                max: self.config.account.lockout_attempts,
                window: self.config.account.lockout,
            },
            policy,
            is_silent: false,
            on_success: OnSuccess::Clear,
        }
    }

    /// Maximum number of failures of a network or in a row: never below the limit per name, or that limit would have
    /// no effect.
    fn failures_max(&self) -> u32 {
        FAILURES_MAX.max(self.config.account.lockout_attempts)
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

/// The form in which a name is counted.
fn folded(name: &str) -> String {
    name.trim().to_lowercase()
}

/// Callers without a client network share one counter.
pub(in crate::account) fn network(call: &Call) -> &str {
    call.from.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests;
