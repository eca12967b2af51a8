//! `bulkhead policy import`: policies of other products as documents of ours.

use super::{BAD_INPUT, DOES_NOT_HOLD, HOLDS, read, report};
use bulkhead_facts::Cidr;
use bulkhead_policies::import::{Dialect, ImportOptions, import};
use clap::ValueEnum;
use std::path::PathBuf;

/// Translate policies of Cilium, Istio, Calico or NeuVector; the result is never weaker than the original
///
/// The documents go to standard output, what cannot be carried to standard error. Something that is left out or widened
/// exits with 1 unless `--allow-loss` is given; what cannot be left out safely exits with 2.
#[derive(clap::Args, Debug)]
pub(super) struct ImportArguments {
    /// Whose documents they are
    #[arg(value_enum)]
    dialect: DialectName,
    /// Files or folders; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    paths: Vec<PathBuf>,
    /// Write documents that are stricter than the original where something cannot be carried
    #[arg(long)]
    allow_loss: bool,
    /// Addresses of pods, nodes and Services (Cilium: blocks in its policies do not mean them)
    #[arg(long = "cluster-network", value_name = "CIDR")]
    cluster_networks: Vec<Cidr>,
    /// Take patterns of paths and hosts to say nothing of a query or a port behind them
    #[arg(long)]
    ignore_query_and_port: bool,
    /// The namespace whose policies hold for the whole mesh (Istio)
    #[arg(long, value_name = "NAMESPACE", default_value = "istio-system")]
    root_namespace: String,
    #[arg(long, value_enum, default_value_t)]
    format: ImportFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DialectName {
    /// CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy
    Cilium,
    /// AuthorizationPolicy
    Istio,
    /// NetworkPolicy and GlobalNetworkPolicy of Calico
    Calico,
    /// NvSecurityRule, NvClusterSecurityRule
    Neuvector,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum ImportFormat {
    /// YAML on standard output, findings on standard error
    #[default]
    Text,
    /// One JSON document with `documents` and `findings`
    Json,
}

impl From<DialectName> for Dialect {
    fn from(name: DialectName) -> Self {
        match name {
            DialectName::Cilium => Self::Cilium,
            DialectName::Istio => Self::Istio,
            DialectName::Calico => Self::Calico,
            DialectName::Neuvector => Self::Neuvector,
        }
    }
}

pub(super) fn run(arguments: &ImportArguments) -> u8 {
    let sources = match read::sources(&arguments.paths) {
        Ok(sources) => sources,
        Err(error) => return report::refuse(&error),
    };
    let options = ImportOptions {
        cluster_networks: arguments.cluster_networks.clone(),
        ignore_query_and_port: arguments.ignore_query_and_port,
        root_namespace: arguments.root_namespace.clone(),
    };
    let imported = import(arguments.dialect.into(), &sources, &options);
    let code = match (imported.has_errors(), imported.has_losses() && !arguments.allow_loss) {
        (true, _) => BAD_INPUT,
        (false, true) => DOES_NOT_HOLD,
        (false, false) => HOLDS,
    };
    let documents = if code == HOLDS { imported.documents.as_str() } else { "" };
    match arguments.format {
        ImportFormat::Text => {
            report::print(super::Format::Text, &imported.diagnostics, &sources);
            say_raw!("{documents}");
        }
        ImportFormat::Json => {
            let findings = bulkhead_policies::diagnostics::formats::to_json(&imported.diagnostics);
            say!("{:#}", serde_json::json!({ "documents": documents, "findings": findings }));
        }
    }
    if code == DOES_NOT_HOLD {
        eprintln!("error: not everything can be carried: nothing is written without `--allow-loss`");
    }
    code
}
