use super::*;
use crate::model::clock::{ManualClock, Timestamp};

const POLICY: &str = "login";

fn key(number: u8) -> Digest {
    Digest([number; 32])
}

fn claim(number: u8) -> CounterClaim {
    CounterClaim {
        key: key(number),
        rule: LimitRule::Window {
            max: 2,
            window: Duration::from_secs(10),
        },
        policy: POLICY,
        is_silent: false,
        on_success: OnSuccess::Clear,
    }
}

fn silent(number: u8) -> CounterClaim {
    CounterClaim {
        is_silent: true,
        ..claim(number)
    }
}

fn given_back(number: u8) -> CounterClaim {
    CounterClaim {
        on_success: OnSuccess::GiveBack,
        ..claim(number)
    }
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)))
}

fn counters(clock: &Arc<ManualClock>, keys_max: usize) -> Counters {
    Counters::new(Arc::clone(clock) as Arc<dyn Clock>, keys_max)
}

/// Counts one hit.
fn hit(counters: &Counters, claims: &[CounterClaim]) {
    taken(counters, claims).0.failed();
}

/// Holds a place and returns the ticket and whether it was silently limited.
fn taken(counters: &Counters, claims: &[CounterClaim]) -> (Ticket, bool) {
    match counters.take(claims) {
        TakeOutcome::Taken {
            ticket,
            is_silently_limited,
        } => (ticket, is_silently_limited),
        other => panic!("{other:?}"),
    }
}

fn wait_s(counters: &Counters, claims: &[CounterClaim]) -> Option<u64> {
    counters.limit(claims).map(|limit| limit.wait.as_secs())
}

#[test]
fn all_is_counted_or_nothing() {
    let clock = clock();
    let counters = counters(&clock, 9);
    hit(&counters, &[claim(1)]);
    hit(&counters, &[claim(1)]);
    clock.advance(Duration::from_secs(3));
    let TakeOutcome::Over(limit) = counters.take(&[claim(2), claim(1)]) else {
        panic!("not over");
    };
    let expected = ReachedLimit {
        policy: POLICY,
        quota: 2,
        window: Duration::from_secs(10),
        wait: Duration::from_secs(7),
    };
    assert_eq!(limit, expected);
    hit(&counters, &[claim(2)]);
    assert_eq!(wait_s(&counters, &[claim(2)]), None, "counted once only");
    clock.advance(Duration::from_secs(7));
    assert_eq!(wait_s(&counters, &[claim(1)]), None);
}

#[test]
fn a_silent_counter_shadows_and_counts_no_further() {
    let clock = clock();
    let counters = counters(&clock, 9);
    for _ in 0..2 {
        assert!(!taken(&counters, &[claim(1), silent(9)]).1);
    }
    clock.advance(Duration::from_secs(5));
    for _ in 0..2 {
        assert!(taken(&counters, &[claim(2), silent(9)]).1);
    }
    assert!(matches!(
        counters.take(&[claim(2), silent(9)]),
        TakeOutcome::Over(_)
    ));
    clock.advance(Duration::from_secs(5));
    assert_eq!(wait_s(&counters, &[silent(9)]), None);
}

/// A correct password in flight is no failure: none of six parallel logins is refused because of the others.
#[tokio::test]
async fn who_finds_all_places_held_waits_for_them() {
    let counters = Arc::new(counters(&clock(), 9));
    let claims = [claim(1), given_back(2), silent(9)];
    let (first, _) = taken(&counters, &claims);
    let (second, _) = taken(&counters, &claims);
    assert!(matches!(counters.take(&claims), TakeOutcome::Busy));
    assert_eq!(wait_s(&counters, &claims), None);
    let waiting = tokio::spawn({
        let counters = Arc::clone(&counters);
        async move { counters.take_in_turn(&claims, Duration::from_mins(1)).await }
    });
    tokio::task::yield_now().await;
    assert!(first.succeeded());
    let TakeOutcome::Taken { ticket, .. } = waiting.await.unwrap() else {
        panic!("not taken");
    };
    // Failures are counted, and a waiter gets no place beyond the last.
    ticket.failed();
    second.failed();
    assert!(matches!(counters.take(&claims), TakeOutcome::Over(_)));
    let over = counters.take_in_turn(&claims, Duration::from_mins(1)).await;
    assert!(matches!(over, TakeOutcome::Over(_)));
}

#[tokio::test(start_paused = true)]
async fn a_wait_is_bounded_in_time_and_number() {
    let counters = Arc::new(counters(&clock(), 9));
    let claims = [claim(1)];
    let _held = [taken(&counters, &claims), taken(&counters, &claims)];
    let busy = counters.take_in_turn(&claims, Duration::from_secs(2)).await;
    assert!(matches!(busy, TakeOutcome::Busy));
    let places = counters.shared.waiting.try_acquire_many(256).unwrap();
    let wait_max = Duration::MAX;
    assert!(matches!(
        counters.take_in_turn(&claims, wait_max).await,
        TakeOutcome::Busy
    ));
    drop(places);
}

