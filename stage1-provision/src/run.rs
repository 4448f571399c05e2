//! The executor: does what the machine says, with the board and the keys.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use boot_crypto::{Digest, Key, drbg_secret, journal_key, sha256};
use boot_info::record::BootRecord;
use factory_proto::Message;
use factory_proto::device::VerifiedTicket;
use fail_code::FailCode;
use hal::Clock as _;
use lifecycle::{Fuses, Lifecycle, Row, burn};
use memory_map::qemu_virt::BOOT_SLOT_A;

use crate::born::DeviceKeys;
use crate::closing::{self, Floors};
use crate::handoff::Handoff;
use crate::hardware::{Board, Hardware};
use crate::journal::{self, Journal, Recorded};
use crate::machine::{Action, ClosingFuses, Entry, Event, Operation, State};
use crate::package::{self, Contents, Order};
use crate::place::{self, Place};
use crate::random::{HealthyEntropy, Random};
use crate::secret_entry::{self, OVERHEAD};
use crate::session::Session;
use crate::tell::Teller;
use crate::trust::Trust;
use crate::{Error, read_back, self_test};

/// How a run of the stage ends. Every secret is wiped by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum End {
    /// The device is closed: the system is to be reset.
    Closed,
    /// It is not, for this reason: the stage is to stop.
    Refused(FailCode),
}

/// Provisions the device, or carries on with it.
///
/// An event that the machine does not expect ends in [`FailCode::Panic`].
pub fn provision<H: Hardware>(board: &mut Board<'_, H>, handoff: Handoff, record: &mut BootRecord) -> End {
    let mut run = Run::new(board, handoff, record);
    let mut state = State::new();
    let mut events = VecDeque::from([Event::PowerOn(run.closing_fuses())]);
    while let Some(event) = events.pop_front() {
        let Ok((next, actions)) = state.step(event) else { break };
        state = next;
        for action in actions.as_slice() {
            match *action {
                Action::Wait => {}
                Action::Begin(step) => run.tell.begin(run.board, step),
                Action::End(step) => run.tell.end(run.board, step),
                Action::Perform(operation) => run.perform(operation, &mut events),
                Action::Record(entry) => events.push_back(run.record(entry)),
                Action::Wipe => run.held = Held::default(),
                Action::Reset => return run.close(),
                Action::Stop(code) => return run.refuse(code),
            }
        }
    }
    run.refuse(FailCode::Panic)
}

/// What a run knows. All of it is lost with power, and every secret of it is wiped when dropped.
#[derive(Default)]
struct Held {
    random: Option<Random>,
    journal: Option<Journal>,
    /// The entries that the journal held at the start.
    entries: Vec<Recorded>,
    place: Option<Place>,
    session: Option<Session>,
    ticket: Option<VerifiedTicket>,
    /// The digest of the ticket as it came.
    ticket_digest: Option<Digest>,
    keys: Option<DeviceKeys>,
    floors: Option<Floors>,
    /// What the next entry of the journal holds.
    pending: Vec<u8>,
}

struct Run<'r, 'b, H: Hardware> {
    board: &'r mut Board<'b, H>,
    handoff: Handoff,
    trust: Trust,
    entropy: HealthyEntropy,
    held: Held,
    tell: Teller<'r>,
}

impl<'r, 'b, H: Hardware> Run<'r, 'b, H> {
    fn new(board: &'r mut Board<'b, H>, handoff: Handoff, record: &'r mut BootRecord) -> Self {
        let trust = Trust::new(&handoff.info.roots, handoff.info.floors);
        let tell = Teller::new(record, board.clock.now());
        Self { board, handoff, trust, entropy: HealthyEntropy::default(), held: Held::default(), tell }
    }

