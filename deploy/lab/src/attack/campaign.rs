//! Every attack of the catalogue, made once in each family in a running lab, with what became of it.
//!
//! Canaries go to every place first, then the attacks run, a few at a time, each with a token and source ports of
//! its own. It asks nobody but the canaries: no controller, no sidecar. A canary that lost packets ends the campaign
//! with an error, because silence would prove nothing then. Kinds that are not for campaigns are left to the
//! evasion tests.

use std::net::IpAddr;

use anyhow::{Context, bail};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::arrival::{Arrival, match_arrivals};
use super::attempt::Attempted;
use super::catalogue::{ALLOWED, KINDS, Kind, Needs};
use super::survey::{canary_command, pair, targets};
use super::targets::{Family, Link, Pair, Targets};
use super::token::Token;
use crate::canary::Event;
use crate::ground::{Ground, Outcome, Phase, Place, Privilege};
use crate::limits;

/// Makes every attack and says for each whether it arrived.
///
/// # Errors
/// A canary or an attack could not be started, or a canary lost packets.
pub async fn run(
    ground: &Ground,
    phase: Phase,
    progress: &mut dyn FnMut(&str),
) -> anyhow::Result<Vec<Outcome>> {
    let attacker = attacker(ground)?;
    let canaries = Canaries::start(ground, phase).await?;
    let link = find_link(ground, attacker).await;
    let targets = targets(ground, attacker, link);
    let text = serde_json::to_string(&targets)?;
    let mut planned = plan(phase);
    planned.retain(|planned| has_target(ground, &targets, planned.kind));
    let mut made = Vec::with_capacity(planned.len());
    for group in planned.chunks(limits::ATTACKS_AT_ONCE) {
        progress(&format!("attack {} of {}: {}", made.len() + 1, planned.len(), group[0].kind.name));
        let running = group.iter().map(|planned| planned.make(ground, &attacker.name, &text));
        for attempted in join_all(running).await {
            made.push(attempted?);
        }
    }
    let arrivals = canaries.finish().await?;
    Ok(outcomes(ground, attacker, &made, &arrivals))
}

/// One attack to be made.
struct Planned {
    kind: &'static Kind,
    family: Family,
    token: Token,
}

fn plan(phase: Phase) -> Vec<Planned> {
    let run = match phase {
        Phase::Control => 1,
        Phase::Enforced => 2,
    };
    let all = [Family::V4, Family::V6].into_iter().flat_map(|family| {
        KINDS
            .iter()
            .chain(ALLOWED)
            .filter(move |kind| kind.in_campaigns && kind.exists_in(family))
            .map(move |kind| (kind, family))
    });
    let able = all.filter(|(kind, _)| privilege(kind).is_some());
    let numbered = able.zip(0u32..);
    numbered.map(|((kind, family), index)| Planned { kind, family, token: Token::new(run, index) }).collect()
}

/// A datagram to a Service without a UDP port reaches nobody, firewall or not; and what is allowed in part has to be there.
fn has_target(ground: &Ground, targets: &Targets, kind: &Kind) -> bool {
    let forbidden = ground.services.iter().find(|service| service.name == ground.prizes.forbidden_service);
    if kind.name == "udp-forbidden-service" {
        return forbidden.is_some_and(|service| !service.datagram_ports.is_empty());
    }
    let is_there = [
        ("dns", targets.resolver.is_some()),
        ("redis", targets.redis.is_some()),
        ("postgres", targets.postgres.is_some()),
        ("tls", targets.tls.is_some()),
    ];
    let needed = ALLOWED.iter().find(|allowed| allowed.name == kind.name);
    needed.is_none_or(|kind| is_there.iter().any(|(what, is)| *is && kind.name.starts_with(what)))
}

fn privilege(kind: &Kind) -> Option<Privilege> {
    match kind.needs {
        Needs::App => Some(Privilege::App),
        Needs::NetRaw => Some(Privilege::NetRaw),
        Needs::SetUid | Needs::NetRawAndSetUid => None,
    }
}

impl Planned {
    async fn make(&self, ground: &Ground, attacker: &str, targets: &str) -> anyhow::Result<Attempted> {
        let family = self.family.digit().to_string();
        let token = self.token.to_string();
        let words =
            ["bulkhead", "lab-attack", "--kind", self.kind.name, "--family", &family, "--token", &token];
        let mut command: Vec<String> = words.iter().map(ToString::to_string).collect();
        command.extend(["--targets".to_owned(), targets.to_owned()]);
        let privilege = privilege(self.kind).unwrap_or(Privilege::App);
        let finished = ground
            .run(attacker, privilege, &command, limits::ATTACK_PATIENCE)
            .await
            .with_context(|| format!("cannot start the attack `{}` in `{attacker}`", self.kind.name))?;
        serde_json::from_str(&finished.stdout).with_context(|| {
            format!(
                "the attack `{}` in `{attacker}` gave no result: {}",
                self.kind.name,
                finished.stderr.trim()
            )
        })
    }
}

/// The canaries of a campaign and what they say.
struct Canaries {
    readers: Vec<JoinHandle<()>>,
    heard: mpsc::Receiver<Heard>,
}

