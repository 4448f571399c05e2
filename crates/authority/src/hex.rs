//! Bytes as lower-case hexadecimal text.

use serde::{Deserialize as _, Deserializer, Serializer, de};

/// Writes bytes as hexadecimal.
pub fn encode(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads hexadecimal, upper or lower case; `None` for an odd length or anything that is no digit.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    if rest.is_empty() { bytes } else { None }
}

/// Reads exactly `N` bytes of hexadecimal.
pub fn array<const N: usize>(text: &str) -> Option<[u8; N]> {
    decode(text)?.try_into().ok()
}

/// Parses an argument of the command line.
pub(crate) fn argument<const N: usize>(text: &str) -> Result<[u8; N], String> {
    array(text).ok_or_else(|| format!("give {} hexadecimal digits", 2 * N))
}

/// Serialises an array as hexadecimal.
pub(crate) fn serialize<S: Serializer, const N: usize>(bytes: &[u8; N], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&encode(bytes))
}

/// Deserialises an array from hexadecimal.
pub(crate) fn deserialize<'de, D: Deserializer<'de>, const N: usize>(from: D) -> Result<[u8; N], D::Error> {
    let text = String::deserialize(from)?;
    array(&text).ok_or_else(|| de::Error::custom(format!("{} hexadecimal digits are needed", 2 * N)))
}

/// A list of arrays as a list of hexadecimal texts.
pub(crate) mod list {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Deserialize, Serialize)]
    #[serde(transparent)]
    struct Item<const N: usize>(#[serde(with = "super")] [u8; N]);

    pub(crate) fn serialize<S: Serializer, const N: usize>(
        list: &[[u8; N]],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(list.iter().map(|bytes| Item(*bytes)))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        from: D,
    ) -> Result<Vec<[u8; N]>, D::Error> {
        let list: Vec<Item<N>> = Vec::deserialize(from)?;
        Ok(list.into_iter().map(|Item(bytes)| bytes).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_bytes_of_hexadecimal_are_read() {
        assert_eq!(encode(&[0, 0xAB, 0xFF]), "00abff");
        assert_eq!(decode("00aBff"), Some(vec![0, 0xAB, 0xFF]));
        assert_eq!(array::<2>("00ab"), Some([0, 0xAB]));
        for text in ["0", "0g", "+1", "0x12", "é1"] {
            assert_eq!(decode(text), None, "{text}");
        }
        assert_eq!(array::<2>("00"), None);
    }
}
