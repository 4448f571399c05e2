//! Looks for keys in memory, in every form in which software is likely to leave one.

use boot_crypto::labels;
use boot_crypto::{
    GcmKey, Key, device_root, die_secret, drbg_secret, hkdf_sha256, journal_entry_key, journal_key,
    rng_secret, stage_secret, storage_key, wrap_key,
};
use emulator::Machine;
use factory_proto::link::Receiver;
use lifecycle::Lifecycle;
use memory_map::Region;
use memory_map::qemu_virt::SECURE_RAM;
use release::audit::LeakScan;
use stage1_provision::machine::Entry;

use crate::factory::Package;
use crate::forge::Parts;
use crate::{Die, Maker};

/// Something that must not be found.
pub struct Secret {
    /// What it is, for whoever reads that it was found.
    pub name: String,
    /// Its bytes, 16 or more.
    pub bytes: Vec<u8>,
}

impl Secret {
    /// Names a secret.
    pub fn new(name: impl Into<String>, bytes: &[u8]) -> Self {
        Self { name: name.into(), bytes: bytes.to_vec() }
    }
}

/// Returns every key of a die that a boot derives on the way to the operating system.
pub fn keys_of_die(maker: &Maker) -> Vec<Secret> {
    let die = &maker.die;
    let silicon_secret = Key::new(die.silicon_secret);
    let die_secret = die_secret(&silicon_secret);
    let root = device_root(&die_secret, &Key::new(die.device_seed));
    let storage = |label| storage_key(&root, label, &die.chip_id, die.owner_generation.into());
    vec![
        Secret::new("silicon secret", &die.silicon_secret),
        Secret::new("device seed", &die.device_seed),
        Secret::new("die secret", die_secret.expose()),
        Secret::new("device root", root.expose()),
        Secret::new("storage key of the boot slots", storage(labels::STORAGE_BOOT).expose()),
        Secret::new("storage key of the OS slots", storage(labels::STORAGE_OS).expose()),
        Secret::new("random secret", rng_secret(&root, &die.chip_id).expose()),
    ]
}

/// Returns every key that a die has before it is born, or derives for the provisioning stage with this measurement.
pub fn keys_before_birth(die: &Die, stage1: &[u8; 32]) -> Vec<Secret> {
    keys_of_provisioning(die.fuses().silicon_secret(), stage1)
}

/// Returns every key that follows from a silicon secret alone, or is derived for the provisioning stage with this measurement.
pub fn keys_of_provisioning(silicon_secret: &Key, stage1: &[u8; 32]) -> Vec<Secret> {
    let stage_secret = stage_secret(silicon_secret, stage1, Lifecycle::Secured.codeword());
    vec![
        Secret::new("silicon secret", silicon_secret.expose()),
        Secret::new("die secret", die_secret(silicon_secret).expose()),
        die_key(silicon_secret),
        Secret::new("stage secret", stage_secret.expose()),
        Secret::new("drbg secret", drbg_secret(&stage_secret).expose()),
        Secret::new("journal key", journal_key(&stage_secret).expose()),
        Secret::new("alias key", &scalar(&stage_secret, &[], labels::ALIAS_KEY)),
    ]
}

/// Returns every key that follows from the burned seed of a die.
pub fn keys_from_seed(die: &Die) -> Vec<Secret> {
    keys_from(die, &die.device_seed())
}

/// Returns every key that follows from the seed in the journal of a die, which is not burned yet: what the provisioning
/// stage with this measurement sealed there.
///
/// # Panics
/// If the journal holds no seed of this die.
pub fn keys_from_journal(die: &Die, stage1: &[u8; 32]) -> Vec<Secret> {
    let journal = die.flash().journal().expect("a journal that is whole");
    let content = |entry| {
        let found = journal.iter().rev().find(|recorded| recorded.entry == entry);
        &found.unwrap_or_else(|| panic!("the journal holds no {entry:?}")).untrusted
    };
    let fuses = die.fuses();
    let stage_secret = stage_secret(fuses.silicon_secret(), stage1, Lifecycle::Secured.codeword());
    let mut binding = vec![stage1_provision::journal::kind(Entry::Seed)];
    binding.extend(boot_crypto::sha256(content(Entry::Ticket)));
    let (salt, rest) = content(Entry::Seed).split_first_chunk().expect("a salt of 32 bytes");
    let (sealed, tag) = rest.split_last_chunk().expect("a tag of 16 bytes");
    let mut seed = sealed.to_vec();
    GcmKey::new(&journal_entry_key(&journal_key(&stage_secret), salt))
        .open(&[0; 12], &binding, &mut seed, tag)
        .expect("a seed of this die");
    keys_from(die, &Key::from_slice(&seed).expect("32 bytes"))
}

