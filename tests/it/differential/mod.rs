//! The gateway beside a proxy that consists of Pingora alone: the same requests and the same upstream bytes through
//! both, and the same outcome.
//!
//! Each case runs once through [`reference`] and once through the real binary, each in front of a [`scripted`] upstream
//! of its own. Compared are the answers ([`observe`] lists what is left out, and why), the requests as the upstream
//! received them, and what became of the connections on both sides. Where the gateway deliberately differs,
//! [`differences`] says how, exactly. Independently of the reference, [`model`] reads the upstream's bytes strictly: no
//! incomplete answer may appear complete, no connection may be used again unless the answer on it has ended, and each
//! further request must get its own answer.

mod caller;
mod cases;
mod differences;
mod fuzzed;
mod generated;
mod judge;
mod model;
mod observe;
mod reference;
mod rig;
mod script;
mod scripted;
mod wire;

use crate::differential::cases::cases;
use crate::differential::fuzzed::{case_of, judge_fuzzed};
use crate::differential::generated::generated;
use crate::differential::judge::{ATTEMPTS, Judge, check, judge_by_rules, judge_stated};
use crate::differential::rig::Rig;
use crate::differential::script::Case;
use crate::harness::epoch_s;

/// The seed of the generated cases that are the same in each run.
const SEED: u64 = 20_261_130;
/// Number of cases in one batch of the fuzz target, and for how many batches one gateway has slots.
const BATCH: usize = 48;
const BATCHES: usize = 20;

fn assert_right(rig: &Rig, cases: &[Case], judge: Judge) {
    let wrong = check(rig, cases, judge);
    let reports: String = wrong.into_iter().map(|(_, report)| report).collect();
    assert!(reports.is_empty(), "{reports}");
}

#[test]
fn the_gateway_does_what_pingora_does_except_where_stated() {
    let cases = cases();
    let rig = Rig::start(ATTEMPTS * cases.len());
    assert_right(&rig, &cases, judge_stated);
}

#[test]
fn generated_answers_have_the_same_outcome() {
    let cases = [generated(SEED, 250), generated(epoch_s(), 100)].concat();
    let rig = Rig::start(ATTEMPTS * cases.len());
    assert_right(&rig, &cases, judge_by_rules);
}

/// `scripts/fuzz exchange` runs it for longer.
#[test]
fn fuzz_exchange() {
    let mut rig = None;
    doorward_fuzz::check_in_batches("exchange", BATCH, |inputs| {
        let cases: Vec<_> = inputs.iter().map(|input| case_of(input)).collect();
        let has_slots = |rig: &Rig| rig.has_slots(ATTEMPTS * cases.len());
        let rig = match rig.take().filter(has_slots) {
            Some(kept) => rig.insert(kept),
            None => rig.insert(Rig::start(ATTEMPTS * BATCH * BATCHES)),
        };
        let wrong = check(rig, &cases, judge_fuzzed);
        let index = |case: &Case| cases.iter().position(|it| it.name == case.name).unwrap();
        wrong
            .iter()
            .map(|(case, report)| (index(case), report.clone()))
            .collect()
    });
}
