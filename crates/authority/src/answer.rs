//! What the authority answers devices.

use std::sync::{Arc, PoisonError};

use boot_crypto::Key;
use boot_crypto::host::random;
use factory_proto::authority::{AnswerError, Install, UntrustedRequest, VerifiedRequest};
use factory_proto::{ClosingProof, Message, identity};
use fail_code::FailCode;

use crate::authority::content_key_context;
use crate::lot::Parsed;
use crate::policy::{Context, Outcome, Settle, WriteDown, closing, csr, now, ticket};
use crate::storage::{DelegationRow, LotRow, StorageError, Transaction};
use crate::vendor::Die;
use crate::x509::Use;
use crate::{Authority, Refusal, Station, keys, lot};

/// How often an answer is made anew because the world changed meanwhile.
const TRIES: usize = 8;

impl Authority {
    /// Answers a question: with the message that belongs to it, or with a refusal. Whatever is answered is durable.
    pub async fn handle(
        &self,
        station: &Station,
        lot: &str,
        question: Message,
        body: &[u8],
    ) -> (Message, Vec<u8>) {
        let answered = match question {
            Message::Request => self.ticket(station, lot, body).await,
            Message::Csr => self.receipt(station, body).await,
            Message::ClosingProof => self.release(station, body).await,
            other => {
                let context = Context { station: Some(station.fingerprint), ..Context::default() };
                let detail = format!("{} is no question", other.name());
                self.audited(&context, Err(Refusal::new(FailCode::RequestMalformed, detail))).await
            }
        };
        match (answered, question.answer()) {
            (Ok(answer), Some(message)) => (message, answer),
            (Ok(_), None) => (Message::Refusal, encode(&Refusal::new(FailCode::RequestMalformed, ""))),
            (Err(refusal), _) => (Message::Refusal, encode(&refusal)),
        }
    }

    /// Answers a request with a ticket.
    ///
    /// # Errors
    /// Every reason to refuse; each is in the audit.
    pub async fn ticket(&self, station: &Station, lot: &str, untrusted: &[u8]) -> Result<Vec<u8>, Refusal> {
        let mut context = Context { station: Some(station.fingerprint), ..Context::default() };
        let outcome = self.try_ticket(&mut context, station, lot, untrusted).await;
        self.audited(&context, outcome).await
    }

    async fn try_ticket(
        &self,
        context: &mut Context,
        station: &Station,
        lot: &str,
        untrusted: &[u8],
    ) -> Result<Outcome, Refusal> {
        let request = UntrustedRequest::parse(untrusted).map_err(refusal)?;
        let parsed = self.parsed(lot).await?;
        context.lot = Some(lot.into());
        let now = u64::try_from(now() / 1000).unwrap_or_default();
        let die = parsed.vendors.validate(request.die_chain(), now)?;
        context.chip_id = Some(die.chip_id);
        let request = request.verify(&die.key).map_err(refusal)?;
        check_request(&parsed, &request)?;
        let asked = ticket::Asked {
            lot: lot.into(),
            station: station.fingerprint,
            die,
            request: request.digest,
            nonce: request.nonce,
            stage_key: request.stage_key,
            stage1: request.measurement,
        };
        for _ in 0..TRIES {
            let mut tx = self.ledger.storage().read().await.map_err(storage)?;
            let judgement = ticket::judge(&mut *tx, &asked).await.map_err(storage)??;
            let root = parsed.terms.fuses.root_digest;
            let secrets = (tx.delegation(&root).await.map_err(storage)?, tx.lot(lot).await.map_err(storage)?);
            drop(tx);
            let (install, new) = match judgement {
                ticket::Judgement::Stored(stored) => return self.settled(stored.ticket).await,
                ticket::Judgement::Again(install) => (install.id, false),
                ticket::Judgement::New => (random(), true),
            };
            let ticket = self.make_ticket(&request, &asked.die, lot, &install, secrets)?;
            let reserve = ticket::Reserve { asked: asked.clone(), install, new, ticket };
            match self.ledger.writer().decide(reserve).await.map_err(storage)? {
                Outcome::Stale => {}
                decided => return Ok(decided),
            }
        }
        Ok(Outcome::Stale)
    }

