//! NIST CAVP.

use std::path::Path;

use hkdf::hmac::digest::Digest as _;

use super::Collection;
use super::files::{Entry, entries, right_aligned};
use crate::{Group, Operation};

pub(super) fn collect(all: &mut Collection, package: &Path) {
    sha256(all, package);
    gcm(all, package);
    for edition in ["FIPS_186-2", "FIPS_186-3"] {
        curve(all, &package.join("asymmetric/ECDSA").join(edition));
    }
    key_agreement(all, package);
}

fn sha256(all: &mut Collection, package: &Path) {
    let folder = package.join("hashes/SHA2");
    for file in ["SHA256ShortMsg.rsp", "SHA256LongMsg.rsp"] {
        for entry in entries(&folder.join(file), "Len") {
            if !entry.has("Msg") {
                continue;
            }
            let bits: usize = entry.text("Len").and_then(|len| len.parse().ok()).expect("a length");
            assert!(bits.is_multiple_of(8), "messages of whole bytes");
            let message = &entry.bytes("Msg")[..bits / 8];
            all.add(Group::Sha256, Operation::Digest, [message, &entry.bytes("MD")]);
        }
    }
    let mut seed = None;
    for entry in entries(&folder.join("SHA256Monte.rsp"), "") {
        if entry.has("Seed") {
            seed = Some(entry.bytes("Seed"));
        }
        if entry.has("MD") {
            let digest = entry.bytes("MD");
            let before = seed.replace(digest.clone()).expect("a seed before the first digest");
            all.add(Group::Sha256, Operation::DigestChain, [&before, &digest]);
        }
    }
}

fn gcm(all: &mut Collection, package: &Path) {
    let folder = package.join("ciphers/AES/GCM");
    for file in ["gcmEncryptExtIV256.rsp", "gcmDecrypt256.rsp"] {
        for entry in entries(&folder.join(file), "Count").iter().filter(|entry| entry.has("Key")) {
            let fields = ["Key", "IV", "AAD", "CT", "Tag"].map(|name| entry.bytes(name));
            let [key, nonce, aad, ciphertext, tag] = fields.each_ref().map(|field| &field[..]);
            let fails = entry.has("FAIL");
            if nonce.len() != 12 {
                all.skip(Group::AesGcm, "nonce of another length than 96 bits");
            } else if fails && tag.len() != 16 {
                all.skip(Group::AesGcm, "wrong tag of less than 128 bits");
            } else if fails {
                let fields = [key, nonce, aad, ciphertext, tag, &[], &[0]];
                all.add(Group::AesGcm, Operation::GcmOpen, fields);
            } else if tag.len() == 16 {
                let fields = [key, nonce, aad, ciphertext, tag, &entry.bytes("PT"), &[1]];
                all.add(Group::AesGcm, Operation::GcmOpen, fields);
            } else {
                // A shorter tag is the beginning of a whole one (SP 800-38D section 7.1).
                let fields = [key, nonce, aad, &entry.bytes("PT"), ciphertext, tag];
                all.add(Group::AesGcm, Operation::GcmSeal, fields);
            }
        }
    }
}

/// Digests a message as a file's section says; `None` for SHA-1.
fn digest(section: &str, message: &[u8]) -> Option<[u8; 32]> {
    match section.split_once(',').map_or("SHA-1", |(_, hash)| hash.trim()) {
        "SHA-224" => right_aligned(&sha2::Sha224::digest(message)),
        "SHA-256" => Some(sha2::Sha256::digest(message).into()),
        // Of a longer digest the first 256 bits count (FIPS 186-5 section 6.4).
        "SHA-384" => Some(*sha2::Sha384::digest(message).first_chunk()?),
        "SHA-512" => Some(*sha2::Sha512::digest(message).first_chunk()?),
        _ => None,
    }
}

fn curve(all: &mut Collection, folder: &Path) {
    let on_p256 = |name: &str, first: &str| {
        let entries = entries(&folder.join(name), first);
        let mut here = false;
        // Below the curve's own section there may be one that names the method.
        entries.into_iter().filter(move |entry| {
            if entry.section.starts_with("P-") || entry.section.starts_with(['K', 'B']) {
                here = entry.section.starts_with("P-256");
            }
            here
        })
    };
    for entry in on_p256("KeyPair.rsp", "").filter(|entry| entry.has("d")) {
        let scalar: [u8; 32] = entry.number("d").expect("a private scalar");
        let public = point(&entry).expect("a point");
        all.add(Group::EcKey, Operation::Public, [&scalar, &public]);
    }
    for entry in on_p256("PKV.rsp", "").filter(|entry| entry.has("Qx")) {
        let Some(public) = point(&entry) else {
            all.skip(Group::EcKey, "coordinate of more than 32 bytes");
            continue;
        };
        let valid = entry.text("Result").expect("a result").starts_with('P');
        // The scalar one gives the point's own x back.
        let mut one = [0; 32];
        one[31] = 1;
        let expected = if valid { &public[..32] } else { &[] };
        all.add(Group::EcKey, Operation::Agree, [&one, &public, expected, &[valid.into()]]);
    }
    for entry in ["SigVer.rsp", "SigGen.txt"].into_iter().flat_map(|name| on_p256(name, "Msg")) {
        if !entry.has("R") {
            continue;
        }
        let Some(digest) = digest(&entry.section, &entry.bytes("Msg")) else {
            all.skip(Group::Es256, "signed over SHA-1");
            continue;
        };
        let (r, s): (Option<[u8; 32]>, Option<[u8; 32]>) = (entry.number("R"), entry.number("S"));
        let signature = [r.expect("r"), s.expect("s")];
        let public = point(&entry).expect("a key");
        let valid = entry.text("Result").is_none_or(|result| result.starts_with('P'));
        let fields = [&public[..], &digest, signature.as_flattened(), &[valid.into()]];
        all.add(Group::Es256, Operation::VerifyDigest, fields);
    }
}

fn point(entry: &Entry) -> Option<[u8; 64]> {
    let both = [entry.number::<32>("Qx")?, entry.number("Qy")?];
    both.as_flattened().try_into().ok()
}

fn key_agreement(all: &mut Collection, package: &Path) {
    for role in ["init", "resp"] {
        let name = std::format!("asymmetric/ECDH/KASValidityTest_ECCStaticUnified_NOKC_ZZOnly_{role}.fax");
        for entry in entries(&package.join(name), "COUNT") {
            if entry.section != "EC - SHA256" || !entry.has("Z") {
                continue;
            }
            // What was changed of a failing one is named at the end: only a changed secret shows in what is agreed on.
            let result = entry.text("Result").expect("a result");
            if !result.starts_with('P') {
                all.skip(Group::Ecdh, "changed where agreement does not look");
                continue;
            }
            let scalar: [u8; 32] = entry.number("dsIUT").expect("a private scalar");
            let other: [[u8; 32]; 2] =
                ["QsCAVSx", "QsCAVSy"].map(|name| entry.number(name).expect("a point"));
            let shared: [u8; 32] = entry.number("Z").expect("a secret");
            all.add(Group::Ecdh, Operation::Agree, [&scalar, other.as_flattened(), &shared, &[1]]);
        }
    }
}