    /// Looks how far closing has come. Fuses that cannot be read count as begun: then the journal has to say so, and
    /// the plan refuses what it did not make.
    fn closing_fuses(&self) -> ClosingFuses {
        let secured = matches!(Fuses::read_lifecycle(self.board.otp), Ok(Lifecycle::Secured));
        if secured && !burn::is_begun(self.board.otp, Row::DeviceSeed) {
            ClosingFuses::Untouched
        } else {
            ClosingFuses::Begun
        }
    }

    /// Does an operation and adds what happened to `events`.
    fn perform(&mut self, operation: Operation, events: &mut VecDeque<Event>) {
        match self.try_perform(operation, events) {
            Ok(event) => events.push_back(event),
            Err(error) => {
                self.tell.failed(self.board, operation, &error);
                // The final check has told the cause; what stops provisioning is that it failed.
                let code = match (operation, error.code()) {
                    (Operation::FinalCheck, code) if !is_about_fuses(code) => FailCode::FinalCheck,
                    (Operation::ReadBack | Operation::CheckPrimary | Operation::CheckBackup, _) => {
                        FailCode::ReadBack
                    }
                    (_, code) => code,
                };
                events.push_back(Event::Failed(code));
            }
        }
    }

    fn try_perform(&mut self, operation: Operation, events: &mut VecDeque<Event>) -> Result<Event, Error> {
        match operation {
            Operation::SelfTest => self.self_test()?,
            Operation::ReadJournal => {
                let (journal, entries) = Journal::open(self.board.flash)?;
                events.extend(entries.iter().map(|recorded| Event::Found(recorded.entry)));
                self.held.journal = Some(journal);
                self.held.entries = entries;
                return Ok(Event::JournalEnd);
            }
            Operation::ProvePlace => {
                self.held.place = Some(place::prove(self.board, &self.handoff, &self.trust)?);
            }
            Operation::OpenSession => {
                if !self.open_session()? {
                    return Ok(Event::Stale);
                }
            }
            Operation::DrawSession => self.draw_session()?,
            Operation::OpenTicket => {
                let untrusted = self.found(Entry::Ticket)?;
                self.take_ticket(&untrusted)?;
            }
            Operation::AskForTicket => self.ask_for_ticket()?,
            Operation::OpenSeed => self.open_seed()?,
            Operation::DrawSeed => self.draw_seed()?,
            Operation::ReKey => self.re_key()?,
            Operation::ReadBack => {
                let contents = self.contents()?;
                let keys = self.held.keys.as_ref().ok_or(Error::OutOfOrder)?;
                read_back::re_keyed(self.board, &self.trust, &contents, keys)?;
            }
            Operation::VerifyReceipt => {
                let untrusted = self.found(Entry::Receipt)?;
                self.take_receipt(&untrusted)?;
            }
            Operation::SendCsr => self.send_csr()?,
            Operation::CheckBackup => {
                read_back::backup(self.board, &self.trust, &self.handoff.measurement)?;
            }
            Operation::ReplaceStage => self.replace_stage()?,
            Operation::CheckPrimary => {
                let contents = self.contents()?;
                let keys = self.held.keys.as_ref().ok_or(Error::OutOfOrder)?;
                read_back::stage(self.board.flash, BOOT_SLOT_A, &self.trust, &contents, &keys.boot)?;
            }
            Operation::FinalCheck => {
                let contents = self.contents()?;
                let keys = self.held.keys.as_ref().ok_or(Error::OutOfOrder)?;
                let floors = closing::final_check(self.board, &self.trust, &self.handoff, &contents, keys)?;
                self.held.floors = Some(floors);
            }
            Operation::MarkClosing => {
                let ticket = self.held.ticket.as_ref().ok_or(Error::OutOfOrder)?;
                closing::mark(self.board, &ticket.install)?;
            }
            Operation::BurnFuses => {
                let keys = self.held.keys.as_ref().ok_or(Error::OutOfOrder)?;
                let floors = self.held.floors.as_ref().ok_or(Error::OutOfOrder)?;
                closing::burn(self.board, &self.handoff.measurement, &keys.seed, floors)?;
            }
        }
        Ok(Event::Completed(operation))
    }

