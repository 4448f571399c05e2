//! The published test keys and secrets, by value.
//!
//! Everybody knows their private halves. A stage on anything but a development die, and a tool in a
//! production profile, refuses them whatever name they go by.

use crate::{Digest, equal};

/// SHA-256 of every published test value: of the COSE_Key encoding for a public key (its RFC 9679
/// thumbprint), of the bytes for a symmetric secret.
pub const DIGESTS: &[Digest] = &[
    hex(b"13eda4d61b184e7f6ceffaf87e13fc1befabfd032839ca71c847de4f5d78d166"), // owner root
    hex(b"d4a079cf364f15e7699e3dcd43807f9d9df7af1fcb1bce491ee31b05b6dfb809"), // role boot
    hex(b"6429ae6db8f5f2015064512ba078e8c9637a6ae0bb9d52f0381d61d0e276d091"), // role provision
    hex(b"ee2a0f028d316f238729f8fb699734d2e5fb4122d55cd2bb953200407e2beb9f"), // role os
    hex(b"fc4465d281809a51aa2a2732e31151f02ff4d17e90e468bd0d387d14f369e657"), // role os, PS256
    hex(b"3b8e167dcd42b1cb0ddb48f5e10c009995717072eaa89cc8ddd55db17c29fabc"), // silicon secret
    hex(b"268ea789b9e99109d6e96f4a02e4bff5ba273616e94829b7dce7dfd83880cd17"), // device seed
];

/// Tells whether `digest` is that of a published test value.
pub fn contains(digest: &Digest) -> bool {
    DIGESTS.iter().any(|listed| equal(listed, digest).accepts())
}

/// Decodes a digest. For constants: anything but 64 lower-case digits fails the build.
const fn hex(text: &[u8; 64]) -> Digest {
    let mut digest = [0; 32];
    let mut i = 0;
    while i < 64 {
        let digit = match text[i] {
            digit @ b'0'..=b'9' => digit - b'0',
            digit @ b'a'..=b'f' => digit - b'a' + 10,
            _ => panic!("not a lower-case hexadecimal digit"),
        };
        digest[i / 2] = digest[i / 2] << 4 | digit;
        i += 1;
    }
    digest
}
