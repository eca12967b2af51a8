//! What the controller is told when it starts: flags, checked before anything is opened or written.

use crate::identity::check_name;
use crate::limits::JOIN_TOKEN_MINUTES;
use clap::Parser;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The Bulkhead controller: compiles and pushes policy, takes in flows, learns, reports incidents.
#[derive(Clone, Debug, Parser)]
#[command(name = "bulkhead-controller", version)]
pub struct Config {
    /// Folder of its own: CA, store, admin token. Made if it is not there; keep it private
    #[arg(long, value_name = "DIR", env = "BULKHEAD_STATE")]
    pub state: PathBuf,
    /// Folder with the policy documents
    #[arg(long, value_name = "DIR", env = "BULKHEAD_POLICIES")]
    pub policies: PathBuf,
    /// Folder with the inventory, as `kubectl get namespaces,pods,services,endpointslices,nodes -A -o yaml` prints it
    #[arg(long, value_name = "DIR", env = "BULKHEAD_INVENTORY")]
    pub inventory: PathBuf,
    /// Folder to which approved proposals are written; where it cannot be written, they are handed out instead
    /// [default: `approved` in the policy folder]
    #[arg(long, value_name = "DIR", env = "BULKHEAD_APPROVED")]
    pub approved: Option<PathBuf>,
    /// Where sidecars connect
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "[::]:9443", env = "BULKHEAD_LISTEN_SIDECARS")]
    pub listen_sidecars: SocketAddr,
    /// Where people and tools connect
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8443", env = "BULKHEAD_LISTEN_HTTP")]
    pub listen_http: SocketAddr,
    /// Where Prometheus reads
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:9090",
        env = "BULKHEAD_LISTEN_METRICS"
    )]
    pub listen_metrics: SocketAddr,
    /// Further names and addresses by which the controller is reached; they go into its certificate
    #[arg(long, value_name = "NAME", value_delimiter = ',', env = "BULKHEAD_NAMES")]
    pub names: Vec<String>,
    /// How long a sidecar's certificate is good, in hours
    #[arg(long, value_name = "HOURS", default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=720))]
    pub certificate_hours: u64,
    /// How long a join token is good, in minutes
    #[arg(long, value_name = "MINUTES", default_value_t = JOIN_TOKEN_MINUTES, value_parser = clap::value_parser!(u64).range(1..=1440))]
    pub join_token_minutes: u64,
    /// What to log: `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `bulkhead_controller=debug`
    #[arg(long, value_name = "FILTER", default_value = "info", env = "BULKHEAD_LOG")]
    pub log: String,
    /// Log as JSON, one object a line
    #[arg(long, env = "BULKHEAD_LOG_JSON")]
    pub log_json: bool,
}

/// Why the controller cannot start as it was told to. The process ends with code 2.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A folder that must be there is not.
    #[error("`{flag} {path}`: {problem}: name a folder that is there and can be read")]
    Folder {
        /// The flag.
        flag: &'static str,
        /// Its value.
        path: String,
        /// What the system said.
        problem: String,
    },
    /// A name that cannot stand in a certificate.
    #[error("`--names {0}` is no host name and no address")]
    BadName(String),
    /// Two ports that are the same.
    #[error("`{first}` and `{second}` are both {address}: give each a port of its own")]
    SameAddress {
        /// One flag.
        first: &'static str,
        /// The other.
        second: &'static str,
        /// What they share.
        address: SocketAddr,
    },
}

impl Config {
    /// Checks what can be known before starting.
    pub fn check(&self) -> Result<(), ConfigError> {
        check_folder("--policies", &self.policies)?;
        check_folder("--inventory", &self.inventory)?;
        let bad = |name: &&String| name.parse::<std::net::IpAddr>().is_err() && check_name(name).is_err();
        if let Some(name) = self.names.iter().find(bad) {
            return Err(ConfigError::BadName(name.clone()));
        }
        let ports = [
            ("--listen-sidecars", self.listen_sidecars),
            ("--listen-http", self.listen_http),
            ("--listen-metrics", self.listen_metrics),
        ];
        for (at, (second, address)) in ports.iter().enumerate() {
            let same = ports[..at].iter().find(|(_, other)| other == address && address.port() != 0);
            if let Some((first, _)) = same {
                return Err(ConfigError::SameAddress { first, second, address: *address });
            }
        }
        Ok(())
    }

