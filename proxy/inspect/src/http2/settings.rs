//! SETTINGS of both sides (RFC 9113 section 6.5), as far as an inspector in the middle depends on them.
//!
//! They pass from end to end. Under the gate the server's are clamped to our limits, and the client's never ask for
//! pushed responses.

use super::frame::Code;
use super::request::Offers;
use crate::limits::{HEADER_LIST_BYTES_MAX, HEADER_TABLE_BYTES_MAX, STREAMS_MAX};
use std::collections::VecDeque;

const HEADER_TABLE_SIZE: u16 = 0x1;
const ENABLE_PUSH: u16 = 0x2;
const MAX_CONCURRENT_STREAMS: u16 = 0x3;
const INITIAL_WINDOW_SIZE: u16 = 0x4;
const MAX_FRAME_SIZE: u16 = 0x5;
const MAX_HEADER_LIST_SIZE: u16 = 0x6;
const ENABLE_CONNECT_PROTOCOL: u16 = 0x8;
const GRPC_TRUE_BINARY: u16 = 0xfe03;

/// Settings with a meaning (RFC 9113, RFC 8441, RFC 9218), and those that libraries of gRPC have among themselves.
const KNOWN: [u16; 11] = [1, 2, 3, 4, 5, 6, 8, 9, 0xfe03, 0xfe04, 0xfe05];

/// What both sides have announced.
#[derive(Debug)]
pub(super) struct Settings {
    /// Window that a stream begins with towards the client.
    pub(super) client_window: u32,
    /// Largest payload that the server takes.
    pub(super) server_payload_max: usize,
    /// What the server takes beyond the plain protocol.
    pub(super) offers: Offers,
    /// Header tables that the server announced and the client has not acknowledged; `None` where it said nothing of it.
    pending_tables: VecDeque<Option<usize>>,
    /// Table that the client may use.
    pub(super) table: usize,
    client_settings_seen: bool,
    server_settings_seen: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            client_window: 65_535,
            server_payload_max: super::frame::PAYLOAD_BYTES,
            offers: Offers::default(),
            pending_tables: VecDeque::new(),
            table: 4096,
            client_settings_seen: false,
            server_settings_seen: false,
        }
    }
}

/// One setting.
fn pairs(payload: &[u8]) -> impl Iterator<Item = (u16, u32)> {
    let (pairs, _) = payload.as_chunks::<6>();
    pairs.iter().map(|[i0, i1, v0, v1, v2, v3]| {
        (u16::from_be_bytes([*i0, *i1]), u32::from_be_bytes([*v0, *v1, *v2, *v3]))
    })
}

fn put(out: &mut Vec<u8>, id: u16, value: u32) {
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(&value.to_be_bytes());
}