    fn record(&mut self, entry: Entry) -> Event {
        let content = core::mem::take(&mut self.held.pending);
        let Some(journal) = self.held.journal.as_mut() else { return Event::Failed(FailCode::Panic) };
        match journal.append(self.board.flash, entry, &content) {
            Ok(()) => Event::Recorded(entry),
            Err(error) => {
                self.tell.not_recorded(self.board, entry, &error);
                Event::Failed(error.code())
            }
        }
    }

    /// Returns what the last entry of this name in the journal holds.
    fn found(&self, entry: Entry) -> Result<Vec<u8>, Error> {
        let found = self.held.entries.iter().rev().find(|recorded| recorded.entry == entry);
        found.map(|recorded| recorded.untrusted.clone()).ok_or(Error::OutOfOrder)
    }

    fn self_test(&mut self) -> Result<(), Error> {
        let tested = self_test::run(self.board, &mut self.entropy)?;
        self.tell.tested(self.board, &tested);
        let random = Random::start(
            &mut self.entropy,
            self.board.devices,
            &drbg_secret(&self.handoff.stage_secret),
            &self.handoff.transcript(),
            self.board.clock.now(),
        );
        let mut random = random.map_err(Error::SelfTest)?;
        let [low, high, ..] = random.nonce();
        self.tell.number_from(u16::from_le_bytes([low, high]));
        self.held.random = Some(random);
        Ok(())
    }

    /// Opens the journalled session; false if it is for another package or other fuses, and no ticket is there yet.
    fn open_session(&mut self) -> Result<bool, Error> {
        let session = Session::open(&self.handoff, &self.found(Entry::Session)?)?;
        let place = self.held.place.as_ref().ok_or(Error::OutOfOrder)?;
        let has_ticket = self.held.entries.iter().any(|recorded| recorded.entry == Entry::Ticket);
        if !has_ticket && !session.fits(&self.handoff, place) {
            return Ok(false);
        }
        self.held.session = Some(session);
        Ok(true)
    }

    fn draw_session(&mut self) -> Result<(), Error> {
        let Held { random: Some(random), place: Some(place), .. } = &mut self.held else {
            return Err(Error::OutOfOrder);
        };
        let session = Session::draw(random, &self.handoff, place)?;
        self.held.pending = session.seal(&self.handoff, random)?;
        self.held.session = Some(session);
        Ok(())
    }

    fn ask_for_ticket(&mut self) -> Result<(), Error> {
        let Held { session: Some(session), place: Some(place), .. } = &self.held else {
            return Err(Error::OutOfOrder);
        };
        let request = session.request(&self.handoff, place)?;
        let untrusted = self.tell.ask(self.board, Message::Request, &request)?;
        self.take_ticket(&untrusted)?;
        self.held.pending = untrusted;
        Ok(())
    }

    /// Verifies a ticket, takes what it grants, and lets the authority's entropy join the generator.
    fn take_ticket(&mut self, untrusted: &[u8]) -> Result<(), Error> {
        let Held { session: Some(session), place: Some(place), random: Some(random), .. } = &mut self.held
        else {
            return Err(Error::OutOfOrder);
        };
        let ticket = session.open_ticket(&self.handoff, place, &self.trust, untrusted)?;
        let devices = &mut *self.board.devices;
        random.join(&mut self.entropy, devices, &ticket.entropy, untrusted).map_err(Error::SelfTest)?;
        self.held.ticket = Some(ticket);
        self.held.ticket_digest = Some(sha256(untrusted));
        Ok(())
    }

    fn draw_seed(&mut self) -> Result<(), Error> {
        let binding = self.seed_binding()?;
        let random = self.held.random.as_mut().ok_or(Error::OutOfOrder)?;
        let seed = random.draw();
        let key = journal_key(&self.handoff.stage_secret);
        let sealed: Option<[u8; 32 + OVERHEAD]> = secret_entry::seal(&key, &binding, random, seed.expose());
        self.held.pending = sealed.ok_or(Error::OutOfOrder)?.to_vec();
        self.be_born(seed);
        Ok(())
    }

