//! The files of CAVP, and those of RFCs that are written as they are.

use alloc::borrow::ToOwned as _;
use alloc::string::String;
use alloc::vec::Vec;
use std::collections::BTreeMap;
use std::path::Path;

/// One entry: what its sections say, and its own names and values.
pub(super) struct Entry {
    /// What was between brackets last: `P-256,SHA-256`, or names and values.
    pub(super) section: String,
    sections: BTreeMap<String, String>,
    values: BTreeMap<String, String>,
}

impl Entry {
    /// Returns a value as it stands.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name).or_else(|| self.sections.get(name)).map(String::as_str)
    }

    /// Returns bytes.
    ///
    /// # Panics
    /// If there are none of this name.
    pub(super) fn bytes(&self, name: &str) -> Vec<u8> {
        let text = self.text(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.values));
        unhex(text)
    }

    /// Returns a number as so many bytes, most significant first; `None` if it is longer.
    pub(super) fn number<const N: usize>(&self, name: &str) -> Option<[u8; N]> {
        right_aligned(&self.bytes(name))
    }

    /// Tells whether the entry has this value, which may be empty.
    pub(super) fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }
}

/// Returns a number as so many bytes; `None` if it is longer.
pub(super) fn right_aligned<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let digits = &bytes[zeros..];
    let mut number = [0; N];
    number[N.checked_sub(digits.len())?..].copy_from_slice(digits);
    Some(number)
}

/// Reads hexadecimal digits; an odd number of them begins with a zero.
///
/// # Panics
/// If they are none.
pub(super) fn unhex(text: &str) -> Vec<u8> {
    let even = if text.len() % 2 == 1 { String::from("0") + text } else { text.to_owned() };
    let byte = |at: usize| u8::from_str_radix(&even[at..at + 2], 16);
    let bytes: Result<Vec<u8>, _> = (0..even.len()).step_by(2).map(byte).collect();
    bytes.unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Reads a file: entries are apart by an empty line, or begin with `first`.
///
/// # Panics
/// If it cannot be read.
pub(super) fn entries(file: &Path, first: &str) -> Vec<Entry> {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut entries = Vec::new();
    let (mut section, mut sections, mut values) = (String::new(), BTreeMap::new(), BTreeMap::new());
    let mut end = |section: &String, sections: &BTreeMap<_, _>, values: &mut BTreeMap<_, _>| {
        if !values.is_empty() {
            let values = std::mem::take(values);
            entries.push(Entry { section: section.clone(), sections: sections.clone(), values });
        }
    };
    for line in text.lines().map(str::trim) {
        if let Some(inside) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            end(&section, &sections, &mut values);
            section = inside.to_owned();
            if let Some((name, value)) = inside.split_once('=') {
                sections.insert(name.trim().to_owned(), value.trim().to_owned());
            }
        } else if line.is_empty() && first.is_empty() {
            end(&section, &sections, &mut values);
        } else if let Some((name, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
            let name = name.trim().to_owned();
            if name == first {
                end(&section, &sections, &mut values);
            }
            values.insert(name, value.trim().to_owned());
        } else if line == "FAIL" {
            values.insert(line.to_owned(), String::new());
        }
    }
    end(&section, &sections, &mut values);
    entries
}
