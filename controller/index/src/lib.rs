//! Objects in, one program per workload out. Pure.
