//! The traits between policy and hardware.
//!
//! A stage's library is generic over these and runs unchanged on a board, on the host simulator and in tests.
//! NOR flash is `embedded-storage`'s [`NorFlash`], re-exported. Every method is infallible unless the hardware
//! it stands for can fail.
#![no_std]
#![forbid(unsafe_code)]

pub use embedded_storage::nor_flash::{NorFlash, ReadNorFlash};

/// Bytes that go to a person or to the station: UART0 or UART1.
pub trait Console {
    /// Sends every byte, waiting for the line where it must.
    fn write(&mut self, bytes: &[u8]);
}

/// A read failed, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadError {
    /// Byte offset of the read that failed.
    pub offset: u64,
}

/// Storage that can be read at any byte offset: a NOR bank, a slot of one, or a file in a test.
pub trait Storage {
    /// Returns the size in bytes.
    fn size(&self) -> u64;

    /// Fills `into` with the bytes from `offset` on.
    ///
    /// # Errors
    /// [`ReadError`] if the range leaves the storage or the device reports an error; `into` is then undefined.
    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), ReadError>;
}

/// Words of one-time-programmable memory, as they read now.
pub trait Otp {
    /// Returns the number of 32-bit words.
    fn words(&self) -> usize;

    /// Returns word `index`, or `None` past the end.
    fn read(&self, index: usize) -> Option<u32>;
}

/// A source of random bytes, which whoever owns the factory may own as well: never a key's only source.
pub trait Entropy {
    /// Fills `into` with random bytes; false if the source is absent, has failed, or gave fewer.
    #[must_use]
    fn fill(&mut self, into: &mut [u8]) -> bool;
}

/// The devices that reach memory by DMA: the disk, and the entropy source.
pub trait DmaDevices {
    /// The disk.
    type Disk: Storage;

    /// Resets every device and sets up those that a stage uses.
    fn start(&mut self);
    /// Resets every device: from here on none reaches memory by DMA, and none is there.
    fn stop(&mut self);
    /// Returns the disk, if one answered.
    fn disk(&mut self) -> Option<&mut Self::Disk>;
    /// Fills `into` from the entropy source; false as in [`Entropy::fill`].
    #[must_use]
    fn entropy(&mut self, into: &mut [u8]) -> bool;
}

/// The system counter, which runs from reset.
pub trait Clock {
    /// Returns the counter.
    fn now(&self) -> u64;
    /// Returns its frequency in Hz.
    fn hz(&self) -> u64;
}

/// What ends a run of the whole system.
pub trait Reset {
    /// Resets the system.
    fn reset(&mut self) -> !;
    /// Powers the system off.
    fn power_off(&mut self) -> !;
}

/// The data caches, as far as other masters and cores with their caches off see past them.
pub trait Coherency: Sync {
    /// Writes `bytes` back to memory.
    fn clean(&self, bytes: &[u8]);
}

/// All cores of the system, to share one piece of work.
pub trait Cores {
    /// Returns how many cores take part, at least 1.
    fn count(&self) -> usize;

    /// Runs `work` once on every core, the calling one included, and returns when all have finished.
    /// `work` gets the number of the core it runs on, below [`count`](Self::count).
    fn run(&mut self, work: &(dyn Fn(usize) + Sync));
}
