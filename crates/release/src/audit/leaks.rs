//! Plaintext and keys where none may be.

use crate::{DeviceFiles, Error, files, hex};
use aho_corasick::AhoCorasick;
use memory_map::{Region, qemu_virt};
use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Length of a sample of a payload, in bytes: too long to be found by chance or in other programs.
const SAMPLE: usize = 48;
/// Samples taken from each payload.
const SAMPLES: usize = 16;
/// Length of the parts in which a secret is looked for, in bytes.
const PART: usize = 16;

/// In which form something was looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As it is.
    Raw,
    /// The last byte first.
    Reversed,
    /// Hexadecimal digits, lower-case.
    Hex,
    /// Hexadecimal digits, upper-case.
    UpperHex,
    /// Base64 of RFC 4648, in either alphabet, wherever in the text it starts.
    Base64,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raw => "as it is",
            Self::Reversed => "reversed",
            Self::Hex => "in hexadecimal",
            Self::UpperHex => "in upper-case hexadecimal",
            Self::Base64 => "in Base64",
        })
    }
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file; empty for bytes in memory.
    pub path: PathBuf,
    /// Where it starts, in bytes.
    pub offset: usize,
    /// What it is a part of.
    pub name: String,
    /// In which form it is there.
    pub form: Form,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, offset, name, form } = self;
        write!(f, "{name} {form} at {offset:#x}")?;
        if path.as_os_str().is_empty() { Ok(()) } else { write!(f, " of {}", path.display()) }
    }
}

/// Looks for payloads and secrets in many forms at once.
///
/// Of a payload, up to 16 samples of 48 bytes are looked for, spread evenly, each with many different bytes. Of a
/// secret, every 16 bytes from each multiple of 8 on: an allocator that takes a block back writes over its beginning,
/// and half a key is a leak too.
pub struct LeakScan {
    needles: Vec<Needle>,
    automaton: AhoCorasick,
}

struct Needle {
    name: String,
    form: Form,
    bytes: Zeroizing<Vec<u8>>,
}

impl LeakScan {
    /// Prepares a scan for payloads and secrets, each with a name.
    ///
    /// # Errors
    /// [`Error::NothingToLookFor`] for a payload without a sample that could not be there by chance, and for a secret
    /// shorter than 16 bytes.
    pub fn new(payloads: &[(&str, &[u8])], secrets: &[(&str, &[u8])]) -> Result<Self, Error> {
        let mut needles = Vec::new();
        for (name, plain) in payloads {
            add(&mut needles, name, &samples(plain))?;
        }
        for (name, secret) in secrets {
            let last = secret.len().checked_sub(PART);
            let starts = last.map(|last| (0..last).step_by(PART / 2).chain([last]));
            let parts: Vec<&[u8]> =
                starts.into_iter().flatten().map(|start| &secret[start..start + PART]).collect();
            add(&mut needles, name, &parts)?;
        }
        let automaton = AhoCorasick::new(needles.iter().map(|needle| &*needle.bytes));
        Ok(Self {
            automaton: automaton.map_err(|_| Error::NothingToLookFor { name: "all".into() })?,
            needles,
        })
    }

    /// Returns how many patterns are looked for.
    pub fn patterns(&self) -> usize {
        self.needles.len()
    }

    /// Looks through bytes.
    pub fn scan(&self, bytes: &[u8]) -> Vec<Finding> {
        let finding = |found: aho_corasick::Match| {
            let Needle { name, form, .. } = &self.needles[found.pattern().as_usize()];
            Finding { path: PathBuf::new(), offset: found.start(), name: name.clone(), form: *form }
        };
        self.automaton.find_overlapping_iter(bytes).map(finding).collect()
    }

