//! The story of a lab: control run, closed start, observe, propose, approve, enforce, attack, report.
//!
//! Each step leaves the next one what it needs; the first error ends the lab. The order is the point: attacks are
//! first made with no firewall at all, then the pods start anew behind closed tables.

use crate::attack;
use crate::collections::Mode;
use crate::control::{self, Control};
use crate::ground::{Ground, Phase, Place, PlaceKind, Prizes, ServicePlace};
use crate::node::{Bond, Node};
use crate::report::{Names, Report};
use crate::screen::Screen;
use crate::stage::Stage;
use crate::{addresses, paths, preflight, system, traffic};
use bulkhead_api::rest::{
    FlowEdge, Incident, Party, PartyKind, Proposal, ProposalRequest, ProposalState, VerdictCount,
};
use bulkhead_facts::L4Protocol;
use serde_json::json;
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

/// Exit code of a story that went wrong, or whose end is not good.
const NOT_GOOD: u8 = 1;

/// How long a sidecar that ended stays away when the lab goes on.
const RESTART_DELAY: Duration = Duration::from_secs(1);

/// Longer than the time between two heartbeats of a sidecar.
const LEARNING_STARTS: Duration = Duration::from_secs(1);

/// How long flows and denials may take from the sidecars to the controller's reports.
const REPORTS_PATIENCE: Duration = Duration::from_secs(10);

/// Tells the story and gives the exit code. Ends early on SIGINT and SIGTERM.
pub(crate) async fn tell(node: Node, bond: Bond, started: Instant) -> io::Result<u8> {
    let screen = Screen::new(node.order.json, started);
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    system::stop_ending_on_signals();
    let mut story = Story::new(&node, &screen, started);
    let told = tokio::select! {
        told = story.tell() => told,
        _ = interrupt.recv() => return Ok(system::INTERRUPTED),
        _ = terminate.recv() => return Ok(system::INTERRUPTED),
    };
    let code = match told {
        Ok(code) => code,
        Err(error) => {
            screen.text(&format!("error: {error}"));
            return Ok(NOT_GOOD);
        }
    };
    if node.order.once && !node.order.keep {
        return Ok(code);
    }
    story.show_how_to_go_on();
    // Held until the node ends: the lock says that the lab lives.
    let _run_file = if node.order.keep { Some(bond.release(code)?) } else { None };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        failed = story.keep_sidecars_running() => failed?,
    }
    Ok(code)
}

/// What the story has built so far.
struct Story<'a> {
    node: &'a Node,
    screen: &'a Screen,
    started: Instant,
    stage: Stage,
    control: Option<Control>,
    sidecars: Vec<Child>,
    ground: Ground,
    report: Report,
}

impl<'a> Story<'a> {
    fn new(node: &'a Node, screen: &'a Screen, started: Instant) -> Self {
        let ground = ground(node);
        let report = Report { names: Names::new(node), ..Report::default() };
        let (stage, control, sidecars) = (Stage::default(), None, Vec::new());
        Self { node, screen, started, stage, control, sidecars, ground, report }
    }

    async fn tell(&mut self) -> io::Result<u8> {
        let (pods, services, outside) =
            (self.node.plan.pods.len(), self.node.lab.services.len(), self.node.lab.outside.len());
        self.screen.step(&format!("network of {pods} pods, {services} Services, {outside} hosts outside"));
        for lacking in preflight::lacking(self.node.order.root) {
            self.screen.detail(&format!("as an ordinary user this lab lacks: {lacking}"));
        }
        self.run_controls().await?;
        self.start_closed().await?;
        self.observe().await?;
        self.propose().await?;
        self.enforce().await?;
        self.attack().await?;
        self.report.elapsed_s = self.started.elapsed().as_secs_f64();
        self.report.show(self.screen);
        if self.node.order.json {
            println!("{}", self.report.json());
        }
        Ok(if self.report.shortcomings().is_empty() { 0 } else { NOT_GOOD })
    }

