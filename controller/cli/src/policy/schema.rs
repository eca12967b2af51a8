//! `bulkhead policy schema`: the shape of our kinds, for editors and for clusters.

use super::{HOLDS, report};
use bulkhead_policies::diagnostics::Source;
use bulkhead_policies::documents::schema::{SCHEMA_KINDS, custom_resource, json_schema};
use bulkhead_policies::yaml;

/// Print the JSON Schema of our kinds, or the definition of a custom resource
#[derive(clap::Args, Debug)]
pub(super) struct SchemaArguments {
    /// `SegmentPolicy`, `ClusterSegmentPolicy`, `Collection`, `PolicyTest` or `PolicyProof`; absent: any of them
    kind: Option<String>,
    /// The CustomResourceDefinition of the kind, for a cluster
    #[arg(long, requires = "kind")]
    crd: bool,
}

pub(super) fn run(arguments: &SchemaArguments) -> u8 {
    let kind = arguments.kind.as_deref();
    if let Some(kind) = kind.filter(|kind| !SCHEMA_KINDS.contains(kind)) {
        return report::refuse(&format!(
            "kind `{kind}` is unknown: write one of {}",
            SCHEMA_KINDS.join(", ")
        ));
    }
    if !arguments.crd {
        say!("{:#}", json_schema(kind).unwrap_or_default());
        return HOLDS;
    }
    let Some(definition) = kind.and_then(custom_resource) else {
        return report::refuse(
            &"a PolicyTest or PolicyProof stays beside its policies: no cluster stores it",
        );
    };
    let source = Source { name: "definition".to_owned(), text: definition.to_string() };
    match yaml::format(&source) {
        Ok(text) => {
            say_raw!("{text}");
            HOLDS
        }
        Err(found) => {
            report::print(super::Format::Text, &found, &[source]);
            super::BAD_INPUT
        }
    }
}
