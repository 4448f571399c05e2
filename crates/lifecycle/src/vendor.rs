//! The silicon vendor's certificates for a die, which fabrication writes behind the fuse words.
//!
//! ```text
//! ┌────────┬───────────────────────┬────────┬──────────────────────┬─────────────┐
//! │ length │ the die's certificate │ length │ the one that issued  │ 0xFFFF_FFFF │
//! │ u32 LE │ DER                   │ u32 LE │ it, and so on        │ erased      │
//! └────────┴───────────────────────┴────────┴──────────────────────┴─────────────┘
//! ```
//!
//! The vendor's root is left out: whoever judges the chain has it already. Nothing on the device trusts what lies
//! here; a wrong length ends the list, and the authority judges whatever there is.

/// Most certificates of a chain.
pub const MAX_CERTIFICATES: usize = 4;

const LENGTH_BYTES: usize = 4;

/// Lists the certificates, the die's own first, each as DER. What follows a length that leads out of `untrusted`
/// is left out, and so is what follows an empty certificate or the fourth one.
pub fn certificates(untrusted: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = untrusted;
    core::iter::from_fn(move || {
        let (length, behind) = rest.split_first_chunk::<LENGTH_BYTES>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (certificate, behind) = behind.split_at_checked(length)?;
        rest = behind;
        (!certificate.is_empty()).then_some(certificate)
    })
    .fuse()
    .take(MAX_CERTIFICATES)
}

/// Lays out certificates, the die's own first.
#[cfg(feature = "host")]
pub fn encode(certificates: &[impl AsRef<[u8]>]) -> std::vec::Vec<u8> {
    let mut bytes = std::vec::Vec::new();
    for certificate in certificates.iter().map(AsRef::as_ref) {
        bytes.extend((certificate.len() as u32).to_le_bytes());
        bytes.extend(certificate);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn listed(bytes: &[u8]) -> Vec<&[u8]> {
        certificates(bytes).collect()
    }

    #[test]
    fn a_chain_round_trips_up_to_the_erased_rest() {
        let mut bytes = encode(&[b"leaf".as_slice(), b"issuer"]);
        bytes.resize(64, 0xFF);
        assert_eq!(listed(&bytes), [b"leaf".as_slice(), b"issuer"]);
        assert!(listed(&[0xFF; 64]).is_empty());
        assert!(listed(&[]).is_empty());
    }

    #[test]
    fn a_list_ends_where_a_length_is_wrong() {
        let bytes = encode(&[b"leaf".as_slice(), b"issuer"]);
        for cut in 0..bytes.len() {
            let whole = usize::from(cut >= 8);
            assert_eq!(listed(&bytes[..cut]).len(), whole, "{cut}");
        }
        assert!(listed(&encode(&[b"".as_slice(), b"issuer"])).is_empty());
        assert_eq!(listed(&encode(&[b"x"; 9])).len(), MAX_CERTIFICATES);
    }
}
