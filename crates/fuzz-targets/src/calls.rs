//! The normal world's calls to the monitor.

use crate::Verdict;
use memory_map::{MIB, Region};
use stage2_production::psci::{Outcome, Psci, Start, Suspend};
use stage2_production::smccc;

const RAM: Region = Region::new(0x4000_0000, 256 * MIB);
const AFFINITIES: [u64; 4] = [0, 1, 0x100, 0x1_0000_0000];
const FUNCTIONS: [u64; 18] = [
    0x8000_0000,
    0x8000_0001,
    0x8400_0000,
    0x8400_0001,
    0xC400_0001,
    0x8400_0002,
    0x8400_0003,
    0xC400_0003,
    0x8400_0004,
    0xC400_0004,
    0x8400_0006,
    0x8400_0008,
    0x8400_0009,
    0x8400_000A,
    0x8400_0012,
    0xC400_0012,
    0x8400_0005,
    0xC400_0000,
];
const WORDS: [u64; 16] = [
    0,
    1,
    2,
    0x100,
    0x1_0000_0000,
    0x4000_0000,
    0x4000_1000,
    0x4FFF_FFFC,
    0x5000_0000,
    0x4000_0003,
    0x0E00_0000,
    0x8400_0003,
    u64::MAX,
    0xFFFF_FFFF,
    0x8000_0000,
    3,
];

/// Calls by cores that are on: five bytes each, of which the first is the core, the second the function, the others the
/// arguments; a second byte with its highest bit set is followed by a function of four bytes and arguments of eight.
///
/// Whatever is called: the results are x0 to x3 with zeros behind the first, a core starts once and in RAM, and the
/// last one that is on stays on.
pub(crate) fn smc(data: &[u8]) -> Verdict {
    let psci = Psci::new(&AFFINITIES, 0, RAM);
    let mut on = [true, false, false, false];
    let mut rest = data;
    let mut answered = false;
    while let Some(([who, function], after)) = rest.split_first_chunk() {
        let caller = (0..4).map(|i| (usize::from(*who) + i) % 4).find(|core| on[*core]).expect("one is on");
        let Some((function, args, after)) = call(*function, after) else { break };
        rest = after;
        match smccc::call(&psci, caller, function, args) {
            Outcome::Return(x) => {
                assert_eq!(x[1..], [0; 3], "something is left in the result registers");
                let error = x[0] as i64;
                assert!(x[0] <= 0xFFFF_FFFF || (-9..0).contains(&error), "{x:X?} is no result");
                answered |= error >= 0;
            }
            Outcome::TurnOn { core } => {
                assert!(!on[core], "a core that is on is turned on");
                let start = psci.started(core).expect("it was turned on");
                assert_in_ram(start);
                assert_eq!(psci.started(core), None, "it starts twice");
                on[core] = true;
            }
            Outcome::TurnOff => {
                psci.stopped(caller);
                on[caller] = false;
                assert!(on.contains(&true), "the last core went off");
            }
            Outcome::Suspend(Suspend::PowerDown(start)) => assert_in_ram(start),
            Outcome::Suspend(Suspend::Standby) => {}
            Outcome::SystemOff | Outcome::SystemReset => answered = true,
        }
    }
    Verdict::of(answered)
}

fn assert_in_ram(start: Start) {
    assert!(start.entry.is_multiple_of(4) && RAM.contains(start.entry, 4), "{start:X?}");
}

fn call(function: u8, rest: &[u8]) -> Option<(u64, [u64; 3], &[u8])> {
    if function & 0x80 != 0 {
        let (function, rest) = rest.split_first_chunk()?;
        let (args, rest) = rest.split_at_checked(24)?;
        let mut words = [0; 3];
        let (chunks, _) = args.as_chunks();
        words.iter_mut().zip(chunks).for_each(|(word, bytes)| *word = u64::from_le_bytes(*bytes));
        return Some((u64::from(u32::from_le_bytes(*function)), words, rest));
    }
    let (args, rest) = rest.split_first_chunk::<3>()?;
    let word = |byte: u8| WORDS[usize::from(byte) % WORDS.len()];
    Some((FUNCTIONS[usize::from(function) % FUNCTIONS.len()], args.map(word), rest))
}

pub(crate) fn smc_seeds() -> Vec<Vec<u8>> {
    // Version; core 1 on, asked after, off; suspend to a new start; off.
    let life = [
        [0, 2, 0, 0, 0],
        [0, 7, 1, 6, 9],
        [0, 9, 1, 0, 0],
        [1, 5, 0, 0, 0],
        [0, 4, 9, 6, 1],
        [0, 11, 0, 0, 0],
    ];
    let mut raw = vec![0, 0x80];
    raw.extend(0xC400_0003_u32.to_le_bytes());
    raw.extend([1_u64, RAM.base, 7].map(u64::to_le_bytes).concat());
    raw.extend([0, 0, 0, 0, 0]);
    vec![life.concat(), raw]
}
