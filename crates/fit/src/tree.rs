//! The tree as it lies in the file: every token with its place, since a signature is over places.
//!
//! A parser for device trees gives values. What is signed here are stretches of the file, so this one keeps where each
//! node and property begins and ends, and takes only the one layout that `mkimage` writes: header, no reservations,
//! structure, strings, zeros to the end of the file. What another reader could read in another way is refused: names
//! that are there twice, unit addresses, properties behind nodes, NOPs.

use crate::Error;
use std::ops::Range;

const MAGIC: u32 = 0xD00D_FEED;
const VERSION: u32 = 17;
const COMPATIBLE: u32 = 16;
/// The header, and the end of the list of reservations behind it.
const RESERVATIONS: usize = 40;
const STRUCTURE: usize = 56;

const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROP: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;

/// The largest tree, in bytes: U-Boot's `CONFIG_FIT_SIGNATURE_MAX_SIZE`.
const MAX_SIZE: usize = 256 << 20;
/// How deep nodes may lie in each other; a FIT needs 4.
const MAX_DEPTH: usize = 8;
/// How many nodes there may be.
const MAX_NODES: usize = 4096;
/// Most properties of a node, and most bytes of a property's name: so that no tree takes long to read.
const MAX_PROPERTIES: usize = 64;
const MAX_NAME: usize = 64;
/// How long a path may be, in bytes: U-Boot takes 200 with its end.
const MAX_PATH: usize = 190;

/// A property.
#[derive(Clone, Debug)]
pub(crate) struct Property<'a> {
    pub(crate) name: &'a str,
    /// Where the name ends in the block of strings, with its NUL.
    pub(crate) name_end: usize,
    pub(crate) value: &'a [u8],
    /// The whole token in the file.
    pub(crate) place: Range<usize>,
}

/// A node.
#[derive(Clone, Debug)]
pub(crate) struct Node<'a> {
    pub(crate) name: &'a str,
    pub(crate) path: String,
    /// The token that begins it, with its name, in the file.
    pub(crate) begin: Range<usize>,
    /// The token that ends it.
    pub(crate) end: Range<usize>,
    pub(crate) properties: Vec<Property<'a>>,
    /// Its nodes, as places in [`Tree::nodes`].
    pub(crate) children: Vec<usize>,
}

impl<'a> Node<'a> {
    /// Returns a property.
    pub(crate) fn property(&self, name: &str) -> Option<&Property<'a>> {
        self.properties.iter().find(|property| property.name == name)
    }

    /// Returns the value of a property that has to be there.
    pub(crate) fn value(&self, name: &'static str) -> Result<&'a [u8], Error> {
        let property = self.property(name).map(|property| property.value);
        property.ok_or_else(|| Error::Missing { node: self.path.clone(), property: name })
    }

    /// Returns the one text that a property has to hold.
    pub(crate) fn text(&self, name: &'static str) -> Result<&'a str, Error> {
        match texts(self.value(name)?).as_deref() {
            Some([text]) => Ok(text),
            _ => Err(self.odd(name, "it is not one text that a NUL ends")),
        }
    }

    /// Makes the refusal of a property.
    pub(crate) fn odd(&self, property: &'static str, reason: &'static str) -> Error {
        Error::Property { node: self.path.clone(), property, reason }
    }
}

/// Splits a value into its texts; `None` if it does not end with a NUL, or is no ASCII that can be printed.
pub(crate) fn texts(value: &[u8]) -> Option<Vec<&str>> {
    let text = std::str::from_utf8(value.strip_suffix(&[0])?).ok()?;
    let texts: Vec<&str> = text.split('\0').collect();
    texts.iter().all(|text| text.bytes().all(|byte| matches!(byte, b' '..=b'~'))).then_some(texts)
}

/// A tree.
#[derive(Clone, Debug)]
pub(crate) struct Tree<'a> {
    pub(crate) bytes: &'a [u8],
    /// All nodes; the first is the root.
    pub(crate) nodes: Vec<Node<'a>>,
    /// The token that ends the structure.
    pub(crate) end: Range<usize>,
    /// The block of strings.
    pub(crate) strings: Range<usize>,
}

