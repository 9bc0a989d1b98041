//! The smallest server.
fn main() {}
