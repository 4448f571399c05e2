//! What lies in flash and on the disk.

use crate::Verdict::{self, Refused, Taken};
use crate::sample;
use boot_crypto::{GcmKey, Key, journal_entry_key};
use boot_info::closing::ClosingState;
use hal::{ReadError, Storage, StorageMut, WriteError};
use memory_map::Region;
use memory_map::qemu_virt::{FLASH0, JOURNAL};
use sealed_image::{Compression, MAX_METADATA};
use stage1_provision::journal::kind;
use stage1_provision::machine::{Entry, Step};
use stage1_provision::secret_entry;
use store::{Cursor, MAX_ENTRY};

/// A NOR flash of which only what was given is backed; the rest is erased, until it is written.
struct Flash {
    size: u64,
    block: u64,
    base: u64,
    bytes: Vec<u8>,
}

impl Storage for Flash {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
        if offset.checked_add(into.len() as u64).is_none_or(|end| end > self.size) {
            return Err(ReadError { offset });
        }
        for (at, byte) in (offset..).zip(into) {
            let backed = at.checked_sub(self.base).and_then(|at| self.bytes.get(at as usize));
            *byte = backed.copied().unwrap_or(0xFF);
        }
        Ok(())
    }
}

impl StorageMut for Flash {
    fn erase_size(&self) -> u64 {
        self.block
    }

    fn erase(&mut self, offset: u64, _: u64) -> Result<(), WriteError> {
        Err(WriteError { offset })
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
        let start = offset.checked_sub(self.base).ok_or(WriteError { offset })? as usize;
        let end = start + bytes.len();
        self.bytes.resize(self.bytes.len().max(end), 0xFF);
        self.bytes[start..end].iter_mut().zip(bytes).for_each(|(to, from)| *to &= from);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        Ok(())
    }
}

const BLOCK: u64 = 4096;
const SMALL: Region = Region::new(BLOCK, 4 * BLOCK);

/// The journal's entry as its documentation draws it, by another implementation of the checksum's caller.
fn entry(number: u32, kind: u8, payload: &[u8]) -> Vec<u8> {
    const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);
    let length = (payload.len() as u32).to_le_bytes();
    let head = [&b"KJRN"[..], &number.to_le_bytes(), &[kind, 0, 0, 0], &length].concat();
    let crc = CRC.checksum(&[&head, payload].concat());
    let mut entry = [&head, &crc.to_le_bytes()[..], payload].concat();
    entry.resize(entry.len().next_multiple_of(64), 0xFF);
    entry
}

/// A journal that somebody wrote: with an odd first byte as it is, with an even one as entries with sound checksums,
/// each of which begins with its number, its kind and its length.
fn written(data: &[u8]) -> Option<Vec<u8>> {
    let (first, mut rest) = data.split_first()?;
    if first % 2 == 1 {
        return Some(rest.to_vec());
    }
    let mut bytes = Vec::new();
    while let Some(([number, kind, length], after)) = rest.split_first_chunk() {
        let (payload, after) = after.split_at(usize::from(*length).min(after.len()));
        bytes.extend(entry(u32::from(*number), *kind, payload));
        rest = after;
    }
    Some(bytes)
}

/// Kinds and payloads, in their order.
type Entries = Vec<(u8, Vec<u8>)>;

fn entries_of(flash: &mut Flash, region: Region) -> Option<(store::Journal, Entries)> {
    let mut entries = Vec::new();
    let opened = store::Journal::open(flash, region, &mut [0; MAX_ENTRY], |entry| {
        entries.push((entry.kind, entry.payload.to_vec()));
    });
    opened.ok().map(|journal| (journal, entries))
}

