//! Documents of about 0.9 KB, the same for every engine, and the values that queries ask for.

/// A generator that gives the same numbers everywhere (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mixed(self.0)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

fn mixed(n: u64) -> u64 {
    let n = (n ^ n >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let n = (n ^ n >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    n ^ n >> 31
}

/// Values of `city`.
pub const CITIES: u64 = 1000;
/// Values of `kind`.
pub const KINDS: u64 = 20;
/// Above every value of `created`.
pub const CREATED_END: u64 = 1_000_000_000;
/// Above every value of `score`.
pub const SCORE_END: u64 = 1000;

const WORDS: u64 = 8000;
const BODY_BYTES: usize = 600;

pub fn email(id: u64) -> String {
    format!("user{:x}@example.org", mixed(id) >> 24)
}

pub fn city(n: u64) -> String {
    format!("city {n:03}")
}

pub fn kind(n: u64) -> String {
    format!("kind {n}")
}

/// Two or three syllables.
fn word(n: u64, out: &mut String) {
    const SYLLABLES: [&str; 32] = [
        "ba", "che", "di", "fo", "gu", "hai", "jea", "klo", "lou", "ma", "ne", "pi", "quo", "ru",
        "sta", "tre", "vi", "wo", "zu", "pla", "be", "cho", "du", "fai", "ge", "hou", "la", "mi",
        "no", "po", "ri", "sa",
    ];
    let mut rest = mixed(n ^ 0x57);
    for _ in 0..2 + rest % 2 {
        rest >>= 8;
        out.push_str(SYLLABLES[rest as usize % SYLLABLES.len()]);
    }
}

/// Small ones mostly, as words of a language come.
fn any_word(random: &mut Random, out: &mut String) {
    let bound = 1 + random.below(WORDS);
    word(random.below(bound), out);
}

pub fn document(id: u64) -> String {
    let random = &mut Random(id ^ 0x5EED);
    let mut body = String::with_capacity(BODY_BYTES + 16);
    while body.len() < BODY_BYTES {
        any_word(random, &mut body);
        body.push(' ');
    }
    body.pop();
    let text = |random: &mut Random| {
        let mut text = String::new();
        word(random.below(WORDS), &mut text);
        text
    };
    let (first, last, street) = (text(random), text(random), text(random));
    let tags = [text(random), text(random), text(random)];
    let created = mixed(id ^ 0xABCD) % CREATED_END;
    serde_json::json!({
        "_id": id,
        "email": email(id),
        "created": created,
        "kind": kind(random.below(KINDS)),
        "score": random.below(SCORE_END),
        "active": random.below(2) == 0,
        "city": city(random.below(CITIES)),
        "name": {"first": first, "last": last},
        "address": {
            "street": format!("{} {street}", random.below(999)),
            "zip": format!("{:05}", random.below(99_999)),
            "place": [random.below(180_000) as f64 / 1e3, random.below(360_000) as f64 / 1e3],
        },
        "tags": tags,
        "balance": random.below(10_000_000) as f64 / 100.0,
        "body": body,
    })
    .to_string()
}
