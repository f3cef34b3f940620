//! Tests of hashes of every kind, and of a full pool.

use super::*;

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
}

/// Verifies on the current thread.
fn verdict(password: &str, hash: Option<&str>) -> Verification {
    let hash = hash.map(|text| PasswordHash::new(text.to_owned()));
    let forms = PasswordForms::of(secret(password));
    Hasher::default().verify_forms(&forms, hash.as_ref(), 0)
}

const NO: Verification = Verification {
    matches: false,
    outdated: false,
};

#[test]
fn a_password_matches_its_own_hash_only() {
    runtime().block_on(async {
        let pool = PasswordPool::start(1, Duration::from_secs(2)).unwrap();
        let hash = pool.hash(secret("correct horse")).await.unwrap();
        assert!(hash.as_str().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert_eq!(hash.as_str().len(), 97);
        let again = pool.hash(secret("correct horse")).await.unwrap();
        assert_ne!(hash, again, "each hash has its own salt");

        let right = pool
            .verify(secret("correct horse"), Some(hash.clone()), 0)
            .await;
        let expected = Verification {
            matches: true,
            outdated: false,
        };
        assert_eq!(right, Ok(expected));
        for wrong in ["correct horsf", "", "correct horse ", &"x".repeat(1025)] {
            let verdict = pool.verify(secret(wrong), Some(hash.clone()), 0).await;
            assert_eq!(verdict, Ok(NO), "{wrong}");
        }
        assert_eq!(pool.verify(secret("correct horse"), None, 0).await, Ok(NO));
    });
}

#[test]
fn passwords_of_1_to_1024_bytes_are_hashed_whole() {
    runtime().block_on(async {
        let pool = PasswordPool::start(1, Duration::from_secs(2)).unwrap();
        let longest = "p".repeat(PASSWORD_BYTES_MAX);
        let hash = pool.hash(secret(&longest)).await.unwrap();
        let cut = "p".repeat(PASSWORD_BYTES_MAX - 1);
        assert_eq!(pool.verify(secret(&cut), Some(hash), 0).await, Ok(NO));
        for bad in ["", &"p".repeat(PASSWORD_BYTES_MAX + 1)] {
            assert_eq!(pool.hash(secret(bad)).await, Err(HashError::Length));
        }
    });
}

#[test]
fn hashes_of_other_parameters_match_and_are_outdated() {
    // Hashes of the password "password", from test.c of the reference implementation of Argon2.
    for hash in [
        "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
        "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc",
        "$argon2id$v=19$m=65536,t=1,p=1$c29tZXNhbHQ$9qWtwbpyPd3vm1rB1GThgPzZ3/ydHL92zKL+15XZypg",
        "$argon2i$v=19$m=256,t=2,p=2$c29tZXNhbHQ$T/XOJ2mh1/TIpJHfCdQan76Q5esCFVoT5MAeIM1Oq2E",
        "$argon2i$m=256,t=2,p=1$c29tZXNhbHQ$/U3YPXYsSb3q9XxHvc0MLxur+GP960kN9j7emXX8zwY",
    ] {
        let expected = Verification {
            matches: true,
            outdated: true,
        };
        assert_eq!(verdict("password", Some(hash)), expected, "{hash}");
        assert_eq!(verdict("Password", Some(hash)), NO, "{hash}");
    }
}

#[test]
fn what_is_no_hash_within_bounds_never_matches() {
    for hash in [
        "",
        "$",
        "password",
        "$5$rounds=5000$salt$hash",
        "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ",
        "$argon2id$v=19$m=4194304,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
        "$argon2id$v=19$m=256,t=4294967295,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
        "$argon2id$v=19$m=19456,t=2,p=0$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
        "$argon2id$v=20$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
        "$argon2x$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
        "$argon2id$v=19$m=256,t=2,p=1$YQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
    ] {
        assert_eq!(verdict("password", Some(hash)), NO, "{hash}");
    }
}

#[test]
fn an_old_hash_matches_and_is_outdated() {
    let hash = "$5$rounds=1400$anotherlongsalts$Rx.j8H.h8HjEDGomFU8bDkXm3XIUnzyxf12oP84Bnq1";
    let right =
        "a very much longer text to encrypt.  This one even stretches over morethan one line.";
    let expected = Verification {
        matches: true,
        outdated: true,
    };
    assert_eq!(verdict(right, Some(hash)), expected);
    assert_eq!(verdict("password", Some(hash)), NO);
}

/// The cost of a failed check is counted, not timed: here in blocks.
#[test]
fn what_does_not_match_fills_as_many_blocks_whichever_hash_there_is() {
    let weak =
        "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
    let old = "$5$rounds=1400$anotherlongsalts$Rx.j8H.h8HjEDGomFU8bDkXm3XIUnzyxf12oP84Bnq1";
    for (hash, memory) in [
        (None, MEMORY_KIB),
        (Some(old), MEMORY_KIB),
        (Some(weak), MEMORY_KIB - 256),
    ] {
        let hash = hash.map(|text| PasswordHash::new(text.to_owned()));
        let mut hasher = Hasher::default();
        let judged = hasher.verify(&secret("wrong"), hash.as_ref(), 2000);
        assert_eq!(judged, NO);
        // The blocks stay with the hasher: as many as were filled in one pass.
        assert_eq!(hasher.blocks.len(), memory as usize, "{hash:?}");
    }
}

#[test]
fn foreign_hashes_within_our_own_cost_are_taken_over() {
    let output = "nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
    let crypt = "5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5";
    for (hash, expected) in [
        (
            format!("$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ${output}"),
            Ok(()),
        ),
        (
            format!("$argon2id$v=19$m=65536,t=1,p=1$c29tZXNhbHQ${output}"),
            Err(UnfitHash::TooCostly),
        ),
        (format!("$5$rounds=1000000$salt${crypt}"), Ok(())),
        (
            format!("$5$rounds=1000001$salt${crypt}"),
            Err(UnfitHash::TooManyRounds),
        ),
        (format!("$6$salt${crypt}"), Err(UnfitHash::Unknown)),
        ("$5$salt$short".to_owned(), Err(UnfitHash::Unknown)),
        (String::new(), Err(UnfitHash::Unknown)),
    ] {
        assert_eq!(
            check_foreign(&PasswordHash::new(hash.clone())),
            expected,
            "{hash}"
        );
    }
}

#[test]
fn memory_of_a_larger_hash_is_given_back() {
    let params = Params::new(2 * MEMORY_KIB, 1, 1, None).unwrap();
    let context = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut hasher = Hasher::default();
    let filled = hasher.fill(&context, &secret("password"), b"somesalt", &mut [0; 32]);
    assert!(filled.is_some());
    assert_eq!(hasher.blocks.capacity(), MEMORY_KIB as usize);
}

#[test]
fn a_full_queue_is_busy_and_nobody_works_for_who_has_gone() {
    // No thread serves this queue.
    let (jobs, waiting) = channel();
    let load = Arc::new(QueueLoad::new(1, Duration::ZERO));
    let pool = PasswordPool { jobs, load };
    runtime().block_on(async {
        let first = pool.hash(secret("first"));
        let second = pool.hash(secret("second"));
        tokio::select! {
            biased;
            _ = first => panic!("nobody answers"),
            refused = second => assert_eq!(refused, Err(HashError::Busy)),
        }
    });
    // The select has dropped the first caller: its job is skipped, and its place is free.
    let job: HashJob = waiting.recv().unwrap();
    let mut hasher = Hasher::default();
    job(&mut hasher);
    assert!(hasher.blocks.is_empty());
    assert!(pool.load.enter(1).is_some());

    drop(waiting);
    let ended = runtime().block_on(pool.verify(secret("third"), None, 0));
    assert_eq!(ended, Err(HashError::Busy));
}

#[test]
fn sixteen_at_once_are_all_hashed() {
    let pool = PasswordPool::start(1, Duration::from_secs(2)).unwrap();
    runtime().block_on(async {
        let (one, two) = (secret("one"), secret("two"));
        let hash = pool.hash(one.clone()).await.unwrap();
        let all: Vec<_> = (0..16)
            .map(|number| {
                let password = if number % 2 == 0 { &one } else { &two };
                Box::pin(pool.verify(password.clone(), Some(hash.clone()), 0))
            })
            .collect();
        let mut all = all;
        let mut verdicts = Vec::new();
        std::future::poll_fn(|context| {
            all.retain_mut(|it| match it.as_mut().poll(context) {
                std::task::Poll::Ready(verdict) => {
                    verdicts.push(verdict.unwrap().matches);
                    false
                }
                std::task::Poll::Pending => true,
            });
            if all.is_empty() {
                std::task::Poll::Ready(())
            } else {
                std::task::Poll::Pending
            }
        })
        .await;
        assert_eq!(verdicts.len(), 16);
        assert_eq!(verdicts.iter().filter(|matches| **matches).count(), 8);
    });
}

/// The same password typed on different keyboards.
#[test]
fn a_password_counts_as_typed_and_composed() {
    const COMPOSED: &str = "gr\u{fc}ne Stra\u{df}e 7";
    const TYPED: &str = "gru\u{308}ne Stra\u{df}e 7";
    let mut hasher = Hasher::default();
    // An older hash is of the text as typed; new hashes are of the composed form.
    let old = hasher.hash(&secret(TYPED)).unwrap();
    let new = runtime().block_on(async {
        let pool = PasswordPool::start(1, Duration::from_secs(2)).unwrap();
        pool.hash(secret(TYPED)).await.unwrap()
    });
    let yes = |outdated| Verification {
        matches: true,
        outdated,
    };
    for (typed, hash, expected) in [
        (COMPOSED, &new, yes(false)),
        (TYPED, &new, yes(false)),
        (TYPED, &old, yes(true)),
        (COMPOSED, &old, NO),
        ("grune Stra\u{df}e 7", &new, NO),
        ("gr\u{fc}ne Stra\u{df}e 7 ", &new, NO),
    ] {
        let found = verdict(typed, Some(hash.as_str()));
        assert_eq!(found, expected, "{typed}");
    }
    assert_eq!(verdict(TYPED, None), NO);
}
