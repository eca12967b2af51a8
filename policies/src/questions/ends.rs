//! Ends of flows by name or address: `shop/checkout`, `service/shop/ledger`, `10.0.0.7`.

use crate::diagnostics::{nearest, quoted};
use crate::inventory::{Inventory, ObjectName, Service};
use bulkhead_facts::{HostName, L4Protocol};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// One address, with the pod that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End<'q> {
    /// The pod; `None` for an address outside of the cluster.
    pub pod: Option<&'q ObjectName>,
    /// The address.
    pub address: IpAddr,
}

/// Where a flow arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination<'q> {
    /// The end that receives it.
    pub end: End<'q>,
    /// The port that it receives it on.
    pub port: u16,
    /// Address and port of the Service in front of it.
    pub dialled: Option<(IpAddr, u16)>,
    /// The name that led there.
    pub name: Option<&'q HostName>,
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ends {
    /// Pods: one by its own name, or all of a workload.
    Pods(Vec<ObjectName>),
    /// A Service: its addresses in front of its endpoints.
    Service(ObjectName),
    /// An address, of a pod or of nobody known.
    Address(IpAddr),
    /// A name outside of the cluster. It is asked as leading to an address of each family that is kept for documentation
    /// (RFC 5737, RFC 3849), which no rule is likely to name itself.
    Name(HostName),
}

/// Where names lead, for questions: addresses that nobody has.
const NAMED_ADDRESSES: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

/// A name that nothing has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownEnd {
    /// What was written.
    pub text: String,
    /// The name that was probably meant.
    pub nearest: Option<String>,
}

impl fmt::Display for UnknownEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no pod, workload or Service of the inventory is called {}", quoted(&self.text))
    }
}

impl std::error::Error for UnknownEnd {}

impl UnknownEnd {
    /// What to write instead.
    pub fn help(&self) -> String {
        match &self.nearest {
            Some(name) => format!("did you mean `{name}`?"),
            None => "write `NAMESPACE/NAME` of a pod, workload or Service (`pod/…`, `workload/…` or `service/…` in front \
                     if several have it), an address, or `fqdn/NAME` for a name outside"
                .to_owned(),
        }
    }
}

impl Ends {
    /// Looks a name up: a pod first, then a workload, then a Service, unless the name says which.
    pub fn find(text: &str, inventory: &Inventory) -> Result<Self, UnknownEnd> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::of_address(address.to_canonical(), inventory));
        }
        if let Some(name) = text.strip_prefix("fqdn/") {
            let name = HostName::parse(name).ok().filter(|name| !name.is_address());
            return name.map(Self::Name).ok_or(UnknownEnd { text: text.to_owned(), nearest: None });
        }
        let kinds = [("pod/", 0), ("workload/", 1), ("service/", 2)];
        let (kind, name) = kinds
            .iter()
            .find_map(|(prefix, kind)| {
                text.strip_prefix(prefix).filter(|rest| rest.contains('/')).map(|rest| (Some(*kind), rest))
            })
            .unwrap_or((None, text));
        let unknown = || UnknownEnd { text: text.to_owned(), nearest: nearest_name(name, inventory) };
        let (namespace, name) = name.split_once('/').ok_or_else(unknown)?;
        let key = ObjectName { namespace: namespace.to_owned(), name: name.to_owned() };
        let of_kind = |wanted: i32| kind.is_none_or(|kind| kind == wanted);
        if of_kind(0) && inventory.pods.contains_key(&key) {
            return Ok(Self::Pods(vec![key]));
        }
        let members = || {
            inventory
                .pods
                .iter()
                .filter(|(_, pod)| pod.workload.namespace == namespace && pod.workload.name == name)
        };
        if of_kind(1) && members().next().is_some() {
            return Ok(Self::Pods(members().map(|(key, _)| key.clone()).collect()));
        }
        if of_kind(2) && inventory.services.contains_key(&key) {
            return Ok(Self::Service(key));
        }
        Err(unknown())
    }

    fn of_address(address: IpAddr, inventory: &Inventory) -> Self {
        match inventory.services.iter().find(|(_, service)| service.addresses.contains(&address)) {
            Some((key, _)) => Self::Service(key.clone()),
            None => Self::Address(address),
        }
    }

    /// Where flows of these ends come from; none for a Service or a name, which open no flow.
    pub fn sources<'q>(&'q self, inventory: &'q Inventory) -> Vec<End<'q>> {
        match self {
            Self::Pods(names) => names.iter().flat_map(|name| ends_of(name, inventory)).collect(),
            Self::Address(address) => vec![end_at(*address, inventory)],
            Self::Service(_) | Self::Name(_) => Vec::new(),
        }
    }

    /// Where flows to a port of these ends arrive.
    pub fn destinations<'q>(
        &'q self,
        inventory: &'q Inventory,
        protocol: L4Protocol,
        port: u16,
    ) -> Vec<Destination<'q>> {
        let plain = |end| Destination { end, port, dialled: None, name: None };
        match self {
            Self::Pods(_) | Self::Address(_) => self.sources(inventory).into_iter().map(plain).collect(),
            Self::Service(key) => match inventory.services.get(key) {
                Some(service) => behind(service, inventory, protocol, port),
                None => Vec::new(),
            },
            Self::Name(name) => NAMED_ADDRESSES
                .map(|address| Destination { name: Some(name), ..plain(end_at(address, inventory)) })
                .to_vec(),
        }
    }
}

