//! The parts of the manual that the program writes about itself.

mod cli;
mod config;
mod errors;
mod schema;

use clap::ValueEnum;

/// A part of the manual.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Every command and option (Markdown)
    Cli,
    /// Every key of the configuration (Markdown)
    Config,
    /// Every error code and exit code (Markdown)
    Errors,
    /// JSON Schema of the configuration, for editors
    Schema,
}

/// The text of a part.
#[must_use]
pub fn text(part: Part) -> String {
    match part {
        Part::Cli => cli::text(),
        Part::Config => config::text(),
        Part::Errors => errors::text(),
        Part::Schema => schema::text(),
    }
}

/// Escapes what would end a cell of a Markdown table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use std::{env, fs, path::Path};

    use super::*;

    /// The copies in the manual are what the program says; `HEARTH_BLESS=1` renews them.
    #[test]
    fn the_manual_has_not_drifted() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference");
        for (part, name) in [
            (Part::Cli, "cli.md"),
            (Part::Config, "config.md"),
            (Part::Errors, "errors.md"),
            (Part::Schema, "config.schema.json"),
        ] {
            let path = folder.join(name);
            let want = text(part);
            if env::var_os("HEARTH_BLESS").is_some() {
                fs::create_dir_all(&folder).unwrap();
                fs::write(&path, &want).unwrap();
            }
            let have = fs::read_to_string(&path).unwrap_or_default();
            assert!(
                have == want,
                "docs/reference/{name} is out of date; renew it: HEARTH_BLESS=1 cargo test -p \
                 hearth-server drifted"
            );
        }
    }

    /// Each code has its explanation, where messages say it is.
    #[test]
    fn every_code_is_explained() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors.md");
        let text = fs::read_to_string(path).unwrap();
        for code in crate::codes::config::ALL
            .iter()
            .chain(crate::codes::ALL)
            .chain(crate::codes::doctor::ALL)
        {
            let (first, rest) = code.title().split_at(1);
            let wanted = format!("### {}\n**{}{rest}.**", code.id(), first.to_uppercase());
            assert!(text.contains(&wanted), "docs/errors.md lacks: {wanted}");
        }
    }
}
