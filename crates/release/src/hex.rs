//! Bytes as lower-case hex.

/// Writes bytes as lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads exactly `N` bytes from lower-case hex; `None` for anything else.
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let mut bytes = [0; N];
    if pairs.len() != N {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_their_hex_and_nothing_else_is_taken() {
        let bytes = [0x00, 0x09, 0xAF, 0xFF];
        assert_eq!(hex(&bytes), "0009afff");
        assert_eq!(unhex("0009afff"), Some(bytes));
        for text in ["", "0009aff", "0009afff0", "0009aff", "0009AFFF", "0009afffff", "0x09afff", "0009 fff"]
        {
            assert_eq!(unhex::<4>(text), None, "{text}");
        }
    }
}
