//! Files that hosts read: of owners, of packages, of vendors.

use crate::Verdict::{self, Refused, Taken};
use crate::sample;
use authority::vendor::Vendors;
use authority::{Delegation, Terms, hex};
use fail_code::FailCode;
use release::{PackageFacts, UpdateFacts, flatten_elf, inspect_slot};
use sealed_image::{Compression, Role, RoleIndices, Version};
use std::sync::LazyLock;

/// Text files of an owner: what a release says of itself, a lot's terms, a delegation. What is read is written to
/// something that reads the same.
pub(crate) fn owner_files(data: &[u8]) -> Verdict {
    let Ok(text) = str::from_utf8(data) else { return Refused };
    let mut taken = false;
    if let Ok(facts) = PackageFacts::from_json(text) {
        assert_eq!(PackageFacts::from_json(&facts.to_json()).as_ref(), Ok(&facts));
        let _terms = Terms::new(&facts, String::new());
        taken = true;
    }
    if let Ok(facts) = UpdateFacts::from_json(text) {
        assert_eq!(UpdateFacts::from_json(&facts.to_json()), Ok(facts));
        taken = true;
    }
    if let Ok(terms) = serde_json::from_str::<Terms>(text) {
        let again = serde_json::to_string(&terms).expect("it has a JSON form");
        assert_eq!(serde_json::from_str::<Terms>(&again).expect("it was just written"), terms);
        taken = true;
    }
    if let Ok(delegation) = serde_json::from_str::<Delegation>(text) {
        let again = serde_json::to_string(&delegation).expect("it has a JSON form");
        assert_eq!(serde_json::from_str::<Delegation>(&again).expect("it was just written"), delegation);
        let _digest = delegation.root_digest();
        taken = true;
    }
    // Of vendors in PEM, that they are read or refused.
    taken |= Vendors::from_pem(text).is_ok();
    Verdict::of(taken)
}

pub(crate) fn owner_file_seeds() -> Vec<Vec<u8>> {
    let facts = PackageFacts {
        board: sample::BOARD.into(),
        version: Version::new(1, 2, 3),
        release: "spring".into(),
        package_id: [1; 32],
        package_digest: [2; 32],
        stage1_measurement: [3; 32],
        stage2_measurement: [4; 32],
        policy: sample::fuse_policy(),
    };
    let pem = release::certificate_pem(VENDOR_ROOT);
    let terms = serde_json::to_vec(&Terms::new(&facts, pem.clone())).expect("it has a JSON form");
    let delegation = Delegation::sign(&sample::es256(1), &sample::es256(4).public(), sample::BOARD);
    let delegation = serde_json::to_vec(&delegation.expect("the root signs")).expect("it has a JSON form");
    let mut indices = RoleIndices::default();
    indices.set(Role::Os, 5);
    let update = UpdateFacts {
        product: "demo".into(),
        board: sample::BOARD.into(),
        version: Version::new(1, 2, 3),
        minimum_version: Version::MIN,
        indices,
        update_id: [5; 32],
        update_digest: [6; 32],
    };
    let update = update.to_json().into_bytes();
    vec![facts.to_json().into_bytes(), terms, delegation, pem.into_bytes(), update]
}

/// A program as the compiler writes it, and a slot as a programmer reads it: no length in them is believed.
pub(crate) fn elf(data: &[u8]) -> Verdict {
    let listed = inspect_slot(data);
    if let Ok(images) = &listed {
        assert!(images.iter().all(|image| image.offset + image.stored_bytes <= data.len() as u64));
    }
    let flat = flatten_elf(data);
    if let Ok(flat) = &flat {
        let end = flat.load.checked_add(flat.bytes.len() as u64).expect("it lies in the address space");
        assert!((flat.load..end).contains(&flat.entry));
    }
    Verdict::of(listed.is_ok() || flat.is_ok())
}

pub(crate) fn elf_seeds() -> Vec<Vec<u8>> {
    let image = sample::signed().seal(&sample::kek(), Compression::Lz4).expect("it is short");
    vec![program(), image]
}

