//! Fuse words, and what a die may say of them.

use crate::Verdict::{self, Refused, Taken};
use crate::sample;
use hal::Otp;
use lifecycle::{Die, FuseFacts, Fuses, Lifecycle, OtpImage, Row, WORDS};

const DIE: Die = Die {
    chip_id: *b"chip id of a die",
    silicon_secret: [0x51; 32],
    root_digest: [0xA2; 32],
    provisioning_key: [0x33; 32],
    device_seed: [0xC4; 32],
    closing_measurement: [0x65; 32],
    floors: [1, 0, 7, 33, 64, 32],
    owner_generation: 2,
};

/// The fuses of a die that somebody altered. The first byte names the state, and whether bits were burned or flipped;
/// six bytes are a word and what happened to it.
///
/// One flipped bit changes nothing, and burning leads to no earlier state.
pub(crate) fn fuses(data: &[u8]) -> Verdict {
    let Some((first, changes)) = data.split_first() else { return Refused };
    let state = Lifecycle::ALL[usize::from(first & 0x7F) % Lifecycle::ALL.len()];
    let burned = first & 0x80 != 0;
    let sound = OtpImage::for_die(state, &DIE);
    let mut image = sound.clone();
    for change in changes.chunks_exact(6) {
        let index = usize::from(u16::from_le_bytes([change[0], change[1]])) % WORDS;
        let bits = u32::from_le_bytes([change[2], change[3], change[4], change[5]]);
        let word = &mut image.words_mut()[index];
        *word = if burned { *word | bits } else { *word ^ bits };
    }
    let differing: u32 = image.words().iter().zip(sound.words()).map(|(a, b)| (a ^ b).count_ones()).sum();

    let read = Fuses::read(&image);
    if let (Ok(fuses), true) = (&read, burned) {
        let now = fuses.lifecycle();
        let forward = match state {
            Lifecycle::Blank => true,
            Lifecycle::Secured => {
                matches!(now, Lifecycle::Secured | Lifecycle::Closing | Lifecycle::Production)
            }
            Lifecycle::Closing => matches!(now, Lifecycle::Closing | Lifecycle::Production),
            state => now == state,
        };
        assert!(forward, "burning made {now:?} of {state:?}");
    }
    if differing <= 1 && state != Lifecycle::Closing {
        let now = Fuses::read(&sound).map(|fuses| fuses.lifecycle());
        assert_eq!(read.as_ref().map(Fuses::lifecycle), now.as_ref().copied(), "one bit changed the state");
        assert_eq!(FuseFacts::read(&image), FuseFacts::read(&sound), "one bit changed the facts");
    }
    if let Ok(facts) = FuseFacts::read(&image) {
        assert_eq!(FuseFacts::decode(&facts.encode()), Ok(facts));
        if let Ok(fuses) = &read {
            assert_eq!(facts.lifecycle, fuses.lifecycle());
        }
    }
    for row in Row::ALL {
        let _begun = lifecycle::burn::is_begun(&image, *row);
        assert!(row.words().all(|word| image.read(word).is_some()));
    }
    Verdict::of(read.is_ok())
}

pub(crate) fn fuse_seeds() -> Vec<Vec<u8>> {
    let states = 0..Lifecycle::ALL.len() as u8;
    let mut seeds: Vec<Vec<u8>> = states.flat_map(|state| [vec![state], vec![state | 0x80]]).collect();
    seeds.push(vec![2, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0x80, 0, 0]);
    seeds
}

/// Fuse facts: what is taken has one encoding.
pub(crate) fn facts(data: &[u8]) -> Verdict {
    let Ok(facts) = FuseFacts::decode(data) else { return Refused };
    assert_eq!(facts.encode(), data, "fuse facts have one encoding");
    let policy = sample::fuse_policy();
    let as_ordered = lifecycle::compare(&policy.secured(), &facts).is_ok();
    assert_eq!(as_ordered, facts == policy.secured(), "a deviation is not told");
    Taken
}

pub(crate) fn fact_seeds() -> Vec<Vec<u8>> {
    let policy = sample::fuse_policy();
    let read = FuseFacts::read(&OtpImage::for_die(Lifecycle::Closing, &DIE)).expect("the die is sound");
    [policy.secured(), policy.production(), read].map(|facts| facts.encode().to_vec()).to_vec()
}
