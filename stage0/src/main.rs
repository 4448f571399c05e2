//! stage0 on QEMU `virt`: wires the policy of the library to the board.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("stage0 runs on a device: `cargo xtask flash` builds it, makes a device and boots it");
}

#[cfg(target_os = "none")]
mod firmware {
    use board_qemu_virt::{Counter, consoles_of_last_resort, rom};
    use boot_info::record::BootRecord;
    use fail_code::FailCode;
    use memory_map::qemu_virt::STAGE_CODE;
    use stage0::{Memory, Refused, boot, refuse, say_refused};

    el3::tables!(board_qemu_virt::rom::level2());
    el3::entry!(main, fatal);

    fn main(reset_at: u64) -> ! {
        let Some(mut board) = rom::Board::take() else { el3::fatal(FailCode::Panic.number()) };
        let mut record = BootRecord::default();
        let mut memory =
            Memory { run: board.run, code: STAGE_CODE, boot_info: board.boot_info, secrets: board.secrets };
        #[cfg(feature = "control-panic")]
        {
            record.slot = u8::try_from(reset_at).unwrap();
        }
        let mut refused = Refused::default();
        let flash = &mut board.flash;
        let outcome = boot(&board.otp, flash, &mut memory, &Counter, reset_at, &mut record, &mut refused);
        el3::cores::forget();
        say_refused(&mut board.console, &refused);
        match outcome {
            Ok(entry) => board.enter_stage(entry.address, entry.confirmed),
            Err(code) => {
                refuse(&mut board.console, &mut board.link, &mut record, code);
                el3::exit::stop()
            }
        }
    }

    fn fatal(code: u16) -> ! {
        let (mut console, mut link) = consoles_of_last_resort();
        let code = FailCode::from_number(code).unwrap_or(FailCode::Panic);
        refuse(&mut console, &mut link, &mut BootRecord::default(), code);
        el3::exit::stop()
    }
}