    /// Every attack with no firewall anywhere: what does not arrive now proves nothing later.
    async fn run_controls(&mut self) -> io::Result<()> {
        self.screen.step("control run: no firewall, every attack must arrive");
        self.node.open_places()?;
        self.stage.start_outside(self.node)?;
        self.stage.start_pods(self.node)?;
        self.stage.wait_until_ready(self.node).await?;
        let before = traffic::run(self.node).await?;
        self.screen.detail(&format!("legitimate requests: {} sent, {} failed", before.sent, before.failed));
        if before.failed > 0 {
            let failures = before.failures.join("\n");
            return Err(io::Error::other(format!(
                "legitimate traffic fails without any firewall:\n{failures}"
            )));
        }
        self.report.controls = self.make_attacks(Phase::Control).await?;
        let n = self.report.numbers();
        self.screen.detail(&format!("{} of {} attacks arrived", n.controls_arrived, n.controls_tried));
        self.stage.clear_pods(self.node).await
    }

    async fn make_attacks(&self, phase: Phase) -> io::Result<Vec<crate::ground::Outcome>> {
        if self.ground.compromised.is_empty() {
            return Ok(Vec::new());
        }
        // Too quick to show each.
        let outcomes = attack::run(&self.ground, phase, &mut |_| {}).await;
        outcomes.map_err(|error| io::Error::other(format!("{error:#}")))
    }

    /// Pods start anew: first the closed table, then sidecar and program side by side.
    async fn start_closed(&mut self) -> io::Result<()> {
        self.screen.step("closed start: every table is loaded before its program runs");
        let begun = Instant::now();
        let control = Control::start(self.node).await?;
        for pod in &self.node.plan.pods {
            self.node.open_place(&pod.place, &self.node.lab.pods[pod.spec].program.files)?;
            control::close(self.node, pod).await?;
        }
        self.node.write_pods_file()?;
        self.stage.start_pods(self.node)?;
        for position in 0..self.node.plan.pods.len() {
            self.sidecars.push(control.start_sidecar(self.node, position).await?);
        }
        control.wait_until_all(self.node.plan.pods.len(), Mode::Observe).await?;
        self.report.sidecars_s[0] = begun.elapsed().as_secs_f64();
        self.screen.detail(&format!(
            "controller and {} sidecars are up after {:.1} s",
            self.sidecars.len(),
            self.report.sidecars_s[0]
        ));
        self.control = Some(control);
        self.stage.wait_until_ready(self.node).await?;
        // A sidecar redirects what it only learns from its first heartbeat on; before, it passes unseen.
        sleep(LEARNING_STARTS).await;
        Ok(())
    }

    /// Traffic flows and is learned.
    async fn observe(&mut self) -> io::Result<()> {
        self.screen.step("observe: everything passes and is learned");
        let totals = traffic::run(self.node).await?;
        self.screen.detail(&format!("legitimate requests: {} sent, {} failed", totals.sent, totals.failed));
        if totals.failed > 0 {
            let failures = totals.failures.join("\n");
            return Err(io::Error::other(format!(
                "legitimate traffic fails while it is only observed:\n{failures}"
            )));
        }
        let control = self.control()?;
        let flows: Vec<FlowEdge> =
            settled(|| control.client.get("/api/v1/flows"), flows_count, both_ends_told).await?;
        self.screen.service_map(&flows);
        self.report.flows = flows;
        Ok(())
    }

    async fn propose(&mut self) -> io::Result<()> {
        self.screen.step("propose: an allowlist from what was seen");
        let control = self.control()?;
        let mut proposals = Vec::new();
        for collection in self.node.collections() {
            let request = ProposalRequest { collection: collection.name.clone() };
            let proposal: Proposal = control.client.post("/api/v1/proposals", &request).await?;
            self.screen.proposal(&proposal);
            proposals.push(proposal);
        }
        self.screen.step("approve: a person would read it first");
        for proposal in &mut proposals {
            let path = format!("/api/v1/proposals/{}/approve", proposal.id);
            *proposal = control.client.post(&path, &json!({})).await?;
            if proposal.state == ProposalState::ApprovedNotApplied {
                control.write_policy(&format!("{}.yaml", proposal.collection), &proposal.document)?;
            }
            let place = proposal.written_to.as_deref().unwrap_or("the policy folder");
            self.screen.detail(&format!(
                "{}: {} policies, {}, in {place}",
                proposal.collection, proposal.policies, proposal.state
            ));
        }
        self.report.proposals = proposals;
        Ok(())
    }

