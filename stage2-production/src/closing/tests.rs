//! Closing on models of flash and disk, against an authority on the other end of the line.

use super::*;
use boot_crypto::EcKey;
use boot_crypto::host::Es256Key;
use boot_info::{Statement, Subject};
use factory_proto::authority::Authority;
use factory_proto::link::encode;
use lifecycle::Lifecycle;
use memory_map::MIB;
use memory_map::qemu_virt::{BOARD, DISK_MIN, FLASH_BLOCK};
use sealed_image::host::{Signer, certify, encode_grant};
use sealed_image::{Grant, KindSet, MAX_BOARDS, Role, Root, Version};
use sim::{Devices, Disk, Nor, Otp, Power, Source, Tear};
use std::cell::Cell;
use std::collections::VecDeque;

const INSTALL: [u8; 32] = [0x11; 32];
const CHIP: [u8; 16] = [0x22; 16];
const CERTIFICATE: &[u8] = b"the device's certificate";

fn root() -> Es256Key {
    Es256Key::from_scalar(&[0x31; 32]).unwrap()
}

fn roots() -> [Root; 1] {
    [Root { digest: root().public_key().thumbprint(), revoked: false }]
}

fn authority(role: Role) -> Authority {
    let key = Es256Key::from_scalar(&[0x32; 32]).unwrap();
    let mut boards = [""; MAX_BOARDS];
    boards[0] = BOARD;
    let grant = Grant {
        role,
        key: key.public_key(),
        kinds: KindSet::default(),
        boards,
        min_version: Version::MIN,
        max_version: Version::MAX,
    };
    let certificate = certify(&root(), &encode_grant(&grant)).unwrap();
    Authority::new(&root().public_key(), certificate, Box::new(key))
}

fn release() -> Vec<u8> {
    authority(Role::Authority).release(&INSTALL, &CHIP, &[CERTIFICATE]).unwrap()
}

fn evidence() -> Evidence {
    let statement = Statement {
        lifecycle: lifecycle::Lifecycle::Production.codeword(),
        measurement: [3; 32],
        fuse_digest: [4; 32],
        subject: Subject::Closed(INSTALL),
    };
    let die_key = EcKey::from_scalar(&[5; 32]).unwrap();
    Evidence { statement: statement.sign(&die_key), fuse_facts: [6; _], install: INSTALL }
}

/// A clock of 1000 Hz that goes on by one whenever it is looked at.
struct Ticking(Cell<u64>);

impl Clock for Ticking {
    fn now(&self) -> u64 {
        self.0.set(self.0.get() + 1);
        self.0.get()
    }
    fn hz(&self) -> u64 {
        1000
    }
}

/// What a station was told.
type Told = Vec<(Message, Vec<u8>)>;

/// A station that answers each proof with the same message.
struct Station {
    answer: Option<(Message, Vec<u8>)>,
    receiver: factory_proto::link::Receiver,
    arriving: VecDeque<u8>,
    proofs: Vec<Vec<u8>>,
    told: Told,
}

impl Station {
    fn new(answer: Option<(Message, Vec<u8>)>) -> Self {
        let (receiver, arriving) = Default::default();
        Self { answer, receiver, arriving, proofs: Vec::new(), told: Vec::new() }
    }
}

impl Console for Station {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if let Some(frame) = self.receiver.push(*byte) {
                if frame.message != Message::ClosingProof {
                    self.told.push((frame.message, frame.body));
                    continue;
                }
                if let Some((message, body)) = &self.answer {
                    self.arriving.extend(encode(*message, frame.seq, body).unwrap());
                }
                self.proofs.push(frame.body);
            }
        }
    }
}

impl Receive for Station {
    fn receive(&mut self) -> Option<u8> {
        self.arriving.pop_front()
    }
}

fn ask(answer: Option<(Message, Vec<u8>)>) -> (Result<Vec<u8>, Error>, Vec<Vec<u8>>) {
    let mut station = Station::new(answer);
    let trust = Trust { board: BOARD, roots: &roots(), refuse_test_keys: true };
    let outcome = prove(&evidence(), &CHIP, &trust, &mut station, &Ticking(Cell::new(0)));
    (outcome, station.proofs)
}

