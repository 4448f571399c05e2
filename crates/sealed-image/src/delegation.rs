//! What the owner root lets other keys sign.

use crate::cbor::{self, Canonical, Writer};
use crate::cose::{MAX_SIGNATURES, PublicKey, UntrustedCertificate};
use crate::{Kind, Role, Version};
use minicbor::Decoder;

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

impl<'b> Canonical<'b> for Grant<'b> {
    fn decode(d: &mut Decoder<'b>) -> Option<Self> {
        cbor::map(d, 6)?;
        cbor::int(d, 1)?;
        let role = Role::from_number(cbor::uint(d)?)?;
        cbor::int(d, 2)?;
        let key = PublicKey::decode(d)?;
        cbor::int(d, 3)?;
        let mut kinds = KindSet::default();
        for _ in 0..cbor::array_len(d)? {
            // A kind listed twice encodes differently again, which ends the loop of a huge count as well: every
            // round reads at least one byte.
            kinds.0 |= KindSet::bit(Kind::from_number(cbor::uint(d)?)?);
        }
        cbor::int(d, 4)?;
        let mut boards = [""; MAX_BOARDS];
        let count = usize::try_from(cbor::array_len(d)?).ok()?;
        if count > boards.len() {
            return None;
        }
        for board in boards.iter_mut().take(count) {
            *board = cbor::name(d)?;
        }
        cbor::int(d, 5)?;
        let min_version = Version(cbor::uint(d)?);
        cbor::int(d, 6)?;
        let max_version = Version(cbor::uint(d)?);
        Some(Self { role, key, kinds, boards, min_version, max_version })
    }

    fn encode(&self, e: &mut Writer<'_>) {
        e.map(6).uint(1).uint(u64::from(self.role.number())).uint(2);
        self.key.encode(e);
        e.uint(3).array(self.kinds.iter().count() as u64);
        for kind in self.kinds.iter() {
            e.uint(u64::from(kind.number()));
        }
        e.uint(4).array(self.boards().count() as u64);
        for board in self.boards() {
            e.text(board);
        }
        e.uint(5).uint(self.min_version.0).uint(6).uint(self.max_version.0);
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

impl<'b> Canonical<'b> for UntrustedDelegation<'b> {
    fn decode(d: &mut Decoder<'b>) -> Option<Self> {
        let items = usize::try_from(cbor::array_len(d)?).ok()?;
        let root_key = PublicKey::decode(d)?;
        let mut certificates = [None; MAX_SIGNATURES];
        let count = items.checked_sub(1)?;
        if count == 0 || count > certificates.len() {
            return None;
        }
        for certificate in certificates.iter_mut().take(count) {
            *certificate = Some(UntrustedCertificate::decode(d)?);
        }
        Some(Self { root_key, certificates })
    }

    fn encode(&self, e: &mut Writer<'_>) {
        e.array(self.certificates().count() as u64 + 1);
        self.root_key.encode(e);
        self.certificates().for_each(|certificate| certificate.encode(e));
    }
}
