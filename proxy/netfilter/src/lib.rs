//! A small netlink encoder for nf_tables, and readers for NFLOG and conntrack.