impl<'a> Tree<'a> {
    /// Reads a tree.
    pub(crate) fn parse(untrusted: &'a [u8]) -> Result<Self, Error> {
        let (structure, strings) = blocks(untrusted)?;
        let mut reader =
            Reader { bytes: untrusted, at: structure.start, end: structure.end, strings: strings.clone() };
        let mut nodes: Vec<Node<'a>> = Vec::new();
        let mut open: Vec<usize> = Vec::new();
        loop {
            let start = reader.at;
            match reader.word()? {
                BEGIN_NODE => {
                    let name = reader.name()?;
                    let parent = open.last().and_then(|index| nodes.get(*index));
                    if parent.is_none() && !nodes.is_empty() {
                        return Err(malformed(start, "there is a second root"));
                    }
                    let path = path(parent, name, start)?;
                    if parent.is_some_and(|parent| {
                        parent
                            .children
                            .iter()
                            .any(|child| nodes.get(*child).is_some_and(|node| node.name == name))
                    }) {
                        return Err(Error::Twice { what: path });
                    }
                    if open.len() == MAX_DEPTH || nodes.len() == MAX_NODES {
                        return Err(malformed(start, "there are more nodes, or deeper ones, than a FIT has"));
                    }
                    let index = nodes.len();
                    if let Some(parent) = open.last().and_then(|index| nodes.get_mut(*index)) {
                        parent.children.push(index);
                    }
                    open.push(index);
                    let (begin, end) = (start..reader.at, 0..0);
                    nodes.push(Node { name, path, begin, end, properties: Vec::new(), children: Vec::new() });
                }
                PROP => {
                    let property = reader.property(start)?;
                    let Some(node) = open.last().and_then(|index| nodes.get_mut(*index)) else {
                        return Err(malformed(start, "there is a property outside of all nodes"));
                    };
                    if !node.children.is_empty() {
                        return Err(malformed(start, "there is a property behind a node"));
                    }
                    if node.properties.len() == MAX_PROPERTIES {
                        return Err(malformed(start, "a node has more properties than one of a FIT has"));
                    }
                    if node.property(property.name).is_some() {
                        return Err(Error::Twice { what: format!("{} in {}", property.name, node.path) });
                    }
                    node.properties.push(property);
                }
                END_NODE => {
                    let Some(node) = open.pop().and_then(|index| nodes.get_mut(index)) else {
                        return Err(malformed(start, "there is an end of a node that did not begin"));
                    };
                    node.end = start..reader.at;
                }
                END if open.is_empty() && !nodes.is_empty() && reader.at == structure.end => {
                    return Ok(Self { bytes: untrusted, nodes, end: start..reader.at, strings });
                }
                END => {
                    return Err(malformed(
                        start,
                        "the structure ends before its block does, or inside a node",
                    ));
                }
                NOP => return Err(malformed(start, "there is a NOP, which `mkimage` does not write")),
                _ => return Err(malformed(start, "there is a token that does not exist")),
            }
        }
    }

    /// Returns the root.
    pub(crate) fn root(&self) -> Result<&Node<'a>, Error> {
        self.nodes.first().ok_or(malformed(STRUCTURE, "there is no root"))
    }

    /// Returns the nodes in a node.
    pub(crate) fn children<'t>(&'t self, node: &'t Node<'a>) -> impl Iterator<Item = &'t Node<'a>> {
        node.children.iter().filter_map(|index| self.nodes.get(*index))
    }

    /// Returns the node of a name in a node.
    pub(crate) fn child<'t>(&'t self, node: &'t Node<'a>, name: &str) -> Option<&'t Node<'a>> {
        self.children(node).find(|child| child.name == name)
    }
}

fn malformed(offset: usize, reason: &'static str) -> Error {
    Error::Malformed { offset, reason }
}

/// Returns where structure and strings lie.
fn blocks(untrusted: &[u8]) -> Result<(Range<usize>, Range<usize>), Error> {
    let field = |index: usize| {
        let word = untrusted.get(index * 4..).and_then(|rest| rest.first_chunk());
        word.map(|word| u32::from_be_bytes(*word)).ok_or(Error::NoTree)
    };
    if field(0)? != MAGIC {
        return Err(Error::NoTree);
    }
    let (said, found) = (field(1)? as usize, untrusted.len());
    if said != found {
        return Err(Error::Size { said, found });
    }
    if said > MAX_SIZE {
        return Err(malformed(4, "it has more than 256 MiB"));
    }
    if (field(5)?, field(6)?) != (VERSION, COMPATIBLE) {
        return Err(malformed(20, "it is not of version 17"));
    }
    let (structure, strings) = (field(2)? as usize, field(3)? as usize);
    let (strings_size, structure_size) = (field(8)? as usize, field(9)? as usize);
    let structure_end = structure.checked_add(structure_size);
    let strings_end = strings.checked_add(strings_size).filter(|end| *end <= found);
    let one_behind_the_other = field(4)? as usize == RESERVATIONS
        && structure == STRUCTURE
        && structure_size.is_multiple_of(4)
        && structure_end == Some(strings);
    let Some(strings_end) = strings_end.filter(|_| one_behind_the_other) else {
        return Err(malformed(8, "its parts do not lie one behind the other, as `mkimage` lays them"));
    };
    let zeros =
        |range: Range<usize>| untrusted.get(range).is_some_and(|bytes| bytes.iter().all(|byte| *byte == 0));
    if !zeros(RESERVATIONS..STRUCTURE) {
        return Err(malformed(RESERVATIONS, "it reserves memory"));
    }
    if !zeros(strings_end..found) {
        return Err(malformed(strings_end, "something lies behind the tree"));
    }
    Ok((structure..strings, strings..strings_end))
}

