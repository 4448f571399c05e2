//! What a die may say of its fuses: every row but those that tell dies apart, in one encoding.

use crate::map::{COPIES, ROOT_SLOTS};
use crate::reader::Reader;
use crate::{Error, Flag, Lifecycle, MAX_LEVEL, ROLES, Row, Rows};
use boot_crypto::{DIGEST_BYTES, Digest, Key, sha256};
use hal::Otp;

/// Version of the encoding, its first byte.
const VERSION: u8 = 1;
/// Flags of the boot policy row.
const POLICY_FLAGS: usize = 4;
/// A record: its state, then its content or zeros.
const RECORD_SIZE: usize = 1 + DIGEST_BYTES;

/// How far a record is burned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// Not at all.
    Blank,
    /// In part, or damaged beyond what redundancy covers.
    Torn,
    /// Whole, with this content; of a secret it is the tag ([`fuse_tag`]).
    Whole([u8; 32]),
}

/// An owner root slot as its fuses stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RootFact {
    /// The digest of the owner root key.
    pub digest: Record,
    /// Its valid flag.
    pub valid: Flag,
    /// Its revoked flag.
    pub revoked: Flag,
}

/// The fuses of a die as far as they do not tell it from others: what a lot's fuse policy fixes.
///
/// Chip id, silicon secret and device seed are left out, all but their locks. Drift that redundancy corrects
/// changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FuseFacts {
    /// The lifecycle.
    pub lifecycle: Lifecycle,
    /// The debug lock.
    pub debug_lock: Flag,
    /// The owner root slots.
    pub roots: [RootFact; ROOT_SLOTS],
    /// The provisioning key, as a tag.
    pub provisioning_key: Record,
    /// The closing measurement.
    pub closing_measurement: Record,
    /// Rollback floor of each role, at the index of its number less 1.
    pub floors: [u8; ROLES as usize],
    /// How often the owner changed.
    pub owner_generation: u8,
    /// The boot policy: secure boot, require post-quantum, two reserved.
    pub policy: [Flag; POLICY_FLAGS],
    /// The locked rows; a lock that is burned in part counts.
    pub locks: Rows,
}

/// Returns the tag by which a fuse policy knows the secret of a row.
pub fn fuse_tag(row: Row, secret: &Key) -> Digest {
    boot_crypto::fuse_tag(row.number(), secret)
}

impl FuseFacts {
    /// Length of the encoding in bytes.
    pub const SIZE: usize =
        1 + 4 + 4 + 1 + POLICY_FLAGS + ROLES as usize + 1 + ROOT_SLOTS * (2 + RECORD_SIZE) + 2 * RECORD_SIZE;

    /// Reads the facts of any die whose lifecycle is known.
    ///
    /// # Errors
    /// Refuses a bank that is too small, and lifecycle words that stand for no state.
    pub fn read(otp: &impl Otp) -> Result<Self, Error> {
        let mut reader = Reader::new(otp)?;
        let revoked = reader.roots_revoked()?;
        let unknown = RootFact { digest: Record::Torn, valid: Flag::Torn, revoked: Flag::Torn };
        let mut roots = [unknown; ROOT_SLOTS];
        for ((root, revoked), row) in roots.iter_mut().zip(revoked).zip(Row::OWNER_ROOTS) {
            *root = RootFact { digest: reader.record_state(row)?, valid: reader.root_valid(row)?, revoked };
        }
        let provisioning_key = match reader.record(Row::ProvisioningKey) {
            Ok(key) => Record::Whole(fuse_tag(Row::ProvisioningKey, &key)),
            Err(_) => reader.record_state(Row::ProvisioningKey)?,
        };
        let mut floors = [0; ROLES as usize];
        for (floor, row) in floors.iter_mut().zip(Row::FLOORS) {
            *floor = reader.level(row)?;
        }
        let mut policy = [Flag::Torn; POLICY_FLAGS];
        for (flag, number) in policy.iter_mut().zip(0..) {
            *flag = reader.flag(Row::BootPolicy, number)?;
        }
        Ok(Self {
            lifecycle: reader.lifecycle()?,
            debug_lock: reader.flag(Row::DebugLock, 0)?,
            roots,
            provisioning_key,
            closing_measurement: reader.record_state(Row::ClosingMeasurement)?,
            floors,
            owner_generation: reader.level(Row::OwnerGeneration)?,
            policy,
            locks: reader.locks()?,
        })
    }