fn ends_of<'q>(name: &'q ObjectName, inventory: &'q Inventory) -> Vec<End<'q>> {
    let Some(pod) = inventory.pods.get(name) else { return Vec::new() };
    pod.addresses.iter().map(|address| End { pod: Some(name), address: *address }).collect()
}

fn end_at(address: IpAddr, inventory: &Inventory) -> End<'_> {
    let holder = inventory.pods.iter().find(|(_, pod)| !pod.host_network && pod.addresses.contains(&address));
    End { pod: holder.map(|(name, _)| name), address }
}

/// The endpoints behind each address of a Service; the address itself where there are none.
fn behind<'q>(
    service: &'q Service,
    inventory: &'q Inventory,
    protocol: L4Protocol,
    port: u16,
) -> Vec<Destination<'q>> {
    let spec = service.ports.iter().find(|spec| spec.port == port && spec.protocol == protocol);
    let endpoints = spec.map(|spec| spec.endpoints.as_slice()).unwrap_or_default();
    if service.addresses.is_empty() {
        let direct = |(address, port): &(IpAddr, u16)| Destination {
            end: end_at(*address, inventory),
            port: *port,
            dialled: None,
            name: None,
        };
        return endpoints.iter().map(direct).collect();
    }
    let mut found = Vec::new();
    for vip in &service.addresses {
        let family = endpoints.iter().filter(|(address, _)| address.is_ipv4() == vip.is_ipv4());
        let before = found.len();
        found.extend(family.map(|(address, target)| Destination {
            end: end_at(*address, inventory),
            port: *target,
            dialled: Some((*vip, port)),
            name: None,
        }));
        if found.len() == before {
            let end = End { pod: None, address: *vip };
            found.push(Destination { end, port, dialled: None, name: None });
        }
    }
    found
}

fn nearest_name(name: &str, inventory: &Inventory) -> Option<String> {
    let pods = inventory.pods.keys().map(|key| format!("{}/{}", key.namespace, key.name));
    let workloads = inventory.pods.values().map(|pod| pod.workload.to_string());
    let services = inventory.services.keys().map(|key| format!("{}/{}", key.namespace, key.name));
    let mut names: Vec<String> = workloads.chain(services).chain(pods).take(10_000).collect();
    names.dedup();
    nearest(name, names.iter().map(String::as_str)).map(str::to_owned)
}
