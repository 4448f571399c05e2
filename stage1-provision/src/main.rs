//! stage1 on QEMU `virt`: wires the policy of the library to the board.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("stage1 runs on a device: `cargo xtask flash` builds it, makes a device and provisions it");
}

#[cfg(target_os = "none")]
mod firmware {
    use board_qemu_virt::{Caches, Counter, consoles_of_last_resort, power_pins, provision, ram};
    use boot_info::record::BootRecord;
    use drivers::otp::Rules;
    use drivers::uart::Uart;
    use el3::cores::Team;
    use fail_code::FailCode;
    use hal::{Clock as _, DmaDevices as _};
    use lifecycle::burn::{is_hidden, is_locked};
    use memory_map::qemu_virt::BOOT_INFO;
    use stage1_provision::{Board, End, Handoff, Hardware, refuse};

    el3::tables!(ram::level1(), provision::level2());
    el3::entry!(main, fatal);

    /// Bytes of the heap that all buffers of provisioning take together: a few chunks, and metadata.
    const WORKING_MEMORY: usize = 6 * 1024 * 1024;

    /// The parts of the board.
    struct Virt;

    impl Hardware for Virt {
        type Flash = provision::Flash;
        type Devices = ram::Devices;
        type Otp = provision::Fuses;
        type Link = Uart;
        type Console = Uart;
        type Clock = Counter;
        type Caches = Caches;
        type Cores = Team;
    }

    fn main(handoff_at: u64) -> ! {
        if handoff_at != BOOT_INFO.base {
            el3::fatal(FailCode::BootInfoInvalid.number());
        }
        let rules = Rules { locked: is_locked, hidden: is_hidden };
        let Some(mut taken) = provision::Board::take(rules) else { el3::fatal(FailCode::Panic.number()) };
        let mut record = BootRecord::default();
        let handoff = Handoff::take(taken.boot_info, taken.secrets, &mut record);
        let mut board = Board::<Virt> {
            flash: &mut taken.flash,
            devices: &mut taken.devices,
            otp: &mut taken.otp,
            link: &mut taken.link,
            console: &mut taken.console,
            clock: &Counter,
            caches: &Caches,
            cores: &mut taken.cores,
            working_memory: WORKING_MEMORY,
        };
        let end = match handoff {
            Ok(handoff) => stage1_provision::provision(&mut board, handoff, &mut record),
            Err(error) => stage1_provision::not_taken(&mut board, &error, &mut record),
        };
        taken.devices.stop();
        match end {
            End::Closed => power_pins().reset(),
            End::Refused(_) => el3::exit::stop(),
        }
    }

    fn fatal(code: u16) -> ! {
        let (mut console, mut link) = consoles_of_last_resort();
        let code = FailCode::from_number(code).unwrap_or(FailCode::Panic);
        refuse(&mut console, &mut link, &mut BootRecord::default(), code, Counter.now());
        el3::exit::stop()
    }
}