/// A program of one segment, by hand.
fn program() -> Vec<u8> {
    let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
    elf.resize(16, 0);
    elf.extend([2_u16, 183].map(u16::to_le_bytes).concat());
    elf.extend(1_u32.to_le_bytes());
    elf.extend([sample::LOAD, 64, 0].map(u64::to_le_bytes).concat());
    elf.extend(0_u32.to_le_bytes());
    elf.extend([64_u16, 56, 1, 64, 0, 0].map(u16::to_le_bytes).concat());
    elf.extend([1_u32, 5].map(u32::to_le_bytes).concat());
    elf.extend([120_u64, sample::LOAD, sample::LOAD, 16, 16, 4096].map(u64::to_le_bytes).concat());
    elf.extend([0x1F, 0x20, 0x03, 0xD5].repeat(4));
    elf
}

/// Words that people type: versions, codes, hexadecimal. What is read prints as something that reads the same.
pub(crate) fn texts(data: &[u8]) -> Verdict {
    let Ok(text) = str::from_utf8(data) else { return Refused };
    let mut taken = false;
    if let Ok(version) = text.parse::<Version>() {
        assert_eq!(version.to_string().parse(), Ok(version));
        taken = true;
    }
    if let Some(code) = FailCode::parse(text) {
        assert_eq!(FailCode::parse(code.name()), Some(code));
        taken = true;
    }
    if let Some(bytes) = hex::decode(text) {
        assert_eq!(hex::encode(&bytes), text.to_ascii_lowercase());
        taken = true;
    }
    if let Some(bytes) = release::unhex::<16>(text) {
        assert_eq!(release::unhex(&release::hex(&bytes)), Some(bytes));
        assert_eq!(hex::array::<16>(text), Some(bytes), "two readers of hexadecimal differ");
    }
    Verdict::of(taken)
}

pub(crate) fn text_seeds() -> Vec<Vec<u8>> {
    let texts = ["1.2.3", "65535.65535.4294967295", "K0302", "302", "signature-invalid", "00fFaB"];
    texts
        .iter()
        .map(|text| text.as_bytes().to_vec())
        .chain([b"0123456789abcdef0123456789ABCDEF".to_vec()])
        .collect()
}

/// A test vendor's root; its key is forgotten.
const VENDOR_ROOT: &[u8] = include_bytes!("../testdata/vendor-root.der");
const VENDOR_ISSUING: &[u8] = include_bytes!("../testdata/vendor-issuing.der");
const VENDOR_DIE: &[u8] = include_bytes!("../testdata/vendor-die.der");
/// A time at which the test vendor's certificates are valid, in seconds since 1970.
pub const VENDOR_NOW: u64 = 1_800_000_000;

/// The test vendor, as a lot trusts it.
pub fn vendors() -> &'static Vendors {
    static VENDORS: LazyLock<Vendors> = LazyLock::new(|| {
        Vendors::from_pem(&release::certificate_pem(VENDOR_ROOT)).expect("the test vendor is sound")
    });
    &VENDORS
}

/// The test die's certificate, and that of the vendor's issuing CA.
pub fn vendor_certificates() -> (&'static [u8], &'static [u8]) {
    (VENDOR_DIE, VENDOR_ISSUING)
}

/// The silicon vendor's chain for a die: certificates, each behind its length of two bytes. Only the die that the
/// vendor certified comes out.
pub(crate) fn vendor_chain(data: &[u8]) -> Verdict {
    let mut rest = data;
    let mut chain = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk() {
        let Some((der, after)) = after.split_at_checked(usize::from(u16::from_le_bytes(*length))) else {
            break;
        };
        chain.push(der);
        rest = after;
    }
    let Ok(die) = vendors().validate(&chain, VENDOR_NOW) else { return Refused };
    let known = vendors().validate(&[VENDOR_DIE, VENDOR_ISSUING], VENDOR_NOW).expect("the test die is sound");
    assert_eq!((&die, chain[0]), (&known, VENDOR_DIE), "the vendor did not certify this");
    Taken
}

pub(crate) fn vendor_chain_seeds() -> Vec<Vec<u8>> {
    let chain = |certificates: &[&[u8]]| {
        certificates.iter().flat_map(|der| [&(der.len() as u16).to_le_bytes(), *der].concat()).collect()
    };
    vec![chain(&[VENDOR_DIE, VENDOR_ISSUING]), chain(&[VENDOR_DIE])]
}
