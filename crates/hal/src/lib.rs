//! The traits between policy and hardware.
//!
//! A stage's library is generic over these and runs unchanged on a board, on the host simulator and in tests.
//! Every method is infallible unless the hardware it stands for can fail.
#![no_std]
#![forbid(unsafe_code)]

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

/// A write or an erase failed, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteError {
    /// Byte offset of what failed.
    pub offset: u64,
}

/// Storage that can be written as well.
///
/// What [`flush`](Self::flush) has not covered yet may be lost, in any order, when power fails; what it has
/// covered may not.
pub trait StorageMut: Storage {
    /// Returns the block size of [`erase`](Self::erase) in bytes; 1 where nothing has to be erased before it is
    /// written.
    fn erase_size(&self) -> u64;

    /// Makes the range ready to be written: on NOR flash every byte then reads 0xFF; elsewhere nothing is done.
    ///
    /// # Errors
    /// [`WriteError`] if the range leaves the storage, is not made of whole blocks, or the device fails.
    fn erase(&mut self, offset: u64, len: u64) -> Result<(), WriteError>;

    /// Writes `bytes` from `offset` on. On NOR flash bits only fall: the place was erased before.
    ///
    /// # Errors
    /// [`WriteError`] if the range leaves the storage or the device fails; what is there is then undefined.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError>;

    /// Returns once everything written so far is durable.
    ///
    /// # Errors
    /// [`WriteError`] if the device fails.
    fn flush(&mut self) -> Result<(), WriteError>;
}

/// How a flash describes itself (JEDEC JESD68, Common Flash Interface), for the whole bank that software sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlashIdentity {
    /// Size of the bank in bytes.
    pub size: u64,
    /// Size of an erase block in bytes.
    pub erase_block: u64,
    /// Most bytes of a buffered program.
    pub write_buffer: u64,
}

/// Flash that can be asked what it is.
pub trait Identify {
    /// Asks; `None` if what answers is no flash.
    fn identify(&mut self) -> Option<FlashIdentity>;
}

/// Words of one-time-programmable memory, as they read now.
pub trait Otp {
    /// Returns the number of 32-bit words.
    fn words(&self) -> usize;

    /// Returns word `index`, or `None` past the end.
    fn read(&self, index: usize) -> Option<u32>;
}

/// Fuses that can be burned: bits go from 0 to 1 and never back.
pub trait OtpBurn: Otp {
    /// Burns every bit of `bits` into word `index`, those that read as burned already too: a burn that power cut off may
    /// have left them weak. In a locked row that may be an error, even where nothing would change.
    ///
    /// # Errors
    /// [`BurnError`]; how many of the bits are burned then is not known.
    fn burn(&mut self, index: usize, bits: u32) -> Result<(), BurnError>;
}

/// Why a word was not burned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BurnError {
    /// There is no such word.
    NoSuchWord {
        /// Index of the word.
        index: usize,
    },
    /// The word's row is locked.
    Locked {
        /// Index of the word.
        index: usize,
    },
    /// The fuses, or the flash that stands in for them, report an error.
    Failed {
        /// Index of the word.
        index: usize,
    },
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

/// The receiving half of a serial link.
pub trait Receive {
    /// Returns the next byte if one has arrived.
    fn receive(&mut self) -> Option<u8>;
}

/// The data caches, as far as other masters and cores with their caches off see past them.
pub trait Coherency: Sync {
    /// Writes `bytes` back to memory.
    fn clean(&self, bytes: &[u8]);
}

/// The memory that an operating system is loaded to, as far as the calling core may write it.
pub trait WriteLock {
    /// Makes every write to it an exception.
    fn lock(&self);

    /// Lets it be written again.
    fn unlock(&self);
}

/// All cores of the system, to share one piece of work.
pub trait Cores {
    /// Returns how many cores take part, at least 1.
    fn count(&self) -> usize;

    /// Runs `work` once on every core, the calling one included, and returns when all have finished.
    /// `work` gets the number of the core it runs on, below [`count`](Self::count).
    fn run(&mut self, work: &(dyn Fn(usize) + Sync));
}