    fn open_seed(&mut self) -> Result<(), Error> {
        let key = journal_key(&self.handoff.stage_secret);
        let seed = secret_entry::open(&key, &self.seed_binding()?, &self.found(Entry::Seed)?);
        let seed = seed.ok_or(Error::EntrySealed { entry: Entry::Seed })?;
        self.be_born(Key::new(*seed));
        Ok(())
    }

    /// What the seed is sealed for: the ticket that it is drawn under, and no other.
    fn seed_binding(&self) -> Result<Vec<u8>, Error> {
        let ticket = self.held.ticket_digest.ok_or(Error::OutOfOrder)?;
        Ok([&[journal::kind(Entry::Seed)][..], &ticket].concat())
    }

    fn be_born(&mut self, seed: Key) {
        self.held.keys = Some(DeviceKeys::new(&self.handoff.die_secret, seed, &self.handoff.info.chip_id));
    }

    fn re_key(&mut self) -> Result<(), Error> {
        self.convert(package::re_key)
    }

    fn replace_stage(&mut self) -> Result<(), Error> {
        self.convert(package::replace_stage)
    }

    fn convert(&mut self, work: Conversion<'b, H>) -> Result<(), Error> {
        let Held {
            session: Some(session), ticket: Some(ticket), keys: Some(keys), random: Some(random), ..
        } = &mut self.held
        else {
            return Err(Error::OutOfOrder);
        };
        let order = Order { package_id: session.package_id(), content_key: &ticket.content_key };
        let bytes = work(self.board, &self.trust, &order, keys, random)?;
        self.tell.converted(bytes);
        Ok(())
    }

    /// Reads what was ordered to be where.
    fn contents(&mut self) -> Result<Contents, Error> {
        let Held { session: Some(session), ticket: Some(ticket), .. } = &self.held else {
            return Err(Error::OutOfOrder);
        };
        let order = Order { package_id: session.package_id(), content_key: &ticket.content_key };
        package::contents(self.board.disk()?, &self.trust, &order)
    }

    fn send_csr(&mut self) -> Result<(), Error> {
        let Held {
            session: Some(session), place: Some(place), ticket: Some(ticket), keys: Some(keys), ..
        } = &self.held
        else {
            return Err(Error::OutOfOrder);
        };
        let csr = session.csr(&self.handoff, place, ticket, keys)?;
        let untrusted = self.tell.ask(self.board, Message::Csr, &csr)?;
        self.take_receipt(&untrusted)?;
        self.held.pending = untrusted;
        Ok(())
    }

    fn take_receipt(&self, untrusted: &[u8]) -> Result<(), Error> {
        let Held {
            session: Some(session), place: Some(place), ticket: Some(ticket), keys: Some(keys), ..
        } = &self.held
        else {
            return Err(Error::OutOfOrder);
        };
        session.verify_receipt(&self.handoff, place, &self.trust, ticket, keys, untrusted)
    }

    fn close(mut self) -> End {
        self.tell.closed(self.board);
        End::Closed
    }

    fn refuse(mut self, code: FailCode) -> End {
        self.held = Held::default();
        self.tell.refused(self.board, code);
        End::Refused(code)
    }
}

/// Converting objects of the package: returns the bytes written.
type Conversion<'b, H> =
    fn(&mut Board<'b, H>, &Trust, &Order<'_>, &DeviceKeys, &mut Random) -> Result<u64, Error>;

/// Tells whether a code is one that the final check must not hide: it says whether the die is scrap.
const fn is_about_fuses(code: FailCode) -> bool {
    matches!(code, FailCode::FuseForeign | FailCode::FuseBurn | FailCode::FusePlan)
}
