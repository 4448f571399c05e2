//! NOR flash with the Intel command set behind the Common Flash Interface (JEDEC JESD68): two x16 chips side by side,
//! so that every command is written twice in a 32-bit word and a bank reads and programs 32 bits at a time.
//!
//! # Threats
//! *A bank that is not in array mode reads as status everywhere*, so whoever executes from it or reads it meanwhile
//! takes status for data: one lock guards the bank, a write returns only once both chips are back in array mode, and a
//! bank that does not come back answers nothing any more. *A chip that is dead* keeps nobody waiting for ever.
//! *Whoever holds one part of the bank* (a slot, the fuses) reaches no other: a view says what it reads and what it
//! writes. What is written is read back by whoever relies on it.

use core::sync::atomic::{AtomicBool, Ordering};

use hal::{Clock, FlashIdentity, Identify, ReadError, Storage, StorageMut, WriteError};
use memory_map::Region;
use spin::Mutex;

/// Byte offset in the bank of the answer to a query.
pub const ANSWER: u64 = 0x10 * WORD;

/// Bytes of a word of the bank.
const WORD: u64 = 4;
/// Most words of a buffered program, and what it is aligned to.
const BUFFER: usize = 512;

const READ_ARRAY: u32 = both(0xFF);
const QUERY: u32 = both(0x98);
const READ_STATUS: u32 = both(0x70);
const CLEAR_STATUS: u32 = both(0x50);
const ERASE: u32 = both(0x20);
const WRITE_WORD: u32 = both(0x40);
const WRITE_BUFFER: u32 = both(0xE8);
const CONFIRM: u32 = both(0xD0);

/// Status: ready.
const READY: u32 = both(0x80);
/// Status: erase, program, voltage and lock errors.
const ERRORS: u32 = both(0x3A);

/// Longest that a program of a buffer may take, in seconds; its maximum is some milliseconds.
const PROGRAM_SECONDS: u64 = 1;
/// Longest that the erase of a block may take, in seconds; its maximum is about four.
const ERASE_SECONDS: u64 = 8;

/// Returns a command or a status bit for both chips.
const fn both(byte: u32) -> u32 {
    byte | byte << 16
}

/// The bus to a bank. Words are numbered from the start of the bank.
pub trait Bus {
    /// Reads a word.
    fn read(&self, word: u64) -> u32;
    /// Writes a word.
    fn write(&mut self, word: u64, value: u32);
}

/// A bank that is mapped as device memory.
pub struct Mmio {
    base: u64,
    mapped: Region,
}

impl Mmio {
    /// Makes the bus to the bank at address `base`, of which `mapped` can be reached.
    ///
    /// # Safety
    /// `mapped` must be flash of that bank, mapped as device memory as long as this lives, which nothing else uses
    /// meanwhile; it must not hold address 0, and its bounds must be multiples of 4.
    pub const unsafe fn new(base: u64, mapped: Region) -> Self {
        Self { base, mapped }
    }

    fn pointer(&self, word: u64) -> Option<*mut u32> {
        let address = word.checked_mul(WORD)?.checked_add(self.base)?;
        self.mapped.contains(address, WORD).then(|| core::ptr::with_exposed_provenance_mut(address as usize))
    }
}

impl Bus for Mmio {
    fn read(&self, word: u64) -> u32 {
        match self.pointer(word) {
            // SAFETY: the word lies in flash that is mapped and ours alone, as `new` was promised.
            Some(pointer) => u32::from_le(unsafe { pointer.read_volatile() }),
            None => 0,
        }
    }

    fn write(&mut self, word: u64, value: u32) {
        if let Some(pointer) = self.pointer(word) {
            // SAFETY: as above.
            unsafe { pointer.write_volatile(value.to_le()) }
        }
    }
}

/// A bank does not do what it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal;

/// A flash bank, which its views share.
pub struct Bank<B: Bus, C: Clock> {
    bus: Mutex<B>,
    clock: C,
    /// The bank was not ready in time, and may be in any mode.
    lost: AtomicBool,
}

impl<B: Bus, C: Clock> Bank<B, C> {
    /// Takes a bank over, which is in array mode, as a reset leaves it.
    pub const fn new(bus: B, clock: C) -> Self {
        Self { bus: Mutex::new(bus), clock, lost: AtomicBool::new(false) }
    }

