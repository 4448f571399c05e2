//! The machine's entries in the journal's terms.

use alloc::vec::Vec;

use hal::StorageMut;
use memory_map::qemu_virt::JOURNAL;
use store::MAX_ENTRY;

use crate::Error;
use crate::machine::{Entry, Step};

const BEGUN: u8 = 1;
const DONE: u8 = 2;
const SESSION: u8 = 3;
const TICKET: u8 = 4;
const SEED: u8 = 5;
const RECEIPT: u8 = 6;

/// An entry with what it holds beside its name: nothing for begun and done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// What it says.
    pub entry: Entry,
    /// What it holds. Untrusted: whoever writes the flash wrote it.
    pub untrusted: Vec<u8>,
}

/// The journal, read to its end.
pub struct Journal {
    store: store::Journal,
}

impl Journal {
    /// Reads the journal and returns its entries in their order.
    ///
    /// # Errors
    /// A region that is damaged, and an entry that is none of the machine's.
    pub fn open(flash: &mut impl StorageMut) -> Result<(Self, Vec<Recorded>), Error> {
        let mut buffer = alloc::boxed::Box::new([0; MAX_ENTRY]);
        let mut entries = Vec::new();
        let mut unknown = None;
        let store = store::Journal::open(flash, JOURNAL, &mut buffer, |found| {
            match parse(found.kind, found.payload) {
                Some(recorded) => entries.push(recorded),
                None => unknown = unknown.or(Some(found.kind)),
            }
        });
        let store = store.map_err(Error::Journal)?;
        match unknown {
            Some(kind) => Err(Error::EntryUnknown { kind }),
            None => Ok((Self { store }, entries)),
        }
    }

    /// Makes an entry durable.
    pub(crate) fn append(
        &mut self,
        flash: &mut impl StorageMut,
        entry: Entry,
        content: &[u8],
    ) -> Result<(), Error> {
        let step = [match entry {
            Entry::Begun(step) | Entry::Done(step) => step.number(),
            _ => 0,
        }];
        let payload = match entry {
            Entry::Begun(_) | Entry::Done(_) => &step,
            _ => content,
        };
        self.store.append(flash, kind(entry), payload).map_err(Error::Journal)
    }
}

/// The number that stands for an entry.
pub const fn kind(entry: Entry) -> u8 {
    match entry {
        Entry::Begun(_) => BEGUN,
        Entry::Done(_) => DONE,
        Entry::Session => SESSION,
        Entry::Ticket => TICKET,
        Entry::Seed => SEED,
        Entry::Receipt => RECEIPT,
    }
}

fn parse(kind: u8, payload: &[u8]) -> Option<Recorded> {
    let step = || match payload {
        [number] => Step::from_number(*number),
        _ => None,
    };
    let (entry, untrusted) = match kind {
        BEGUN => (Entry::Begun(step()?), Vec::new()),
        DONE => (Entry::Done(step()?), Vec::new()),
        SESSION => (Entry::Session, payload.to_vec()),
        TICKET => (Entry::Ticket, payload.to_vec()),
        SEED => (Entry::Seed, payload.to_vec()),
        RECEIPT => (Entry::Receipt, payload.to_vec()),
        _ => return None,
    };
    Some(Recorded { entry, untrusted })
}
