//! SMC Calling Convention 1.2 (Arm DEN0028): which service a call is for, and the calls about the convention.

use crate::psci::{Outcome, Psci, results};

/// The version that SMCCC_VERSION reports: major in bits 16 to 30, minor below.
pub const VERSION: u32 = 0x0001_0002;

/// What an unknown function identifier gets: -1, sign-extended.
pub const NOT_SUPPORTED: [u64; 4] = results(-1_i64 as u64);

const SMCCC_VERSION: u32 = 0x8000_0000;
const SMCCC_ARCH_FEATURES: u32 = 0x8000_0001;

/// Bits of a function identifier that name the owner of the service, and must be zero where reserved: all but
/// the calling convention (bit 30) and the function number.
const OWNER_MASK: u32 = 0xBFFF_0000;
/// The owner bits of fast calls to the standard secure service, which PSCI is part of.
const STANDARD_SECURE: u32 = 0x8400_0000;

/// Decides an `smc #0` of core `core` from the normal world: `function` is its `x0`, of which the lower half
/// counts, and `args` its `x1` to `x3`. Whatever is not known gets [`NOT_SUPPORTED`].
pub fn call(psci: &Psci, core: usize, function: u64, args: [u64; 3]) -> Outcome {
    match function as u32 {
        SMCCC_VERSION => Outcome::Return(results(VERSION.into())),
        SMCCC_ARCH_FEATURES => arch_features(args[0] as u32),
        id if id & OWNER_MASK == STANDARD_SECURE => psci.call(core, function, args),
        _ => Outcome::Return(NOT_SUPPORTED),
    }
}

/// Says which Arm architecture calls exist. The work-arounds for speculation do not: Kiln does not claim a
/// mitigation that it does not carry out.
fn arch_features(id: u32) -> Outcome {
    Outcome::Return(match id {
        SMCCC_VERSION | SMCCC_ARCH_FEATURES => Outcome::SUCCESS,
        _ => NOT_SUPPORTED,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::psci;
    use memory_map::{MIB, Region};

    fn psci() -> Psci {
        Psci::new(&[0, 1], 0, Region::new(0x4000_0000, 256 * MIB))
    }

    fn x0(function: u64, x1: u64) -> u64 {
        let Outcome::Return([x0, 0, 0, 0]) = call(&psci(), 0, function, [x1, 0, 0]) else {
            panic!("{function:#x} did not return")
        };
        x0
    }

    #[test]
    fn the_convention_reports_itself() {
        assert_eq!(x0(0x8000_0000, 0), 0x1_0002);
        assert_eq!(x0(0x8000_0001, 0x8000_0000), 0);
        assert_eq!(x0(0x8000_0001, 0x8000_0001), 0);
        assert_eq!(x0(0x8000_0001, 0xFFFF_FFFF_8000_0001), 0, "SMC32: the upper half does not count");
        for absent in [0x8000_8000_u64, 0x8000_7FFF, 0x8000_3FFF, 0x8000_0002, 0x8400_0000, 0] {
            assert_eq!(x0(0x8000_0001, absent), u64::MAX, "{absent:#x}");
        }
    }

    #[test]
    fn psci_is_reached_through_the_convention() {
        assert_eq!(x0(0x8400_0000, 0), u64::from(u32::from(psci::VERSION)));
        assert_eq!(x0(0xDEAD_BEEF_8400_0000, 0), u64::from(u32::from(psci::VERSION)));
    }

    #[test]
    fn unknown_functions_of_every_range_are_not_supported() {
        let mut tried = 0;
        for owner in 0..64_u64 {
            for kind in [0, 0x4000_0000, 0x8000_0000, 0xC000_0000_u64] {
                for number in [0x1F, 0x00FF, 0xFF00, 0xFF01, 0xFF03, 0xFFFF] {
                    assert_eq!(x0(kind | owner << 24 | number, 0), u64::MAX);
                    tried += 1;
                }
            }
        }
        assert_eq!(tried, 64 * 4 * 6);
        // Reserved bits, the yielding and the 64-bit variants of calls that do exist.
        for id in
            [0x8001_0000, 0x8401_0000, 0x8480_0000, 0x0400_0000, 0xC000_0000, 0xC000_0001, 0xC400_0000_u64]
        {
            assert_eq!(x0(id, 0), u64::MAX, "{id:#x}");
        }
    }
}
