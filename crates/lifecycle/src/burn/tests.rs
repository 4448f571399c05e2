//! Plans with a mistake in them, each of which the check on a model must catch before anything burns.

use super::*;
use crate::{Die, OtpImage};
use fail_code::FailCode;

const DIE: Die = Die {
    chip_id: *b"chip id of a die",
    silicon_secret: [0x51; 32],
    root_digest: [0xA2; 32],
    provisioning_key: [0x33; 32],
    device_seed: [0xC4; 32],
    closing_measurement: [0x65; 32],
    floors: [0; 6],
    owner_generation: 0,
};

/// Why a plan for a die in this state is refused.
fn refused(from: Lifecycle, goal: Lifecycle, make: impl FnOnce(&mut Plan)) -> Option<Error> {
    let mut plan = Plan::new(goal);
    make(&mut plan);
    plan.check(&OtpImage::for_die(from, &DIE)).err()
}

fn pre_provision(make: impl FnOnce(&mut Plan)) -> Option<Error> {
    refused(Lifecycle::Blank, Lifecycle::Secured, make)
}

fn close(make: impl FnOnce(&mut Plan)) -> Option<Error> {
    refused(Lifecycle::Secured, Lifecycle::Production, make)
}

fn debug_lock(plan: &mut Plan) {
    plan.flag(Row::DebugLock, 0).lock(Row::DebugLock);
}

fn owner(plan: &mut Plan) {
    plan.root(Row::OwnerRoot0, &DIE.root_digest).flag(Row::BootPolicy, 0);
}

fn key(plan: &mut Plan) {
    plan.record(Row::ProvisioningKey, &DIE.provisioning_key).lock(Row::ProvisioningKey);
}

fn secured(plan: &mut Plan) {
    plan.lifecycle(Lifecycle::Secured);
}

fn measurement(plan: &mut Plan) {
    plan.record(Row::ClosingMeasurement, &DIE.closing_measurement).lock(Row::ClosingMeasurement);
}

fn seed(plan: &mut Plan) {
    plan.record(Row::DeviceSeed, &DIE.device_seed).lock(Row::DeviceSeed);
}

fn production(plan: &mut Plan) {
    plan.lifecycle(Lifecycle::Production);
}

fn in_order(steps: &[fn(&mut Plan)]) -> impl FnOnce(&mut Plan) {
    move |plan| steps.iter().for_each(|step| step(plan))
}

#[test]
fn the_right_orders_are_taken() {
    assert_eq!(pre_provision(in_order(&[debug_lock, owner, key, secured])), None);
    assert_eq!(close(in_order(&[measurement, seed, production])), None);
}

#[test]
fn a_provisioning_key_before_the_debug_lock_is_refused() {
    let first = Row::ProvisioningKey.first_word();
    for steps in [[key, debug_lock, owner, secured], [owner, key, debug_lock, secured]] {
        let error = pre_provision(in_order(&steps));
        assert_eq!(error, Some(Error::PlanUnsafe(first)));
        assert_eq!(error.map(|error| error.code()), Some(FailCode::FusePlan));
    }
    // Two of three copies are a lock, one is none.
    let torn = |plan: &mut Plan| {
        plan.push(Row::DebugLock, Row::DebugLock.first_word(), &[0x31E8_E7A1]);
    };
    assert_eq!(pre_provision(in_order(&[torn, key, owner, secured])), Some(Error::PlanUnsafe(first)));
}

#[test]
fn a_die_that_would_boot_before_it_has_what_it_needs_is_refused() {
    // The second copy of the lifecycle makes it count.
    let counts = Error::PlanUnsafe(Row::Lifecycle.first_word() + 2);
    assert_eq!(pre_provision(in_order(&[debug_lock, owner, secured, key])), Some(counts));
    assert_eq!(pre_provision(in_order(&[debug_lock, secured, owner, key])), Some(counts));
    assert_eq!(pre_provision(in_order(&[secured, debug_lock, owner, key])), Some(counts));
    assert_eq!(pre_provision(in_order(&[debug_lock, key, secured])), Some(counts));
}

#[test]
fn fuses_before_the_seed_and_a_seed_before_the_measurement_are_refused() {
    let unsafe_at = |row: Row| Some(Error::PlanUnsafe(row.first_word()));
    assert_eq!(close(in_order(&[seed, measurement, production])), unsafe_at(Row::DeviceSeed));
    assert_eq!(close(in_order(&[seed, production])), unsafe_at(Row::DeviceSeed));
    assert!(matches!(
        close(in_order(&[measurement, production, seed])),
        Some(Error::PlanUnsafe(word)) if Row::Lifecycle.words().contains(&word)
    ));
    assert!(matches!(
        close(in_order(&[production, measurement, seed])),
        Some(Error::PlanUnsafe(word)) if Row::Lifecycle.words().contains(&word)
    ));
    // A torn measurement is none.
    let torn = |plan: &mut Plan| {
        plan.push(Row::ClosingMeasurement, Row::ClosingMeasurement.first_word(), &[0xF0F0]);
    };
    assert_eq!(close(in_order(&[torn, seed, production])), unsafe_at(Row::DeviceSeed));
}

#[test]
fn a_closing_plan_that_leaves_the_way_from_secured_to_production_is_refused_at_its_first_word() {
    let returned = |plan: &mut Plan| {
        plan.lifecycle(Lifecycle::Returned);
    };
    let left = Error::PlanUnsafe(Row::Lifecycle.first_word());
    assert_eq!(close(in_order(&[measurement, seed, returned])), Some(left));
}

#[test]
fn a_plan_that_does_not_reach_its_goal_is_refused() {
    let error = close(in_order(&[measurement, seed]));
    assert_eq!(error, Some(Error::PlanIncomplete(Some(Lifecycle::Secured))));
    assert_eq!(error.map(|error| error.code()), Some(FailCode::FusePlan));
    assert_eq!(pre_provision(debug_lock), Some(Error::PlanIncomplete(Some(Lifecycle::Blank))));
    let elsewhere =
        refused(Lifecycle::Blank, Lifecycle::Development, in_order(&[debug_lock, owner, key, secured]));
    assert_eq!(elsewhere, Some(Error::PlanIncomplete(Some(Lifecycle::Secured))));
}

#[test]
fn a_row_that_is_locked_before_it_is_whole_is_refused() {
    let early = |plan: &mut Plan| {
        plan.lock(Row::DeviceSeed);
    };
    let error = close(in_order(&[measurement, early, seed, production]));
    assert!(matches!(error, Some(Error::BurnFailed(hal::BurnError::Locked { .. }))), "{error:?}");
}

#[test]
fn a_plan_with_more_words_than_it_holds_is_refused() {
    // The lifecycle burns last, and is what is missing then: the die has bits of it that the plan lacks.
    let long = |plan: &mut Plan| {
        for _ in 0..20 {
            plan.record(Row::DeviceSeed, &DIE.device_seed);
        }
    };
    assert_eq!(close(in_order(&[measurement, long, production])), Some(Error::RowForeign(Row::Lifecycle)));
}
