//! What the authority says and devices send: shown, and verified where the owner's root proves it.

use crate::artefacts::{ROOT, checks, sorted};
use crate::desk;
use boot_crypto::host::{Es256Key, Ps256Key, es256_public_pem, random};
use boot_crypto::{EcKey, Key, sha256};
use factory_proto::authority::Authority;
use factory_proto::device::{Device, Session, VerifiedTicket};
use factory_proto::{ClosingProof, Message, Ticket, content_type};
use lifecycle::{Die, FuseFacts, Lifecycle, OtpImage};
use memory_map::qemu_virt::BOARD;
use sealed_image::host::{Signer, certify, delegation, encode_grant, sign_message};
use sealed_image::{Grant, Kind, KindSet, MAX_BOARDS, PublicKey, Role, Version};
use serde_json::Value;

/// A root, an authority that it delegates to, and the delegation.
fn authority() -> (Es256Key, Es256Key, Vec<u8>) {
    let key = || Es256Key::from_scalar(&random()).unwrap();
    let (root, signing) = (key(), key());
    let mut boards = [""; MAX_BOARDS];
    boards[0] = BOARD;
    let grant = Grant {
        role: Role::Authority,
        key: PublicKey::P256(signing.public()),
        kinds: KindSet::default(),
        boards,
        min_version: Version::MIN,
        max_version: Version::MAX,
    };
    let certificate = certify(&root, &encode_grant(&grant)).unwrap();
    (root, signing, certificate)
}

/// What a root signed without thinking: a device refuses everything that such a key signs.
#[test]
fn a_delegation_that_no_device_can_use_is_refused() {
    let desk = desk();
    let (root, key) = (Es256Key::generate(), Es256Key::generate());
    let rsa = Ps256Key::generate(3072).unwrap();
    desk.put("root.pem", es256_public_pem(&root.public()).unwrap().as_bytes());
    let mut boards = [""; MAX_BOARDS];
    boards[0] = BOARD;
    let good = Grant {
        role: Role::Boot,
        key: PublicKey::P256(key.public()),
        kinds: KindSet::new(&[Kind::Stage2]),
        boards,
        min_version: Version::MIN,
        max_version: Version::MAX,
    };
    let high = Version::new(2, 0, 0);
    let provision = Grant { role: Role::Provision, key: rsa.public_key(), ..good };
    for (grant, words) in [
        (good, None),
        // Devices pass over what the role does not sign, and take RSA for what is no stage.
        (Grant { kinds: KindSet::new(&[Kind::Stage2, Kind::Kernel]), ..good }, None),
        (Grant { kinds: KindSet::new(&[Kind::Package, Kind::Secret]), ..provision }, None),
        (Grant { kinds: KindSet::new(&[Kind::Stage1, Kind::Package]), ..provision }, None),
        (
            Grant { kinds: KindSet::new(&[Kind::Stage1]), ..provision },
            Some("devices take ES256 only from the key provision"),
        ),
        (
            Grant { role: Role::Authority, kinds: KindSet::default(), ..provision },
            Some("devices take ES256 only from the key authority"),
        ),
        // Messages have no kind, so none counts; nor a version, so each has to.
        (Grant { role: Role::Authority, ..good }, None),
        (
            Grant { role: Role::Authority, kinds: KindSet::default(), min_version: high, ..good },
            Some("messages, which have no version"),
        ),
        (Grant { key: rsa.public_key(), ..good }, Some("devices take ES256 only from the key boot")),
        (Grant { kinds: KindSet::new(&[Kind::Kernel]), ..good }, Some("the role boot does not sign kernel")),
        (Grant { kinds: KindSet::default(), ..good }, Some("may sign nothing")),
        (Grant { role: Role::Os, ..good }, Some("the role os does not sign stage2")),
        (
            Grant { min_version: high, max_version: Version::new(1, 9, 9), ..good },
            Some("the lowest version, 2.0.0, is higher than the highest, 1.9.9"),
        ),
    ] {
        desk.put("one.delegation", &certify(&root, &encode_grant(&grant)).unwrap());
        let line = "verify one.delegation --root root.pem";
        match words {
            None => assert!(checks(&desk.good_json(line)).contains(&"use")),
            Some(words) => {
                let said = desk.bad(line);
                assert!(said.contains(words) && said.contains("\n  cure  "), "{words}: {said}");
            }
        }
    }
    for role in [Role::Debug, Role::Transfer] {
        let grant = Grant { role, kinds: KindSet::default(), ..good };
        desk.put("one.delegation", &certify(&root, &encode_grant(&grant)).unwrap());
        let verdict = desk.good_json("verify one.delegation --root root.pem");
        assert!(!checks(&verdict).contains(&"use"), "{verdict}");
        let said = desk.bad("verify one.delegation --root root.pem --development");
        assert!(said.contains("--development says nothing about a delegation of such a role"), "{said}");
        let words = format!("no device reads the role {} yet", role.name());
        assert!(verdict["not_checked"].to_string().contains(&words), "{verdict}");
    }
}

