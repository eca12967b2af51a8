//! The command line of Bulkhead.

fn main() {}