/// Otherwise the wait would reveal that two names belong to one account.
#[test]
fn a_silent_counter_holds_nobody_up_and_is_judged_at_the_end() {
    let counters = counters(&clock(), 9);
    let claims = |number| [claim(number), silent(9)];
    let tickets: Vec<_> = [1, 1, 2, 2]
        .map(|number| taken(&counters, &claims(number)))
        .into();
    assert!(
        tickets
            .iter()
            .all(|(_, is_silently_limited)| !is_silently_limited)
    );
    let mut tickets = tickets.into_iter().map(|(ticket, _)| ticket);
    let mut next = || tickets.next().unwrap();
    next().failed();
    next().failed();
    // By now the attempt would be silently limited: it does not succeed, and counts where that may be shown.
    assert!(!next().succeeded());
    assert_eq!(counters.count(&key(2)), 1);
    assert_eq!(counters.count(&key(9)), 2);
    next().give_back();
    assert!(taken(&counters, &claims(3)).1);
}

#[test]
fn a_row_waits_for_those_under_way_where_a_pause_would_follow() {
    let counters = counters(&clock(), 9);
    let (first, _) = taken(&counters, &[row(2)]);
    let (second, _) = taken(&counters, &[row(2)]);
    assert!(matches!(counters.take(&[row(2)]), TakeOutcome::Busy));
    first.failed();
    assert!(matches!(counters.take(&[row(2)]), TakeOutcome::Busy));
    second.failed();
    assert!(matches!(counters.take(&[row(2)]), TakeOutcome::Over(_)));
}

#[test]
fn a_success_clears_or_gives_back_as_each_counter_says() {
    let counters = counters(&clock(), 9);
    let claims = [claim(1), given_back(2)];
    let (first, _) = taken(&counters, &claims);
    first.failed();
    let (second, _) = taken(&counters, &claims);
    assert!(second.succeeded());
    hit(&counters, &claims);
    assert_eq!(wait_s(&counters, &[claim(1)]), None, "1 of 2 after a reset");
    assert_eq!(wait_s(&counters, &[claim(2)]), Some(10), "2 of 2");
}

#[test]
fn a_count_is_told_as_long_as_it_counts() {
    let clock = clock();
    let counters = counters(&clock, 9);
    for rule in [claim(1), row(3)] {
        assert_eq!(counters.count(&rule.key), 0);
        for number in 1..3 {
            let (ticket, _) = taken(&counters, &[rule]);
            assert_eq!(
                counters.count(&rule.key),
                number - 1,
                "not before it failed"
            );
            ticket.failed();
            assert_eq!(counters.count(&rule.key), number);
        }
        assert_eq!(counters.count(&rule.key), 2);
        clock.advance(Duration::from_hours(24));
        assert_eq!(counters.count(&rule.key), 0, "{rule:?}");
    }
}

#[test]
fn a_failure_counts_though_a_success_has_cleared_the_counter_meanwhile() {
    let counters = counters(&clock(), 9);
    let (failing, _) = taken(&counters, &[claim(1)]);
    let (succeeding, _) = taken(&counters, &[claim(1)]);
    assert!(succeeding.succeeded());
    failing.failed();
    hit(&counters, &[claim(1)]);
    assert_eq!(wait_s(&counters, &[claim(1)]), Some(10));
}

#[test]
fn what_is_given_back_was_not_counted_and_what_is_dropped_was() {
    let counters = counters(&clock(), 2);
    for _ in 0..5 {
        let (ticket, _) = taken(&counters, &[claim(1), claim(2)]);
        ticket.give_back();
    }
    hit(&counters, &[claim(3), claim(4)]);
    hit(&counters, &[claim(3)]);
    assert_eq!(wait_s(&counters, &[claim(3)]), Some(10));
    counters.forget(&[key(3)]);
    assert_eq!(wait_s(&counters, &[claim(3)]), None);
}

#[test]
fn a_full_table_refuses_new_keys_and_evicts_none() {
    let clock = clock();
    let counters = counters(&clock, 3);
    hit(&counters, &[claim(1), claim(2)]);
    assert!(matches!(
        counters.take(&[claim(3), claim(4)]),
        TakeOutcome::Full
    ));
    assert!(matches!(
        counters.take(&[claim(3), claim(4)]),
        TakeOutcome::Full
    ));
    hit(&counters, &[claim(3)]);
    assert!(matches!(counters.take(&[claim(4)]), TakeOutcome::Full));
    // Known keys continue to be counted.
    hit(&counters, &[claim(1), claim(2), claim(3)]);
    assert!(matches!(counters.take(&[claim(1)]), TakeOutcome::Over(_)));
    // Expired keys make room.
    clock.advance(Duration::from_secs(11));
    hit(&counters, &[claim(4), claim(5), claim(6)]);
}