    /// Looks through a file, but for regions that may hold anything, given as offsets in the file.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn scan_file(&self, path: &Path, passed_over: &[Region]) -> Result<Vec<Finding>, Error> {
        let mut bytes = files::read(path)?;
        for region in passed_over {
            let end = (region.end() as usize).min(bytes.len());
            if let Some(part) = bytes.get_mut(region.base as usize..end) {
                part.fill(0);
            }
        }
        let mut found = self.scan(&bytes);
        found.iter_mut().for_each(|finding| finding.path = path.into());
        Ok(found)
    }

    /// Looks through all storage of a device but stage0, which is in the clear and shares library code with the
    /// stages after it.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub fn scan_device(&self, files: &DeviceFiles) -> Result<Vec<Finding>, Error> {
        let mut found = self.scan_file(&files.flash0(), &[qemu_virt::STAGE0_ROM])?;
        found.extend(self.scan_file(&files.flash1(), &[])?);
        found.extend(self.scan_file(&files.disk(), &[])?);
        Ok(found)
    }

    /// Plants every pattern in a copy of `background`, spread over it, and returns how many the scan finds there:
    /// [`patterns`](Self::patterns), or the scan is blind. The background is made longer where it has no room.
    pub fn control(&self, background: &[u8]) -> usize {
        let longest = self.needles.iter().map(|needle| needle.bytes.len()).max().unwrap_or(1);
        let mut planted = background.to_vec();
        planted.resize(planted.len().max(longest * self.needles.len()), 0);
        let step = planted.len() / self.needles.len().max(1);
        let places = (0..).step_by(step.max(1));
        for (place, needle) in places.clone().zip(&self.needles) {
            planted[place..place + needle.bytes.len()].copy_from_slice(&needle.bytes);
        }
        let found: HashSet<(usize, usize)> = self
            .automaton
            .find_overlapping_iter(&planted)
            .map(|found| (found.pattern().as_usize(), found.start()))
            .collect();
        places.zip(0..self.needles.len()).filter(|(place, number)| found.contains(&(*number, *place))).count()
    }
}

/// Adds every form of every part.
fn add(needles: &mut Vec<Needle>, name: &str, parts: &[&[u8]]) -> Result<(), Error> {
    if parts.is_empty() {
        return Err(Error::NothingToLookFor { name: name.into() });
    }
    for part in parts {
        let lower = hex(part);
        let mut forms = vec![
            (Form::Raw, part.to_vec()),
            (Form::Reversed, part.iter().rev().copied().collect()),
            (Form::UpperHex, lower.to_uppercase().into_bytes()),
            (Form::Hex, lower.into_bytes()),
        ];
        forms.extend(base64_anywhere(part).into_iter().map(|text| (Form::Base64, text)));
        needles.extend(forms.into_iter().map(|(form, bytes)| Needle {
            name: name.into(),
            form,
            bytes: Zeroizing::new(bytes),
        }));
    }
    Ok(())
}

/// Takes stretches of a payload that cannot be found by chance: with many different bytes.
fn samples(plain: &[u8]) -> Vec<&[u8]> {
    let different = |stretch: &[u8]| {
        let mut seen = [false; 256];
        stretch.iter().for_each(|byte| seen[usize::from(*byte)] = true);
        seen.iter().filter(|seen| **seen).count()
    };
    let all: Vec<&[u8]> =
        plain.chunks_exact(SAMPLE).filter(|stretch| different(stretch) >= SAMPLE / 3).collect();
    all.iter().copied().step_by(all.len().div_ceil(SAMPLES).max(1)).collect()
}