    /// Returns the encoding, the only one of these facts. The crate's README draws it.
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        let mut places = bytes.iter_mut();
        let mut put = |part: &[u8]| part.iter().zip(places.by_ref()).for_each(|(from, to)| *to = *from);
        put(&[VERSION]);
        put(&self.lifecycle.codeword().to_le_bytes());
        put(&self.locks.bits().to_le_bytes());
        put(&[flag_byte(self.debug_lock)]);
        put(&self.policy.map(flag_byte));
        put(&self.floors);
        put(&[self.owner_generation]);
        for root in &self.roots {
            put(&[flag_byte(root.valid), flag_byte(root.revoked)]);
            put(&record_bytes(&root.digest));
        }
        put(&record_bytes(&self.provisioning_key));
        put(&record_bytes(&self.closing_measurement));
        bytes
    }

    /// Decodes facts, and refuses whatever [`encode`](Self::encode) does not make.
    ///
    /// # Errors
    /// [`Error::FactsLength`], [`Error::FactsVersion`] and [`Error::FactsMalformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() != Self::SIZE {
            return Err(Error::FactsLength(bytes.len()));
        }
        let mut fields = Fields(bytes);
        let [version] = fields.take()?;
        if version != VERSION {
            return Err(Error::FactsVersion(version));
        }
        let malformed = fields.malformed();
        let word = u32::from_le_bytes(fields.take()?);
        let lifecycle = Lifecycle::ALL.into_iter().find(|state| state.codeword() == word).ok_or(malformed)?;
        let malformed = fields.malformed();
        let locks = Rows::from_bits(u32::from_le_bytes(fields.take()?)).ok_or(malformed)?;
        let debug_lock = fields.flag()?;
        let policy = [fields.flag()?, fields.flag()?, fields.flag()?, fields.flag()?];
        let mut floors = [0; ROLES as usize];
        for floor in &mut floors {
            *floor = fields.level()?;
        }
        let owner_generation = fields.level()?;
        let roots = [fields.root()?, fields.root()?, fields.root()?, fields.root()?];
        let (provisioning_key, closing_measurement) = (fields.record()?, fields.record()?);
        Ok(Self {
            lifecycle,
            debug_lock,
            roots,
            provisioning_key,
            closing_measurement,
            floors,
            owner_generation,
            policy,
            locks,
        })
    }

    /// Returns the fuse digest: SHA-256 of the encoding.
    pub fn digest(&self) -> Digest {
        sha256(&self.encode())
    }
}

const fn flag_byte(flag: Flag) -> u8 {
    match flag {
        Flag::Clear => 0,
        Flag::Set => 1,
        Flag::Torn => 2,
    }
}

fn record_bytes(record: &Record) -> [u8; RECORD_SIZE] {
    let (state, content) = match record {
        Record::Blank => (0, [0; 32]),
        Record::Whole(content) => (1, *content),
        Record::Torn => (2, [0; 32]),
    };
    let mut bytes = [state; RECORD_SIZE];
    bytes.iter_mut().skip(1).zip(content).for_each(|(to, from)| *to = from);
    bytes
}

/// The fields that are still to be decoded.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    /// Returns the error for the field that comes next.
    fn malformed(&self) -> Error {
        Error::FactsMalformed(FuseFacts::SIZE.saturating_sub(self.0.len()))
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (field, rest) = self.0.split_first_chunk().ok_or(self.malformed())?;
        self.0 = rest;
        Ok(*field)
    }

    fn flag(&mut self) -> Result<Flag, Error> {
        let malformed = self.malformed();
        match self.take()? {
            [0] => Ok(Flag::Clear),
            [1] => Ok(Flag::Set),
            [2] => Ok(Flag::Torn),
            [_] => Err(malformed),
        }
    }

    fn level(&mut self) -> Result<u8, Error> {
        let malformed = self.malformed();
        let [level] = self.take()?;
        if level <= MAX_LEVEL { Ok(level) } else { Err(malformed) }
    }

    fn record(&mut self) -> Result<Record, Error> {
        let malformed = self.malformed();
        let [state] = self.take()?;
        let content: [u8; 32] = self.take()?;
        match state {
            0 if content == [0; 32] => Ok(Record::Blank),
            1 => Ok(Record::Whole(content)),
            2 if content == [0; 32] => Ok(Record::Torn),
            _ => Err(malformed),
        }
    }

    fn root(&mut self) -> Result<RootFact, Error> {
        let (valid, revoked) = (self.flag()?, self.flag()?);
        Ok(RootFact { digest: self.record()?, valid, revoked })
    }
}

const _: () = {
    assert!(FuseFacts::SIZE == 227);
    assert!(Row::BootPolicy.word_count() == POLICY_FLAGS * COPIES);
};
