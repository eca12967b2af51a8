//! The story of a lab.

use crate::node::{Bond, Node};
use std::io;

/// Tells it.
pub(crate) async fn tell(node: Node, bond: Bond) -> io::Result<u8> {
    node.open_places()?;
    let mut apps = Vec::new();
    for pod in &node.plan.pods {
        let program = &node.lab.pods[pod.spec].program;
        if !program.command.is_empty() {
            apps.push(node.launcher.start_app(&pod.place, &program.environment, &program.command)?);
        }
    }
    eprintln!("up");
    let run_file;
    if node.order.keep {
        run_file = bond.release(0)?;
    }
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    term.recv().await;
    Ok(0)
}