#[test]
fn entries_of_cells_that_are_gone_do_not_pile_up() {
    let counters = counters(&clock(), 9);
    for _ in 0..10_000 {
        let (ticket, _) = taken(&counters, &[claim(1), claim(2)]);
        assert!(ticket.succeeded());
    }
    let state = counters.shared.lock();
    assert!(state.due.len() <= 1026, "{}", state.due.len());
    assert!(state.cells.is_empty() && state.changed.is_empty());
}

#[test]
fn of_two_hundred_at_once_as_many_as_allowed_are_taken() {
    let counters = counters(&clock(), 9);
    let claims = [CounterClaim {
        rule: LimitRule::Window {
            max: 5,
            window: Duration::from_secs(10),
        },
        ..claim(1)
    }];
    let mut count = 0;
    std::thread::scope(|scope| {
        let take = || {
            let is_taken = |_: &u32| matches!(counters.take(&claims), TakeOutcome::Taken { .. });
            (0..50).filter(is_taken)
        };
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(move || take().count()))
            .collect();
        for thread in threads {
            count += thread.join().unwrap();
        }
    });
    assert_eq!(count, 5);
}

fn row(free: u32) -> CounterClaim {
    CounterClaim {
        rule: LimitRule::Row {
            free,
            pause_max: Duration::from_mins(1),
        },
        ..claim(7)
    }
}

/// The counters of a gateway restarted `later` with what this one exported.
fn restarted(
    limits: &CounterSets,
    wall: Timestamp,
    later: Duration,
) -> (Arc<ManualClock>, CounterSets) {
    let changes = limits.changes();
    let clock = Arc::new(ManualClock::at(wall.plus(later)));
    let again = CounterSets::new(&(Arc::clone(&clock) as Arc<dyn Clock>));
    let kept = changes.into_iter();
    again.restore(kept.filter_map(|(key, kept)| Some((key, kept?))).collect());
    (clock, again)
}

#[test]
fn counters_survive_a_restart_with_their_age() {
    let clock = clock();
    clock.advance(Duration::from_secs(1000));
    let limits = CounterSets::new(&(Arc::clone(&clock) as Arc<dyn Clock>));
    for _ in 0..2 {
        hit(&limits.logins, &[claim(1), row(2)]);
        hit(&limits.mails, &[claim(2)]);
    }
    clock.advance(Duration::from_secs(1));
    let (later, again) = restarted(&limits, clock.now(), Duration::from_secs(3));
    assert_eq!(wait_s(&again.logins, &[claim(1)]), Some(6));
    assert_eq!(wait_s(&again.mails, &[claim(2)]), Some(6));
    assert_eq!(wait_s(&again.logins, &[claim(2)]), None, "of another set");
    assert_eq!(again.changes(), []);
    hit(&again.logins, &[row(2)]);
    assert_eq!(wait_s(&again.logins, &[row(2)]), Some(2), "after the third");
    later.advance(Duration::from_secs(6));
    assert_eq!(wait_s(&again.logins, &[claim(1)]), None);
    // Expired counters are exported as removed.
    later.advance(Duration::from_secs(1));
    let gone = again
        .changes()
        .into_iter()
        .filter(|(_, kept)| kept.is_none());
    assert_eq!(gone.count(), 2);
}

#[test]
fn a_wall_clock_that_jumps_lengthens_no_limit() {
    for (jump, wait) in [(Duration::ZERO, 10), (Duration::from_hours(87_600), 0)] {
        let clock = clock();
        let limits = CounterSets::new(&(Arc::clone(&clock) as Arc<dyn Clock>));
        hit(&limits.logins, &[claim(1)]);
        hit(&limits.logins, &[claim(1)]);
        // The wall clock of the restarted gateway is an hour behind, or ten years ahead.
        let wall = Timestamp::from_millis(clock.now().millis() - 3_600_000);
        let (_, again) = restarted(&limits, wall, jump);
        let found = wait_s(&again.logins, &[claim(1)]);
        assert_eq!(found.unwrap_or(0), wait, "{jump:?}");
    }
}

#[test]
fn changes_that_were_not_kept_come_again() {
    let clock = clock();
    let limits = CounterSets::new(&(Arc::clone(&clock) as Arc<dyn Clock>));
    hit(&limits.logins, &[claim(1)]);
    let first = limits.changes();
    assert_eq!(first.len(), 1);
    assert_eq!(limits.changes(), []);
    limits.not_kept(&first);
    assert_eq!(limits.changes(), first);
    let (again, _) = taken(&limits.logins, &[claim(1)]);
    assert!(again.succeeded());
    let (place, _) = &first[0];
    assert_eq!(limits.changes(), [(place.clone(), None)]);
}
