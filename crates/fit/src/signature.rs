//! The signature of a configuration: what it must cover, and whether it does.
//!
//! A signature is over stretches of the file, in the order in which they lie there:
//!
//! - of each *listed* node its beginning with its name, its properties but `data` and its like, and its end;
//! - of each node directly in a listed one, its beginning with its name, and its end;
//! - the end of the structure; and then the first bytes of the strings, as many as `hashed-strings` says.
//!
//! The signature node says in `hashed-nodes` which nodes are listed, and nothing signs that node. So the list is not
//! believed: what the configuration uses decides what has to be listed, and `hashed-nodes` has to say just that.

use crate::Error;
use crate::key::{Key, Padding};
use crate::tree::{Node, Tree, texts};
use sha2::{Digest as _, Sha256};

/// Properties that no signature covers, wherever they stand.
pub(crate) const NOT_COVERED: [&str; 4] = ["data", "data-size", "data-position", "data-offset"];
/// How many signatures of a configuration are looked at.
const MAX_SIGNATURES: usize = 8;

/// Verifies the signature of a configuration, which uses `used`: the nodes of its images and of their hashes. Returns the
/// path of the signature, and its algorithm.
pub(crate) fn verify(
    tree: &Tree<'_>,
    configuration: &Node<'_>,
    used: &[&Node<'_>],
    key: &Key,
) -> Result<(String, String), Error> {
    let mut refused = None;
    for (number, node) in tree.children(configuration).enumerate() {
        if !node.name.starts_with("signature") || number >= MAX_SIGNATURES {
            return Err(Error::Unsupported {
                node: configuration.path.clone(),
                what: format!("a node `{}`", node.name),
            });
        }
        match verify_one(tree, configuration, used, node, key) {
            Ok(algorithm) => return Ok((node.path.clone(), algorithm)),
            // The first says more than those that were added to it.
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    Err(refused.unwrap_or_else(|| Error::Unsigned {
        configuration: configuration.path.clone(),
        image_signed: used
            .iter()
            .any(|node| tree.children(node).any(|child| child.name.starts_with("signature"))),
    }))
}

fn verify_one(
    tree: &Tree<'_>,
    configuration: &Node<'_>,
    used: &[&Node<'_>],
    signature: &Node<'_>,
    key: &Key,
) -> Result<String, Error> {
    let algorithm = signature.text("algo")?;
    let bits = match algorithm {
        "sha256,rsa2048" => 2048,
        "sha256,rsa3072" => 3072,
        "sha256,rsa4096" => 4096,
        found => {
            let taken = "sha256 with rsa2048, rsa3072 or rsa4096";
            return Err(Error::Algorithm { node: signature.path.clone(), found: found.into(), taken });
        }
    };
    let padding = match signature.property("padding").map(|_| signature.text("padding")).transpose()? {
        None | Some("pkcs-1.5") => Padding::Pkcs15,
        Some("pss") => Padding::Pss,
        Some(_) => return Err(signature.odd("padding", "it is neither `pkcs-1.5` nor `pss`")),
    };
    let value = signature.value("value")?;
    let root = tree.root()?;
    let listed: Vec<&Node<'_>> = [root, configuration].into_iter().chain(used.iter().copied()).collect();
    check_list(signature, &listed)?;
    let strings = strings(tree, signature, &listed)?;
    if bits != key.bits() {
        return Err(Error::KeyLength {
            node: signature.path.clone(),
            said: algorithm.into(),
            bits: key.bits(),
        });
    }
    let mut hash = Sha256::new();
    cover(tree, root, 0, &listed, &mut hash);
    for range in [tree.end.clone(), strings] {
        hash.update(tree.bytes.get(range).unwrap_or_default());
    }
    if !key.verifies(padding, &hash.finalize().into(), value) {
        return Err(Error::Signature { node: signature.path.clone() });
    }
    Ok(match padding {
        Padding::Pkcs15 => algorithm.into(),
        Padding::Pss => format!("{algorithm},pss"),
    })
}

/// Checks that `hashed-nodes` names these nodes, each once, and no others.
fn check_list(signature: &Node<'_>, listed: &[&Node<'_>]) -> Result<(), Error> {
    let said = texts(signature.value("hashed-nodes")?)
        .ok_or_else(|| signature.odd("hashed-nodes", "it is no list of texts that a NUL ends"))?;
    let name = |node: &str| node.to_owned();
    if let Some(missing) = listed.iter().find(|node| !said.contains(&node.path.as_str())) {
        return Err(Error::NotCovered { signature: name(&signature.path), node: name(&missing.path) });
    }
    if let Some(other) = said.iter().find(|path| !listed.iter().any(|node| node.path == **path)) {
        return Err(Error::CoversOther { signature: name(&signature.path), node: name(other) });
    }
    if said.len() != listed.len() {
        return Err(signature.odd("hashed-nodes", "it names a node twice"));
    }
    Ok(())
}

/// Returns the strings that are signed, which have to hold the names of everything that is.
fn strings(
    tree: &Tree<'_>,
    signature: &Node<'_>,
    listed: &[&Node<'_>],
) -> Result<std::ops::Range<usize>, Error> {
    let said = signature.value("hashed-strings")?;
    let words = match said {
        [a, b, c, d, e, f, g, h] => {
            (u32::from_be_bytes([*a, *b, *c, *d]), u32::from_be_bytes([*e, *f, *g, *h]))
        }
        _ => return Err(signature.odd("hashed-strings", "it is not two numbers")),
    };
    let (start, size) = (words.0, words.1 as usize);
    if start != 0 || size > tree.strings.len() {
        return Err(signature.odd("hashed-strings", "it leaves the strings of the tree"));
    }
    let beyond = |node: &&&Node<'_>| node.properties.iter().any(|property| property.name_end > size);
    if let Some(node) = listed.iter().find(beyond) {
        return Err(Error::NotCovered {
            signature: signature.path.clone(),
            node: format!("a name of a property of {}", node.path),
        });
    }
    Ok(tree.strings.start..tree.strings.start + size)
}

/// Hashes what is covered of a node and of all in it. `wanted` is 2 in a listed node, 1 in a node directly in one.
fn cover(tree: &Tree<'_>, node: &Node<'_>, wanted: u32, listed: &[&Node<'_>], hash: &mut Sha256) {
    let is_listed = listed.iter().any(|one| one.path == node.path);
    let wanted = if is_listed { 2_u32 } else { wanted.saturating_sub(1) };
    let mut put = |range: std::ops::Range<usize>| hash.update(tree.bytes.get(range).unwrap_or_default());
    if wanted > 0 {
        put(node.begin.clone());
    }
    if wanted == 2 {
        node.properties
            .iter()
            .filter(|property| !NOT_COVERED.contains(&property.name))
            .for_each(|property| put(property.place.clone()));
    }
    tree.children(node).for_each(|child| cover(tree, child, wanted, listed, hash));
    if wanted > 0 {
        hash.update(tree.bytes.get(node.end.clone()).unwrap_or_default());
    }
}
