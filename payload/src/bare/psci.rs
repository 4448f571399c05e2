//! The PSCI test: what the monitor promises, and what it must refuse.

mod registers;

use super::entry::secondary_address;
use super::smc::{self, function::*};
use super::{Offered, cores, probe, suspend, timer};
use crate::println;
use memory_map::qemu_virt::{FLASH0, SECURE_GPIO, SECURE_RAM, UART0, UART1};

const SUCCESS: u64 = 0;
const NOT_SUPPORTED: u64 = -1_i64 as u64;
const INVALID_PARAMETERS: u64 = -2_i64 as u64;
const ALREADY_ON: u64 = -4_i64 as u64;
const ON_PENDING: u64 = -5_i64 as u64;
const INVALID_ADDRESS: u64 = -9_i64 as u64;
const DENIED: u64 = -3_i64 as u64;

const ON: u64 = 0;
const STANDBY: u64 = 0x0000_0001;
const POWER_DOWN: u64 = 0x4000_0003;
const CONTEXT: u64 = 0x5EED_0123_4567_89AB;
/// What the upper halves of SMC32 arguments hold, to be ignored.
const GARBAGE: u64 = 0xDEAD_BEEF_0000_0000;
/// Beyond all RAM of the board.
const BEYOND_RAM: u64 = 0x80_0000_0000;

/// Counts what went well, and prints each case.
struct Tally {
    ok: u32,
    fail: u32,
}

impl Tally {
    /// One case, whose answer must be `want`.
    fn case(&mut self, name: &str, got: u64, want: u64) {
        self.case_any(name, got, &[want]);
    }

    /// One case with several right answers, because it is a race.
    fn case_any(&mut self, name: &str, got: u64, want: &[u64]) {
        if want.contains(&got) {
            self.ok += 1;
            println!("PSCI ok {name}");
        } else {
            self.fail += 1;
            println!("PSCI FAIL {name} got {got:#x} want {:#x}", want.first().copied().unwrap_or_default());
        }
    }

    /// One case that is right or wrong.
    fn holds(&mut self, name: &str, right: bool) {
        self.case(name, right.into(), 1);
    }
}

/// Runs all cases and prints the sum.
pub(super) fn run(offered: &Offered) {
    let mut tally = Tally { ok: 0, fail: 0 };
    let own = offered.all().first().copied().unwrap_or_default();
    identity(&mut tally);
    unknown(&mut tally);
    bad_cpu_on(&mut tally, own);
    affinity_info(&mut tally, own);
    registers::check(&mut tally);
    suspended(&mut tally);
    isolation(&mut tally);
    tally.case("cpu-off-last-core", smc::x0(CPU_OFF, [0; 3]), DENIED);
    match offered.others().first() {
        Some(other) => {
            bad_entries(&mut tally, *other);
            second_core(&mut tally, *other);
        }
        None => tally.holds("second-core-offered", false),
    }
    let others = offered.others();
    tally.case("every-core-starts-and-stops", cores::visit(others) as u64, others.len() as u64);
    for (name, function) in [("system-reset2-32", SYSTEM_RESET2_32), ("system-reset2-64", SYSTEM_RESET2_64)] {
        let answers = [1, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF].map(|kind| smc::x0(function, [kind, 0, 0]));
        tally.holds(name, answers == [INVALID_PARAMETERS; 4]);
    }
    tally.case("system-reset2-cookie", smc::x0(SYSTEM_RESET2_64, [0, 1, 0]), INVALID_PARAMETERS);
    println!("PSCI done ok={} fail={}", tally.ok, tally.fail);
}

