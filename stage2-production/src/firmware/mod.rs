//! The stage on its board.

mod logger;
mod monitor;

use core::sync::atomic::{AtomicBool, Ordering};

use board_qemu_virt::{Caches, Counter, consoles_of_last_resort, ram, with_flash};
use boot_info::record::{BootRecord, MAX_FRAME};
use boot_info::{Stage, Step, Timeline};
use drivers::otp::Rules;
use drivers::uart::Uart;
use el3::cores::Team;
use el3::monitor::Start;
use fail_code::FailCode;
use hal::{Clock, Console, Cores, DmaDevices, WriteLock};
use lifecycle::burn::is_hidden;
use memory_map::qemu_virt::{BOOT_INFO, OS_LOAD};
use stage2_production::boot::{Handoff, Launch, Refused, boot, frame, say_refused};
use stage2_production::closing::{Error, may_not_be_burned, settle};
use stage2_production::device_tree::parse_hardware;

el3::tables!(board_qemu_virt::ram::level1(), board_qemu_virt::ram::level2());
el3::entry!(main, fatal);

/// The fuses while closing ends.
const RULES: Rules = Rules { locked: |_, index| may_not_be_burned(index), hidden: is_hidden };

/// Whether an operating system has been entered: what lies in its memory is its own then.
static ENTERED: AtomicBool = AtomicBool::new(false);

fn main(handoff_at: u64) -> ! {
    if handoff_at != BOOT_INFO.base {
        el3::fatal(FailCode::BootInfoInvalid.number());
    }
    let Some(board) = ram::Board::take() else { el3::fatal(FailCode::Panic.number()) };
    let ram::Board { console, mut link, boot_info, secrets, untrusted_dtb, os_load, boot_log, devices } =
        board;
    logger::start(console);
    let mut record = BootRecord::default();
    let mut refused = Refused::default();
    let mut memory = Memory { boot_info, secrets, untrusted_dtb, os_load };
    let outcome = decide(&mut memory, devices, &mut link, &mut record, &mut refused);
    // Whatever of the keys is left on the stack is gone before anything is said.
    el3::cores::forget();
    say_refused(&refused);
    let mut buffer = [0; MAX_FRAME];
    match outcome {
        Ok(launch) => {
            record.stage = Stage::Stage2 as u8;
            record.end = Counter.now();
            let frame = frame(&record, &mut buffer);
            link.write(frame);
            ram::Dram.unlock();
            boot_log.iter_mut().zip(frame).for_each(|(to, from)| *to = *from);
            let logged = boot_log.starts_with(frame);
            match launch.device_tree.put(memory.os_load, OS_LOAD) {
                Some(device_tree) if logged => enter(launch.kernel, launch.confirmed, device_tree.get()),
                _ => el3::fatal(FailCode::LooksDiffer.number()),
            }
        }
        Err(code) => refuse(&mut link, &mut record, code),
    }
}

/// What the decision is made from and loads.
struct Memory {
    boot_info: &'static mut [u8],
    secrets: &'static mut [u8],
    untrusted_dtb: &'static [u8],
    os_load: &'static mut [u8],
}

/// Decides what boots, and loads it. The keys are in its own frame, which the caller wipes.
#[inline(never)]
fn decide(
    memory: &mut Memory,
    mut devices: ram::Devices,
    link: &mut Uart,
    record: &mut BootRecord,
    refused: &mut Refused,
) -> Result<Launch, FailCode> {
    let started = Counter.now();
    let handoff = Handoff::take(memory.boot_info, memory.secrets, record)?;
    devices.stop();
    let hardware = parse_hardware(memory.untrusted_dtb).map_err(|error| error.code())?;
    let mut team = ram::gather_cores(hardware.cores);
    let affinities = ram::affinities(team.count());
    let mut timeline = handoff.timeline(record, started);
    close(&handoff, &mut team, link, &mut devices, &mut timeline);
    let launch = boot(
        handoff,
        &hardware,
        &affinities,
        &mut devices,
        &mut team,
        &Caches,
        &ram::Dram,
        &Counter,
        memory.os_load,
        OS_LOAD,
        &mut timeline,
        refused,
    )?;
    monitor::install(&affinities, hardware.memory);
    timeline.record.cores = team.count() as u8;
    timeline.step(Step::SecurityState, Counter.now());
    team.dismiss();
    Ok(launch)
}

/// Ends provisioning, on the first boots that a device does on its own. One that cannot end it boots all the same.
fn close(
    handoff: &Handoff<'_>,
    team: &mut Team,
    link: &mut Uart,
    devices: &mut ram::Devices,
    timeline: &mut Timeline<'_>,
) {
    let Some(pending) = handoff.pending() else { return };
    let closed = pending.close(link, &Counter, devices, |release, disk| {
        with_flash(team, RULES, |flash, fuses| settle(release, fuses, flash, disk))
            .unwrap_or(Err(Error::FlashInUse))
    });
    if let Err(error) = closed {
        log::error!("provisioning is not ended, the next boot carries on: {}", error.code());
    }
    timeline.step(Step::ProveClosed, Counter.now());
}

/// Enters the kernel, as Linux's `Documentation/arch/arm64/booting.rst` has it.
///
/// What the two looks found stays apart until the way out compares it; nothing is stored once an entry is in a register.
fn enter(kernel: u64, confirmed: u64, device_tree: u64) -> ! {
    ENTERED.store(true, Ordering::Release);
    let (kernel, confirmed, device_tree) = core::hint::black_box((kernel, confirmed, device_tree));
    el3::monitor::enter(0, Start { entry: kernel, argument: device_tree }, confirmed)
}

fn refuse(link: &mut impl Console, record: &mut BootRecord, code: FailCode) -> ! {
    log::error!("stopped: {code}");
    record.code = code.number();
    record.stage = Stage::Stage2 as u8;
    record.end = Counter.now();
    link.write(frame(record, &mut [0; MAX_FRAME]));
    el3::exit::stop()
}

fn fatal(code: u16) -> ! {
    let (mut console, mut link) = consoles_of_last_resort();
    let code = FailCode::from_number(code).unwrap_or(FailCode::Panic);
    console.write(b"stage2: stopped: ");
    console.write(&code.text());
    for part in [" ", code.name(), ": ", code.cause(), "\r\n"] {
        console.write(part.as_bytes());
    }
    let record = BootRecord { code: code.number(), stage: Stage::Stage2 as u8, ..BootRecord::default() };
    link.write(frame(&record, &mut [0; MAX_FRAME]));
    if ENTERED.load(Ordering::Acquire) { el3::exit::stop() } else { ram::stop_while_loading() }
}