    fn make_ticket(
        &self,
        request: &VerifiedRequest<'_>,
        die: &Die,
        lot: &str,
        install: &[u8; 32],
        (delegation, row): (Option<DelegationRow>, Option<LotRow>),
    ) -> Result<Vec<u8>, Refusal> {
        let failed = |why: String| Refusal::new(FailCode::StorageFailed, why);
        let (Some(delegation), Some(row)) = (delegation, row) else {
            return Err(failed(format!("lot {lot} has no delegation")));
        };
        let content_key = self
            .kek
            .open(&content_key_context(lot), &row.content_key)
            .map_err(|error| failed(error.to_string()))?;
        let content_key = Key::from_slice(&content_key).ok_or_else(|| failed("a content key".into()))?;
        let serial = lot::serial(lot, install);
        let install =
            Install { id: install, chip_id: &die.chip_id, serial: &serial, content_key: &content_key };
        keys::answers(&self.keys.signing, &delegation).ticket(request, &install).map_err(answer)
    }

    /// Answers a certificate request with a receipt.
    ///
    /// # Errors
    /// Every reason to refuse; each is in the audit.
    pub async fn receipt(&self, station: &Station, untrusted: &[u8]) -> Result<Vec<u8>, Refusal> {
        let mut context = Context { station: Some(station.fingerprint), ..Context::default() };
        let outcome = self.try_receipt(&mut context, station, untrusted).await;
        self.audited(&context, outcome).await
    }

    async fn try_receipt(
        &self,
        context: &mut Context,
        station: &Station,
        untrusted: &[u8],
    ) -> Result<Outcome, Refusal> {
        let asked = csr::Asked::parse(station.fingerprint, untrusted)?;
        for _ in 0..TRIES {
            let mut tx = self.ledger.storage().read().await.map_err(storage)?;
            self.name(context, &mut *tx, &asked.install).await?;
            let judgement = csr::judge(&mut *tx, &asked).await.map_err(storage)??;
            drop(tx);
            let (install, session) = match judgement {
                csr::Judgement::Stored(stored) => return self.settled(stored.receipt).await,
                csr::Judgement::New { install, session } => (install, session),
            };
            let verified = csr::verify(untrusted, &install, &session)?;
            let delegation = self.delegation_of(&install.lot).await?;
            let name = identity::common_name(&install.chip_id);
            let purpose = Use::Device { serial: install.serial.clone() };
            let certificate = self
                .keys
                .device_ca
                .certify(&name, &verified.identity, &purpose)
                .map_err(|error| Refusal::new(FailCode::CsrUnbound, error.to_string()))?;
            let receipt = keys::answers(&self.keys.signing, &delegation)
                .receipt(&install.id, &verified.digest)
                .map_err(answer)?;
            let csr = verified.der.to_vec();
            let certify = csr::Certify { asked: asked.clone(), csr, certificate, receipt };
            match self.ledger.writer().decide(certify).await.map_err(storage)? {
                Outcome::Stale => {}
                decided => return Ok(decided),
            }
        }
        Ok(Outcome::Stale)
    }

    /// Answers a closing proof with the device's certificate.
    ///
    /// # Errors
    /// Every reason to refuse; each is in the audit.
    pub async fn release(&self, station: &Station, untrusted: &[u8]) -> Result<Vec<u8>, Refusal> {
        let mut context = Context { station: Some(station.fingerprint), ..Context::default() };
        let outcome = self.try_release(&mut context, station, untrusted).await;
        self.audited(&context, outcome).await
    }

    async fn try_release(
        &self,
        context: &mut Context,
        station: &Station,
        untrusted: &[u8],
    ) -> Result<Outcome, Refusal> {
        let proof = ClosingProof::decode(untrusted).map_err(refusal)?;
        let asked = closing::Asked { station: station.fingerprint, install: *proof.install };
        for _ in 0..TRIES {
            let mut tx = self.ledger.storage().read().await.map_err(storage)?;
            self.name(context, &mut *tx, &asked.install).await?;
            let judged = closing::judge(&mut *tx, &asked).await.map_err(storage)??;
            drop(tx);
            let delegation = self.delegation_of(&judged.install.lot).await?;
            let parsed = self.parsed(&judged.install.lot).await?;
            closing::verify(untrusted, &judged, &parsed)?;
            if let Some(release) = judged.install.release {
                return self.settled(release).await;
            }
            let certificate = judged.install.certificate.unwrap_or_default();
            let chain = [certificate.as_slice(), self.device_ca()];
            let release = keys::answers(&self.keys.signing, &delegation)
                .release(&asked.install, proof.chip_id, &chain)
                .map_err(answer)?;
            let close = closing::Close { asked: asked.clone(), certificate, release };
            match self.ledger.writer().decide(close).await.map_err(storage)? {
                Outcome::Stale => {}
                decided => return Ok(decided),
            }
        }
        Ok(Outcome::Stale)
    }

    /// Gives an answer that was found in the books: it may be there, and not be anchored yet.
    async fn settled(&self, answer: Vec<u8>) -> Result<Outcome, Refusal> {
        self.ledger.writer().decide(Settle).await.map_err(storage)?;
        Ok(Outcome::Answer(answer))
    }

