//! The controller from outside: sidecars on its port, files in its folders, people on its API.

mod process;
#[allow(unreachable_pub)]
mod support;

use bulkhead_api::rest::{
    AuditEntry, FlowEdge, Incident, PolicyFile, Problem, Proposal, ProposalState, SidecarStatus, VerdictCount,
};
use bulkhead_api::{
    Capability, Flow, FlowAnswer, HttpSignature, RedisSignature, RequestSignature, SidecarMessage,
    SidecarReport, Weakness,
};
use bulkhead_facts::{Direction, Effect, L4Protocol, Mode, Reason};
use std::sync::Arc;
use support::{COLLECTION, Controller, Sidecar, attach_over, attach_with};
use tonic::Code;

const WEB_TO_DB: &str = "apiVersion: bulkhead.dev/v1alpha1\nkind: SegmentPolicy\nmetadata: {name: db, namespace: shop}\nspec: \
    {workloads: {app: db}, ingress: [{name: web, from: [{workloads: {app: web}}], ports: [5432]}]}\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_gets_its_pods_program_and_a_new_one_when_policy_changes() {
    let controller = Controller::start("observe").await;
    let mut db = controller.sidecar("uid-db").await;
    let first = db.program().await;
    assert_eq!((first.workload.to_string().as_str(), first.mode), ("shop/db", Mode::Observe));
    controller.write_policy("collection.yaml", &COLLECTION.replace("MODE", "enforce"));
    let second = db.program().await;
    assert_eq!(second.mode, Mode::Enforce);
    assert!(second.revision > first.revision);
    controller.until(|status| status.sidecars_current == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_does_not_concern_a_pod_does_not_reach_it() {
    let controller = Controller::start("enforce").await;
    let (mut db, mut cache) = (controller.sidecar("uid-db").await, controller.sidecar("uid-cache").await);
    db.program().await;
    cache.program().await;
    controller.write_policy("db.yaml", WEB_TO_DB);
    db.program().await;
    assert!(cache.silence().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_policy_is_refused_whole_and_the_last_good_one_stays() {
    let controller = Controller::start("observe").await;
    let mut db = controller.sidecar("uid-db").await;
    db.program().await;
    let before = controller.until(|status| status.policy.refused.is_none()).await;
    controller.write_policy("db.yaml", &WEB_TO_DB.replace("ingress", "ingres"));
    let refused = controller.until(|status| status.policy.refused.is_some()).await;
    assert_eq!(refused.policy.revision, before.policy.revision);
    let diagnostics = refused.policy.refused.expect("refused").diagnostics;
    let found = diagnostics.iter().find(|d| d.severity == "error").expect("an error");
    assert!(found.file.ends_with("db.yaml") && found.line > 0, "{found:?}");
    assert!(db.silence().await, "nothing was pushed");
    controller.write_policy("db.yaml", WEB_TO_DB);
    controller.until(|status| status.policy.refused.is_none()).await;
    db.program().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_policy_folder_opens_nothing() {
    let controller = Controller::start("enforce").await;
    let mut db = controller.sidecar("uid-db").await;
    db.program().await;
    std::fs::remove_file(controller.path("policies/collection.yaml")).expect("removed");
    let status = controller.until(|status| status.policy.refused.is_some()).await;
    assert_eq!(status.policy.collections, ["shop"]);
    assert!(db.silence().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_lost_changes_nothing_and_is_said() {
    let controller = Controller::start("enforce").await;
    let mut db = controller.sidecar("uid-db").await;
    db.program().await;
    std::fs::create_dir(controller.path("policies/approved")).expect("made");
    controller.write_policy("approved/db.yaml", WEB_TO_DB);
    db.program().await;
    std::fs::remove_dir_all(controller.path("policies/approved")).expect("removed");
    std::fs::rename(controller.path("inventory"), controller.path("lost")).expect("moved");
    let status = controller.until(|s| s.policy.refused.is_some() && s.inventory.refused.is_some()).await;
    assert_eq!((status.policy.policies, status.inventory.pods), (1, 3), "the last good ones stay");
    assert_eq!(status.policy.refused.expect("refused").diagnostics[0].code, "folder-gone");
    assert!(db.silence().await);
    std::fs::rename(controller.path("lost"), controller.path("inventory")).expect("moved back");
    std::fs::remove_file(controller.path("inventory/cluster.yaml")).expect("removed");
    let emptied = |status: &bulkhead_api::rest::Status| {
        let refused = status.inventory.refused.as_ref();
        refused.is_some_and(|refused| refused.diagnostics[0].code == "empty-inventory")
    };
    assert_eq!(controller.until(emptied).await.inventory.pods, 3);
    assert!(db.silence().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_is_slow_to_answer_gets_the_newest_program_and_none_in_between() {
    let controller = Controller::start("observe").await;
    let mut db = controller.sidecar("uid-db").await;
    let (nonce, first) = db.unanswered_program().await;
    for mode in ["audit", "enforce"] {
        let before = controller.until(|_| true).await.policy.revision;
        controller.write_policy("collection.yaml", &COLLECTION.replace("MODE", mode));
        controller.until(|status| status.policy.revision > before).await;
    }
    assert!(db.silence().await, "one program at a time");
    db.answer(nonce, first.revision, None).await;
    assert_eq!(db.program().await.mode, Mode::Enforce);
    assert!(db.silence().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_refused_shows_in_the_fleet_and_is_not_sent_again() {
    let controller = Controller::start("observe").await;
    let mut db = controller.sidecar("uid-db").await;
    let (nonce, _) = db.unanswered_program().await;
    db.answer(nonce, 0, Some("no room in the kernel")).await;
    assert!(db.silence().await);
    let fleet: Vec<SidecarStatus> = controller.get("/api/v1/sidecars").await;
    let sidecar = fleet.iter().find(|sidecar| sidecar.uid == "uid-db").expect("known");
    assert_eq!(sidecar.error.as_deref(), Some("no room in the kernel"));
    assert_eq!((sidecar.revision, sidecar.revision_wanted), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_has_the_same_revision_gets_its_program_all_the_same() {
    let controller = Controller::start("observe").await;
    let enrolled = controller.enrol(&controller.join_token("uid-db").await).await.expect("enrolled");
    let revision = controller.until(|status| status.policy.revision > 0).await.policy.revision;
    let channel = controller.channel(Some(&enrolled)).await;
    let mut db = attach_with(channel, "run", revision).await.expect("attached");
    assert_eq!(db.program().await.revision, revision, "it may be one of before the state was restored");
    assert!(db.silence().await, "once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_good_once_and_only_for_its_pod() {
    let controller = Controller::start("observe").await;
    let token = controller.join_token("uid-db").await;
    let enrolled = controller.enrol(&token).await.expect("enrolled");
    let mut db = controller.attach(&enrolled, "run").await.expect("attached");
    assert_eq!(db.program().await.workload.name, "db");
    for bad in [token.as_str(), "", "never issued"] {
        let refused = controller.enrol(bad).await.err().expect("refused");
        assert_eq!(refused.code(), Code::Unauthenticated, "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_lost_its_certificate_enrols_again_with_the_same_token_and_key() {
    let controller = Controller::start("observe").await;
    let token = controller.join_token("uid-db").await;
    let lost = controller.enrol(&token).await.expect("enrolled");
    let key = rcgen::KeyPair::from_pem(&lost.key.serialize_pem()).expect("the same key");
    let channel = controller.channel(None).await;
    let again = controller.enrol_key(channel, &token, key).await.expect("enrolled again");
    let mut db = controller.attach(&again, "run").await.expect("attached");
    assert_eq!(db.program().await.workload.name, "db");
    assert_eq!(controller.enrol(&token).await.err().expect("another key").code(), Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_a_pod_that_is_not_there_yet_stays_good() {
    let controller = Controller::start("observe").await;
    let token = controller.join_token("uid-late").await;
    assert_eq!(controller.enrol(&token).await.err().expect("not yet").code(), Code::Unavailable);
    let cluster = controller.path("inventory/cluster.yaml");
    let text = std::fs::read_to_string(&cluster).expect("there").replace("uid-cache", "uid-late");
    std::fs::write(&cluster, text).expect("written");
    let enrolled = loop {
        match controller.enrol(&token).await {
            Ok(enrolled) => break enrolled,
            Err(refused) => assert_eq!(refused.code(), Code::Unavailable),
        }
    };
    let mut late = controller.attach(&enrolled, "run").await.expect("attached");
    assert_eq!(late.program().await.workload.name, "cache");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_by_itself_and_names_the_same_pod() {
    let controller = Controller::start("observe").await;
    let token = controller.join_token("uid-db").await;
    let first = controller.enrol(&token).await.expect("enrolled");
    let channel = controller.channel(Some(&first)).await;
    let second = controller.enrol_over(channel, "").await.expect("renewed");
    assert!(second.not_after_ms >= first.not_after_ms);
    let mut db = controller.attach(&second, "run").await.expect("attached");
    assert_eq!(db.program().await.workload.name, "db");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_certificate_nothing_but_enrolment_is_served() {
    let controller = Controller::start("observe").await;
    let refused = attach_over(controller.channel(None).await, "run").await.err().expect("refused");
    assert_eq!(refused.code(), Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_ca_does_not_get_past_the_handshake() {
    let controller = Controller::start("observe").await;
    let other = Controller::start("observe").await;
    let token = other.join_token("uid-db").await;
    let foreign = other.enrol(&token).await.expect("enrolled elsewhere");
    let tls = tonic::transport::ClientTlsConfig::new()
        .ca_certificate(tonic::transport::Certificate::from_pem(controller.ca()))
        .identity(tonic::transport::Identity::from_pem(&foreign.certificate, foreign.key.serialize_pem()))
        .domain_name("127.0.0.1");
    let endpoint = tonic::transport::Endpoint::from_shared(format!("https://{}", controller.sidecars));
    let channel = endpoint.expect("an address").tls_config(tls).expect("TLS").connect().await;
    // With TLS 1.3 the client may learn of it only when it reads.
    if let Ok(channel) = channel {
        assert!(attach_over(channel, "run").await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_stream_of_a_pod_takes_over() {
    let controller = Controller::start("observe").await;
    let token = controller.join_token("uid-db").await;
    let enrolled = controller.enrol(&token).await.expect("enrolled");
    let mut old = controller.attach(&enrolled, "old").await.expect("attached");
    old.program().await;
    let mut new = controller.attach(&enrolled, "new").await.expect("attached");
    new.program().await;
    old.say(SidecarMessage::Report(report())).await;
    assert_eq!(old.hear().await.expect_err("ended").code(), Code::Aborted);
    new.report(1, vec![flow(Reason::NoRule)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flows_are_listed_with_names_and_repeats_count_once() {
    let controller = Controller::start("observe").await;
    let mut web = controller.sidecar("uid-web").await;
    web.program().await;
    let allowed = Flow { http: Some(signature("/orders/{id}")), ..flow(Reason::AllowedByRule) };
    web.report(1, vec![allowed.clone()]).await;
    web.report(1, vec![allowed]).await;
    let flows: Vec<FlowEdge> = controller.get("/api/v1/flows?namespace=shop&verdict=allow").await;
    let [edge] = flows.as_slice() else { panic!("one edge: {flows:?}") };
    assert_eq!(
        (edge.source.to_string(), edge.destination.to_string()),
        ("shop/web".into(), "shop/db".into())
    );
    assert_eq!((edge.count, edge.port), (3, 5432));
    assert_eq!(edge.http.as_ref().map(|http| http.path.as_str()), Some("/orders/{id}"));
    let none: Vec<FlowEdge> = controller.get("/api/v1/flows?namespace=bank").await;
    assert_eq!(none, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn denials_become_verdicts_and_incidents() {
    let controller = Controller::start("enforce").await;
    let mut web = controller.sidecar("uid-web").await;
    web.program().await;
    web.report(1, vec![flow(Reason::NoRule)]).await;
    let verdicts: Vec<VerdictCount> = controller.get("/api/v1/verdicts").await;
    assert_eq!(verdicts.iter().map(|v| (v.reason.as_str(), v.count)).collect::<Vec<_>>(), [("no_rule", 3)]);
    let incidents: Vec<Incident> = controller.get("/api/v1/incidents").await;
    let [incident] = incidents.as_slice() else { panic!("one incident: {incidents:?}") };
    assert_eq!(incident.title, "shop/web tried to reach shop/db");
    assert_eq!(incident.attacker_pods, ["web-0"]);
    assert!(incident.smallest_change.as_deref().is_some_and(|change| change.contains("5432")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_after_a_restart_and_revisions_go_on() {
    let mut controller = Controller::start("observe").await;
    let token = controller.join_token("uid-web").await;
    let enrolled = controller.enrol(&token).await.expect("enrolled");
    let mut web = controller.attach(&enrolled, "run").await.expect("attached");
    let before = web.program().await.revision;
    web.report(1, vec![flow(Reason::NoRule)]).await;
    controller.restart().await;
    let mut web = controller.attach(&enrolled, "run").await.expect("the CA is the same");
    assert!(web.program().await.revision > before);
    web.report(1, vec![flow(Reason::NoRule)]).await;
    let verdicts: Vec<VerdictCount> = controller.get("/api/v1/verdicts").await;
    assert_eq!(verdicts.iter().map(|v| v.count).collect::<Vec<_>>(), [3], "the repeat counts once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_wrong_ends_the_stream_and_stores_nothing() {
    let controller = Controller::start("observe").await;
    let mut web = controller.sidecar("uid-web").await;
    web.program().await;
    let many = vec![flow(Reason::NoRule); bulkhead_api::limits::BATCH_RECORDS_MAX + 1];
    let batch = bulkhead_api::FlowBatch { sequence: 1, flows: many, dropped: 0 };
    web.say(SidecarMessage::Flows(batch)).await;
    assert_eq!(web.hear().await.expect_err("ended").code(), Code::InvalidArgument);
    let flows: Vec<FlowEdge> = controller.get("/api/v1/flows").await;
    assert_eq!(flows, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_wants_its_token_and_refuses_large_bodies_before_it() {
    let controller = Controller::start("observe").await;
    let token = controller.admin_token();
    for wrong in [None, Some(""), Some("wrong"), Some(&token[1..])] {
        let (status, body) = controller.request("GET", "/api/v1/status", "", wrong).await;
        assert_eq!(status, 401, "{wrong:?}");
        let problem: Problem = serde_json::from_str(&body).expect("a problem");
        assert!(problem.help.contains("admin.token"));
    }
    let large =
        "POST /api/v1/proposals HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 65537\r\n\r\n";
    assert_eq!(controller.raw(large).await.0, 413, "from its head alone");
    assert_eq!(controller.request("GET", "/api/v1/openapi.json", "", None).await.0, 200);
    assert_eq!(
        controller.request("GET", "/api/v1/nothing", "", None).await.0,
        401,
        "strangers learn no paths"
    );
    assert_eq!(controller.post("/api/v1/join-tokens", "{\"uid\":\"a/b\"}").await.0, 400);
    assert_eq!(controller.post("/api/v1/join-tokens", "{\"uid\":\"a\",\"for\":1}").await.0, 400);
    assert_eq!(controller.post("/api/v1/status", "{}").await.0, 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_reads_what_is_in_force_and_who_is_attached() {
    let controller = Controller::start("observe").await;
    let mut web = controller.sidecar("uid-web").await;
    web.program().await;
    web.report(1, vec![flow(Reason::NoRule)]).await;
    controller.write_policy("broken.yaml", "kind: [");
    controller.until(|status| status.policy.refused.is_some()).await;
    let text = controller.metrics_text().await;
    for line in [
        "bulkhead_controller_sidecars_attached 1",
        "bulkhead_controller_policy_revision 1",
        "bulkhead_controller_flow_records_total 1",
        "bulkhead_controller_programs_answered_total{answer=\"acknowledged\"} 1",
    ] {
        assert!(text.lines().any(|shown| shown == line), "no `{line}` in:\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_are_listed_by_file_and_joins_are_in_the_audit_trail() {
    let controller = Controller::start("observe").await;
    controller.join_token("uid-db").await;
    let files: Vec<PolicyFile> = controller.get("/api/v1/policies").await;
    assert_eq!(files.len(), 1);
    assert_eq!(
        files[0].documents.iter().map(|d| (d.kind.as_str(), d.name.as_str())).collect::<Vec<_>>(),
        [("Collection", "shop")]
    );
    let audit: Vec<AuditEntry> = controller.get("/api/v1/audit").await;
    assert_eq!(audit.iter().map(|entry| entry.subject.as_str()).collect::<Vec<_>>(), ["pod uid-db"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_seen_is_proposed_and_approval_puts_it_in_force() {
    let controller = Controller::start("observe").await;
    let (mut web, mut db) = (controller.sidecar("uid-web").await, controller.sidecar("uid-db").await);
    web.program().await;
    let before = db.program().await;
    see_both_sides(&mut web, &mut db).await;

    let (status, body) = controller.post("/api/v1/proposals", "{\"collection\":\"shop\"}").await;
    assert_eq!(status, 201, "{body}");
    let proposal: Proposal = serde_json::from_str(&body).expect("a proposal");
    assert_eq!(proposal.state, ProposalState::Open);
    assert!(proposal.rules.iter().any(|rule| rule.evidence.both_sides), "{proposal:?}");

    let approve = format!("/api/v1/proposals/{}/approve", proposal.id);
    let (status, body) = controller.post(&approve, "").await;
    assert_eq!(status, 200, "{body}");
    let approved: Proposal = serde_json::from_str(&body).expect("a proposal");
    assert_eq!(approved.state, ProposalState::Applied);
    let written = std::fs::read_to_string(controller.path("policies/approved/shop.yaml")).expect("written");
    assert_eq!(written, proposal.document);
    assert!(db.program().await.revision > before.revision, "the watch picked it up");
    assert_eq!(controller.post(&approve, "").await.0, 409, "once");
    let audit: Vec<AuditEntry> = controller.get("/api/v1/audit").await;
    assert_eq!(audit[0].action, "approve");
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_were_seen_are_listed_and_proposed_by_their_name() {
    let controller = Controller::start("observe").await;
    let (mut web, mut db) = (controller.sidecar("uid-web").await, controller.sidecar("uid-db").await);
    web.program().await;
    db.program().await;
    let out = Flow { count: 50, ..flow(Reason::NotIsolated) };
    let command = |name: &str| {
        let signature =
            RedisSignature { command: name.into(), key_prefix: Some("session:".into()), database: Some(0) };
        Flow {
            direction: Direction::Ingress,
            peer: out.local,
            local: out.peer,
            request: Some(Arc::new(RequestSignature::Redis(signature))),
            application: "redis".into(),
            ..out.clone()
        }
    };
    web.report(1, vec![out.clone()]).await;
    db.report(1, vec![command("get"), command("set")]).await;
    let flows: Vec<FlowEdge> = controller.get("/api/v1/flows").await;
    let told: Vec<String> =
        flows.iter().filter_map(|flow| flow.request.as_ref()).map(ToString::to_string).collect();
    assert_eq!(told, ["get session:*", "set session:*"]);
    let (status, body) = controller.post("/api/v1/proposals", "{\"collection\":\"shop\"}").await;
    assert_eq!(status, 201, "{body}");
    let proposal: Proposal = serde_json::from_str(&body).expect("a proposal");
    let line = "redis:\n        - {commands: [get, set], keyPrefix: \"session:\", databases: [0]}\n";
    assert!(proposal.document.contains(line), "{}", proposal.document);
    let approved = controller.post(&format!("/api/v1/proposals/{}/approve", proposal.id), "").await;
    assert_eq!(approved.0, 200, "{}", approved.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_that_would_break_the_set_changes_nothing() {
    let controller = Controller::start("observe").await;
    let (mut web, mut db) = (controller.sidecar("uid-web").await, controller.sidecar("uid-db").await);
    web.program().await;
    db.program().await;
    see_both_sides(&mut web, &mut db).await;
    let (_, body) = controller.post("/api/v1/proposals", "{\"collection\":\"shop\"}").await;
    let proposal: Proposal = serde_json::from_str(&body).expect("a proposal");
    // The same documents under another name: every policy would be there twice.
    controller.write_policy("by-hand.yaml", &proposal.document);
    let (status, body) = controller.post(&format!("/api/v1/proposals/{}/approve", proposal.id), "").await;
    assert_eq!(status, 422, "{body}");
    let problem: Problem = serde_json::from_str(&body).expect("a problem");
    assert!(!problem.diagnostics.is_empty());
    assert!(!controller.path("policies/approved").exists());
    let proposals: Vec<Proposal> = controller.get("/api/v1/proposals").await;
    assert_eq!(proposals[0].state, ProposalState::Open);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_proposed_for_a_collection_that_is_not_there_or_was_not_seen() {
    let controller = Controller::start("observe").await;
    assert_eq!(controller.post("/api/v1/proposals", "{\"collection\":\"bank\"}").await.0, 404);
    assert_eq!(controller.post("/api/v1/proposals", "{\"collection\":\"shop\"}").await.0, 409);
    assert_eq!(controller.post("/api/v1/proposals/7/approve", "").await.0, 404);
    assert_eq!(controller.post("/api/v1/proposals/x/approve", "").await.0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn shutting_down_ends_streams_at_once() {
    let mut controller = Controller::start("observe").await;
    let mut db = controller.sidecar("uid-db").await;
    db.program().await;
    controller.stop().await;
    assert!(db.hear().await.is_err(), "the stream has ended");
}

/// Web talks to db, often enough to be learned, and both sidecars tell.
async fn see_both_sides(web: &mut Sidecar, db: &mut Sidecar) {
    let out = Flow { count: 50, ..flow(Reason::NotIsolated) };
    let (web_address, db_address) = (out.local, out.peer);
    let into = Flow { direction: Direction::Ingress, peer: web_address, local: db_address, ..out.clone() };
    web.report(1, vec![out]).await;
    db.report(1, vec![into]).await;
}

fn report() -> SidecarReport {
    SidecarReport {
        revision: 1,
        capability: Capability::Enforced,
        connections_open: 0,
        tampering: 0,
        weaknesses: [Weakness::FailOpen].into(),
    }
}

fn signature(path: &str) -> HttpSignature {
    HttpSignature { method: "GET".into(), path_template: path.into(), host: String::new(), status: 2 }
}

/// Three connections from web to db, allowed or denied as the reason says.
fn flow(reason: Reason) -> Flow {
    let effect = match reason {
        Reason::AllowedByRule | Reason::NotIsolated => Effect::Allow,
        _ => Effect::Deny,
    };
    let answer = FlowAnswer { effect, reason, rule: None };
    Flow {
        direction: Direction::Egress,
        peer: "10.0.0.2".parse().expect("an address"),
        local: "10.0.0.1".parse().expect("an address"),
        protocol: L4Protocol::TCP,
        port: 5432,
        http: None,
        request: None,
        application: String::new(),
        enforced: answer.clone(),
        shadow: answer,
        count: 3,
        bytes_to_destination: 10,
        bytes_to_source: 20,
        first_seen_ms: bulkhead_controller::clock::now_ms(),
        last_seen_ms: bulkhead_controller::clock::now_ms(),
        revision: 1,
        sender_uid: None,
        report_id: None,
        endpoint: None,
    }
}
