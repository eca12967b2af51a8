//! The policies in force, file by file.

use super::Api;
use axum::Json;
use axum::extract::State;
use bulkhead_api::rest::{PolicyDocument, PolicyFile};
use bulkhead_policies::documents::Loaded;

/// `GET /api/v1/policies`
pub(super) async fn policies(State(api): State<Api>) -> Json<Vec<PolicyFile>> {
    let world = api.world.borrow().clone();
    let files = world.policies.sources.iter().map(|source| PolicyFile {
        file: source.name.clone(),
        text: source.text.clone(),
        documents: documents_in(&world.policies.loaded, &source.name),
    });
    Json(files.collect())
}

fn documents_in(loaded: &Loaded, file: &str) -> Vec<PolicyDocument> {
    let policies = loaded.set.policies.iter().map(|policy| &policy.origin);
    let policies = policies
        .filter(|origin| loaded.places.policy(origin).is_some_and(|place| place.file == file))
        .map(|origin| PolicyDocument {
            kind: origin.kind.clone(),
            namespace: origin.namespace.clone(),
            name: origin.name.clone(),
        });
    let collections = loaded.set.collections.iter().map(|collection| &collection.name);
    let collections = collections
        .filter(|name| loaded.places.collection(name).is_some_and(|place| place.file == file))
        .map(|name| PolicyDocument { kind: "Collection".to_owned(), namespace: None, name: name.clone() });
    collections.chain(policies).collect()
}
