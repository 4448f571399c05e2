//! What stage0 tells a person on the console and the host on the station link. No formatting machinery: it would
//! be the largest part of stage0.

use boot_info::Stage;
use boot_info::record::{BootRecord, MAX_FRAME};
use fail_code::FailCode;
use hal::Console;

/// Writes a line.
pub fn say(console: &mut impl Console, parts: &[&str]) {
    console.write(b"stage0: ");
    for part in parts {
        console.write(part.as_bytes());
    }
    console.write(b"\r\n");
}

/// Writes what was refused, with its code and its cause.
pub fn say_refusal(console: &mut impl Console, what: &str, code: FailCode) {
    let text = code.text();
    let number = core::str::from_utf8(&text).unwrap_or_default();
    say(console, &[what, number, " ", code.name(), ": ", code.cause()]);
}

/// Sends the record of a boot that ends in a refusal.
pub fn refusal_record(link: &mut impl Console, record: &BootRecord, code: FailCode) {
    let record = BootRecord { code: code.number(), stage: Stage::Stage0 as u8, ..*record };
    let mut buffer = [0; MAX_FRAME];
    if let Some(frame) = record.frame(&mut buffer) {
        link.write(frame);
    }
}
