//! The strict reader against an independent decoder.

use crate::Verdict;
use crate::sample::encoded;
use minicbor::Decoder;
use sealed_image::cbor::Reader;

/// Reads items by a script, with both: they agree on what the one encoding of an item is.
///
/// The first byte tells how many bytes of script follow; each names what is read next.
pub(crate) fn cbor(data: &[u8]) -> Verdict {
    let Some((count, rest)) = data.split_first() else { return Verdict::Refused };
    let Some((script, mut input)) = rest.split_at_checked(usize::from(count % 32)) else {
        return Verdict::Refused;
    };
    for op in script {
        let mut reader = Reader::new(input);
        let ours = read(&mut reader, *op);
        let theirs = independent(input, *op);
        match (&ours, &theirs) {
            (Some(value), Some((same, _))) => assert_eq!(value, same),
            (None, None) => return Verdict::Refused,
            _ => panic!("{op}: {ours:?}, {theirs:?} of {input:02X?}"),
        }
        input = &input[theirs.map_or(0, |(_, used)| used)..];
        assert_eq!(reader.end().is_some(), input.is_empty());
    }
    Verdict::of(!script.is_empty())
}

/// A value, encoded.
type Value = Vec<u8>;

fn read(r: &mut Reader<'_>, op: u8) -> Option<Value> {
    match op % 9 {
        0 => r.uint::<u64>().map(|it| encoded(|e| e.u64(it)?.ok())),
        1 => r.uint::<u32>().map(|it| encoded(|e| e.u32(it)?.ok())),
        2 => r.uint::<u8>().map(|it| encoded(|e| e.u8(it)?.ok())),
        3 => r.bytes().map(|it| encoded(|e| e.bytes(it)?.ok())),
        4 => r.fixed::<4>().map(|it| encoded(|e| e.bytes(it)?.ok())),
        5 => r.text().map(|it| encoded(|e| e.str(it)?.ok())),
        6 => r.name().map(|it| encoded(|e| e.str(it)?.ok())),
        7 => r.array_up_to(8).map(|it| encoded(|e| e.array(it as u64)?.ok())),
        _ => r.map(3).map(|()| encoded(|e| e.map(3)?.ok())),
    }
}

/// Decodes leniently, encodes again, and compares: with the number of bytes.
fn independent(input: &[u8], op: u8) -> Option<(Value, usize)> {
    let mut d = Decoder::new(input);
    let value = match op % 9 {
        0 => d.u64().ok().map(|it| encoded(|e| e.u64(it)?.ok())),
        1 => d.u32().ok().map(|it| encoded(|e| e.u32(it)?.ok())),
        2 => d.u8().ok().map(|it| encoded(|e| e.u8(it)?.ok())),
        3 => d.bytes().ok().map(|it| encoded(|e| e.bytes(it)?.ok())),
        4 => d.bytes().ok().filter(|it| it.len() == 4).map(|it| encoded(|e| e.bytes(it)?.ok())),
        5 => d.str().ok().map(|it| encoded(|e| e.str(it)?.ok())),
        6 => d.str().ok().filter(|it| is_name(it)).map(|it| encoded(|e| e.str(it)?.ok())),
        7 => d.array().ok().flatten().filter(|it| *it <= 8).map(|it| encoded(|e| e.array(it)?.ok())),
        _ => d.map().ok().flatten().filter(|it| *it == 3).map(|_| encoded(|e| e.map(3)?.ok())),
    }?;
    input
        .starts_with(&value)
        .then_some((value.clone(), value.len()))
        .filter(|(_, used)| *used == d.position())
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= sealed_image::MAX_NAME
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

pub(crate) fn cbor_seeds() -> Vec<Vec<u8>> {
    let items = encoded(|e| {
        e.u64(u64::MAX)?
            .u32(70_000)?
            .u8(200)?
            .bytes(&[7; 300])?
            .bytes(b"four")?
            .str("grün")?
            .str("qemu-virt")?;
        e.array(5)?.map(3)?.ok()
    });
    let small = encoded(|e| e.u64(0)?.u32(23)?.u8(24)?.bytes(&[])?.ok());
    vec![[&[9, 0, 1, 2, 3, 4, 5, 6, 7, 8], &items[..]].concat(), [&[4, 0, 1, 2, 3], &small[..]].concat()]
}
