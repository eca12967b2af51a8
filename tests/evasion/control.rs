//! Without a firewall every attack of the catalogue arrives, in each family in which it exists.

use bulkhead_lab::attack::KINDS;
use bulkhead_lab::attack::targets::Family;
use bulkhead_lab::attack::token::Token;
use bulkhead_tests::skip;

use crate::ground::{Ground, match_seen};
use crate::namespaces;

#[test]
fn every_attack_arrives_where_there_is_no_firewall() -> anyhow::Result<()> {
    if !namespaces::possible() {
        skip("needs root, or `unshare --user --map-root-user` around the tests");
        return Ok(());
    }
    let ground = Ground::lay(false)?;
    ground.serve()?;
    ground.watch(true)?;
    let mut missing = Vec::new();
    let mut attacks = Vec::new();
    for family in [Family::V4, Family::V6] {
        for kind in KINDS.iter().filter(|kind| kind.exists_in(family)) {
            let index = u32::try_from(attacks.len())?;
            let started = std::time::Instant::now();
            let attempted = ground.attack(kind, family, Token::new(1, index), "needed")?;
            let elapsed = started.elapsed();
            if attempted.unsupported() {
                skip(&format!("{} {family:?}: {:?}", kind.name, attempted.not_made));
                continue;
            }
            assert!(elapsed.as_millis() < 1500, "{} took {elapsed:?}", kind.name);
            attacks.push(attempted);
            let seen =
                ground.seen(|seen| !match_seen(&attacks, seen).of_attack[attacks.len() - 1].is_empty());
            let matched = match_seen(&attacks, &seen);
            if matched.of_attack[attacks.len() - 1].is_empty() {
                missing.push(format!("{} {family:?}: {:?}", kind.name, attacks[attacks.len() - 1].local));
            }
        }
    }
    let seen = ground.seen(|_| false);
    let strays: Vec<_> =
        match_seen(&attacks, &seen).strays.iter().map(|index| seen[*index].clone()).collect();
    assert!(missing.is_empty(), "did not arrive:\n{}", missing.join("\n"));
    assert!(strays.is_empty(), "arrived from nowhere: {strays:#?}");
    assert_eq!(ground.lost(), 0, "the canaries lost packets");
    println!("{} attacks arrived", attacks.len());
    Ok(())
}
