//! The published test keys and secrets of development dies.
//!
//! Everybody can sign with these: each is the SHA-256 of a label that says so, and the RSA key lies in the
//! repository. [`boot_crypto::test_keys`] lists them by value, and everything but a development die refuses
//! them.

use crate::{DieSecrets, Error, Owner, Profile, RoleKey};
use boot_crypto::host::{Es256Key, Ps256Key};
use boot_crypto::sha256;
use memory_map::qemu_virt::BOARD;
use sealed_image::Role;

/// Label of the test owner root.
pub const ROOT: &str = "KILN TEST KEY owner root - DO NOT SHIP";
/// Label of the test key of the role `boot`.
pub const BOOT: &str = "KILN TEST KEY role boot - DO NOT SHIP";
/// Label of the test key of the role `provision`.
pub const PROVISION: &str = "KILN TEST KEY role provision - DO NOT SHIP";
/// Label of the test key of the role `os`.
pub const OS: &str = "KILN TEST KEY role os - DO NOT SHIP";
/// Label of the silicon secret of a development die.
pub const SILICON_SECRET: &str = "KILN TEST SECRET silicon - DO NOT SHIP";
/// Label of the device seed of a development die.
pub const DEVICE_SEED: &str = "KILN TEST SECRET device seed - DO NOT SHIP";

const OS_PS256_PEM: &str = include_str!("../keys/TEST-ONLY-os-ps256.pem");

/// Returns the test key of a label.
pub fn es256(label: &str) -> Es256Key {
    Es256Key::from_scalar(&sha256(label.as_bytes())).expect("the digest of each label is a scalar")
}

/// Returns the RSA-3072 test key of the role `os`.
pub fn os_ps256() -> Ps256Key {
    Ps256Key::from_pem(OS_PS256_PEM).expect("the key in the repository is sound")
}

/// Returns the owner of development dies: ES256 keys for the roles `boot`, `provision` and `os`.
///
/// # Errors
/// None in practice; signing is fallible.
pub fn owner() -> Result<Owner, Error> {
    owner_with_roles(|root| {
        [(Role::Boot, BOOT), (Role::Provision, PROVISION), (Role::Os, OS)]
            .into_iter()
            .map(|(role, label)| RoleKey::delegated_by(root, role, BOARD, Box::new(es256(label))))
            .collect()
    })
}

/// Returns the same owner, whose OS objects are signed with PS256.
///
/// # Errors
/// None in practice; signing is fallible.
pub fn owner_with_ps256() -> Result<Owner, Error> {
    owner_with_roles(|root| {
        Ok(vec![
            RoleKey::delegated_by(root, Role::Boot, BOARD, Box::new(es256(BOOT)))?,
            RoleKey::delegated_by(root, Role::Os, BOARD, Box::new(os_ps256()))?,
        ])
    })
}

fn owner_with_roles(roles: impl FnOnce(&Es256Key) -> Result<Vec<RoleKey>, Error>) -> Result<Owner, Error> {
    let root = es256(ROOT);
    Owner::new(Profile::Development, root.public(), roles(&root)?)
}

/// Returns the silicon secret of every development die.
pub fn silicon_secret() -> [u8; 32] {
    sha256(SILICON_SECRET.as_bytes())
}

/// Returns the device seed of every development die.
pub fn device_seed() -> [u8; 32] {
    sha256(DEVICE_SEED.as_bytes())
}

/// Returns the secrets of the development die with this chip id.
///
/// # Errors
/// None in practice.
pub fn die(chip_id: [u8; 16]) -> Result<DieSecrets, Error> {
    DieSecrets::new(Profile::Development, &silicon_secret(), &device_seed(), chip_id, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sealed_image::host::Signer;

    #[test]
    fn boot_crypto_lists_exactly_these_by_value() {
        let expected = [
            es256(ROOT).public_key().thumbprint(),
            es256(BOOT).public_key().thumbprint(),
            es256(PROVISION).public_key().thumbprint(),
            es256(OS).public_key().thumbprint(),
            os_ps256().public_key().thumbprint(),
            sha256(&silicon_secret()),
            sha256(&device_seed()),
        ];
        assert_eq!(boot_crypto::test_keys::DIGESTS, expected, "{expected:#04x?}");
    }

    #[test]
    fn the_production_profile_refuses_each_of_them() {
        let own = || Es256Key::from_scalar(&[0x11; 32]).unwrap();
        let role = |signer| vec![RoleKey::delegated_by(&own(), Role::Os, BOARD, signer).unwrap()];
        let owner = |root: Es256Key, roles| Owner::new(Profile::Production, root.public(), roles);
        assert!(owner(own(), role(Box::new(own()))).is_ok());

        let code = |result: Result<Owner, Error>| result.err().and_then(|error| error.code());
        let test_key = Some(fail_code::FailCode::TestKey);
        assert_eq!(code(owner(es256(ROOT), Vec::new())), test_key);
        for label in [ROOT, BOOT, PROVISION, OS] {
            assert_eq!(code(owner(own(), role(Box::new(es256(label))))), test_key, "{label}");
        }
        assert_eq!(code(owner(own(), role(Box::new(os_ps256())))), test_key);

        let die = |silicon: [u8; 32], seed: [u8; 32]| {
            DieSecrets::new(Profile::Production, &silicon, &seed, [0; 16], 0).err().and_then(|e| e.code())
        };
        assert_eq!(die([1; 32], [2; 32]), None);
        assert_eq!(die(silicon_secret(), [2; 32]), test_key);
        assert_eq!(die([1; 32], device_seed()), test_key);
    }
}
