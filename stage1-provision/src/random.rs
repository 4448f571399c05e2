//! Every random value of provisioning.
//!
//! # Threats
//! *Whoever owns the factory owns the entropy source*, and may know every byte that it gives. So a generator is
//! seeded with the source, with a secret that stage0 derived for this die and this stage alone, and with what this
//! start of the stage looks like; once there is a ticket, entropy of the authority joins. Nobody who lacks one of these
//! knows the output.
//! *He cuts power and sets the flash back*, so that a generator gives the same numbers twice: nothing is sealed under
//! a number as it comes. Salt and key of a sealing also depend on what is sealed and where
//! ([`boot_crypto::fresh_sealing`], [`boot_crypto::journal_entry_salt`]).

use boot_crypto::{Digest, Drbg, Key, Sha256, fresh_sealing, journal_entry_salt};
use fail_code::FailCode;
use hal::DmaDevices;
use sealed_image::Fresh;
use zeroize::Zeroizing;

use crate::self_test::entropy::{HealthTests, STARTUP_SAMPLES};

/// Bytes of the source for each seed: 256 bits, at the entropy that the health tests suppose.
const SEED_BYTES: usize = 64;

/// The entropy source, every byte of which is tested for health.
#[derive(Default)]
pub(crate) struct HealthyEntropy {
    tests: HealthTests,
}

impl HealthyEntropy {
    /// Runs the start-up tests (SP 800-90B section 4.3); the samples are used for nothing else.
    pub(crate) fn start(&mut self, devices: &mut impl DmaDevices) -> Result<(), FailCode> {
        self.draw::<STARTUP_SAMPLES>(devices).map(drop)
    }

    /// Draws from the source.
    fn draw<const N: usize>(
        &mut self,
        devices: &mut impl DmaDevices,
    ) -> Result<Zeroizing<[u8; N]>, FailCode> {
        let mut samples = Zeroizing::new([0; N]);
        if !devices.entropy(&mut *samples) {
            return Err(FailCode::EntropyMissing);
        }
        self.tests.check(&*samples)?;
        Ok(samples)
    }
}

/// The generator.
pub(crate) struct Random {
    drbg: Drbg,
}

impl Random {
    /// Seeds the generator: `transcript` is the digest of what this start of the stage was handed, `now` the counter.
    pub(crate) fn start(
        source: &mut HealthyEntropy,
        devices: &mut impl DmaDevices,
        drbg_secret: &Key,
        transcript: &Digest,
        now: u64,
    ) -> Result<Self, FailCode> {
        let entropy = source.draw::<SEED_BYTES>(devices)?;
        let mut personalization = Zeroizing::new([0; 64]);
        let parts = drbg_secret.expose().iter().chain(transcript);
        personalization.iter_mut().zip(parts).for_each(|(to, from)| *to = *from);
        Ok(Self { drbg: Drbg::new(&*entropy, &now.to_le_bytes(), &*personalization) })
    }

    /// Mixes in what the authority gave and the ticket that it came with, and draws from the source again.
    pub(crate) fn join(
        &mut self,
        source: &mut HealthyEntropy,
        devices: &mut impl DmaDevices,
        authority: &Key,
        ticket: &[u8],
    ) -> Result<(), FailCode> {
        let entropy = source.draw::<SEED_BYTES>(devices)?;
        let mut hash = Sha256::new();
        hash.update(ticket);
        self.drbg.reseed(&*entropy);
        self.drbg.reseed(authority.expose());
        self.drbg.reseed(&hash.finish());
        Ok(())
    }

    /// Draws 256 bits.
    pub(crate) fn draw(&mut self) -> Key {
        let mut bytes = Zeroizing::new([0; 32]);
        self.drbg.fill(&mut *bytes);
        Key::new(*bytes)
    }

    /// Draws 256 bits that are no secret.
    pub(crate) fn nonce(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.drbg.fill(&mut bytes);
        bytes
    }

    /// Makes salt and data key for a copy of the image with this manifest that goes to this place.
    pub(crate) fn sealing(&mut self, manifest: &Digest, place: u64) -> Fresh {
        let (salt, data_key) = fresh_sealing(&self.draw(), manifest, place);
        Fresh { salt, data_key }
    }

    /// Makes the salt for a journal entry with this content.
    pub(crate) fn entry_salt(&mut self, journal_key: &Key, content: &Digest) -> [u8; 32] {
        journal_entry_salt(journal_key, &self.draw(), content)
    }
}