#[test]
fn the_proof_carries_the_evidence_and_the_release_is_returned_as_it_came() {
    let sent = release();
    let (outcome, proofs) = ask(Some((Message::Release, sent.clone())));
    assert_eq!(outcome, Ok(sent));
    let proof = ClosingProof::decode(&proofs[0]).unwrap();
    assert_eq!((proof.install, proof.chip_id), (&INSTALL, &CHIP));
    assert_eq!(proof.statement, evidence().statement.as_bytes());
    assert_eq!(proof.fuse_facts, evidence().fuse_facts);
}

#[test]
fn a_release_that_the_authority_did_not_sign_for_this_device_is_refused() {
    let authority_role = authority(Role::Authority);
    let bad = [
        authority_role.release(&[0x12; 32], &CHIP, &[CERTIFICATE]).unwrap(),
        authority_role.release(&INSTALL, &[0x23; 16], &[CERTIFICATE]).unwrap(),
        authority(Role::Os).release(&INSTALL, &CHIP, &[CERTIFICATE]).unwrap(),
        authority_role.receipt(&INSTALL, &[0; 32]).unwrap(),
    ];
    for message in bad {
        let (outcome, _) = ask(Some((Message::Release, message)));
        assert_eq!(outcome.map_err(|error| error.code()), Err(FailCode::CertificateInvalid));
    }
    let (junk, _) = ask(Some((Message::Release, b"junk".to_vec())));
    assert_eq!(junk.map_err(|error| error.code()), Err(FailCode::AnswerMalformed));
}

#[test]
fn silence_and_a_refusal_end_the_wait_with_their_codes() {
    let (silent, proofs) = ask(None);
    assert_eq!(silent.map_err(|error| error.code()), Err(FailCode::NoAnswer));
    assert!(proofs.len() >= 9, "asked {} times", proofs.len());
    let refusal = factory_proto::Refusal::new(FailCode::InstallUnknown, "").encode();
    let (refused, proofs) = ask(Some((Message::Refusal, refusal)));
    assert_eq!(refused.map_err(|error| error.code()), Err(FailCode::InstallUnknown));
    assert_eq!(proofs.len(), 1);
}

/// An image without a meaningful content.
fn image(fill: u8) -> Vec<u8> {
    let header = Header {
        delegation_len: 100,
        manifest_len: 100,
        sealing_len: 100,
        chunk_count: 3,
        payload_offset: 4096,
        payload_len: 150_000,
    };
    let mut image = vec![fill; 4096 + 150_000];
    image[..HEADER_BYTES].copy_from_slice(&header.encode());
    image
}

/// The flash of a device as stage1 leaves it.
fn flash_left_by_stage1(power: &Power) -> Nor {
    let mut flash = Nor::new(10 * MIB, FLASH_BLOCK, power);
    let mut put = |region: Region, bytes: &[u8]| {
        flash.bytes_mut()[region.base as usize..][..bytes.len()].copy_from_slice(bytes);
    };
    put(BOOT_SLOT_B, &image(1));
    put(BOOT_STAGING, &image(2));
    put(JOURNAL, &[0x5A; 100_000]);
    put(CLOSING_STATE, &ClosingState::encode(&INSTALL));
    flash
}

/// A device as stage1 leaves it.
fn device(power: &Power) -> (Nor, Disk) {
    let mut content = vec![0; DISK_MIN as usize];
    content[PACKAGE.base as usize..][..1_000_000].fill(0xA5);
    (flash_left_by_stage1(power), Disk::new(content, power))
}

/// The fuses of a die that is closed, of which only the lifecycle's can be burned.
fn fuses_on(power: &Power) -> Otp {
    let mut words = vec![0; lifecycle::WORDS];
    Row::Lifecycle.words().for_each(|word| words[word] = Lifecycle::Production.codeword());
    Otp::new(words, power, |_, index| may_not_be_burned(index))
}

fn fuses() -> Otp {
    fuses_on(&Power::new())
}

fn part(storage: &[u8], region: Region) -> &[u8] {
    &storage[region.base as usize..region.end() as usize]
}

fn closing_state(flash: &Nor) -> ClosingState {
    ClosingState::parse(part(flash.bytes(), CLOSING_STATE).first_chunk().unwrap()).unwrap()
}

