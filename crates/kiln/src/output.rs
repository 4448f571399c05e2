//! What a command that succeeded prints.

use crate::Failure;
use serde_json::{Map, Value};
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

/// Prints facts: as lines of text, or as one JSON object. The keys of the object are the labels with `_` for
/// spaces.
pub(crate) fn print(json: bool, title: &str, facts: &[(&str, Value)]) {
    if json {
        let mut object = Map::from_iter([("result".to_owned(), Value::from("ok"))]);
        object.extend(facts.iter().map(|(label, value)| (label.replace(' ', "_"), value.clone())));
        println!("{:#}", Value::from(object));
        return;
    }
    println!("{title}");
    let width = facts.iter().map(|(label, _)| label.len()).max().unwrap_or_default();
    for (label, value) in facts {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Array(list) => list.iter().map(plain).collect::<Vec<_>>().join(", "),
            other => other.to_string(),
        };
        println!("  {label:<width$}  {text}");
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), String::from)
}

/// Has a person type a word before something that cannot be undone.
pub(crate) fn confirm(what: &str, word: &str, yes: bool) -> Result<(), Failure> {
    eprintln!("{what}");
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::new(
            "this cannot be undone, and nobody is there to ask",
            "Give --yes if you are sure.",
        ));
    }
    eprint!("This cannot be undone. Type `{word}` to go on: ");
    let mut answer = String::new();
    let asked = io::stderr().flush().and_then(|()| io::stdin().lock().read_line(&mut answer));
    match asked {
        Ok(_) if answer.trim() == word => Ok(()),
        _ => Err(Failure::new("nothing was done", format!("Type `{word}` when asked, or give --yes."))),
    }
}