    /// The folder for approved proposals.
    pub fn approved_folder(&self) -> PathBuf {
        self.approved.clone().unwrap_or_else(|| self.policies.join("approved"))
    }

    /// The folders that are read for policies: the approved ones are read once, wherever they are.
    pub fn policy_folders(&self) -> Vec<PathBuf> {
        let approved = self.approved_folder();
        let inside = |outer: &Path, inner: &Path| {
            fs::canonicalize(inner).and_then(|inner| Ok(inner.starts_with(fs::canonicalize(outer)?)))
        };
        match inside(&self.policies, &approved) {
            Ok(true) => vec![self.policies.clone()],
            Ok(false) => vec![self.policies.clone(), approved],
            // It is not there yet: only a path below the policy folder would be read twice.
            Err(_) if approved.starts_with(&self.policies) => vec![self.policies.clone()],
            Err(_) => vec![self.policies.clone(), approved],
        }
    }

    /// Names and addresses for the controller's certificate.
    pub fn certificate_names(&self) -> Vec<String> {
        let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        let listening = [self.listen_sidecars.ip(), self.listen_http.ip()];
        names.extend(listening.iter().filter(|ip| !ip.is_unspecified()).map(ToString::to_string));
        names.extend(self.names.iter().cloned());
        names.sort_unstable();
        names.dedup();
        names
    }

    /// How long a sidecar's certificate is good.
    pub fn certificate_lifetime(&self) -> Duration {
        Duration::from_secs(self.certificate_hours * 3600)
    }
}

fn check_folder(flag: &'static str, path: &Path) -> Result<(), ConfigError> {
    fs::read_dir(path).map(drop).map_err(|error| ConfigError::Folder {
        flag,
        path: path.display().to_string(),
        problem: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_flag_is_named_before_anything_is_made() {
        let folder = tempfile::tempdir().expect("a folder");
        let there = folder.path().display().to_string();
        let cases = [
            (vec!["--policies", "/nowhere/at/all", "--inventory", &there], "--policies /nowhere/at/all"),
            (vec!["--policies", &there, "--inventory", "/nowhere/at/all"], "--inventory /nowhere/at/all"),
            (vec!["--policies", &there, "--inventory", &there, "--names", "a/b"], "--names a/b"),
            (
                vec!["--policies", &there, "--inventory", &there, "--listen-http", "[::]:9443"],
                "`--listen-sidecars` and `--listen-http`",
            ),
        ];
        for (flags, named) in cases {
            let state = folder.path().join("state").display().to_string();
            let all = ["bulkhead-controller", "--state", &state].into_iter().chain(flags);
            let refused =
                Config::try_parse_from(all).expect("parses").check().expect_err("refused").to_string();
            assert!(refused.contains(named), "{refused}");
        }
        assert!(!folder.path().join("state").exists());
    }

    #[test]
    fn approved_documents_are_read_once_wherever_their_folder_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let (policies, apart) = (folder.path().join("policies"), folder.path().join("apart"));
        fs::create_dir_all(policies.join("approved")).expect("made");
        fs::create_dir(&apart).expect("made");
        let roundabout = policies.join("..").join("policies").join("approved");
        let cases = [(None, 1), (Some(roundabout), 1), (Some(apart), 2)];
        for (approved, folders) in cases {
            let config = config(&policies, approved.clone());
            assert_eq!(config.policy_folders().len(), folders, "{approved:?}");
        }
    }

    fn config(policies: &Path, approved: Option<PathBuf>) -> Config {
        let path = policies.display().to_string();
        let flags = ["bulkhead-controller", "--state", "state", "--policies", &path, "--inventory", &path];
        Config { approved, ..Config::try_parse_from(flags).expect("parses") }
    }
}
