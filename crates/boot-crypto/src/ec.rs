//! ECDSA over P-256 with SHA-256 (ES256, RFC 9053 section 2.1) and ECDH (SP 800-56A section 5.7.1.2).
//!
//! On top of the arithmetic of `p256`, as small as it can be: the generic signing and verification of that crate would
//! put two ways to multiply a point and two ways to invert a scalar into stage0.

#[cfg(feature = "host")]
use crate::memo::remembered;
use crate::{Decision, Digest, Drbg, Key, equal, hkdf_sha256};
use p256::elliptic_curve::ff::{Field as _, PrimeField as _};
use p256::elliptic_curve::ops::Reduce as _;
use p256::elliptic_curve::point::AffineCoordinates as _;
use p256::elliptic_curve::scalar::IsHigh as _;
use p256::elliptic_curve::subtle::{Choice, ConditionallyNegatable as _, ConditionallySelectable as _};
#[cfg(feature = "fast")]
use p256::elliptic_curve::{Group as _, ops::MulByGeneratorVartime as _};
use p256::{AffinePoint, FieldBytes, NonZeroScalar, ProjectivePoint, Scalar, U256};
use zeroize::{Zeroize, Zeroizing};

/// A private key on P-256: wiped when dropped; not copied, compared or printed.
///
/// Everything that handles the private scalar takes the same time for every scalar.
pub struct EcKey(NonZeroScalar);

impl EcKey {
    /// Derives a key: HKDF-SHA256 over `info` and a counter byte, the first output that is a private scalar
    /// (FIPS 186-5 section A.2.2). One in 2³² first outputs is not.
    pub fn derive(ikm: &Key, salt: &[u8], info: &[u8]) -> Self {
        let mut counter = 0_u8;
        loop {
            let mut candidate = Zeroizing::new([0; 32]);
            hkdf_sha256(salt, ikm.expose(), &[info, &[counter]], &mut candidate);
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
        #[cfg(feature = "host")]
        return remembered(
            |memo| &mut memo.public,
            || self.scalar(),
            || self.public_by::<Chosen>(),
            |it| *it,
        );
        #[cfg(not(feature = "host"))]
        self.public_by::<Chosen>()
    }

    #[cfg(feature = "host")]
    fn scalar(&self) -> [u8; 32] {
        self.0.to_repr().into()
    }

    #[inline(always)]
    fn public_by<M: Multiply>(&self) -> [u8; 64] {
        let point = M::on_generator(&self.0);
        concatenate(point.x(), point.y())
    }

    /// Signs a digest, with the nonce of RFC 6979: r followed by s. The same key and digest always give the same
    /// signature.
    #[inline(never)]
    pub fn sign(&self, digest: &Digest) -> [u8; 64] {
        #[cfg(feature = "host")]
        return remembered(
            |memo| &mut memo.signed,
            || (self.scalar(), *digest),
            || self.sign_by::<Chosen>(digest),
            |it| *it,
        );
        #[cfg(not(feature = "host"))]
        self.sign_by::<Chosen>(digest)
    }

    #[inline(always)]
    fn sign_by<M: Multiply>(&self, digest: &Digest) -> [u8; 64] {
        let reduced = reduce(digest);
        let scalar = Zeroizing::new(<[u8; 32]>::from(self.0.to_repr()));
        let mut nonces = Drbg::new(&*scalar, &reduced.to_repr(), &[]);
        loop {
            let mut nonce = Zeroizing::new([0; 32]);
            nonces.fill(&mut *nonce);
            if let Some(nonce) = Self::from_scalar(&nonce)
                && let Some(signature) = self.sign_with::<M>(&nonce, &reduced)
            {
                return signature;
            }
        }
    }

    /// Signs with a nonce; `None` for one in 2²⁵⁶ nonces, where r or s is zero.
    fn sign_with<M: Multiply>(&self, nonce: &Self, reduced: &Scalar) -> Option<[u8; 64]> {
        let point = M::on_generator(&nonce.0);
        let r = reduce(&point.x().into());
        let mut inverse = invert(&nonce.0);
        let s = inverse * (*reduced + r * *self.0);
        inverse.zeroize();
        let usable = !bool::from(r.is_zero() | s.is_zero());
        usable.then(|| concatenate(r.to_repr(), s.to_repr()))
    }

    /// Agrees on a secret with the holder of `public`, x followed by y: the x coordinate of the shared point.
    /// `None` if `public` is no point of the curve.
    #[inline(never)]
    pub fn agree(&self, public: &[u8; 64]) -> Option<Key> {
        #[cfg(feature = "host")]
        return remembered(
            |memo| &mut memo.agreed,
            || (self.scalar(), *public),
            || self.agree_by::<Chosen>(public),
            |it| it.as_ref().map(|key| Key::new(*key.expose())),
        );
        #[cfg(not(feature = "host"))]
        self.agree_by::<Chosen>(public)
    }

    #[inline(always)]
    fn agree_by<M: Multiply>(&self, public: &[u8; 64]) -> Option<Key> {
        let shared = M::on_point(parse_point(public)?, &self.0);
        Some(Key::new(shared.x().into()))
    }
}

/// Verifies an ECDSA signature over P-256 with SHA-256 (FIPS 186-5 section 6.4.2). `public_key` is x followed by y,
/// `signature` is r followed by s, each 32 bytes big-endian. A key that is no point of the curve refuses, as does r or
/// s out of range.
#[inline(never)]
pub fn es256_verify(public_key: &[u8; 64], digest: &Digest, signature: &[u8; 64]) -> Decision {
    #[cfg(feature = "host")]
    return remembered(
        |memo| &mut memo.decided,
        || (*public_key, *digest, *signature),
        || verify::<Chosen>(public_key, digest, signature),
        |it| *it,
    );
    #[cfg(not(feature = "host"))]
    verify::<Chosen>(public_key, digest, signature)
}

#[inline(always)]
fn verify<M: Multiply>(public_key: &[u8; 64], digest: &Digest, signature: &[u8; 64]) -> Decision {
    let Some((r, s)) = halves(signature) else { return Decision::REFUSE };
    let (Some(key), Some(r), Some(s)) =
        (parse_point(public_key), EcKey::from_scalar(r), EcKey::from_scalar(s))
    else {
        return Decision::REFUSE;
    };
    let inverse = invert(&s.0);
    let point = M::on_both(&(reduce(digest) * inverse), key, &(*r.0 * inverse));
    // At infinity, where x is zero, nothing is accepted: r is not.
    equal(&reduce(&point.x().into()).to_repr(), &r.0.to_repr())
}

/// Returns the signature whose s is in the lower half of its range, of the two that are equally valid for a key and a
/// digest: whoever names a message by a digest over its signature takes no other. `None` for r or s out of range.
#[inline(never)]
pub fn es256_low_s(signature: &[u8; 64]) -> Option<[u8; 64]> {
    let (r, s) = halves(signature)?;
    let (r, mut s) = (EcKey::from_scalar(r)?, *EcKey::from_scalar(s)?.0);
    s.conditional_negate(s.is_high());
    Some(concatenate(r.0.to_repr(), s.to_repr()))
}

/// The operations on the arithmetic that stages have, for tests of a build that has the one of servers.
#[cfg(feature = "fast")]
pub mod as_on_a_stage {
    use super::{Decision, Digest, EcKey, Key, Small};

