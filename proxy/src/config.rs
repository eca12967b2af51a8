//! What the operator may set, from flags and from the environment.
//!
//! Every value is checked before anything is opened or started: a wrong one ends the process with exit code 2 and one
//! message that says which flag, what is wrong and what to write. Variables of the environment that are not ours are
//! ignored even if they begin with `BULKHEAD_`: Kubernetes makes such ones from the names of Services.

use crate::control::read_roots;
use crate::limits::{CA_FILE_BYTES_MAX, FLAG_ADDRESSES_MAX};
use bulkhead_facts::HostName;
use clap::{Args, Parser, Subcommand};
use rustls::RootCertStore;
use rustls::pki_types::ServerName;
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What the process is asked to do.
#[derive(Debug)]
pub enum Command {
    /// Load the closed table, then end.
    Init(Place),
    /// Enforce until told to end.
    Run(Box<Run>),
}

/// Where the sidecar stands: what its kernel table has to know from the beginning.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Address and port of the controller, which the closed table lets the sidecar reach.
    #[arg(long, env = "BULKHEAD_CONTROLLER", value_name = "ADDRESS:PORT", value_parser = socket_address)]
    pub controller: SocketAddr,
    /// Addresses of the pod, separated by commas.
    #[arg(long, env = "BULKHEAD_POD_ADDRESSES", value_name = "ADDRESSES", value_delimiter = ',', value_parser = unicast)]
    pub pod_addresses: Vec<IpAddr>,
    /// Addresses of the node, from which the administrative port is reached, separated by commas.
    #[arg(long, env = "BULKHEAD_NODE_ADDRESSES", value_name = "ADDRESSES", value_delimiter = ',', value_parser = unicast)]
    pub node_addresses: Vec<IpAddr>,
    /// Port of health, readiness and metrics.
    #[arg(long, env = "BULKHEAD_ADMIN_PORT", value_name = "PORT", default_value = "15020", value_parser = admin_port)]
    pub admin_port: u16,
    /// What passes whatever policies say, separated by commas; an empty list is nothing.
    #[arg(long, env = "BULKHEAD_INFRASTRUCTURE", value_name = "RULES", value_delimiter = ',', default_values = ["neighbour-discovery", "administrative-port"], value_parser = infrastructure)]
    pub infrastructure: Vec<InfrastructureRule>,
    /// Let the app run unprotected where nothing can be enforced, and let what would be inspected pass while the sidecar is
    /// dead. What is denied by address and port stays denied.
    #[arg(long, env = "BULKHEAD_FAIL_OPEN")]
    pub fail_open: bool,
}

/// Everything for `run`, checked.
#[derive(Debug)]
pub struct Run {
    /// Where the sidecar stands.
    pub place: Place,
    /// Private directory.
    pub state: PathBuf,
    /// The name that the controller's certificate must carry.
    pub controller_name: ServerName<'static>,
    /// The pinned CA.
    pub controller_roots: Arc<RootCertStore>,
    /// File with the join token.
    pub token_file: Option<PathBuf>,
    /// How the app sees captured clients.
    pub capture: Capture,
    /// Domains of the inside: their names may have private addresses.
    pub internal_names: Vec<HostName>,
    /// Threads that carry traffic.
    pub workers: usize,
    /// Time for open connections to finish.
    pub drain: Duration,
}

/// One of the rules that pass whatever policies say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InfrastructureRule {
    /// None: the word of an empty list.
    None,
    /// Neighbour discovery of IPv6.
    NeighbourDiscovery,
    /// The sidecar's administrative port, from the node.
    AdministrativePort,
    /// DHCP of both families.
    Dhcp,
    /// Announcements of IPv6 routers.
    RouterDiscovery,
    /// Groups of IPv6 that the pod listens to.
    MulticastListeners,
}

/// How captured inbound connections are handed to the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Capture {
    /// With the client's own address where the kernel lets us, which is tried at the start; else as `redirect`.
    ClientAddress,
    /// With the pod's own address, as a plain redirect does.
    Redirect,
}

#[derive(Parser)]
#[command(
    name = "bulkhead-proxy",
    version,
    about = "The Bulkhead sidecar: lets through only what the policy allows."
)]
struct CommandLine {
    /// What to log: `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `bulkhead_proxy=debug`.
    #[arg(long, global = true, env = "BULKHEAD_LOG", value_name = "FILTER", default_value = "info")]
    log: String,
    /// Log as JSON, one object a line.
    #[arg(long, global = true, env = "BULKHEAD_LOG_JSON")]
    log_json: bool,
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Load the closed table: nothing passes but what the sidecar itself needs. Ends at once.
    Init(Place),
    /// Enforce the controller's programs until SIGTERM.
    Run(RunFlags),
}

