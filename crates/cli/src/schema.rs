//! `shipway schema`: the manifest's JSON Schema, of this very command's version.

use std::io::Write as _;

use shipway_domain::manifest;

use crate::exit::Exit;

/// The schema's file, as `init` writes it beside the manifest.
pub(crate) const FILE: &str = "shipway.schema.json";

/// Prints it.
pub(crate) fn run() -> Exit {
    // A reader that went away, like `head`, has what it wanted.
    let _ = std::io::stdout().lock().write_all(text().as_bytes());
    Exit::Done
}

/// The schema's text.
pub(crate) fn text() -> String {
    format!("{:#}\n", manifest::schema())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_the_file_of_the_docs() {
        let file = std::env::var("CARGO_MANIFEST_DIR").unwrap() + "/../../docs/manifest.schema.json";
        assert!(text() == std::fs::read_to_string(file).unwrap());
    }
}
