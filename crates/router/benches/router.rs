//! Measurements beside `matchit`.

fn main() {}
