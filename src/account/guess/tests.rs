//! Password guesses, counted on a manual clock.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::account::halt::{Halt, Refuses};
use crate::account::login::SessionCarrier;
use crate::account::test_kit::{Kit, OTHER, PASSWORD, config, refusal, wanted};
use crate::crypto::password::PasswordPool;
use crate::limit::CounterSets;
use crate::model::clock::Clock;

fn from(network: &str) -> Call {
    Call {
        from: Some(network.to_owned()),
        ..Call::default()
    }
}

const HOME: &str = "192.0.2.1";
const AWAY: &str = "198.51.100.7";

/// Returns `ok`, `refused`, or the seconds to wait that a limit asks for.
async fn login(kit: &Kit, network: &str, name: &str, password: &str) -> String {
    let password = Secret::new(password.to_owned());
    match kit
        .accounts
        .login(&from(network), name, password, SessionCarrier::Program)
        .await
    {
        Ok(_) => "ok".to_owned(),
        Err(Halt::Refused(refusal)) => match refusal.limit() {
            None => "refused".to_owned(),
            Some(limit) => limit.wait.as_secs().to_string(),
        },
        Err(Halt::Failed(error)) => panic!("{error:?}"),
    }
}

async fn fail(kit: &Kit, network: &str, name: &str, times: usize) {
    for time in 0..times {
        assert_eq!(login(kit, network, name, OTHER).await, "refused", "{time}");
    }
}

#[tokio::test]
async fn a_name_has_five_and_slides_on() {
    let kit = Kit::new();
    kit.person("anna").await;
    for name in ["anna", "nobody", "nobody@example.org", "\u{0}", ""] {
        fail(&kit, HOME, name, 2).await;
        kit.clock.advance(Duration::from_secs(100));
        fail(&kit, HOME, name, 3).await;
        kit.clock.advance(Duration::from_secs(100));
        assert_eq!(login(&kit, HOME, name, PASSWORD).await, "400", "{name}");
        kit.clock.advance(Duration::from_secs(401));
        fail(&kit, HOME, name, 2).await;
        assert_eq!(login(&kit, HOME, name, OTHER).await, "99", "{name}");
        kit.clock.advance(Duration::from_secs(1000));
    }
    assert_eq!(login(&kit, HOME, "anna", PASSWORD).await, "ok");
}

/// CVE-2026-47203: each spelling had its own counter.
#[tokio::test]
async fn every_spelling_of_a_name_has_the_same_counter() {
    let kit = Kit::new();
    kit.person("anna").await;
    for name in ["anna", "ANNA", "Anna", "annA", "aNNa"] {
        fail(&kit, HOME, name, 1).await;
    }
    for name in ["anna", "Anna", "anna ", "\tANNA"] {
        assert_eq!(login(&kit, HOME, name, PASSWORD).await, "600", "{name}");
    }
    let address = "anna@example.org";
    for name in [address, "Anna@Example.Org"] {
        assert_eq!(login(&kit, HOME, name, PASSWORD).await, "refused");
    }
}

#[tokio::test]
async fn a_name_and_its_address_share_five_guesses_and_do_not_show_it() {
    let kit = Kit::new();
    kit.person("anna").await;
    fail(&kit, HOME, "anna", 5).await;
    // The address behaves like that of another account: wrong five times, then limited by its own count.
    for _ in 0..5 {
        let right = login(&kit, HOME, "anna@example.org", PASSWORD).await;
        assert_eq!(right, "refused");
    }
    let limited = login(&kit, HOME, "anna@example.org", PASSWORD).await;
    assert_eq!(limited, "600");
    // From another network the account is not locked out.
    assert_eq!(login(&kit, AWAY, "anna@example.org", PASSWORD).await, "ok");
    assert_eq!(login(&kit, AWAY, "anna", PASSWORD).await, "ok");
}

#[tokio::test]
async fn a_success_resets_its_name_and_its_account_there_and_nothing_else() {
    let kit = Kit::new();
    kit.person("anna").await;
    for _ in 0..3 {
        fail(&kit, HOME, "anna", 4).await;
        assert_eq!(login(&kit, HOME, "anna", PASSWORD).await, "ok");
    }
    fail(&kit, AWAY, "anna", 5).await;
    assert_eq!(login(&kit, HOME, "anna", PASSWORD).await, "ok");
    assert_eq!(login(&kit, AWAY, "anna", PASSWORD).await, "600");
    // A success by the address clears the counters of the address and the account, but not that of the name.
    let kit = Kit::new();
    kit.person("anna").await;
    fail(&kit, HOME, "anna", 4).await;
    assert_eq!(login(&kit, HOME, "anna@example.org", PASSWORD).await, "ok");
    fail(&kit, HOME, "anna", 1).await;
    assert_eq!(login(&kit, HOME, "anna", PASSWORD).await, "600");
}

