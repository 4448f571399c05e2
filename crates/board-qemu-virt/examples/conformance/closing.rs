//! Checks on the real board what the production stage relies on while closing ends: the part of the flash that it
//! borrows is there meanwhile, and nothing of it afterwards.
//!
//! It writes to the device that it runs on, and makes it useless.
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
    use core::sync::atomic::{AtomicUsize, Ordering};

    use board_qemu_virt::{Fuses, power_pins, ram, with_flash};
    use drivers::otp::Rules;
    use hal::{BurnError, Cores as _, Identify as _, Otp as _, OtpBurn as _, Storage as _};
    use lifecycle::{Row, burn};
    use memory_map::qemu_virt as map;

    use crate::checks::{Checks, fatal, holds_what_is_written, refuses_writes};

    el3::tables!(ram::level1(), ram::level2());
    el3::entry!(main, fatal);

    /// Cores of the machine that the test starts.
    const CORES: usize = 2;
    /// Rules that let nothing but the lifecycle be burned, as those of the production stage.
    const RULES: Rules =
        Rules { locked: |_, index| !Row::Lifecycle.words().contains(&index), hidden: burn::is_hidden };

    fn main(_: u64) -> ! {
        let Some(board) = ram::Board::take() else { fatal(0) };
        let mut checks = Checks::new(board.console);
        let mut alone = ram::gather_cores(1);
        checks.check(
            "no-flash-while-a-core-is-parked-in-it",
            with_flash(&mut alone, RULES, |_, _| ()).is_none(),
        );
        let mut team = ram::gather_cores(CORES);
        checks.check("all-cores-come", team.count() == CORES);
        for time in [b"first time", b"again, new"] {
            let lent = with_flash(&mut team, RULES, |flash, otp| {
                for (name, region) in [
                    ("slot-b-is-written", map::BOOT_SLOT_B),
                    ("journal-is-written", map::JOURNAL),
                    ("closing-state-is-written", map::CLOSING_STATE),
                    ("certificates-are-written", map::CERTIFICATES),
                    ("staging-is-written", map::BOOT_STAGING),
                ] {
                    checks.check(name, holds_what_is_written(flash, region, time));
                }
                for (name, region) in [
                    ("stage0-is-not-reached", map::STAGE0_ROM),
                    ("the-running-slot-is-not-reached", map::BOOT_SLOT_A),
                    ("fuses-are-not-reached-as-flash", map::OTP_WORDS),
                ] {
                    let read = flash.read(region.base, &mut [0; 4]);
                    checks.check(name, refuses_writes(flash, region) && read.is_err());
                }
                checks.check("flash-is-not-asked-what-it-is", flash.identify().is_none());
                fuses(&mut checks, otp);
            });
            checks.check("flash-is-lent", lent.is_some());
        }
        let together = AtomicUsize::new(0);
        team.run(&|_| _ = together.fetch_add(1, Ordering::Relaxed));
        checks.check("all-cores-live", together.into_inner() == CORES);
        checks.done();
        // SAFETY: nothing is mapped there any more: the read does not return.
        let word = unsafe { core::ptr::read_volatile(map::JOURNAL.base as *const u32) };
        checks.check("flash-is-gone-afterwards", word == word.wrapping_add(1));
        power_pins().power_off()
    }

    /// The lifecycle's words can be burned once more, and no others.
    fn fuses(checks: &mut Checks, otp: &mut Fuses) {
        let words = Row::Lifecycle.words();
        let before: [Option<u32>; 3] = core::array::from_fn(|word| otp.read(words.start + word));
        let burned = before.iter().all(|word| word.is_some_and(|word| word != 0))
            && words
                .clone()
                .zip(before)
                .all(|(word, bits)| otp.burn(word, bits.unwrap_or_default()) == Ok(()));
        let same = words.zip(before).all(|(word, bits)| otp.read(word) == bits);
        checks.check("the-lifecycle-is-burned-once-more", burned && same);
        let index = Row::DeviceSeed.first_word();
        let missing = otp.read(index).map(|word| !word);
        let locked = missing.is_some_and(|bits| otp.burn(index, bits) == Err(BurnError::Locked { index }));
        checks.check("no-other-fuse-is-burned", locked);
        let index = Row::SiliconSecret.first_word();
        checks.check("the-silicon-secret-is-hidden", otp.read(index) == Some(0));
    }
}
