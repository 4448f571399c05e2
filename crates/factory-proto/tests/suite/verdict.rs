//! What the right receiver says of a message: nothing, or the code that it refuses with.

use crate::common::*;
use crate::samples::{CERTIFICATES, Samples, open};
use factory_proto::authority::{CsrExpected, UntrustedCsr, UntrustedRequest, verify_closing};
use factory_proto::device::{Session, VerifiedTicket, verify_release};
use factory_proto::{ClosingProof, Error, Message, Trust};
use fail_code::FailCode;
use sealed_image::Es256AndPs256;
use std::sync::LazyLock;

/// The receivers of the messages of the samples' session, with what they know of it.
pub(crate) struct Judge<'a> {
    die: &'a Die,
    der: &'a [u8],
    session: Session<'a>,
    ticket: VerifiedTicket,
    die_key: [u8; 64],
    stage_key: [u8; 64],
    identity: [u8; 64],
}

impl Judge<'static> {
    /// The receivers of the session of [`Samples::sound`].
    pub(crate) fn sound() -> &'static Self {
        static SOUND: LazyLock<Judge<'static>> = LazyLock::new(|| Judge::of(Samples::sound()));
        &SOUND
    }
}

impl<'a> Judge<'a> {
    fn of(samples: &'a Samples) -> Self {
        let die = &samples.die;
        let session = die.session();
        Self {
            die,
            der: &samples.der,
            ticket: open(&session, &samples.ticket),
            session,
            die_key: die.die_key.public(),
            stage_key: die.stage_key.public(),
            identity: die.identity.public(),
        }
    }

    /// Returns the code that a message is refused with.
    pub(crate) fn verdict(&self, message: Message, untrusted: &[u8]) -> Option<FailCode> {
        self.verdict_under(message, untrusted, &trust(&roots()))
    }

    pub(crate) fn verdict_under(
        &self,
        message: Message,
        untrusted: &[u8],
        trust: &Trust<'_>,
    ) -> Option<FailCode> {
        self.judge(message, untrusted, trust).err().map(|error| error.code())
    }

    fn judge(&self, message: Message, untrusted: &[u8], trust: &Trust<'_>) -> Result<(), Error> {
        match message {
            Message::Request => UntrustedRequest::parse(untrusted)?.verify(&self.die_key).map(|_| ()),
            Message::Ticket => {
                let ticket = self.session.verify_ticket::<Es256AndPs256>(untrusted, trust)?;
                assert_eq!(*ticket.content_key.expose(), CONTENT_KEY, "a wrong content key");
                Ok(())
            }
            Message::Csr => {
                let expected = CsrExpected {
                    stage_key: &self.stage_key,
                    install: &INSTALL,
                    request_digest: self.session.request_digest(),
                    chip_id: &self.die.chip_id,
                    serial: SERIAL,
                };
                let csr = UntrustedCsr::parse(untrusted)?.verify(&expected)?;
                assert_eq!(csr.identity, self.identity, "another identity");
                Ok(())
            }
            Message::Receipt => {
                self.session.verify_receipt::<Es256AndPs256>(untrusted, trust, &self.ticket, self.der)
            }
            Message::ClosingProof => {
                let proof = ClosingProof::decode(untrusted)?;
                verify_closing(&proof, &self.die_key, &INSTALL, &self.die.chip_id, &self.identity).map(|_| ())
            }
            Message::Release => {
                let release = verify_release::<Es256AndPs256>(untrusted, trust, &INSTALL, &self.die.chip_id)?;
                assert_eq!(release.certificates, CERTIFICATES, "other certificates");
                Ok(())
            }
            _ => panic!("nobody judges a {}", message.name()),
        }
    }
}

/// Judges a message as one of the session of [`Samples::sound`].
pub(crate) fn verdict(message: Message, untrusted: &[u8]) -> Option<FailCode> {
    Judge::sound().verdict(message, untrusted)
}

/// The messages that are judged, with the sound one and all codes that an altered one may get.
pub(crate) fn judged(samples: &Samples) -> [(Message, &[u8], &'static [FailCode]); 6] {
    use FailCode::*;
    [
        (
            Message::Request,
            &samples.request,
            &[RequestMalformed, RequestSignature, StatementInvalid, FuseDigestWrong],
        ),
        (Message::Ticket, &samples.ticket, &[AnswerMalformed, TicketInvalid]),
        (Message::Csr, &samples.csr, &[RequestMalformed, CsrUnbound]),
        (Message::Receipt, &samples.receipt, &[AnswerMalformed, ReceiptInvalid]),
        (
            Message::ClosingProof,
            &samples.closing_proof,
            &[RequestMalformed, InstallUnknown, StatementInvalid, FuseDigestWrong],
        ),
        (Message::Release, &samples.release, &[AnswerMalformed, CertificateInvalid]),
    ]
}

/// The code that tells that a message cannot be read.
pub(crate) fn malformed(message: Message) -> FailCode {
    match message {
        Message::Request | Message::Csr | Message::ClosingProof => FailCode::RequestMalformed,
        _ => FailCode::AnswerMalformed,
    }
}