#[tokio::test]
async fn a_network_has_a_hundred_failures_whatever_succeeds() {
    let kit = Kit::new();
    kit.person("anna").await;
    for number in 0..100 {
        fail(&kit, HOME, &format!("name{number}"), 1).await;
        if number % 10 == 0 {
            assert_eq!(login(&kit, HOME, "anna", PASSWORD).await, "ok");
        }
    }
    assert_eq!(login(&kit, HOME, "anna", PASSWORD).await, "600");
    assert_eq!(login(&kit, HOME, "nobody", PASSWORD).await, "600");
    assert_eq!(login(&kit, AWAY, "anna", PASSWORD).await, "ok");
}

#[tokio::test]
async fn an_account_backs_off_after_a_hundred_in_a_row_but_not_at_home() {
    let kit = Kit::new();
    kit.person("anna").await;
    assert_eq!(login(&kit, HOME, "anna", PASSWORD).await, "ok");
    for network in 0..20 {
        fail(&kit, &format!("203.0.113.{network}"), "anna", 5).await;
    }
    assert_eq!(login(&kit, AWAY, "anna", PASSWORD).await, "refused");
    assert_eq!(login(&kit, HOME, "anna", OTHER).await, "refused");
    assert_eq!(login(&kit, HOME, "anna", PASSWORD).await, "ok");
    // The success ended the run of failures.
    assert_eq!(login(&kit, AWAY, "anna", PASSWORD).await, "ok");

    for network in 0..20 {
        fail(&kit, &format!("2001:db8:{network}::/64"), "anna", 5).await;
    }
    let elsewhere = "203.0.113.99";
    assert_eq!(login(&kit, elsewhere, "anna", PASSWORD).await, "refused");
    kit.clock.advance(Duration::from_secs(1));
    assert_eq!(login(&kit, elsewhere, "anna", PASSWORD).await, "ok");
}

#[tokio::test]
async fn all_places_count_together_and_a_login_is_told() {
    let kit = Kit::new();
    let anna = kit.person("anna").await;
    let session = kit.login("anna", PASSWORD).await.unwrap().session.id;
    let change = async |old: &str, new: &str| {
        let old = Secret::new(old.to_owned());
        let who = (&anna.uid, &session);
        let call = from(HOME);
        let changed = kit.accounts.change_password(&call, who, old, wanted(new));
        refusal(changed.await).map_or("ok", |refusal| refusal.outcome())
    };
    for _ in 0..2 {
        fail(&kit, HOME, "anna", 1).await;
        assert_eq!(change(OTHER, "Third-Password-7").await, "password_wrong");
    }
    // A new password that breaks a rule is not a guess.
    for _ in 0..9 {
        assert_eq!(change(OTHER, "short").await, "password_refused");
    }
    fail(&kit, HOME, "anna@example.org", 1).await;
    assert_eq!(change(PASSWORD, OTHER).await, "login_limited");
    assert_eq!(login(&kit, HOME, "anna", PASSWORD).await, "refused");
    kit.clock.advance(Duration::from_secs(601));
    assert_eq!(change(PASSWORD, OTHER).await, "ok");
}

#[tokio::test]
async fn a_new_password_by_mail_lets_its_owner_in_at_once() {
    let kit = Kit::new();
    let anna = kit.person("anna").await;
    fail(&kit, HOME, "anna", 5).await;
    let call = from(HOME);
    kit.accounts.request_reset(&call, "anna").await.unwrap();
    let token = kit.mailbox.token();
    let uid = Some(anna.uid.as_str());
    let set = kit
        .accounts
        .set_password_by_token(&call, &token, (uid, None), wanted(OTHER));
    assert!(set.await.is_ok());
    assert_eq!(login(&kit, HOME, "anna", OTHER).await, "ok");
}

#[tokio::test]
async fn of_two_hundred_at_once_five_are_looked_at() {
    let kit = Arc::new(Kit::new());
    kit.person("anna").await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..200 {
        let kit = Arc::clone(&kit);
        tasks.spawn(async move {
            let password = Secret::new(format!("wrong {number}"));
            let call = from(HOME);
            match kit
                .accounts
                .login(&call, "anna", password, SessionCarrier::Program)
                .await
            {
                Err(Halt::Refused(refusal)) => refusal.limit().is_none(),
                other => panic!("{other:?}"),
            }
        });
    }
    let looked_at = tasks.join_all().await;
    assert_eq!(looked_at.iter().filter(|it| **it).count(), 5);
}

