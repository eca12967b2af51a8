//! Programs of a lab on and off the stage: started in order, waited for, watched, taken away.

use crate::file::ProgramSpec;
use crate::limits::APP_START;
use crate::node::Node;
use crate::{control, network, paths};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::time::Duration;
use tokio::process::Child;
use tokio::time::{Instant, sleep};

/// How long between two looks whether a program answers.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The programs that run in places now.
#[derive(Default)]
pub(crate) struct Stage {
    apps: BTreeMap<String, Child>,
}

impl Stage {
    /// Starts the programs of the hosts outside, whose places must be open.
    pub(crate) fn start_outside(&mut self, node: &Node) -> io::Result<()> {
        for host in &node.lab.outside {
            self.start(node, format!("outside/{}", host.name), &host.program)?;
        }
        Ok(())
    }

    /// Starts the programs of all pods.
    pub(crate) fn start_pods(&mut self, node: &Node) -> io::Result<()> {
        for pod in &node.plan.pods {
            self.start(node, pod.place.clone(), &node.lab.pods[pod.spec].program)?;
        }
        Ok(())
    }

    fn start(&mut self, node: &Node, place: String, program: &ProgramSpec) -> io::Result<()> {
        if !program.command.is_empty() {
            let child = node.launcher.start_app(&place, &program.environment, &program.command)?;
            self.apps.insert(place, child);
        }
        Ok(())
    }

    /// Waits until every program that says on which port it is ready answers there, asked from inside its pod.
    pub(crate) async fn wait_until_ready(&mut self, node: &Node) -> io::Result<()> {
        let patience = Instant::now() + APP_START;
        let mut waiting: Vec<(&str, u16)> = node
            .plan
            .pods
            .iter()
            .filter_map(|pod| Some((pod.place.as_str(), node.lab.pods[pod.spec].ready?)))
            .collect();
        let hosts =
            node.lab.outside.iter().map(|host| (format!("outside/{}", host.name), host.ports.first()));
        let hosts: Vec<(String, u16)> = hosts.filter_map(|(place, port)| Some((place, port?.port))).collect();
        waiting.extend(hosts.iter().map(|(place, port)| (place.as_str(), *port)));
        while let Some((place, port)) = waiting.pop() {
            let network = paths::network(place);
            loop {
                let network = network.clone();
                let answers = tokio::task::spawn_blocking(move || network::answers(&network, port));
                if answers.await.map_err(io::Error::other)?? {
                    break;
                }
                self.check(place)?;
                if Instant::now() > patience {
                    return Err(failed(place, &format!("does not answer on port {port}")));
                }
                sleep(LOOK_AGAIN).await;
            }
        }
        self.check_all()
    }

    /// An error if a program has ended: every one of a lab is meant to stay.
    pub(crate) fn check_all(&mut self) -> io::Result<()> {
        let places: Vec<String> = self.apps.keys().cloned().collect();
        places.iter().try_for_each(|place| self.check(place))
    }

    fn check(&mut self, place: &str) -> io::Result<()> {
        let Some(child) = self.apps.get_mut(place) else { return Ok(()) };
        match child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(failed(place, &format!("ended: {status}"))),
        }
    }

    /// Ends everything in the pods; their networks stay.
    pub(crate) async fn clear_pods(&mut self, node: &Node) -> io::Result<()> {
        for pod in &node.plan.pods {
            node.launcher.close_place(&pod.place).await?;
            if let Some(mut child) = self.apps.remove(&pod.place) {
                child.wait().await?;
            }
        }
        Ok(())
    }
}

fn failed(place: &str, what: &str) -> io::Error {
    let log = fs::read_to_string(paths::log(place)).unwrap_or_default();
    let said = control::tail(&log);
    io::Error::other(format!("the program of `{place}` {what}; it said last:\n{said}"))
}
