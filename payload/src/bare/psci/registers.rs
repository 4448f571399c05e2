//! What a call leaves in the registers: its results, nothing of the secure world, and all else as it was.

use super::Tally;
use crate::bare::smc::{self, Registers, function::*};

/// A different value in every register.
fn pattern(function: u64) -> Registers {
    let mut registers = Registers { x: [0; 31], sp_moved: 0, q: [0; 32] };
    for (n, x) in registers.x.iter_mut().enumerate() {
        *x = 0x1111_2222_3333_0000 + n as u64;
    }
    for (n, q) in registers.q.iter_mut().enumerate() {
        *q = 0x4444_5555_6666_7777_8888_9999_AAAA_0000 + n as u128;
    }
    registers.x[0] = function;
    registers
}

/// Returns a bit for each register above `x3` that a call changed.
fn changed(before: &Registers, after: &Registers) -> (u64, u64) {
    let bit = |(n, differs): (usize, bool)| u64::from(differs) << n;
    let x = before.x.iter().zip(&after.x).map(|(one, other)| one != other);
    let q = before.q.iter().zip(&after.q).map(|(one, other)| one != other);
    (x.enumerate().skip(4).map(bit).sum(), q.enumerate().map(bit).sum())
}

pub(super) fn check(tally: &mut Tally) {
    for (results, kept, vectors, stack, function) in [
        ("version-results-clean", "version-keeps-x", "version-keeps-q", "version-keeps-sp", PSCI_VERSION),
        ("error-results-clean", "error-keeps-x", "error-keeps-q", "error-keeps-sp", CPU_ON_64),
        ("unknown-results-clean", "unknown-keeps-x", "unknown-keeps-q", "unknown-keeps-sp", 0x8400_0FFF),
        ("smccc-results-clean", "smccc-keeps-x", "smccc-keeps-q", "smccc-keeps-sp", SMCCC_VERSION),
    ] {
        let before = pattern(function);
        let after = smc::watched(&before);
        let (x, q) = changed(&before, &after);
        tally.case(results, after.x[1] | after.x[2] | after.x[3], 0);
        tally.case(kept, x, 0);
        tally.case(vectors, q, 0);
        tally.case(stack, after.sp_moved, 0);
    }
}
