//! Protocol inspectors: bytes in, verdict questions out. Sans-IO.
