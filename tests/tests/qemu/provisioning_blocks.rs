//! Two devices that are made from one package share no block of ciphertext and no key.

use std::collections::HashSet;

use boot_crypto::host::random;
use boot_crypto::{Key, sha256};
use release::audit::{BlockComparison, Payload, compare_blocks, payloads};
use tests::verdict::assert_closed;
use tests::{Die, Factory};
use xtask::flash::identity;

/// Makes a device.
fn device(factory: &Factory, way: &station::Authority) -> (Die, Option<String>) {
    let die = factory.die();
    let run = die.provision(way);
    assert_closed(&die, &run);
    let csr = identity::csr_pem(&run.transcript).unwrap();
    (die, csr)
}

fn sum(payloads: &[Payload]) -> usize {
    payloads.iter().map(|payload| payload.bytes.len() / 16).sum()
}

/// Asserts that all of both sides was compared and nothing is shared.
#[track_caller]
fn assert_disjoint(what: &str, a: &[Payload], b: &[Payload]) -> BlockComparison {
    let found = compare_blocks(a, b);
    eprintln!(
        "{what}: {:?} blocks compared, {:?} erased, {} shared",
        found.compared, found.erased, found.shared
    );
    assert_eq!(found.erased, [0, 0], "ciphertext has no erased blocks");
    assert_eq!(found.compared, [sum(a), sum(b)], "every block of every payload was compared");
    assert!(found.compared.iter().all(|count| *count > 20_000), "{found:?}");
    assert_eq!((found.shared, &found.first), (0, &None), "{what}");
    found
}

#[test]
fn two_devices_from_one_package_share_no_block_no_key_and_no_identity() {
    let factory = Factory::new();
    let way = factory.open(2);
    let [(a, csr_of_a), (b, csr_of_b)] = [device(&factory, &way), device(&factory, &way)];
    assert_eq!(factory.counts(tests::factory::LOT), (2, 2));
    let [ours, theirs] = [&a, &b].map(|die| payloads(&die.files).unwrap());
    let names: Vec<&str> = ours.iter().map(|payload| payload.name.as_str()).collect();
    let expected = [
        "stage2 in boot slot A",
        "stage2 in boot slot B",
        "secret in the secrets",
        "bundle in OS slot A",
        "kernel in OS slot A",
        "device-tree in OS slot A",
        "initramfs in OS slot A",
    ];
    assert!(expected.iter().all(|name| names.contains(name)), "{names:?}");
    let plain: usize = factory.package.plaintexts.iter().map(|(_, plain)| plain.len() / 16).sum();
    assert!(sum(&ours) > plain, "{} blocks, of {plain} of plaintext", sum(&ours));

    assert_disjoint("two devices", &ours, &theirs);
    // Nor do two copies of one stage on one device, nor any of them and the package that they were made from.
    let (slot_a, rest): (Vec<Payload>, Vec<Payload>) =
        ours.iter().cloned().partition(|payload| payload.name.ends_with("boot slot A"));
    let own = compare_blocks(&slot_a, &rest);
    assert_eq!((own.shared, own.compared), (0, [sum(&slot_a), sum(&rest)]));
    let package = vec![Payload { name: "package".into(), bytes: factory.package.release.package.clone() }];
    let from = compare_blocks(&package, &ours);
    assert_eq!(from.shared, 0, "{from:?}");

    // Random bytes: none is zero, and none comes twice.
    let blocks = ours.iter().chain(&theirs).flat_map(|payload| payload.bytes.as_chunks::<16>().0);
    let different: HashSet<&[u8; 16]> = blocks.clone().collect();
    assert_eq!(different.len(), blocks.count());
    assert!(!different.contains(&[0; 16]));

    assert_ne!(a.device_seed().expose(), b.device_seed().expose());
    assert!(csr_of_a.is_some() && csr_of_a != csr_of_b);
    let chains = [&a, &b].map(|die| identity::certificate_chain_pem(&die.files).unwrap().unwrap());
    assert_ne!(chains[0], chains[1]);

    the_comparison_finds_what_identical_keys_leave(&factory, &ours);
}

/// The control: what two devices would share if one key had sealed for both, and if a single block were the same.
fn the_comparison_finds_what_identical_keys_leave(factory: &Factory, ours: &[Payload]) {
    let itself = compare_blocks(ours, ours);
    assert_eq!(itself.shared, sum(ours), "a device shares all with itself");

    // A re-keyed store of a device that always draws the same key for the same object, and of one that does not.
    let stage2 = &factory.package.plaintexts[0].1;
    let sealed = |key: &Key, salt: u8| {
        let mut bytes = stage2.clone();
        let cipher = boot_crypto::GcmKey::new(key);
        cipher.seal(&[0; 12], &[salt], &mut bytes);
        vec![Payload { name: "stage2".into(), bytes }]
    };
    let (first, second) = (Key::new(random()), Key::new(random()));
    let identical = compare_blocks(&sealed(&first, 1), &sealed(&first, 2));
    assert_eq!(identical.shared, identical.compared[1], "one key and nonce for two devices is found");
    assert_eq!(compare_blocks(&sealed(&first, 1), &sealed(&second, 1)).shared, 0);

    let mut planted = sealed(&second, 1);
    let block = ours[0].bytes[4096..4112].to_vec();
    planted[0].bytes[32..48].copy_from_slice(&block);
    let found = compare_blocks(ours, &planted);
    assert_eq!((found.shared, found.first), (1, Some(("stage2".into(), 32))), "one block is enough");
    assert_ne!(sha256(&planted[0].bytes), sha256(stage2));
}
