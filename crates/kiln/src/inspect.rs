//! `kiln inspect`: what an artefact says about itself.

use crate::Failure;
use clap::Args;
use release::look;
use serde_json::Value;
use std::path::PathBuf;

/// Shows what an artefact says about itself, as a tree.
///
/// Images, bare manifests, delegations, the list of revoked keys, packages, updates, releases, SBOM, provenance, public keys, sealed
/// content keys, what device and authority say to each other (request, ticket, certificate request, receipt, closing proof, device
/// certificate), fuses, and the flash of a device. Nothing is verified, and no key is needed: `kiln verify` verifies. Secrets are not
/// shown.
#[derive(Args, Debug)]
pub(crate) struct Inspect {
    /// A file or a folder
    path: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

impl Inspect {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let tree = look(&self.path)?;
        if self.json {
            println!("{tree:#}");
            return Ok(());
        }
        println!("{} (nothing of it is verified)", self.path.display());
        print!("{}", text(&tree, 1));
        Ok(())
    }
}

/// Writes a tree as lines, each level two blanks further in.
fn text(tree: &Value, depth: usize) -> String {
    let indent = "  ".repeat(depth);
    match tree {
        Value::Object(fields) => {
            let width = fields.iter().filter(|(_, value)| is_leaf(value)).map(|(name, _)| name.len()).max();
            let width = width.unwrap_or_default();
            let field = |(name, value): (&String, &Value)| match value {
                Value::Null => String::new(),
                value if is_leaf(value) => format!("{indent}{name:<width$}  {}\n", leaf(value)),
                value => format!("{indent}{name}\n{}", text(value, depth + 1)),
            };
            fields.iter().map(field).collect()
        }
        Value::Array(items) => items.iter().map(|item| text(item, depth)).collect::<Vec<_>>().join("\n"),
        value => format!("{indent}{}\n", leaf(value)),
    }
}

/// Tells whether a value fits on the line of its name.
fn is_leaf(value: &Value) -> bool {
    match value {
        Value::Object(_) => false,
        Value::Array(items) => items.iter().all(|item| !item.is_object()),
        _ => true,
    }
}

fn leaf(value: &Value) -> String {
    match value {
        Value::String(text) => text.chars().map(|c| if c.is_control() { '\u{FFFD}' } else { c }).collect(),
        Value::Array(items) if items.is_empty() => "none".into(),
        Value::Array(items) => items.iter().map(leaf).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}