#[derive(Args)]
struct RunFlags {
    #[command(flatten)]
    place: Place,
    /// Private directory for key, certificate and last good program; made if it is not there.
    #[arg(long, env = "BULKHEAD_STATE", value_name = "DIRECTORY")]
    state: PathBuf,
    /// The controller's CA, in PEM; no other is believed.
    #[arg(long, env = "BULKHEAD_CONTROLLER_CA", value_name = "FILE")]
    controller_ca: PathBuf,
    /// The name that the controller's certificate must carry [default: the address of --controller].
    #[arg(long, env = "BULKHEAD_CONTROLLER_NAME", value_name = "NAME", value_parser = server_name)]
    controller_name: Option<ServerName<'static>>,
    /// File with the one-time join token; not needed once the state directory holds a certificate.
    #[arg(long, env = "BULKHEAD_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// How the app sees captured clients.
    #[arg(long, env = "BULKHEAD_CAPTURE", value_name = "MODE", value_enum, default_value = "client-address")]
    capture: Capture,
    /// Domains of the inside, beside `.local`, `.internal` and others that are reserved: only their names may have private
    /// addresses.
    #[arg(long, env = "BULKHEAD_INTERNAL_NAMES", value_name = "A,B", value_delimiter = ',', value_parser = host_name)]
    internal_names: Vec<HostName>,
    /// Threads that carry traffic, 1 to 16.
    #[arg(long, env = "BULKHEAD_WORKERS", value_name = "NUMBER", default_value = "1", value_parser = workers)]
    workers: usize,
    /// Seconds for open connections to finish after SIGTERM, 0 to 3600.
    #[arg(long, env = "BULKHEAD_DRAIN_SECONDS", value_name = "SECONDS", default_value = "30", allow_hyphen_values = true, value_parser = drain_seconds)]
    drain_seconds: u64,
}

/// What to do and how to log.
#[derive(Debug)]
pub struct Config {
    /// What to do.
    pub command: Command,
    /// What to log; a filter of `tracing`.
    pub log: String,
    /// Whether to log as JSON.
    pub log_json: bool,
}

/// Why the process does not start.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A flag or variable that the command line parser refused, or a question for help.
    #[error(transparent)]
    Flags(#[from] clap::Error),
    /// A flag that names a file or directory of no use.
    #[error("error: invalid value '{}' for '{flag}': {problem}", value.display())]
    Value {
        /// Which flag.
        flag: &'static str,
        /// Its value.
        value: PathBuf,
        /// What is wrong and what to write.
        problem: String,
    },
}

impl Config {
    /// Reads and checks flags and environment.
    ///
    /// # Errors
    ///
    /// For the first value that is wrong.
    pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, ConfigError> {
        let line = CommandLine::try_parse_from(arguments)?;
        let command = match line.command {
            Action::Init(place) => Command::Init(checked_place(place)?),
            Action::Run(flags) => Command::Run(Box::new(checked_run(flags)?)),
        };
        Ok(Self { command, log: line.log, log_json: line.log_json })
    }
}

fn checked_run(flags: RunFlags) -> Result<Run, ConfigError> {
    let place = checked_place(flags.place)?;
    if flags.state.exists() && !flags.state.is_dir() {
        return Err(wrong(
            "--state",
            &flags.state,
            "not a directory; write a directory of the sidecar's own",
        ));
    }
    let controller_roots = read_ca(&flags.controller_ca)
        .map_err(|problem| wrong("--controller-ca", &flags.controller_ca, &problem))?;
    let address = ServerName::IpAddress(place.controller.ip().into());
    Ok(Run {
        place,
        state: flags.state,
        controller_name: flags.controller_name.unwrap_or(address),
        controller_roots: Arc::new(controller_roots),
        token_file: flags.token_file,
        capture: flags.capture,
        internal_names: flags.internal_names,
        workers: flags.workers,
        drain: Duration::from_secs(flags.drain_seconds),
    })
}

fn checked_place(mut place: Place) -> Result<Place, ConfigError> {
    for (flag, addresses) in
        [("--pod-addresses", &mut place.pod_addresses), ("--node-addresses", &mut place.node_addresses)]
    {
        addresses.sort_unstable();
        addresses.dedup();
        if addresses.len() > FLAG_ADDRESSES_MAX {
            let listed = PathBuf::from(format!("{} addresses", addresses.len()));
            return Err(wrong(flag, &listed, &format!("write at most {FLAG_ADDRESSES_MAX}")));
        }
    }
    Ok(place)
}