    async fn enforce(&mut self) -> io::Result<()> {
        self.screen.step("enforce");
        let begun = Instant::now();
        let control = self.control()?;
        control.set_mode(&self.node.lab.collections, Mode::Enforce)?;
        control.wait_until_all(self.node.plan.pods.len(), Mode::Enforce).await?;
        self.report.policies = control.client.get("/api/v1/policies").await?;
        self.report.sidecars_s[1] = begun.elapsed().as_secs_f64();
        self.screen.detail(&format!("every sidecar enforces after {:.1} s", self.report.sidecars_s[1]));
        let totals = traffic::run(self.node).await?;
        self.screen.detail(&format!("legitimate requests: {} sent, {} failed", totals.sent, totals.failed));
        totals.failures.iter().for_each(|failure| self.screen.detail(failure));
        self.report.legitimate = totals;
        Ok(())
    }

    async fn attack(&mut self) -> io::Result<()> {
        let attackers = self.ground.compromised.join(", ");
        self.screen.step(&format!("attack from {attackers}"));
        self.report.attacks = self.make_attacks(Phase::Enforced).await?;
        let leaks = self.report.numbers().leaks;
        self.screen.detail(&format!("{} attacks made, {leaks} arrivals", self.report.attacks.len()));
        // Silence proves something only where those who may talk are still heard.
        let after = traffic::run(self.node).await?;
        self.screen.detail(&format!("legitimate requests: {} sent, {} failed", after.sent, after.failed));
        self.report.legitimate.add(after);
        let control = self.control()?;
        let verdicts: Vec<VerdictCount> =
            settled(|| control.client.get("/api/v1/verdicts"), verdicts_count, |_| true).await?;
        let incidents: Vec<Incident> = control.client.get("/api/v1/incidents").await?;
        let flows: Vec<FlowEdge> = control.client.get("/api/v1/flows").await?;
        (self.report.verdicts, self.report.incidents, self.report.flows) = (verdicts, incidents, flows);
        self.check_sidecars()?;
        self.stage.check_all()
    }

    /// An error if a sidecar has ended.
    fn check_sidecars(&mut self) -> io::Result<()> {
        for (pod, sidecar) in self.node.plan.pods.iter().zip(&mut self.sidecars) {
            if let Some(status) = sidecar.try_wait()? {
                let log = std::fs::read_to_string(control::sidecar_log(&pod.place)).unwrap_or_default();
                let (place, said) = (&pod.place, control::tail(&log));
                return Err(io::Error::other(format!(
                    "the sidecar of `{place}` ended: {status}; it said last:\n{said}"
                )));
            }
        }
        Ok(())
    }

    /// Starts a sidecar that has ended anew, as a kubelet does, for as long as the lab goes on.
    async fn keep_sidecars_running(&mut self) -> io::Result<()> {
        loop {
            sleep(RESTART_DELAY).await;
            for (pod, sidecar) in self.node.plan.pods.iter().zip(&mut self.sidecars) {
                if let Some(status) = sidecar.try_wait()? {
                    self.screen
                        .step(&format!("the sidecar of `{}` ended: {status}; it starts anew", pod.place));
                    *sidecar = control::run_sidecar(self.node, pod)?;
                }
            }
        }
    }

    fn control(&self) -> io::Result<&Control> {
        self.control.as_ref().ok_or_else(|| io::Error::other("the controller has not been started"))
    }

    fn show_how_to_go_on(&self) {
        let name = &self.node.order.name;
        let option = if name == crate::DEFAULT_NAME { String::new() } else { format!(" --name {name}") };
        let root = PathBuf::from(format!("/proc/{}/root", self.node.outside_pid));
        let below = |path: PathBuf| root.join(path.strip_prefix("/").unwrap_or(&path)).display().to_string();
        let attacker = self.ground.compromised.first().map_or("POD", String::as_str);
        self.screen.text(&format!(
            "\nthe lab goes on\n  API    https://127.0.0.1:{} (token in {}, CA in {})\n  try    bulkhead lab exec{option} \
             {attacker} -- curl -m 3 http://…\n  logs   {}\n  end    bulkhead lab down{option}",
            self.node.order.api_port,
            below(control::token_file()),
            below(control::ca_file()),
            below(PathBuf::from(paths::STATE)),
        ));
    }
}

