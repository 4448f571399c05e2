//! Calls as a normal world makes them: by number, with raw arguments.

use super::*;
use memory_map::MIB;
use std::{thread, vec::Vec};

const RAM: Region = Region::new(0x4000_0000, 512 * MIB);
const ENTRY: u64 = 0x4020_0000;

const PSCI_VERSION: u64 = 0x8400_0000;
const CPU_SUSPEND_32: u64 = 0x8400_0001;
const CPU_SUSPEND_64: u64 = 0xC400_0001;
const CPU_OFF: u64 = 0x8400_0002;
const CPU_ON_32: u64 = 0x8400_0003;
const CPU_ON_64: u64 = 0xC400_0003;
const AFFINITY_INFO_32: u64 = 0x8400_0004;
const AFFINITY_INFO_64: u64 = 0xC400_0004;
const MIGRATE_INFO_TYPE: u64 = 0x8400_0006;
const SYSTEM_OFF: u64 = 0x8400_0008;
const SYSTEM_RESET: u64 = 0x8400_0009;
const PSCI_FEATURES: u64 = 0x8400_000A;
const SYSTEM_RESET2_32: u64 = 0x8400_0012;
const SYSTEM_RESET2_64: u64 = 0xC400_0012;

const NOT_SUPPORTED: Outcome = failed(-1);
const INVALID_PARAMETERS: Outcome = failed(-2);
const DENIED: Outcome = failed(-3);
const ALREADY_ON: Outcome = failed(-4);
const ON_PENDING: Outcome = failed(-5);
const INVALID_ADDRESS: Outcome = failed(-9);

const fn failed(code: i64) -> Outcome {
    Outcome::Return([code as u64, 0, 0, 0])
}

const fn returned(x0: u64) -> Outcome {
    Outcome::Return([x0, 0, 0, 0])
}

const GARBAGE: u64 = 0xDEAD_BEEF_0000_0000;

/// Two clusters of two cores, and core 4 alone in another affinity-3 node.
fn psci() -> Psci {
    Psci::new(&[0x000, 0x001, 0x100, 0x101, 0x1_0000_0000], 0, RAM)
}

fn turn_on(psci: &Psci, affinity: u64, core: usize) {
    assert_eq!(psci.call(0, CPU_ON_64, [affinity, ENTRY, 0x5EED]), Outcome::TurnOn { core });
    assert_eq!(psci.started(core), Some(Start { entry: ENTRY, context_id: 0x5EED }));
}

#[test]
fn version_and_migration_are_reported() {
    assert_eq!(psci().call(0, PSCI_VERSION, [0; 3]), returned(0x1_0001));
    assert_eq!(psci().call(0, MIGRATE_INFO_TYPE, [0; 3]), returned(2));
}

#[test]
fn features_lists_what_is_there_and_nothing_else() {
    let present = [
        PSCI_VERSION,
        CPU_OFF,
        CPU_ON_32,
        CPU_ON_64,
        AFFINITY_INFO_32,
        AFFINITY_INFO_64,
        MIGRATE_INFO_TYPE,
        SYSTEM_OFF,
        SYSTEM_RESET,
        PSCI_FEATURES,
        SYSTEM_RESET2_32,
        SYSTEM_RESET2_64,
        0x8000_0000,
    ];
    let mut seen = 0;
    for number in 0..0x40_u64 {
        for id in [0x8400_0000 | number, 0xC400_0000 | number] {
            let expected = match id {
                CPU_SUSPEND_32 | CPU_SUSPEND_64 => returned(2),
                id if present.contains(&id) => returned(0),
                _ => NOT_SUPPORTED,
            };
            assert_eq!(psci().call(0, PSCI_FEATURES, [id, 0, 0]), expected, "{id:#x}");
            seen += usize::from(expected != NOT_SUPPORTED);
        }
    }
    assert_eq!(seen, present.len() - 1 + 2);
    assert_eq!(psci().call(0, PSCI_FEATURES, [0x8000_0000, 0, 0]), returned(0), "SMCCC_VERSION");
    assert_eq!(psci().call(0, PSCI_FEATURES, [0x8000_0001, 0, 0]), NOT_SUPPORTED);
    assert_eq!(psci().call(0, PSCI_FEATURES, [GARBAGE | CPU_OFF, 0, 0]), returned(0));
}