fn read_ca(path: &Path) -> Result<RootCertStore, String> {
    let advice = "write the file `ca.pem` from the controller's state directory";
    let size = std::fs::metadata(path).map_err(|error| format!("{error}; {advice}"))?.len();
    if size > CA_FILE_BYTES_MAX {
        return Err(format!("larger than {CA_FILE_BYTES_MAX} bytes; {advice}"));
    }
    let pem = std::fs::read(path).map_err(|error| format!("{error}; {advice}"))?;
    read_roots(&pem).map_err(|problem| format!("{problem}; {advice}"))
}

fn wrong(flag: &'static str, value: &Path, problem: &str) -> ConfigError {
    ConfigError::Value { flag, value: value.to_owned(), problem: problem.to_owned() }
}

fn socket_address(text: &str) -> Result<SocketAddr, String> {
    let advice = "write an address and a port such as `10.0.0.1:9443` or `[fd00::1]:9443`";
    let address: SocketAddr = text.parse().map_err(|_| format!("not an address and a port; {advice}"))?;
    unicast(&address.ip().to_string()).map_err(|problem| format!("{problem}; {advice}"))?;
    if address.port() == 0 {
        return Err(format!("port 0 cannot be reached; {advice}"));
    }
    Ok(address)
}

fn unicast(text: &str) -> Result<IpAddr, String> {
    let advice = "write addresses such as `10.0.0.7,fd00::7`";
    let address: IpAddr = text.trim().parse().map_err(|_| format!("not an address; {advice}"))?;
    let address = address.to_canonical();
    if address.is_unspecified() || address.is_multicast() {
        return Err(format!("not the address of one host; {advice}"));
    }
    Ok(address)
}

fn admin_port(text: &str) -> Result<u16, String> {
    let advice = "write a port from 1 to 65535 that no other part of the sidecar uses, for example `15020`";
    let port: u16 = text.parse().map_err(|_| format!("not a port; {advice}"))?;
    match port {
        0 | 15001 | 15006 | 15007 | 15008 | 15053..=15060 => Err(format!("taken; {advice}")),
        port => Ok(port),
    }
}

fn server_name(text: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(text.to_owned())
        .map_err(|_| "not a host name or address; write for example `bulkhead-controller`".to_owned())
}

fn infrastructure(text: &str) -> Result<InfrastructureRule, String> {
    match text.trim() {
        "" => Ok(InfrastructureRule::None),
        "neighbour-discovery" => Ok(InfrastructureRule::NeighbourDiscovery),
        "administrative-port" => Ok(InfrastructureRule::AdministrativePort),
        "dhcp" => Ok(InfrastructureRule::Dhcp),
        "router-discovery" => Ok(InfrastructureRule::RouterDiscovery),
        "multicast-listeners" => Ok(InfrastructureRule::MulticastListeners),
        _ => {
            Err("no such rule; write any of `neighbour-discovery,administrative-port,dhcp,router-discovery,\
             multicast-listeners`"
                .to_owned())
        }
    }
}

fn host_name(text: &str) -> Result<HostName, String> {
    HostName::parse(text).map_err(|error| error.to_string())
}

fn workers(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=16).contains(number));
    number.ok_or_else(|| "not a number of threads; write 1 to 16".to_owned())
}

