//! Holds published vectors against Kiln's cryptography as it is built for the device: a list of them, which the host has
//! put into the system's memory (see the crate `vectors`). It is not told which of them are wrong on purpose.
//!
//! ```text
//! VECTORS differs PLACE
//! VECTORS group NUMBER vectors=N runs=N different=N
//! VECTORS done N
//! ```
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
#[path = "checks.rs"]
#[allow(dead_code, reason = "the other conformance programs use the rest of it")]
mod checks;

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this runs on a device: `cargo xtask test` builds and starts it");
}

#[cfg(target_os = "none")]
mod program {
    use board_qemu_virt::{power_pins, ram};
    use vectors::{Functions, Group, List, check};

    use crate::checks::{Checks, fatal};

    el3::tables!(ram::level1(), ram::level2());
    el3::entry!(main, fatal);

    /// What came of a group.
    #[derive(Clone, Copy, Default)]
    struct Tally {
        vectors: u32,
        runs: u32,
        different: u32,
    }

    fn main(_: u64) -> ! {
        let Some(board) = ram::Board::take() else { fatal(0) };
        let mut console = Checks::new(board.console);
        let mut tallies = [Tally::default(); Group::ALL.len()];
        let mut total = 0;
        for vector in List::new(board.os_load) {
            let Ok(vector) = vector else {
                console.say(format_args!("VECTORS malformed behind {total}"));
                power_pins().power_off()
            };
            let checked = check(&vector, &Functions::DEVICE);
            let Some(tally) = tallies.get_mut(vector.group as usize) else { fatal(0) };
            tally.vectors += 1;
            tally.runs += checked.runs;
            if !checked.is_right() {
                tally.different += 1;
                console.say(format_args!("VECTORS differs {total}"));
            }
            total += 1;
        }
        for (number, tally) in tallies.iter().enumerate() {
            let Tally { vectors, runs, different } = tally;
            console.say(format_args!(
                "VECTORS group {number} vectors={vectors} runs={runs} different={different}"
            ));
        }
        console.say(format_args!("VECTORS done {total}"));
        power_pins().power_off()
    }
}
