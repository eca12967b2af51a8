//! Where things lie on the node: below `/run`, which is a tmpfs of the node's own.

use std::path::{Path, PathBuf};

/// Everything of the lab.
pub(crate) const STATE: &str = "/run/bulkhead-lab";

/// Our programs, bound here from wherever they were built. In pods: `/run/bin`.
pub(crate) const BIN: &str = "/run/bulkhead-lab/bin";

/// Network namespaces by name, where `ip netns` looks for them.
pub(crate) const NETWORKS: &str = "/run/netns";

/// What `exec` reads: [`crate::outer`].
pub(crate) const PODS_FILE: &str = "/run/bulkhead-lab/pods.json";

/// PATH of everything that runs in a pod. Debian keeps PostgreSQL's server programs in a folder of their version.
pub(crate) fn program_path() -> String {
    let mut path = "/run/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned();
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = versions.map(|entry| entry.path().join("bin")).collect();
    folders.sort();
    for folder in folders.iter().rev() {
        path.push(':');
        path.push_str(&folder.to_string_lossy());
    }
    path
}

/// The folder of a place, whose name is `namespace/pod`.
pub(crate) fn folder(place: &str) -> PathBuf {
    Path::new(STATE).join("places").join(flat(place))
}

/// The file of a place's network namespace.
pub(crate) fn network(place: &str) -> PathBuf {
    Path::new(NETWORKS).join(flat(place))
}

/// What a place's programs write.
pub(crate) fn log(place: &str) -> PathBuf {
    folder(place).join("log")
}

fn flat(place: &str) -> String {
    place.replace('/', ".")
}
