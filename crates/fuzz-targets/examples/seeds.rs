//! Writes what the project's own makers make into the corpora, as `made-NN`: `cargo run -p fuzz-targets --example seeds`.
//!
//! What is sealed has a random key, so a second run writes other bytes for the same.

use std::path::Path;

fn main() -> std::io::Result<()> {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    for target in fuzz_targets::TARGETS {
        let folder = corpora.join(target.name);
        std::fs::create_dir_all(&folder)?;
        for (number, seed) in (target.seeds)().into_iter().enumerate() {
            std::fs::write(folder.join(format!("made-{number:02}")), seed)?;
        }
    }
    Ok(())
}
