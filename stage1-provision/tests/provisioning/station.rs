//! The station with the authority behind it, in one process.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use boot_crypto::{Digest, Key};
use factory_proto::authority::{Authority, CsrExpected, Install, UntrustedCsr, UntrustedRequest};
use factory_proto::link::Frame;
use factory_proto::{Message, Refusal};
use fail_code::FailCode;
use lifecycle::compare;

use crate::device::{Device, Station};
use crate::lot::Lot;

/// What the authority remembers of a die.
#[derive(Clone, Default)]
pub(crate) struct Book {
    /// Tickets by the digest of their request.
    pub(crate) tickets: HashMap<Digest, Vec<u8>>,
    requests: HashMap<Digest, [u8; 64]>,
    /// Certificate requests that were acknowledged, by install.
    pub(crate) csrs: HashMap<[u8; 32], Vec<u8>>,
}

/// The lot's authority, as seen by one die.
#[derive(Clone)]
pub(crate) struct Desk {
    lot: Rc<Lot>,
    /// Who signs.
    pub(crate) authority: Rc<Authority>,
    /// What the ticket holds.
    pub(crate) content_key: [u8; 32],
    die_key: [u8; 64],
    chip_id: [u8; 16],
    pub(crate) book: Rc<RefCell<Book>>,
}

pub(crate) const SERIAL: &str = "KILN-000042";

impl Desk {
    pub(crate) fn new(lot: &Rc<Lot>, device: &Device) -> Self {
        let (die_key, chip_id) = (device.die_key, device.chip_id);
        let content_key = *lot.content_key.0.expose();
        Self {
            lot: lot.clone(),
            authority: lot.authority.clone(),
            content_key,
            die_key,
            chip_id,
            book: Rc::default(),
        }
    }

    /// The same authority with a book of its own, which it goes on with.
    pub(crate) fn with_book(&self, book: &Book) -> Self {
        Self { book: Rc::new(RefCell::new(book.clone())), ..self.clone() }
    }

    /// The install of this die.
    pub(crate) fn install(&self) -> [u8; 32] {
        let mut install = [0x1D; 32];
        install[..16].copy_from_slice(&self.chip_id);
        install
    }

    /// A station that relays honestly.
    pub(crate) fn station(&self) -> Station {
        let desk = self.clone();
        Box::new(move |frame| desk.answer(frame).into_iter().collect())
    }

    /// Answers a question.
    pub(crate) fn answer(&self, frame: &Frame) -> Option<Frame> {
        let message = frame.message.answer()?;
        let answer = match frame.message {
            Message::Request => self.ticket(&frame.body),
            Message::Csr => self.receipt(&frame.body),
            _ => return None,
        };
        Some(match answer {
            Ok(body) => Frame { message, seq: frame.seq, body },
            Err(code) => {
                let body = Refusal::new(code, "").encode();
                Frame { message: Message::Refusal, seq: frame.seq, body }
            }
        })
    }

    fn ticket(&self, body: &[u8]) -> Result<Vec<u8>, FailCode> {
        let untrusted = UntrustedRequest::parse(body).map_err(|error| error.code())?;
        let mut book = self.book.borrow_mut();
        if let Some(ticket) = book.tickets.get(untrusted.digest()) {
            return Ok(ticket.clone());
        }
        let request = untrusted.verify(&self.die_key).map_err(|error| error.code())?;
        let facts = &self.lot.release.facts;
        compare(&facts.policy.secured(), &request.fuse_facts).map_err(|deviation| deviation.code())?;
        if request.measurement != facts.stage1_measurement {
            return Err(FailCode::MeasurementWrong);
        }
        if request.package_id != facts.package_id {
            return Err(FailCode::PackageNotOfLot);
        }
        let content_key = Key::new(self.content_key);
        let install = self.install();
        let install =
            Install { id: &install, chip_id: &self.chip_id, serial: SERIAL, content_key: &content_key };
        let ticket = self.authority.ticket(&request, &install).unwrap();
        book.requests.insert(request.digest, request.stage_key);
        book.tickets.insert(request.digest, ticket.clone());
        Ok(ticket)
    }

    fn receipt(&self, body: &[u8]) -> Result<Vec<u8>, FailCode> {
        let untrusted = UntrustedCsr::parse(body).map_err(|error| error.code())?;
        let mut book = self.book.borrow_mut();
        let digest = *untrusted.request_digest();
        let stage_key = book.requests.get(&digest).ok_or(FailCode::CsrUnbound)?;
        let install = self.install();
        let expected = CsrExpected {
            stage_key,
            install: &install,
            request_digest: &digest,
            chip_id: &self.chip_id,
            serial: SERIAL,
        };
        let csr = untrusted.verify(&expected).map_err(|error| error.code())?;
        let receipt = self.authority.receipt(&install, &csr.digest).unwrap();
        book.csrs.insert(install, csr.der.to_vec());
        Ok(receipt)
    }
}
