//! What an image says of itself, and what is believed of it.

use boot_crypto::host::Es256Key;
use boot_crypto::sha256;
use fail_code::FailCode;
use fuzz_targets::sample::{self, BOARD, boot, delegate, es256, facts, grant, kek, plain, roots, signed};
use sealed_image::host::{Facts, SignedPayload, Signer, certify, delegation, encode_grant};
use sealed_image::{
    Bundle, Compression, Error, Es256, Header, Kind, Policy, PublicKey, Role, Root, Tally, UntrustedImage,
    Version,
};

pub(crate) fn policy(roots: &[Root]) -> Policy<'_> {
    Policy { board: BOARD, kind: Kind::Stage2, roots, rollback_floor: 5, refuse_test_keys: true }
}

/// Reads an image as a device does.
pub(crate) fn open(image: &[u8]) -> Result<Vec<u8>, FailCode> {
    open_with(image, &policy(&roots())).map_err(|error| error.code())
}

fn open_with(image: &[u8], policy: &Policy<'_>) -> Result<Vec<u8>, Error> {
    let at = Header::parse(image)?.metadata_len() as usize;
    let short = Error::Truncated { found: image.len() as u32, expected: at as u32 };
    let (metadata, payload) = image.split_at_checked(at).ok_or(short)?;
    let opener = UntrustedImage::parse(metadata)?.verify::<Es256>(policy)?.unwrap_key(&kek())?;
    let (mut all, mut tally) = (Vec::new(), Tally::default());
    for chunk in opener.chunks() {
        let start = chunk.stored_offset as usize;
        let mut stored = payload[start..start + chunk.stored_len as usize].to_vec();
        tally.add(&opener.open_chunk(chunk.index, &mut stored)?);
        all.extend(stored);
    }
    opener.finish(&tally).map(|_| all)
}

pub(crate) fn seal(signed: &SignedPayload) -> Vec<u8> {
    signed.seal(&kek(), Compression::None).unwrap()
}

/// The parts of an image's metadata: delegation, manifest, sealing record, chunk table.
pub(crate) fn parts(image: &[u8]) -> [Vec<u8>; 4] {
    let header = Header::parse(image).unwrap();
    let mut at = 64;
    [header.delegation_len, header.manifest_len, header.sealing_len, header.chunk_count * 52].map(|length| {
        at += length as usize;
        image[at - length as usize..at].to_vec()
    })
}

/// Puts metadata together, under a header that fits it.
pub(crate) fn assembled([delegation, manifest, sealing, table]: &[Vec<u8>; 4], payload: &[u8]) -> Vec<u8> {
    let lengths = [delegation, manifest, sealing].map(|part| part.len() as u32);
    let end = 64 + delegation.len() + manifest.len() + sealing.len() + table.len();
    let offset = end.next_multiple_of(4096);
    let header = Header {
        delegation_len: lengths[0],
        manifest_len: lengths[1],
        sealing_len: lengths[2],
        chunk_count: (table.len() / 52) as u32,
        payload_offset: offset as u32,
        payload_len: payload.len() as u64,
    };
    let mut image = [&header.encode()[..], delegation, manifest, sealing, table].concat();
    image.resize(offset, 0);
    [&image[..], payload].concat()
}

fn payload(image: &[u8]) -> &[u8] {
    &image[Header::parse(image).unwrap().metadata_len() as usize..]
}

/// The attacker's own image: his root, his keys, his plaintext.
fn attackers() -> Vec<u8> {
    let (root, key) = (es256(0x66), es256(0x67));
    let certificate =
        certify(&root, &encode_grant(&grant(Role::Boot, &[Kind::Stage2], &key, Version::MIN))).unwrap();
    let part = delegation(&PublicKey::P256(root.public()), &[certificate]);
    seal(&SignedPayload::sign(&facts(), vec![0x66; 5000], &part, &[&key]).unwrap())
}

