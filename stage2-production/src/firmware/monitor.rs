//! The library's call policy behind the monitor of `el3`.

use board_qemu_virt::power_pins;
use el3::monitor::{Reply, SecureMonitor, Start};
use memory_map::Region;
use spin::Once;
use stage2_production::psci::{Outcome, Psci, Suspend};
use stage2_production::smccc;

struct Calls(Psci);

static CALLS: Once<Calls> = Once::new();

/// Answers the normal world's calls from now on: cores of these affinities, entry points in this memory.
pub(super) fn install(affinities: &[u64], memory: Region) {
    el3::monitor::install(CALLS.call_once(|| Calls(Psci::new(affinities, 0, memory))));
}

impl SecureMonitor for Calls {
    fn call(&self, core: usize, [function, a, b, c]: [u64; 4]) -> Reply {
        match smccc::call(&self.0, core, function, [a, b, c]) {
            Outcome::Return(results) => Reply::Return(results),
            Outcome::TurnOn { core } => Reply::Wake(core, Outcome::SUCCESS),
            Outcome::TurnOff => Reply::Off,
            Outcome::Suspend(Suspend::Standby) => Reply::Standby(Outcome::SUCCESS),
            Outcome::Suspend(Suspend::PowerDown(start)) => Reply::PowerDown(address(start)),
            Outcome::SystemOff => Reply::SystemOff,
            Outcome::SystemReset => Reply::SystemReset,
        }
    }

    fn call_of_no_convention(&self) -> [u64; 4] {
        smccc::NOT_SUPPORTED
    }

    fn stopped(&self, core: usize) {
        self.0.stopped(core);
    }

    fn start_of(&self, core: usize) -> Option<Start> {
        self.0.started(core).map(address)
    }

    fn system_off(&self) -> ! {
        power_pins().power_off()
    }

    fn system_reset(&self) -> ! {
        power_pins().reset()
    }
}

fn address(start: stage2_production::psci::Start) -> Start {
    Start { entry: start.entry, argument: start.context_id }
}