#[test]
fn unsupported_functions_are_refused_whatever_their_arguments() {
    let absent = (0x05..0x40).filter(|n| ![0x06, 0x08, 0x09, 0x0A, 0x12].contains(n));
    for id in absent.flat_map(|n| [0x8400_0000 | n, 0xC400_0000 | n]) {
        for args in [[0; 3], [u64::MAX; 3], [1, ENTRY, 0]] {
            assert_eq!(psci().call(0, id, args), NOT_SUPPORTED, "{id:#x}");
        }
    }
    for id in [0xC400_0000, 0xC400_0002, 0xC400_0006, 0xC400_0008, 0xC400_0009, 0xC400_000A] {
        assert_eq!(psci().call(0, id, [0; 3]), NOT_SUPPORTED, "{id:#x} has no 64-bit form");
    }
}

#[test]
fn a_core_goes_from_off_through_pending_to_on_and_back() {
    let psci = psci();
    let info = || psci.call(0, AFFINITY_INFO_64, [1, 0, 0]);
    assert_eq!(info(), returned(1));
    assert_eq!(psci.started(1), None, "nobody turned it on");

    assert_eq!(psci.call(0, CPU_ON_64, [1, ENTRY, 7]), Outcome::TurnOn { core: 1 });
    assert_eq!(info(), returned(2));
    assert_eq!(psci.call(0, CPU_ON_64, [1, ENTRY + 4, 8]), ON_PENDING);

    assert_eq!(psci.started(1), Some(Start { entry: ENTRY, context_id: 7 }), "the first call counts");
    assert_eq!(psci.started(1), None, "a start is handed out once");
    assert_eq!(info(), returned(0));
    assert_eq!(psci.call(0, CPU_ON_64, [1, ENTRY, 7]), ALREADY_ON);

    assert_eq!(psci.call(1, CPU_OFF, [0; 3]), Outcome::TurnOff);
    assert_eq!(info(), returned(0), "it has not parked yet");
    assert_eq!(psci.call(0, CPU_ON_64, [1, ENTRY, 7]), ALREADY_ON);
    psci.stopped(1);
    assert_eq!(info(), returned(1));
    turn_on(&psci, 1, 1);
}

#[test]
fn a_report_of_stopping_from_a_running_core_changes_nothing() {
    let psci = psci();
    psci.stopped(0);
    assert_eq!(psci.call(0, AFFINITY_INFO_64, [0; 3]), returned(0));
    psci.stopped(MAX_CORES);
    assert_eq!(psci.started(MAX_CORES), None);
}

#[test]
fn a_core_that_is_on_is_not_turned_on_again() {
    assert_eq!(psci().call(0, CPU_ON_64, [0, ENTRY, 0]), ALREADY_ON);
    assert_eq!(psci().call(0, CPU_ON_32, [0, ENTRY, 0]), ALREADY_ON);
}

#[test]
fn cpu_on_refuses_cores_that_do_not_exist_and_reserved_bits() {
    for affinity in
        [2, 0xFF, 0x102, 0x200, 0x1_0001, 0x2_0000_0000, 0x8000_0001, 0x100_0001, 1 << 40 | 1, u64::MAX]
    {
        assert_eq!(psci().call(0, CPU_ON_64, [affinity, ENTRY, 0]), INVALID_PARAMETERS, "{affinity:#x}");
        // The address is bad too: which core is asked for comes first.
        assert_eq!(psci().call(0, CPU_ON_64, [affinity, 1, 0]), INVALID_PARAMETERS, "{affinity:#x}");
    }
    for affinity in [0x8000_0001, 0x0100_0001, 0x0002_0000] {
        assert_eq!(psci().call(0, CPU_ON_32, [affinity, ENTRY, 0]), INVALID_PARAMETERS, "{affinity:#x}");
    }
}

