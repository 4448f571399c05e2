//! What stage0 tells a person on the console and the host on the station link. No formatting machinery: it would
//! be the largest part of stage0.
//!
//! # Threats
//! A fault in a branch leads into the middle of the code that tells, with a stack that still belongs to a look at the slots, and what is told
//! is read from where keys lie. So a record tells nothing where it does not begin with the name of the board.

use boot_info::Stage;
use boot_info::record::{BootRecord, MAX_FRAME};
use fail_code::FailCode;
use hal::Console;
use memory_map::qemu_virt::BOARD;

/// The name of the board as records hold it.
pub const BOARD_NAME: [u8; 16] = {
    let mut name = [0; 16];
    name.split_at_mut(BOARD.len()).0.copy_from_slice(BOARD.as_bytes());
    name
};

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
    let text = code.text();
    let (name, cause) = code.name_and_cause();
    let [what, name, cause] = [what.as_bytes(), name.as_bytes(), cause.as_bytes()];
    for part in [b"stage0: ", what, &text, b" ", name, b": ", cause, b"\r\n"] {
        console.write(part);
    }
}

/// Tells both that the boot ends in a refusal: the last thing that stage0 does before it stops. What does not name the board is no
/// record, and the host is told none.
#[inline(never)]
pub fn refuse(console: &mut impl Console, link: &mut impl Console, record: &mut BootRecord, code: FailCode) {
    say_refusal(console, "stopped: ", code);
    record.code = code.number();
    record.stage = Stage::Stage0 as u8;
    if record.board != BOARD_NAME {
        return;
    }
    let mut buffer = [0; MAX_FRAME];
    if let Some(frame) = record.frame(&mut buffer) {
        link.write(frame);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Line(Vec<u8>);

    impl Console for Line {
        fn write(&mut self, bytes: &[u8]) {
            self.0.extend(bytes);
        }
    }

    /// Tells a refusal, and returns what the console says and what the link carries.
    fn told(board: [u8; 16]) -> [Vec<u8>; 2] {
        let (mut console, mut link) = (Line(Vec::new()), Line(Vec::new()));
        refuse(
            &mut console,
            &mut link,
            &mut BootRecord { board, ..BootRecord::default() },
            FailCode::NoBootableSlot,
        );
        [console.0, link.0]
    }

    #[test]
    fn what_does_not_name_the_board_is_told_to_nobody() {
        let [words, frame] = told(BOARD_NAME);
        let (record, used) = BootRecord::find(&frame).expect("a frame");
        assert_eq!(record.map(|record| record.code), Ok(FailCode::NoBootableSlot.number()));
        assert_eq!(used, frame.len());
        for bit in 0..128 {
            let mut other = BOARD_NAME;
            other[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(told(other), [words.clone(), Vec::new()], "bit {bit}");
        }
        assert_eq!(told([0; 16])[1], []);
    }
}