fn assert_settled(flash: &Nor, disk: &Disk) {
    let erased = |region| part(flash.bytes(), region).iter().all(|byte| *byte == 0xFF);
    assert!(part(flash.bytes(), BOOT_SLOT_B).starts_with(&image(2)));
    assert!(erased(BOOT_STAGING) && erased(JOURNAL));
    assert!(part(disk.bytes(), PACKAGE).iter().all(|byte| *byte == 0));
    let (len, message) = part(flash.bytes(), CERTIFICATES).split_first_chunk().unwrap();
    let message = &message[..u32::from_le_bytes(*len) as usize];
    let trust = Trust { board: BOARD, roots: &roots(), refuse_test_keys: true };
    let kept = verify_release::<Es256>(message, &trust, &INSTALL, &CHIP).unwrap();
    assert_eq!(kept.certificates, [CERTIFICATE]);
    assert_eq!(closing_state(flash), ClosingState { install: INSTALL, acknowledged: true });
}

#[test]
fn everything_that_the_factory_needed_is_gone_and_the_backup_slot_holds_the_second_copy() {
    let (mut flash, mut disk) = device(&Power::new());
    settle(&release(), &mut fuses(), &mut flash, Some(&mut disk)).unwrap();
    assert_settled(&flash, &disk);
    assert_eq!(flash.violations(), 0);
}

/// At every operation, in every way: the backup slot holds a start only with all that follows it, the copy waits until then,
/// and the next try ends it.
#[test]
fn a_power_cut_anywhere_in_the_copy_leaves_a_whole_one() {
    let power = Power::new();
    let mut flash = flash_left_by_stage1(&power);
    move_second_copy(&mut flash).unwrap();
    let operations = power.operations();
    assert!(operations > 40, "{operations} operations");
    let second = image(2);
    for tear in Tear::ALL {
        // One bit of the payload is like another.
        let step = if matches!(tear, Tear::Weak | Tear::Touched) { 7 } else { 1 };
        for at in (0..operations).filter(|at| at % step == 0 || at + 80 > operations) {
            let power = Power::new();
            let mut flash = flash_left_by_stage1(&power);
            power.cut_at(at, tear);
            assert!(move_second_copy(&mut flash).is_err(), "{tear:?} at {at}");
            power.restore();
            flash.settle();
            let whole = |slot| part(flash.bytes(), slot).starts_with(&second);
            let started = part(flash.bytes(), BOOT_SLOT_B)[HEADER_BYTES..4096] == second[HEADER_BYTES..4096];
            assert!(whole(BOOT_SLOT_B) || !started && whole(BOOT_STAGING), "{tear:?} at {at}");
            move_second_copy(&mut flash).unwrap_or_else(|error| panic!("{tear:?} at {at}: {error:?}"));
            assert!(part(flash.bytes(), BOOT_SLOT_B).starts_with(&second), "{tear:?} at {at}");
            assert_eq!(flash.unstable().count(), 0, "{tear:?} at {at}: a bit reads otherwise each time");
        }
    }
}

/// The last word of closing, torn so that the die is closed in one boot and on its way in the next. While it is, the
/// provisioning stage can still be booted; once that is cleared away, the die is closed in every boot.
#[test]
fn the_provisioning_stage_stays_until_the_die_is_closed_in_every_boot() {
    let word = Row::Lifecycle.words().end - 1;
    let state = |fuses: &Otp| lifecycle::Fuses::read_lifecycle(fuses).unwrap();
    let (mut doubtful, mut cuts) = (0, 0);
    for seed in 0..1000 {
        let power = Power::new();
        let mut torn = fuses_on(&power);
        torn.contents_mut()[word] = Lifecycle::Secured.codeword();
        power.cut_with(0, Tear::Unstable, seed);
        assert!(torn.burn(word, Lifecycle::Production.codeword()).is_err());
        power.restore();
        let states: Vec<_> = (0..64).map(|_| state(&torn)).collect();
        if !(states.contains(&Lifecycle::Closing) && states.contains(&Lifecycle::Production)) {
            continue;
        }
        doubtful += 1;
        // Power fails at each word that is burned once more, and at operations behind them.
        for (tear, at) in Tear::ALL.into_iter().flat_map(|tear| [0, 1, 2, 3, 20].map(|at| (tear, at))) {
            let power = Power::new();
            let (mut fuses, mut flash) = (torn.clone(), flash_left_by_stage1(&power));
            fuses.connect(&power);
            let mut disk = Disk::new(Vec::new(), &power);
            power.cut_with(at, tear, seed);
            let shown = format!("seed {seed}, {tear:?} at {at}");
            assert!(settle(&release(), &mut fuses, &mut flash, Some(&mut disk)).is_err(), "{shown}");
            power.restore();
            flash.settle();
            let whole = (0..64).all(|_| state(&fuses) == Lifecycle::Production);
            let stage1_there = part(flash.bytes(), BOOT_SLOT_B).starts_with(&image(1));
            assert!(whole || stage1_there, "{shown}: nothing to boot while the die is on its way");
            assert!(whole || at <= 2, "{shown}: it goes on without");
            cuts += 1;
        }
    }
    assert!(doubtful >= 4 && cuts == doubtful * 40, "{doubtful} dies, {cuts} cuts");
}

