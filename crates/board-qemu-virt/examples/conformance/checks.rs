//! What the conformance programs share: they tell the console what held and what did not.

use core::fmt::Write as _;

use board_qemu_virt::{consoles_of_last_resort, power_pins};
use drivers::uart::Uart;
use hal::{Console as _, StorageMut};
use memory_map::Region;

/// Counts the checks, and tells the console of each: `BOARD ok` or `BOARD FAIL` with its name.
pub struct Checks {
    console: Uart,
    passed: u32,
    failed: u32,
}

impl Checks {
    pub fn new(console: Uart) -> Self {
        Self { console, passed: 0, failed: 0 }
    }

    pub fn check(&mut self, name: &str, holds: bool) {
        let verdict = if holds { "ok" } else { "FAIL" };
        *(if holds { &mut self.passed } else { &mut self.failed }) += 1;
        self.say(format_args!("BOARD {verdict} {name}"));
    }

    pub fn say(&mut self, line: core::fmt::Arguments<'_>) {
        struct Text<'a>(&'a mut Uart);
        impl core::fmt::Write for Text<'_> {
            fn write_str(&mut self, text: &str) -> core::fmt::Result {
                self.0.write(text.as_bytes());
                Ok(())
            }
        }
        // The console takes everything.
        _ = write!(Text(&mut self.console), "{line}\r\n");
    }

    /// Tells the sum. Whoever waits for it knows that no check is missing.
    pub fn done(&mut self) {
        let (passed, failed) = (self.passed, self.failed);
        self.say(format_args!("BOARD done ok={passed} fail={failed}"));
    }
}

/// Tells the refusal code and powers off.
pub fn fatal(code: u16) -> ! {
    let (console, _) = consoles_of_last_resort();
    Checks::new(console).say(format_args!("BOARD fatal {code}"));
    power_pins().power_off()
}

/// Erases the first block of a region, writes `bytes` at an odd place of it, and reads them back between ones.
pub fn holds_what_is_written(flash: &mut impl StorageMut, region: Region, bytes: &[u8]) -> bool {
    const AROUND: usize = 5;
    let mut found = [0; 64];
    let found = &mut found[..bytes.len() + 2 * AROUND];
    let at = region.base + 2045;
    flash.erase(region.base, flash.erase_size()) == Ok(())
        && flash.write(at, bytes) == Ok(())
        && flash.flush() == Ok(())
        && flash.read(at - AROUND as u64, found) == Ok(())
        && found[AROUND..][..bytes.len()] == *bytes
        && found[..AROUND] == [0xFF; AROUND]
        && found[AROUND + bytes.len()..] == [0xFF; AROUND]
}

/// Tells whether neither a write nor an erase is taken at the start of a region.
pub fn refuses_writes(flash: &mut impl StorageMut, region: Region) -> bool {
    flash.write(region.base, &[0; 4]).is_err() && flash.erase(region.base, flash.erase_size()).is_err()
}
