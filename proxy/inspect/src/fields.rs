//! Header fields of one head, without allocation in the ordinary case.

use crate::limits::{HEAD_FIELDS_INLINE, HEAD_FIELDS_MAX};
use bulkhead_facts::HeaderField;

/// Header fields in the order of the wire.
pub struct FieldList<'a> {
    inline: [HeaderField<'a>; HEAD_FIELDS_INLINE],
    inline_count: usize,
    /// All of them, once there are more than fit inline.
    spilled: Vec<HeaderField<'a>>,
}

impl<'a> FieldList<'a> {
    /// An empty list.
    pub fn new() -> Self {
        Self {
            inline: [HeaderField { name: &[], value: &[] }; HEAD_FIELDS_INLINE],
            inline_count: 0,
            spilled: Vec::new(),
        }
    }

    /// Adds a field of HTTP/1; false if there are [`HEAD_FIELDS_MAX`] already.
    pub fn push(&mut self, field: HeaderField<'a>) -> bool {
        self.push_within(field, HEAD_FIELDS_MAX)
    }

    /// Adds a field; false if there are `count_max` already.
    pub(crate) fn push_within(&mut self, field: HeaderField<'a>, count_max: usize) -> bool {
        if self.as_slice().len() >= count_max {
            return false;
        }
        match self.inline.get_mut(self.inline_count) {
            Some(slot) => {
                *slot = field;
                self.inline_count += 1;
            }
            None => {
                if self.spilled.is_empty() {
                    self.spilled.extend_from_slice(&self.inline);
                }
                self.spilled.push(field);
            }
        }
        true
    }

    /// The fields.
    pub fn as_slice(&self) -> &[HeaderField<'a>] {
        if self.spilled.is_empty() {
            self.inline.get(..self.inline_count).unwrap_or_default()
        } else {
            &self.spilled
        }
    }
}

impl Default for FieldList<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for FieldList<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_kept_when_fields_move_to_the_heap_and_the_limit_holds() {
        let names: Vec<Vec<u8>> = (0..=HEAD_FIELDS_MAX).map(|i| format!("x-{i}").into_bytes()).collect();
        let mut list = FieldList::new();
        for (index, name) in names.iter().enumerate() {
            assert_eq!(list.push(HeaderField { name, value: b"" }), index < HEAD_FIELDS_MAX, "field {index}");
        }
        let kept: Vec<&[u8]> = list.as_slice().iter().map(|field| field.name).collect();
        assert_eq!(kept, names[..HEAD_FIELDS_MAX].iter().map(Vec::as_slice).collect::<Vec<_>>());
    }
}