/// Returns what the bytes look like inside any Base64 text: for each of the three places in a group of four digits
/// where they may start, and for each alphabet, the digits that depend on nothing before or behind.
fn base64_anywhere(bytes: &[u8]) -> Vec<Vec<u8>> {
    const DIGITS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut texts: Vec<Vec<u8>> = Vec::new();
    for before in 0..3_usize {
        let bits = 8 * bytes.len();
        // The first digit that lies wholly in the bytes starts this many bits into them.
        let first = (6 - 8 * before % 6) % 6;
        let sextet = |at: usize| {
            (at..at + 6).fold(0, |value, bit| value << 1 | usize::from(bytes[bit / 8] >> (7 - bit % 8) & 1))
        };
        let sextets: Vec<usize> = (first..=bits - 6).step_by(6).map(sextet).collect();
        for last in [b"+/", b"-_"] {
            let digit = |value: &usize| DIGITS.get(*value).copied().unwrap_or_else(|| last[value - 62]);
            let text: Vec<u8> = sextets.iter().map(digit).collect();
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64ct::{Base64, Base64UrlUnpadded, Encoding as _};

    fn noise(length: usize, seed: u32) -> Vec<u8> {
        let mut state = 2 * seed + 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (state >> 11) as u8
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn each_form_of_a_payload_and_of_a_secret_is_found_where_it_is() {
        let (kernel, key) = (noise(100_000, 1), noise(32, 2));
        let scan = LeakScan::new(&[("kernel", &kernel)], &[("key", &key)]).unwrap();
        let background = noise(300_000, 3);
        assert_eq!(scan.scan(&background), []);
        let forms: [(Form, Vec<u8>); 5] = [
            (Form::Raw, key.clone()),
            (Form::Reversed, key.iter().rev().copied().collect()),
            (Form::Hex, hex(&key).into_bytes()),
            (Form::UpperHex, hex(&key).to_uppercase().into_bytes()),
            (Form::Base64, Base64::encode_string(&key).into_bytes()),
        ];
        for (form, text) in forms {
            let mut leaky = background.clone();
            leaky[77_777..77_777 + text.len()].copy_from_slice(&text);
            let found = scan.scan(&leaky);
            let first = found.first().unwrap_or_else(|| panic!("{form:?} was not found"));
            assert_eq!((first.name.as_str(), first.form), ("key", form));
            assert!((77_777..77_777 + text.len()).contains(&first.offset));
        }
        let mut leaky = background;
        leaky[1000..51_000].copy_from_slice(&kernel[..50_000]);
        let found = scan.scan(&leaky);
        assert!(found.len() >= SAMPLES / 2 - 1, "{}", found.len());
        assert!(found.iter().all(|finding| finding.name == "kernel" && finding.form == Form::Raw));
    }

    #[test]
    fn base64_is_found_wherever_the_secret_starts_in_the_text_and_in_either_alphabet() {
        let key = noise(32, 9);
        let scan = LeakScan::new(&[], &[("key", &key)]).unwrap();
        for before in 0..7 {
            let bytes = [noise(before, 4), key.clone(), noise(9, 5)].concat();
            for text in [Base64::encode_string(&bytes), Base64UrlUnpadded::encode_string(&bytes)] {
                let found = scan.scan(text.as_bytes());
                assert!(found.iter().any(|it| it.form == Form::Base64), "{before}: {text}");
            }
        }
    }

    #[test]
    fn any_half_of_a_secret_is_a_leak() {
        let key = noise(40, 6);
        let scan = LeakScan::new(&[], &[("key", &key)]).unwrap();
        for start in [0, 8, 16, 24] {
            assert_eq!(scan.scan(&key[start..start + 16]).len(), 1, "{start}");
        }
        for start in 0..=16 {
            assert_ne!(scan.scan(&key[start..start + 24]), [], "{start}");
        }
        assert_eq!(scan.scan(&key[1..16]), []);
    }

    #[test]
    fn the_control_finds_all_that_it_plants() {
        let (kernel, key) = (noise(100_000, 1), noise(32, 2));
        let scan = LeakScan::new(&[("kernel", &kernel)], &[("key", &key)]).unwrap();
        assert!(scan.patterns() > 19 * 7, "{}", scan.patterns());
        for background in [noise(1_000_000, 7), Vec::new()] {
            assert_eq!(scan.control(&background), scan.patterns());
        }
    }

    #[test]
    fn what_cannot_be_looked_for_is_refused_by_name() {
        for (payloads, secrets) in [
            (vec![("zeros", [0; 5000].as_slice())], vec![]),
            (vec![("short", &[1, 2, 3][..])], vec![]),
            (vec![], vec![("pin", b"1234".as_slice())]),
        ] {
            let name = payloads.iter().chain(&secrets).next().unwrap().0;
            let error = LeakScan::new(&payloads, &secrets).err().unwrap();
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn files_are_scanned_but_for_what_is_passed_over() {
        let key = noise(32, 8);
        let scan = LeakScan::new(&[], &[("key", &key)]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, [noise(64, 1), key, noise(64, 2)].concat()).unwrap();
        let found = scan.scan_file(&path, &[]).unwrap();
        assert_eq!((found.len(), found[0].offset, &found[0].path), (3, 64, &path));
        assert_eq!(found[0].to_string(), format!("key as it is at 0x40 of {}", path.display()));
        assert_eq!(scan.scan_file(&path, &[Region::new(64, 32)]).unwrap(), []);
        assert_eq!(scan.scan_file(&path, &[Region::new(0, 64), Region::new(96, 900)]).unwrap().len(), 3);
    }
}
