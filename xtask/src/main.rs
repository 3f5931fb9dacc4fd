//! Provisioning and one-word tasks; links no libtorch.
fn main() {}