pub(crate) fn lengths_choose_another_manifest() {
    let sound = seal(&signed());
    assert_eq!(open(&sound).unwrap(), plain());
    assert_eq!(assembled(&parts(&sound), payload(&sound)), sound);
    let [delegation, manifest, sealing, _] = parts(&sound);
    let evil = attackers();
    let [evil_delegation, evil_manifest, evil_sealing, evil_table] = parts(&evil);
    let with = |delegation: &[u8], manifest: &[u8], sealing: &[u8]| {
        let parts = [delegation, manifest, sealing].map(<[u8]>::to_vec);
        let [delegation, manifest, sealing] = parts;
        open(&assembled(&[delegation, manifest, sealing, evil_table.clone()], payload(&evil)))
    };
    let both = |a: &[u8], b: &[u8]| [a, b].concat();
    // The attacker's whole, his manifest under the owner's delegation, and both manifests one behind the other, with
    // lengths that reach over one, the other or both.
    assert_eq!(with(&evil_delegation, &evil_manifest, &evil_sealing), Err(FailCode::RootUnknown));
    assert_eq!(with(&delegation, &evil_manifest, &evil_sealing), Err(FailCode::SignatureInvalid));
    assert_eq!(
        with(&delegation, &both(&manifest, &evil_manifest), &evil_sealing),
        Err(FailCode::ManifestMalformed)
    );
    assert_eq!(
        with(&delegation, &manifest, &both(&evil_manifest, &evil_sealing)),
        Err(FailCode::ChunkDigest)
    );
    assert_eq!(
        with(&both(&delegation, &evil_delegation), &manifest, &sealing),
        Err(FailCode::DelegationMalformed)
    );
    // The owner's manifest over the attacker's chunks.
    assert_eq!(with(&delegation, &manifest, &sealing), Err(FailCode::ChunkDigest));
    assert_eq!(with(&delegation, &manifest, &evil_sealing), Err(FailCode::ChunkDigest));
}

pub(crate) fn a_second_object_of_a_kind() {
    let object = |kind: Kind, digest: u8| [&[0x82, kind.number(), 0x58, 0x20][..], &[digest; 32]].concat();
    let bundle = |objects: &[Vec<u8>]| {
        let mut bytes = vec![0xA3, 1, 0x80 | objects.len() as u8];
        bytes.extend(objects.concat());
        bytes.extend([2, 0x60, 3, 0]);
        bytes
    };
    let (kernel, tree) = (object(Kind::Kernel, 1), object(Kind::DeviceTree, 2));
    let code = |objects: &[Vec<u8>]| Bundle::parse(&bundle(objects)).err().map(|error| error.code());
    assert_eq!(code(&[kernel.clone(), tree.clone()]), None);
    for second in [object(Kind::Kernel, 1), object(Kind::Kernel, 3), object(Kind::DeviceTree, 2)] {
        assert_eq!(code(&[kernel.clone(), tree.clone(), second]), Some(FailCode::ObjectTwice));
    }
    // Nor a second field of a kind: the map has its three keys, each once.
    let mut twice = bundle(&[kernel.clone(), tree.clone()]);
    twice[0] = 0xA4;
    twice.extend([1, 0x80]);
    assert_eq!(Bundle::parse(&twice).unwrap_err().code(), FailCode::BundleMalformed);
}

pub(crate) fn encrypted_and_not_signed() {
    let sound = seal(&signed());
    let [delegation, manifest, sealing, table] = parts(&sound);
    let with = |delegation: &[u8], manifest: &[u8]| {
        open(&assembled(
            &[delegation.to_vec(), manifest.to_vec(), sealing.clone(), table.clone()],
            payload(&sound),
        ))
    };
    assert_eq!(with(&delegation, &manifest).unwrap(), plain());
    // Whoever knows the key of the place can encrypt; without signatures it is nothing.
    let unsigned = |payload: &[u8]| {
        let mut signed =
            b"\xD8\x62\x84\x58\x23\xA1\x03\x78\x1Eapplication/kiln-manifest+cbor\xA0\x58".to_vec();
        signed.push(payload.len() as u8);
        signed.extend(payload);
        signed.push(0x80);
        signed
    };
    let at = manifest.windows(2).position(|window| window == [0xA9, 1]).unwrap();
    let content = &manifest[at..at + usize::from(manifest[at - 1])];
    assert_eq!(content[..3], [0xA9, 1, Kind::Stage2.number()]);
    assert_eq!(with(&delegation, &unsigned(content)), Err(FailCode::ManifestMalformed));
    assert_eq!(with(&delegation, content), Err(FailCode::ManifestMalformed));
    assert_eq!(with(&[0x80], &manifest), Err(FailCode::DelegationMalformed));
    // A header that says that there is no such part.
    let mut none = sound.clone();
    none[12..16].fill(0);
    assert_eq!(open(&none), Err(FailCode::HeaderInvalid));
}

