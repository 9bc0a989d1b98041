//! Stable error codes.

use std::fmt;

/// A stable name for one kind of problem: programs match on it, the manual explains it.
///
/// This crate owns `H-CFG-001` to `H-CFG-099`; a program adds its own with [`Code::new`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code {
    id: &'static str,
    title: &'static str,
}

impl Code {
    /// A code of the program's own; `title` is the line the manual lists it under.
    pub const fn new(id: &'static str, title: &'static str) -> Self {
        Self { id, title }
    }

    /// `H-CFG-004`.
    pub const fn id(self) -> &'static str {
        self.id
    }

    /// What the code stands for, in a few words.
    pub const fn title(self) -> &'static str {
        self.title
    }

    /// Where the manual explains it.
    pub fn docs(self) -> String {
        format!("{DOCS}#{}", self.id.to_ascii_lowercase())
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id)
    }
}

/// The codes of this crate.
pub mod codes {
    use super::Code;

    /// The file that was asked for does not exist.
    pub const FILE_NOT_FOUND: Code = Code::new("H-CFG-001", "configuration file not found");
    /// The file exists but cannot be used: rights, size, not text.
    pub const FILE_UNREADABLE: Code = Code::new("H-CFG-002", "configuration file unreadable");
    /// The text breaks the rules of its format.
    pub const SYNTAX: Code = Code::new("H-CFG-003", "syntax error");
    /// A key that nothing reads.
    pub const UNKNOWN_KEY: Code = Code::new("H-CFG-004", "unknown key");
    /// A value of another type than the key takes.
    pub const WRONG_TYPE: Code = Code::new("H-CFG-005", "wrong type");
    /// A value of the right type that the key cannot take.
    pub const INVALID_VALUE: Code = Code::new("H-CFG-006", "invalid value");
    /// A key without which its table means nothing.
    pub const MISSING_KEY: Code = Code::new("H-CFG-007", "missing key");
    /// The same key twice in one table.
    pub const DUPLICATE_KEY: Code = Code::new("H-CFG-008", "duplicate key");
    /// A word that is none of those allowed.
    pub const UNKNOWN_VARIANT: Code = Code::new("H-CFG-009", "value is not one of those allowed");
    /// A variable or an argument that cannot be applied.
    pub const BAD_OVERRIDE: Code = Code::new("H-CFG-010", "override cannot be applied");
    /// A file whose format is not known.
    pub const UNKNOWN_FORMAT: Code = Code::new("H-CFG-011", "unknown file format");
    /// Nesting deeper than the limit.
    pub const TOO_DEEP: Code = Code::new("H-CFG-012", "values nested too deeply");

    /// All of them, for the manual.
    pub const ALL: &[Code] = &[
        FILE_NOT_FOUND,
        FILE_UNREADABLE,
        SYNTAX,
        UNKNOWN_KEY,
        WRONG_TYPE,
        INVALID_VALUE,
        MISSING_KEY,
        DUPLICATE_KEY,
        UNKNOWN_VARIANT,
        BAD_OVERRIDE,
        UNKNOWN_FORMAT,
        TOO_DEEP,
    ];
}

const DOCS: &str = "docs/errors.md";
