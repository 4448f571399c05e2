//! Checks on the real board what the provisioning stage relies on: flash, fuses, disk, entropy, station link.
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
    use board_qemu_virt::{Counter, Flash, power_pins, provision, ram};
    use drivers::otp::Rules;
    use drivers::uart::Uart;
    use hal::{
        BurnError, Clock as _, DmaDevices, FlashIdentity, Identify as _, Otp as _, OtpBurn as _,
        Receive as _, Storage as _, StorageMut as _,
    };
    use lifecycle::{Row, burn};
    use memory_map::Region;
    use memory_map::qemu_virt as map;

    use crate::checks::{Checks, fatal, holds_what_is_written, refuses_writes};

    el3::tables!(ram::level1(), provision::level2());
    el3::entry!(main, fatal);

    const RULES: Rules = Rules { locked: burn::is_locked, hidden: burn::is_hidden };

    fn main(_: u64) -> ! {
        let Some(mut board) = provision::Board::take(RULES) else { fatal(0) };
        let mut checks = Checks::new(board.console);
        checks.check("the-board-is-taken-once", provision::Board::take(RULES).is_none());
        flash(&mut checks, &mut board.flash);
        fuses(&mut checks, &mut board.otp);
        disk(&mut checks, &mut board.devices);
        link(&mut checks, &mut board.link);
        checks.done();
        power_pins().power_off()
    }

    fn flash(checks: &mut Checks, flash: &mut Flash) {
        let identity = FlashIdentity {
            size: map::FLASH0.size,
            erase_block: map::FLASH_BLOCK,
            write_buffer: map::FLASH_WRITE_BUFFER,
        };
        checks.check("flash-says-what-it-is", flash.identify() == Some(identity));
        for (name, region) in [
            ("slot-a-is-written", map::BOOT_SLOT_A),
            ("journal-is-written", map::JOURNAL),
            ("closing-state-is-written", map::CLOSING_STATE),
            ("certificates-are-written", map::CERTIFICATES),
            ("secrets-are-written", map::SECRETS),
            ("staging-is-written", map::BOOT_STAGING),
        ] {
            checks.check(name, holds_what_is_written(flash, region, b"flash0 holds"));
        }

        let mut bytes = [0; 5000];
        bytes.iter_mut().zip(0_u32..).for_each(|(byte, n)| *byte = (n * 7 + 3) as u8);
        let mut found = [0; 5000];
        let at = map::JOURNAL.base + 4099;
        let written = flash.write(at, &bytes) == Ok(()) && flash.read(at, &mut found) == Ok(());
        checks.check("several-buffers-are-programmed", written && found == bytes);

        let mut word = [0; 4];
        let at = map::JOURNAL.base + 16 * 1024;
        let written = flash.write(at, &[0xEF, 0xBE, 0xAD, 0xDE]) == Ok(())
            && flash.write(at, &[0xFF, 0xFF, 0, 0]) == Ok(())
            && flash.read(at, &mut word) == Ok(());
        checks.check("programming-raises-no-bit", written && word == [0xEF, 0xBE, 0, 0]);

        checks.check("slot-b-is-not-written", refuses_writes(flash, map::BOOT_SLOT_B));
        for (name, region) in [
            ("stage0-is-not-reached", map::STAGE0_ROM),
            ("fuses-are-not-reached-as-flash", map::OTP_WORDS),
            ("the-rest-is-not-reached", Region::new(map::BOOT_STAGING.end(), map::FLASH_BLOCK)),
            ("nothing-behind-the-end-is-reached", map::FLASH1),
        ] {
            checks.check(name, refuses_writes(flash, region) && flash.read(region.base, &mut word).is_err());
        }
        let read = flash.read(map::VENDOR_CERTIFICATE.base, &mut word) == Ok(());
        checks
            .check("vendor-certificate-is-only-read", read && refuses_writes(flash, map::VENDOR_CERTIFICATE));
    }

    fn fuses(checks: &mut Checks, otp: &mut provision::Fuses) {
        let row = Row::ClosingMeasurement;
        let index = row.first_word();
        let locked = Err(BurnError::Locked { index });
        checks.check("a-fuse-starts-unburned", otp.read(index) == Some(0));
        checks.check("a-fuse-burns", otp.burn(index, 0x0F) == Ok(()) && otp.read(index) == Some(0x0F));
        checks.check("burned-bits-stay", otp.burn(index, 0xF0) == Ok(()) && otp.read(index) == Some(0xFF));
        checks.check(
            "nothing-else-is-burned",
            otp.read(index + 1) == Some(0) && otp.read(index - 1) == Some(0),
        );
        let burned = row.lock_words().all(|word| otp.burn(word, u32::MAX) == Ok(()));
        checks.check("a-lock-burns", burned);
        checks.check("a-locked-row-takes-no-bits", otp.burn(index, 0x100) == locked);
        checks.check(
            "a-locked-row-keeps-its-bits",
            otp.burn(index, 1) == Ok(()) && otp.read(index) == Some(0xFF),
        );
        let index = Row::SiliconSecret.first_word();
        let hidden = otp.read(index) == Some(0) && otp.burn(index, 1) == Err(BurnError::Locked { index });
        checks.check("the-silicon-secret-is-hidden", hidden);
        let index = otp.words();
        let none = otp.read(index).is_none() && otp.burn(index, 1) == Err(BurnError::NoSuchWord { index });
        checks.check("there-is-no-fuse-behind-the-last", none);
    }

    fn disk(checks: &mut Checks, devices: &mut impl DmaDevices<Disk: hal::StorageMut>) {
        devices.start();
        let (mut first, mut second) = ([0; 32], [0; 32]);
        let entropy = devices.entropy(&mut first) && devices.entropy(&mut second);
        checks.check("entropy-comes-and-differs", entropy && first != second);
        let Some(disk) = devices.disk() else { return checks.check("a-disk-answers", false) };

        // On both sides of a part of a sector, whole ones.
        let (bytes, mut found) = ([0xA5; 3000], [0; 3002]);
        let at = map::PACKAGE.base + 700;
        let written = disk.write(at, &bytes) == Ok(()) && disk.flush() == Ok(());
        let read = disk.read(at - 1, &mut found) == Ok(()) && found[1..3001] == bytes;
        checks.check("disk-is-written-and-flushed", written && read);
        checks.check("disk-keeps-the-rest-of-its-sectors", found[0] == 0 && found[3001] == 0);
        let size = disk.size();
        let last = disk.write(size - 3, b"end") == Ok(()) && disk.read(size - 3, &mut found[..3]) == Ok(());
        checks.check("the-last-bytes-of-the-disk-are-written", last && found[..3] == *b"end");
        checks.check("nothing-behind-the-disk-is-written", disk.write(size - 3, &[0; 4]).is_err());
        devices.stop();
        checks.check("no-disk-after-the-devices-stopped", devices.disk().is_none());
    }

    /// The other end sends each value 16 times over, in order, once it is told to.
    fn link(checks: &mut Checks, link: &mut Uart) {
        checks.say(format_args!("BOARD listening"));
        let until = Counter.now() + 20 * Counter.hz();
        let mut expected = (0..16).flat_map(|_| 0..=u8::MAX).peekable();
        while expected.peek().is_some() && Counter.now() < until {
            if let Some(byte) = link.receive()
                && expected.next() != Some(byte)
            {
                break;
            }
        }
        checks.check("the-link-receives-every-byte", expected.next().is_none());
        checks.check("the-link-receives-no-more", link.receive().is_none());
    }
}