#[test]
fn answers_of_the_authority_and_its_delegation_are_shown_and_verified() {
    let desk = desk();
    let (root, signing, certificate) = authority();
    desk.put("root.pem", es256_public_pem(&root.public()).unwrap().as_bytes());
    let secrets = [0x5E; 80];
    let ticket = Ticket {
        request_digest: &[1; 32],
        chip_id: &[2; 16],
        nonce: &[3; 32],
        package_id: &[4; 32],
        install: &[5; 32],
        serial: "KILN-000042",
        ephemeral: &[6; 64],
        secrets: &secrets,
    };
    let part = delegation(&root.public_key(), std::slice::from_ref(&certificate));
    let signed =
        |message, payload: &[u8]| sign_message(content_type(message), payload, &part, &[&signing]).unwrap();
    desk.put("ticket", &signed(Message::Ticket, &ticket.encode()));
    desk.put("junk", &signed(Message::Ticket, b"junk"));
    let tree: Value = serde_json::from_str(&desk.good("inspect ticket --json")).unwrap();
    assert_eq!((&tree["artefact"], &tree["says"]["serial"]), (&"ticket".into(), &"KILN-000042".into()));
    assert_eq!(tree["says"]["secrets"], "80 bytes, encrypted to the device");
    assert!(!tree.to_string().contains("5e5e5e5e"));
    let verdict = desk.good_json("verify ticket --root root.pem");
    assert_eq!(checks(&verdict), sorted(["signatures", "content type", "form"]));
    assert_eq!(verdict["not_checked"].as_array().unwrap().len(), 2);
    for (line, code) in [
        ("verify ticket --root keys/owner-root.pub.pem", "ticket-invalid"),
        ("verify ticket --root root.pem --as receipt", "receipt-invalid"),
        ("verify junk --root root.pem", "answer-malformed"),
        ("verify ticket --root root.pem --request ticket", "request"),
    ] {
        let said = desk.bad(line);
        assert!(said.contains(code), "{line}: {said}");
    }

    let certified = certificate.clone();
    let answers = Authority::new(&root.public_key(), certificate.clone(), Box::new(signing));
    desk.put("receipt", &answers.receipt(&[5; 32], &sha256(b"csr")).unwrap());
    desk.put("certificate", &answers.release(&[5; 32], &[2; 16], &[b"leaf", b"issuer"]).unwrap());
    for (file, name) in [("receipt", "receipt"), ("certificate", "device-certificate")] {
        let tree: Value = serde_json::from_str(&desk.good(&format!("inspect {file} --json"))).unwrap();
        assert_eq!(
            (&tree["artefact"], tree["delegations"][0]["role"].as_str()),
            (&name.into(), Some("authority"))
        );
        let verdict = desk.good_json(&format!("verify {file} --root root.pem"));
        assert_eq!(verdict["install"], "05".repeat(32));
    }

    let text = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let json = serde_json::json!({ "root": text(&root.public()), "certificate": text(&certified) });
    desk.put("delegation.json", json.to_string().as_bytes());
    desk.put("delegation.cose", &certified);
    for file in ["delegation.json", "delegation.cose"] {
        let tree: Value = serde_json::from_str(&desk.good(&format!("inspect {file} --json"))).unwrap();
        assert_eq!(
            (&tree["artefact"], &tree["role"]),
            (&"delegation certificate".into(), &"authority".into())
        );
        let verdict = desk.good_json(&format!("verify {file} --root root.pem"));
        assert_eq!(
            (&verdict["role"], checks(&verdict)),
            (&"authority".into(), sorted(["signature", "board", "use"]).to_vec())
        );
        assert!(desk.bad(&format!("verify {file} --root keys/owner-root.pub.pem")).contains("K0"));
    }
}

#[test]
fn what_devices_send_is_shown_and_another_keys_to_verify() {
    let desk = desk();
    let facts = FuseFacts::read(&OtpImage::for_die(
        Lifecycle::Secured,
        &Die {
            chip_id: [2; 16],
            silicon_secret: [0x51; 32],
            root_digest: [7; 32],
            provisioning_key: [0x52; 32],
            device_seed: [0x53; 32],
            closing_measurement: [8; 32],
            floors: [0; 6],
            owner_generation: 0,
        },
    ));
    let facts = facts.unwrap().encode();
    let device = Device {
        board: BOARD,
        chip_id: &[2; 16],
        package_id: &[4; 32],
        die_chain: &[b"a certificate of the vendor's"],
        statement: b"a statement",
        fuse_facts: &facts,
    };
    let key = |seed: u8| EcKey::from_scalar(&[seed; 32]).unwrap();
    let stage_key = key(3);
    let session = Session::new(device, &stage_key, key(4), [9; 32]).unwrap();
    let ticket = VerifiedTicket {
        install: [5; 32],
        serial: "KILN-1".into(),
        content_key: Key::new([0x54; 32]),
        entropy: Key::new([0x55; 32]),
    };
    desk.put("request", session.request());
    desk.put("csr", &session.csr(&ticket, b"a certificate request").unwrap());
    let proof = ClosingProof {
        install: &[5; 32],
        chip_id: &[2; 16],
        statement: b"a statement",
        fuse_facts: b"fuses",
    };
    desk.put("proof", &proof.encode());

    let shown = |file: &str| -> Value {
        serde_json::from_str(&desk.good(&format!("inspect {file} --json"))).unwrap()
    };
    let request = shown("request");
    assert_eq!((&request["artefact"], &request["says"]["board"]), (&"request".into(), &BOARD.into()));
    assert_eq!(request["says"]["fuses"]["lifecycle"], "secured");
    assert_eq!(request["says"]["fuses"]["owner roots"][0], "07".repeat(32));
    assert_eq!(request["says"]["die certificates"].as_array().unwrap().len(), 1);
    let csr = shown("csr");
    assert_eq!((&csr["artefact"], &csr["says"]["request"]), (&"csr".into(), &request["sha256"]));
    let proof = shown("proof");
    assert_eq!((&proof["artefact"], &proof["fuses"]), (&"closing-proof".into(), &"unreadable".into()));
    for (file, name) in [("request", "request"), ("csr", "csr"), ("proof", "closing-proof")] {
        let said = desk.bad(&format!("verify {file} {ROOT}"));
        assert!(said.contains(&format!("{name} of a device")), "{said}");
        assert!(said.contains("the authority verifies it"), "{said}");
    }
}