    /// Runs `work` with the bus of a bank that is in array mode.
    fn with<T>(&self, work: impl FnOnce(&mut B) -> Result<T, Refusal>) -> Result<T, Refusal> {
        let mut bus = self.bus.lock();
        if self.lost.load(Ordering::Relaxed) {
            return Err(Refusal);
        }
        work(&mut bus)
    }

    /// Reads one word.
    pub(crate) fn word(&self, word: u64) -> Result<u32, Refusal> {
        self.with(|bus| Ok(bus.read(word)))
    }

    /// Waits until the bank is ready, and returns its status.
    fn wait(&self, bus: &B, at: u64, seconds: u64) -> Result<u32, Refusal> {
        let until = self.clock.now().saturating_add(seconds.saturating_mul(self.clock.hz()));
        loop {
            let status = bus.read(at);
            if status & READY == READY {
                return Ok(status);
            }
            if self.clock.now() > until {
                self.lost.store(true, Ordering::Relaxed);
                return Err(Refusal);
            }
            core::hint::spin_loop();
        }
    }

    /// Waits for the end of an operation and brings the bank back into array mode.
    fn finish(&self, bus: &mut B, at: u64, seconds: u64) -> Result<(), Refusal> {
        // A chip that has refused the operation may be in array mode already: then its content is no status.
        bus.write(at, READ_STATUS);
        let status = self.wait(bus, at, seconds)?;
        bus.write(at, CLEAR_STATUS);
        bus.write(at, READ_ARRAY);
        if status & ERRORS == 0 { Ok(()) } else { Err(Refusal) }
    }

    /// Programs words that lie within one buffer: bits that are zero already stay so, on every flash.
    pub(crate) fn program(&self, first: u64, words: &[u32]) -> Result<(), Refusal> {
        let within = (first % BUFFER as u64).saturating_add(words.len() as u64);
        let Some(last) = words.len().checked_sub(1).filter(|_| within <= BUFFER as u64) else {
            return if words.is_empty() { Ok(()) } else { Err(Refusal) };
        };
        self.with(|bus| {
            let mut content = [u32::MAX; BUFFER];
            for ((place, new), at) in content.iter_mut().zip(words).zip(first..) {
                *place = new & bus.read(at);
            }
            if last == 0 {
                // A single word is no buffer's worth: QEMU's model refuses a buffer of one.
                bus.write(first, WRITE_WORD);
                bus.write(first, content[0]);
                return self.finish(bus, first, PROGRAM_SECONDS);
            }
            bus.write(first, WRITE_BUFFER);
            self.wait(bus, first, PROGRAM_SECONDS)?;
            bus.write(first, both(last as u32));
            for (word, at) in content.iter().zip(first..).take(words.len()) {
                bus.write(at, *word);
            }
            bus.write(first, CONFIRM);
            self.finish(bus, first, PROGRAM_SECONDS)
        })
    }

    /// Erases the block that starts at a word.
    fn erase_block(&self, first: u64) -> Result<(), Refusal> {
        self.with(|bus| {
            bus.write(first, ERASE);
            bus.write(first, CONFIRM);
            self.finish(bus, first, ERASE_SECONDS)
        })
    }

    /// Asks the bank what it is, with commands to the block that starts at word `block`; the answer is at its start.
    fn query(&self, block: u64) -> Option<FlashIdentity> {
        /// Where in the block the query command goes.
        const COMMAND: u64 = 0x55;
        let field = |bus: &B, at: u64| {
            let word = bus.read(at);
            let (low, high) = (word & 0xFFFF, word >> 16);
            (low == high && low <= 0xFF).then_some(u64::from(low))
        };
        let pair = |bus: &B, at: u64| Some(field(bus, at)? | field(bus, at.wrapping_add(1))? << 8);
        let answer = self.with(|bus| {
            bus.write(block.saturating_add(COMMAND), QUERY);
            let read = || {
                let magic = [field(bus, 0x10)?, field(bus, 0x11)?, field(bus, 0x12)?];
                // The Intel command set, extended or not; one region of equal blocks.
                let known = magic == [0x51, 0x52, 0x59] && matches!(pair(bus, 0x13)?, 1 | 3);
                if !known || field(bus, 0x2C)? != 1 {
                    return None;
                }
                let size = 1_u64.checked_shl(u32::try_from(field(bus, 0x27)?).ok()?)?;
                // The bank's own: QEMU's is one buffer behind both chips, and half of each is used where both have one.
                let buffer = 1_u64.checked_shl(u32::try_from(pair(bus, 0x2A)?).ok()?)?;
                let blocks = pair(bus, 0x2D)?.saturating_add(1);
                let block = pair(bus, 0x2F)?.saturating_mul(256);
                (blocks.checked_mul(block)? == size).then_some((size, block, buffer))
            };
            let answer = read();
            bus.write(block, READ_ARRAY);
            Ok(answer)
        });
        let (size, erase_block, write_buffer) = answer.ok().flatten()?;
        let chips = |bytes: u64| bytes.checked_mul(2);
        Some(FlashIdentity { size: chips(size)?, erase_block: chips(erase_block)?, write_buffer })
    }
}

