//! The hardware self-test: each start of the stage begins with it.
//!
//! It finds a die, a flash or a socket that is broken before a ticket is spent on it, and an entropy source that is
//! dead. It does not find one that lies: see [`entropy`].

pub mod crypto;
pub mod entropy;
pub mod memory;
pub mod timer;

use alloc::vec;

use fail_code::FailCode;
use hal::{DmaDevices as _, FlashIdentity, Identify as _};
use memory_map::qemu_virt::{COUNTER_HZ, FLASH_BLOCK, FLASH_WRITE_BUFFER, FLASH0};

use crate::Error;
use crate::hardware::{Board, Hardware};
use crate::random::HealthyEntropy;

/// The flash that this board has.
const FLASH: FlashIdentity =
    FlashIdentity { size: FLASH0.size, erase_block: FLASH_BLOCK, write_buffer: FLASH_WRITE_BUFFER };

/// What the tests of a board that passed them all have looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tested {
    /// Known answers of cryptography.
    pub(crate) known_answers: usize,
    /// Bytes of memory that were marched through.
    pub(crate) memory: u64,
    /// The flash, as it says itself.
    pub(crate) flash: FlashIdentity,
    /// Samples of entropy in the start-up test.
    pub(crate) samples: usize,
}

/// Runs every test, and starts the devices that reach memory by DMA. `entropy` goes on from its start-up test.
///
/// # Errors
/// The first test that failed.
pub(crate) fn run<H: Hardware>(
    board: &mut Board<'_, H>,
    entropy: &mut HealthyEntropy,
) -> Result<Tested, Error> {
    timer::check(board.clock, COUNTER_HZ).map_err(Error::SelfTest)?;
    let known_answers = crypto::check().map_err(Error::SelfTest)?;
    // As much of the heap as all buffers of provisioning take together, which come from there when it is free again.
    let cells = board.working_memory / size_of::<u64>();
    memory::march(&mut vec![0; cells], board.caches).map_err(Error::SelfTest)?;
    if board.flash.identify() != Some(FLASH) {
        return Err(Error::SelfTest(FailCode::SelfTestFlash));
    }
    board.devices.start();
    entropy.start(board.devices).map_err(Error::SelfTest)?;
    let memory = cells.saturating_mul(size_of::<u64>()) as u64;
    Ok(Tested { known_answers, memory, flash: FLASH, samples: entropy::STARTUP_SAMPLES })
}
