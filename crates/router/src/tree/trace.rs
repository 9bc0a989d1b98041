//! What `explain` listens to, and what a plain look-up compiles away.

/// Hears what the matcher tries.
pub(crate) trait Trace {
    /// A look-up of `path` begins.
    fn begin(&mut self, path: &[u8]);

    fn tried(&mut self, tried: Tried);
}

/// Hears nothing.
pub(crate) struct Silent;

impl Trace for Silent {
    #[inline(always)]
    fn begin(&mut self, _path: &[u8]) {}

    #[inline(always)]
    fn tried(&mut self, _tried: Tried) {}
}

/// One decision of the matcher.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tried {
    /// The node at which it was made.
    pub(crate) node: u32,
    /// The segment it was about.
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) choice: Choice,
    pub(crate) fit: Fit,
}

/// What was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// The literal children, all at once.
    Static,
    /// The child at this place of the list of constrained or affixed parameters.
    Special(u32),
    /// The plain parameter.
    Plain,
    /// The catch-all.
    CatchAll,
    /// The end of the path: is there a value here?
    End,
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fit {
    Yes,
    /// No literal child is called so.
    NoSuchText,
    /// A parameter is never empty.
    Empty,
    /// The literal text around the parameter is missing.
    Affix,
    /// The constraint refuses the value.
    Constraint,
    /// Patterns go on from here, but none ends here.
    NothingEndsHere,
}