enum Heard {
    Event(String, Event),
    Ended(String),
}

impl Canaries {
    async fn start(ground: &Ground, phase: Phase) -> anyhow::Result<Self> {
        let (to, heard) = mpsc::channel(limits::CANARY_EVENTS);
        let mut readers = Vec::new();
        let mut ready = Vec::new();
        for place in &ground.places {
            let mut watch = ground
                .watch(&place.name, &canary_command(ground, place, phase))
                .with_context(|| format!("cannot start the canary of `{}`", place.name))?;
            let (name, to) = (place.name.clone(), to.clone());
            let (is_ready, becomes_ready) = tokio::sync::oneshot::channel();
            ready.push((place.name.clone(), becomes_ready));
            readers.push(tokio::spawn(async move {
                let mut is_ready = Some(is_ready);
                while let Ok(Some(line)) = watch.next_line().await {
                    let Some(event) = Event::of_line(&line) else {
                        // The first line says that every socket is open.
                        let _ = is_ready.take().map(|is_ready| is_ready.send(()));
                        continue;
                    };
                    if to.send(Heard::Event(name.clone(), event)).await.is_err() {
                        return;
                    }
                }
                let _ = to.send(Heard::Ended(name)).await;
            }));
        }
        for (name, becomes_ready) in ready {
            let waited = tokio::time::timeout(limits::CANARY_START, becomes_ready).await;
            if !matches!(waited, Ok(Ok(()))) {
                bail!("the canary of `{name}` did not start");
            }
        }
        Ok(Self { readers, heard })
    }

    /// Waits until what is on its way has arrived, ends the canaries and gives what they saw.
    async fn finish(mut self) -> anyhow::Result<Vec<(String, Arrival)>> {
        tokio::time::sleep(limits::CANARY_SETTLE).await;
        let mut arrivals = Vec::new();
        while let Ok(heard) = self.heard.try_recv() {
            match heard {
                Heard::Event(place, Event::Arrived(arrival)) => arrivals.push((place, arrival)),
                Heard::Event(place, Event::Lost(packets)) => {
                    bail!(
                        "the canary of `{place}` lost {packets} packets: what it did not see proves nothing"
                    )
                }
                Heard::Event(_, Event::Taken(_)) => {}
                Heard::Ended(place) => bail!("the canary of `{place}` ended before the attacks did"),
            }
        }
        // Dropping what they watch kills the canaries.
        for reader in &self.readers {
            reader.abort();
        }
        Ok(arrivals)
    }
}

fn attacker(ground: &Ground) -> anyhow::Result<&Place> {
    let name = ground.compromised.first().context("the lab names no compromised pod")?;
    ground.place(name).with_context(|| format!("there is no place `{name}` to attack from"))
}

/// The interface of the attacker and its gateway's hardware address, as its neighbour table has it.
async fn find_link(ground: &Ground, attacker: &Place) -> Option<Link> {
    let table = ["cat", "/proc/net/arp"].map(str::to_owned);
    let mut watch = ground.watch(&attacker.name, &table).ok()?;
    while let Ok(Some(line)) = watch.next_line().await {
        let words: Vec<_> = line.split_whitespace().collect();
        if let [_, _, "0x2", mac, _, interface] = words[..] {
            return Some(Link { interface: interface.to_owned(), gateway_mac: mac.to_owned() });
        }
    }
    None
}

fn outcomes(
    ground: &Ground,
    attacker: &Place,
    made: &[Attempted],
    heard: &[(String, Arrival)],
) -> Vec<Outcome> {
    let arrivals: Vec<Arrival> = heard.iter().map(|(_, arrival)| arrival.clone()).collect();
    let mut matched = match_arrivals(made, &arrivals);
    matched.strays.retain(|index| !is_of_somebody_else(&ground.places, attacker, made, &arrivals[*index]));
    let lines = |indexes: &[usize]| indexes.iter().map(|index| line(&heard[*index])).collect::<Vec<_>>();
    let mut outcomes: Vec<_> = made
        .iter()
        .zip(&matched.of_attack)
        .map(|(attempted, indexes)| outcome(ground, attacker, attempted, lines(indexes)))
        .collect();
    // What no attack explains is an arrival all the same.
    if !matched.strays.is_empty() {
        outcomes.push(Outcome {
            id: "stray".into(),
            kind: "stray".into(),
            family: 4,
            attacker: attacker.name.clone(),
            target: "anywhere".into(),
            tried: "packets from an attack's port that no attack announced".into(),
            destination: None,
            protocol: 0,
            ports: Vec::new(),
            arrivals: lines(&matched.strays),
            not_made: None,
        });
    }
    outcomes
}

/// True for a packet with the address of another place, if no attack pretended to be there. Where the port of a connection is
/// taken on its way, the kernel gives it another one, and not below 61000 only.
fn is_of_somebody_else(places: &[Place], attacker: &Place, made: &[Attempted], arrival: &Arrival) -> bool {
    let is_elsewhere = |place: &Place| place.name != attacker.name && pair(place).holds(arrival.source);
    let mut announced = made.iter().flat_map(|attempted| &attempted.announced);
    places.iter().any(is_elsewhere) && announced.all(|announced| announced.source != arrival.source)
}

