//! What stage0 tells a person on the console and the host on the station link. No formatting machinery: it would
//! be the largest part of stage0.

use boot_info::Stage;
use boot_info::record::{BootRecord, MAX_FRAME};
use fail_code::FailCode;
use hal::Console;

/// Writes what was refused, with its code and its cause, as a line.
pub(crate) fn say_refusal(console: &mut impl Console, what: &str, code: FailCode) {
    for part in ["stage0: ", what] {
        console.write(part.as_bytes());
    }
    console.write(&code.text());
    for part in [" ", code.name(), ": ", code.cause(), "\r\n"] {
        console.write(part.as_bytes());
    }
}

/// Tells both that the boot ends in a refusal: the last thing that stage0 does before it stops.
#[inline(never)]
pub fn refuse(console: &mut impl Console, link: &mut impl Console, record: &mut BootRecord, code: FailCode) {
    say_refusal(console, "stopped: ", code);
    record.code = code.number();
    record.stage = Stage::Stage0 as u8;
    let mut buffer = [0; MAX_FRAME];
    if let Some(frame) = record.frame(&mut buffer) {
        link.write(frame);
    }
}
