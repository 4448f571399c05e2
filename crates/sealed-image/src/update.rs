//! The payload of an update's index, and whether a device takes the update.
//!
//! # Threats
//! *Whoever writes the place where updates arrive* brings an old update, one of another product or board, one that was cut
//! off, or the parts of two. Each is refused with its own code, and before anything is written to a slot: whether this
//! device takes it is decided from the index alone, then every object is held against it.
//!
//! *Whoever holds the key of the role `os`* signs the index, and so names the objects of other roles. He must get no more of
//! them than they signed themselves: the rollback index of a role is the one in the manifests of the objects that this
//! role signed, so he raises no floor but his own, and an object counts only in the version that it was signed as, so he
//! brings no older production stage into a newer update.
//!
//! *Faults.* An image that is installed is verified again on each boot, against the fuses. So the decisions here are taken
//! once: whoever turns one round installs what the owner signed at or above the floor, which whoever writes the storage
//! can do anyhow.

mod admission;
mod error;
mod key;

pub use admission::{Admission, Installed};
pub use error::UpdateError;
pub use key::UpdateKey;

use crate::bundle::MAX_OBJECTS;
use crate::cbor::{self, Decode, Reader};
use crate::{Kind, PackageObject, Role, Version};

/// Most objects of an update: the production stage, the bundle, the bundle's objects.
pub const MAX_UPDATE_OBJECTS: usize = 2 + MAX_OBJECTS;

/// A rollback index for each role that signs something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoleIndices([Option<u32>; Role::ALL.len()]);

impl RoleIndices {
    /// Returns the rollback index of a role; `None` where it signs nothing.
    pub fn of(&self, role: Role) -> Option<u32> {
        self.iter().find(|(found, _)| *found == role).map(|(_, index)| index)
    }

    /// Lists them in the order of the roles.
    pub fn iter(&self) -> impl Iterator<Item = (Role, u32)> {
        Role::ALL.into_iter().zip(self.0).filter_map(|(role, index)| Some((role, index?)))
    }

    /// Sets the rollback index of a role.
    pub fn set(&mut self, role: Role, index: u32) {
        let place = Role::ALL.iter().zip(&mut self.0).find(|(found, _)| **found == role);
        place.into_iter().for_each(|(_, place)| *place = Some(index));
    }
}

/// What an update brings, in the order in which it lies behind the index: the production stage unless it stays as it
/// is, the bundle, the bundle's objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Update<'a> {
    /// The product that it is for.
    pub product: &'a str,
    /// The lowest version that it can be installed over.
    pub minimum_version: Version,
    /// What the floors may rise to: the rollback index of each role that signs something in it.
    pub indices: RoleIndices,
    objects: [Option<PackageObject<'a>>; MAX_UPDATE_OBJECTS],
}

impl<'a> Update<'a> {
    /// Parses the payload of an update's index, already decrypted and known to be signed.
    ///
    /// # Errors
    /// Anything but the one encoding of objects of different kinds in their order, and a rollback index for each role
    /// that signs some.
    pub fn parse(payload: &'a [u8]) -> Result<Self, UpdateError> {
        let update: Self = cbor::parse_exact(payload).map_err(|offset| UpdateError::Malformed { offset })?;
        update.check()?;
        Ok(update)
    }

    /// Lists the objects in their order.
    pub fn objects(&self) -> impl Iterator<Item = &PackageObject<'a>> {
        self.objects.iter().flatten()
    }

    /// Makes an update.
    ///
    /// # Errors
    /// Whatever a device would refuse.
    #[cfg(feature = "host")]
    pub fn new(
        product: &'a str,
        minimum_version: Version,
        indices: RoleIndices,
        objects: &[PackageObject<'a>],
    ) -> Result<Self, UpdateError> {
        let mut places = [None; MAX_UPDATE_OBJECTS];
        if objects.len() > places.len() || !cbor::is_name(product) {
            return Err(UpdateError::Malformed { offset: 0 });
        }
        places.iter_mut().zip(objects).for_each(|(place, object)| *place = Some(*object));
        let update = Self { product, minimum_version, indices, objects: places };
        update.check()?;
        Ok(update)
    }

    /// Encodes the payload.
    #[cfg(feature = "host")]
    pub fn encode(&self) -> std::vec::Vec<u8> {
        cbor::encode(|e| {
            e.map(4)?.u8(1)?.str(self.product)?.u8(2)?.u64(self.minimum_version.0)?;
            e.u8(3)?.array(self.indices.iter().count() as u64)?;
            for (role, index) in self.indices.iter() {
                e.array(2)?.u8(role.number())?.u32(index)?;
            }
            e.u8(4)?.array(self.objects().count() as u64)?;
            for object in self.objects() {
                e.array(2)?.u8(object.kind.number())?.bytes(object.manifest_digest)?;
            }
            e.ok()
        })
    }

    fn check(&self) -> Result<(), UpdateError> {
        for (place, object) in (0_u32..).zip(self.objects()) {
            let kind = object.kind;
            let mut before = self.objects().take(place as usize).map(|object| object.kind);
            if before.any(|earlier| earlier == kind) {
                return Err(UpdateError::Twice { kind });
            }
            let mut before = self.objects().take(place as usize).map(|object| object.kind);
            let fits = match kind {
                Kind::Stage2 => place == 0,
                Kind::Bundle => before.all(|earlier| earlier == Kind::Stage2),
                Kind::Kernel | Kind::DeviceTree | Kind::Initramfs => {
                    before.any(|earlier| earlier == Kind::Bundle)
                }
                Kind::Tee => return Err(UpdateError::Reserved { kind }),
                _ => false,
            };
            if !fits {
                return Err(UpdateError::Order { place, kind });
            }
        }
        for kind in [Kind::Bundle, Kind::Kernel, Kind::DeviceTree] {
            if !self.objects().any(|object| object.kind == kind) {
                return Err(UpdateError::Missing { kind });
            }
        }
        for role in Role::ALL {
            // The role of the index itself signs in every update.
            let signs = Kind::Update.role() == Some(role)
                || self.objects().any(|object| object.kind.role() == Some(role));
            if signs != self.indices.of(role).is_some() {
                return Err(UpdateError::Roles { role });
            }
        }
        Ok(())
    }
}

impl<'b> Decode<'b> for Update<'b> {
    fn decode(r: &mut Reader<'b>) -> Option<Self> {
        r.map(4)?;
        r.key(1)?;
        let product = r.name()?;
        r.key(2)?;
        let minimum_version = Version(r.uint()?);
        r.key(3)?;
        let mut indices = RoleIndices::default();
        let mut last = 0;
        for _ in 0..r.array_up_to(Role::ALL.len())? {
            r.array(2)?;
            let role = Role::from_number(r.uint()?).filter(|role| role.number() > last)?;
            last = role.number();
            indices.set(role, r.uint()?);
        }
        r.key(4)?;
        let mut objects = [None; MAX_UPDATE_OBJECTS];
        let count = r.array_up_to(objects.len())?;
        for object in objects.iter_mut().take(count) {
            r.array(2)?;
            let kind = Kind::from_number(r.uint()?)?;
            *object = Some(PackageObject { kind, manifest_digest: r.fixed()? });
        }
        Some(Self { product, minimum_version, indices, objects })
    }
}