fn identity(tally: &mut Tally) {
    tally.case("version", smc::x0(PSCI_VERSION, [0; 3]), 0x1_0001);
    tally.case("version-upper-half-ignored", smc::x0(GARBAGE | PSCI_VERSION, [0; 3]), 0x1_0001);
    tally.case("smccc-version", smc::x0(SMCCC_VERSION, [0; 3]), 0x1_0002);
    tally.case("smccc-features-itself", smc::x0(SMCCC_ARCH_FEATURES, [SMCCC_ARCH_FEATURES, 0, 0]), SUCCESS);
    tally.case("smccc-features-version", smc::x0(SMCCC_ARCH_FEATURES, [SMCCC_VERSION, 0, 0]), SUCCESS);
    tally.case("smccc-features-psci", smc::x0(SMCCC_ARCH_FEATURES, [PSCI_VERSION, 0, 0]), NOT_SUPPORTED);
    tally.case("smccc-features-unknown", smc::x0(SMCCC_ARCH_FEATURES, [0x8000_1234, 0, 0]), NOT_SUPPORTED);
    tally.case("migrate-info-type", smc::x0(MIGRATE_INFO_TYPE, [0; 3]), 2);
    tally.case("smc-immediate-reserved", smc::version_with_immediate(), NOT_SUPPORTED);
    for (name, function, want) in [
        ("features-version", PSCI_VERSION, 0),
        ("features-cpu-suspend-32", CPU_SUSPEND_32, 2),
        ("features-cpu-suspend-64", CPU_SUSPEND_64, 2),
        ("features-cpu-off", CPU_OFF, 0),
        ("features-cpu-on-32", CPU_ON_32, 0),
        ("features-cpu-on-64", CPU_ON_64, 0),
        ("features-affinity-info-32", AFFINITY_INFO_32, 0),
        ("features-affinity-info-64", AFFINITY_INFO_64, 0),
        ("features-migrate-info-type", MIGRATE_INFO_TYPE, 0),
        ("features-system-off", SYSTEM_OFF, 0),
        ("features-system-reset", SYSTEM_RESET, 0),
        ("features-features", PSCI_FEATURES, 0),
        ("features-system-reset2-32", SYSTEM_RESET2_32, 0),
        ("features-system-reset2-64", SYSTEM_RESET2_64, 0),
        ("features-smccc-version", SMCCC_VERSION, 0),
        ("features-migrate", 0x8400_0005, NOT_SUPPORTED),
        ("features-mem-protect", 0x8400_0013, NOT_SUPPORTED),
        ("features-cpu-off-64", 0xC400_0002, NOT_SUPPORTED),
        ("features-unknown", 0x8400_0FFF, NOT_SUPPORTED),
        ("features-zero", 0, NOT_SUPPORTED),
    ] {
        tally.case(name, smc::x0(PSCI_FEATURES, [function, 0, 0]), want);
    }
}

/// Calls what does not exist, in every range of the calling convention.
fn unknown(tally: &mut Tally) {
    for (name, kind) in [
        ("unknown-yielding-32", 0),
        ("unknown-yielding-64", 0x4000_0000),
        ("unknown-fast-32", 0x8000_0000),
        ("unknown-fast-64", 0xC000_0000),
    ] {
        let known = (0..64_u64)
            .flat_map(|owner| {
                [0x007F, 0x7ABC, 0xFF00, 0xFF01, 0xFF03, 0xFFFF].map(|n| kind | owner << 24 | n)
            })
            .find(|id| smc::call(*id, [1, 2, 3]) != [NOT_SUPPORTED, 0, 0, 0]);
        tally.case(name, known.unwrap_or(0), 0);
    }
    tally.case("unknown-reserved-bits", smc::x0(PSCI_VERSION | 1 << 16, [0; 3]), NOT_SUPPORTED);
    tally.case("unknown-64-bit-version", smc::x0(PSCI_VERSION | 1 << 30, [0; 3]), NOT_SUPPORTED);
    tally.case("unknown-migrate", smc::x0(0x8400_0005, [0; 3]), NOT_SUPPORTED);
    tally.case("unknown-system-suspend", smc::x0(0xC400_000E, [secondary_address(), 0, 0]), NOT_SUPPORTED);
    tally.case("unknown-mem-protect", smc::x0(0x8400_0013, [0; 3]), NOT_SUPPORTED);
}

