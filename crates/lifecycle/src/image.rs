//! Making OTP images on a host.

use crate::map::{COPIES, COPY_WORDS, VALID_FLAG};
use crate::redundancy::{FLAG_BURNED, MAX_LEVEL, encode};
use crate::{Lifecycle, Row, WORDS};
use std::{vec, vec::Vec};

/// What is burned into a die.
#[derive(Clone)]
pub struct Die {
    /// Tells dies apart.
    pub chip_id: [u8; 16],
    /// The silicon vendor's secret.
    pub silicon_secret: [u8; 32],
    /// SHA-256 of the owner root key, for the first slot.
    pub root_digest: [u8; 32],
    /// The key that opens stage1; not burned on a development die.
    pub provisioning_key: [u8; 32],
    /// The device seed; burned in `Closing`, `Production`, `Returned` and `Development`.
    pub device_seed: [u8; 32],
    /// The closing measurement; burned in `Closing`, `Production` and `Returned`.
    pub closing_measurement: [u8; 32],
    /// Rollback floor of each role, at the index of its number less 1; 0 to 64.
    pub floors: [u8; 6],
    /// How often the owner changed, 0 to 64.
    pub owner_generation: u8,
}

/// The content of an OTP bank. Its methods burn: they set bits and clear none.
#[derive(Clone, PartialEq, Eq)]
pub struct OtpImage {
    words: Vec<u32>,
}

impl OtpImage {
    /// Makes a bank in which nothing is burned.
    pub fn blank() -> Self {
        Self { words: vec![0; WORDS] }
    }

    /// Makes the bank of a die that has come as far as `lifecycle`, with the locks of that state.
    pub fn for_die(lifecycle: Lifecycle, die: &Die) -> Self {
        use Lifecycle::{Blank, Closing, Development, Production, Returned};
        let mut image = Self::blank();
        let mut id = [0; 32];
        id[..16].copy_from_slice(&die.chip_id);
        image.record(Row::ChipId, &id).record(Row::SiliconSecret, &die.silicon_secret);
        image.lock(Row::ChipId).lock(Row::SiliconSecret);
        if lifecycle == Blank {
            return image;
        }
        image.root(0, &die.root_digest).secure_boot();
        for (role, floor) in (1..).zip(die.floors) {
            image.floor(role, floor);
        }
        image.owner_generation(die.owner_generation);
        for row in Row::OWNER_ROOTS {
            image.lock(row);
        }
        if lifecycle != Development {
            image.debug_lock().lock(Row::DebugLock);
            image.record(Row::ProvisioningKey, &die.provisioning_key).lock(Row::ProvisioningKey);
        }
        if matches!(lifecycle, Closing | Production | Returned) {
            image.record(Row::ClosingMeasurement, &die.closing_measurement).lock(Row::ClosingMeasurement);
        }
        if matches!(lifecycle, Closing | Production | Returned | Development) {
            image.record(Row::DeviceSeed, &die.device_seed).lock(Row::DeviceSeed);
        }
        image.lifecycle(lifecycle)
    }

    /// Reads back the bytes of the OTP block of a NOR flash; bytes past the map are not looked at, missing ones
    /// are not burned.
    pub fn from_flash(block: &[u8]) -> Self {
        let mut image = Self::blank();
        for (word, bytes) in image.words.iter_mut().zip(block.chunks_exact(4)) {
            *word = !u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        image
    }

    /// Returns the bytes of a NOR flash block of `size` bytes that stands in for the bank: words little-endian
    /// with every bit inverted, the rest erased.
    ///
    /// # Panics
    /// If the block is smaller than the map.
    pub fn to_flash(&self, size: usize) -> Vec<u8> {
        assert!(size >= 4 * WORDS, "the OTP block is smaller than the map");
        let mut block: Vec<u8> = self.words.iter().flat_map(|word| (!word).to_le_bytes()).collect();
        block.resize(size, 0xFF);
        block
    }

    /// Returns the words.
    pub fn words(&self) -> &[u32] {
        &self.words
    }

    /// Returns the words, to damage them in a test.
    pub fn words_mut(&mut self) -> &mut [u32] {
        &mut self.words
    }

    /// Burns the lifecycle codeword on top of what is there.
    #[must_use]
    pub fn lifecycle(mut self, lifecycle: Lifecycle) -> Self {
        self.burn(Row::Lifecycle.first_word(), &[lifecycle.codeword(); COPIES]);
        self
    }

    /// Burns a record row.
    pub fn record(&mut self, row: Row, bytes: &[u8; 32]) -> &mut Self {
        let mut data = [0; 8];
        for (word, bytes) in data.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        let copy = encode(row.number(), &data);
        self.burn(row.first_word(), &*copy);
        self.burn(row.first_word() + COPY_WORDS, &*copy)
    }

    /// Burns an owner root digest and its valid flag.
    pub fn root(&mut self, slot: usize, digest: &[u8; 32]) -> &mut Self {
        let row = Row::OWNER_ROOTS[slot];
        self.record(row, digest).burn(row.first_word() + VALID_FLAG, &[FLAG_BURNED; COPIES])
    }

    /// Revokes an owner root slot.
    pub fn revoke_root(&mut self, slot: usize) -> &mut Self {
        assert!(slot < Row::OWNER_ROOTS.len(), "there is no root slot {slot}");
        self.flag(Row::RootRevocation, slot)
    }

    /// Burns the debug lock.
    pub fn debug_lock(&mut self) -> &mut Self {
        self.flag(Row::DebugLock, 0)
    }

    /// Burns the secure boot bit.
    pub fn secure_boot(&mut self) -> &mut Self {
        self.flag(Row::BootPolicy, 0)
    }

    /// Burns the bit that asks for post-quantum signatures, which no release grants yet.
    pub fn require_post_quantum(&mut self) -> &mut Self {
        self.flag(Row::BootPolicy, 1)
    }

    /// Raises the rollback floor of a role, 1 to 6, to `level`, 0 to 64.
    pub fn floor(&mut self, role: u8, level: u8) -> &mut Self {
        self.thermometer(Row::FLOORS[usize::from(role) - 1], level)
    }

    /// Raises the owner generation, 0 to 64.
    pub fn owner_generation(&mut self, level: u8) -> &mut Self {
        self.thermometer(Row::OwnerGeneration, level)
    }

    /// Locks a row.
    pub fn lock(&mut self, row: Row) -> &mut Self {
        self.burn(row.lock_words().start, &[FLAG_BURNED; COPIES])
    }

    fn flag(&mut self, row: Row, flag: usize) -> &mut Self {
        self.burn(row.first_word() + flag * COPIES, &[FLAG_BURNED; COPIES])
    }

    fn thermometer(&mut self, row: Row, level: u8) -> &mut Self {
        assert!(level <= MAX_LEVEL, "a thermometer holds at most {MAX_LEVEL}, not {level}");
        let bits = ((1_u128 << level) - 1) as u64;
        for copy in 0..COPIES {
            self.burn(row.first_word() + 2 * copy, &[bits as u32, (bits >> 32) as u32]);
        }
        self
    }

    fn burn(&mut self, first: usize, words: &[u32]) -> &mut Self {
        for (into, word) in self.words[first..].iter_mut().zip(words) {
            *into |= word;
        }
        self
    }
}

impl hal::Otp for OtpImage {
    fn words(&self) -> usize {
        self.words.len()
    }

    fn read(&self, index: usize) -> Option<u32> {
        self.words.get(index).copied()
    }
}
