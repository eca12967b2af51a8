//! The collections of a lab as policy documents, in the mode that the story has them in.

use crate::file::CollectionSpec;
use serde_json::json;

/// The mode that the story has the collections in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Everything passes and is learned.
    Observe,
    /// Nothing passes but what is allowed.
    Enforce,
}

impl Mode {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Enforce => "enforce",
        }
    }
}

/// `Collection` documents as a person would write them.
pub(crate) fn documents(collections: &[CollectionSpec], mode: Mode) -> String {
    let documents: Vec<String> = collections.iter().map(|collection| document(collection, mode)).collect();
    documents.join("---\n")
}

fn document(collection: &CollectionSpec, mode: Mode) -> String {
    let owners =
        if collection.owners.is_empty() { vec!["group:lab".to_owned()] } else { collection.owners.clone() };
    let built_in = collection.infrastructure.as_ref();
    let built_in = built_in.map(|names| format!("  infrastructure: {}\n", json!(names))).unwrap_or_default();
    // JSON is YAML, and its texts are never misread.
    format!(
        "apiVersion: bulkhead.dev/v1alpha1\nkind: Collection\nmetadata: {{name: {}}}\nspec:\n  \
         covers: {{namespaces: {}}}\n  owners: {}\n  default: deny\n  mode: {}\n{built_in}",
        json!(collection.name),
        json!(collection.namespaces),
        json!(owners),
        mode.as_str(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_policies::diagnostics::Source;
    use bulkhead_policies::documents::load;

    #[test]
    fn collections_are_documents_that_the_controller_accepts_in_both_modes() {
        for mode in [Mode::Observe, Mode::Enforce] {
            let named = |name: &str| CollectionSpec {
                name: name.into(),
                namespaces: [("team".to_owned(), name.to_owned())].into(),
                owners: vec!["group:shop-leads".into()],
                infrastructure: (name == "shop").then(|| vec!["probes".into()]),
            };
            let text = documents(&[named("shop"), named("on")], mode);
            let loaded = load(&[Source { name: "c.yaml".into(), text }]);
            assert!(!loaded.has_errors(), "{:?}", loaded.diagnostics);
            assert_eq!(loaded.set.collections.len(), 2);
            assert!(loaded.set.collections.iter().all(|c| c.mode.as_str() == mode.as_str()));
            let asks_freely: Vec<_> = loaded
                .set
                .collections
                .iter()
                .filter(|c| c.infrastructure.resolver)
                .map(|c| &c.name)
                .collect();
            assert_eq!(asks_freely, ["on"]);
        }
    }
}
