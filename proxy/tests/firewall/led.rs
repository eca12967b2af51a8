//! Flows to a Service of which some endpoints may be reached: handed to the inspector, which may dial those and not the Service.

use crate::inspector::{Inspector, runtime};
use crate::network::{OTHER_PEER, PEER, Peer, accept, dial, talk};
use crate::program::{Rules, What};
use crate::support::{as_user, in_own_network};
use crate::{at, open, open_with, options, sidecar_uid};
use bulkhead_facts::{Direction, Reason};
use bulkhead_policies::decide::Judge;
use bulkhead_policies::program::{Action, Choice, ChoiceId, Endpoint};
use bulkhead_proxy::firewall::{Firewall, FirewallOptions, TableState};
use bulkhead_proxy::intercept::{LocalLeg, Sockets};
use std::io::Read;
use std::net::{IpAddr, TcpListener};
use std::sync::Arc;

/// The peer's other address is a Service that leads to its first one, which may be dialled itself; both on port 8000.
fn led() -> Arc<Judge> {
    let rules = Rules::new().tcp(What::Allow, Direction::Egress, &PEER, 8000).tcp(
        What::Deny,
        Direction::Egress,
        &OTHER_PEER,
        8000,
    );
    let mut program = rules.judge().program().clone();
    let Action::Answer(allowed) = program.egress.boxes[0].action else { panic!("an answer") };
    let endpoint = |address| Endpoint { address, port: 8000, action: Action::Answer(allowed) };
    program.choices = PEER.map(|address| Choice { endpoints: vec![endpoint(address)] }).to_vec();
    for port_box in &mut program.egress.boxes {
        let Action::Answer(otherwise) = port_box.action else { panic!("an answer") };
        if otherwise != allowed {
            port_box.action = Action::Choose { choice: ChoiceId(0), otherwise };
            program.answers[usize::from(otherwise.0)].enforced.reason = Reason::EndpointsDiffer;
        }
    }
    Arc::new(Judge::new(program).expect("valid"))
}

fn sockets(firewall: &Firewall) -> Sockets {
    Sockets::new(firewall.marks(), LocalLeg::ClientAddress)
}

fn nobody_came(listener: &TcpListener) -> bool {
    listener.set_nonblocking(true).expect("an option");
    listener.accept().is_err()
}

#[test]
fn the_app_is_captured_and_our_own_leg_reaches_the_endpoints_and_not_the_service() {
    in_own_network(
        "led::the_app_is_captured_and_our_own_leg_reaches_the_endpoints_and_not_the_service",
        &[],
        || {
            let peer = Peer::connect();
            let mut firewall = open();
            let inspector = Inspector::start(sockets(&firewall));
            firewall.apply(&led()).expect("applied");
            let legs = sockets(&firewall);
            let reached = |address: IpAddr| {
                as_user(sidecar_uid(), || {
                    runtime().block_on(async { legs.dial_upstream(at(address, 8000)).await.is_ok() })
                })
            };
            for family in [0, 1] {
                let (endpoint, service) =
                    (peer.listen(PEER[family], 8000), peer.listen(OTHER_PEER[family], 8000));
                assert!(reached(PEER[family]));
                assert!(!reached(OTHER_PEER[family]));
                accept(&endpoint).expect("our own leg");
                // This inspector dials what the app did, which is not let through.
                let client = dial(at(OTHER_PEER[family], 8000));
                let seen = inspector.next().expect("captured");
                assert_eq!(
                    (seen.direction, seen.destination),
                    (Direction::Egress, at(OTHER_PEER[family], 8000))
                );
                // On a busy machine the reset comes before the app has seen that it is connected.
                assert!(client.and_then(|mut client| client.read(&mut [0; 1])).is_err(), "reset");
                assert!(nobody_came(&service));
            }
            let denied = firewall.denials().expect("dump").edges;
            assert!(!denied.is_empty());
            for edge in denied {
                assert_eq!(edge.answer.expect("known").answers.enforced.reason, Reason::EndpointsDiffer);
            }
            assert_eq!(firewall.verify().expect("compared"), TableState::Intact);
        },
    );
}

#[test]
fn what_the_kernel_let_pass_and_has_to_be_led_now_is_cut() {
    in_own_network("led::what_the_kernel_let_pass_and_has_to_be_led_now_is_cut", &[], || {
        let peer = Peer::connect();
        let mut firewall = open();
        let _inspector = Inspector::start(sockets(&firewall));
        let whole = |what| Rules::new().tcp(what, Direction::Egress, &OTHER_PEER, 8000).judge();
        for before in [What::Allow, What::Inspect] {
            firewall.apply(&whole(before)).expect("applied");
            let service = peer.listen(OTHER_PEER[0], 8000);
            let mut client = dial(at(OTHER_PEER[0], 8000)).expect("allowed");
            let mut server = accept(&service).expect("arrives").0;
            talk(&mut client, &mut server).expect("both ways");
            firewall.apply(&led()).expect("applied");
            assert!(talk(&mut client, &mut server).is_err(), "it may have reached any endpoint");
        }
        let reasons: Vec<_> = firewall
            .denials()
            .expect("dump")
            .edges
            .into_iter()
            .map(|edge| edge.answer.expect("known").answers.enforced.reason)
            .collect();
        assert!(
            reasons.contains(&Reason::TierChanged) && reasons.contains(&Reason::EndpointsDiffer),
            "{reasons:?}"
        );
    });
}

#[test]
fn where_nobody_inspects_the_service_is_refused_though_somebody_chose_to_fail_open() {
    let test = "led::where_nobody_inspects_the_service_is_refused_though_somebody_chose_to_fail_open";
    in_own_network(test, &[], || {
        let peer = Peer::connect();
        let service = peer.listen(OTHER_PEER[0], 8000);
        let choices = [
            options(),
            FirewallOptions { fail_open: true, ..options() },
            FirewallOptions { hands_over: false, ..options() },
        ];
        for options in choices {
            let mut firewall = open_with(options);
            firewall.apply(&led()).expect("applied");
            assert!(dial(at(OTHER_PEER[0], 8000)).is_err());
            assert!(nobody_came(&service));
            let _endpoint = peer.listen(PEER[0], 8000);
            dial(at(PEER[0], 8000)).expect("the kernel lets it pass by itself");
        }
    });
}
