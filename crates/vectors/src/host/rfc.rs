//! RFC 4231, 5869, 5903 and 6979, and the vectors of HMAC_DRBG that no package has.

use alloc::string::String;
use std::path::Path;

use super::Collection;
use super::files::{entries, unhex};
use super::wycheproof::hmac;
use crate::{Group, Operation};

pub(super) fn collect(all: &mut Collection, package: &Path) {
    for entry in entries(&package.join("HMAC/rfc-4231-sha256.txt"), "Len") {
        let code = entry.bytes("MD");
        if code.len() == 32 {
            hmac(all, &entry.bytes("Key"), &entry.bytes("Msg"), &code, true);
        } else {
            all.skip(Group::Hmac, "code of less than 256 bits");
        }
    }
    for file in ["KDF/rfc-5869-HKDF-SHA256.txt", "KDF/hkdf-generated.txt"] {
        for entry in entries(&package.join(file), "COUNT") {
            assert_eq!(entry.text("Hash"), Some("SHA-256"));
            let [salt, ikm, info, okm] = ["salt", "IKM", "info", "OKM"].map(|name| entry.bytes(name));
            all.add(Group::Hkdf, Operation::Hkdf, [&salt, &ikm, &info, &okm, &[1]]);
        }
    }
    agreement(all);
    signing(all);
    generator(all);
}

/// RFC 5903 section 8.1, both sides.
fn agreement(all: &mut Collection) {
    let shared = unhex("d6840f6b42f6edafd13116e0e12565202fef8e9ece7dce03812464d04b9442de");
    let ours = unhex("c88f01f510d9ac3f70a292daa2316de544e9aab8afe84049c62a9c57862d1433");
    let theirs = unhex("c6ef9c5d78ae012a011164acb397ce2088685d8f06bf9be0b283ab46476bee53");
    let our_public = unhex(&joined([
        "dad0b65394221cf9b051e1feca5787d098dfe637fc90b9ef945d0c3772581180",
        "5271a0461cdb8252d61f1c456fa3e59ab1f45b33accf5f58389e0577b8990bb3",
    ]));
    let their_public = unhex(&joined([
        "d12dfb5289c8d4f81208b70270398c342296970a0bccb74c736fc7554494bf63",
        "56fbf3ca366cc23e8157854c13c58d6aac23f046ada30f8353e74f33039872ab",
    ]));
    for (scalar, public, other) in
        [(&ours, &our_public, &their_public), (&theirs, &their_public, &our_public)]
    {
        all.add(Group::Ecdh, Operation::Agree, [scalar, other, &shared, &[1]]);
        all.add(Group::EcKey, Operation::Public, [scalar, public]);
    }
}

/// RFC 6979 appendix A.2.5: P-256, SHA-256.
fn signing(all: &mut Collection) {
    let scalar = unhex("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721");
    let public = unhex(&joined([
        "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6",
        "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299",
    ]));
    all.add(Group::EcKey, Operation::Public, [&scalar, &public]);
    for (message, signature) in [
        (
            &b"sample"[..],
            [
                "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716",
                "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8",
            ],
        ),
        (
            b"test",
            [
                "f1abb023518351cd71d881567b1ea663ed3efcf6c5132b354f28d3b0b7d38367",
                "019f4113742a2b14bd25926b49c649155f267e60d3814b4c0cc84250e46f0083",
            ],
        ),
    ] {
        let signature = unhex(&joined(signature));
        let digest = boot_crypto::sha256(message);
        all.add(Group::Es256Sign, Operation::Sign, [&scalar, &digest, &signature]);
        all.add(Group::Es256, Operation::Verify, [&public, message, &signature, &[1]]);
    }
}

/// CAVP HMAC_DRBG.rsp, SHA-256, no prediction resistance, count 0 of the groups without reseeding and with it.
fn generator(all: &mut Collection) {
    for (entropy, nonce, fresh, output) in [
        (
            "ca851911349384bffe89de1cbdc46e6831e44d34a4fb935ee285dd14b71a7488",
            "659ba96c601dc69fc902940805ec0ca8",
            "",
            [
                "e528e9abf2dece54d47c7e75e5fe302149f817ea9fb4bee6f4199697d04d5b89",
                "d54fbb978a15b5c443c9ec21036d2460b6f73ebad0dc2aba6e624abf07745bc1",
                "07694bb7547bb0995f70de25d6b29e2d3011bb19d27676c07162c8b5ccde0668",
                "961df86803482cb37ed6d5c0bb8d50cf1f50d476aa0458bdaba806f48be9dcb8",
            ],
        ),
        (
            "06032cd5eed33f39265f49ecb142c511da9aff2af71203bffaf34a9ca5bd9c0d",
            "0e66f71edc43e42a45ad3c6fc6cdc4df",
            "01920a4e669ed3a85ae8a33b35a74ad7fb2a6bb4cf395ce00334a9c9a5a5d552",
            [
                "76fc79fe9b50beccc991a11b5635783a83536add03c157fb30645e611c2898bb",
                "2b1bc215000209208cd506cb28da2a51bdb03826aaf2bd2335d576d519160842",
                "e7158ad0949d1a9ec3e66ea1b1a064b005de914eac2e9d4f2d72a8616a802254",
                "22918250ff66a41bd2f864a6a38cc5b6499dc43f7f2bd09e1e0f8f5885935124",
            ],
        ),
    ] {
        let [entropy, nonce, fresh] = [entropy, nonce, fresh].map(unhex);
        let output = unhex(&joined(output));
        all.add(Group::Drbg, Operation::Drbg, [&entropy, &nonce, &[], &fresh, &output]);
    }
}

fn joined<const N: usize>(parts: [&str; N]) -> String {
    parts.concat()
}