fn outcome(ground: &Ground, attacker: &Place, attempted: &Attempted, arrivals: Vec<String>) -> Outcome {
    let mut destinations: Vec<IpAddr> =
        attempted.announced.iter().map(|announced| announced.destination).collect();
    destinations.sort_unstable();
    destinations.dedup();
    let mut ports: Vec<u16> =
        attempted.announced.iter().map(|announced| announced.destination_port).collect();
    ports.retain(|port| *port != 0);
    ports.sort_unstable();
    ports.dedup();
    let target = match destinations[..] {
        [] => "nothing".to_owned(),
        [one] => name_of(ground, one),
        [first, ..] if first.is_loopback() => name_of(ground, destinations[1]),
        _ => format!("{} addresses", destinations.len()),
    };
    let tries = Kind::named(&attempted.kind).map_or("", |kind| kind.tries);
    Outcome {
        id: format!("{}/{}", attempted.kind, attempted.family.digit()),
        kind: attempted.kind.clone(),
        family: attempted.family.digit(),
        attacker: attacker.name.clone(),
        tried: format!("{tries}: {target}"),
        target,
        destination: if destinations.len() == 1 { destinations.first().copied() } else { None },
        protocol: attempted.announced.first().map_or(0, |announced| announced.protocol),
        ports,
        arrivals,
        not_made: attempted.not_made.clone(),
    }
}

fn name_of(ground: &Ground, address: IpAddr) -> String {
    let places = ground.places.iter().map(|place| (&place.name, pair(place)));
    let services =
        ground.services.iter().map(|service| (&service.name, Pair { v4: service.v4, v6: service.v6 }));
    let found = places.chain(services).find(|(_, pair)| pair.holds(address));
    found.map_or_else(|| address.to_string(), |(name, _)| name.clone())
}

fn line((place, arrival): &(String, Arrival)) -> String {
    let Arrival { protocol, source, source_port, destination_port, bytes, via, .. } = arrival;
    format!(
        "{bytes} bytes of protocol {protocol} from {source} port {source_port} at {place} port {destination_port} ({via:?})"
    )
}

/// Runs futures side by side and gives their results in order.
async fn join_all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut pending: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        for (future, result) in pending.iter_mut().filter(|(_, result)| result.is_none()) {
            if let std::task::Poll::Ready(output) = future.as_mut().poll(context) {
                *result = Some(output);
            }
        }
        if pending.iter().all(|(_, result)| result.is_some()) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    pending.into_iter().filter_map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attack::arrival::Via;
    use crate::attack::attempt::Announced;
    use crate::ground::PlaceKind;

    #[test]
    fn a_port_that_the_kernel_gave_somebody_elses_connection_is_no_stray() {
        let places = [("shop/reviews-0", 11), ("shop/catalog-0", 5)].map(|(name, last)| Place {
            name: name.into(),
            kind: PlaceKind::Pod,
            v4: [10, 0, 0, last].into(),
            v6: [0xfd00, 0, 0, 0, 0, 0, 0, u16::from(last)].into(),
            ports: Vec::new(),
            log: Default::default(),
        });
        let [attacker, other] = &places;
        let arrival = |source: IpAddr| Arrival {
            token: None,
            protocol: 6,
            source,
            source_port: 63_829,
            destination: None,
            destination_port: 5432,
            bytes: 40,
            via: Via::Raw,
        };
        let attack = |source: IpAddr| Attempted {
            kind: "tcp-database".into(),
            family: Family::V4,
            token: Token::new(1, 1),
            announced: vec![Announced {
                protocol: 6,
                source,
                source_port: 61_000,
                destination: other.v6.into(),
                destination_port: 5432,
            }],
            local: Vec::new(),
            not_made: None,
        };
        let is_of_other = |made: &[Attempted], source: IpAddr| {
            is_of_somebody_else(&places, attacker, made, &arrival(source))
        };
        let plain = [attack(attacker.v4.into())];
        assert!(is_of_other(&plain, other.v4.into()) && is_of_other(&plain, other.v6.into()));
        assert!(!is_of_other(&plain, attacker.v4.into()), "the attacker's own");
        assert!(!is_of_other(&plain, [192, 0, 2, 1].into()), "of nobody");
        let pretended = [attack(other.v4.into())];
        assert!(!is_of_other(&pretended, other.v4.into()), "an attack pretends to be there");
    }

    #[test]
    fn a_campaign_makes_at_least_sixty_attacks_in_each_family_with_tokens_of_their_own() {
        for phase in [Phase::Control, Phase::Enforced] {
            let planned = plan(phase);
            for family in [Family::V4, Family::V6] {
                assert!(planned.iter().filter(|planned| planned.family == family).count() >= 60);
            }
            let tokens: std::collections::BTreeSet<_> = planned.iter().map(|planned| planned.token).collect();
            assert_eq!(tokens.len(), planned.len());
            // Beyond, two attacks would share source ports.
            assert!(planned.len() < 275);
        }
    }
}
