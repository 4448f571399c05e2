//! Moments of provisioning at which power can go away, by what lies in the flash then.

use boot_info::closing::ClosingState;
use lifecycle::{Fuses, Lifecycle, OtpImage, Row, WORDS};
use memory_map::Region;
use memory_map::qemu_virt::{BOOT_SLOT_B, BOOT_STAGING, CLOSING_STATE, OTP_WORDS};
use sealed_image::HEADER_BYTES;
use stage1_provision::journal::Recorded;
use stage1_provision::machine::{Entry, Step};

use super::FlashFile;

/// A moment that can be seen in the flash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The journal says that a step of the provisioning stage has begun, and not that it is done.
    In(Step),
    /// Some words of the device seed are burned, and some are not.
    SeedBurns,
    /// The device seed is burned, and the lifecycle is not.
    SeedBurned,
    /// The die is closed, its production stage has begun to ask for the certificate, and nothing is cleared away.
    ProvesClosed,
    /// The die is closed and has its certificate, and is about to clear away what the factory needed.
    ClearsAway,
}

impl Moment {
    /// Tells whether the flash shows this moment.
    pub fn is_now(self, flash: &mut FlashFile) -> bool {
        match self {
            Self::In(step) => flash.journal().is_some_and(|entries| is_in(&entries, step)),
            Self::SeedBurns => {
                let burned = seed_words(&otp(flash));
                burned.contains(&true) && burned.contains(&false)
            }
            Self::SeedBurned => {
                let otp = otp(flash);
                lifecycle_of(&otp) != Some(Lifecycle::Production) && !seed_words(&otp).contains(&false)
            }
            Self::ProvesClosed => {
                is_pending(flash)
                    && flash.journal().and_then(|entries| entries.last().map(|last| last.entry))
                        == Some(Entry::Done(Step::CheckAndFuse))
            }
            Self::ClearsAway => {
                is_pending(flash) && {
                    let start = |slot: Region| flash.region(slot.part(0, HEADER_BYTES as u64));
                    start(BOOT_SLOT_B) == start(BOOT_STAGING) || start(BOOT_STAGING) == [0xFF; HEADER_BYTES]
                }
            }
        }
    }
}

fn is_in(entries: &[Recorded], step: Step) -> bool {
    let has = |entry| entries.iter().any(|recorded| recorded.entry == entry);
    has(Entry::Begun(step)) && !has(Entry::Done(step))
}

/// Reads the fuses as they are now.
pub(super) fn otp(flash: &FlashFile) -> OtpImage {
    OtpImage::from_flash(&flash.region(OTP_WORDS.part(0, 4 * WORDS as u64)))
}

/// Tells of each word of the seed's row whether anything is burned in it: of the whole row, one in 2³² is zero.
fn seed_words(otp: &OtpImage) -> Vec<bool> {
    Row::DeviceSeed.words().map(|word| otp.words()[word] != 0).collect()
}

fn lifecycle_of(otp: &OtpImage) -> Option<Lifecycle> {
    Fuses::read_lifecycle(otp).ok()
}

fn is_pending(flash: &FlashFile) -> bool {
    let state = flash.region(CLOSING_STATE.part(0, ClosingState::SIZE as u64));
    let state = state.first_chunk().and_then(ClosingState::parse);
    lifecycle_of(&otp(flash)) == Some(Lifecycle::Production) && state.is_some_and(|state| !state.acknowledged)
}