/// Asks until three answers in a row hold the same, and all of something: sidecars report each second, so by then
/// whatever was under way has come. At most until patience ends.
async fn settled<T, F: Future<Output = io::Result<Vec<T>>>>(
    ask: impl Fn() -> F,
    count: impl Fn(&[T]) -> u64,
    is_complete: impl Fn(&[T]) -> bool,
) -> io::Result<Vec<T>> {
    const MOMENT: Duration = Duration::from_millis(1100);
    const EQUAL_MIN: usize = 2;
    let patience = Instant::now() + REPORTS_PATIENCE;
    let (mut last, mut equal) = (0, 0);
    loop {
        let answer = ask().await?;
        let now = count(&answer);
        equal = if now == last && now > 0 && is_complete(&answer) { equal + 1 } else { 0 };
        if equal >= EQUAL_MIN || Instant::now() > patience {
            return Ok(answer);
        }
        last = now;
        sleep(MOMENT).await;
    }
}

fn flows_count(flows: &[FlowEdge]) -> u64 {
    flows.iter().map(|flow| flow.count).sum()
}

/// True once the sidecars of both ends told of everything between pods: those of connections that the kernel passes by itself
/// look for them every few seconds only.
fn both_ends_told(flows: &[FlowEdge]) -> bool {
    let is_pod = |party: &Party| party.kind == PartyKind::Workload;
    let between_pods = flows.iter().filter(|flow| is_pod(&flow.source) && is_pod(&flow.destination));
    between_pods.into_iter().all(|flow| flow.seen_by.source && flow.seen_by.destination)
}

fn verdicts_count(verdicts: &[VerdictCount]) -> u64 {
    verdicts.iter().map(|verdict| verdict.count).sum()
}

/// What attackers may know of the lab.
fn ground(node: &Node) -> Ground {
    let prizes = &node.lab.prizes;
    let pods = node.plan.pods.iter().map(|pod| Place {
        name: pod.place.clone(),
        kind: PlaceKind::Pod,
        v4: pod.v4,
        v6: pod.v6,
        ports: node.lab.pods[pod.spec].ports.iter().map(|port| port.port).collect(),
        log: paths::log(&pod.place),
    });
    let outside = node.lab.outside.iter().filter_map(|host| {
        let name = format!("outside/{}", host.name);
        let [std::net::IpAddr::V4(v4), std::net::IpAddr::V6(v6)] = host.addresses else { return None };
        let ports = host.ports.iter().map(|port| port.port).collect();
        Some(Place { log: paths::log(&name), name, kind: PlaceKind::Outside, v4, v6, ports })
    });
    let (v4, v6) = addresses::NODE;
    let log = PathBuf::from(paths::STATE).join("controller/log");
    let itself = Place { name: "node".into(), kind: PlaceKind::Node, v4, v6, ports: vec![8443, 9443], log };
    let services =
        node.lab.services.iter().zip(&node.plan.services).map(|(service, (v4, v6))| ServicePlace {
            name: format!("{}/{}", service.namespace, service.name),
            v4: *v4,
            v6: *v6,
            ports: service.ports_of(L4Protocol::TCP),
            datagram_ports: service.ports_of(L4Protocol::UDP),
            endpoints: node.plan.endpoints(&node.lab, service).map(|pod| pod.place.clone()).collect(),
        });
    let compromised = node
        .plan
        .pods
        .iter()
        .filter(|pod| node.lab.compromised.contains(&node.lab.pods[pod.spec].full_name()))
        .map(|pod| pod.place.clone());
    Ground {
        compromised: compromised.collect(),
        places: pods.chain(outside).chain([itself]).collect(),
        services: services.collect(),
        prizes: Prizes {
            allowed_service: prizes.allowed_service.clone(),
            allowed_path: prizes.allowed_path.clone(),
            admin_path: prizes.admin_path.clone(),
            forbidden_service: prizes.forbidden_service.clone(),
            database: prizes.database.clone(),
            redis: (prizes.redis.clone(), prizes.redis_keys.clone()),
            postgres: (
                prizes.postgres.clone(),
                prizes.postgres_user.clone(),
                prizes.postgres_database.clone(),
            ),
            tls: prizes.tls.clone(),
        },
        launcher: node.launcher.clone(),
    }
}