/// Returns the path of a node, whose name is one that every reader takes for the same.
fn path(parent: Option<&Node<'_>>, name: &str, offset: usize) -> Result<String, Error> {
    let Some(parent) = parent else {
        return if name.is_empty() { Ok("/".into()) } else { Err(malformed(offset, "the root has a name")) };
    };
    // First, since an error says the name.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b",._+-@".contains(&byte);
    if name.is_empty() || !name.bytes().all(plain) {
        return Err(malformed(offset, "a node has a name that no node may have"));
    }
    let path = format!("{}/{name}", parent.path.trim_end_matches('/'));
    if path.len() > MAX_PATH {
        return Err(malformed(offset, "a node has a name that is too long"));
    }
    if name.contains('@') {
        return Err(Error::UnitAddress { node: path });
    }
    Ok(path)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
    strings: Range<usize>,
}

impl<'a> Reader<'a> {
    fn take(&mut self, size: usize) -> Result<&'a [u8], Error> {
        let start = self.at;
        let end = start.checked_add(size).filter(|end| *end <= self.end);
        let taken = end.and_then(|end| self.bytes.get(start..end));
        self.at = start.saturating_add(size);
        taken.ok_or(malformed(start, "the structure ends too early"))
    }

    fn word(&mut self) -> Result<u32, Error> {
        let start = self.at;
        let word = self.take(4)?.first_chunk().ok_or(malformed(start, "the structure ends too early"))?;
        Ok(u32::from_be_bytes(*word))
    }

    /// Goes to the next word. What is skipped is no zeros where `mkimage` put a longer value in, and nobody reads it.
    fn align(&mut self) -> Result<(), Error> {
        self.take(self.at.next_multiple_of(4) - self.at).map(|_| ())
    }

    fn name(&mut self) -> Result<&'a str, Error> {
        let start = self.at;
        let rest = self.bytes.get(start..self.end).unwrap_or_default();
        let length = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
        let name = self.take(length + 1)?;
        self.align()?;
        std::str::from_utf8(&name[..length])
            .map_err(|_| malformed(start, "a node has a name that no node may have"))
    }

    fn property(&mut self, start: usize) -> Result<Property<'a>, Error> {
        let (size, offset) = (self.word()? as usize, self.word()? as usize);
        let value = self.take(size)?;
        self.align()?;
        let strings = self.bytes.get(self.strings.clone()).unwrap_or_default();
        let name = strings.get(offset..).and_then(|rest| {
            let length = rest.iter().take(MAX_NAME + 1).position(|byte| *byte == 0)?;
            std::str::from_utf8(rest.get(..length)?).ok()
        });
        // The characters of the Devicetree Specification 0.4, section 2.2.4.1: other readers refuse all others.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b",._+?#-".contains(&byte);
        let plain = |name: &&str| !name.is_empty() && name.bytes().all(plain);
        let name = name.filter(plain).ok_or(malformed(start, "a property has no name that can be read"))?;
        Ok(Property { name, name_end: offset + name.len() + 1, value, place: start..self.at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree whose root has so many properties with names of this length, and one node of this name.
    fn tree(properties: usize, length: usize, node: &str) -> Vec<u8> {
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>();
        let mut strings = Vec::new();
        let mut structure = words(&[BEGIN_NODE, 0]);
        for number in 0..properties {
            structure.extend(words(&[PROP, 0, u32::try_from(strings.len()).unwrap()]));
            strings.extend(format!("{number:0length$}\0").into_bytes());
        }
        structure.extend(words(&[BEGIN_NODE]));
        structure.extend(node.bytes());
        structure.resize((structure.len() + 1).next_multiple_of(4), 0);
        structure.extend(words(&[END_NODE, END_NODE, END]));
        let (structure_size, strings_size) = (structure.len(), strings.len());
        let strings_at = STRUCTURE + structure_size;
        let all = strings_at + strings_size;
        let header = [all, STRUCTURE, strings_at, RESERVATIONS, 17, 16, 0, strings_size, structure_size];
        let mut tree = words(&[MAGIC]);
        header.into_iter().for_each(|field| tree.extend(words(&[u32::try_from(field).unwrap()])));
        tree.resize(STRUCTURE, 0);
        tree.extend(structure);
        tree.extend(strings);
        tree
    }

    #[test]
    fn a_tree_that_takes_long_to_read_is_refused() {
        assert!(Tree::parse(&tree(MAX_PROPERTIES, MAX_NAME, "node")).is_ok());
        for (properties, length) in [(MAX_PROPERTIES + 1, 8), (1, MAX_NAME + 1)] {
            let refused = Tree::parse(&tree(properties, length, "node")).err();
            assert!(matches!(refused, Some(Error::Malformed { .. })), "{properties}, {length}: {refused:?}");
        }
    }

    #[test]
    fn no_error_says_a_name_that_a_terminal_obeys() {
        assert!(matches!(Tree::parse(&tree(0, 0, "node@1")).err(), Some(Error::UnitAddress { .. })));
        for name in ["\x1b[2J@1", "node@\x07", "node@1\n"] {
            let refused = Tree::parse(&tree(0, 0, name)).err();
            assert!(matches!(refused, Some(Error::Malformed { .. })), "{name:?}: {refused:?}");
        }
    }
}
