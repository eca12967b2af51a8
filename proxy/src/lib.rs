//! The sidecar: kernel tier, inspector, flow reports.
