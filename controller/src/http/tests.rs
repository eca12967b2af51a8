//! The routes that are served are the routes that are described.

use super::routes;
use bulkhead_api::rest::OPENAPI;
use std::collections::BTreeSet;

#[test]
fn every_path_that_is_served_is_described_and_no_other() {
    let document: serde_json::Value = serde_json::from_str(OPENAPI).expect("JSON");
    let described: BTreeSet<&str> =
        document["paths"].as_object().expect("an object").keys().map(String::as_str).collect();
    let served: BTreeSet<&str> =
        routes().iter().map(|(path, _)| *path).chain(["/api/v1/openapi.json"]).collect();
    assert_eq!(described, served);
}