fn drain_seconds(text: &str) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number| *number <= 3_600);
    number.ok_or_else(|| "not a number of seconds; write 0 to 3600".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::test_directory::TestDirectory;

    fn read(flags: &[&str]) -> Result<Config, ConfigError> {
        Config::read(std::iter::once("bulkhead-proxy").chain(flags.iter().copied()).map(OsString::from))
    }

    #[track_caller]
    fn refused(flags: &[&str], expected: &[&str]) {
        let message = read(flags).expect_err("a wrong value was taken").to_string();
        for part in expected {
            assert!(message.contains(part), "`{part}` is not in: {message}");
        }
    }

    /// A directory with a CA, and the flags of a `run` that is right.
    fn right(directory: &TestDirectory) -> Vec<String> {
        let ca = directory.path().join("ca.pem");
        let key = rcgen::KeyPair::generate().expect("key");
        let mut parameters = rcgen::CertificateParams::default();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        std::fs::write(&ca, parameters.self_signed(&key).expect("sign").pem()).expect("write");
        let state = directory.path().join("state");
        ["run", "--controller", "10.0.0.1:9443", "--controller-ca"]
            .map(str::to_owned)
            .into_iter()
            .chain([ca.display().to_string(), "--state".to_owned(), state.display().to_string()])
            .collect()
    }

    #[track_caller]
    fn refused_beside_right(extra: &[&str], expected: &[&str]) {
        let directory = TestDirectory::new();
        let flags = right(&directory);
        let flags: Vec<&str> = flags.iter().map(String::as_str).chain(extra.iter().copied()).collect();
        refused(&flags, expected);
    }

    #[test]
    fn right_flags_are_taken() {
        let directory = TestDirectory::new();
        let mut flags = right(&directory);
        flags.extend(["--pod-addresses".to_owned(), "10.0.0.7,fd00::7,::ffff:10.0.0.7".to_owned()]);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let Command::Run(run) = read(&flags).expect("right flags").command else { panic!("not run") };
        let addresses: [IpAddr; 2] = ["10.0.0.7", "fd00::7"].map(|a| a.parse().expect("address"));
        assert_eq!(run.place.pod_addresses, addresses);
        assert_eq!((run.place.admin_port, run.workers, run.drain), (15020, 1, Duration::from_secs(30)));
    }

    #[test]
    fn a_controller_by_name_is_refused_with_what_to_write() {
        refused(
            &["init", "--controller", "controller:9443"],
            &["controller:9443", "--controller", "10.0.0.1:9443"],
        );
        refused(&["init", "--controller", "10.0.0.1:0"], &["port 0"]);
        refused(&["init", "--controller", "0.0.0.0:9443"], &["not the address of one host"]);
    }

    #[test]
    fn a_missing_flag_is_named() {
        refused(&["init"], &["--controller"]);
        refused(&["run", "--controller", "10.0.0.1:9443"], &["--state"]);
    }

    #[test]
    fn an_unknown_flag_is_named() {
        refused(&["init", "--controler", "10.0.0.1:9443"], &["--controler", "--controller"]);
    }

    #[test]
    fn numbers_out_of_range_are_refused_with_their_range() {
        refused_beside_right(&["--workers", "0"], &["--workers", "1 to 16"]);
        refused_beside_right(&["--drain-seconds", "-1"], &["--drain-seconds"]);
        refused_beside_right(&["--drain-seconds", "3601"], &["0 to 3600"]);
        refused_beside_right(&["--admin-port", "15006"], &["--admin-port", "15020"]);
        refused_beside_right(&["--admin-port", "70000"], &["not a port"]);
    }

    #[test]
    fn a_capture_mode_that_is_none_is_refused_with_those_that_are() {
        refused_beside_right(&["--capture", "tproxy"], &["--capture", "client-address", "redirect"]);
    }

    #[test]
    fn infrastructure_is_what_is_listed_and_nothing_else() {
        let of = |flags: &[&str]| {
            let flags = [&["init", "--controller", "10.0.0.1:9443"], flags].concat();
            let Command::Init(place) = read(&flags).expect("right flags").command else { panic!("not init") };
            place.infrastructure
        };
        use InfrastructureRule::{
            AdministrativePort, Dhcp, MulticastListeners, NeighbourDiscovery, None, RouterDiscovery,
        };
        assert_eq!(of(&[]), [NeighbourDiscovery, AdministrativePort]);
        assert_eq!(of(&["--infrastructure", "dhcp,neighbour-discovery"]), [Dhcp, NeighbourDiscovery]);
        let of_link = ["--infrastructure", "router-discovery,multicast-listeners"];
        assert_eq!(of(&of_link), [RouterDiscovery, MulticastListeners]);
        assert_eq!(of(&["--infrastructure", ""]), [None]);
        refused(
            &["init", "--controller", "10.0.0.1:9443", "--infrastructure", "arp"],
            &["--infrastructure", "arp", "neighbour-discovery,administrative-port,dhcp,router-discovery"],
        );
    }

    #[test]
    fn addresses_that_are_none_are_refused() {
        refused_beside_right(&["--pod-addresses", "10.0.0.7/32"], &["--pod-addresses", "not an address"]);
        refused_beside_right(
            &["--node-addresses", "ff02::1"],
            &["--node-addresses", "not the address of one host"],
        );
        refused_beside_right(&["--pod-addresses", ""], &["--pod-addresses"]);
    }

    #[test]
    fn a_ca_file_that_is_none_is_refused_before_anything_starts() {
        let directory = TestDirectory::new();
        let mut flags = right(&directory);
        let ca = directory.path().join("not-a-ca");
        std::fs::write(&ca, "hello").expect("write");
        flags[4] = ca.display().to_string();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        refused(&flags, &["--controller-ca", "not-a-ca", "BEGIN CERTIFICATE", "ca.pem"]);
    }

    #[test]
    fn a_state_directory_that_is_a_file_is_refused() {
        let directory = TestDirectory::new();
        let mut flags = right(&directory);
        let file = directory.path().join("file");
        std::fs::write(&file, "").expect("write");
        flags[6] = file.display().to_string();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        refused(&flags, &["--state", "not a directory"]);
    }
}
