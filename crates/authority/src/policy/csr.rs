//! Certificate requests: stored with the certificate that answers them, which stays here until the device is closed.

use boot_crypto::{Digest, sha256};
use factory_proto::authority::{CsrExpected, UntrustedCsr, VerifiedCsr};
use fail_code::FailCode;

use super::{Context, MAX_TICKETS, Outcome, Verdict, gate_install, now};
use crate::storage::{InstallRow, Later, ReceiptRow, State, TicketRow, Transaction};
use crate::writer::Decision;
use crate::{Refusal, hex};

/// A certificate request as it came: read, not verified.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) station: Digest,
    pub(crate) install: [u8; 32],
    /// The request digest of the session that it says it belongs to.
    pub(crate) session: Digest,
    /// SHA-256 of the whole message.
    pub(crate) message: Digest,
}

impl Asked {
    /// Reads a message.
    pub(crate) fn parse(station: Digest, untrusted: &[u8]) -> Result<Self, Refusal> {
        let csr = UntrustedCsr::parse(untrusted).map_err(refusal)?;
        let message = sha256(untrusted);
        Ok(Self { station, install: *csr.install(), session: *csr.request_digest(), message })
    }
}

/// What a certificate request may have.
pub(crate) enum Judgement {
    /// The receipt that it got before.
    Stored(ReceiptRow),
    /// A certificate, if it verifies with the key of this session.
    New {
        /// The install.
        install: Box<InstallRow>,
        /// The newest ticket of the install.
        session: Box<TicketRow>,
    },
}

/// Judges a certificate request by what is stored.
pub(crate) async fn judge(tx: &mut dyn Transaction, asked: &Asked) -> Verdict<Judgement> {
    let install = match gate_install(tx, &asked.install, &asked.station).await? {
        Ok(install) => install,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let refuse = |code, detail: &str| {
        Ok(Err(Refusal::new(code, format!("install {}: {detail}", hex::encode(&asked.install)))))
    };
    if let Some(receipt) = tx.receipt(&asked.message).await? {
        return Ok(Ok(Judgement::Stored(receipt)));
    }
    if install.state == State::Closed {
        return refuse(FailCode::DieClosed, "another certificate request");
    }
    // An older session's request comes from a device that was set back to it: its seed is not the one to be burned.
    let session = match tx.ticket(&asked.session).await? {
        Some(ticket) if ticket.install == install.id && ticket.request == install.session => ticket,
        _ => return refuse(FailCode::CsrUnbound, "not of its newest session"),
    };
    if tx.receipts_of(&install.id).await? >= MAX_TICKETS {
        return refuse(FailCode::TicketsExhausted, "too many certificate requests");
    }
    Ok(Ok(Judgement::New { install: Box::new(install), session: Box::new(session) }))
}

/// Verifies a certificate request with the key of its session.
pub(crate) fn verify<'a>(
    untrusted: &'a [u8],
    install: &InstallRow,
    session: &TicketRow,
) -> Result<VerifiedCsr<'a>, Refusal> {
    let expected = CsrExpected {
        stage_key: &session.stage_key,
        install: &install.id,
        request_digest: &session.request,
        chip_id: &install.chip_id,
        serial: &install.serial,
    };
    UntrustedCsr::parse(untrusted).and_then(|csr| csr.verify(&expected)).map_err(refusal)
}

/// Tells why a message is refused.
pub(super) fn refusal(error: factory_proto::Error) -> Refusal {
    Refusal::new(error.code(), format!("{error:?}"))
}

/// Stores a certificate request, its certificate and the receipt.
pub(crate) struct Certify {
    pub(crate) asked: Asked,
    pub(crate) csr: Vec<u8>,
    pub(crate) certificate: Vec<u8>,
    pub(crate) receipt: Vec<u8>,
}

impl Decision for Certify {
    type Answer = Outcome;

    fn decide<'a>(&'a self, tx: &'a mut dyn Transaction) -> Later<'a, Outcome> {
        Box::pin(async move {
            let mut context = Context {
                station: Some(self.asked.station),
                install: Some(self.asked.install),
                ..Context::default()
            };
            let install = match judge(tx, &self.asked).await? {
                Ok(Judgement::Stored(stored)) => return Ok(Outcome::Answer(stored.receipt)),
                Ok(Judgement::New { install, .. }) => install,
                Err(refusal) => {
                    tx.insert_audit(&context.refused(&refusal)).await?;
                    return Ok(Outcome::Refused(refusal));
                }
            };
            (context.lot, context.chip_id) = (Some(install.lot.clone()), Some(install.chip_id));
            tx.insert_receipt(&ReceiptRow {
                message: self.asked.message,
                install: install.id,
                receipt: self.receipt.clone(),
                received_at: now(),
            })
            .await?;
            tx.update_install(&InstallRow {
                state: State::Csr,
                csr: Some(self.csr.clone()),
                certificate: Some(self.certificate.clone()),
                ..*install
            })
            .await?;
            let key = format!("certificate request {}", hex::encode(&sha256(&self.csr)));
            tx.insert_audit(&context.done("csr", key)).await?;
            Ok(Outcome::Answer(self.receipt.clone()))
        })
    }
}