/// The journal: one that opens goes on, and whatever it holds stays as it is.
pub(crate) fn journal(data: &[u8]) -> Verdict {
    let Some(mut bytes) = written(data) else { return Refused };
    bytes.resize(SMALL.size as usize, 0xFF);
    let mut flash = Flash { size: 6 * BLOCK, block: BLOCK, base: SMALL.base, bytes };
    let Some((mut journal, mut entries)) = entries_of(&mut flash, SMALL) else { return Refused };
    assert_eq!(journal.entries() as usize, entries.len());
    // An entry as documented stands for each.
    let mut at = 0;
    for (number, (kind, payload)) in (0..).zip(&entries) {
        let expected = entry(number, *kind, payload);
        let length = 20 + payload.len();
        let found = (at..flash.bytes.len())
            .step_by(64)
            .find(|at| flash.bytes[*at..].starts_with(&expected[..length]));
        at = found.expect("an entry that nobody wrote") + expected.len();
    }
    if journal.append(&mut flash, 9, b"more").is_ok() {
        entries.push((9, b"more".to_vec()));
        let (_, again) = entries_of(&mut flash, SMALL).expect("the journal does not open any more");
        assert_eq!(again, entries, "what was there has changed");
    }
    Verdict::of(entries.len() > 1)
}

pub(crate) fn journal_seeds() -> Vec<Vec<u8>> {
    let short = [&[0, 1, 3][..], b"abc", &[1, 2, 0], &[2, 200, 70], &[5; 70]].concat();
    let whole =
        [entry(0, 1, b""), entry(1, 2, &[7; 44]), entry(2, 3, &[0xFF; 45]), entry(3, 4, &[1; 300])].concat();
    let torn = [&entry(0, 1, b"first")[..], &entry(1, 2, &[7; 200])[..64], &entry(1, 2, &[8; 20])].concat();
    vec![[&[0][..], &short].concat(), [&[1][..], &whole].concat(), [&[1][..], &torn].concat()]
}

/// The provisioning stage's journal: what is taken is of the machine's entries.
pub(crate) fn provisioning_journal(data: &[u8]) -> Verdict {
    let Some(mut bytes) = written(data) else { return Refused };
    bytes.truncate(JOURNAL.size as usize);
    let mut flash = Flash { size: FLASH0.size, block: 256 * 1024, base: JOURNAL.base, bytes };
    let Ok((_, recorded)) = stage1_provision::journal::Journal::open(&mut flash) else { return Refused };
    let (_, entries) = entries_of(&mut flash, JOURNAL).expect("it was opened");
    assert_eq!(recorded.len(), entries.len());
    for (recorded, (number, payload)) in recorded.iter().zip(&entries) {
        assert_eq!(kind(recorded.entry), *number);
        match recorded.entry {
            Entry::Begun(step) | Entry::Done(step) => {
                assert_eq!(payload, &[step.number()]);
                assert!(recorded.untrusted.is_empty());
            }
            Entry::Session | Entry::Ticket | Entry::Seed | Entry::Receipt => {
                assert_eq!(recorded.untrusted, *payload);
            }
        }
    }
    Verdict::of(!recorded.is_empty())
}

pub(crate) fn provisioning_journal_seeds() -> Vec<Vec<u8>> {
    let of = |step| (Entry::Begun(step), vec![Step::number(step)]);
    let all = [
        of(Step::ProvePlace),
        (Entry::Done(Step::ProvePlace), vec![1]),
        of(Step::Ask),
        (Entry::Session, vec![5; 80]),
        (Entry::Ticket, vec![6; 100]),
        (Entry::Seed, vec![7; 80]),
        (Entry::Receipt, vec![8; 90]),
    ];
    let mut seed = vec![0];
    for (number, (entry, payload)) in (0..).zip(all) {
        seed.extend([number, kind(entry), payload.len() as u8]);
        seed.extend(payload);
    }
    vec![seed]
}

const BINDING: &[u8] = &[5, 1, 2, 3];

fn journal_key() -> Key {
    Key::new([0x4B; 32])
}

/// The sealed entry as its documentation draws it.
fn sealed() -> Vec<u8> {
    let salt = [0x5A; 32];
    let mut content = [0x0D; 32];
    let key = GcmKey::new(&journal_entry_key(&journal_key(), &salt));
    let tag = key.seal(&[0; 12], BINDING, &mut content).expect("it is short");
    [&salt[..], &content, &tag].concat()
}

