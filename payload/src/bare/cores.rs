//! The other cores: how they arrive, and what they are told to do. One at a time runs, on one stack.

use super::entry::secondary_address;
use super::smc::{self, function};
use super::timer::within;
use core::sync::atomic::{AtomicU64, Ordering};

/// Longest time that a core may take to start or to stop.
const PATIENCE_MS: u64 = 2000;
/// Calls of each core in [`call_together`].
const CALLS: u64 = 5000;

/// AFFINITY_INFO: the core is off.
pub(crate) const OFF: u64 = 1;

/// What a core found when it started.
#[derive(Clone, Copy)]
pub(crate) struct Arrival {
    /// `x0`.
    pub(crate) context_id: u64,
    /// `x1` to `x3`, or-ed together.
    pub(crate) leftovers: u64,
    /// `SCTLR_EL2`.
    pub(crate) sctlr: u64,
    /// `DAIF`.
    pub(crate) daif: u64,
    /// `CurrentEL`.
    pub(crate) current_el: u64,
}

const WAIT: u64 = 0;
const TURN_OFF: u64 = 1;
const CALL: u64 = 2;

static ORDER: AtomicU64 = AtomicU64::new(WAIT);
static ARRIVED: AtomicU64 = AtomicU64::new(0);
static ARRIVAL: [AtomicU64; 5] = [const { AtomicU64::new(0) }; 5];
static WRONG_ANSWERS: AtomicU64 = AtomicU64::new(0);

/// Notes what a core found. Runs on that core.
pub(super) extern "C" fn arrived(context_id: u64, leftovers: u64, sctlr: u64, daif: u64, current_el: u64) {
    for (slot, value) in ARRIVAL.iter().zip([context_id, leftovers, sctlr, daif, current_el]) {
        slot.store(value, Ordering::Relaxed);
    }
    ARRIVED.store(1, Ordering::Release);
}

/// Follows orders. Runs on a core that has arrived.
pub(super) extern "C" fn secondary_main() -> ! {
    loop {
        match ORDER.load(Ordering::Acquire) {
            TURN_OFF => {
                ORDER.store(WAIT, Ordering::Release);
                smc::call(function::CPU_OFF, [0; 3]);
                // Still here: it stays on, and AFFINITY_INFO gives it away.
            }
            CALL => {
                WRONG_ANSWERS.fetch_add(call_many(), Ordering::Relaxed);
                ORDER.store(WAIT, Ordering::Release);
            }
            _ => core::hint::spin_loop(),
        }
    }
}

fn call_many() -> u64 {
    let wrong = |_: &u64| smc::call(function::AFFINITY_INFO_64, [0; 3]) != [0; 4];
    (0..CALLS).filter(wrong).count() as u64
}

/// Turns a core on at the payload's own entry, and returns the result of the call.
pub(crate) fn turn_on(function: u64, affinity: u64, context_id: u64) -> u64 {
    ARRIVED.store(0, Ordering::Release);
    smc::x0(function, [affinity, secondary_address(), context_id])
}

/// Waits for the core that was turned on.
pub(crate) fn wait_for_arrival() -> Option<Arrival> {
    if !within(PATIENCE_MS, || ARRIVED.load(Ordering::Acquire) == 1) {
        return None;
    }
    let [context_id, leftovers, sctlr, daif, current_el] =
        [0, 1, 2, 3, 4].map(|index: usize| ARRIVAL[index].load(Ordering::Relaxed));
    Some(Arrival { context_id, leftovers, sctlr, daif, current_el })
}

/// Tells the core that runs to turn itself off, waits until it is, and returns its last AFFINITY_INFO.
pub(crate) fn turn_off(affinity: u64) -> u64 {
    let info = || smc::x0(function::AFFINITY_INFO_64, [affinity, 0, 0]);
    ORDER.store(TURN_OFF, Ordering::Release);
    within(PATIENCE_MS, || info() == OFF);
    info()
}

/// Has this core and the one that runs call the monitor at the same time, and returns how many answers were
/// wrong; `None` if the other core never finished.
pub(crate) fn call_together() -> Option<u64> {
    WRONG_ANSWERS.store(0, Ordering::Relaxed);
    ORDER.store(CALL, Ordering::Release);
    let own = call_many();
    within(PATIENCE_MS, || ORDER.load(Ordering::Acquire) == WAIT)
        .then(|| own + WRONG_ANSWERS.load(Ordering::Relaxed))
}

/// Turns each of the cores on and off again, and returns how many came.
pub(crate) fn visit(affinities: &[u64]) -> usize {
    let came = |affinity: &&u64| {
        turn_on(function::CPU_ON_64, **affinity, 0) == 0
            && wait_for_arrival().is_some()
            && turn_off(**affinity) == OFF
    };
    affinities.iter().filter(came).count()
}