/// A part of a bank. Offsets count from the start of the bank.
pub struct Nor<'a, B: Bus, C: Clock> {
    bank: &'a Bank<B, C>,
    view: View,
}

/// What a holder of part of a bank may do.
#[derive(Clone, Copy)]
pub struct View {
    /// Erase block in bytes.
    pub block: u64,
    /// The start of the bank may be read for what it says of itself, and nothing else.
    pub identity: bool,
    /// What may be read.
    pub readable: &'static [Region],
    /// What may be written.
    pub writable: &'static [Region],
}

impl<'a, B: Bus, C: Clock> Nor<'a, B, C> {
    /// Opens a part of a bank.
    pub const fn new(bank: &'a Bank<B, C>, view: View) -> Self {
        Self { bank, view }
    }

    fn inside(regions: &[Region], offset: u64, len: u64) -> bool {
        regions.iter().any(|region| region.contains(offset, len))
    }
}

impl<B: Bus, C: Clock> Identify for Nor<'_, B, C> {
    fn identify(&mut self) -> Option<FlashIdentity> {
        let block = self.view.readable.first().filter(|_| self.view.identity)?;
        self.bank.query(block.base / WORD)
    }
}

impl<B: Bus, C: Clock> Storage for Nor<'_, B, C> {
    fn size(&self) -> u64 {
        self.view.readable.iter().map(Region::end).max().unwrap_or_default()
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
        if !Self::inside(self.view.readable, offset, into.len() as u64) {
            return Err(ReadError { offset });
        }
        let read = self.bank.with(|bus| {
            let mut at = offset;
            let mut rest = into;
            while !rest.is_empty() {
                let word = bus.read(at / WORD).to_le_bytes();
                let from = word.get((at % WORD) as usize..).unwrap_or_default();
                let taken = rest.len().min(from.len());
                let Some((part, later)) = rest.split_at_mut_checked(taken) else { break };
                part.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
                at = at.saturating_add(part.len() as u64);
                rest = later;
            }
            Ok(())
        });
        read.map_err(|Refusal| ReadError { offset })
    }
}

impl<B: Bus, C: Clock> StorageMut for Nor<'_, B, C> {
    fn erase_size(&self) -> u64 {
        self.view.block
    }

    fn erase(&mut self, offset: u64, len: u64) -> Result<(), WriteError> {
        let whole = offset.is_multiple_of(self.view.block) && len.is_multiple_of(self.view.block);
        if !whole || !Self::inside(self.view.writable, offset, len) {
            return Err(WriteError { offset });
        }
        let mut at = offset;
        while at < offset.saturating_add(len) {
            self.bank.erase_block(at / WORD).map_err(|Refusal| WriteError { offset: at })?;
            at = at.saturating_add(self.view.block);
        }
        Ok(())
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
        if !Self::inside(self.view.writable, offset, bytes.len() as u64) {
            return Err(WriteError { offset });
        }
        let mut at = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            // A buffer's worth of whole words: bytes around the part of a word that is written stay as they are.
            let mut words = [u32::MAX; BUFFER];
            let first = at / WORD;
            let skip = (at % WORD) as usize;
            let buffered = (first % BUFFER as u64) as usize;
            let room = BUFFER.saturating_sub(buffered).saturating_mul(WORD as usize).saturating_sub(skip);
            let (part, later) = rest.split_at_checked(room).unwrap_or((rest, &[]));
            let mut bytes = core::iter::repeat_n(0xFF, skip).chain(part.iter().copied());
            let mut count = 0;
            for word in &mut words {
                let Some(first) = bytes.next() else { break };
                let mut next = || bytes.next().unwrap_or(0xFF);
                *word = u32::from_le_bytes([first, next(), next(), next()]);
                count += 1;
            }
            let words = words.get(..count).unwrap_or_default();
            self.bank.program(first, words).map_err(|Refusal| WriteError { offset: at })?;
            at = at.saturating_add(part.len() as u64);
            rest = later;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        // What a NOR flash has programmed is durable.
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;