/// A browser, a phone and some scripts start at once: a guess in flight is not a failed one.
#[tokio::test]
async fn right_passwords_at_once_all_get_in_and_wrong_ones_stay_five() {
    let kit = Arc::new(Kit::new());
    kit.person("anna").await;
    let at_once = async |passwords: Vec<(&'static str, &'static str)>| {
        let mut tasks = tokio::task::JoinSet::new();
        for (name, password) in passwords {
            let kit = Arc::clone(&kit);
            tasks.spawn(async move { login(&kit, HOME, name, password).await });
        }
        tasks.join_all().await
    };
    let both = ["anna", "anna@example.org"];
    let right = (0..16).map(|number| (both[number % 2], PASSWORD));
    let outcomes = at_once(right.collect()).await;
    assert!(
        outcomes.iter().all(|outcome| outcome == "ok"),
        "{outcomes:?}"
    );
    let wrong = (0..40).map(|number| (both[number % 2], OTHER));
    let outcomes = at_once(wrong.collect()).await;
    let refused = outcomes.iter().filter(|outcome| *outcome == "refused");
    assert_eq!(refused.count(), 10, "five for each name that was typed");
    // Only five of those were compared with the account's hash.
    kit.clock.advance(Duration::from_secs(601));
    let calls: Vec<_> = (0..5).map(|_| ("anna", OTHER)).collect();
    at_once(calls).await;
    assert_eq!(
        login(&kit, HOME, "anna@example.org", PASSWORD).await,
        "refused"
    );
}

/// Phone keyboards append a space to completed words.
#[tokio::test]
async fn white_space_around_a_name_is_cut_and_a_password_is_left_as_it_is() {
    let kit = Kit::new();
    kit.person("anna").await;
    for name in ["anna ", " anna", "\tAnna@example.org\n", "anna\u{a0}"] {
        assert_eq!(login(&kit, HOME, name, PASSWORD).await, "ok", "{name:?}");
    }
    let spaced = format!("{PASSWORD} ");
    assert_eq!(login(&kit, HOME, "anna", &spaced).await, "refused");
    assert_eq!(login(&kit, HOME, "an na", PASSWORD).await, "refused");
}

#[tokio::test]
async fn a_full_hashing_pool_is_no_failure() {
    let mut kit = Kit::new();
    kit.person("anna").await;
    // One thread and no waiting: most of 300 concurrent calls find it busy.
    Arc::make_mut(&mut kit.accounts.services).passwords =
        Arc::new(PasswordPool::start(1, Duration::ZERO).unwrap());
    let calls: Vec<_> = (0..300).map(|number| from(&number.to_string())).collect();
    let password = || Secret::new(OTHER.to_owned());
    let tries = calls.iter().map(|call| async {
        let login = kit
            .accounts
            .login(call, "anna", password(), SessionCarrier::Program);
        login.await.is_err()
    });
    let mut busy = 0;
    let mut tries: Vec<_> = tries.map(Box::pin).collect();
    std::future::poll_fn(|context| {
        tries.retain_mut(|it| match it.as_mut().poll(context) {
            std::task::Poll::Ready(was_busy) => {
                busy += u32::from(was_busy);
                false
            }
            std::task::Poll::Pending => true,
        });
        if tries.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    assert!(150 < busy, "{busy}");
    drop(tries);
    Arc::make_mut(&mut kit.accounts.services).passwords =
        Arc::new(PasswordPool::start(1, Duration::from_secs(2)).unwrap());
    // Had they been counted, a hundred failures in a row would block this login.
    assert_eq!(login(&kit, AWAY, "anna", PASSWORD).await, "ok");
}

#[tokio::test]
async fn without_room_to_count_nothing_is_looked_at() {
    let mut kit = Kit::new();
    kit.person("anna").await;
    let clock = Arc::clone(&kit.clock) as Arc<dyn Clock>;
    Arc::make_mut(&mut kit.accounts.services).counters =
        Arc::new(CounterSets::with_room(&clock, 4));
    // Takes all four counters: network, name, account and row.
    fail(&kit, HOME, "anna", 1).await;
    for name in ["anna", "nobody"] {
        let password = Secret::new(PASSWORD.to_owned());
        let outcome = kit
            .accounts
            .login(&from(AWAY), name, password, SessionCarrier::Program)
            .await;
        assert!(
            matches!(outcome, Err(Halt::Failed(AccountError::Uncounted))),
            "{name}"
        );
    }
    fail(&kit, HOME, "anna", 4).await;
    assert_eq!(login(&kit, HOME, "anna", PASSWORD).await, "600");
    kit.clock.advance(Duration::from_secs(3001));
    assert_eq!(login(&kit, AWAY, "anna", PASSWORD).await, "ok");
}

#[tokio::test]
async fn the_quotas_are_the_operators() {
    let mut config = config();
    config.account.lockout_attempts = 150;
    config.account.lockout = Duration::from_secs(7);
    let kit = Kit::with(config);
    fail(&kit, HOME, "nobody", 150).await;
    let wait = login(&kit, HOME, "nobody", OTHER).await;
    assert_eq!(wait, "7");
}