fn bad_cpu_on(tally: &mut Tally, own: u64) {
    let entry = secondary_address();
    for (name, function, affinity) in [
        ("cpu-on-no-such-core", CPU_ON_64, 0xFE),
        ("cpu-on-no-such-cluster", CPU_ON_64, 0x7F_0000),
        ("cpu-on-no-such-affinity-3", CPU_ON_64, 0x7F_0000_0000),
        ("cpu-on-reserved-bits", CPU_ON_64, 0x8000_0000 | own),
        ("cpu-on-upper-bits", CPU_ON_64, GARBAGE | own),
        ("cpu-on-32-no-such-core", CPU_ON_32, 0xFE),
        ("cpu-on-32-reserved-bits", CPU_ON_32, 0x8000_0000 | own),
    ] {
        tally.case(name, smc::x0(function, [affinity, entry, 0]), INVALID_PARAMETERS);
    }
    tally.case("cpu-on-self", smc::x0(CPU_ON_64, [own, entry, 0]), ALREADY_ON);
    tally.case("cpu-on-32-self", smc::x0(CPU_ON_32, [own, entry, 0]), ALREADY_ON);
}

/// Asks for a core that is off, to start where none may.
fn bad_entries(tally: &mut Tally, other: u64) {
    let entry = secondary_address();
    for (name, entry) in [
        ("cpu-on-entry-misaligned", entry + 2),
        ("cpu-on-entry-odd", entry + 1),
        ("cpu-on-entry-secure-ram", SECURE_RAM.base),
        ("cpu-on-entry-flash", FLASH0.base),
        ("cpu-on-entry-device", UART0.base),
        ("cpu-on-entry-beyond-ram", BEYOND_RAM),
        ("cpu-on-entry-wraps", u64::MAX - 3),
    ] {
        tally.case(name, smc::x0(CPU_ON_64, [other, entry, 0]), INVALID_ADDRESS);
    }
    tally.case(
        "cpu-on-32-entry-secure-ram",
        smc::x0(CPU_ON_32, [other, SECURE_RAM.base, 0]),
        INVALID_ADDRESS,
    );
    tally.case("cpu-on-refused-stays-off", smc::x0(AFFINITY_INFO_64, [other, 0, 0]), cores::OFF);
}

fn affinity_info(tally: &mut Tally, own: u64) {
    for (name, function, affinity, level, want) in [
        ("affinity-info-self", AFFINITY_INFO_64, own, 0, ON),
        ("affinity-info-32-self", AFFINITY_INFO_32, GARBAGE | own, GARBAGE, ON),
        ("affinity-info-level-1", AFFINITY_INFO_64, own | 0xFF, 1, ON),
        ("affinity-info-level-2", AFFINITY_INFO_64, own, 2, ON),
        ("affinity-info-level-3", AFFINITY_INFO_64, own, 3, ON),
        ("affinity-info-level-4", AFFINITY_INFO_64, own, 4, INVALID_PARAMETERS),
        ("affinity-info-32-level-3", AFFINITY_INFO_32, own, 3, INVALID_PARAMETERS),
        ("affinity-info-no-such-core", AFFINITY_INFO_64, 0xFE, 0, INVALID_PARAMETERS),
        ("affinity-info-no-such-cluster", AFFINITY_INFO_64, 0x7F_0000, 1, INVALID_PARAMETERS),
        ("affinity-info-reserved-bits", AFFINITY_INFO_64, GARBAGE | own, 0, INVALID_PARAMETERS),
    ] {
        tally.case(name, smc::x0(function, [affinity, level, 0]), want);
    }
}

fn suspended(tally: &mut Tally) {
    let entry = secondary_address();
    timer::enable_interrupt();
    for (name, state) in [
        ("suspend-state-zero", 0),
        ("suspend-state-unknown-standby", 0x33),
        ("suspend-state-unknown-power-down", 0x4000_0033),
        ("suspend-state-reserved-bits", 0x8000_0001),
        ("suspend-state-all-ones", 0xFFFF_FFFF),
    ] {
        // A monitor that accepts the state is woken again.
        timer::arm(20);
        tally.case(name, smc::x0(CPU_SUSPEND_64, [state, entry, 0]), INVALID_PARAMETERS);
    }
    timer::arm(20);
    let in_secure_ram = [POWER_DOWN, SECURE_RAM.base, 0];
    tally.case("suspend-entry-secure-ram", smc::x0(CPU_SUSPEND_64, in_secure_ram), INVALID_ADDRESS);

    timer::arm(20);
    tally.case("suspend-standby", smc::x0(CPU_SUSPEND_64, [STANDBY, 0, 0]), SUCCESS);
    tally.holds("suspend-standby-woken-by-timer", timer::disarm());
    timer::arm(0);
    tally.case(
        "suspend-standby-32-already-pending",
        smc::x0(CPU_SUSPEND_32, [GARBAGE | STANDBY, 0, 0]),
        SUCCESS,
    );
    tally.holds("suspend-standby-32-timer-fired", timer::disarm());
    timer::arm(20);
    let resumed = suspend::power_down(POWER_DOWN, CONTEXT);
    tally.holds("suspend-power-down-woken-by-timer", timer::disarm());
    tally.case("suspend-power-down-starts-anew", resumed.anew, 1);
    tally.case("suspend-power-down-context-id", resumed.x0, CONTEXT);
}