fn keys_from(die: &Die, seed: &Key) -> Vec<Secret> {
    let (fuses, chip_id) = (die.fuses(), &die.chip_id);
    let root = device_root(&die_secret(fuses.silicon_secret()), seed);
    let storage = |label| storage_key(&root, label, chip_id, 0);
    vec![
        Secret::new("device seed", seed.expose()),
        Secret::new("device root", root.expose()),
        Secret::new("storage key of the boot slots", storage(labels::STORAGE_BOOT).expose()),
        Secret::new("storage key of the OS slots", storage(labels::STORAGE_OS).expose()),
        Secret::new("storage key of the secrets", storage(labels::STORAGE_SECRET).expose()),
        Secret::new("random secret", rng_secret(&root, chip_id).expose()),
        identity_key(&root, chip_id),
    ]
}

/// Returns the key that stage0 signs with.
pub fn die_key(silicon_secret: &Key) -> Secret {
    Secret::new("die key", &scalar(silicon_secret, &[], labels::DIE_KEY))
}

/// Returns the key of a device's certificate.
pub fn identity_key(root: &Key, chip_id: &[u8]) -> Secret {
    Secret::new("identity key", &scalar(root, chip_id, labels::IDENTITY_KEY))
}

/// Returns the package's content key and the customer's secret in it.
///
/// # Panics
/// If the package holds no secret.
pub fn keys_of_package(package: &Package) -> Vec<Secret> {
    let customers = package.plaintexts.iter().filter(|(name, _)| name.contains("secret"));
    let secrets: Vec<Secret> = std::iter::once(Secret::new("content key", package.content_key.0.expose()))
        .chain(customers.map(|(name, bytes)| Secret::new(*name, bytes)))
        .collect();
    assert_eq!(secrets.len(), 2);
    secrets
}

/// Derives a private scalar as `EcKey::derive` does, which shows none: but for one in 2³², its first try.
fn scalar(ikm: &Key, salt: &[u8], label: &[u8]) -> [u8; 32] {
    let mut scalar = [0; 32];
    hkdf_sha256(salt, ikm.expose(), &[label, &[0]], &mut scalar);
    scalar
}

/// Returns the keys of each image in a slot, which `kek` wraps: the wrapping key, the data key, and the round keys that
/// AES makes of them, of which any two together are as good as the key.
///
/// # Panics
/// If the images are not right.
pub fn keys_of_slot(slot: &[u8], kek: &Key) -> Vec<Secret> {
    let mut secrets = Vec::new();
    for image in release::inspect_slot(slot).expect("a slot that is right") {
        let name = image.kind.name();
        let bytes = &slot[image.offset as usize..][..image.stored_bytes as usize];
        let record = &bytes[Parts::of(bytes).sealing];
        let salt = record[8..40].try_into().expect("a salt of 32 bytes");
        let (wrapped, tag) = record[record.len() - 48..].split_at(32);
        let wrapping_key = wrap_key(kek, salt);
        let mut data_key = [0; 32];
        data_key.copy_from_slice(wrapped);
        let tag = tag.try_into().expect("a tag of 16 bytes");
        GcmKey::new(&wrapping_key)
            .open(&[0; 12], &image.digest, &mut data_key, tag)
            .unwrap_or_else(|_| panic!("the data key of the {name} cannot be unwrapped"));
        for (what, key) in [("wrapping", wrapping_key.expose()), ("data", &data_key)] {
            secrets.push(Secret::new(format!("{what} key of the {name}"), key));
            let round_keys = round_keys(key);
            let pairs = round_keys[32..].chunks_exact(32).enumerate();
            secrets.extend(pairs.map(|(n, pair)| {
                let rounds = (2 * n + 2, 2 * n + 3);
                Secret::new(format!("round keys {rounds:?} of the {what} key of the {name}"), pair)
            }));
        }
    }
    secrets
}

/// Stops the machine and reads secure RAM as `core` sees it: emulated memory is read through a core's own translation. To
/// a core that is not at EL3, or has not mapped all of this region yet, it does not exist: `None`.
///
/// # Panics
/// If the emulator does not answer.
pub fn secure_ram(machine: &mut Machine, core: usize) -> Option<Vec<u8>> {
    let region = SECURE_RAM;
    saved(
        machine,
        "memsave",
        region,
        |file| serde_json::json!({"val": region.base, "size": region.size, "filename": file, "cpu-index": core}),
    )
}

/// Stops the machine and reads normal memory.
///
/// # Panics
/// If the emulator does not give it away.
pub fn normal_ram(machine: &mut Machine, region: Region) -> Vec<u8> {
    saved(
        machine,
        "pmemsave",
        region,
        |file| serde_json::json!({"val": region.base, "size": region.size, "filename": file}),
    )
    .expect("normal memory, which everybody sees")
}

/// Returns what went over the link to the station: as it was on the line, and then the messages that its frames held, as
/// stuffing changes every zero on the line.
pub fn heard(line: &[u8]) -> Vec<u8> {
    let mut receiver = Receiver::new();
    let messages = line.iter().filter_map(|byte| receiver.push(*byte)).flat_map(|frame| frame.body);
    [line.to_vec(), messages.collect()].concat()
}