    /// As [`EcKey::public`].
    pub fn public(key: &EcKey) -> [u8; 64] {
        key.public_by::<Small>()
    }

    /// As [`EcKey::sign`].
    pub fn sign(key: &EcKey, digest: &Digest) -> [u8; 64] {
        key.sign_by::<Small>(digest)
    }

    /// As [`EcKey::agree`].
    pub fn agree(key: &EcKey, public: &[u8; 64]) -> Option<Key> {
        key.agree_by::<Small>(public)
    }

    /// As [`es256_verify`](crate::es256_verify).
    pub fn es256_verify(public_key: &[u8; 64], digest: &Digest, signature: &[u8; 64]) -> Decision {
        super::verify::<Small>(public_key, digest, signature)
    }
}

#[cfg(feature = "fast")]
use Fast as Chosen;
#[cfg(not(feature = "fast"))]
use Small as Chosen;

/// A way to multiply points.
trait Multiply {
    /// Computes `scalar` · G.
    fn on_generator(scalar: &Scalar) -> AffinePoint;

    /// Computes `scalar` · `point`.
    fn on_point(point: ProjectivePoint, scalar: &Scalar) -> AffinePoint;

    /// Computes `on_generator` · G + `on_point` · `point`.
    fn on_both(on_generator: &Scalar, point: ProjectivePoint, on_point: &Scalar) -> AffinePoint;
}

/// Multiplication as a stage has room for it.
struct Small;

impl Multiply for Small {
    #[inline(always)]
    fn on_generator(scalar: &Scalar) -> AffinePoint {
        Self::on_both(scalar, ProjectivePoint::IDENTITY, &Scalar::ZERO)
    }

