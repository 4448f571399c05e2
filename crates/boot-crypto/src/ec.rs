//! Private keys on P-256: deterministic signatures (RFC 6979) and key agreement (SP 800-56A section 5.7.1.2).

use crate::{Digest, Drbg, Key, hkdf_sha256};
use p256::elliptic_curve::ff::{Field as _, PrimeField as _};
use p256::elliptic_curve::group::Group as _;
use p256::elliptic_curve::ops::Reduce as _;
use p256::elliptic_curve::point::AffineCoordinates as _;
use p256::elliptic_curve::sec1::FromSec1Point as _;
use p256::{AffinePoint, NonZeroScalar, ProjectivePoint, Scalar, U256};
use zeroize::{Zeroize, Zeroizing};

/// Most pieces of `info` that [`EcKey::derive`] takes.
const MAX_INFO: usize = 7;

/// A private key on P-256: wiped when dropped; not copied, compared or printed.
///
/// Everything that handles the private scalar takes the same time for every scalar.
pub struct EcKey(NonZeroScalar);

impl EcKey {
    /// Derives a key: HKDF-SHA256 over `info` and a counter byte, the first output that is a private scalar
    /// (FIPS 186-5 section A.2.2). One in 2³² first outputs is not.
    ///
    /// At most 7 pieces of `info` enter.
    pub fn derive(ikm: &Key, salt: &[u8], info: &[&[u8]]) -> Self {
        let mut counter = 0_u8;
        loop {
            let mut candidate = Zeroizing::new([0; 32]);
            let last = [counter];
            let mut pieces: [&[u8]; MAX_INFO + 1] = [&[]; MAX_INFO + 1];
            let all = info.iter().take(MAX_INFO).copied().chain([&last[..]]);
            pieces.iter_mut().zip(all).for_each(|(place, piece)| *place = piece);
            hkdf_sha256(salt, ikm.expose(), &pieces, &mut candidate);
            if let Some(key) = Self::from_scalar(&candidate) {
                return key;
            }
            counter = counter.wrapping_add(1);
        }
    }

    /// Takes over a private scalar, 32 bytes big-endian; `None` for zero, and for the order of the curve and
    /// above.
    #[inline(never)]
    pub fn from_scalar(scalar: &[u8; 32]) -> Option<Self> {
        Option::from(NonZeroScalar::from_repr((*scalar).into())).map(Self)
    }

    /// Returns the public key: x followed by y.
    #[inline(never)]
    pub fn public(&self) -> [u8; 64] {
        let point = ProjectivePoint::mul_by_generator(&self.0).to_affine();
        let mut public = [0; 64];
        let coordinates = point.x().into_iter().chain(point.y());
        public.iter_mut().zip(coordinates).for_each(|(to, from)| *to = from);
        public
    }

    /// Signs a digest, with the nonce of RFC 6979: r followed by s. The same key and digest always give the same
    /// signature.
    #[inline(never)]
    pub fn sign(&self, digest: &Digest) -> [u8; 64] {
        let reduced = Scalar::reduce(&U256::from_be_slice(digest));
        let scalar = Zeroizing::new(<[u8; 32]>::from(self.0.to_repr()));
        let mut nonces = Drbg::new(&*scalar, &reduced.to_repr(), &[]);
        loop {
            let mut nonce = Zeroizing::new([0; 32]);
            nonces.fill(&mut *nonce);
            if let Some(nonce) = Self::from_scalar(&nonce)
                && let Some(signature) = self.sign_with(&nonce, &reduced)
            {
                return signature;
            }
        }
    }

    /// Signs with a nonce; `None` for one in 2²⁵⁶ nonces, where r or s is zero.
    fn sign_with(&self, nonce: &Self, reduced: &Scalar) -> Option<[u8; 64]> {
        let x = ProjectivePoint::mul_by_generator(&nonce.0).to_affine().x();
        let r = Scalar::reduce(&U256::from_be_slice(&x));
        let mut inverse = Option::<Scalar>::from(nonce.0.invert())?;
        let s = inverse * (*reduced + r * *self.0);
        inverse.zeroize();
        if bool::from(r.is_zero() | s.is_zero()) {
            return None;
        }
        let mut signature = [0; 64];
        let both = r.to_repr().into_iter().chain(s.to_repr());
        signature.iter_mut().zip(both).for_each(|(to, from)| *to = from);
        Some(signature)
    }

    /// Agrees on a secret with the holder of `public`, x followed by y: the x coordinate of the shared point.
    /// `None` if `public` is no point of the curve.
    #[inline(never)]
    pub fn agree(&self, public: &[u8; 64]) -> Option<Key> {
        let (x, y) = public.split_at(32);
        let (x, y) = (<&[u8; 32]>::try_from(x).ok()?, <&[u8; 32]>::try_from(y).ok()?);
        let point = p256::Sec1Point::from_affine_coordinates(x.into(), y.into(), false);
        let point = Option::<AffinePoint>::from(AffinePoint::from_sec1_point(&point))?;
        let shared = (ProjectivePoint::from(point) * *self.0).to_affine();
        Some(Key::new(shared.x().into()))
    }
}

impl Drop for EcKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}
