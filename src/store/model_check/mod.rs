//! Random intents on a store whose disk fails now and then, compared after each with a model of what was acknowledged.
//!
//! Acknowledged changes are read, failed ones are not, and unknown ones are not read until they are settled: then they
//! are there completely or not at all.

mod fragile;
mod known;
mod perform;

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prop_oneof;
use proptest::strategy::{Just, Strategy};
use proptest::test_runner::{Config, TestRunner};

use crate::store::error::StoreError;
use crate::store::faulty::FaultyStore;
use crate::store::model_check::fragile::{FragileDisk, FragileMemory, FragileStore};
use crate::store::model_check::known::{ModelState, read};
use crate::store::model_check::perform::perform;
use crate::store::sled::SledStore;

const PEOPLE: u32 = 3;
const RESOURCES: u32 = 2;
const LEVELS: [&str; 2] = ["member", "manager"];
/// Number of acts in one case.
const INTENTS: std::ops::Range<usize> = 1..40;

/// A request to the store, or an event that affects it.
#[derive(Clone, Copy, Debug)]
enum ModelAction {
    Create(u32),
    Disable(u32),
    Enable(u32),
    Remove(u32),
    Login(u32),
    LogoutOne(u32),
    LogoutAll(u32),
    MakeKey(u32),
    RevokeKey(u32),
    Join(u32, u32, usize),
    Leave(u32, u32),
    /// The next write fails, at one of three steps.
    Break(usize),
    /// The disk accepts writes again.
    Heal,
    /// The process ends and starts again.
    Restart,
}

fn acts() -> impl Strategy<Value = Vec<ModelAction>> {
    let who = 0..PEOPLE;
    let act = prop_oneof![
        3 => who.clone().prop_map(ModelAction::Create),
        1 => who.clone().prop_map(ModelAction::Disable),
        1 => who.clone().prop_map(ModelAction::Enable),
        1 => who.clone().prop_map(ModelAction::Remove),
        3 => who.clone().prop_map(ModelAction::Login),
        2 => who.clone().prop_map(ModelAction::LogoutOne),
        1 => who.clone().prop_map(ModelAction::LogoutAll),
        2 => who.clone().prop_map(ModelAction::MakeKey),
        2 => who.clone().prop_map(ModelAction::RevokeKey),
        3 => (who.clone(), 0..RESOURCES, 0..LEVELS.len()).prop_map(|(u, r, l)| ModelAction::Join(u, r, l)),
        2 => (who, 0..RESOURCES).prop_map(|(u, r)| ModelAction::Leave(u, r)),
        3 => (0_usize..3).prop_map(ModelAction::Break),
        2 => Just(ModelAction::Heal),
        1 => Just(ModelAction::Restart),
    ];
    vec(act, INTENTS)
}

async fn check(mut it: impl FragileStore, acts: &[ModelAction]) {
    let mut known = ModelState::default();
    // The state the store may turn out to have after the answer of a write was lost.
    let mut other: Option<ModelState> = None;
    let mut broken = None;
    for (serial, act) in (0..).zip(acts) {
        match act {
            ModelAction::Break(step) => broken = Some(*step),
            ModelAction::Heal | ModelAction::Restart => {
                if matches!(act, ModelAction::Heal) {
                    it.heal().await;
                } else {
                    it.restart().await;
                }
                let found = read(&*it.store()).await;
                if let Some(other) = other.take()
                    && found == other
                {
                    known = other;
                }
                assert_eq!(found, known, "after {act:?}");
            }
            _ => {
                if let Some(step) = broken.take() {
                    it.break_at(step);
                }
                let outcome = perform(&*it.store(), &known, *act, serial).await;
                it.spare_reads();
                let mut after = known.clone();
                after.apply(*act, serial);
                match outcome {
                    Ok(()) => known = after,
                    Err(StoreError::Unknown(_)) => other = Some(after),
                    Err(StoreError::Engine { .. } | StoreError::Busy) => {}
                    Err(error) => panic!("{act:?}: {error}"),
                }
            }
        }
        assert_eq!(read(&*it.store()).await, known, "after {act:?}");
    }
}

fn run<F: FragileStore>(cases: u32, make: impl Fn() -> F) {
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let outcome = TestRunner::new(config).run(&acts(), |acts| {
        runtime.block_on(check(make(), &acts));
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn memory_shows_what_it_acknowledged_and_nothing_else() {
    run(300, || FragileMemory(Arc::new(FaultyStore::new()), 0));
}

#[test]
fn sled_shows_what_it_acknowledged_and_nothing_else() {
    run(40, || {
        let dir = tempfile::tempdir().unwrap();
        let store = SledStore::open(dir.path(), Arc::default()).unwrap();
        FragileDisk(Some(Arc::new(store)), dir)
    });
}