    /// Fills in what the audit says of an install that a device names.
    async fn name(
        &self,
        context: &mut Context,
        tx: &mut dyn Transaction,
        install: &[u8; 32],
    ) -> Result<(), Refusal> {
        if let Some(row) = tx.install(install).await.map_err(storage)? {
            context.lot = Some(row.lot);
            context.chip_id = Some(row.chip_id);
            context.install = Some(row.id);
        }
        Ok(())
    }

    /// Finds who delegated for a lot.
    ///
    /// Nobody who waits for the writer, or for a transaction, holds one that reads: there are few of those, and the writer
    /// needs one itself to let the anchor follow.
    async fn delegation_of(&self, lot: &str) -> Result<DelegationRow, Refusal> {
        let root = self.parsed(lot).await?.terms.fuses.root_digest;
        let mut tx = self.ledger.storage().read().await.map_err(storage)?;
        let delegation = tx.delegation(&root).await.map_err(storage)?;
        delegation
            .ok_or_else(|| Refusal::new(FailCode::StorageFailed, format!("lot {lot} has no delegation")))
    }

    /// Returns a lot's terms, which never change.
    async fn parsed(&self, lot: &str) -> Result<Arc<Parsed>, Refusal> {
        if let Some(parsed) = self.lots.lock().unwrap_or_else(PoisonError::into_inner).get(lot) {
            return Ok(parsed.clone());
        }
        let row = self.ledger.storage().read().await.map_err(storage)?.lot(lot).await.map_err(storage)?;
        let row = row.ok_or_else(|| Refusal::new(FailCode::LotUnknown, format!("lot {lot:?}")))?;
        let damaged = |why: String| Refusal::new(FailCode::StorageFailed, format!("lot {lot}: {why}"));
        let terms = serde_json::from_str(&row.terms).map_err(|error| damaged(error.to_string()))?;
        let parsed = Arc::new(Parsed::new(terms).map_err(|error| damaged(error.to_string()))?);
        let mut lots = self.lots.lock().unwrap_or_else(PoisonError::into_inner);
        lots.insert(lot.into(), parsed.clone());
        Ok(parsed)
    }

    /// Writes a refusal down before it is told. Those that were found inside a transaction are in it already.
    pub(crate) async fn audited(
        &self,
        context: &Context,
        outcome: Result<Outcome, Refusal>,
    ) -> Result<Vec<u8>, Refusal> {
        let refusal = match outcome {
            Ok(Outcome::Answer(answer)) => return Ok(answer),
            Ok(Outcome::Refused(refusal)) => return Err(refusal),
            Ok(Outcome::Stale) => Refusal::new(FailCode::StorageFailed, "the install keeps changing"),
            Err(refusal) => refusal,
        };
        let written = self.ledger.writer().decide(WriteDown(context.refused(&refusal))).await;
        Err(written.map_or_else(storage, |()| refusal))
    }
}

/// Compares a request with the terms of its lot.
fn check_request(lot: &Parsed, request: &VerifiedRequest<'_>) -> Result<(), Refusal> {
    if request.board != lot.terms.board {
        let detail = format!("board {}, the lot has {}", request.board, lot.terms.board);
        return Err(Refusal::new(FailCode::BoardWrong, detail));
    }
    if !lot.terms.stage1.contains(&request.measurement) {
        let detail = format!("stage1 {}", crate::hex::encode(&request.measurement));
        return Err(Refusal::new(FailCode::MeasurementWrong, detail));
    }
    if request.package_id != lot.terms.package {
        let detail = format!("package {}", crate::hex::encode(&request.package_id));
        return Err(Refusal::new(FailCode::PackageNotOfLot, detail));
    }
    lifecycle::compare(&lot.secured(request.measurement), &request.fuse_facts)
        .map_err(|deviation| Refusal::new(deviation.code(), format!("{deviation:?}")))
}

/// Encodes a refusal for a device or a station.
pub(crate) fn encode(refusal: &Refusal) -> Vec<u8> {
    factory_proto::Refusal::new(refusal.code, &refusal.detail).encode()
}

fn refusal(error: factory_proto::Error) -> Refusal {
    Refusal::new(error.code(), format!("{error:?}"))
}

/// Nothing is answered that could not be stored.
fn storage(error: StorageError) -> Refusal {
    Refusal::new(FailCode::StorageFailed, error.to_string())
}

fn answer(error: AnswerError) -> Refusal {
    match error {
        AnswerError::Refused(error) => refusal(error),
        AnswerError::Signer(error) => Refusal::new(FailCode::StorageFailed, error.to_string()),
    }
}
