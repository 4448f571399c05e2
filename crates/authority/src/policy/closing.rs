//! Closing proofs: the certificate is released only to a device that is closed.

use boot_crypto::Digest;
use factory_proto::ClosingProof;
use factory_proto::authority::verify_closing;
use fail_code::FailCode;

use super::csr::refusal;
use super::{Context, Outcome, Verdict, gate_install, now};
use crate::lot::Parsed;
use crate::storage::{InstallRow, Later, State, Transaction};
use crate::writer::Decision;
use crate::{Refusal, hex, x509};

/// A closing proof as it came: the install that it names, nothing verified.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) station: Digest,
    pub(crate) install: [u8; 32],
}

/// An install, and the measurement of the provisioning stage of its newest session.
pub(crate) struct Judgement {
    pub(crate) install: InstallRow,
    pub(crate) stage1: Digest,
}

/// Judges a closing proof by what is stored: there must be a certificate to release.
pub(crate) async fn judge(tx: &mut dyn Transaction, asked: &Asked) -> Verdict<Judgement> {
    let install = match gate_install(tx, &asked.install, &asked.station).await? {
        Ok(install) => install,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let session = tx.ticket(&install.session).await?;
    match session {
        Some(session) if install.certificate.is_some() => {
            Ok(Ok(Judgement { install, stage1: session.stage1 }))
        }
        _ => {
            let detail = format!("install {} has sent no certificate request", hex::encode(&install.id));
            Ok(Err(Refusal::new(FailCode::CsrUnbound, detail)))
        }
    }
}

/// Verifies a closing proof: the die's own key says that it is in production, closed for this install, with the lot's
/// fuses, a production stage of the lot and the identity that was certified.
pub(crate) fn verify(untrusted: &[u8], judged: &Judgement, lot: &Parsed) -> Result<(), Refusal> {
    let install = &judged.install;
    let proof = ClosingProof::decode(untrusted).map_err(refusal)?;
    let identity = install.certificate.as_deref().and_then(x509::key_of_certificate);
    let identity = identity.ok_or_else(|| {
        let detail = format!("install {} has no certificate that can be read", hex::encode(&install.id));
        Refusal::new(FailCode::StorageFailed, detail)
    })?;
    let closed = verify_closing(&proof, &install.die_key, &install.id, &install.chip_id, &identity)
        .map_err(refusal)?;
    if !lot.terms.stage2.contains(&closed.measurement) {
        let detail = format!("stage2 {}", hex::encode(&closed.measurement));
        return Err(Refusal::new(FailCode::MeasurementWrong, detail));
    }
    lifecycle::compare(&lot.production(judged.stage1), &closed.fuse_facts)
        .map_err(|deviation| Refusal::new(deviation.code(), format!("{deviation:?}")))
}

/// Marks an install closed and stores the release.
pub(crate) struct Close {
    pub(crate) asked: Asked,
    /// The certificate that the release holds.
    pub(crate) certificate: Vec<u8>,
    pub(crate) release: Vec<u8>,
}

impl Decision for Close {
    type Answer = Outcome;

    fn decide<'a>(&'a self, tx: &'a mut dyn Transaction) -> Later<'a, Outcome> {
        Box::pin(async move {
            let mut context = Context {
                station: Some(self.asked.station),
                install: Some(self.asked.install),
                ..Context::default()
            };
            let install = match judge(tx, &self.asked).await? {
                Ok(judged) => judged.install,
                Err(refusal) => {
                    tx.insert_audit(&context.refused(&refusal)).await?;
                    return Ok(Outcome::Refused(refusal));
                }
            };
            (context.lot, context.chip_id) = (Some(install.lot.clone()), Some(install.chip_id));
            if let Some(release) = install.release {
                return Ok(Outcome::Answer(release));
            }
            if install.certificate.as_ref() != Some(&self.certificate) {
                return Ok(Outcome::Stale);
            }
            tx.update_install(&InstallRow {
                state: State::Closed,
                release: Some(self.release.clone()),
                closed_at: Some(now()),
                ..install
            })
            .await?;
            tx.insert_audit(&context.done("closed", "certificate released")).await?;
            Ok(Outcome::Answer(self.release.clone()))
        })
    }
}
