//! `explain`: what a refusal code means and what to do about it.

use crate::Failure;
use clap::Args;
use fail_code::FailCode;
use serde_json::json;

/// Explains a refusal code: its cause and its cure.
///
/// Without a code, lists them all.
#[derive(Args, Debug)]
pub struct Explain {
    /// The code as printed (`K0302`), its number (`302`) or its name (`signature-invalid`)
    code: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

impl Explain {
    /// Runs the command, which a person starts as `tool explain`.
    ///
    /// # Errors
    /// If the code is unknown; the failure names the nearest ones.
    pub fn run(&self, tool: &str) -> Result<(), Failure> {
        let codes = match &self.code {
            Some(text) => vec![find(text, tool)?],
            None => FailCode::ALL.to_vec(),
        };
        if self.json {
            let list: Vec<_> = codes.iter().map(|code| as_json(*code)).collect();
            println!("{:#}", serde_json::Value::from(list));
        } else if let (Some(_), [code]) = (&self.code, codes.as_slice()) {
            println!("K{:04} {}", code.number(), code.name());
            println!("  cause  {}", code.cause());
            println!("  cure   {}", code.cure());
        } else {
            codes
                .iter()
                .for_each(|code| println!("K{:04} {:<24} {}", code.number(), code.name(), code.cause()));
        }
        Ok(())
    }
}

fn as_json(code: FailCode) -> serde_json::Value {
    json!({
        "code": format!("K{:04}", code.number()),
        "number": code.number(),
        "name": code.name(),
        "cause": code.cause(),
        "cure": code.cure(),
    })
}

fn find(text: &str, tool: &str) -> Result<FailCode, Failure> {
    if let Some(code) = FailCode::parse(text).or_else(|| FailCode::parse(&text.to_lowercase())) {
        return Ok(code);
    }
    let near: Vec<String> =
        nearest(text).into_iter().map(|code| format!("K{:04} {}", code.number(), code.name())).collect();
    let cure = match near.as_slice() {
        [] => format!("`{tool} explain` lists them all."),
        near => format!("Did you mean {}?", near.join(" or ")),
    };
    Err(Failure::new(format!("there is no refusal code `{text}`"), cure))
}

/// Returns up to three codes whose name or printed form looks like `text`, the nearest first.
fn nearest(text: &str) -> Vec<FailCode> {
    let text = text.to_lowercase();
    let likeness = |code: &FailCode| {
        let number = format!("k{:04}", code.number());
        let within = if text.len() > 3 && code.name().contains(&text) { 0.95 } else { 0.0 };
        strsim::jaro_winkler(&text, code.name())
            .max(strsim::normalized_levenshtein(&text, &number))
            .max(within)
    };
    let mut all: Vec<(f64, FailCode)> = FailCode::ALL.iter().map(|code| (likeness(code), *code)).collect();
    all.retain(|(likeness, _)| *likeness >= 0.8);
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    all.into_iter().take(3).map(|(_, code)| code).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_found_in_every_form() {
        for text in ["K0302", "k0302", "302", "signature-invalid", "Signature-Invalid"] {
            assert_eq!(find(text, "kiln").unwrap(), FailCode::SignatureInvalid, "{text}");
        }
    }

    #[test]
    fn a_misspelt_code_names_its_neighbours() {
        assert_eq!(nearest("signature-invald").first(), Some(&FailCode::SignatureInvalid));
        assert!(nearest("rolled").contains(&FailCode::RolledBack));
        let failure = find("signature-invald", "kiln").unwrap_err();
        assert!(failure.to_string().contains("K0302"), "{failure}");
        let failure = find("zzzz", "kiln").unwrap_err();
        assert!(failure.to_string().contains("`kiln explain` lists them all"), "{failure}");
    }
}