/// A flash that does not do one of its writes, and says that it did, or has a byte that is worn out.
struct Deaf<'a> {
    flash: &'a mut Nor,
    /// Writes until then; none once it has come.
    left: Option<usize>,
    /// A byte that reads as zero, whatever is erased or written.
    stuck: Option<u64>,
}

impl Storage for Deaf<'_> {
    fn size(&self) -> u64 {
        self.flash.size()
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
        self.flash.read(offset, into)?;
        let at = self.stuck.and_then(|stuck| usize::try_from(stuck.checked_sub(offset)?).ok());
        if let Some(byte) = at.and_then(|at| into.get_mut(at)) {
            *byte = 0;
        }
        Ok(())
    }
}

impl StorageMut for Deaf<'_> {
    fn erase_size(&self) -> u64 {
        self.flash.erase_size()
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
        let now = self.left == Some(0);
        self.left = self.left.and_then(|left| left.checked_sub(1));
        if now { Ok(()) } else { self.flash.write(offset, bytes) }
    }

    fn erase(&mut self, offset: u64, len: u64) -> Result<(), WriteError> {
        self.flash.erase(offset, len)
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        self.flash.flush()
    }
}

/// What reads as if more had been programmed than was is no copy, in the first boot or in any other.
#[test]
fn a_slot_that_does_not_take_the_copy_never_costs_the_one_that_waits() {
    let (mut flash, mut disk) = device(&Power::new());
    let second = image(2);
    let at = second.iter().rposition(|byte| *byte != 0).unwrap() as u64;
    let stuck = Some(BOOT_SLOT_B.base + at);
    for boot in 0..3 {
        let mut deaf = Deaf { flash: &mut flash, left: None, stuck };
        let settled = settle(&release(), &mut fuses(), &mut deaf, Some(&mut disk));
        assert_eq!(settled, Err(Error::ReadBack { offset: BOOT_SLOT_B.base }), "boot {boot}");
        assert!(part(flash.bytes(), BOOT_STAGING).starts_with(&second), "boot {boot}");
    }
}

#[test]
fn a_write_that_the_flash_did_not_take_is_found_and_nothing_follows_from_it() {
    let mut found = 0;
    for left in 0.. {
        let (mut flash, mut disk) = device(&Power::new());
        let mut deaf = Deaf { flash: &mut flash, left: Some(left), stuck: None };
        let settled = settle(&release(), &mut fuses(), &mut deaf, Some(&mut disk));
        if deaf.left.is_some() {
            assert_eq!(settled, Ok(()), "there are {left} writes");
            break;
        }
        assert!(matches!(settled, Err(Error::ReadBack { .. })), "write {left}: {settled:?}");
        assert!(!closing_state(&flash).acknowledged, "write {left}");
        settle(&release(), &mut fuses(), &mut flash, Some(&mut disk)).unwrap();
        assert_settled(&flash, &disk);
        found += 1;
    }
    assert!(found >= 4, "{found} writes");
}