/// Reaches for what belongs to the secure world: every access has to abort, and its registers do not exist.
fn isolation(tally: &mut Tally) {
    let last_word = SECURE_RAM.end() - 4;
    tally.holds("secure-ram-not-readable", probe::read_aborts(SECURE_RAM.base));
    tally.holds("secure-ram-end-not-readable", probe::read_aborts(last_word));
    // SAFETY: the payload is in normal RAM.
    tally.holds("secure-ram-not-writable", unsafe { probe::write_aborts(last_word) });
    tally.holds("flash0-not-readable", probe::read_aborts(FLASH0.base));
    tally.holds("secure-uart-not-readable", probe::read_aborts(UART1.base));
    tally.holds("secure-gpio-not-readable", probe::read_aborts(SECURE_GPIO.base));
    tally.holds("console-readable", !probe::read_aborts(UART0.base + 0x18));
    let [read, write, read_at_el1] = probe::syndromes_of_group0();
    tally.case("secure-interrupts-undefined-to-read", read, probe::UNDEFINED);
    tally.case("secure-interrupts-undefined-to-write", write, probe::UNDEFINED);
    tally.case("secure-interrupts-undefined-at-el1", read_at_el1, probe::UNDEFINED);
    tally.case("monitor-answers-after-traps", smc::x0(PSCI_VERSION, [0; 3]), 0x1_0001);
}

fn second_core(tally: &mut Tally, other: u64) {
    let info = |function| smc::x0(function, [other, 0, 0]);
    tally.case("second-core-is-off", info(AFFINITY_INFO_64), cores::OFF);
    tally.case("second-core-turned-on", cores::turn_on(CPU_ON_64, other, CONTEXT), SUCCESS);
    let again = smc::x0(CPU_ON_64, [other, secondary_address(), 0]);
    tally.case_any("second-core-turned-on-twice", again, &[ON_PENDING, ALREADY_ON]);
    let Some(arrival) = cores::wait_for_arrival() else { return tally.holds("second-core-arrives", false) };
    tally.case("second-core-context-id", arrival.context_id, CONTEXT);
    tally.case("second-core-registers-clean", arrival.leftovers, 0);
    tally.case("second-core-at-el2", arrival.current_el >> 2, 2);
    tally.case("second-core-mmu-and-caches-off", arrival.sctlr & 0x1005, 0);
    tally.case("second-core-interrupts-masked", arrival.daif, 0x3C0);
    tally.case("second-core-is-on", info(AFFINITY_INFO_64), ON);
    tally.case("second-core-already-on", smc::x0(CPU_ON_64, [other, secondary_address(), 0]), ALREADY_ON);
    tally.case("two-cores-call-at-once", cores::call_together().unwrap_or(u64::MAX), 0);
    tally.case("second-core-turned-off", cores::turn_off(other), cores::OFF);

    let turned_on = cores::turn_on(CPU_ON_32 | GARBAGE, other | GARBAGE, CONTEXT);
    tally.case("second-core-turned-on-again-32", turned_on, SUCCESS);
    let Some(arrival) = cores::wait_for_arrival() else {
        return tally.holds("second-core-arrives-again", false);
    };
    tally.case("second-core-context-id-32", arrival.context_id, CONTEXT & 0xFFFF_FFFF);
    tally.case("second-core-is-on-32", info(AFFINITY_INFO_32), ON);
    tally.case("second-core-turned-off-again", cores::turn_off(other), cores::OFF);
}
