//! The sign to end: given once, seen by every task.

use tokio::sync::watch;

/// Gives the sign.
#[derive(Debug)]
pub struct DrainSwitch(watch::Sender<bool>);

/// Waits for the sign.
#[derive(Clone, Debug)]
pub struct Drain(watch::Receiver<bool>);

impl Drain {
    /// A switch and the first of those who wait for it.
    pub fn new() -> (DrainSwitch, Self) {
        let (sender, receiver) = watch::channel(false);
        (DrainSwitch(sender), Self(receiver))
    }

    /// Returns when the sign was given, or when nobody is left who could give it.
    pub async fn begun(&mut self) {
        // An error means that the switch is gone, which is a sign too.
        drop(self.0.wait_for(|draining| *draining).await);
    }
}

impl DrainSwitch {
    /// Gives the sign.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }
}