impl Settings {
    /// Reads settings of the client.
    pub(super) fn client(&mut self, payload: &[u8]) -> Result<(), (Code, &'static str)> {
        self.client_settings_seen = true;
        for (id, value) in pairs(payload) {
            match id {
                ENABLE_PUSH if value > 1 => return Err((Code::Protocol, "enable-push other than 0 and 1")),
                INITIAL_WINDOW_SIZE if value > 0x7fff_ffff => {
                    return Err((Code::FlowControl, "initial window above the largest window"));
                }
                INITIAL_WINDOW_SIZE => self.client_window = value,
                MAX_FRAME_SIZE if !(16_384..=16_777_215).contains(&value) => {
                    return Err((Code::Protocol, "frame size outside the range of the protocol"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The client's settings without pushed responses; false if they are that already. `first`: the server knows none
    /// of them, and assumes that pushing is fine; nor is it known whether it is a server of HTTP/2, so only settings that have a
    /// meaning leave.
    pub(super) fn edited(payload: &[u8], first: bool, out: &mut Vec<u8>) -> bool {
        let leaves = |id| !first || KNOWN.contains(&id);
        let asks = pairs(payload).any(|(id, value)| id == ENABLE_PUSH && value == 1);
        let silent = first && !pairs(payload).any(|(id, _)| id == ENABLE_PUSH);
        if !asks && !silent && pairs(payload).all(|(id, _)| leaves(id)) {
            return false;
        }
        for (id, value) in pairs(payload).filter(|(id, _)| leaves(*id)) {
            put(out, id, if id == ENABLE_PUSH { 0 } else { value });
        }
        if silent {
            put(out, ENABLE_PUSH, 0);
        }
        true
    }

    /// Reads settings of the server. Returns the table that the client may use until it acknowledges them.
    pub(super) fn server(&mut self, payload: &[u8], gate: bool) -> Result<usize, &'static str> {
        self.server_settings_seen = true;
        let mut table = None;
        for (id, value) in pairs(payload) {
            let value_bytes = usize::try_from(value).unwrap_or(usize::MAX);
            match id {
                MAX_FRAME_SIZE if !(16_384..=16_777_215).contains(&value) => {
                    return Err("frame size of the server outside the range of the protocol");
                }
                HEADER_TABLE_SIZE => table = Some(value_bytes.min(table_bytes_max(gate))),
                MAX_FRAME_SIZE => {
                    self.server_payload_max = self.server_payload_max.max(value_bytes.min(16_777_215))
                }
                ENABLE_CONNECT_PROTOCOL => self.offers.connects = value == 1,
                GRPC_TRUE_BINARY => self.offers.binary = value == 1,
                _ => {}
            }
        }
        if self.pending_tables.len() >= crate::limits::SETTINGS_UNACKNOWLEDGED_MAX {
            return Err("too many SETTINGS of the server");
        }
        self.pending_tables.push_back(table);
        Ok(self.table.max(table.unwrap_or_default()))
    }

    /// The server's settings within our limits; false if they are that already. `first`: the client knows none of them.
    pub(super) fn clamped(payload: &[u8], first: bool, out: &mut Vec<u8>) -> bool {
        let limit = |id| match id {
            HEADER_TABLE_SIZE => Some(HEADER_TABLE_BYTES_MAX),
            MAX_CONCURRENT_STREAMS => Some(STREAMS_MAX),
            MAX_HEADER_LIST_SIZE => Some(HEADER_LIST_BYTES_MAX),
            _ => None,
        };
        let limit = |id| limit(id).and_then(|limit| u32::try_from(limit).ok()).unwrap_or(u32::MAX);
        let silent = first && !pairs(payload).any(|(id, _)| id == MAX_CONCURRENT_STREAMS);
        if !silent && pairs(payload).all(|(id, value)| value <= limit(id)) {
            return false;
        }
        for (id, value) in pairs(payload) {
            put(out, id, value.min(limit(id)));
        }
        if silent {
            put(out, MAX_CONCURRENT_STREAMS, limit(MAX_CONCURRENT_STREAMS));
        }
        true
    }

    /// The client acknowledges the oldest settings of the server. Returns the table that it may use from now on; `None`
    /// if nothing had to be acknowledged.
    pub(super) fn acknowledged(&mut self) -> Option<usize> {
        if let Some(table) = self.pending_tables.pop_front()? {
            self.table = table;
        }
        let pending = self.pending_tables.iter().flatten().copied().max().unwrap_or_default();
        Some(self.table.max(pending))
    }

    /// True before the client's first settings.
    pub(super) fn awaits_client(&self) -> bool {
        !self.client_settings_seen
    }

    /// True before the server's first settings.
    pub(super) fn awaits_server(&self) -> bool {
        !self.server_settings_seen
    }
}

/// Under the tee nothing is clamped, and more is followed.
fn table_bytes_max(gate: bool) -> usize {
    if gate { HEADER_TABLE_BYTES_MAX } else { crate::limits::HEADER_TABLE_OBSERVED_BYTES_MAX }
}
