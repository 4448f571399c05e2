//! What one stage hands to the next.

use crate::Verdict::{self, Refused, Taken};
use crate::sample;
use boot_crypto::{Key, sha256};
use boot_info::{
    BootInfo, Evidence, FUSE_FACTS_BYTES, ImageRecord, List, RootSlots, SecretPage, Secrets, SignedStatement,
    Statement, Timestamp,
};

/// The `BootInfo`, with the digest of whatever it holds: what is read is written back to the same bytes.
pub(crate) fn handoff(data: &[u8]) -> Verdict {
    let _untouched = BootInfo::read(data);
    let Some(bytes) = data.first_chunk::<{ BootInfo::SIZE }>() else { return Refused };
    let mut bytes = *bytes;
    let (body, digest) = bytes.split_at_mut(BootInfo::SIZE - 32);
    digest.copy_from_slice(&sha256(body));
    let Ok(info) = BootInfo::read(&bytes) else { return Refused };
    let mut again = [0; BootInfo::SIZE];
    assert!(info.write(&mut again));
    assert_eq!(again, bytes, "a handoff has one encoding");
    Taken
}

pub(crate) fn handoff_seeds() -> Vec<Vec<u8>> {
    let mut info = BootInfo {
        board: *b"qemu-virt\0\0\0\0\0\0\0",
        lifecycle: lifecycle::Lifecycle::Production.codeword(),
        reset_reason: 1,
        slot: 1,
        fallback_code: 302,
        counter_hz: 62_500_000,
        chip_id: [7; 16],
        floors: [0, 1, 2, 3, 4, 5, 6, 0],
        roots: RootSlots { digests: [[1; 32], [0; 32], [0; 32], [0; 32]], valid: 1, revoked: 2 },
        images: List::new(),
        timestamps: List::new(),
    };
    info.images.push(ImageRecord { kind: 2, version: 1, plain_digest: [3; 32], ..Default::default() });
    info.timestamps.push(Timestamp { stage: 0, step: 1, start: 2, end: 3 });
    let mut bytes = vec![0; BootInfo::SIZE];
    assert!(info.write(&mut bytes));
    vec![bytes]
}

/// The page of secrets, as it is and with the check value of whatever it holds: wiped in any case, and what is taken is
/// written back to the same bytes.
pub(crate) fn secret_page(data: &[u8]) -> Verdict {
    let taken = take(data);
    let mut checked = data.to_vec();
    if let Some((body, check)) =
        checked.get_mut(..SecretPage::SIZE).and_then(|page| page.split_last_chunk_mut::<4>())
    {
        *check = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI).checksum(body).to_le_bytes();
    }
    if take(&checked) || taken { Taken } else { Refused }
}

/// Whether a page is taken.
fn take(data: &[u8]) -> bool {
    let mut page = data.to_vec();
    let read = [SecretPage::os_storage_key(&page), SecretPage::rng_secret(&page)];
    let read = read.map(|key| key.map(|key| *key.expose()));
    let taken = SecretPage::take(&mut page);
    assert!(page.iter().all(|byte| *byte == 0), "secrets are left in the page");
    let expected = match taken.as_ref().map(|page| &page.secrets) {
        Some(Secrets::Production { os_storage_key, rng_secret }) => {
            [os_storage_key, rng_secret].map(|key| Some(*key.expose()))
        }
        Some(Secrets::Provision { .. }) | None => [None; 2],
    };
    assert_eq!(read, expected, "stage2 reads what the page has for it");
    let Some(taken) = taken else { return false };
    let mut again = vec![0; SecretPage::SIZE];
    assert!(taken.write(&mut again));
    assert_eq!(again, data[..SecretPage::SIZE], "a page of secrets has one encoding");
    true
}

pub(crate) fn secret_page_seeds() -> Vec<Vec<u8>> {
    let key = |byte| Key::new([byte; 32]);
    let evidence = |facts: lifecycle::FuseFacts| Evidence {
        statement: sample::statement(&facts).sign(&sample::die_key()),
        fuse_facts: facts.encode(),
        install: if facts.lifecycle == lifecycle::Lifecycle::Production { sample::INSTALL } else { [0; 32] },
    };
    const { assert!(FUSE_FACTS_BYTES == lifecycle::FuseFacts::SIZE) };
    let policy = sample::fuse_policy();
    let production = || Secrets::Production { os_storage_key: key(1), rng_secret: key(2) };
    let provision = Secrets::Provision { stage_secret: key(3), die_secret: key(4) };
    [
        SecretPage { secrets: production(), evidence: None },
        SecretPage { secrets: production(), evidence: Some(evidence(policy.production())) },
        SecretPage { secrets: provision, evidence: Some(evidence(policy.secured())) },
    ]
    .iter()
    .map(|page| {
        let mut bytes = vec![0; SecretPage::SIZE];
        assert!(page.write(&mut bytes));
        bytes
    })
    .collect()
}

/// stage0's statement: verified only as it was signed; and where the die's key signs again whatever is there, only the
/// one encoding is taken.
pub(crate) fn statement(data: &[u8]) -> Verdict {
    let key = sample::die_key();
    let sound = |statement: &Statement| statement.sign(&key).as_bytes() == data;
    if let Ok(statement) = Statement::verify(data, &key.public()) {
        let policy = sample::fuse_policy();
        let known = [policy.secured(), policy.production()].map(|facts| sample::statement(&facts));
        assert!(known.contains(&statement) && sound(&statement), "nobody signed this");
        return Taken;
    }
    if let Some(statement) = SignedStatement::from_untrusted(data) {
        assert_eq!(statement.as_bytes(), data);
    }
    // The same with a signature: over the payload as an independent decoder finds it.
    let Some(signed) = sign_again(data, &key) else { return Refused };
    if let Ok(statement) = Statement::verify(&signed, &key.public()) {
        assert_eq!(statement.sign(&key).as_bytes(), signed, "a statement has one encoding");
        return Taken;
    }
    Refused
}

fn sign_again(data: &[u8], key: &boot_crypto::EcKey) -> Option<Vec<u8>> {
    let mut d = minicbor::Decoder::new(data);
    d.tag().ok()?;
    d.array().ok()?;
    let protected = d.bytes().ok()?;
    d.map().ok()?;
    let payload = d.bytes().ok()?;
    let signed = sample::encoded(|e| {
        e.array(4)?.str("Signature1")?.bytes(protected)?.bytes(&[])?.bytes(payload)?.ok()
    });
    let mut again = data.get(..data.len().checked_sub(64)?)?.to_vec();
    again.extend(key.sign(&sha256(&signed)));
    Some(again)
}

pub(crate) fn statement_seeds() -> Vec<Vec<u8>> {
    let policy = sample::fuse_policy();
    [policy.secured(), policy.production()]
        .map(|facts| sample::statement(&facts).sign(&sample::die_key()).as_bytes().to_vec())
        .to_vec()
}
