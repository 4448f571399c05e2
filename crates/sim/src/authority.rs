//! A scripted authority: the station with the authority behind it, in one process, as one die sees them.
//!
//! What it answers with, factory-proto's host half makes and checks, as for the real service; what it remembers, it
//! remembers in memory. A script changes, withholds or replaces its answers: [`Desk::changing`], [`Desk::impostor`].

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use boot_crypto::{Digest, Key};
use factory_proto::authority::{Authority, CsrExpected, Install, UntrustedCsr, UntrustedRequest};
use factory_proto::link::Frame;
use factory_proto::{Message, Refusal};
use fail_code::FailCode;
use lifecycle::{FusePolicy, compare};

/// The serial number of every device.
pub const SERIAL: &str = "KILN-000042";

/// What the station does with a frame of the device: it returns the frames that it sends back.
pub type Station = Box<dyn FnMut(&Frame) -> Vec<Frame>>;

/// What the authority is told of a lot.
#[derive(Clone, Copy)]
pub struct Terms {
    /// What a die has to be like.
    pub policy: FusePolicy,
    /// The measurement of the provisioning stage.
    pub stage1_measurement: Digest,
    /// The digest of the package's manifest.
    pub package_id: Digest,
    /// The key that opens the package.
    pub content_key: [u8; 32],
}

/// What the authority remembers of a die.
#[derive(Clone, Default)]
pub struct Book {
    /// Tickets by the digest of their request.
    pub tickets: HashMap<Digest, Vec<u8>>,
    requests: HashMap<Digest, [u8; 64]>,
    /// Certificate requests that were acknowledged, by install.
    pub csrs: HashMap<[u8; 32], Vec<u8>>,
}

/// The lot's authority, as seen by one die.
#[derive(Clone)]
pub struct Desk {
    terms: Terms,
    authority: Rc<Authority>,
    die_key: [u8; 64],
    chip_id: [u8; 16],
    book: Rc<RefCell<Book>>,
}

impl Desk {
    /// Makes the desk of the die with this key (the vendor's certificate says so) and chip id.
    pub fn new(terms: Terms, authority: Rc<Authority>, die_key: [u8; 64], chip_id: [u8; 16]) -> Self {
        Self { terms, authority, die_key, chip_id, book: Rc::default() }
    }

    /// Copies what it remembers.
    pub fn book(&self) -> Book {
        self.book.borrow().clone()
    }

    /// Returns the same authority with a book of its own, which it goes on with.
    pub fn with_book(&self, book: &Book) -> Self {
        Self { book: Rc::new(RefCell::new(book.clone())), ..self.clone() }
    }

    /// Returns the same authority with another content key: what it gives away opens nothing.
    pub fn with_content_key(&self, content_key: [u8; 32]) -> Self {
        Self { terms: Terms { content_key, ..self.terms }, ..self.clone() }
    }

    /// Returns the install of this die.
    pub fn install(&self) -> [u8; 32] {
        let mut install = [0x1D; 32];
        install[..16].copy_from_slice(&self.chip_id);
        install
    }

    /// Returns a station that relays honestly.
    pub fn station(&self) -> Station {
        self.changing(Message::Request, |_| ())
    }

    /// Returns a station that changes the answers to one kind of question.
    pub fn changing(&self, question: Message, change: impl Fn(&mut Vec<u8>) + 'static) -> Station {
        let desk = self.clone();
        Box::new(move |frame| {
            let mut answer = desk.answer(frame);
            if frame.message == question
                && let Some(answer) = &mut answer
            {
                change(&mut answer.body);
            }
            answer.into_iter().collect()
        })
    }

    /// Returns a station behind which somebody else signs the answers to one kind of question.
    pub fn impostor(&self, question: Message, somebody: Authority) -> Station {
        let (honest, forger) = (self.clone(), Self { authority: Rc::new(somebody), ..self.clone() });
        Box::new(move |frame| {
            let desk = if frame.message == question { &forger } else { &honest };
            desk.answer(frame).into_iter().collect()
        })
    }

    /// Answers a question; `None` is silence, as to what is no question.
    pub fn answer(&self, frame: &Frame) -> Option<Frame> {
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
        let terms = &self.terms;
        compare(&terms.policy.secured(), &request.fuse_facts).map_err(|deviation| deviation.code())?;
        if request.measurement != terms.stage1_measurement {
            return Err(FailCode::MeasurementWrong);
        }
        if request.package_id != terms.package_id {
            return Err(FailCode::PackageNotOfLot);
        }
        let content_key = Key::new(terms.content_key);
        let install = self.install();
        let install =
            Install { id: &install, chip_id: &self.chip_id, serial: SERIAL, content_key: &content_key };
        let ticket = self.authority.ticket(&request, &install).expect("a ticket can be signed");
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
        let receipt = self.authority.receipt(&install, &csr.digest).expect("a receipt can be signed");
        book.csrs.insert(install, csr.der.to_vec());
        Ok(receipt)
    }
}
