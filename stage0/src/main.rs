//! stage0 on QEMU `virt`: wires the policy of the library to the board.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("stage0 runs on a device: `cargo xtask flash` builds it, makes a device and boots it");
}

#[cfg(target_os = "none")]
mod firmware {
    use board_qemu_virt::rom::{Board, WayOut};
    use board_qemu_virt::{Counter, consoles_of_last_resort};
    use boot_info::record::BootRecord;
    use fail_code::FailCode;
    use memory_map::qemu_virt::STAGE_CODE;
    use stage0::{BOARD_NAME, Entry, Memory, Refused, boot, refuse, say_refused};

    el3::tables!(board_qemu_virt::rom::level2());
    el3::entry!(main, fatal);

    fn main(reset_at: u64) -> ! {
        let (mut record, mut refused) = (BootRecord::default(), Refused::default());
        #[cfg(feature = "control-panic")]
        {
            record.slot = u8::try_from(reset_at).unwrap();
        }
        let mut out = None;
        let outcome = look(reset_at, &mut record, &mut refused, &mut out);
        el3::cores::forget();
        let (mut console, mut link) = consoles_of_last_resort();
        say_refused(&mut console, &refused);
        let code = match (outcome, out) {
            (Ok(entry), Some(out)) if entry.is_in(out.stage()).accepts() => {
                out.enter_stage(entry.address, entry.confirmed)
            }
            (Ok(_), _) => FailCode::LooksDiffer,
            (Err(code), _) => code,
        };
        refuse(&mut console, &mut link, &mut record, code);
        el3::exit::stop()
    }

    /// Looks for the stage. What knows where keys are has a frame of its own, which is dead once something is said.
    #[inline(never)]
    fn look(
        reset_at: u64,
        record: &mut BootRecord,
        refused: &mut Refused,
        out: &mut Option<WayOut>,
    ) -> Result<Entry, FailCode> {
        let mut board = Board::take().ok_or(FailCode::Panic)?;
        let mut memory = Memory {
            run: &mut *board.run,
            code: STAGE_CODE,
            boot_info: &mut *board.boot_info,
            secrets: &mut *board.secrets,
        };
        let entry = boot(&board.otp, &mut board.flash, &mut memory, &Counter, reset_at, record, refused);
        *out = Some(board.give_up());
        entry
    }

    fn fatal(code: u16) -> ! {
        let (mut console, mut link) = consoles_of_last_resort();
        let code = FailCode::from_number(code).unwrap_or(FailCode::Panic);
        let mut record = BootRecord::default();
        record.board.copy_from_slice(&BOARD_NAME);
        refuse(&mut console, &mut link, &mut record, code);
        el3::exit::stop()
    }
}