#[test]
fn cpu_on_refuses_entries_outside_normal_ram() {
    let psci = psci();
    for entry in [
        0,
        0x0400_0000,
        0x0900_0000,
        0x0E00_0000,
        0x0EFF_FFFC,
        RAM.base - 4,
        RAM.end(),
        ENTRY + 1,
        ENTRY + 2,
        RAM.end() - 2,
        u64::MAX,
        u64::MAX - 3,
        1 << 48 | ENTRY,
    ] {
        assert_eq!(psci.call(0, CPU_ON_64, [1, entry, 0]), INVALID_ADDRESS, "{entry:#x}");
        assert_eq!(psci.call(0, AFFINITY_INFO_64, [1, 0, 0]), returned(1), "a refusal leaves the core off");
    }
    for entry in [RAM.base, RAM.end() - 4] {
        assert_eq!(
            super::Psci::new(&[0, 1], 0, RAM).call(0, CPU_ON_64, [1, entry, 0]),
            Outcome::TurnOn { core: 1 }
        );
    }
}

#[test]
fn smc32_calls_use_the_lower_halves_only() {
    let psci = psci();
    let call = |id, args: [u64; 3]| psci.call(0, GARBAGE | id, args.map(|arg| GARBAGE | arg));
    assert_eq!(call(CPU_ON_32, [1, ENTRY, 0x9ABC_DEF0]), Outcome::TurnOn { core: 1 });
    assert_eq!(psci.started(1), Some(Start { entry: ENTRY, context_id: 0x9ABC_DEF0 }));
    assert_eq!(call(AFFINITY_INFO_32, [1, 0, 0]), returned(0));
    assert_eq!(call(CPU_SUSPEND_32, [1, 0, 0]), Outcome::Suspend(Suspend::Standby));
    assert_eq!(
        call(CPU_SUSPEND_32, [0x4000_0003, ENTRY, 5]),
        Outcome::Suspend(Suspend::PowerDown(Start { entry: ENTRY, context_id: 5 }))
    );
    assert_eq!(call(SYSTEM_RESET2_32, [0, 0, 0]), Outcome::SystemReset);
    assert_eq!(psci.call(0, AFFINITY_INFO_64, [GARBAGE | 1, 0, 0]), INVALID_PARAMETERS);
}

#[test]
fn affinity_info_looks_at_whole_nodes_above_level_0() {
    let psci = psci();
    let info = |affinity, level| psci.call(0, AFFINITY_INFO_64, [affinity, level, 0]);
    assert_eq!(info(0x0FF, 1), returned(0), "the boot core's cluster; fields below the level do not count");
    assert_eq!(info(0x100, 1), returned(1));
    assert_eq!(psci.call(0, CPU_ON_64, [0x101, ENTRY, 0]), Outcome::TurnOn { core: 3 });
    assert_eq!(info(0x100, 1), returned(2));
    assert_eq!(info(0x100, 0), returned(1));
    assert!(psci.started(3).is_some());
    assert_eq!(info(0x100, 1), returned(0));
    assert_eq!(info(0, 2), returned(0));
    assert_eq!(info(0x1_0000_0000, 3), returned(1));
    assert_eq!(info(0x200, 1), INVALID_PARAMETERS);
    assert_eq!(info(0x1_0000, 2), INVALID_PARAMETERS);
    for level in [4, 5, 8, 0xFFFF_FFFF] {
        assert_eq!(info(0, level), INVALID_PARAMETERS, "{level}");
    }
    assert_eq!(psci.call(0, AFFINITY_INFO_32, [0, 3, 0]), INVALID_PARAMETERS);
    assert_eq!(info(0xFF00_0000, 0), INVALID_PARAMETERS);
}

#[test]
fn the_last_core_cannot_turn_itself_off() {
    let psci = psci();
    assert_eq!(psci.call(0, CPU_OFF, [0; 3]), DENIED);
    turn_on(&psci, 1, 1);
    assert_eq!(psci.call(0, CPU_OFF, [0; 3]), Outcome::TurnOff);
    assert_eq!(psci.call(1, CPU_OFF, [0; 3]), DENIED, "the other one is on its way out already");
}