pub(crate) fn a_published_key() {
    let published = |label: &str| Es256Key::from_scalar(&sha256(label.as_bytes())).unwrap();
    let (test_root, test_boot) = (published(release::test_keys::ROOT), published(release::test_keys::BOOT));
    let (ours, root) = (es256(2), sample::root());
    let cases: [(&Es256Key, &Es256Key, Option<FailCode>); 4] = [
        (&root, &ours, None),
        (&test_root, &ours, Some(FailCode::TestKey)),
        (&root, &test_boot, Some(FailCode::TestKey)),
        (&test_root, &test_boot, Some(FailCode::TestKey)),
    ];
    for (root, key, expected) in cases {
        let granted = encode_grant(&grant(Role::Boot, &[Kind::Stage2], key, Version::MIN));
        let part = delegation(&PublicKey::P256(root.public()), &[certify(root, &granted).unwrap()]);
        let image = seal(&SignedPayload::sign(&facts(), plain(), &part, &[key]).unwrap());
        let roots = [Root { digest: root.public_key().thumbprint(), revoked: false }];
        let code = open_with(&image, &policy(&roots)).err().map(|error| error.code());
        assert_eq!(code, expected);
        let development = Policy { refuse_test_keys: false, ..policy(&roots) };
        assert_eq!(open_with(&image, &development).unwrap(), plain(), "a development die takes them");
    }
}

pub(crate) fn two_copies_share_nothing() {
    let (key, part) = boot();
    let zeros = Facts { chunk_size: 4096, ..facts() };
    let signed = SignedPayload::sign(&zeros, vec![0; 64 * 1024], &part, &[&key]).unwrap();
    let mut blocks = std::collections::HashSet::new();
    let mut count = 0;
    for _ in 0..4 {
        for block in payload(&seal(&signed)).chunks(16) {
            blocks.insert(block.to_vec());
            count += 1;
        }
    }
    assert_eq!((blocks.len(), count), (count, 4 * 4096), "two blocks of zeros have one ciphertext");
}

pub(crate) fn every_kind_has_a_floor() {
    let mut refused = 0;
    for kind in Kind::ALL {
        let Some(role) = kind.role() else { continue };
        let key = es256(2);
        let part = delegate(&grant(role, &[kind], &key, Version::MIN));
        let entry = if kind.executable() { facts().entry } else { 0 };
        let facts = Facts { kind, entry, ..facts() };
        let image = seal(&SignedPayload::sign(&facts, plain(), &part, &[&key]).unwrap());
        let roots = roots();
        let at = |rollback_floor| {
            open_with(&image, &Policy { kind, rollback_floor, ..policy(&roots) })
                .map_err(|error| error.code())
        };
        assert_eq!(at(5), Ok(plain()), "{kind:?}");
        for floor in [6, 64, u32::MAX] {
            assert_eq!(at(floor), Err(FailCode::RolledBack), "{kind:?}");
        }
        refused += 1;
    }
    assert!(refused >= 8, "only {refused} kinds have a role");
}

pub(crate) fn a_chunk_of_another_copy() {
    let signed = signed();
    let (a, b) = (seal(&signed), seal(&signed));
    // All of it is genuine: another copy's payload, or one of its chunks with its tag.
    let whole = [&a[..4096], &b[4096..]].concat();
    assert_eq!(open(&whole), Err(FailCode::ChunkTag));
    let [delegation, manifest, sealing, mut table] = parts(&a);
    table[..16].copy_from_slice(&parts(&b)[3][..16]);
    let mixed = [&b[4096..8192], &a[8192..]].concat();
    assert_eq!(open(&assembled(&[delegation, manifest, sealing, table], &mixed)), Err(FailCode::ChunkTag));
    // And plaintext put there after decryption is not taken for a chunk that was opened.
    let metadata = &a[..4096];
    let roots = roots();
    let verified = UntrustedImage::parse(metadata).unwrap().verify::<Es256>(&policy(&roots)).unwrap();
    let opener = verified.unwrap_key(&kek()).unwrap();
    let mut run = plain()[..4096].to_vec();
    assert_eq!(opener.open_chunk(0, &mut run).unwrap_err().code(), FailCode::ChunkTag);
    assert_eq!(opener.finish(&Tally::default()).unwrap_err().code(), FailCode::ChunkDigest);
}
