//! Making OTP images on a host.

use crate::{Closing, Development, Fabrication, Lifecycle, Plan, PreProvisioning, Row, WORDS};
use boot_crypto::Key;
use hal::BurnError;
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
        let mut image = Self::blank();
        let silicon_secret = &Key::new(die.silicon_secret);
        image.apply(&Plan::fabrication(&Fabrication { chip_id: die.chip_id, silicon_secret }));
        let device_seed = &Key::new(die.device_seed);
        let (root_digest, floors) = (die.root_digest, die.floors);
        match lifecycle {
            Lifecycle::Blank => return image,
            Lifecycle::Development => {
                let development = Development { root_digest, device_seed, floors };
                image.apply(&Plan::development(&development).expect("a floor is at most 64"));
                return image.with_generation(die.owner_generation);
            }
            Lifecycle::Secured | Lifecycle::Closing | Lifecycle::Production | Lifecycle::Returned => {}
        }
        let provisioning_key = &Key::new(die.provisioning_key);
        let secured = PreProvisioning { root_digest, provisioning_key, floors };
        image.apply(&Plan::pre_provisioning(&secured).expect("a floor is at most 64"));
        if lifecycle != Lifecycle::Secured {
            let closing = Closing { measurement: die.closing_measurement, device_seed, floors };
            let closing = Plan::closing(&closing).expect("a floor is at most 64");
            let last = Row::Lifecycle.words();
            for burn in closing.burns().filter(|burn| !last.contains(&burn.word)) {
                image.words[burn.word] |= burn.bits;
            }
        }
        image.with_generation(die.owner_generation).lifecycle(lifecycle)
    }

    fn with_generation(mut self, generation: u8) -> Self {
        self.owner_generation(generation);
        self
    }

    /// Burns a plan whole, without a look at what is there.
    pub fn apply(&mut self, plan: &Plan) -> &mut Self {
        for burn in plan.burns() {
            self.words[burn.word] |= burn.bits;
        }
        self
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
        self.with(|plan| plan.lifecycle(lifecycle));
        self
    }

    /// Burns a record row.
    pub fn record(&mut self, row: Row, bytes: &[u8; 32]) -> &mut Self {
        self.with(|plan| plan.record(row, bytes))
    }

    /// Burns an owner root digest and its valid flag.
    pub fn root(&mut self, slot: usize, digest: &[u8; 32]) -> &mut Self {
        self.with(|plan| plan.root(Row::OWNER_ROOTS[slot], digest))
    }

    /// Revokes an owner root slot.
    pub fn revoke_root(&mut self, slot: usize) -> &mut Self {
        assert!(slot < Row::OWNER_ROOTS.len(), "there is no root slot {slot}");
        self.with(|plan| plan.flag(Row::RootRevocation, slot))
    }

    /// Burns the debug lock.
    pub fn debug_lock(&mut self) -> &mut Self {
        self.with(|plan| plan.flag(Row::DebugLock, 0))
    }

    /// Burns the secure boot bit.
    pub fn secure_boot(&mut self) -> &mut Self {
        self.with(|plan| plan.flag(Row::BootPolicy, 0))
    }

    /// Burns the bit that asks for post-quantum signatures, which no release grants yet.
    pub fn require_post_quantum(&mut self) -> &mut Self {
        self.with(|plan| plan.flag(Row::BootPolicy, 1))
    }

    /// Raises the rollback floor of a role, 1 to 6, to `level`, 0 to 64.
    pub fn floor(&mut self, role: u8, level: u8) -> &mut Self {
        let row = Row::FLOORS[usize::from(role) - 1];
        self.with(|plan| plan.level(row, level).expect("a floor is at most 64"))
    }

    /// Raises the owner generation, 0 to 64.
    pub fn owner_generation(&mut self, level: u8) -> &mut Self {
        self.with(|plan| plan.level(Row::OwnerGeneration, level).expect("a generation is at most 64"))
    }

    /// Locks a row.
    pub fn lock(&mut self, row: Row) -> &mut Self {
        self.with(|plan| plan.lock(row))
    }

    fn with(&mut self, add: impl FnOnce(&mut Plan) -> &mut Plan) -> &mut Self {
        let mut plan = Plan::empty();
        add(&mut plan);
        self.apply(&plan)
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

impl hal::OtpBurn for OtpImage {
    /// Burns without a look at locks, as a test or an external tool may want it.
    fn burn(&mut self, index: usize, bits: u32) -> Result<(), BurnError> {
        *self.words.get_mut(index).ok_or(BurnError::NoSuchWord { index })? |= bits;
        Ok(())
    }
}
