//! Checks on the real board that a write to locked memory is a fatal error, and what that leaves in memory while another core is at
//! work: nothing.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
#[path = "checks.rs"]
mod checks;

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!(
        "this runs on a device: `cargo xtask test -- --package tests --test board` builds and starts it"
    );
}

#[cfg(target_os = "none")]
mod program {
    use core::sync::atomic::{AtomicBool, Ordering};

    use board_qemu_virt::{consoles_of_last_resort, ram};
    use hal::{Cores as _, WriteLock as _};
    use memory_map::qemu_virt as map;
    use spin::Mutex;

    use crate::checks::Checks;

    el3::tables!(ram::level1(), ram::level2());
    el3::entry!(main, fatal);

    /// What the test looks for.
    const SECRET: [u8; 32] = *b"this is a secret of this program";

    fn main(_: u64) -> ! {
        let Some(board) = ram::Board::take() else { el3::fatal(0) };
        let mut checks = Checks::new(board.console);
        let mut team = ram::gather_cores(2);
        checks.check("all-cores-come", team.count() == 2);
        checks.done();
        let (mine, other) = board.os_load.split_at_mut(map::OS_LOAD.size as usize / 2);
        fill(mine);
        // The other core goes on for ever; it is at its third round at least when this one stops.
        let (busy, mine, other) = (AtomicBool::new(false), Mutex::new(mine), Mutex::new(other));
        let in_secure_ram = core::hint::black_box(SECRET);
        team.run(&|core| {
            if core == 0 {
                while !busy.load(Ordering::Acquire) {
                    core::hint::spin_loop();
                }
                ram::Dram.lock();
                mine.lock()[0] = core::hint::black_box(&in_secure_ram)[0];
                el3::fatal(0);
            }
            let mut other = other.lock();
            for round in 0_u64.. {
                fill(&mut other);
                busy.store(round > 2, Ordering::Release);
            }
        });
        el3::fatal(0)
    }

    /// Writes the secret to the end of each MiB, counted from the end.
    fn fill(memory: &mut [u8]) {
        for place in memory.rchunks_exact_mut(1 << 20) {
            let start = place.len() - SECRET.len();
            place[start..].copy_from_slice(core::hint::black_box(&SECRET));
        }
    }

    fn fatal(code: u16) -> ! {
        let (console, _) = consoles_of_last_resort();
        Checks::new(console).say(format_args!("BOARD fatal {code}"));
        ram::stop_while_loading()
    }
}