/// Stops the machine and saves memory; `None` if there is none at these addresses.
fn saved(
    machine: &mut Machine,
    command: &str,
    region: Region,
    arguments: impl FnOnce(&str) -> serde_json::Value,
) -> Option<Vec<u8>> {
    let folder = tempfile::tempdir().expect("a folder for memory");
    let file = folder.path().join("memory");
    machine.qmp.execute("stop", serde_json::Value::Null).expect("the machine stops");
    let name = file.to_str().expect("a path that is text");
    match machine.qmp.execute(command, arguments(name)) {
        Ok(_) => {}
        Err(emulator::Error::QmpRefused { .. }) => return None,
        Err(error) => panic!("{command}: {error}"),
    }
    let memory = std::fs::read(&file).expect("memory was saved");
    assert_eq!(memory.len() as u64, region.size);
    Some(memory)
}

/// Finds `secrets` in `memory`: as they are, reversed, as hexadecimal digits and as Base64, wholly or a part.
///
/// # Panics
/// If a secret is too short to be looked for, or the scan does not find what it plants.
pub fn find(memory: &[u8], secrets: &[Secret]) -> Vec<String> {
    let secrets: Vec<(&str, &[u8])> =
        secrets.iter().map(|secret| (secret.name.as_str(), secret.bytes.as_slice())).collect();
    let scan = LeakScan::new(&[], &secrets).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(scan.control(&[]), scan.patterns(), "the scan is blind");
    scan.scan(memory).iter().map(ToString::to_string).collect()
}

/// Expands an AES-256 key (FIPS 197, section 5.2).
fn round_keys(key: &[u8; 32]) -> Vec<u8> {
    let mut words: Vec<[u8; 4]> = key.chunks_exact(4).map(|word| word.try_into().expect("4 bytes")).collect();
    let mut constant = 1;
    while words.len() < 60 {
        let at = words.len();
        let mut word = words[at - 1];
        if at.is_multiple_of(8) {
            word.rotate_left(1);
            word = word.map(substituted);
            word[0] ^= constant;
            constant = doubled(constant);
        } else if at % 8 == 4 {
            word = word.map(substituted);
        }
        let before = words[at - 8];
        words.push([0, 1, 2, 3].map(|n: usize| word[n] ^ before[n]));
    }
    words.concat()
}

const fn doubled(byte: u8) -> u8 {
    (byte << 1) ^ if byte & 0x80 != 0 { 0x1B } else { 0 }
}

/// The S-box: the inverse in the field, then the affine transformation.
fn substituted(byte: u8) -> u8 {
    let product = |mut a: u8, mut b: u8| {
        let mut sum = 0;
        while b != 0 {
            sum ^= if b & 1 != 0 { a } else { 0 };
            a = doubled(a);
            b >>= 1;
        }
        sum
    };
    let inverse = (0..=255).find(|other| product(byte, *other) == 1).unwrap_or(0);
    (0..5).fold(0x63, |sum, turn| sum ^ inverse.rotate_left(turn))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_planted_secret_is_found_and_nothing_is_where_nothing_is() {
        let secret = || Secret::new("canary", b"0123456789abcdefghijklmnopqrstuv");
        let mut memory: Vec<u8> =
            (0..65536_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        assert_eq!(find(&memory, &[secret()]), Vec::<String>::new());
        memory[4711..4743].copy_from_slice(&secret().bytes);
        assert_eq!(find(&memory, &[secret()])[0], "canary as it is at 0x1267");
    }

    #[test]
    fn a_secret_with_zeros_in_it_is_found_on_the_link() {
        let secret = Secret::new("canary", &[7, 1, 0, 2, 3, 0, 0, 4, 5, 6, 8, 0, 9, 10, 11, 12]);
        let line =
            factory_proto::link::encode(factory_proto::Message::ClosingProof, 3, &secret.bytes).unwrap();
        assert_eq!(find(&line, &[Secret::new("canary", &secret.bytes)]), Vec::<String>::new());
        assert!(!find(&heard(&line), &[secret]).is_empty());
    }

    #[test]
    fn a_scalar_is_that_of_the_derived_key() {
        let key = Key::new([7; 32]);
        let derived = boot_crypto::die_key(&key).public();
        let scalar = scalar(&key, &[], labels::DIE_KEY);
        assert_eq!(boot_crypto::EcKey::from_scalar(&scalar).unwrap().public(), derived);
    }

    #[test]
    fn round_keys_are_those_of_the_standard() {
        // FIPS 197, appendix A.3.
        let key = [
            0x60, 0x3D, 0xEB, 0x10, 0x15, 0xCA, 0x71, 0xBE, 0x2B, 0x73, 0xAE, 0xF0, 0x85, 0x7D, 0x77, 0x81,
            0x1F, 0x35, 0x2C, 0x07, 0x3B, 0x61, 0x08, 0xD7, 0x2D, 0x98, 0x10, 0xA3, 0x09, 0x14, 0xDF, 0xF4,
        ];
        let expanded = round_keys(&key);
        assert_eq!(expanded.len(), 240);
        assert_eq!(expanded[32..36], [0x9B, 0xA3, 0x54, 0x11]);
        assert_eq!(expanded[236..], [0x70, 0x6C, 0x63, 0x1E]);
    }
}
