//! The host of one request after the other, which is nearly always the same.

use super::head::malformed;
use crate::contract::Refusal;
use bulkhead_facts::HostName;
use std::sync::Arc;

/// The host of the last request, so that its likes need no allocation.
#[derive(Debug, Default)]
pub(crate) struct HostCache {
    text: Box<[u8]>,
    name: Option<Arc<HostName>>,
    port: Option<u16>,
}

impl HostCache {
    /// Port of the last host, if it named one.
    pub(crate) fn port(&self) -> Option<u16> {
        self.port
    }

    pub(crate) fn parse(&mut self, text: &[u8]) -> Result<Arc<HostName>, Refusal> {
        if let Some(name) = self.name.as_ref().filter(|_| *self.text == *text) {
            return Ok(Arc::clone(name));
        }
        let wrong = malformed("host that is no host");
        let (name, port) = std::str::from_utf8(text)
            .ok()
            .and_then(|text| HostName::parse_authority(text).ok())
            .ok_or(wrong)?;
        let name = Arc::new(name);
        *self = Self { text: text.into(), name: Some(Arc::clone(&name)), port };
        Ok(name)
    }
}
