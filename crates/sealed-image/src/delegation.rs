//! What the owner root lets other keys sign.

#[cfg(feature = "host")]
use crate::cbor;
use crate::cbor::{Decode, Reader};
use crate::cose::{MAX_SIGNATURES, PublicKey, UntrustedCertificate};
use crate::{Kind, Role, Version};

/// Most boards that one certificate lists.
pub const MAX_BOARDS: usize = 8;

/// A set of kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KindSet(u16);

impl KindSet {
    /// Makes a set of the kinds in `kinds`.
    pub fn new(kinds: &[Kind]) -> Self {
        Self(kinds.iter().fold(0, |set, kind| set | Self::bit(*kind)))
    }

    /// Tells whether `kind` is in the set.
    pub const fn contains(self, kind: Kind) -> bool {
        self.0 & Self::bit(kind) != 0
    }

    /// Lists the kinds in the order of their numbers.
    pub fn iter(self) -> impl Iterator<Item = Kind> {
        Kind::ALL.into_iter().filter(move |kind| self.contains(*kind))
    }

    const fn bit(kind: Kind) -> u16 {
        match kind {
            Kind::Stage1 => 1,
            Kind::Stage2 => 1 << 1,
            Kind::Kernel => 1 << 2,
            Kind::DeviceTree => 1 << 3,
            Kind::Initramfs => 1 << 4,
            Kind::Tee => 1 << 5,
            Kind::Secret => 1 << 6,
            Kind::FusePlan => 1 << 7,
            Kind::Bundle => 1 << 8,
            Kind::Update => 1 << 9,
            Kind::Package => 1 << 10,
        }
    }
}

/// What a delegation certificate says: this key may act in this role, within these limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant<'a> {
    /// The role.
    pub role: Role,
    /// The key that acts in it.
    pub key: PublicKey<'a>,
    /// Kinds that the key may sign.
    pub kinds: KindSet,
    /// Boards that it may sign for; the unused places at the end are empty.
    pub boards: [&'a str; MAX_BOARDS],
    /// Lowest version that it may sign.
    pub min_version: Version,
    /// Highest version that it may sign.
    pub max_version: Version,
}

impl<'a> Grant<'a> {
    /// Lists the boards.
    pub fn boards(&self) -> impl Iterator<Item = &'a str> {
        self.boards.into_iter().filter(|board| !board.is_empty())
    }
}

#[cfg(feature = "host")]
impl Grant<'_> {
    /// Encodes what a certificate says.
    pub(crate) fn encode(&self) -> std::vec::Vec<u8> {
        let mut encoded = cbor::encode(|e| e.map(6)?.u8(1)?.u8(self.role.number())?.u8(2)?.ok());
        encoded.extend(crate::host::encode_key(&self.key));
        encoded.extend(cbor::encode(|e| {
            e.u8(3)?.array(self.kinds.iter().count() as u64)?;
            for kind in self.kinds.iter() {
                e.u8(kind.number())?;
            }
            e.u8(4)?.array(self.boards().count() as u64)?;
            for board in self.boards() {
                e.str(board)?;
            }
            e.u8(5)?.u64(self.min_version.0)?.u8(6)?.u64(self.max_version.0)?.ok()
        }));
        encoded
    }
}

impl<'b> Decode<'b> for Grant<'b> {
    fn decode(r: &mut Reader<'b>) -> Option<Self> {
        r.map(6)?;
        r.key(1)?;
        let role = Role::from_number(r.uint()?)?;
        r.key(2)?;
        let key = PublicKey::decode(r)?;
        r.key(3)?;
        let mut kinds = KindSet::default();
        let mut last = 0;
        for _ in 0..r.array_up_to(Kind::ALL.len())? {
            let kind = Kind::from_number(r.uint()?).filter(|kind| kind.number() > last)?;
            last = kind.number();
            kinds.0 |= KindSet::bit(kind);
        }
        r.key(4)?;
        let mut boards = [""; MAX_BOARDS];
        let count = r.array_up_to(boards.len())?;
        for board in boards.iter_mut().take(count) {
            *board = r.name()?;
        }
        r.key(5)?;
        let min_version = Version(r.uint()?);
        r.key(6)?;
        let max_version = Version(r.uint()?);
        Some(Self { role, key, kinds, boards, min_version, max_version })
    }
}

/// The delegation part of an image: the shape only, nothing is verified.
pub(crate) struct UntrustedDelegation<'a> {
    pub(crate) root_key: PublicKey<'a>,
    certificates: [Option<UntrustedCertificate<'a>>; MAX_SIGNATURES],
}

impl<'a> UntrustedDelegation<'a> {
    pub(crate) fn certificates(&self) -> impl Iterator<Item = &UntrustedCertificate<'a>> {
        self.certificates.iter().flatten()
    }
}

impl<'b> Decode<'b> for UntrustedDelegation<'b> {
    fn decode(r: &mut Reader<'b>) -> Option<Self> {
        let mut certificates = [None; MAX_SIGNATURES];
        let count = r.array_up_to(certificates.len() + 1)?.checked_sub(1).filter(|count| *count > 0)?;
        let root_key = PublicKey::decode(r)?;
        for certificate in certificates.iter_mut().take(count) {
            *certificate = Some(UntrustedCertificate::decode(r)?);
        }
        Some(Self { root_key, certificates })
    }
}