/// A sealed entry of the journal: only the one that was sealed opens, for what it was sealed for.
pub(crate) fn secret_entry(data: &[u8]) -> Verdict {
    let opened = secret_entry::open::<32>(&journal_key(), BINDING, data);
    assert!(
        secret_entry::open::<32>(&journal_key(), b"another", data).is_none(),
        "it opens for something else"
    );
    assert!(secret_entry::open::<64>(&journal_key(), BINDING, data).is_none(), "it opens in another length");
    let Some(content) = opened else { return Refused };
    assert_eq!((*content, data), ([0x0D; 32], &sealed()[..]), "nobody sealed this");
    Taken
}

pub(crate) fn secret_entry_seeds() -> Vec<Vec<u8>> {
    vec![sealed()]
}

/// How far closing has come. The checksum of whatever is there is made right in a second look.
pub(crate) fn closing_state(data: &[u8]) -> Verdict {
    const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);
    let Some(region) = data.first_chunk::<{ ClosingState::SIZE }>() else { return Refused };
    let mut summed = *region;
    let crc = CRC.checksum(&region[..40]);
    summed[40..44].copy_from_slice(&crc.to_le_bytes());
    let mut taken = false;
    for region in [region, &summed] {
        if let Some(state) = ClosingState::parse(region) {
            assert_eq!(
                ClosingState::encode(&state.install),
                region[..44],
                "a closing state has one encoding"
            );
            assert_eq!(state.acknowledged, region[64..] == [0; 4]);
            taken = true;
        }
    }
    Verdict::of(taken)
}

pub(crate) fn closing_state_seeds() -> Vec<Vec<u8>> {
    let mut region = [0xFF; ClosingState::SIZE];
    region[..44].copy_from_slice(&ClosingState::encode(&sample::INSTALL));
    let pending = region.to_vec();
    region[64..].fill(0);
    vec![pending, region.to_vec()]
}

/// A slot: whatever its headers say, what is found lies in it, and the walk ends.
pub(crate) fn slot(data: &[u8]) -> Verdict {
    let Some(([room, buffer], bytes)) = data.split_first_chunk() else { return Refused };
    let slot = Region::new(4096, 4096 * (1 + u64::from(*room)));
    let mut flash = Flash { size: slot.end() + 4096, block: 4096, base: slot.base, bytes: bytes.to_vec() };
    let mut buffer = vec![0; (usize::from(*buffer) * 1024).min(MAX_METADATA as usize)];
    let mut cursor = Cursor::new(slot);
    let (mut images, mut end) = (0, slot.base);
    loop {
        let before = format!("{cursor:?}");
        match cursor.read_next(&mut flash, &mut buffer) {
            Ok(image) => {
                assert!(image.offset >= end && image.offset % 4096 == 0);
                assert_eq!(image.untrusted_metadata.len(), image.header.metadata_len() as usize);
                let mut stored = vec![0; image.untrusted_metadata.len()];
                flash.read(image.offset, &mut stored).expect("it lies in the slot");
                assert_eq!(stored, image.untrusted_metadata);
                assert_eq!(image.payload.size, image.header.payload_len);
                assert!(slot.contains(image.payload.base, image.payload.size), "a payload outside the slot");
                end = image.payload.end();
                images += 1;
            }
            Err(error) => {
                let _code = error.code();
                assert_eq!(format!("{cursor:?}"), before, "an error moves the cursor");
                break;
            }
        }
    }
    Verdict::of(images > 0)
}

pub(crate) fn slot_seeds() -> Vec<Vec<u8>> {
    let signed = sample::signed();
    let mut two = vec![8, 64];
    for _ in 0..2 {
        let mut image = signed.seal(&sample::kek(), Compression::Lz4).expect("it is short");
        image.resize(image.len().next_multiple_of(4096), 0);
        two.extend(image);
    }
    // The metadata alone: whatever the payload is, the slot reaches as far.
    vec![two[..2 + 4096].to_vec(), two]
}
