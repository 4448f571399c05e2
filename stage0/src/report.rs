//! What stage0 tells a person on the console and the host on the station link. No formatting machinery: it would
//! be the largest part of stage0.

use boot_info::Stage;
use boot_info::record::{BootRecord, MAX_FRAME};
use fail_code::FailCode;
use hal::Console;

/// The codes of the boot slots that were refused, in the order in which they are tried.
pub type Refused = [Option<FailCode>; 2];

/// Says which boot slots were refused, and why.
pub fn say_refused(console: &mut impl Console, refused: &Refused) {
    for (words, code) in ["boot slot A refused: ", "boot slot B refused: "].into_iter().zip(refused) {
        if let Some(code) = code {
            say_refusal(console, words, *code);
        }
    }
}

/// Writes what was refused, with its code and its cause, as a line.
#[inline(never)]
fn say_refusal(console: &mut impl Console, what: &str, code: FailCode) {
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