/// At operations all over the run, in every way: the device is pending until the end, and the next try ends it.
#[test]
fn a_power_cut_anywhere_is_made_good_by_the_next_boot() {
    let power = Power::new();
    let (mut flash, mut disk) = device(&power);
    let release = release();
    settle(&release, &mut fuses(), &mut flash, Some(&mut disk)).unwrap();
    let operations = power.operations();
    assert!(operations > 2000);

    // Samples, fewer of the many operations that clear the package.
    let package = PACKAGE.size / 512;
    let mut cuts = 0;
    for tear in Tear::ALL {
        let mut at = 0;
        while at < operations {
            let power = Power::new();
            let (mut flash, mut disk) = device(&power);
            power.cut_at(at, tear);
            assert!(settle(&release, &mut fuses(), &mut flash, Some(&mut disk)).is_err(), "{tear:?} at {at}");
            power.restore();
            let done = closing_state(&flash).acknowledged;
            assert!(!done || at + 1 >= operations - 1, "{tear:?} at {at}: acknowledged too early");
            settle(&release, &mut fuses(), &mut flash, Some(&mut disk))
                .unwrap_or_else(|e| panic!("{tear:?} at {at}: {e:?}"));
            assert_settled(&flash, &disk);
            cuts += 1;
            at += operations / 30 + at % 3;
            if at > package && at < operations - 200 {
                at = at.max(operations - 200);
            }
        }
    }
    assert!(cuts > 100, "{cuts} cuts");
}

#[test]
fn junk_in_the_waiting_place_is_refused_while_slot_b_holds_no_image() {
    let (mut flash, mut disk) = device(&Power::new());
    flash.bytes_mut()[BOOT_STAGING.base as usize] ^= 1;
    flash.bytes_mut()[BOOT_SLOT_B.base as usize..][..HEADER_BYTES].fill(0xFF);
    assert_eq!(settle(&release(), &mut fuses(), &mut flash, Some(&mut disk)), Err(Error::Staging));
    assert!(!closing_state(&flash).acknowledged);
    assert_eq!(settle(&release(), &mut fuses(), &mut flash, None::<&mut Disk>), Err(Error::NoDisk));
}

/// Closes a device whose station gives this answer; returns what it was told, and whether anything was settled.
fn close(answer: Option<(Message, Vec<u8>)>) -> (Result<(), Error>, Told, Nor, Disk) {
    let (mut flash, disk) = device(&Power::new());
    let mut devices = Devices::new(Some(disk), Source::new(1));
    let mut station = Station::new(answer);
    let evidence = evidence();
    let pending =
        Pending { evidence: &evidence, chip_id: &CHIP, roots: roots().to_vec(), refuse_test_keys: true };
    let clock = Ticking(Cell::new(0));
    let outcome = pending.close(&mut station, &clock, &mut devices, |release, disk| {
        settle(release, &mut fuses(), &mut flash, disk)
    });
    assert!(devices.disk().is_none(), "no device is left running");
    (outcome, station.told, flash, devices.disk.take().unwrap())
}

fn phases(told: &Told) -> Vec<Phase> {
    let steps = told.iter().filter(|(message, _)| *message == Message::Progress);
    steps
        .map(|(_, body)| Progress::decode(body).unwrap())
        .inspect(|progress| assert_eq!(progress.step, PROVE_CLOSED))
        .map(|progress| progress.phase)
        .collect()
}

fn outcome_of(told: &Told) -> u16 {
    let (last, body) = told.last().unwrap();
    assert_eq!(*last, Message::Outcome);
    Outcome::decode(body).unwrap().code
}

#[test]
fn closing_ends_with_everything_settled_and_the_station_told() {
    let (closed, told, flash, disk) = close(Some((Message::Release, release())));
    assert_eq!(closed, Ok(()));
    assert_settled(&flash, &disk);
    assert_eq!(phases(&told), [Phase::Begin, Phase::End]);
    assert_eq!(outcome_of(&told), 0);
}

#[test]
fn without_a_release_for_this_device_nothing_is_written_and_the_code_is_told() {
    let other = authority(Role::Authority).release(&[0x12; 32], &CHIP, &[CERTIFICATE]).unwrap();
    let cases = [(None, FailCode::NoAnswer), (Some((Message::Release, other)), FailCode::CertificateInvalid)];
    for (answer, code) in cases {
        let (closed, told, flash, disk) = close(answer);
        assert_eq!(closed.map_err(|error| error.code()), Err(code));
        let (untouched, full) = device(&Power::new());
        assert!(flash.bytes() == untouched.bytes() && disk.bytes() == full.bytes(), "{code}");
        assert_eq!(phases(&told), [Phase::Begin]);
        assert_eq!(outcome_of(&told), code.number());
    }
}
