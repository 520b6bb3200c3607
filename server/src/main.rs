//! Placeholder until the first milestone lands.
fn main() {}
