//! From the bytes of a fuzzer to patterns, paths and hosts.
//!
//! All are made of few words, so that they meet often.

/// Takes bytes from the front; zeros when they run out.
pub(super) struct Source<'d> {
    data: &'d [u8],
}

impl<'d> Source<'d> {
    pub(super) fn new(data: &'d [u8]) -> Self {
        Self { data }
    }

    fn byte(&mut self) -> u8 {
        let (first, rest) = self.data.split_first().unwrap_or((&0, &[]));
        self.data = rest;
        *first
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }

    fn pick<'w>(&mut self, words: &[&'w str]) -> &'w str {
        words[self.below(words.len())]
    }

    /// A pattern that is well formed, for the tree and for the router.
    pub(super) fn pattern(&mut self) -> String {
        let mut pattern = String::new();
        let count = 1 + self.below(4);
        for at in 0..count {
            pattern.push('/');
            let last = at + 1 == count;
            match self.below(8) {
                0..=2 => pattern.push_str(self.pick(WORDS)),
                3 => pattern.push_str(&format!("{{p{at}}}")),
                4 | 5 => {
                    let constraint = self.pick(CONSTRAINTS);
                    pattern.push_str(&format!("{{p{at}:{constraint}}}"));
                }
                6 => {
                    let (prefix, suffix) = (self.pick(AFFIXES), self.pick(AFFIXES));
                    let constraint = self.pick(&["", "", ":int", ":alpha"]);
                    pattern.push_str(&format!("{prefix}{{p{at}{constraint}}}{suffix}"));
                }
                _ if last && self.below(2) == 0 => pattern.push_str("{*rest}"),
                // A slash at the end; in the middle two would follow each other.
                _ if last => {}
                _ => pattern.push('b'),
            }
        }
        pattern
    }

    /// A path made of the words of patterns and of some that fit their constraints.
    pub(super) fn path(&mut self) -> String {
        let mut path = String::new();
        for _ in 0..1 + self.below(5) {
            path.push('/');
            match self.below(3) {
                0 => path.push_str(self.pick(WORDS)),
                1 => path.push_str(self.pick(VALUES)),
                _ => {
                    path.push_str(self.pick(AFFIXES));
                    path.push_str(self.pick(VALUES));
                    path.push_str(self.pick(AFFIXES));
                }
            }
        }
        path
    }

    /// A path as a peer may send it: escapes, dots and slashes without rule.
    pub(super) fn raw_path(&mut self) -> String {
        let mut path = self.pick(&["/", "/", "/", "", "*"]).to_owned();
        for _ in 0..self.below(24) {
            path.push_str(self.pick(PIECES));
        }
        path
    }

    /// A host, or the pattern of one.
    pub(super) fn host(&mut self, is_pattern: bool) -> String {
        let labels = 1 + self.below(4);
        let label = |at: usize, source: &mut Self| match source.below(4) {
            0 if is_pattern && at == 0 => "*".to_owned(),
            1 if is_pattern => format!("{{h{at}}}"),
            _ => source.pick(LABELS).to_owned(),
        };
        (0..labels).map(|at| label(at, self)).collect::<Vec<_>>().join(".")
    }
}

const WORDS: &[&str] =
    &["a", "b", "ab", "7", "eight888", "a-word-above-sixteen", "a-word-below-sixteen"];
const VALUES: &[&str] = &[
    "",
    "7",
    "-7",
    "7f",
    "zebra",
    "aa",
    "ab",
    "abcd",
    "x.y",
    "%2F",
    "99999999999999999999",
    "\u{e9}",
];
const AFFIXES: &[&str] = &["", "a", "v", "ab", ".x"];
#[cfg(feature = "regex")]
const CONSTRAINTS: &[&str] = &[
    "uint",
    "int",
    "hex",
    "alpha",
    "alnum",
    "uuid",
    "len(2)",
    "len(1,3)",
    "regex([ab]+)",
    "regex(a.*)",
];
#[cfg(not(feature = "regex"))]
const CONSTRAINTS: &[&str] =
    &["uint", "int", "hex", "alpha", "alnum", "uuid", "len(2)", "len(1,3)"];
const PIECES: &[&str] = &[
    "/", "/", "//", "a", "b", "m", "7", ".", "..", "%2e", "%2E", "%2f", "%61", "%00", "%", "%4",
    "~", "\\", "{", "}", "*", ":", "eight888", "%C3%A9", "%c3%a9",
];
const LABELS: &[&str] = &["a", "b", "A", "test", "", "xn--x"];
