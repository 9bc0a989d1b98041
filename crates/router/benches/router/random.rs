//! Routes and paths that are the same in every run.

/// SplitMix64.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// A word of 3 to 14 letters, one of `count`.
    fn word(&mut self, count: usize) -> String {
        let mut word = Self(self.below(count) as u64);
        let len = 3 + word.below(12);
        (0..len).map(|_| char::from(b'a' + word.below(26) as u8)).collect()
    }

    /// Routes that `matchit` accepts (it refuses some catch-alls beside parameters): 1 to 6 segments, two in three
    /// literal, made of so many words; one in 20 ends in a
    /// catch-all.
    pub(crate) fn routes(&mut self, count: usize, words: usize) -> Vec<String> {
        let mut accepted = matchit::Router::new();
        let mut routes = Vec::new();
        while routes.len() < count {
            let mut route = String::new();
            for depth in 0..1 + self.below(6) {
                let segment = if depth > 0 && self.below(3) == 0 {
                    format!("{{p{depth}}}")
                } else {
                    self.word(words)
                };
                route.push_str(&format!("/{segment}"));
            }
            if self.below(20) == 0 {
                route.push_str("/{*rest}");
            }
            if accepted.insert(route.as_str(), ()).is_ok() {
                routes.push(route);
            }
        }
        routes
    }

    /// A path that the route matches.
    pub(crate) fn fill(&mut self, route: &str) -> String {
        let segments: Vec<String> = route
            .split('/')
            .map(|segment| match segment {
                s if s.starts_with("{*") => {
                    format!("{}/{}", self.word(1 << 20), self.word(1 << 20))
                }
                s if s.starts_with('{') => self.word(1 << 20),
                s => s.to_owned(),
            })
            .collect();
        segments.join("/")
    }

    /// The path with one letter changed, a segment more or a segment less.
    pub(crate) fn spoil(&mut self, path: &str) -> String {
        match self.below(3) {
            0 => format!("{path}/{}", self.word(1 << 20)),
            1 => path.rsplit_once('/').map_or("", |(before, _)| before).to_owned() + "/",
            _ => {
                let at = 1 + self.below(path.len().max(2) - 1);
                let change = |(place, char)| if place == at && char != '/' { '_' } else { char };
                path.char_indices().map(change).collect()
            }
        }
    }

    pub(crate) fn shuffle(&mut self, list: &mut [String]) {
        for at in (1..list.len()).rev() {
            list.swap(at, self.below(at + 1));
        }
    }
}
