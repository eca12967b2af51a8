//! Header blocks: what is decoded is bounded, comes back from our own encoder, and the watcher sees the same status.
#![no_main]

use bulkhead_inspect::hpack::{Decoder, Fields, Watcher, encode, literals};
use libfuzzer_sys::fuzz_target;

const BYTES_MAX: usize = 16 * 1024;
const FIELDS_MAX: usize = 256;

fuzz_target!(|blocks: Vec<&[u8]>| {
    let (mut decoder, mut watcher) = (Decoder::new(4096), Watcher::default());
    let (mut fields, mut again) = (Fields::default(), Fields::default());
    for block in blocks {
        let status = watcher.status(block);
        if decoder.decode(block, &mut fields, BYTES_MAX, FIELDS_MAX).is_err() {
            assert!(fields.size() <= BYTES_MAX && fields.list().len() <= FIELDS_MAX);
            return;
        }
        let list: Vec<_> = fields.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
        let mut encoded = Vec::new();
        encode(&fields, &mut encoded);
        Decoder::new(0).decode(&encoded, &mut again, BYTES_MAX, FIELDS_MAX).expect("our own block");
        let same: Vec<_> = again.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
        assert_eq!(same, list);
        let lying: Vec<_> = literals(&encoded).map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
        assert_eq!(lying, list);
        let written = list.iter().find(|(name, _)| name == b":status").map(|(_, value)| value.clone());
        match (status, written) {
            (Ok(None), None) => {}
            (Ok(Some(number)), Some(text)) => {
                assert!(number == 0 || number.to_string().as_bytes() == text, "{number} for {text:?}");
            }
            // One of many statuses in the table is not remembered; an entry that was evicted is refused by the decoder.
            (Ok(None), Some(_)) => {}
            other => panic!("{other:?}"),
        }
    }
});