#[test]
fn suspend_refuses_states_that_the_system_does_not_have() {
    for state in [0, 2, 3, 0x33, 0x4000_0000, 0x4000_0001, 0x4000_0033, 0x8000_0001, 0x2000_0001, 0x1000_0001]
    {
        for id in [CPU_SUSPEND_32, CPU_SUSPEND_64] {
            assert_eq!(psci().call(0, id, [state, ENTRY, 0]), INVALID_PARAMETERS, "{state:#x}");
        }
    }
    let suspend = |state, entry| psci().call(0, CPU_SUSPEND_64, [state, entry, u64::MAX]);
    assert_eq!(suspend(1, 1), Outcome::Suspend(Suspend::Standby), "standby has no entry address");
    assert_eq!(
        suspend(0x4000_0003, ENTRY),
        Outcome::Suspend(Suspend::PowerDown(Start { entry: ENTRY, context_id: u64::MAX }))
    );
    assert_eq!(suspend(0x4000_0003, 0x0E00_0000), INVALID_ADDRESS);
    assert_eq!(suspend(0x4000_0003, ENTRY + 2), INVALID_ADDRESS);
}

#[test]
fn the_system_goes_off_and_resets() {
    assert_eq!(psci().call(1, SYSTEM_OFF, [u64::MAX; 3]), Outcome::SystemOff);
    assert_eq!(psci().call(1, SYSTEM_RESET, [u64::MAX; 3]), Outcome::SystemReset);
    assert_eq!(psci().call(1, SYSTEM_RESET2_64, [0, 0, u64::MAX]), Outcome::SystemReset);
    for kind in [1, 2, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF] {
        for id in [SYSTEM_RESET2_32, SYSTEM_RESET2_64] {
            assert_eq!(psci().call(0, id, [kind, 0, 0]), INVALID_PARAMETERS, "{kind:#x}");
        }
    }
    assert_eq!(
        psci().call(0, SYSTEM_RESET2_64, [0, 1, 0]),
        INVALID_PARAMETERS,
        "a cookie means nothing here"
    );
    assert_eq!(psci().call(0, SYSTEM_RESET2_64, [0, 1 << 32, 0]), INVALID_PARAMETERS);
    assert_eq!(psci().call(0, SYSTEM_RESET2_32, [0, 1 << 32, 0]), Outcome::SystemReset);
}

#[test]
fn cores_beyond_the_highest_are_left_out() {
    let affinities: Vec<u64> = (0..MAX_CORES as u64 + 3).collect();
    let psci = Psci::new(&affinities, 0, RAM);
    let last = MAX_CORES as u64 - 1;
    assert_eq!(psci.call(0, CPU_ON_64, [last, ENTRY, 0]), Outcome::TurnOn { core: MAX_CORES - 1 });
    assert_eq!(psci.call(0, CPU_ON_64, [last + 1, ENTRY, 0]), INVALID_PARAMETERS);
}

#[test]
fn of_two_cores_that_turn_on_the_same_one_exactly_one_wins() {
    for _ in 0..200 {
        let psci = &psci();
        turn_on(psci, 1, 1);
        let outcomes = thread::scope(|scope| {
            let calls = [0, 1]
                .map(|core| scope.spawn(move || psci.call(core, CPU_ON_64, [0x100, ENTRY, core as u64])));
            calls.map(|call| call.join().unwrap())
        });
        assert!(outcomes.contains(&Outcome::TurnOn { core: 2 }) && outcomes.contains(&ON_PENDING));
        let winner = outcomes.iter().position(|outcome| *outcome == Outcome::TurnOn { core: 2 }).unwrap();
        assert_eq!(psci.started(2).unwrap().context_id, winner as u64);
    }
}

#[test]
fn two_cores_that_turn_off_at_once_leave_one_on() {
    for _ in 0..200 {
        let psci = &psci();
        turn_on(psci, 1, 1);
        let outcomes = thread::scope(|scope| {
            [0, 1]
                .map(|core| scope.spawn(move || psci.call(core, CPU_OFF, [0; 3])))
                .map(|call| call.join().unwrap())
        });
        assert!(outcomes.contains(&Outcome::TurnOff) && outcomes.contains(&DENIED), "{outcomes:?}");
    }
}