    #[inline(always)]
    fn on_point(point: ProjectivePoint, scalar: &Scalar) -> AffinePoint {
        Self::on_both(&Scalar::ZERO, point, scalar)
    }

    /// In the same time and with the same memory accesses for all scalars: a doubling and a complete addition for each
    /// bit of the two together (Straus' and Shamir's trick). Everything goes through this one function, since a second
    /// way to multiply would not fit into stage0.
    #[inline(never)]
    fn on_both(on_generator: &Scalar, point: ProjectivePoint, on_point: &Scalar) -> AffinePoint {
        let both = ProjectivePoint::GENERATOR + point;
        let on_generator = Zeroizing::new(<[u8; 32]>::from(on_generator.to_repr()));
        let on_point = Zeroizing::new(<[u8; 32]>::from(on_point.to_repr()));
        let mut sum = ProjectivePoint::IDENTITY;
        for (g, p) in on_generator.iter().zip(&*on_point) {
            for bit in (0..u8::BITS).rev() {
                let (g, p) = (Choice::from(g >> bit & 1), Choice::from(p >> bit & 1));
                let without = select(&ProjectivePoint::IDENTITY, &ProjectivePoint::GENERATOR, g);
                sum = sum + sum + select(&without, &select(&point, &both, g), p);
            }
        }
        sum.to_affine()
    }
}

/// Returns the first point, or the second one if `second`.
#[inline(never)]
fn select(first: &ProjectivePoint, other: &ProjectivePoint, second: Choice) -> ProjectivePoint {
    ProjectivePoint::conditional_select(first, other, second)
}

/// Multiplication as a server needs it, by the windows and tables of `p256`: the same points, in the same time for all
/// scalars but in `on_both`, which sees public ones only.
#[cfg(feature = "fast")]
struct Fast;

#[cfg(feature = "fast")]
impl Multiply for Fast {
    fn on_generator(scalar: &Scalar) -> AffinePoint {
        ProjectivePoint::mul_by_generator(scalar).to_affine()
    }

    fn on_point(point: ProjectivePoint, scalar: &Scalar) -> AffinePoint {
        (point * scalar).to_affine()
    }

    fn on_both(generator: &Scalar, point: ProjectivePoint, scalar: &Scalar) -> AffinePoint {
        ProjectivePoint::mul_by_generator_and_mul_add_vartime(generator, scalar, &point).to_affine()
    }
}

/// Inverts a scalar that is not zero, as its power to the order less 2, in the same time for all.
#[inline(never)]
fn invert(scalar: &Scalar) -> Scalar {
    const EXPONENT: U256 =
        U256::from_be_hex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc63254f");
    scalar.pow_vartime(&EXPONENT)
}

/// Reads 32 bytes big-endian, modulo the order.
#[inline(never)]
fn reduce(bytes: &[u8; 32]) -> Scalar {
    Scalar::reduce(&FieldBytes::from(*bytes))
}

/// Parses a public key, x followed by y; `None` if it is no point of the curve.
#[inline(never)]
fn parse_point(untrusted: &[u8; 64]) -> Option<ProjectivePoint> {
    let (x, y) = halves(untrusted)?;
    Option::from(AffinePoint::from_coordinates(x.into(), y.into())).map(|point: AffinePoint| point.into())
}

fn halves(both: &[u8; 64]) -> Option<(&[u8; 32], &[u8; 32])> {
    let (first, second) = both.split_first_chunk()?;
    Some((first, second.first_chunk()?))
}

fn concatenate(first: FieldBytes, second: FieldBytes) -> [u8; 64] {
    let mut both = [0; 64];
    both.iter_mut().zip(first.into_iter().chain(second)).for_each(|(to, from)| *to = from);
    both
}

impl Drop for EcKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(all(test, feature = "fast"))]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn both_ways_to_multiply_give_the_same_points() {
        let one = Scalar::ONE;
        let edges = [Scalar::ZERO, one, one + one, -one, -(one + one)];
        let others = (1_u8..=40).map(|n| reduce(&crate::sha256(&[n])));
        let scalars: Vec<Scalar> = edges.into_iter().chain(others).collect();
        let mut compared = 0;
        for (first, second) in scalars.iter().zip(scalars.iter().rev()) {
            let point = ProjectivePoint::from(Small::on_generator(&(*first + one + one + one)));
            assert_eq!(Fast::on_generator(first), Small::on_generator(first));
            assert_eq!(Fast::on_point(point, second), Small::on_point(point, second));
            assert_eq!(Fast::on_both(first, point, second), Small::on_both(first, point, second));
            compared += 1;
        }
        assert_eq!(compared, 45);
    }
}
