//! The rollback index of a release, and the floors of a die: one for each role that signs.

use lifecycle::ROLES;
use sealed_image::Role;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};
use std::fmt;

/// The rollback index of each role: compared with its floor in the fuses, which count to 64. In `kiln.toml` it is one number for all
/// of them, or `{ boot = 1, provision = 1, os = 2 }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RollbackIndices {
    /// That of the production stage.
    pub boot: u32,
    /// That of the provisioning stage, the package's index and secrets.
    pub provision: u32,
    /// That of the operating system and of updates.
    pub os: u32,
}

impl From<u32> for RollbackIndices {
    fn from(all: u32) -> Self {
        Self { boot: all, provision: all, os: all }
    }
}

impl RollbackIndices {
    /// Returns that of what a role signs. Roles that sign nothing of a release have none, which is 0.
    pub fn of(&self, role: Role) -> u32 {
        match role {
            Role::Boot => self.boot,
            Role::Provision => self.provision,
            Role::Os => self.os,
            Role::Authority | Role::Debug | Role::Transfer => 0,
        }
    }

    /// Lists them with their roles.
    pub(crate) fn each(&self) -> [(Role, u32); 3] {
        [Role::Boot, Role::Provision, Role::Os].map(|role| (role, self.of(role)))
    }

    /// Returns the number that all of them are.
    fn one(&self) -> Option<u32> {
        (*self == Self::from(self.os)).then_some(self.os)
    }

    /// Describes them: a number, or one for each role.
    pub fn to_json(&self) -> Value {
        match self.one() {
            Some(one) => json!(one),
            None => {
                self.each().into_iter().map(|(role, index)| (role.name().to_owned(), json!(index))).collect()
            }
        }
    }
}

impl fmt::Display for RollbackIndices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.one() {
            Some(one) => one.fmt(f),
            None => {
                let Self { boot, provision, os } = self;
                write!(f, "boot {boot}, provision {provision}, os {os}")
            }
        }
    }
}

/// The rollback floor of each role in the fuses of a die, 0 to 64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Floors([u8; ROLES as usize]);

impl From<u8> for Floors {
    fn from(all: u8) -> Self {
        Self([all; ROLES as usize])
    }
}

impl Floors {
    /// Sets the floor of a role.
    pub fn set(&mut self, role: Role, floor: u8) {
        self.0[usize::from(role.number()) - 1] = floor;
    }

    /// Returns the floor of a role.
    pub fn of(&self, role: Role) -> u8 {
        self.0[usize::from(role.number()) - 1]
    }

    /// Returns the floors once something has brought these: of each role the higher one.
    pub(crate) fn raised_to(&self, mut brought: [u8; ROLES as usize]) -> [u8; ROLES as usize] {
        brought.iter_mut().zip(self.0).for_each(|(brought, floor)| *brought = floor.max(*brought));
        brought
    }
}

/// One for each role, as it is written.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Each {
    boot: u32,
    provision: u32,
    os: u32,
}

impl Serialize for RollbackIndices {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { boot, provision, os } = *self;
        match self.one() {
            Some(one) => one.serialize(serializer),
            None => Each { boot, provision, os }.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for RollbackIndices {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Form)
    }
}

struct Form;

impl<'de> Visitor<'de> for Form {
    type Value = RollbackIndices;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number from 0 on, or { boot = …, provision = …, os = … }")
    }

    fn visit_u64<E: de::Error>(self, found: u64) -> Result<Self::Value, E> {
        let index = u32::try_from(found);
        index.map(RollbackIndices::from).map_err(|_| E::invalid_value(de::Unexpected::Unsigned(found), &self))
    }

    fn visit_i64<E: de::Error>(self, found: i64) -> Result<Self::Value, E> {
        let index = u32::try_from(found);
        index.map(RollbackIndices::from).map_err(|_| E::invalid_value(de::Unexpected::Signed(found), &self))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        let Each { boot, provision, os } = Each::deserialize(de::value::MapAccessDeserializer::new(map))?;
        Ok(RollbackIndices { boot, provision, os })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, Serialize, PartialEq)]
    struct File {
        index: RollbackIndices,
    }

    #[test]
    fn each_role_has_the_higher_floor() {
        let mut floors = Floors::from(1);
        floors.set(Role::Os, 5);
        assert_eq!((floors.of(Role::Os), floors.of(Role::Boot)), (5, 1));
        let raised = floors.raised_to([2; ROLES as usize]);
        assert_eq!(Role::ALL.map(|role| raised[usize::from(role.number()) - 1]), [2, 2, 5, 2, 2, 2]);
    }

    #[test]
    fn one_number_stands_for_all_roles_and_each_may_have_its_own() {
        let each = RollbackIndices { boot: 1, provision: 2, os: 3 };
        for (text, indices, json, said) in [
            ("index = 4\n", RollbackIndices::from(4), json!(4), "4"),
            (
                "[index]\nboot = 1\nprovision = 2\nos = 3\n",
                each,
                json!({ "boot": 1, "provision": 2, "os": 3 }),
                "boot 1, provision 2, os 3",
            ),
        ] {
            let file: File = toml::from_str(text).unwrap();
            assert_eq!(file.index, indices);
            assert_eq!(toml::to_string(&file).unwrap(), text);
            assert_eq!((indices.to_json(), indices.to_string()), (json, said.into()));
        }
        assert_eq!(Role::ALL.map(|role| each.of(role)), [1, 2, 3, 0, 0, 0]);
        for (text, words) in [
            ("index = -1", "-1"),
            ("index = 4294967296", "4294967296"),
            ("index = \"1\"", "a number from 0 on"),
            ("index = { boot = 1, os = 2 }", "missing field `provision`"),
            ("index = { boot = 1, provision = 1, os = 2, debug = 3 }", "unknown field `debug`"),
            ("index = { boot = 1, provision = 1, os = -2 }", "-2"),
        ] {
            let error = toml::from_str::<File>(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
